"""Retention of the record: what expires, and holds that forbid it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.ledger import Outcome, record_holds, retention
from ipfs_kit.ledger.record_holds import RecordHold
from ipfs_kit.ledger.retention import Verdict
from ipfs_kit.ledger.streams.registry import stream_named
from ipfs_kit.ledger.streams.settings import streams_in_force
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.views import iso_time

LEASE_S = 30.0
"""Longest wait for a sealing under way."""


@dataclass(frozen=True, slots=True)
class ExpiredFile:
    """A sealed file beyond a limit of its stream.

    Args:
        log: ``main`` or ``bulk``.
        stream: The stream whose records alone it holds, or held.
        first: First index of its span.
        last: Last index of its span; other streams may have records in between.
        records: Records in it.
        bytes: Its size.
        newest: Time of its newest record.
        why: ``age``, ``bytes`` or ``ops``: the limit.
        hold: Number of the hold that keeps it.
    """

    log: str
    stream: str
    first: int
    last: int
    records: int
    bytes: int
    newest: str
    why: str
    hold: int | None


@dataclass(frozen=True, slots=True)
class Expiry:
    """What expired.

    Args:
        dry_run: Whether this only says what would.
        records: Records that went.
        bytes: Bytes freed.
        files: Each file that went.
        held: Files beyond a limit that a hold keeps.
        more: Whether another call would find more.
    """

    dry_run: bool
    records: int
    bytes: int
    files: list[ExpiredFile]
    held: list[ExpiredFile]
    more: bool


@operation(
    "ledger.expire",
    Mode.WRITE,
    "ledger:admin",
    destructive=True,
    irreversible="the records are removed; their proofs still verify",
    places=Everywhere("removes records of all callers"),
)
def ledger_expire(
    ctx: Context,
    stream: Annotated[str | None, Arg("only this stream; all that have limits when left out", positional=True)] = None,
    dry_run: Annotated[bool, Arg("only say what would expire")] = False,
) -> Expiry:
    """Remove sealed records that are beyond the limits of their streams, whole files at a time, oldest first.

    What went stays named in the record of this call; `ledger verify` accepts exactly that, and old proofs still verify.

    Raises:
        Held: Something is beyond a limit, and a hold keeps all of it.
    """
    wanted = None if stream is None else stream_named(stream).name
    segments = ctx.engine.ledger.segments
    doomed: list[Verdict] = []
    held: list[Verdict] = []
    more = False

    def look() -> None:
        nonlocal doomed, held, more
        now_ns = ctx.engine.clock()
        streams = streams_in_force(ctx.engine.state)
        if wanted is not None:
            streams = {wanted: streams[wanted]} if wanted in streams else {}
        found = retention.plan(segments.registered(), streams, record_holds.active(ctx.engine.state, now_ns), now_ns)
        held = [verdict for verdict in found if verdict.hold is not None]
        free = [verdict for verdict in found if verdict.hold is None]
        doomed, more = free[: retention.FILES_MAX], len(free) > retention.FILES_MAX

    def prepare() -> Callable[[Any], Outcome]:
        look()
        return lambda tx: Outcome(None, retention.expire(tx, doomed, ctx.engine.clock()))

    look()
    if dry_run:
        return _expiry(True, doomed, held, more)
    if doomed:
        # In clear, so that the verifier can compare it with what is missing; it names streams and ranges only.
        ctx.draft.subject = None
        with segments.sealing(LEASE_S):
            ctx.commit(prepare)
            segments.forget()
            for log in sorted({verdict.segment.log for verdict in doomed}):
                segments.sweep(log)
    elif held and held[0].hold is not None:
        raise held[0].hold.refusal(f"what of stream {held[0].segment.family} is beyond its limits")
    return _expiry(False, doomed, held, more)


def _expiry(dry_run: bool, doomed: Sequence[Verdict], held: Sequence[Verdict], more: bool) -> Expiry:
    return Expiry(
        dry_run,
        sum(verdict.segment.rows for verdict in doomed),
        sum(verdict.segment.size for verdict in doomed),
        [_file(verdict) for verdict in doomed],
        [_file(verdict) for verdict in held],
        more,
    )


def _file(verdict: Verdict) -> ExpiredFile:
    segment, hold = verdict.segment, verdict.hold
    return ExpiredFile(
        segment.log,
        segment.family,
        segment.first_index,
        segment.stop - 1,
        segment.rows,
        segment.size,
        iso_time(segment.time_max),
        verdict.why,
        None if hold is None else hold.id,
    )


@dataclass(frozen=True, slots=True)
class HoldInfo:
    """A hold on records.

    Args:
        id: Its number.
        stream: The stream it keeps; None keeps all.
        since: Records made at or after; None from the beginning.
        until: Records made before; None without end.
        reason: Why.
        placed: When it was placed.
        lapses: When it lapses by itself; None means when it is released.
        active: Whether it binds now.
    """

    id: int
    stream: str | None
    since: str | None
    until: str | None
    reason: str
    placed: str
    lapses: str | None
    active: bool


@operation(
    "ledger.hold_add",
    Mode.WRITE,
    "ledger:hold",
    irreversible="release it with ledger hold-release",
    places=Everywhere("keeps records of all callers"),
)
def ledger_hold_add(
    ctx: Context,
    reason: Annotated[str, Arg("why, shown to whoever is refused", positional=True)],
    stream: Annotated[str | None, Arg("the stream to keep; all when left out")] = None,
    since: Annotated[float | None, Arg("keep records made at or after, seconds since 1970")] = None,
    until: Annotated[float | None, Arg("keep records made before, seconds since 1970")] = None,
    lapses: Annotated[float | None, Arg("when the hold lapses, seconds since 1970; never when left out")] = None,
) -> HoldInfo:
    """Forbid that records of a stream and range of time expire or are erased."""
    name = None if stream is None else stream_named(stream).name
    now_ns = ctx.engine.clock()
    add = record_holds.add(name, _ns(since), _ns(until), reason, now_ns, _ns(lapses))

    def effect(tx: Any) -> Outcome:
        hold = _info(add(tx), now_ns)
        return Outcome(hold, {"held": hold.id, "stream": name, "since": hold.since, "until": hold.until})

    made: HoldInfo = ctx.commit(lambda: effect)
    return made


@dataclass(frozen=True, slots=True)
class HoldPage:
    """Holds in order of number; pass ``cursor`` to continue, None when this was the last page."""

    holds: list[HoldInfo]
    cursor: int | None


@operation("ledger.hold_list", Mode.READ, "ledger:read", places=Everywhere("lists holds of all streams"))
def ledger_hold_list(
    ctx: Context,
    limit: Annotated[int, Arg("most holds to return", minimum=1, maximum=1000, flag="n")] = 100,
    cursor: Annotated[int | None, Arg("continue after this cursor")] = None,
) -> HoldPage:
    """List the holds on records, lapsed ones included."""
    found = record_holds.listed(ctx.engine.state, after=cursor or 0, limit=limit)
    now_ns = ctx.engine.clock()
    return HoldPage([_info(hold, now_ns) for hold in found], found[-1].id if len(found) == limit else None)


@operation(
    "ledger.hold_release",
    Mode.WRITE,
    "ledger:hold",
    destructive=True,
    irreversible="place it again with ledger hold-add",
    places=Everywhere("lets records of all callers go"),
)
def ledger_hold_release(ctx: Context, hold: Annotated[int, Arg("number of the hold", positional=True)]) -> HoldInfo:
    """Release a hold on records."""
    release = record_holds.release(hold)
    now_ns = ctx.engine.clock()

    def effect(tx: Any) -> Outcome:
        released = _info(release(tx), now_ns)
        return Outcome(released, {"released": hold, "reason": released.reason})

    released: HoldInfo = ctx.commit(lambda: effect)
    return released


def _info(hold: RecordHold, now_ns: int) -> HoldInfo:
    return HoldInfo(
        hold.id,
        hold.stream,
        _iso(hold.since_ns),
        _iso(hold.until_ns),
        hold.reason,
        iso_time(hold.placed_ns),
        _iso(hold.lapses_ns),
        hold.active(now_ns),
    )


def _iso(time_ns: int | None) -> str | None:
    return None if time_ns is None else iso_time(time_ns)


def _ns(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1e9)
