"""The audit trail told: reports, and files in formats that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

from ipfs_kit.monitoring.audit_reports import REPORTS, ReportTable
from ipfs_kit.monitoring.audit_rows import EVENT_TYPES, SEVERITIES, AuditRow, Chosen
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
from ipfs_kit.operations.written_rows import Destination, FileFormat, Overwrite, WrittenRows, write_rows

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


@operation("audit.export", Mode.READ, "audit:read", places=SHOWN)
def audit_export(
    ctx: Context,
    destination: Destination,
    file_format: FileFormat = "jsonl",
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
    overwrite: Overwrite = False,
) -> WrittenRows:
    """Write audit rows to a local file, newest first: all that ``audit query`` finds with the same conditions.

    Raises:
        AlreadyExists: There is a file and overwriting was not asked for.
    """
    chosen = Chosen(
        checked("kind of event", types, EVENT_TYPES), users, status, resource, resource_type, actions, ips,
        checked("severity", severities, SEVERITIES), text, denials,
    )  # fmt: skip
    return write_rows(ctx, AuditRow, gathered(ctx, chosen, span(since, until)), destination, file_format, overwrite)
