"""The pack store beyond the suite: packs on disk, many processes, windows, marks, compaction, reading only."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import threading
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.blocks import pack_layout, pack_writer
from ipfs_kit.blocks.pack_layout import Kind
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import BlockNotFound, BudgetExceeded, FormatError, ReadOnly, StorageFailed, StoreNotFound
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_PB, RAW
from ipfs_kit.testing.block_store_suite import block


def fill(store: PackStore, numbers: range, size: int = 200) -> list[tuple[CID, bytes]]:
    items = [block(n, size) for n in numbers]
    store.put_many(items)
    store.sync()
    return items


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_pack_is_a_car_that_names_its_descriptor_and_holds_every_block(tmp_path: Path) -> None:
    from ipfs_kit.ipld import car

    with PackStore.open(tmp_path) as store:
        items = fill(store, range(50))
        (stat,) = store.pack_stats()
        assert stat.kind == "leaf"
    data = (tmp_path / "packs" / stat.name).read_bytes()
    reader = car.read_car(io.BytesIO(data))
    found = list(reader)
    assert [cid for cid, _ in found[:1]] == list(reader.roots)
    assert found[1:] == items


def test_nodes_leaves_and_each_key_domain_have_their_own_packs(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as store:
        leaf, node = CID.of(b"leaf", RAW), CID.of(b"\xa0", DAG_CBOR)
        store.put(leaf, b"leaf")
        store.put(node, b"\xa0")
        store.domain("anna").put(*block(1))
        store.domain("ben").put(*block(2))
        store.sync()
        kinds = sorted((stat.kind, stat.domain or "") for stat in store.pack_stats())
    assert kinds == [("dag", ""), ("leaf", ""), ("sealed", "anna"), ("sealed", "ben")]


def test_the_same_bytes_under_a_codec_with_links_are_kept_under_that_codec(tmp_path: Path) -> None:
    data = b"\x0a\x02\x08\x01"
    with PackStore.open(tmp_path) as store:
        assert store.put(CID.of(data, RAW), data)
        store.sync()
        store.put(CID.of(data, DAG_PB), data)
        assert store.put(CID.of(data, RAW), data) is False
        store.sync()
        assert list(store.cids()) == [CID.of(data, DAG_PB)]


def test_short_lived_processes_go_on_with_the_pack_of_their_predecessor(tmp_path: Path) -> None:
    for number in range(20):
        with PackStore.open(tmp_path) as store:
            store.put(*block(number))
    assert len(list((tmp_path / "packs").glob("*.car"))) == 1


def test_opening_twice_gives_one_store_until_both_have_closed(tmp_path: Path) -> None:
    first = PackStore.open(tmp_path)
    second = PackStore.open(os.path.join(tmp_path, "..", tmp_path.name))
    assert first is second
    first.put(*block(1))
    first.close()
    assert second.get(block(1)[0]) == block(1)[1]
    second.close()
    with pytest.raises(StorageFailed, match="closed"):
        second.get(block(1)[0])


def test_the_index_can_be_thrown_away_and_comes_back_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_writer, "PACK_BYTES_MAX", 2000)
    with PackStore.open(tmp_path) as store:
        for start in range(0, 60, 10):
            fill(store, range(start, start + 10))
        before = dict(store.index.multihashes())
        assert sum(stat.sealed for stat in store.pack_stats()) >= 4
    shutil.rmtree(tmp_path / "cache")
    with PackStore.open(tmp_path) as store:
        assert dict(store.index.multihashes()) == before
    (tmp_path / "cache" / "index" / "data.mdb").write_bytes(b"garbage" * 5000)
    with PackStore.open(tmp_path) as store:
        assert dict(store.index.multihashes()) == before


def test_an_index_of_another_boot_is_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipfs_kit.blocks import index

    with PackStore.open(tmp_path) as store:
        items = fill(store, range(5))
        place = store.index.lookup(items[0][0].multihash)
        store.index.update(lambda txn: txn.remove(items[0][0].multihash))
    monkeypatch.setattr(index, "boot_id", lambda: "after-reboot")
    with PackStore.open(tmp_path) as store:
        assert store.index.lookup(items[0][0].multihash) == place
    monkeypatch.setattr(index, "_CLEAN_ROWS_MIN", 1)
    with PackStore.open(tmp_path) as store:
        fill(store, range(5, 6))
        store.index.update(lambda txn: txn.remove(items[1][0].multihash))
    monkeypatch.setattr(index, "boot_id", lambda: "after-clean-reboot")
    with PackStore.open(tmp_path) as store:
        # Marked clean at the last close, so it was believed and not rebuilt.
        assert not store.has(items[1][0])


def test_a_damaged_sidecar_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_writer, "PACK_BYTES_MAX", 1000)
    with PackStore.open(tmp_path) as store:
        items = fill(store, range(10))
        fill(store, range(10, 11))
    for path in (tmp_path / "packs").glob("*.idx"):
        data = bytearray(path.read_bytes())
        data[60] ^= 1
        path.write_bytes(data)
    shutil.rmtree(tmp_path / "cache")
    with PackStore.open(tmp_path) as store:
        assert list(store.get_many(cid for cid, _ in items)) == items


def test_read_only_reads_and_leaves_every_byte_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        PackStore.open(tmp_path, read_only=True)
    with PackStore.open(tmp_path) as store:
        items = fill(store, range(20))
    shutil.rmtree(tmp_path / "cache")
    before = tree(tmp_path)
    with PackStore.open(tmp_path, read_only=True) as store:
        assert list(store.get_many(cid for cid, _ in items)) == items
        with store.window(), pytest.raises(ReadOnly):
            store.put(*block(99))
    assert tree(tmp_path) == before
    PackStore.open(tmp_path).close()
    before = tree(tmp_path)
    with PackStore.open(tmp_path, read_only=True) as store:
        assert list(store.get_many(cid for cid, _ in items)) == items
    after = tree(tmp_path)
    # Reader slots of the index are the one thing that moves.
    del before["cache/index/lock.mdb"], after["cache/index/lock.mdb"]
    assert after == before


def test_a_block_larger_than_any_reader_accepts_is_refused(tmp_path: Path) -> None:
    data = bytes(pack_layout.FRAME_BYTES_MAX)
    with PackStore.open(tmp_path) as store, pytest.raises(BudgetExceeded):
        store.put(CID.of(data), data)


def test_memory_for_unsynced_blocks_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipfs_kit.blocks import store as module

    monkeypatch.setattr(module, "_PENDING_BLOCKS", 100)
    monkeypatch.setattr(module, "_CHUNK_ITEMS", 50)
    most = 0
    with PackStore.open(tmp_path) as store:
        for start in range(0, 5000, 50):
            store.put_many(block(n) for n in range(start, start + 50))
            most = max(most, len(store._pending))
        store.sync()
        assert store.index.count() == 5000
    assert most <= 300


# -- several processes --------------------------------------------------------------------------------------------


def mix(directory: str, seed: int, results: multiprocessing.Queue[tuple[int, str]]) -> None:
    try:
        with StateDB.open(os.path.join(directory, "state.db"), []) as state, PackStore.open(directory, state) as store:
            for round_ in range(8):
                items = [block((seed + round_) % 6 * 50 + n, 64 + n) for n in range(50)]
                with store.window():
                    store.put_many(items)
                    store.sync()
                    with state.transaction() as tx:
                        store.retain(tx, [cid for cid, _ in items])
                assert list(store.get_many(cid for cid, _ in items)) == items
        results.put((seed, ""))
    except BaseException as exc:
        results.put((seed, repr(exc)))


def test_four_processes_mix_reads_and_writes_on_one_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[tuple[int, str]] = context.Queue()
    children = [context.Process(target=mix, args=(str(tmp_path), seed, results)) for seed in range(4)]
    for child in children:
        child.start()
    ends = dict(results.get(timeout=60) for _ in children)
    for child in children:
        child.join(30)
    assert ends == dict.fromkeys(range(4), "")
    with PackStore.open(tmp_path) as store:
        items = [block(number * 50 + n, 64 + n) for number in range(6) for n in range(50)]
        assert list(store.get_many(cid for cid, _ in items)) == items
        assert len(list(store.cids())) == 300


def test_a_forked_child_may_not_use_the_store_but_may_open_it(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as store:
        store.put(*block(1))
        store.sync()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(StorageFailed):
                    store.get(block(1)[0])
                with PackStore.open(tmp_path) as mine:
                    mine.put(*block(2))
                code = 0 if mine is not store else 2
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.get(block(2)[0]) == block(2)[1]


# -- what collection needs ----------------------------------------------------------------------------------------


def test_a_condemned_block_that_is_put_again_is_written_anew_and_unmarked(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as store:
        items = fill(store, range(3))
        keys = [cid.multihash for cid, _ in items]
        assert store.condemn([*keys, b"\x12\x20" + bytes(32)]) == 3
        assert store.condemn(keys) == 0
        before = store.index.lookup(keys[0])
        assert store.get(items[0][0]) == items[0][1]
        assert store.put(*items[0]) is True
        store.sync()
        assert store.index.lookup(keys[0]) != before
        assert [key for key, _ in store.condemned()] == sorted(keys[1:])
        assert store.rescued() == [keys[0]]
        assert store.remove_condemned(keys) == (2, sum(len(data) for _, data in items[1:]))
        assert store.has_many(cid for cid, _ in items) == [True, False, False]


def test_inside_a_window_a_condemned_block_counts_as_absent(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as store:
        ((cid, data),) = fill(store, range(1))
        store.condemn([cid.multihash])
        assert store.has(cid)
        with store.window():
            assert not store.has(cid)
            store.put(cid, data)
            assert store.has(cid)


def test_retain_clears_marks_and_refuses_what_is_absent(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", []) as state, PackStore.open(tmp_path, state) as store:
        ((cid, _),) = fill(store, range(1))
        store.condemn([cid.multihash])
        unsynced = block(7)
        store.put(*unsynced)
        with state.transaction() as tx:
            store.retain(tx, [cid, unsynced[0]])
        assert list(store.condemned()) == []
        assert store.remove_condemned([cid.multihash]) == (0, 0)
        with pytest.raises(BlockNotFound), state.transaction() as tx:
            store.retain(tx, [block(99)[0]])


def test_the_collector_waits_for_older_windows_and_not_for_newer_ones(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as store:
        entered, leave = threading.Event(), threading.Event()

        def old() -> None:
            with store.window(), store.window():
                entered.set()
                leave.wait(30)

        writer = threading.Thread(target=old)
        writer.start()
        assert entered.wait(30)
        epoch = store.advance_epoch(5)
        with store.window():
            assert not store.old_windows_closed(0.05)
            leave.set()
            writer.join(30)
            assert store.old_windows_closed(5)
        assert store.advance_epoch(5) == epoch + 1


@pytest.mark.parametrize("sealed", [True, False])
def test_compaction_keeps_live_blocks_and_gives_the_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    with PackStore.open(tmp_path) as store:
        items = fill(store, range(100))
        (old,) = store.pack_stats()
        if sealed:
            monkeypatch.setattr(pack_writer, "PACK_BYTES_MAX", 1)
            fill(store, range(100, 101))
            monkeypatch.undo()
            assert next(s for s in store.pack_stats() if s.pack_id == old.pack_id).sealed
            store.delete(block(100, 200)[0])
        assert store.get(items[1][0]) == items[1][1]
        keys = [cid.multihash for cid, _ in items[::2]]
        store.condemn(keys)
        store.remove_condemned(keys)
        stat = next(s for s in store.pack_stats() if s.pack_id == old.pack_id)
        assert stat.garbage_bytes > 50 * 200
        freed = store.compact(old.pack_id)
        assert freed is not None
        assert freed > 50 * 200
        assert old.name not in os.listdir(tmp_path / "packs")
        for cid, data in items[1::2]:
            assert store.get(cid) == data
        assert not store.has(items[0][0])
        (stat,) = [s for s in store.pack_stats() if s.live_blocks]
        assert (stat.live_blocks, stat.live_bytes) == (50, 50 * 200)
    shutil.rmtree(tmp_path / "cache")
    with PackStore.open(tmp_path) as store:
        assert store.has_many(cid for cid, _ in items) == [False, True] * 50


def test_frames_are_folded_from_where_the_last_fold_ended(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as store:
        first = fill(store, range(5))
        ((pack_id, position),) = store.pack_positions().items()
        second = fill(store, range(5, 9))
        assert [(frame.cid, data) for frame, data in store.frames(pack_id)] == first + second
        assert [(frame.cid, data) for frame, data in store.frames(pack_id, position)] == second


# -- layout -------------------------------------------------------------------------------------------------------


@given(st.sampled_from(list(Kind)), st.binary(min_size=7, max_size=7))
def test_names_and_ids_of_packs_are_one_to_one(kind: Kind, random: bytes) -> None:
    pack_id = pack_layout.pack_id_new(kind, random)
    assert pack_layout.parse_name(pack_layout.pack_name(pack_id)) == pack_id
    assert pack_layout.kind_of(pack_id) is kind


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=2, max_size=130), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.just(85)
        )
    )
)
def test_a_sidecar_reads_back_and_any_flipped_byte_is_noticed(rows: list[tuple[bytes, int, int, int]]) -> None:
    data = pack_layout.encode_sidecar(1 << 56 | 5, 1000, rows)
    pack_id, size, found = pack_layout.decode_sidecar(data)
    assert (pack_id, size, list(found)) == (1 << 56 | 5, 1000, sorted(rows))
    for at in {0, len(data) // 2, len(data) - 1}:
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises(FormatError):
            pack_layout.decode_sidecar(bytes(bad))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_frame_or_a_frame_inside_them(data: bytes) -> None:
    try:
        frame = pack_layout.decode_frame(data, 0, len(data))
    except FormatError:
        return
    assert 0 <= frame.offset <= frame.offset + frame.length <= len(data)


def test_a_reader_and_a_writer_of_one_process_see_the_same_blocks(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as writer:
        fill(writer, range(3))
        with PackStore.open(tmp_path, read_only=True) as reader:
            assert reader is not writer
            assert reader.get(block(1, 200)[0]) == block(1, 200)[1]
            ((cid, data),) = fill(writer, range(7, 8))
            assert reader.get(cid) == data
        assert writer.get(cid) == data
    with PackStore.open(tmp_path, read_only=True) as reader, PackStore.open(tmp_path) as writer:
        ((cid, data),) = fill(writer, range(8, 9))
        assert reader.get(cid) == data
