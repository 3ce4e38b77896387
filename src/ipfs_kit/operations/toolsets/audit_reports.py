"""The audit trail told: reports, and files in formats that other programs read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

from ipfs_kit.durable import files
from ipfs_kit.monitoring.audit_reports import REPORTS, ReportTable
from ipfs_kit.monitoring.audit_rows import EVENT_TYPES, SEVERITIES, AuditRow, Chosen
from ipfs_kit.monitoring.row_files import WRITERS
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.toolsets.audit import (
    COUNTED_MAX,
    SHOWN,
    Actions,
    Addresses,
    Denials,
    Resource,
    ResourceType,
    Severities,
    Since,
    Statuses,
    Text,
    Types,
    Until,
    Users,
    checked,
    gathered,
    span,
)
from ipfs_kit.operations.views import iso_time

Kind = Literal["summary", "security", "compliance", "user_activity"]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """A report.

    Args:
        kind: Which.
        made: When, UTC, ISO 8601.
        first: Time of the oldest row in it; None without rows.
        last: Time of the newest.
        events: Audit events counted.
        denials: Refused calls counted.
        tables: Its tables.
        truncated: Older rows were left out.
    """

    kind: str
    made: str
    first: str | None
    last: str | None
    events: int
    denials: int
    tables: list[ReportTable]
    truncated: bool


@operation("audit.report", Mode.READ, "audit:read", places=SHOWN)
def audit_report(
    ctx: Context,
    kind: Annotated[Kind, Arg("summary, security, compliance or user_activity", positional=True)] = "summary",
    since: Since = None,
    until: Until = None,
    users: Users = None,
) -> AuditReport:
    """Report on the audit trail: what happened, what an attack would leave, who changed what, who did how much."""
    found = gathered(ctx, Chosen(users=users), span(since, until))
    rows = list(islice(found, COUNTED_MAX))
    truncated = next(found, None) is not None
    denials = sum(row.kind == "denial" for row in rows)
    return AuditReport(
        kind, iso_time(ctx.draft.time_ns), rows[-1].time if rows else None, rows[0].time if rows else None,
        len(rows) - denials, denials, REPORTS[kind](rows), truncated,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditExport:
    """A file that was written.

    Args:
        path: Where.
        file_format: How.
        rows: Rows in it.
        size: Its bytes.
        truncated: Rows beyond were left out.
    """

    path: str
    file_format: str
    rows: int
    size: int
    truncated: bool


@operation("audit.export", Mode.READ, "audit:read", places=SHOWN)
def audit_export(
    ctx: Context,
    destination: Annotated[str, Arg("local file to write", local=True, positional=True)],
    file_format: Annotated[Literal["json", "jsonl", "csv", "parquet"], Arg("how the file is written")] = "jsonl",
    types: Types = None,
    users: Users = None,
    status: Statuses = None,
    resource: Resource = None,
    resource_type: ResourceType = None,
    actions: Actions = None,
    ips: Addresses = None,
    severities: Severities = None,
    since: Since = None,
    until: Until = None,
    text: Text = None,
    denials: Denials = True,
    overwrite: Annotated[bool, Arg("replace a file that exists")] = False,
) -> AuditExport:
    """Write audit rows to a local file, newest first: all that ``audit query`` finds with the same conditions.

    Raises:
        AlreadyExists: There is a file and overwriting was not asked for.
    """
    chosen = Chosen(
        checked("kind of event", types, EVENT_TYPES), users, status, resource, resource_type, actions, ips,
        checked("severity", severities, SEVERITIES), text, denials,
    )  # fmt: skip
    found = gathered(ctx, chosen, span(since, until))
    counted = 0

    def rows() -> Iterator[AuditRow]:
        nonlocal counted
        for row in islice(found, COUNTED_MAX):
            counted += 1
            if counted % 1_000 == 0:
                ctx.progress(counted, None, "rows")
            yield row

    path = os.path.abspath(os.path.expanduser(destination))
    data = b"".join(WRITERS[file_format](AuditRow, rows()))
    if overwrite:
        files.replace(path, data, mode=0o600)
    else:
        files.create_exclusive(path, data, mode=0o600)
    return AuditExport(path, file_format, counted, len(data), next(found, None) is not None)
