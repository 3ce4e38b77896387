"""Reading out of the pack store: the private table, then the index, then the pack, then the hash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from ipfs_kit.blocks._base import block_not_found
from ipfs_kit.blocks.index import Place, unpack_place
from ipfs_kit.blocks.pack_layout import pack_name
from ipfs_kit.errors import IntegrityError
from ipfs_kit.ipld.cid import CID

if TYPE_CHECKING:
    from ipfs_kit.blocks.index import Index
    from ipfs_kit.blocks.pack_files import PackFiles
    from ipfs_kit.blocks.pack_writer import PackWriter

Entry = tuple[int, int, int, int]
"""Pack id, offset, length and codec of a block not yet indexed."""

# get_many reads neighbours together when the gap costs less than another call.
_READ_ITEMS: Final = 256
_READ_GAP_BYTES: Final = 64 * 1024
_READ_RUN_BYTES: Final = 4 * 1024 * 1024


class Reading:
    """The part of the pack store that reads; the names behind ``self`` are the store's."""

    if TYPE_CHECKING:
        _index: Index
        _files: PackFiles
        _by_id: dict[int, PackWriter]
        _pending: dict[bytes, Entry]
        _syncing: dict[bytes, Entry]

        def _usable(self) -> None: ...

    def get(self, cid: CID) -> bytes:
        """See ``BlockStore.get``."""
        if cid.is_identity:
            return cid.digest
        self._usable()
        multihash = cid.multihash
        for _ in range(3):
            entry = self._unsynced(multihash) or self._index.lookup(multihash)
            if entry is None:
                break
            try:
                data = self._read(entry)
            except FileNotFoundError:
                # Compaction moved it between the look and the read: the index already knows where.
                self._files.forget(entry[0])
                continue
            if len(data) < entry[2] and self._unsynced(multihash) is None and self._index.lookup(multihash) is None:
                break  # a failed write cut the unsynced end of the pack off between the look and the read
            return self._checked(cid, multihash, data, entry)
        raise block_not_found(cid)

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """See ``BlockStore.get_many``."""
        batch: list[CID] = []
        for cid in cids:
            batch.append(cid)
            if len(batch) >= _READ_ITEMS:
                yield from self._get_batch(batch)
                batch = []
        yield from self._get_batch(batch)

    def _unsynced(self, multihash: bytes) -> Entry | None:
        return self._pending.get(multihash) or self._syncing.get(multihash)

    def _read(self, entry: Entry | Place) -> bytes:
        writer = self._by_id.get(entry[0])
        if writer is not None:
            data = writer.buffered.get(entry[1])
            if data is not None:
                return data
        return self._files.read(entry[0], entry[1], entry[2])

    def _checked(self, cid: CID, multihash: bytes, data: bytes, entry: Entry | Place) -> bytes:
        if multihash.startswith(b"\x12\x20"):
            if sha256(data).digest() == multihash[2:]:
                return data
        else:
            try:
                cid.check(data)
                return data
            except IntegrityError:
                pass  # the error below says where the bytes lie
        raise IntegrityError(
            f"block {cid} is damaged in {pack_name(entry[0])} at offset {entry[1]}: run 'ipfs-kit verify', then "
            "'ipfs-kit repair' or put the block again",
            cid=str(cid),
            pack=pack_name(entry[0]),
            offset=entry[1],
            length=entry[2],
        )

    def _get_batch(self, batch: list[CID]) -> Iterator[tuple[CID, bytes]]:
        self._usable()
        places: list[tuple[int, int, int, int]] = []
        with self._index.reading() as txn:
            for number, cid in enumerate(batch):
                value = txn.get(cid.multihash, db=self._index.blocks)
                if value is not None and self._unsynced(cid.multihash) is None:
                    place = unpack_place(value)
                    places.append((place.pack_id, place.offset, place.length, number))
        places.sort()
        # Neighbours are fetched together only while the whole batch stays small in memory.
        read: dict[int, bytes] = {}
        if sum(place[2] for place in places) <= 2 * _READ_RUN_BYTES:
            for run in _runs(places):
                self._read_run(run, read)
        for number, cid in enumerate(batch):
            data = read.pop(number, None)
            if data is None:
                yield cid, self.get(cid)
                continue
            cid_hash = cid.multihash
            good = cid_hash.startswith(b"\x12\x20") and sha256(data).digest() == cid_hash[2:]
            yield cid, data if good else self.get(cid)

    def _read_run(self, run: list[tuple[int, int, int, int]], read: dict[int, bytes]) -> None:
        pack_id, start = run[0][0], run[0][1]
        end = max(place[1] + place[2] for place in run)
        try:
            data = self._files.read(pack_id, start, end - start)
        except FileNotFoundError:
            return  # get() of each looks the new place up
        for _, offset, length, number in run:
            read[number] = data[offset - start : offset - start + length]


def _runs(places: list[tuple[int, int, int, int]]) -> Iterator[list[tuple[int, int, int, int]]]:
    """Group sorted places into runs that one read fetches."""
    run: list[tuple[int, int, int, int]] = []
    for place in places:
        if run:
            last = run[-1]
            near = place[0] == last[0] and place[1] - (last[1] + last[2]) <= _READ_GAP_BYTES
            if not near or place[1] + place[2] - run[0][1] > _READ_RUN_BYTES:
                yield run
                run = []
        run.append(place)
    if run:
        yield run
