"""Streams: append events, gather them into batches with a CID, load and query them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.errors import Expired, InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Draft, Record, Where
from ipfs_kit.ledger.record import BUFFERED, BULK, FSYNC, INTENT, LOGS, MAIN, new_op_id
from ipfs_kit.ledger.streams.batches import Flushed
from ipfs_kit.ledger.streams.registry import APPEND, STREAMS, Stream, stream_named
from ipfs_kit.ledger.streams.settings import streams_in_force
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import CATALOGUE, TOOLSETS, Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere, Nowhere
from ipfs_kit.operations.views import iso_time

Name = Annotated[str, Arg("the stream", positional=True)]
EVENTS_MAX = 10_000
NAME_MAX = 100
TEXT_MAX = 1_000
"""Characters of an error message kept."""
SECRET_WORDS = ("token", "secret", "password", "key", "credential", "auth")
"""Arguments whose name holds one of these are recorded as ``***``."""
SCANNED_MAX = 200_000
"""Records judged by their decrypted fields for one page: more continue at the page's cursor."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream.

    Args:
        name: Its name, also that of its SQL view.
        about: What it holds.
        log: ``main`` or ``bulk``.
        fields: Type by field of its events; empty for a family of calls.
        personal: Whether events are sealed under a person's key.
        batch_rows: Records that make a batch.
        batch_age_s: Age in seconds after which fewer make one.
        keep_s: Seconds after which sealed records may expire; None keeps them.
        zstd_level: Compression of its sealed records.
        keep_bytes: Bytes of sealed records beyond which the oldest may expire; None sets no limit.
        keep_ops: Sealed records that stay when the oldest expire; None sets no limit.
        sample_reads: Of so many reads one is recorded, the others are counted; None records all.
    """

    name: str
    about: str
    log: str
    fields: dict[str, str]
    personal: bool
    batch_rows: int
    batch_age_s: float
    keep_s: float | None
    zstd_level: int
    keep_bytes: int | None = None
    keep_ops: int | None = None
    sample_reads: int | None = None


@dataclass(frozen=True, slots=True)
class StreamList:
    """All declared and configured streams."""

    streams: list[StreamInfo]


@operation("stream.list", Mode.READ, "stream:read", places=Nowhere("the declarations of streams"))
def stream_list(ctx: Context) -> StreamList:
    """List the streams with the fields of their events and the settings in force."""
    return StreamList([_info(stream) for stream in streams_in_force(ctx.engine.state).values()])


def _info(stream: Stream) -> StreamInfo:
    return StreamInfo(
        stream.name,
        stream.about,
        stream.log,
        {name: kind.__name__ for name, kind in stream.fields.items()},
        stream.personal,
        stream.batch_rows,
        stream.batch_age_s,
        stream.keep_s,
        stream.zstd_level,
        stream.keep_bytes,
        stream.keep_ops,
        stream.sample_reads,
    )


@dataclass(frozen=True, slots=True)
class Appended:
    """What was appended.

    Args:
        stream: The stream.
        count: Events recorded.
        op_ids: Op id of each, in the order given.
    """

    stream: str
    count: int
    op_ids: list[str]


@operation(
    APPEND,
    Mode.WRITE,
    "stream:write",
    irreversible="what was recorded stays recorded; it can expire or be erased",
    places=Everywhere("adds to records of all callers"),
)
def stream_append(
    ctx: Context,
    stream: Name,
    events: Annotated[list[dict[str, Any]], Arg("events: mappings from field to value")],
    ack: Annotated[str | None, Arg("fsync or buffered; fsync for streams of the main log when left out")] = None,
) -> Appended:
    """Record events, each as one op of the stream.

    Several events at once are recorded in order and acknowledged together, beside the record of this call.
    """
    family = stream_named(stream)
    if ack not in (None, FSYNC, BUFFERED):
        raise InvalidInput("ack is fsync or buffered")
    if not 0 < len(events) <= EVENTS_MAX:
        raise InvalidInput(f"give 1 to {EVENTS_MAX} events, not {len(events)}")
    checked = [family.check(event) for event in events]
    ack = ack or (FSYNC if family.log == MAIN else BUFFERED)
    if len(checked) == 1:
        _become(ctx, ctx.draft, family, checked[0], ack)
        return Appended(family.name, 1, [ctx.draft.op_id.hex()])
    op_ids = append_beside(ctx, family, checked, ack)
    # The call itself belongs to no stream of events: the family holds exactly what was appended.
    ctx.draft.args = {"stream": family.name, "count": len(checked)}
    ctx.draft.log, ctx.draft.ack = family.log, BUFFERED
    return Appended(family.name, len(checked), op_ids)


def append_beside(
    ctx: Context, family: Stream, events: Iterable[dict[str, Any]], ack: str = FSYNC, *, trace: bytes | None = None
) -> list[str]:
    """Record events of a stream beside the record of a call, which is named as their parent: all or none.

    Args:
        ctx: The call.
        family: The stream.
        events: Events that it has checked.
        ack: ``fsync`` or ``buffered``.
        trace: Trace id of the events; that of the call when left out.

    Returns:
        Op id of each, in the order given, as hex; they are recorded when this returns.
    """
    drafts = []
    for event in events:
        draft = Draft(
            op_id=new_op_id(ctx.draft.time_ns, ctx.engine.random),
            time_ns=ctx.draft.time_ns,
            actor=ctx.draft.actor,
            surface=ctx.draft.surface,
            operation=APPEND,
            parent=ctx.draft.op_id,
            trace=trace or ctx.draft.trace,
        )
        _become(ctx, draft, family, event, ack)
        drafts.append(draft)
    if drafts:
        ctx.engine.ledger.submit_many(drafts).result()
    return [draft.op_id.hex() for draft in drafts]


def _become(ctx: Context, draft: Draft, family: Stream, event: dict[str, Any], ack: str) -> None:
    """Make a draft the record of one event."""
    draft.stream, draft.log, draft.ack, draft.args = family.name, family.log, ack, event
    draft.target = None
    draft.subject = None
    if family.personal:
        person = event.get(family.subject_field) if family.subject_field else None
        draft.subject = ctx.engine.keys.subject_for(person) if person else draft.actor or None


@dataclass(frozen=True, slots=True)
class Noted:
    """A call that was recorded.

    Args:
        name: The name it is recorded under.
    """

    name: str


@operation(
    "stream.note",
    Mode.WRITE,
    "stream:write",
    irreversible="what was recorded stays recorded; it can expire or be erased",
    places=Everywhere("adds to records of all callers"),
)
def stream_note(
    ctx: Context,
    name: Annotated[
        str, Arg("name of the call: a stream or toolset, a dot, and what no operation is named", positional=True)
    ],
    arguments: Annotated[dict[str, Any] | None, Arg("its arguments; what a secret's name holds is masked")] = None,
    error_kind: Annotated[str | None, Arg("stable code of the error it was answered with")] = None,
    error_message: Annotated[str | None, Arg("the error's message")] = None,
) -> Noted:
    """Record a call that a program answered without an operation: this op bears its name, arguments and error.

    A failure is recorded durably in the main log, an answer in the bulk log.
    """
    family = name.partition(".")[0]
    if not (2 < len(name) <= NAME_MAX and "." in name and name.isprintable() and family in {*STREAMS, *TOOLSETS}):
        raise InvalidInput(f"{name[:NAME_MAX]!r} names no call: give a stream or toolset, a dot and a name")
    if name in CATALOGUE or (family in STREAMS and STREAMS[family].event is not None):
        raise InvalidInput(f"{name} is recorded by its own operation: call that")
    draft = ctx.draft
    draft.operation, draft.args = name, masked(arguments or {})
    if error_kind is None:
        draft.log, draft.ack = BULK, BUFFERED
    else:
        draft.log, draft.ack = MAIN, FSYNC
        draft.status = "denied" if error_kind == "denied" else "error"
        draft.error_kind, draft.error_message = error_kind[:64], (error_message or "")[:TEXT_MAX]
    return Noted(name)


def masked(value: Any) -> Any:
    """The same JSON value with everything under a secret's name masked."""
    if isinstance(value, dict):
        return {k: "***" if any(word in k.lower() for word in SECRET_WORDS) else masked(v) for k, v in value.items()}
    return [masked(item) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class FlushInfo:
    """A batch of a stream.

    Args:
        stream: The stream.
        cid: Names exactly the records gathered; None when the stream never had any.
        count: How many.
        seq: Number of the flush, from 0.
        time: When.
        distributed: Whether other nodes hold it.
    """

    stream: str
    cid: CID | None
    count: int
    seq: int | None
    time: str | None
    distributed: bool = False


@operation(
    "stream.flush",
    Mode.WRITE,
    "stream:write",
    idempotent=True,
    irreversible="a batch only names records",
    places=Everywhere("packs records of all callers"),
)
def stream_flush(ctx: Context, stream: Name) -> FlushInfo:
    """Gather the records that came since the last flush into a batch and return its CID."""
    done = ctx.engine.streams.flush(stream)
    return FlushInfo(stream, None, 0, None, None) if done is None else _flush_info(done)


@dataclass(frozen=True, slots=True)
class FlushPage:
    """Batches of a stream, newest first; pass ``cursor`` to continue, None when this was the last page."""

    batches: list[FlushInfo]
    cursor: int | None


@operation("stream.batches", Mode.READ, "stream:read", places=Everywhere("lists records of all callers"))
def stream_batches(
    ctx: Context,
    stream: Name,
    limit: Annotated[int, Arg("most batches to return", minimum=1, maximum=1000, flag="n")] = 100,
    cursor: Annotated[int | None, Arg("continue after this cursor")] = None,
) -> FlushPage:
    """List the batches of a stream, newest first."""
    found = ctx.engine.streams.flushes(stream, limit=limit, before=cursor)
    return FlushPage([_flush_info(each) for each in found], found[-1].seq if len(found) == limit else None)


def _flush_info(done: Flushed) -> FlushInfo:
    return FlushInfo(done.stream, done.cid, done.count, done.seq, iso_time(done.time_ns))


@dataclass(frozen=True, slots=True)
class EventRow:
    """One record of a stream, personal fields opened where the key is held.

    Args:
        op: ``LOG:INDEX``.
        op_id: Its id as hex.
        cid: CID of the record.
        time: When it was recorded, UTC, ISO 8601.
        time_ns: The same in nanoseconds since 1970.
        stream: Its stream.
        operation: ``stream.append`` for an event, else what was called.
        status: How the op ended.
        error_kind: Stable code when it failed.
        actor: Surrogate of who recorded it.
        actor_name: Their name; None once their key is destroyed.
        duration_us: Time it took, microseconds.
        trace: W3C trace id, hex.
        event: Its fields, or the arguments of a call; None once erased.
        error: What went wrong.
        erased: Sealed fields exist that nobody can read.
        kept: Whether the record is still kept; of one that expired only ``op`` is known.
    """

    op: str
    op_id: str | None
    cid: CID | None
    time: str | None
    time_ns: int | None
    stream: str
    operation: str | None
    status: str | None
    error_kind: str | None
    actor: str | None
    actor_name: str | None
    duration_us: int | None
    trace: str | None
    event: dict[str, Any] | None
    error: str | None
    erased: bool
    kept: bool
    target: str | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """A page of records; pass ``cursor`` to continue, None when this was the last.

    A page may hold fewer rows than asked for, even none, although more follow: work per page is bounded.
    """

    rows: list[EventRow]
    cursor: str | None


@operation("stream.load", Mode.READ, "stream:read", places=Everywhere("reads any batch by its CID"))
def stream_load(
    ctx: Context,
    cid: Annotated[CID, Arg("a batch, as flush returned it", positional=True)],
    limit: Annotated[int, Arg("most records to return", minimum=1, maximum=100_000, flag="n")] = 10_000,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> EventPage:
    """Return the records of a batch, each once, in order and checked against the CID."""
    skip = _whole_number(cursor)
    rows: list[EventRow] = []
    stream = str(ctx.engine.streams.manifest(cid)["stream"])
    for at, (log, index, record) in enumerate(ctx.engine.streams.records(cid)):
        if at < skip:
            continue
        if len(rows) == limit:
            return EventPage(rows, str(at))
        rows.append(event_row(ctx, log, index, record, stream))
    return EventPage(rows, None)


@operation("stream.query", Mode.READ, "stream:read", places=Everywhere("shows records of all callers"))
def stream_query(
    ctx: Context,
    stream: Name,
    since: Annotated[float | None, Arg("recorded at or after, seconds since 1970")] = None,
    until: Annotated[float | None, Arg("recorded before, seconds since 1970")] = None,
    status: Annotated[list[str] | None, Arg("how ops ended: ok, error, denied, cancelled, unknown")] = None,
    match: Annotated[dict[str, Any] | None, Arg("fields of the event and the value, or list of values, wanted")] = None,
    text: Annotated[str | None, Arg("text that some field must contain, without regard to case")] = None,
    oldest_first: Annotated[bool, Arg("oldest first instead of newest first")] = False,
    limit: Annotated[int, Arg("most records to return", minimum=1, maximum=10_000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> EventPage:
    """Return the records of a stream that meet every condition, newest first, over the whole history."""
    family = stream_named(stream)
    where = Where(
        stream=frozenset({family.name}),
        status=frozenset(status) if status else None,
        since_ns=None if since is None else int(since * 1e9),
        until_ns=None if until is None else int(until * 1e9),
    )
    rows: list[EventRow] = []
    at = _cursor_of(cursor)
    for scanned, (log, index, record) in enumerate(_merged(ctx, family, where, at, not oldest_first)):
        if len(rows) == limit or scanned >= SCANNED_MAX:
            return EventPage(rows, ",".join(f"{name}:{at[name]}" for name in sorted(at)))
        at[log] = index
        if record.phase == INTENT:
            continue
        row = event_row(ctx, log, index, record, family.name)
        if _matches(row.event, match, text):
            rows.append(row)
    return EventPage(rows, None)


def _merged(
    ctx: Context, family: Stream, where: Where, at: dict[str, int], newest_first: bool
) -> Iterator[tuple[str, int, Record]]:
    """The records of a stream over the logs it lies in, in order of time."""
    ledger = ctx.engine.ledger

    def one(log: str) -> Iterator[tuple[str, int, Record]]:
        seen = at.get(log)
        start = 0 if newest_first or seen is None else seen + 1
        stop = seen if newest_first else None
        for index, record in ledger.select(log, where, start, stop, newest_first=newest_first):
            yield log, index, record

    logs = LOGS if family.event is None else (family.log,)
    return heapq.merge(*(one(log) for log in logs), key=lambda found: found[2].time_ns, reverse=newest_first)


def _matches(event: dict[str, Any] | None, match: dict[str, Any] | None, text: str | None) -> bool:
    if not match and not text:
        return True
    if event is None:
        return False
    for name, wanted in (match or {}).items():
        value = event.get(name)
        if not (value in wanted if isinstance(wanted, list) else value == wanted):
            return False
    return not text or text.casefold() in repr(event).casefold()


def event_row(ctx: Context, log: str, index: int, record: Record | None, stream: str) -> EventRow:
    """A record as a row of its stream.

    Args:
        ctx: The call.
        log: Its log.
        index: Its index there.
        record: The decoded record; None when it is not kept any more.
        stream: Its stream.
    """
    place = f"{log}:{index}"
    gone = EventRow(place, *(None,) * 4, stream, *(None,) * 9, False, False)
    if record is None:
        return gone
    try:
        cid = ctx.engine.ledger.record_cid(log, index)
    except Expired:  # since it was read
        return gone
    opened = ctx.engine.ledger.open_record(record)
    return EventRow(
        place,
        record.op_id.hex(),
        cid,
        iso_time(record.time_ns),
        record.time_ns,
        record.stream,
        record.operation,
        record.status,
        record.error_kind,
        record.actor,
        ctx.engine.keys.subject_name(record.actor),
        record.duration_us,
        record.trace.hex() if record.trace else None,
        # An event whose every field is a default has no arguments at all.
        opened.args if opened.args is not None or opened.erased else {},
        opened.error_message,
        opened.erased,
        True,
        opened.target,
    )


def _whole_number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidInput("a cursor is what a page returned")
    return int(cursor)


def _cursor_of(text: str | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in (text or "").split(",") if text else []:
        log, _, index = part.partition(":")
        if log not in LOGS:
            raise InvalidInput("a cursor is what a page returned")
        found[log] = _whole_number(index)
    return found
