"""Every durable call of the pack store failed or killed in turn: what was synced is there, nothing is half-visible."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipfs_kit.blocks import pack_layout, pack_writer
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.durable.state import Schema, StateDB
from ipfs_kit.errors import StorageFailed
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.testing.block_store_suite import block
from ipfs_kit.testing.faults import Recorder, fork_until_call, injected

CALLS_MAX = 400


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal after a few blocks, so that one short run meets every step of a pack's life."""
    monkeypatch.setattr(pack_writer, "PACK_BYTES_MAX", 1500)


def group(number: int) -> list[tuple[CID, bytes]]:
    leaves = [block(number * 100 + n, 100 + n) for n in range(6)]
    node = b"\x82" + bytes([0x18, number + 24]) + b"\x01"
    return [*leaves, (CID.of(node, DAG_CBOR), node)]


def check(directory: Path, acknowledged: set[int], groups: int) -> None:
    """Reopen after a crash: synced groups are whole, every visible block is right, and a new index agrees."""
    for _ in range(2):
        with PackStore.open(directory) as store:
            for number in range(groups):
                for cid, data in group(number):
                    if number in acknowledged or store.has(cid):
                        assert store.get(cid) == data
            for cid in store.cids():
                store.get(cid)
            names = {stat.name for stat in store.pack_stats()}
            on_disk = {name for name in os.listdir(directory / "packs") if name.endswith(".car")}
            assert names == on_disk
            extra = block(99_999, 50)
            store.put(*extra)
            store.sync()
            assert store.get(extra[0]) == extra[1]
        # The second round starts from the packs alone.
        shutil.rmtree(directory / "cache")


def sweep(tmp_path: Path, work: Callable[[Path, Callable[[str], None]], None], groups: int) -> int:
    for number in range(1, CALLS_MAX):
        directory = tmp_path / f"kill-{number}"
        directory.mkdir()
        end = fork_until_call(lambda tell, directory=directory: work(directory, tell), number)
        acknowledged = {int(line) for line in end.output.split()}
        assert end.killed or end.code == 0, end
        check(directory, acknowledged, groups)
        shutil.rmtree(directory)
        if not end.killed:
            assert acknowledged == set(range(groups))
            return number
    raise AssertionError("the work makes more durable calls than expected")


def put_and_seal(directory: Path, tell: Callable[[str], None]) -> None:
    for start in (0, 3):
        with PackStore.open(directory) as store:
            for number in range(start, start + 3):
                store.put_many(group(number))
                store.sync()
                tell(str(number))


@pytest.mark.slow
@pytest.mark.usefixtures("small_packs")
def test_killed_at_every_call_of_put_sync_seal_and_adopt_no_synced_block_is_lost(tmp_path: Path) -> None:
    assert sweep(tmp_path, put_and_seal, 6) > 20


def put_and_compact(directory: Path, tell: Callable[[str], None]) -> None:
    with PackStore.open(directory) as store:
        for number in range(4):
            store.put_many(group(number))
        store.sync()
        for number in range(4):
            tell(str(number))
        for stat in store.pack_stats():
            store.compact(stat.pack_id)


@pytest.mark.slow
@pytest.mark.usefixtures("small_packs")
def test_killed_at_every_call_of_compaction_no_block_is_lost(tmp_path: Path) -> None:
    assert sweep(tmp_path, put_and_compact, 4) > 20


@pytest.mark.slow
@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_any_refused_call_ends_in_storage_failed_and_loses_nothing(tmp_path: Path, error: int) -> None:
    for number in range(1, CALLS_MAX):
        directory = tmp_path / f"{error}-{number}"
        directory.mkdir()
        done: list[str] = []
        failed = False
        with injected(Recorder(fail_at=number, error=error, sticky=error == errno.ENOSPC)):
            try:
                put_and_compact(directory, done.append)
            except StorageFailed:
                failed = True
        check(directory, {int(text) for text in done}, 4)
        shutil.rmtree(directory)
        if not failed:
            return
    raise AssertionError("the work makes more durable calls than expected")


def test_a_refused_sync_poisons_store_and_state_until_reopened(tmp_path: Path) -> None:
    schema = Schema("t", 1, ("CREATE TABLE t (a)",))
    with StateDB.open(tmp_path / "state.db", [schema]) as state:
        store = PackStore.open(tmp_path, state)
        first, second, third = block(1), block(2), block(3)
        store.put(*first)
        store.sync()
        store.put(*second)
        with injected(Recorder(fail_at=1, match=lambda op, path: op == "sync")), pytest.raises(StorageFailed):
            store.sync()
        for call in (store.sync, lambda: store.put(*third), lambda: store.delete(first[0])):
            with pytest.raises(StorageFailed, match="reopen"):
                call()
        with pytest.raises(StorageFailed, match="reopen"), state.transaction():
            raise AssertionError("a poisoned state opened a transaction")
        assert store.get(first[0]) == first[1]
        store.close()
    with StateDB.open(tmp_path / "state.db", [schema]) as state, PackStore.open(tmp_path, state) as store:
        assert store.get(first[0]) == first[1]
        store.put(*third)
        store.sync()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(directory)], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_full_disk_ends_in_storage_failed_and_loses_nothing(small_disk: Path) -> None:
    kept: list[tuple[CID, bytes]] = []
    store = PackStore.open(small_disk)
    with pytest.raises(StorageFailed, match="free disk space"):
        for number in range(40):
            item = block(number, 500_000)
            store.put(*item)
            store.sync()
            kept.append(item)
    store.close()
    assert len(kept) > 3
    with PackStore.open(small_disk) as store:
        assert list(store.get_many(cid for cid, _ in kept)) == kept


def torn(path: Path, keep: int) -> None:
    os.truncate(path, keep)


def test_a_torn_tail_is_cut_off_at_any_byte(tmp_path: Path) -> None:
    with PackStore.open(tmp_path / "whole") as store:
        items = [block(n, 40) for n in range(4)]
        store.put_many(items)
        store.sync()
        last = store.index.lookup(items[3][0].multihash)
        assert last is not None
        name = pack_layout.pack_name(last.pack_id)
    size = (tmp_path / "whole" / "packs" / name).stat().st_size
    for keep in range(size - 1, size - 78, -7):
        copy = tmp_path / "torn"
        (copy / "packs").mkdir(parents=True)
        shutil.copy(tmp_path / "whole" / "packs" / name, copy / "packs")
        torn(copy / "packs" / name, keep)
        with PackStore.open(copy) as store:
            assert list(store.get_many(cid for cid, _ in items[:3])) == items[:3]
            assert not store.has(items[3][0])
            assert store.put(*items[3])
            store.sync()
        shutil.rmtree(copy)


def test_damage_inside_a_pack_is_never_taken_for_a_torn_tail(tmp_path: Path) -> None:
    with PackStore.open(tmp_path) as store:
        items = [block(n, 400) for n in range(5)]
        store.put_many(items)
        store.sync()
        places = [store.index.lookup(cid.multihash) for cid, _ in items]
    assert places[1] is not None
    assert places[3] is not None
    path = tmp_path / "packs" / pack_layout.pack_name(places[1].pack_id)
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(places[1].offset + 7)
        file.write(b"\xff\xff")
        # The third frame's length prefix too, so that the framing itself is lost.
        file.seek(places[3].offset - 36 - 2)
        file.write(b"\xff\xff")
    shutil.rmtree(tmp_path / "cache")
    with PackStore.open(tmp_path) as store:
        assert path.stat().st_size == size
        assert store.has_many(cid for cid, _ in items) == [True, False, True, False, True]
        assert store.get(items[4][0]) == items[4][1]
        store.put(*items[1])
        store.sync()
        assert store.get(items[1][0]) == items[1][1]
    assert path.stat().st_size == size
