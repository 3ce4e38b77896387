"""Retention: which sealed files expire, decided purely, and the transaction that lets them go (``docs/format/segments.md``).

Only whole files go, and only files that hold one stream alone. What went stays named: in ``ledger_expired``, and in the
op ``ledger.expire``, whose effect is in clear so that the verifier can compare the two without any key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import Stale
from ipfs_kit.ledger import _segment_rows as segment_rows
from ipfs_kit.ledger import record_holds
from ipfs_kit.ledger._segment_rows import Segment
from ipfs_kit.ledger.record_holds import RecordHold
from ipfs_kit.ledger.streams.registry import Stream

FILES_MAX: Final = 100
"""Files of one expiry: its effect then fits its record, where the verifier reads it."""
AGE, BYTES, OPS = "age", "bytes", "ops"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One file that its stream's limits do not keep.

    Args:
        segment: The file.
        why: ``age``, ``bytes`` or ``ops``: the limit it is beyond.
        hold: The hold that keeps it nevertheless.
    """

    segment: Segment
    why: str
    hold: RecordHold | None


def plan(
    segments: Iterable[Segment], streams: Mapping[str, Stream], holds: Sequence[RecordHold], now_ns: int
) -> list[Verdict]:
    """Judge files by the limits of their streams, oldest first.

    A held file counts towards the limits like any other, so it never makes a newer file go in its place.

    Args:
        segments: Registered files.
        streams: Streams in force, by name.
        holds: Holds that bind now.
        now_ns: Wall clock.

    Returns:
        Every file beyond a limit, stream by stream.
    """
    by_stream: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment.family in streams:
            by_stream.setdefault(segment.family, []).append(segment)
    found: list[Verdict] = []
    for name in sorted(by_stream):
        files = sorted(by_stream[name], key=lambda each: (each.time_max, each.log, each.first_index))
        for segment, why in _beyond(files, streams[name], now_ns):
            hold = next((h for h in holds if h.covers(name, segment.time_min, segment.time_max)), None)
            found.append(Verdict(segment, why, hold))
    return found


def _beyond(files: list[Segment], stream: Stream, now_ns: int) -> list[tuple[Segment, str]]:
    size, count = sum(file.size for file in files), sum(file.rows for file in files)
    found: list[tuple[Segment, str]] = []
    for file in files:
        if stream.keep_s is not None and file.time_max < now_ns - stream.keep_s * 1e9:
            found.append((file, AGE))
        elif stream.keep_bytes is not None and size > stream.keep_bytes:
            found.append((file, BYTES))
        elif stream.keep_ops is not None and count - file.rows >= stream.keep_ops:
            found.append((file, OPS))
        else:
            break
        size -= file.size
        count -= file.rows
    return found


def expire(tx: Tx, doomed: Sequence[Verdict], now_ns: int) -> dict[str, Any]:
    """Let files go inside the transaction that records it; their bytes are removed after it.

    Args:
        tx: The transaction.
        doomed: Files no hold keeps, at most ``FILES_MAX``.
        now_ns: Wall clock.

    Returns:
        The effect: what went, in clear.

    Raises:
        Stale: A file is gone already, or a hold was placed since: plan again.
    """
    holds = record_holds.active_in(tx, now_ns)
    gone = []
    for verdict in doomed:
        segment = verdict.segment
        if any(hold.covers(segment.family, segment.time_min, segment.time_max) for hold in holds):
            raise Stale("a hold was placed meanwhile")
        if not segment_rows.expire(tx, segment, verdict.why, now_ns):
            raise Stale("a file expired meanwhile")
        gone.append(
            [segment.log, segment.first_index, segment.stop, segment.family, segment.rows, segment.sha256, verdict.why]
        )
    return {"expired": gone}
