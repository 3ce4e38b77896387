"""The audit trail: what matters to security and every refused call, found, counted over time and checked."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from ipfs_kit.errors import IntegrityError, InvalidInput
from ipfs_kit.ledger import Record, Where
from ipfs_kit.ledger.record import INTENT, MAIN
from ipfs_kit.ledger.streams.registry import APPEND
from ipfs_kit.monitoring.audit_rows import EVENT_TYPES, SEVERITIES, AuditRow, Chosen
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.audit_damage import changed
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.views import iso_time

STREAM = "audit"
SCANNED_MAX = 200_000
"""Records judged for one page; more continue at the page's cursor."""
COUNTED_MAX = 1_000_000
"""Rows that one timeline, report or file is made of."""
PARTS_MAX = 10_000
SHOWN = Everywhere("shows audit records of all callers")

Since = Annotated[float | None, Arg("recorded at or after, seconds since 1970")]
Until = Annotated[float | None, Arg("recorded before, seconds since 1970")]
Types = Annotated[list[str] | None, Arg("kinds of event, for example authentication")]
Users = Annotated[list[str] | None, Arg("people")]
Statuses = Annotated[list[str] | None, Arg("how it ended, for example failure or denied")]
Resource = Annotated[str | None, Arg("the resource, exactly")]
ResourceType = Annotated[str | None, Arg("kind of resource")]
Actions = Annotated[list[str] | None, Arg("what was done")]
Addresses = Annotated[list[str] | None, Arg("addresses it came from")]
Severities = Annotated[list[str] | None, Arg("info, warning, error, critical")]
Text = Annotated[str | None, Arg("text that some field must contain, without regard to case")]
Denials = Annotated[bool, Arg("calls that this store refused, too")]


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of the trail; pass ``cursor`` to continue, None when this was the last.

    A page may hold fewer rows than asked for, even none, although more follow: work per page is bounded.
    """

    rows: list[AuditRow]
    cursor: str | None


@operation("audit.query", Mode.READ, "audit:read", places=SHOWN)
def audit_query(
    ctx: Context,
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
    oldest_first: Annotated[bool, Arg("oldest first instead of newest first")] = False,
    limit: Annotated[int, Arg("most rows to return", minimum=1, maximum=10_000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> AuditPage:
    """Return audit events and refused calls that meet every condition, newest first, over the whole history."""
    chosen = Chosen(
        checked("kind of event", types, EVENT_TYPES), users, status, resource, resource_type, actions, ips,
        checked("severity", severities, SEVERITIES), text, denials,
    )  # fmt: skip
    rows: list[AuditRow] = []
    at = _index_of(cursor)
    # Records that come while pages are read belong to a later query.
    start, stop = (0, at) if not oldest_first else (0 if at is None else at + 1, None)
    seen = at
    found = trail(ctx, span(since, until), start, stop, newest_first=not oldest_first)
    for scanned, (index, record) in enumerate(found):
        if len(rows) == limit or scanned >= SCANNED_MAX:
            return AuditPage(rows, None if seen is None else str(seen))
        seen = index
        row = audit_row(ctx, index, record)
        if chosen.holds(row):
            rows.append(row)
    return AuditPage(rows, None)


@dataclass(frozen=True, slots=True)
class TimelinePart:
    """What was recorded in one part of a timeline.

    Args:
        start: When the part begins, UTC, ISO 8601.
        start_ns: The same in nanoseconds since 1970.
        count: Rows in it.
        by: Rows by the value of the field asked for.
    """

    start: str
    start_ns: int
    count: int
    by: dict[str, int]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Rows counted over time, oldest part first; parts without rows are there too.

    Args:
        bucket_s: Seconds of one part.
        total: Rows in all.
        parts: The parts.
        truncated: Older rows were left out.
    """

    bucket_s: float
    total: int
    parts: list[TimelinePart]
    truncated: bool


@operation("audit.timeline", Mode.READ, "audit:read", places=SHOWN)
def audit_timeline(
    ctx: Context,
    bucket_s: Annotated[float, Arg("seconds of one part")] = 3600.0,
    by: Annotated[
        Literal["event_type", "status", "severity", "action", "kind"], Arg("what each part is counted by")
    ] = "event_type",
    types: Types = None,
    users: Users = None,
    resource: Resource = None,
    ips: Addresses = None,
    since: Since = None,
    until: Until = None,
    denials: Denials = True,
) -> Timeline:
    """Count the audit trail over time, in equal parts."""
    if not (math.isfinite(bucket_s) and bucket_s >= 0.001):
        raise InvalidInput("bucket_s is a number of seconds, 0.001 at least")
    chosen = Chosen(checked("kind of event", types, EVENT_TYPES), users, resource=resource, ips=ips, denials=denials)
    step, counts, total, truncated = int(bucket_s * 1e9), dict[int, dict[str, int]](), 0, False
    for row in gathered(ctx, chosen, span(since, until)):
        if total == COUNTED_MAX:
            truncated = True
            break
        part = counts.setdefault(row.time_ns // step, {})
        value = str(getattr(row, by))
        part[value] = part.get(value, 0) + 1
        total += 1
    first, last = min(counts, default=0), max(counts, default=-1)
    if last - first >= PARTS_MAX:
        raise InvalidInput(f"{last - first + 1} parts are more than {PARTS_MAX}: give a larger bucket_s or a since")
    parts = [
        TimelinePart(iso_time(at * step), at * step, sum(counts.get(at, {}).values()), dict(sorted(counts[at].items())))
        if at in counts
        else TimelinePart(iso_time(at * step), at * step, 0, {})
        for at in range(first, last + 1)
    ]
    return Timeline(bucket_s, total, parts, truncated)


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """That the trail is what was recorded.

    Args:
        ok: True; what does not hold is an error.
        records: Records checked, both logs.
        events: Audit rows among them that are kept.
    """

    ok: bool
    records: int
    events: int


@operation("audit.verify", Mode.READ, "audit:read", places=Everywhere("reads the whole ledger"))
def audit_verify(ctx: Context) -> AuditVerdict:
    """Check that no audit record was edited, removed or reordered, and name each that was; writes nothing.

    The audit trail lies in the main log of the ledger: the independent verifier checks all of it, and records that do not
    match the signed tree are looked up one by one.

    Raises:
        IntegrityError: Some were; ``details['broken']`` has op and fault of each, ``details['findings']`` every fault.
    """
    report = ctx.engine.upkeep.verify_ledger(None, progress=lambda done, total: ctx.progress(done, total, "records"))
    if not report.ok:
        broken = [{"op": f"{MAIN}:{index}", "what": what} for index, what in sorted(_broken(ctx, report.findings))]
        named = [f"{each['op']} {each['what']}" for each in broken] or report.findings
        shown = named[:NAMED_LINES] + [f"and {len(named) - NAMED_LINES} more"] * (len(named) > NAMED_LINES)
        raise IntegrityError(
            "the audit trail is not what was recorded:\n" + "\n".join(shown), broken=broken, findings=report.findings
        )
    events = sum(1 for _ in trail(ctx, (None, None), 0, None, newest_first=False))
    return AuditVerdict(True, report.records, events)


NAMED_LINES = 50
"""Broken records named in the message; the error's details have all."""
_NAMED = re.compile(r"\brecord (\d+)\b")
_MISSING = re.compile(r"records (\d+) to (\d+) are missing")


def _broken(ctx: Context, findings: list[str]) -> Iterator[tuple[int, str]]:
    """The records of the main log that findings name, or whose bytes are not those of their leaf."""
    seen: set[int] = set()
    for finding in findings:
        if "log bulk" in finding or "/bulk/" in finding:
            continue
        for first, last in _MISSING.findall(finding):
            for index in range(int(first), min(int(last), int(first) + 1_000) + 1):
                if index not in seen:
                    seen.add(index)
                    yield index, "is missing"
    for index, what in changed(ctx.engine):
        if index not in seen:
            seen.add(index)
            yield index, what
    for finding in findings:
        if "log bulk" in finding or "/bulk/" in finding:
            continue
        for text in _NAMED.findall(finding):
            if int(text) not in seen:
                seen.add(int(text))
                yield int(text), finding


# -- what the other modules of this toolset read with ----------------------------------------------------------------

Span = tuple[int | None, int | None]


def span(since: float | None, until: float | None) -> Span:
    """A span of time in nanoseconds, from arguments in seconds."""
    for given in (since, until):
        if given is not None and not (math.isfinite(given) and abs(given) < 9e9):
            raise InvalidInput("a time is a number of seconds since 1970")
    return None if since is None else int(since * 1e9), None if until is None else int(until * 1e9)


def checked(what: str, given: list[str] | None, known: tuple[str, ...]) -> list[str] | None:
    """The names given, when each is known.

    Raises:
        InvalidInput: One is not; the message lists those that are.
    """
    if unknown := [each for each in given or [] if each not in known]:
        raise InvalidInput(f"{unknown[0][:60]!r} is no {what}: they are {', '.join(known)}")
    return given


def trail(
    ctx: Context, within: Span, start: int, stop: int | None, *, newest_first: bool
) -> Iterator[tuple[int, Record]]:
    """Index and record of every event and denial in ``[start, stop)`` of the main log and a span of time."""
    since_ns, until_ns = within
    events = Where(stream=frozenset({STREAM}), operation=frozenset({APPEND}), since_ns=since_ns, until_ns=until_ns)
    denials = Where(status=frozenset({"denied"}), since_ns=since_ns, until_ns=until_ns)
    stop = ctx.engine.ledger.size(MAIN) if stop is None else stop
    both = (
        ctx.engine.ledger.select(MAIN, where, start, stop, newest_first=newest_first) for where in (events, denials)
    )
    last = -1
    for index, record in heapq.merge(*both, key=lambda found: found[0], reverse=newest_first):
        if index != last and record.phase != INTENT and (record.status == "denied" or record.status == "ok"):
            yield index, record
        last = index


def gathered(ctx: Context, chosen: Chosen, within: Span) -> Iterator[AuditRow]:
    """All rows that meet conditions, newest first."""
    for scanned, (index, record) in enumerate(trail(ctx, within, 0, None, newest_first=True)):
        if scanned % 10_000 == 0:
            ctx.check_cancelled()
        row = audit_row(ctx, index, record)
        if chosen.holds(row):
            yield row


def audit_row(ctx: Context, index: int, record: Record) -> AuditRow:
    """A record as a row of the trail.

    Args:
        ctx: The call.
        index: Its index in the main log.
        record: The record of an event, or of a call that was refused.
    """
    opened = ctx.engine.ledger.open_record(record)
    event = opened.args or {}
    head = (f"{MAIN}:{index}", record.op_id.hex(), iso_time(record.time_ns), record.time_ns)
    if record.status == "denied":
        return AuditRow(
            *head, "denial", "authorization", record.operation, "warning",
            ctx.engine.keys.subject_name(record.actor), None, opened.target, "operation", "denied", None, None,
            {"message": opened.error_message} if opened.error_message else {}, record.actor, record.surface,
            opened.erased,
        )  # fmt: skip
    return AuditRow(
        *head, "event", event.get("event_type"), event.get("action"),
        None if opened.erased else event.get("severity", "info"), event.get("user_id"), event.get("ip_address"),
        event.get("resource_id"), event.get("resource_type"), event.get("status"), event.get("request_id"),
        event.get("event_time"), event.get("details", {}), record.actor, record.surface, opened.erased,
    )  # fmt: skip


def _index_of(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidInput("a cursor is what a page returned")
    return int(cursor)
