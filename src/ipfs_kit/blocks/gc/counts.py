"""How many stored blocks link to each block, kept in tables beside the block index (decision 5).

Counting happens off the write path: ``fold`` reads what was appended to the packs since it last looked. The tables are
lost and counted anew whenever the index is rebuilt::

    gc-count    multihash -> u32 count | u8 seen     seen: 0 only linked to, 1 stored, 2 stored and its links counted
    gc-zero     multihash of stored blocks that nothing links to
    gc-folded   u64 pack id -> u64 offset up to which the pack was read

A block's links count once however often it is stored and however often it repeats a link. All of it changes in index
transactions, so a killed process leaves exact counts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from ipfs_kit.blocks._base import cid_of
from ipfs_kit.blocks.pack_files import mapped, read_descriptor, walk
from ipfs_kit.blocks.pack_layout import Frame, Kind, decode_start, kind_of, pack_name
from ipfs_kit.errors import BlockNotFound, Expired, FormatError, IntegrityError, InvalidInput
from ipfs_kit.ipld import links as ipld_links
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_JSON, DAG_PB, RAW, plain_codec

if TYPE_CHECKING:
    from ipfs_kit.blocks.index import Txn
    from ipfs_kit.blocks.store import PackStore

LinksOf = Callable[[CID, bytes, str | None], list[CID]]
"""The children of a stored block of a key domain; raises ``Expired`` when its key is gone."""

_COUNT: Final = struct.Struct("<IB")
_U64: Final = struct.Struct(">Q")
_BATCH: Final = 4096
_LINKED, _STORED, _COUNTED = 0, 1, 2
_LINKING: Final = (DAG_PB, DAG_CBOR, DAG_JSON)

Seen = tuple[bytes, int, Sequence[bytes]]
"""A stored block: multihash, what is known of it, and its children."""


def plain_links(cid: CID, data: bytes, domain: str | None) -> list[CID]:
    """The children of a block of an open bucket; sealed ones need ``blocks.sealed.links_of``."""
    if plain_codec(cid.codec) != cid.codec:
        raise Expired(f"{cid} is sealed and this collector was given no keys")
    return ipld_links.links(cid, data)


def child_keys(links_of: LinksOf, cid: CID, data: bytes, domain: str | None) -> list[bytes] | None:
    """The multihashes a block links to, each once, in order; None when a destroyed key hides them.

    A codec this library does not know is tried as each it does: one digest is indexed under the codec it came with
    first, and a link must not be overlooked because of a name.
    """
    found: dict[bytes, None] = {}
    stack = [(cid, data)]
    while stack:
        parent, block = stack.pop()
        for child in _links(links_of, parent, block, domain):
            if child.is_identity:
                # An identity CID is its own block, and may hold links; it is at most 128 bytes long.
                stack.append((child, child.digest))
            else:
                found[child.multihash] = None
    return list(found)


def _links(links_of: LinksOf, cid: CID, data: bytes, domain: str | None) -> list[CID]:
    codec = cid.codec
    if plain_codec(codec) == RAW:
        return []
    known = plain_codec(codec) in _LINKING
    for candidate in (codec,) if known else _LINKING:
        try:
            return links_of(cid if known else cid_of(candidate, cid.multihash), data, domain)
        except (FormatError, InvalidInput):
            continue
    return []


def pack_domain(store: PackStore, pack_id: int) -> str | None:
    """The key domain of a pack, from its descriptor; None for packs of open buckets.

    Raises:
        FileNotFoundError: The pack is gone.
        FormatError: Its header is damaged.
    """
    if kind_of(pack_id) is not Kind.SEALED:
        return None
    return read_descriptor(os.path.join(store.directory, "packs", pack_name(pack_id)))[0].domain


class EdgeCounts:
    """The counts of one store; an ``Inventory`` for the planner. One user at a time: the holder of the GC lease.

    Args:
        store: The store.
        links_of: The children of a stored block.
        key_alive: Whether a key domain still has its key.
    """

    def __init__(self, store: PackStore, links_of: LinksOf, key_alive: Callable[[str], bool]) -> None:
        self._store = store
        self._links_of = links_of
        self._key_alive = key_alive
        self._count = store.database("gc-count")
        self._zero = store.database("gc-zero")
        self._folded = store.database("gc-folded")
        self._domains: dict[int, str | None] = {}

    # -- folding

    def fold(self, progress: Callable[[int], object] | None = None) -> int:
        """Count what was stored since the last call.

        Args:
            progress: Told how many blocks were read so far.

        Returns:
            How many blocks were read.
        """
        done = 0
        for pack_id, start, end in self._unread():
            try:
                for batch, upto in self._batches(pack_id, start, end):
                    self._store.update_index(_folding(self, pack_id, batch, upto))
                    done += len(batch)
                    if progress is not None:
                        progress(done)
            except FileNotFoundError:
                continue  # compacted meanwhile; its live blocks are in a pack that is read as well
        return done

    def reset(self) -> None:
        """Forget all counts, so that the next ``fold`` counts everything anew."""

        def clear(txn: Txn) -> None:
            for table in (self._count, self._zero, self._folded):
                txn.lmdb.drop(table, delete=False)

        self._store.update_index(clear)

    def outdated(self) -> bool:
        """Whether blocks were deleted without their links being taken off the counts, as ``PackStore.delete`` does."""
        return any(self.size(key) is None for key in self.unreferenced())

    def _unread(self) -> list[tuple[int, int, int]]:
        positions = self._store.pack_positions()
        with self._store.index.reading() as txn:
            read = {_U64.unpack(k)[0]: _U64.unpack(v)[0] for k, v in txn.cursor(self._folded).iternext()}
        gone = read.keys() - positions.keys()
        if gone:
            self._store.update_index(lambda txn: [txn.lmdb.delete(_U64.pack(i), db=self._folded) for i in gone])
        return [(i, read.get(i, 0), end) for i, end in sorted(positions.items()) if end > read.get(i, 0)]

    def _batches(self, pack_id: int, start: int, end: int) -> Iterator[tuple[list[Seen], int]]:
        path = os.path.join(self._store.directory, "packs", pack_name(pack_id))
        with mapped(path) as view:
            _, first = decode_start(view[:1024])
            batch: list[Seen] = []
            upto = max(start, first)
            for frame in walk(view, upto, min(end, len(view))):
                batch.append(self._seen(pack_id, frame, view))
                upto = frame.offset + frame.length
                if len(batch) >= _BATCH:
                    yield batch, upto
                    batch = []
            yield batch, upto

    def _seen(self, pack_id: int, frame: Frame, view: memoryview) -> Seen:
        cid = frame.cid
        if plain_codec(cid.codec) == RAW:
            return cid.multihash, _STORED, ()
        data = bytes(view[frame.offset : frame.offset + frame.length])
        try:
            cid.check(data)
        except IntegrityError as exc:
            place = self._store.index.lookup(cid.multihash)
            if place is not None and (place.pack_id, place.offset) == (pack_id, frame.offset):
                raise IntegrityError(
                    f"block {cid} in {pack_name(pack_id)} is damaged, so what it links to cannot be known and nothing "
                    "is collected: run 'ipfs-kit verify', then 'ipfs-kit repair'",
                    cid=str(cid),
                ) from exc
            return cid.multihash, _LINKED, ()
        try:
            keys = child_keys(self._links_of, cid, data, self._domain(pack_id))
        except Expired:
            return cid.multihash, _STORED, ()
        return cid.multihash, _COUNTED, keys or ()

    def _domain(self, pack_id: int) -> str | None:
        if pack_id not in self._domains:
            self._domains[pack_id] = pack_domain(self._store, pack_id)
        return self._domains[pack_id]

    def apply(self, txn: Txn, batch: Iterable[Seen]) -> None:
        """Count blocks inside an index transaction; absent and counted ones are passed over."""
        for key, seen, children in batch:
            count, before = self._row(txn, key)
            if before >= seen or txn.lmdb.get(key, db=txn.blocks) is None:
                continue
            txn.lmdb.put(key, _COUNT.pack(count, seen), db=self._count)
            if count == 0:
                txn.lmdb.put(key, b"", db=self._zero)
            for child in children:
                child_count, child_seen = self._row(txn, child)
                txn.lmdb.put(child, _COUNT.pack(child_count + 1, child_seen), db=self._count)
                if child_count == 0:
                    txn.lmdb.delete(child, db=self._zero)

    def mark_read(self, txn: Txn, pack_id: int, upto: int) -> None:
        """Note how far a pack was read."""
        txn.lmdb.put(_U64.pack(pack_id), _U64.pack(upto), db=self._folded)

    # -- removing

    def take_out(self, txn: Txn, key: bytes, children: Sequence[bytes]) -> list[bytes]:
        """Forget a block inside the index transaction that removes it.

        Args:
            txn: The transaction.
            key: The block.
            children: Its children.

        Returns:
            Stored children that nothing links to any more.
        """
        count, seen = self._row(txn, key)
        if count:
            txn.lmdb.put(key, _COUNT.pack(count, _LINKED), db=self._count)
        else:
            txn.lmdb.delete(key, db=self._count)
        txn.lmdb.delete(key, db=self._zero)
        freed: list[bytes] = []
        if seen != _COUNTED:
            return freed
        for child in children:
            child_count, child_seen = self._row(txn, child)
            if child_count > 1:
                txn.lmdb.put(child, _COUNT.pack(child_count - 1, child_seen), db=self._count)
            elif child_seen == _LINKED:
                txn.lmdb.delete(child, db=self._count)
            elif child_count == 1:
                txn.lmdb.put(child, _COUNT.pack(0, child_seen), db=self._count)
                txn.lmdb.put(child, b"", db=self._zero)
                freed.append(child)
        return freed

    def count_in(self, txn: Txn, key: bytes) -> int:
        """How many stored blocks link to a block, inside a transaction."""
        return self._row(txn, key)[0]

    def _row(self, txn: Txn, key: bytes) -> tuple[int, int]:
        value = txn.lmdb.get(key, db=self._count)
        return (0, _LINKED) if value is None else _COUNT.unpack(value)

    # -- Inventory

    def unreferenced(self) -> Iterator[bytes]:
        """See ``Inventory``."""
        after = b""
        while True:
            with self._store.index.reading() as txn:
                cursor = txn.cursor(self._zero)
                found = cursor.set_range(after + b"\0") if after else cursor.first()
                page: list[bytes] = []
                while found and len(page) < _BATCH:
                    page.append(cursor.key())
                    found = cursor.next()
            if not page:
                return
            yield from page
            after = page[-1]

    def orphaned(self) -> Iterator[bytes]:
        """See ``Inventory``."""
        for stat in self._store.pack_stats():
            if stat.domain is None or not stat.live_blocks or self._key_alive(stat.domain):
                continue
            with mapped(os.path.join(self._store.directory, "packs", stat.name)) as view:
                _, first = decode_start(view[:1024])
                for frame in walk(view, first, min(stat.indexed_to, len(view))):
                    place = self._store.index.lookup(frame.cid.multihash)
                    if place is not None and place.pack_id == stat.pack_id:
                        yield frame.cid.multihash

    def references(self, key: bytes) -> int:
        """See ``Inventory``."""
        with self._store.index.reading() as txn:
            value = txn.get(key, db=self._count)
        return 0 if value is None else int(_COUNT.unpack(value)[0])

    def children(self, key: bytes) -> Sequence[bytes]:
        """See ``Inventory``."""
        place = self._store.index.lookup(key)
        if place is None or plain_codec(place.codec) == RAW:
            return ()
        cid = cid_of(place.codec, key)
        try:
            return child_keys(self._links_of, cid, self._store.get(cid), self._domain(place.pack_id)) or ()
        except (BlockNotFound, Expired, FileNotFoundError, IntegrityError):
            return ()  # gone, hidden or damaged: nothing can be taken off the counts below it

    def size(self, key: bytes) -> int | None:
        """See ``Inventory``."""
        place = self._store.index.lookup(key)
        return None if place is None else place.length


def _folding(counts: EdgeCounts, pack_id: int, batch: list[Seen], upto: int) -> Callable[[Txn], None]:
    def change(txn: Txn) -> None:
        counts.apply(txn, batch)
        counts.mark_read(txn, pack_id, upto)

    return change
