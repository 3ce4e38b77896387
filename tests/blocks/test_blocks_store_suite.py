"""The conformance kit on every store of this package."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipfs_kit.blocks import BlockStore, MemoryStore
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.blocks.wrappers import CachingStore, RetryingStore, RetryPolicy, VerifyingStore, compose
from ipfs_kit.errors import IntegrityError, StorageFailed, Timeout
from ipfs_kit.ipld.cid import CID
from ipfs_kit.testing.block_store_suite import BlockStoreSuite, block


class TestMemory(BlockStoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[BlockStore]:
        with MemoryStore() as store:
            yield store

    def flip(self, store: BlockStore, cid: CID) -> bool:
        assert isinstance(store, MemoryStore)
        codec, data = store._blocks[cid.multihash]
        store._blocks[cid.multihash] = (codec, bytes([data[0] ^ 1]) + data[1:])
        return True


class TestPacks(BlockStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[BlockStore]:
        with PackStore.open(tmp_path) as store:
            yield store

    def reopen(self, store: BlockStore) -> BlockStore | None:
        assert isinstance(store, PackStore)
        store.close()
        return PackStore.open(store.directory)

    def flip(self, store: BlockStore, cid: CID) -> bool:
        assert isinstance(store, PackStore)
        place = store.index.lookup(cid.multihash)
        assert place is not None
        with open(store._files.path(place.pack_id), "r+b") as file:
            file.seek(place.offset)
            byte = file.read(1)[0]
            file.seek(place.offset)
            file.write(bytes([byte ^ 1]))
        return True


class TestDomain(BlockStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[BlockStore]:
        with PackStore.open(tmp_path) as store:
            yield store.domain("subject-1")


class TestComposed(BlockStoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[BlockStore]:
        policy = RetryPolicy(3, 0.0, 0.0, threading.Event().wait)
        with compose(MemoryStore(), verify=True, retry=policy, cache_bytes=1 << 20) as store:
            yield store


class Failing(MemoryStore):
    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def get(self, cid: CID) -> bytes:
        if self.failures:
            self.failures -= 1
            raise Timeout("no answer")
        return super().get(cid)


def test_a_passing_failure_is_retried_and_a_lasting_one_raised() -> None:
    waits: list[float] = []
    cid, data = block(1)
    for failures, works in ((2, True), (3, False)):
        inner = Failing(failures)
        inner.put(cid, data)
        store = RetryingStore(inner, RetryPolicy(3, 1.0, 1.5, waits.append))
        if works:
            assert store.get(cid) == data
        else:
            with pytest.raises(Timeout):
                store.get(cid)
    assert waits == [1.0, 1.5, 1.0, 1.5]


def test_a_lost_connection_ends_in_our_error() -> None:
    class Cut(MemoryStore):
        def sync(self) -> None:
            raise ConnectionResetError("reset by peer")

    with pytest.raises(StorageFailed, match="memory does not answer"):
        RetryingStore(Cut(), RetryPolicy(2, 0, 0, lambda s: None)).sync()


def test_the_verifying_wrapper_does_not_trust_the_far_side() -> None:
    class Lying(MemoryStore):
        def get(self, cid: CID) -> bytes:
            return b"lie"

    cid, data = block(2)
    store = VerifyingStore(Lying())
    store.put(cid, data)
    with pytest.raises(IntegrityError):
        store.get(cid)


def test_the_cache_stays_within_its_bytes_and_forgets_deleted_blocks() -> None:
    store = CachingStore(MemoryStore(), bytes_max=1000, block_bytes_max=500)
    items = [block(n, 300) for n in range(10)] + [block(11, 600)]
    store.put_many(items)
    for cid, data in items:
        assert store.get(cid) == data
    assert store._bytes <= 1000
    assert sum(map(len, store._kept.values())) == store._bytes
    store.delete(items[9][0])
    assert not store.has(items[9][0])
    assert items[9][0].multihash not in store._kept
