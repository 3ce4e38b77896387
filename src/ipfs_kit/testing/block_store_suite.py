# ruff: noqa: D102  a test's name is its sentence
"""The conformance kit of block stores: subclass ``BlockStoreSuite``, provide the fixture, run pytest.

::

    class TestMine(BlockStoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            with MyStore(tmp_path) as store:
                yield store

        def flip(self, store, cid):          # behind the store's back
            ...
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ipfs_kit.blocks import BlockStore
from ipfs_kit.errors import BlockNotFound, IntegrityError
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import BLAKE3, DAG_CBOR, DAG_PB, IDENTITY, RAW


def block(number: int, size: int = 100) -> tuple[CID, bytes]:
    """A distinct block and its CID."""
    data = (number.to_bytes(8, "big") * (size // 8 + 1))[:size] if size >= 8 else number.to_bytes(8, "big")[8 - size :]
    return CID.of(data), data


class BlockStoreSuite:
    """What every block store must do; see the rules in ``ipfs_kit.blocks``."""

    @pytest.fixture
    def store(self) -> Iterator[BlockStore]:
        """An empty store, closed after the test."""
        raise NotImplementedError("provide the fixture `store`")

    def reopen(self, store: BlockStore) -> BlockStore | None:
        """Close and open the store again; None where blocks do not outlive the object."""
        return None

    def flip(self, store: BlockStore, cid: CID) -> bool:
        """Change one stored bit of a synced block behind the store's back; False where that is impossible."""
        return False

    def test_a_block_comes_back_as_it_was_put(self, store: BlockStore) -> None:
        for size in (0, 1, 35, 100, 127, 128, 16_383, 16_384, 1_048_576, 2_097_153):
            cid, data = block(size, size)
            assert store.put(cid, data) is True
            assert store.get(cid) == data
            assert store.size(cid) == size
            assert store.has(cid)

    def test_a_block_survives_sync_and_is_still_read(self, store: BlockStore) -> None:
        cid, data = block(1)
        store.put(cid, data)
        store.sync()
        assert store.get(cid) == data
        assert store.size(cid) == len(data)

    def test_putting_twice_stores_once(self, store: BlockStore) -> None:
        cid, data = block(2)
        assert store.put(cid, data) is True
        assert store.put(cid, data) is False
        store.sync()
        assert store.put(cid, data) is False
        assert list(store.cids()) == [cid]

    def test_an_absent_block_is_named_in_the_error(self, store: BlockStore) -> None:
        cid, _ = block(3)
        assert not store.has(cid)
        for call in (store.get, store.size):
            with pytest.raises(BlockNotFound, match=str(cid)):
                call(cid)
        with pytest.raises(BlockNotFound):
            list(store.get_many([cid]))

    def test_bytes_that_do_not_match_are_refused_and_not_stored(self, store: BlockStore) -> None:
        cid, _ = block(4)
        with pytest.raises(IntegrityError):
            store.put(cid, b"other bytes")
        with pytest.raises(IntegrityError):
            store.put_many([(cid, b"other bytes")])
        assert not store.has(cid)

    def test_versions_and_codecs_of_one_multihash_name_one_block(self, store: BlockStore) -> None:
        data = b"\x0a\x02\x08\x01"
        first = CID.of(data, DAG_PB, version=0)
        store.put(first, data)
        for other in (CID.of(data, DAG_PB), CID.of(data, RAW)):
            assert store.has(other)
            assert store.get(other) == data
            assert store.put(other, data) is False
        store.sync()
        assert [cid.multihash for cid in store.cids()] == [first.multihash]

    def test_other_hashes_are_kept_and_verified(self, store: BlockStore) -> None:
        data = b"hashed with blake3"
        cid = CID.of(data, RAW, BLAKE3)
        assert store.put(cid, data)
        store.sync()
        assert store.get(cid) == data
        with pytest.raises(IntegrityError):
            store.put(CID.of(b"x", RAW, BLAKE3), b"y")

    def test_an_identity_cid_carries_its_block(self, store: BlockStore) -> None:
        cid = CID.of(b"tiny", RAW, IDENTITY)
        assert store.has(cid)
        assert store.get(cid) == b"tiny"
        assert store.size(cid) == 4
        store.put(cid, b"tiny")
        store.sync()
        assert list(store.cids()) == []

    def test_batches_do_what_single_calls_do(self, store: BlockStore) -> None:
        items = [block(n, 50 + n % 300) for n in range(3000)]
        assert store.put_many(items[:2000]) == 2000
        store.sync()
        assert store.put_many(items) == 1000
        wanted = [cid for cid, _ in items]
        assert store.has_many([*wanted, block(9999)[0]]) == [True] * 3000 + [False]
        assert list(store.get_many(reversed(wanted))) == list(reversed(items))
        store.sync()
        assert list(store.get_many(wanted)) == items
        assert sorted(store.cids()) == sorted(wanted)

    def test_one_batch_may_repeat_a_block(self, store: BlockStore) -> None:
        item = block(5)
        assert store.put_many([item, item, item]) == 1
        assert list(store.get_many([item[0]] * 3)) == [item] * 3

    def test_a_deleted_block_is_gone_and_may_come_back(self, store: BlockStore) -> None:
        if not store.properties.deletes:
            pytest.skip("the store does not delete")
        cid, data = block(6)
        assert store.delete(cid) is False
        store.put(cid, data)
        assert store.delete(cid) is True
        assert not store.has(cid)
        assert store.put(cid, data) is True
        store.sync()
        assert store.delete(cid) is True
        assert store.put(cid, data) is True
        assert store.get(cid) == data

    def test_codecs_are_listed(self, store: BlockStore) -> None:
        items = [(CID.of(data, codec), data) for codec, data in ((RAW, b"r"), (DAG_CBOR, b"\xa0"), (DAG_PB, b""))]
        store.put_many(items)
        store.sync()
        assert sorted(store.cids()) == sorted(cid for cid, _ in items)

    def test_many_threads_share_one_store(self, store: BlockStore) -> None:
        items = [block(n, 200) for n in range(600)]
        errors: list[BaseException] = []

        def work(start: int) -> None:
            try:
                for number in range(600):
                    cid, data = items[(start + number) % 600]
                    store.put(cid, data)
                    if number % 50 == 0:
                        store.sync()
                    assert store.get(cid) == data
                    assert store.has(cid)
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=work, args=(n * 150,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not errors
        assert sorted(store.cids()) == sorted(cid for cid, _ in items)

    def test_synced_blocks_outlive_the_store_object(self, store: BlockStore) -> None:
        items = [block(n) for n in range(100)]
        store.put_many(items)
        store.sync()
        again = self.reopen(store)
        if again is None:
            pytest.skip("blocks do not outlive the store")
        with again:
            assert list(again.get_many(cid for cid, _ in items)) == items

    def test_a_flipped_bit_is_found_and_named(self, store: BlockStore) -> None:
        items = [block(n) for n in range(3)]
        store.put_many(items)
        store.sync()
        if not self.flip(store, items[1][0]):
            pytest.skip("stored bytes cannot be reached")
        with pytest.raises(IntegrityError, match=str(items[1][0])):
            store.get(items[1][0])
        with pytest.raises(IntegrityError):
            list(store.get_many(cid for cid, _ in items))
        assert store.get(items[0][0]) == items[0][1]
        assert store.get(items[2][0]) == items[2][1]
