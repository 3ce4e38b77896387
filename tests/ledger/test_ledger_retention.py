"""Which files expire is decided purely: by age, bytes and count, oldest first, and never what a hold keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ledger.record_holds import RecordHold, add
from ipfs_kit.ledger.retention import plan
from ipfs_kit.ledger.segments import Segment
from ipfs_kit.ledger.streams import settings
from ipfs_kit.ledger.streams.registry import STREAMS, Stream

S = 1_000_000_000
NOW = 1_000 * S


def file(at: int, rows: int = 10, size: int = 100, family: str = "logs") -> Segment:
    """Records of second ``at``."""
    low, high = at * S, at * S + S - 1
    return Segment("bulk", at * 100, family, at * 100 + 100, rows, f"{at}", size, b"", b"", low, high, b"", b"")


def went(files: list[Segment], stream: Stream, *holds: RecordHold) -> list[tuple[str, str, int | None]]:
    found = plan(files, {"logs": stream}, holds, NOW)
    return [(each.segment.name, each.why, each.hold.id if each.hold else None) for each in found]


PLAIN = replace(STREAMS["logs"], keep_s=None)
FILES = [file(at) for at in (1, 2, 3, 4, 5)]


def test_each_limit_lets_the_oldest_files_go_and_no_more() -> None:
    assert went(FILES, PLAIN) == []
    assert went(FILES, replace(PLAIN, keep_s=997.0)) == [("1", "age", None), ("2", "age", None)]
    assert went(FILES[::-1], replace(PLAIN, keep_bytes=300)) == [("1", "bytes", None), ("2", "bytes", None)]
    assert went(FILES, replace(PLAIN, keep_ops=31)) == [("1", "ops", None)]
    assert went(FILES, replace(PLAIN, keep_ops=30)) == [("1", "ops", None), ("2", "ops", None)]
    assert went(FILES, replace(PLAIN, keep_s=998.0, keep_ops=35)) == [("1", "age", None)]
    assert went([file(1, family="audit")], replace(PLAIN, keep_s=1.0)) == []


def test_a_hold_keeps_what_it_covers_and_no_newer_file_goes_in_its_place() -> None:
    hold = RecordHold(7, "logs", 1 * S, 2 * S, "case", 0, None)
    limit = replace(PLAIN, keep_ops=30)
    assert went(FILES, limit, hold) == [("1", "ops", 7), ("2", "ops", None)]
    assert went(FILES, limit, replace_hold(hold, stream="audit")) == [("1", "ops", None), ("2", "ops", None)]
    assert went(FILES, limit, replace_hold(hold, stream=None, until_ns=None)) == [("1", "ops", 7), ("2", "ops", 7)]


def replace_hold(hold: RecordHold, **changes: object) -> RecordHold:
    names = ("id", "stream", "since_ns", "until_ns", "reason", "placed_ns", "lapses_ns")
    return RecordHold(**({name: getattr(hold, name) for name in names} | changes))  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50), st.integers(1, 500)), max_size=12),
    st.integers(1, 200), st.integers(1, 2000), st.integers(950, 1001),
)  # fmt: skip
def test_what_stays_is_within_every_limit(files: list[tuple[int, int, int]], ops: int, size: int, age: int) -> None:
    made = [file(at, rows, size) for at, rows, size in files]
    stream = replace(PLAIN, keep_ops=ops, keep_bytes=size, keep_s=float(age))
    gone = [verdict.segment for verdict in plan(made, {"logs": stream}, [], NOW)]
    stays = list(made)
    for segment in gone:
        stays.remove(segment)
    assert sum(each.size for each in stays) <= size
    assert all(each.time_max >= NOW - age * S for each in stays)
    assert not stays or sum(each.rows for each in stays) - min(stays, key=lambda e: e.time_max).rows < ops
    assert not gone or max(e.time_max for e in gone) <= min((e.time_max for e in stays), default=NOW)


def test_holds_and_settings_out_of_bounds_are_refused() -> None:
    for arguments in ((None, None, None, " ", 5), (None, 9, 9, "r", 5), (None, None, None, "r", 5, 5)):
        with pytest.raises(InvalidInput):
            add(*arguments)  # type: ignore[arg-type]
    assert settings.checked("logs", {"keep_s": 0, "keep_ops": 5, "zstd_level": None}) == {"keep_s": None, "keep_ops": 5}
    for name, given_ in (("ledger", {"keep_ops": 5}), ("logs", {"zstd_level": 23}), ("logs", {"keep_s": -1})):
        with pytest.raises(InvalidInput):
            settings.checked(name, given_)
