"""Logs: lines of the stream ``logs``, and the log files of one folder."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.ledger import Where
from ipfs_kit.ledger.record import BULK
from ipfs_kit.ledger.streams.registry import APPEND, stream_named
from ipfs_kit.monitoring.logs import places, reader
from ipfs_kit.monitoring.logs.ingest import Mark, chunks, resume, trace_of
from ipfs_kit.monitoring.logs.lines import LEVELS, at_least
from ipfs_kit.monitoring.logs.redact import LineRedactor
from ipfs_kit.monitoring.logs.rotate import AGE_MAX_S, BYTES_MAX, KEEP, Limits, Rotated, rotate
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.stream import append_beside, stream_query
from ipfs_kit.operations.views import iso_time

STREAM = "logs"
WAIT_MAX_S = 30
LINES = Everywhere("shows lines of all callers")
MARKS_LOOKED_AT = 2_000_000
"""Log lines looked through for what was taken in of a file before."""
KEPT = "what was recorded stays recorded; it can expire or be erased"

Log = Annotated[str, Arg("the log: name of a file in the folder of logs", positional=True)]


@dataclass(frozen=True, slots=True)
class LogInfo:
    """One log of the folder.

    Args:
        name: Name of the file being written.
        size: Bytes of all its files, as they lie.
        files: Its files, oldest first.
        changed: When it was last written to, UTC, ISO 8601.
    """

    name: str
    size: int
    files: list[str]
    changed: str


@dataclass(frozen=True, slots=True)
class LogList:
    """The logs of the folder."""

    directory: str
    logs: list[LogInfo]


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the stream.

    Args:
        op: ``LOG:INDEX``.
        time: When it was written, UTC, ISO 8601; when it was recorded if it does not say.
        level: Its level; None, like all that follows, once it is erased.
        component: Which part wrote it.
        logger: Name of the logger.
        message: Its text.
        source: File it comes from.
        line: Line there.
        exception: Traceback.
        details: Structured fields.
    """

    op: str
    time: str | None
    level: str | None
    component: str | None
    logger: str | None
    message: str | None
    source: str | None
    line: int | None
    exception: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LogLines:
    """A page of lines; pass ``cursor`` to continue, None when this was the last."""

    rows: list[LogRow]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class LogTail:
    """Lines of a log, oldest first; pass ``cursor`` for those that came since."""

    name: str
    lines: list[str]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """What was rotated, compressed and removed, log by log."""

    directory: str
    logs: list[Rotated]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What was taken in of a log file.

    Args:
        source: Name under which its lines are found.
        events: Lines recorded now; those of a traceback count as one.
        lines: Lines of the file that are taken in, earlier ones included.
        resumed_at: Lines taken in by earlier calls.
    """

    source: str
    events: int
    lines: int
    resumed_at: int


def directory() -> Path:
    """The folder of logs of this process."""
    return places.folder(os.environ)


@operation("logs.list", Mode.READ, "logs:read", places=LINES)
def logs_list(ctx: Context) -> LogList:
    """List the logs of the folder of logs: $IPFS_KIT_LOGS_PATH, else ~/.local/state/ipfs-kit/logs."""
    here = directory()
    found = places.logs(here)
    return LogList(
        str(here), [LogInfo(each.name, each.size, each.files, iso_time(int(each.changed_s * 1e9))) for each in found]
    )


@operation("logs.query", Mode.READ, "logs:read", places=LINES)
def logs_query(
    ctx: Context,
    component: Annotated[list[str] | None, Arg("parts that wrote them")] = None,
    level: Annotated[str | None, Arg(f"lowest level: {', '.join(LEVELS)}")] = None,
    logger: Annotated[str | None, Arg("name of the logger")] = None,
    source: Annotated[str | None, Arg("file they come from")] = None,
    text: Annotated[str | None, Arg("text that some field must contain, without regard to case")] = None,
    since: Annotated[float | None, Arg("recorded at or after, seconds since 1970")] = None,
    until: Annotated[float | None, Arg("recorded before, seconds since 1970")] = None,
    oldest_first: Annotated[bool, Arg("oldest first instead of newest first")] = False,
    limit: Annotated[int, Arg("most lines to return", minimum=1, maximum=10_000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> LogLines:
    """Return recorded log lines that meet every condition, newest first."""
    named = {"component": component, "logger": logger, "source": source}
    match: dict[str, Any] = {name: value for name, value in named.items() if value}
    if level is not None:
        if level.upper() not in LEVELS:
            raise InvalidInput(f"a level is one of {', '.join(LEVELS)}, not {level[:40]!r}")
        match["level"] = at_least(level)
    page = stream_query(ctx, STREAM, since, until, None, match, text, oldest_first, limit, cursor)
    return LogLines([_row(each) for each in page.rows], page.cursor)


def _row(row: Any) -> LogRow:
    event = row.event or {}
    told = event.get("event_time")
    return LogRow(
        row.op,
        row.time if told is None else iso_time(int(told * 1e9)),
        event.get("level"),
        event.get("component"),
        event.get("logger"),
        event.get("message"),
        event.get("source"),
        event.get("line"),
        event.get("exception"),
        event.get("details", {}),
    )


@operation("logs.tail", Mode.READ, "logs:read", places=LINES)
def logs_tail(
    ctx: Context,
    name: Log,
    limit: Annotated[int, Arg("most lines to return", minimum=1, maximum=10_000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("return the lines after this cursor instead of the newest")] = None,
    wait_s: Annotated[int, Arg("wait so long for a line after the cursor", minimum=0, maximum=WAIT_MAX_S)] = 0,
) -> LogTail:
    """Return the newest lines of a log file, or those after a cursor, across rotated and compressed files.

    Secrets are masked. A cursor stays valid when the log is rotated, compressed or truncated.
    """
    path = places.at(directory(), name)
    if cursor is None:
        found = reader.tail(path, limit)
    else:
        position = reader.Position.parse(cursor)
        found = reader.read_on(path, position, limit)
        left = int(wait_s / reader.POLL_S)
        never = threading.Event()
        while not found.lines and left > 0:
            ctx.check_cancelled()
            never.wait(reader.POLL_S)
            left -= 1
            found = reader.read_on(path, position, limit)
    redactor = LineRedactor()
    return LogTail(name, [redactor.line(line) for line in found.lines], str(found.position) if found.position else None)


@operation(
    "logs.rotate",
    Mode.WRITE,
    "logs:admin",
    external=True,
    idempotent=True,
    destructive=True,
    irreversible="rotated files beyond the cap are gone; store the logs first to keep them",
    places=Everywhere("moves log lines of all callers"),
)
def logs_rotate(
    ctx: Context,
    name: Annotated[str | None, Arg("the log; all of the folder when left out", positional=True)] = None,
    max_bytes: Annotated[int, Arg("rotate logs as large as this", minimum=1)] = BYTES_MAX,
    max_age_s: Annotated[float, Arg("rotate logs whose first line is as old; 0 does not look at age")] = AGE_MAX_S,
    keep: Annotated[int, Arg("rotated files kept of each log", minimum=1, maximum=1_000)] = KEEP,
    compress: Annotated[bool, Arg("compress all rotated files but the newest")] = True,
    force: Annotated[bool, Arg("rotate also what is not due")] = False,
) -> Rotation:
    """Rotate log files by size and age, compress what was rotated before, and remove the oldest beyond the cap.

    A program that keeps its file open writes on into the renamed one; it is compressed one rotation later.
    """
    here = directory()
    if not 0 <= max_age_s < 1e10:
        raise InvalidInput("max_age_s is a number of seconds; 0 does not look at age")
    limits = Limits(max_bytes, max_age_s or None, keep, compress)
    names = [each.name for each in places.logs(here)] if name is None else [name]
    paths = [places.at(here, each) for each in names]
    if name is not None and not reader.files_of(paths[0]):
        raise NotFound(f"there is no log {name}: 'ipfs-kit logs list' names them")
    ctx.announce({"logs": names})
    return Rotation(str(here), [rotate(path, limits, ctx.draft.time_ns, force=force) for path in paths])


@operation("logs.ingest", Mode.WRITE, "logs:write", idempotent=True, irreversible=KEPT, places=LINES)
def logs_ingest(
    ctx: Context,
    path: Annotated[str, Arg("a log file, plain or .gz", local=True, positional=True)],
    source: Annotated[str | None, Arg("name under which its lines are found; the file's own when left out")] = None,
) -> Ingested:
    """Record the lines of a log file, each once: called again, only lines that came since are recorded.

    JSON lines, syslog, access logs, Python logging and logfmt become fields; other lines are messages. Secrets are
    masked before anything is written. A last line without an end waits for it.

    Raises:
        NotFound: There is no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise NotFound(f"there is no file {path[:200]}")
    name = source or _plain_name(file)
    trace = trace_of(file, name)
    since = None if trace is None else resume(file, _marks(ctx, trace))
    done, last = 0, since
    if trace is not None:
        for events in chunks(file, name, since, ctx.draft.time_ns / 1e9):
            ctx.progress(done, unit="lines", note=name)
            append(ctx, events, trace)
            done += len(events)
            last = Mark.of(events[-1])
    return Ingested(name, done, 0 if last is None else last.lines, 0 if since is None else since.lines)


def _plain_name(file: Path) -> str:
    """The log's name, whichever of its rotated files this is."""
    name = file.name.removesuffix(".gz")
    stem, _, rest = name.rpartition(".")
    return stem if stem and rest[:1].isdigit() else name


def _marks(ctx: Context, trace: bytes) -> list[Mark]:
    ledger, found = ctx.engine.ledger, []
    where = Where(stream=frozenset({STREAM}))
    for seen, (_, record) in enumerate(ledger.select(BULK, where, 0, None, newest_first=True)):
        if seen >= MARKS_LOOKED_AT:
            break
        if record.trace == trace and record.operation == APPEND and (mark := Mark.of(ledger.open_record(record).args)):
            found.append(mark)
    return found


def append(ctx: Context, events: list[dict[str, Any]], trace: bytes | None = None) -> None:
    """Record events of the stream durably, all or none."""
    family = stream_named(STREAM)
    append_beside(ctx, family, [family.check(event) for event in events], trace=trace)
