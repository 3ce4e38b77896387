"""The journal of virtual file systems: entries of programs and this store's own file operations, newest first."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ledger import Record, Where
from ipfs_kit.ledger.record import BULK, INTENT, LOGS
from ipfs_kit.ledger.streams.registry import APPEND
from ipfs_kit.monitoring.vfs_rows import CALLS, EMBEDDED, KIND_OF, BackendFigures, VfsRow, Wanted, figures
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.views import iso_time
from ipfs_kit.operations.written_rows import Destination, FileFormat, Overwrite, WrittenRows, write_rows

STREAM = "vfs_journal"
SCANNED_MAX = 200_000
"""Records judged for one page; more continue at the page's cursor."""
COUNTED_MAX = 1_000_000
"""Rows that statistics, a timeline or a file are made of."""
PARTS_MAX = 10_000
SHOWN = Everywhere("shows what all callers did")
STATUS = {"ok": "success"}
"""How calls ended, in the words of the journal; others keep theirs."""

Backend = Annotated[str | None, Arg(f"only this backend; {EMBEDDED} is this store's own files")]
Kind = Annotated[str | None, Arg("only this kind, for example file_operations")]
Verb = Annotated[str | None, Arg("only this operation, for example write")]
Status = Annotated[list[str] | None, Arg("how it ended, for example success or error")]
Text = Annotated[str | None, Arg("text that some field must contain, without regard to case")]
Since = Annotated[float | None, Arg("recorded at or after, seconds since 1970")]
Until = Annotated[float | None, Arg("recorded before, seconds since 1970")]
Calls = Annotated[bool, Arg("this store's own file operations, too")]


@dataclass(frozen=True, slots=True)
class VfsPage:
    """A page of the journal; pass ``cursor`` to continue, None when this was the last.

    A page may hold fewer rows than asked for, even none, although more follow: work per page is bounded.
    """

    rows: list[VfsRow]
    cursor: str | None


@operation("vfs_journal.query", Mode.READ, "vfs:read", places=SHOWN)
def vfs_journal_query(
    ctx: Context,
    backend: Backend = None,
    operation_type: Kind = None,
    verb: Verb = None,
    status: Status = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    calls: Calls = True,
    limit: Annotated[int, Arg("most rows to return", minimum=1, maximum=10_000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> VfsPage:
    """Return entries and file operations that meet every condition, newest first, over the whole history."""
    wanted = Wanted(backend, operation_type, verb, status, text)
    rows: list[VfsRow] = []
    at = _cursor(cursor)
    for scanned, (log, index, record) in enumerate(_found(ctx, wanted, calls, since, until, at)):
        if len(rows) == limit or scanned >= SCANNED_MAX:
            return VfsPage(rows, ",".join(f"{name}:{at[name]}" for name in sorted(at)))
        at[log] = index
        row = vfs_row(ctx, log, index, record)
        if wanted.holds(row):
            rows.append(row)
    return VfsPage(rows, None)


@dataclass(frozen=True, slots=True)
class VfsStatistics:
    """What the journal holds.

    Args:
        operations: Rows counted.
        backends: Figures of each backend.
        truncated: Older rows were left out.
    """

    operations: int
    backends: list[BackendFigures]
    truncated: bool


@operation("vfs_journal.statistics", Mode.READ, "vfs:read", places=SHOWN)
def vfs_journal_statistics(
    ctx: Context, backend: Backend = None, since: Since = None, until: Until = None, calls: Calls = True
) -> VfsStatistics:
    """Count the journal by backend, kind and operation, with error rates and durations where measured."""
    found = gathered(ctx, Wanted(backend), calls, since, until)
    made = figures(islice(found, COUNTED_MAX))
    return VfsStatistics(sum(one.operations for one in made), made, next(found, None) is not None)


@dataclass(frozen=True, slots=True)
class VfsPart:
    """What was recorded in one part of a timeline.

    Args:
        start: When the part begins, UTC, ISO 8601.
        start_ns: The same in nanoseconds since 1970.
        count: Rows in it.
        failed: Those among them that failed.
        by: Rows by operation.
    """

    start: str
    start_ns: int
    count: int
    failed: int
    by: dict[str, int]


@dataclass(frozen=True, slots=True)
class VfsTimeline:
    """Rows counted over time, oldest part first; parts without rows are there too.

    Args:
        bucket_s: Seconds of one part.
        total: Rows in all.
        parts: The parts.
        truncated: Older rows were left out.
    """

    bucket_s: float
    total: int
    parts: list[VfsPart]
    truncated: bool


@operation("vfs_journal.timeline", Mode.READ, "vfs:read", places=SHOWN)
def vfs_journal_timeline(
    ctx: Context,
    bucket_s: Annotated[float, Arg("seconds of one part")] = 3600.0,
    backend: Backend = None,
    since: Since = None,
    until: Until = None,
    calls: Calls = True,
) -> VfsTimeline:
    """Count the journal over time, in equal parts."""
    if not (math.isfinite(bucket_s) and bucket_s >= 0.001):
        raise InvalidInput("bucket_s is a number of seconds, 0.001 at least")
    step, total, truncated = int(bucket_s * 1e9), 0, False
    parts: dict[int, tuple[list[int], dict[str, int]]] = {}
    for row in gathered(ctx, Wanted(backend), calls, since, until):
        if total == COUNTED_MAX:
            truncated = True
            break
        counts, by = parts.setdefault(row.time_ns // step, ([0, 0], {}))
        counts[0] += 1
        counts[1] += row.status in ("error", "failed", "failure", "denied", "cancelled")
        by[row.operation or "unknown"] = by.get(row.operation or "unknown", 0) + 1
        total += 1
    first, last = min(parts, default=0), max(parts, default=-1)
    if last - first >= PARTS_MAX:
        raise InvalidInput(f"{last - first + 1} parts are more than {PARTS_MAX}: give a larger bucket_s or a since")
    made = []
    for at in range(first, last + 1):
        counts, by = parts.get(at, ([0, 0], {}))
        made.append(VfsPart(iso_time(at * step), at * step, counts[0], counts[1], dict(sorted(by.items()))))
    return VfsTimeline(bucket_s, total, made, truncated)


@operation("vfs_journal.export", Mode.READ, "vfs:read", places=SHOWN)
def vfs_journal_export(
    ctx: Context,
    destination: Destination,
    file_format: FileFormat = "jsonl",
    backend: Backend = None,
    operation_type: Kind = None,
    verb: Verb = None,
    status: Status = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    calls: Calls = True,
    overwrite: Overwrite = False,
) -> WrittenRows:
    """Write the journal to a local file, newest first: all that `vfs-journal query` finds with the same conditions.

    Raises:
        AlreadyExists: There is a file and overwriting was not asked for.
    """
    found = gathered(ctx, Wanted(backend, operation_type, verb, status, text), calls, since, until)
    return write_rows(ctx, VfsRow, found, destination, file_format, overwrite)


# -- reading the ledger ----------------------------------------------------------------------------------------------


def gathered(ctx: Context, wanted: Wanted, calls: bool, since: float | None, until: float | None) -> Iterator[VfsRow]:
    """All rows that meet conditions, newest first."""
    for scanned, (log, index, record) in enumerate(_found(ctx, wanted, calls, since, until, {})):
        if scanned % 10_000 == 0:
            ctx.check_cancelled()
        row = vfs_row(ctx, log, index, record)
        if wanted.holds(row):
            yield row


def _found(
    ctx: Context, wanted: Wanted, calls: bool, since: float | None, until: float | None, at: dict[str, int]
) -> Iterator[tuple[str, int, Record]]:
    """Records of entries and calls, newest first; ``at`` has the last index seen of each log."""
    for given in (since, until):
        if given is not None and not (math.isfinite(given) and abs(given) < 9e9):
            raise InvalidInput("a time is a number of seconds since 1970")
    since_ns = None if since is None else int(since * 1e9)
    until_ns = None if until is None else int(until * 1e9)
    ledger = ctx.engine.ledger
    entries = Where(stream=frozenset({STREAM}), operation=frozenset({APPEND}), since_ns=since_ns, until_ns=until_ns)
    own = Where(operation=frozenset(CALLS), since_ns=since_ns, until_ns=until_ns)
    # Reads are acknowledged before they are in the log; the journal shows all.
    if not ctx.engine.read_only and not at:
        ledger.flush(BULK)
    for log in LOGS:  # what comes after the first page was asked for is no part of the others
        at.setdefault(log, ledger.size(log))

    def one(log: str) -> Iterator[tuple[str, int, Record]]:
        chosen = [entries] if log == BULK else []
        chosen += [own] if calls and wanted.backend in (None, EMBEDDED) else []
        found = (ledger.select(log, where, 0, at[log], newest_first=True) for where in chosen)
        for index, record in heapq.merge(*found, key=lambda pair: pair[0], reverse=True):
            if record.phase != INTENT:
                yield log, index, record

    return heapq.merge(*(one(log) for log in LOGS), key=lambda found: found[2].time_ns, reverse=True)


def vfs_row(ctx: Context, log: str, index: int, record: Record) -> VfsRow:
    """A record as a row of the journal.

    Args:
        ctx: The call.
        log: Its log.
        index: Its index there.
        record: The record of an entry, or of a file operation.
    """
    opened = ctx.engine.ledger.open_record(record)
    head = (f"{log}:{index}", record.op_id.hex(), iso_time(record.time_ns), record.time_ns)
    event = opened.args or {}
    if record.operation == APPEND:
        return VfsRow(
            *head, "entry", event.get("backend", "") if not opened.erased else None, event.get("operation_type"),
            event.get("operation", "") if not opened.erased else None, event.get("path", "") if not opened.erased else None,
            event.get("status", "success") if not opened.erased else None, event.get("duration_ms"), event.get("size"),
            event.get("details", {}), opened.erased,
        )  # fmt: skip
    verb = CALLS[record.operation]
    details = {"recorded": record.operation}
    if record.error_kind:
        details["error_kind"] = record.error_kind
    return VfsRow(
        *head, "call", EMBEDDED, KIND_OF[verb], verb, opened.target, STATUS.get(record.status, record.status),
        record.duration_us / 1000, (record.bytes_in or record.bytes_out) or None, details, opened.erased,
    )  # fmt: skip


def _cursor(text: str | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in text.split(",") if text else []:
        log, _, index = part.partition(":")
        if log not in LOGS or not index.isdecimal() or len(index) > 18:
            raise InvalidInput("a cursor is what a page returned")
        found[log] = int(index)
    return found
