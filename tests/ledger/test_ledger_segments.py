"""Sealing moves records into Parquet and back without losing a byte, whatever fails on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_segments_support import OPS, ROOT, T0, Store, intent_and_outcome, record

from ipfs_kit.durable import faults
from ipfs_kit.errors import Expired, IntegrityError, InvalidInput, MissingExtra, StorageFailed
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ledger import _segment_rows, batches, columns, segments
from ipfs_kit.ledger.record import CID_PREFIX, FIELDS
from ipfs_kit.ledger.segments import SealPolicy, segment_name
from ipfs_kit.ledger.select import Where, select

ALL = SealPolicy(rows=300, age_s=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    if not made.state.closed:
        made.state.close()


def test_records_come_back_from_columns_as_the_same_bytes() -> None:
    records = [record(i) for i in range(2500)] + [record(7, subject=None), *intent_and_outcome(9)]
    table = columns.to_table(records, 40)
    assert table["raw"].null_count == len(records)
    assert table["index"][0].as_py() == 40
    assert columns.from_table(table) == records
    assert columns.record_cids(table)[0][:4] == CID_PREFIX


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=8), st.binary(max_size=8),
    st.just(ROOT), st.lists(st.just(ROOT), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.lists(st.tuples(st.integers(0, len(FIELDS) - 1), VALUES), max_size=4))
def test_any_dag_cbor_record_round_trips_in_columns_or_raw(changes: list[tuple[int, object]]) -> None:
    row = dag_cbor.decode(record(3))
    for at, value in changes:
        row[at] = value
    records = [record(1), dag_cbor.encode(row), record(2)]
    assert columns.from_table(columns.to_table(records, 0)) == records


def test_bytes_that_are_no_record_are_kept_raw() -> None:
    records = [b"\xa0", b"junk", record(1), dag_cbor.encode([1, 2]), b""]
    table = columns.to_table(records, 0)
    assert table["raw"].to_pylist() == [b"\xa0", b"junk", None, dag_cbor.encode([1, 2]), b""]
    assert columns.from_table(table) == records


def test_sealing_moves_records_and_every_reader_still_finds_them(store: Store) -> None:
    records = [record(i) for i in range(1000)]
    store.append(records)
    made = store.segments.seal("main", ALL, T0 + 10**12)
    assert [(s.first_index, s.rows) for s in made] == [(0, 300), (300, 300), (600, 300), (900, 100)]
    assert store.state.query("SELECT count(*) FROM batches") == [(0,)]
    assert store.everything() == records
    reader = batches.Reader(store.state, store.segments)
    assert reader.record_at("main", 567) == records[567]
    assert reader.find(records[567][4:20]) == [("main", 567)]
    assert reader.index_at_time("main", T0 + 421_500_000) == 421
    assert store.segments.index_at_time("main", T0 - 1) is None
    assert list(store.segments.check("main")) == []
    assert {p.name for p in Path(store.segments.directory("main")).iterdir()} == store.segments.files("main")


def test_small_young_tail_stays_in_the_state_file(store: Store) -> None:
    store.append([record(i) for i in range(500)])
    now = T0 + 10**9
    assert store.segments.due("main", SealPolicy(rows=1000, age_s=60), now) == []
    assert store.segments.seal("main", SealPolicy(rows=1000, age_s=60), now) == []
    assert store.segments.due("main", SealPolicy(rows=400, age_s=60), now) == [(0, 400)]
    assert store.segments.due("main", SealPolicy(rows=1000, age_s=60), now + 70 * 10**9) == [(0, 500)]
    assert store.segments.due("main", SealPolicy(rows=10**6, bytes=30_000, age_s=60), now)[0] == (0, 200)


def test_records_not_yet_integrated_are_never_sealed(store: Store) -> None:
    store.append([record(i) for i in range(300)])
    with store.state.transaction() as tx:
        tx.execute("UPDATE ledger_logs SET size = 150 WHERE log = 'main'")
    assert [s.stop for s in store.segments.seal("main", ALL, T0 + 10**12)] == [100]


def test_columns_hold_no_plaintext_of_sealed_fields(store: Store) -> None:
    store.append([record(i, target="canary-target", args={"x": "canary-args"}) for i in range(100)])
    (segment,) = store.segments.seal("main", ALL, T0 + 10**12)
    table = columns.need_pyarrow()
    assert table
    held = store.segments.record("main", 5)
    assert held is not None
    assert b"canary" not in held
    assert b"canary" not in (Path(store.segments.directory("main")) / segment.name).read_bytes()


def test_records_that_differ_from_the_log_are_not_dropped(store: Store) -> None:
    store.append([record(i) for i in range(300)])
    store.entries["main"][170] = CID_PREFIX + bytes(32)
    with pytest.raises(IntegrityError, match="record 170"):
        store.segments.seal("main", ALL, T0 + 10**12)
    assert store.state.query("SELECT sum(count) FROM batches") == [(300,)]
    assert store.segments.registered() == []


@pytest.mark.parametrize("at", [100, 5000, -20])
def test_a_flipped_bit_in_a_segment_is_found_and_named(store: Store, at: int) -> None:
    store.append([record(i) for i in range(300)])
    (segment,) = store.segments.seal("main", ALL, T0 + 10**12)
    path = Path(store.segments.directory("main")) / segment.name
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert [p for p, _ in store.segments.check("main")] == [str(path)]


def test_a_damaged_manifest_and_a_missing_file_are_found(store: Store) -> None:
    store.append([record(i) for i in range(600)])
    store.segments.seal("main", ALL, T0 + 10**12)
    folder = Path(store.segments.directory("main"))
    next(folder.glob("*.manifest")).write_bytes(b"\xa0")
    sorted(folder.glob("*.parquet"))[0].unlink()
    faults_found = [fault for _, fault in store.segments.check("main")]
    assert any("manifest" in fault for fault in faults_found) or any("read" in fault for fault in faults_found)
    with pytest.raises(IntegrityError):
        store.segments.record("main", 0)


def by_family(store: Store) -> Store:
    store.segments = segments.Segments(store.state, store.directory, store.leaves, lambda: {"files": 9, "ledger": 1})
    return store


def expire(store: Store, doomed: list[segments.Segment], log: str = "main") -> None:
    with store.state.transaction() as tx:
        for segment in doomed:
            assert _segment_rows.expire(tx, segment, "age", 1)
    with store.segments.sealing():
        store.segments.sweep(log)
    store.segments.forget()


def test_a_span_is_one_file_a_family_and_reads_as_one(store: Store) -> None:
    records = [record(i) for i in range(700)] + [b"junk", *intent_and_outcome(900)]
    store.append(records)
    by_family(store)
    made = store.segments.seal("main", ALL, T0 + 10**12)
    assert [(s.first_index, s.family, s.rows) for s in made[:3]] == [(0, "", 120), (0, "files", 120), (0, "ledger", 60)]
    assert {s.stop for s in made} == {300, 600, 703}
    assert store.everything() == records
    reader = batches.Reader(store.state, store.segments)
    for index in (0, 3, 299, 300, 505, 700):
        assert reader.record_at("main", index) == records[index]
    assert reader.find(records[568][4:20]) == [("main", 568)]
    assert reader.find(records[702][4:20]) == [("main", 701), ("main", 702)]
    assert reader.index_at_time("main", T0 + 421_500_000) == 421
    everything = [(i, data) for i, data in enumerate(records) if data != b"junk"]
    assert (
        list(select(store.state, store.segments, "main", Where(status=frozenset({"ok"})), 0, 700)) == everything[:700]
    )
    back = select(store.state, store.segments, "main", Where(status=frozenset({"ok"})), 250, 650, newest_first=True)
    assert list(back) == everything[250:650][::-1]
    files = select(store.state, store.segments, "main", Where(stream=frozenset({"files"})), 0, 700)
    assert [index for index, _ in files] == [i for i in range(700) if i % 5 < 2]
    assert list(store.segments.check("main")) == []


def test_what_expired_answers_none_and_the_rest_stays(store: Store) -> None:
    records = [record(i) for i in range(900)]
    store.append(records)
    made = by_family(store).segments.seal("main", ALL, T0 + 10**12)
    store.segments.record("main", 1)
    expire(
        store,
        [s for s in made if s.family == "files" and s.first_index == 0] + [s for s in made if s.first_index == 300],
    )
    gone = {i for i in range(300) if i % 5 < 2} | set(range(300, 600))
    assert store.everything() == [None if i in gone else data for i, data in enumerate(records)]
    assert dict(store.segments.records("main", 298, 301)) == {298: records[298], 299: records[299], 300: None}
    with pytest.raises(Expired, match="its proof still verifies"):
        batches.Reader(store.state, store.segments).record_at("main", 1)
    assert store.segments.find("main", records[1][4:20]) == []
    assert store.segments.index_at_time("main", T0 + 450_500_000) == 299
    folder = Path(store.segments.directory("main"))
    assert {p.name for p in folder.iterdir()} == store.segments.files("main")
    assert list(store.segments.check("main")) == []
    store.state.close()
    store.open()
    assert store.everything() == [None if i in gone else data for i, data in enumerate(records)]


def test_a_reader_on_its_way_to_a_file_that_expires_finds_nothing_there(store: Store) -> None:
    store.append([record(i) for i in range(300)])
    made = by_family(store).segments.seal("main", ALL, T0 + 10**12)
    other = segments.Segments(store.state, store.directory)
    holding = other._holding("main", 1)
    expire(store, [s for s in made if s.family == "files"])
    other._holding = lambda log, index: holding  # type: ignore[method-assign]  # looked before the expiry
    assert other.record("main", 1) is None
    assert other.record("main", 2) is not None


def test_without_pyarrow_sealing_says_what_to_install(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append([record(i) for i in range(300)])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="pip install pyarrow"):
        store.segments.seal("main", ALL, T0 + 10**12)
    assert store.state.query("SELECT sum(count) FROM batches") == [(300,)]


def test_a_policy_outside_its_bounds_is_refused() -> None:
    with pytest.raises(InvalidInput):
        SealPolicy(rows=0)


def test_segment_names_sort_in_log_order() -> None:
    assert segment_name(0, 9, b"\xab" * 32) < segment_name(10, 99, b"\x01" * 32)


class _Refused(Exception):
    """Stands for the death of the process at a durable call."""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["error", "death"])
def test_a_failure_at_any_durable_call_of_sealing_loses_no_record(tmp_path: Path, how: str) -> None:
    records = [record(i) for i in range(200)]
    step, finished = 0, False
    while not finished:
        step += 1
        assert step < 200
        folder = tmp_path / f"{how}{step}"
        folder.mkdir()
        calls = [0]

        def hook(operation: str, path: str, calls: list[int] = calls, step: int = step) -> None:
            calls[0] += 1
            if calls[0] == step:
                raise OSError(5, "injected") if how == "error" else _Refused

        store = Store(folder)
        store.append(records)
        store.state.close()
        try:
            faults.hook = lambda *_: None  # so that the state file is opened with the seam
            store.open()
            faults.hook = hook
            store.segments.seal("main", SealPolicy(rows=100, age_s=0), T0 + 10**12)
            finished = True
        except (_Refused, StorageFailed, OSError):
            pass
        finally:
            faults.hook = None
            store.state.close()
        store.open()
        assert store.everything() == records
        store.segments.seal("main", SealPolicy(rows=100, age_s=0), T0 + 10**12)
        assert store.everything() == records
        assert list(store.segments.check("main")) == []
        assert {p.name for p in Path(store.segments.directory("main")).iterdir()} >= store.segments.files("main")
        store.state.close()
    assert step > 8


def test_operations_keep_their_names(store: Store) -> None:
    store.append([record(i) for i in range(100)])
    store.segments.seal("main", ALL, T0 + 10**12)
    data = store.segments.record("main", 3)
    assert data is not None
    assert dag_cbor.decode(data)[FIELDS.index("operation")] == OPS[3]
