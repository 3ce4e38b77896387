"""Streams: N events then a flush are a dataset that loads exactly those N, queried over the whole history, sealed or not."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit import CID, Kit, KitError
from ipfs_kit.durable import faults
from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.ledger.streams import EVENT_STREAMS, batches
from ipfs_kit.ledger.streams.registry import STREAMS


def login(at: int, user: str = "ann") -> dict[str, Any]:
    return {"event_type": "authentication", "action": "login", "user_id": user, "details": {"n": at}}


def numbers(kit: Kit, cid: CID | str | None) -> list[int]:
    assert cid is not None
    return [row.event["details"]["n"] for row in kit.stream.load(str(cid)).rows]


def test_the_names_known_early_are_those_declared() -> None:
    assert {name for name, stream in STREAMS.items() if stream.event is not None} == EVENT_STREAMS


def test_a_flush_names_exactly_the_events_since_the_last_one(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        for at in range(5):
            kit.stream.append("audit", events=[login(at)])
        first = kit.stream.flush("audit")
        assert kit.stream.flush("audit").cid == first.cid, "nothing new is the same dataset"
        kit.bucket.create("noise")
        kit.stream.append("audit", events=[login(at) for at in range(5, 8)])
        second = kit.stream.flush("audit")
        assert (first.count, second.count) == (5, 3)
        kit.ledger.seal()
    with Kit.open(tmp_path / "s") as kit:
        assert numbers(kit, first.cid) == [0, 1, 2, 3, 4]
        assert numbers(kit, second.cid) == [5, 6, 7]
        assert [batch.cid for batch in kit.stream.batches("audit").batches] == [second.cid, first.cid]
        assert kit.engine.streams.manifest(CID.parse(str(second.cid)))["prev"] == first.cid
        assert kit.ledger.verify().ok


def test_more_than_one_manifest_holds_is_one_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "RECORDS_MAX", 100)
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append(
            "health", events=[{"check_id": "c", "status": "healthy", "details": {"n": n}} for n in range(333)]
        )
        done = kit.stream.flush("health")
        assert done.count == 333
        assert numbers(kit, done.cid) == list(range(333))
        first = kit.stream.load(str(done.cid), limit=200)
        rest = kit.stream.load(str(done.cid), cursor=first.cursor)
        assert [row.event["details"]["n"] for row in (*first.rows, *rest.rows)] == list(range(333))
        assert kit.ledger.verify().ok


def test_a_failed_flush_keeps_the_events_for_the_next(tmp_path: Path) -> None:
    def refuse(step: str, path: object) -> None:
        if f"{os.sep}streams{os.sep}" in str(path):
            raise OSError(28, os.strerror(28))

    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(1)])
        faults.hook = refuse
        try:
            with pytest.raises(KitError):
                kit.stream.flush("audit")
        finally:
            faults.hook = None
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(2)])
        assert numbers(kit, kit.stream.flush("audit").cid) == [1, 2]
        assert kit.ledger.verify().ok


def test_a_manifest_that_a_crash_left_is_swept_and_no_fault(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(1)])
        cid = kit.stream.flush("audit").cid
        path = tmp_path / "s/ledger/main/streams" / str(cid)
        orphan = path.read_bytes()
        with kit.engine.state.transaction() as tx:
            for table in ("stream_batches", "stream_flushes", "stream_cursors"):
                tx.execute(f"DELETE FROM {table}")
        assert kit.ledger.verify().ok
        assert kit.engine.streams.sweep() == 1
        assert not path.exists()
        assert numbers(kit, kit.stream.flush("audit").cid) == [1]
        assert orphan


def test_two_callers_flushing_at_once_take_each_event_once(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(at) for at in range(50)])
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.append(str(kit.stream.flush("audit").cid))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 1
        assert numbers(kit, found[0]) == list(range(50))


@pytest.mark.parametrize("damage", ["flip", "remove", "truncate"])
def test_a_damaged_batch_is_named_by_verify(tmp_path: Path, damage: str) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(1)])
        name = str(kit.stream.flush("audit").cid)
        path = tmp_path / "s/ledger/main/streams" / name
        data = path.read_bytes()
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(data[:-1] if damage == "truncate" else data[:40] + bytes([data[40] ^ 1]) + data[41:])
        report = kit.engine.ledger.verify()
        assert any(name in finding for finding in report.findings)
        with pytest.raises(KitError):
            kit.stream.load(name)


def test_queries_are_newest_first_and_paged_over_sealed_and_live_records(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(at, "ann" if at % 2 else "bob") for at in range(20)])
        kit.ledger.seal()
        kit.stream.append("audit", events=[login(at, "ann" if at % 2 else "bob") for at in range(20, 30)])
        seen: list[int] = []
        cursor = None
        while True:
            page = kit.stream.query("audit", match={"user_id": "ann"}, limit=4, cursor=cursor)
            seen += [row.event["details"]["n"] for row in page.rows if row.event]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == [at for at in range(29, -1, -1) if at % 2]
        oldest = kit.stream.query("audit", match={"user_id": "bob"}, oldest_first=True, limit=2).rows
        assert [row.event["details"]["n"] for row in oldest if row.event] == [0, 2]
        times = [row.time_ns for row in kit.stream.query("audit", oldest_first=True).rows]
        middle = times[25]
        assert middle is not None
        late = kit.stream.query("audit", since=middle / 1e9 - 1e-6, text="LOGIN", limit=100).rows
        assert len(late) == 10, "those of the second call"
        rows = kit.ledger.sql("select user_id, count(*) from audit group by 1 order by 1").rows
        assert rows == [["ann", 15], ["bob", 15]]


def test_events_of_an_erased_person_are_counted_but_not_read(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(1, "gone"), login(2, "stays")])
        cid = kit.stream.flush("audit").cid
        kit.engine.keys.destroy(kit.engine.keys.subject_for("gone"))
        rows = kit.stream.load(str(cid)).rows
        assert [(row.erased, row.event is None) for row in rows] == [(True, True), (False, False)]
        table = kit.ledger.sql("select user_id, action, severity from audit order by idx").rows
        assert table == [[None, None, None], ["stays", "login", "info"]]
        assert kit.ledger.verify().ok


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event_type": "x"},
        {"event_type": "x", "action": 3},
        {"event_type": "x", "action": "y", "unknown": 1},
        {"event_type": "x", "action": "y" * 9000},
        {"event_type": "x", "action": "y", "event_time": float("nan")},
        {"event_type": "x", "action": "y", "details": {"deep": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}},
        {"event_type": "x", "action": "y", "details": {"big": "z" * 20_000}},
        {"event_type": "x", "action": "y", "details": {"odd": object()}},
    ],
)
def test_a_bad_event_is_refused_before_anything_is_recorded_in_the_stream(
    tmp_path: Path, event: dict[str, Any]
) -> None:
    with Kit.open(tmp_path / "s") as kit:
        with pytest.raises(InvalidInput):
            kit.stream.append("audit", events=[login(0), event])
        assert kit.stream.query("audit").rows == []
        with pytest.raises(InvalidInput):
            kit.stream.append("no such stream", events=[login(0)])
        with pytest.raises(NotFound):
            kit.stream.load("bafyreigi5cm5kajqmkc65jt6o4v3lqdeeyzw5hdvbope5k3mvsgsqpja54")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(details=st.dictionaries(st.text(max_size=10), JSON, max_size=4), action=st.text(max_size=50))
def test_what_the_check_accepts_is_kept_as_given(details: dict[str, Any], action: str) -> None:
    kept = STREAMS["audit"].check({"event_type": "t", "action": action, "details": details})
    assert kept["action"] == action
    assert kept.get("details", {}) == details
