"""Reports over the audit trail: tables counted from its rows, so that each can be checked against a query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from ipfs_kit.monitoring.audit_rows import AuditRow

TOP: Final = 50
"""Rows of a table of the most frequent."""
LISTED_MAX: Final = 1_000
"""Rows of a table that lists events."""


@dataclass(frozen=True, slots=True)
class ReportTable:
    """One table.

    Args:
        title: Its heading.
        columns: Their names.
        rows: Values, one list a row.
        left_out: Rows beyond what is listed.
    """

    title: str
    columns: list[str]
    rows: list[list[Any]]
    left_out: int = 0


def summary(rows: Sequence[AuditRow]) -> list[ReportTable]:
    """What happened, how often and how it ended."""
    return [
        _counts("By kind", ("event_type",), rows),
        _counts("By action", ("event_type", "action"), rows),
        _counts("By status", ("status",), rows),
        _counts("By severity", ("severity",), rows),
        _counts("By user", ("user_id",), [row for row in rows if row.user_id]),
        _counts("By day", ("day",), rows, {"day": lambda row: row.time[:10]}, chronological=True),
    ]


def security(rows: Sequence[AuditRow]) -> list[ReportTable]:
    """What an attack would leave: failures, refusals, revoked keys, serious events."""
    failed = [row for row in rows if row.failed_login]
    refused = [row for row in rows if row.refused]
    return [
        _counts("Failed sign-ins by user", ("user_id",), failed),
        _counts("Failed sign-ins by address", ("ip_address",), failed),
        _counts("Refused by caller", ("who", "action", "resource_id"), refused, {"who": lambda row: row.who}),
        _listed("Keys revoked", [row for row in rows if row.event_type == "api_key" and "revo" in (row.action or "")]),
        _listed("Errors and critical events", [row for row in rows if row.severity in ("error", "critical")]),
    ]


def compliance(rows: Sequence[AuditRow]) -> list[ReportTable]:
    """Who changed what people may do, who reached which data, and what can no longer be read."""
    changes = [row for row in rows if row.event_type in ("user", "role", "api_key", "admin", "system")]
    data = [row for row in rows if row.event_type == "data"]
    return [
        _listed("Changes of access and configuration", changes),
        _counts("Access to data", ("resource_type", "resource_id", "user_id", "action"), data),
        _counts("Completeness", ("field",), rows, {"field": _completeness}),
    ]


def user_activity(rows: Sequence[AuditRow]) -> list[ReportTable]:
    """Per person: how much, from when to when, from where, what failed."""
    people: dict[str, list[AuditRow]] = {}
    for row in rows:
        if row.user_id:
            people.setdefault(row.user_id, []).append(row)
    ordered = sorted(people.items(), key=lambda each: (-len(each[1]), each[0]))
    lines: list[list[Any]] = [
        [
            user, len(of), min(row.time for row in of), max(row.time for row in of),
            ", ".join(sorted({row.ip_address for row in of if row.ip_address})[:10]),
            sum(row.failed_login for row in of), sum(row.refused for row in of),
        ]
        for user, of in ordered[:LISTED_MAX]
    ]  # fmt: skip
    columns = ["user_id", "events", "first", "last", "addresses", "failed sign-ins", "refusals"]
    return [
        ReportTable("Users", columns, lines, max(0, len(ordered) - LISTED_MAX)),
        _counts("Actions by user", ("user_id", "event_type", "action", "status"), [row for row in rows if row.user_id]),
    ]


REPORTS: Final[Mapping[str, Callable[[Sequence[AuditRow]], list[ReportTable]]]] = MappingProxyType(
    {"summary": summary, "security": security, "compliance": compliance, "user_activity": user_activity}
)


def _completeness(row: AuditRow) -> str:
    if row.erased:
        return "erased: the person's key was destroyed"
    return "readable, names a person" if row.user_id else "readable, names no person"


def _counts(
    title: str,
    names: Sequence[str],
    rows: Iterable[AuditRow],
    made: Mapping[str, Callable[[AuditRow], Any]] | None = None,
    *,
    chronological: bool = False,
) -> ReportTable:
    taken = [(made or {}).get(name) or _field(name) for name in names]
    found = Counter(tuple(take(row) for take in taken) for row in rows)
    by_name = sorted(found.items(), key=lambda each: tuple(str(value) for value in each[0]))
    ordered = by_name[-TOP:] if chronological else sorted(by_name, key=lambda each: -each[1])[:TOP]
    return ReportTable(title, [*names, "count"], [[*key, count] for key, count in ordered], max(0, len(found) - TOP))


def _field(name: str) -> Callable[[AuditRow], Any]:
    return lambda row: getattr(row, name)


def _listed(title: str, rows: Sequence[AuditRow]) -> ReportTable:
    columns = ["time", "op", "event_type", "action", "user_id", "resource_id", "status", "severity"]
    lines = [[getattr(row, name) for name in columns] for row in rows[:LISTED_MAX]]
    return ReportTable(title, columns, lines, max(0, len(rows) - LISTED_MAX))
