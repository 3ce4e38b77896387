"""What garbage collection needs from the pack store: marks, epochs, folding, pack statistics and compaction."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.blocks import recovery
from ipfs_kit.blocks.index import DOOMED, OPEN, SEALED, Place, Txn
from ipfs_kit.blocks.pack_files import mapped, read_descriptor, walk
from ipfs_kit.blocks.pack_layout import Frame, decode_start, kind_of, pack_name
from ipfs_kit.blocks.pack_writer import PackWriter
from ipfs_kit.durable.files import is_temporary
from ipfs_kit.errors import StorageFailed
from ipfs_kit.ipld.cid import CID

if TYPE_CHECKING:
    import threading

    from ipfs_kit.blocks.index import Index
    from ipfs_kit.blocks.pack_files import PackFiles
    from ipfs_kit.blocks.pack_layout import Kind
    from ipfs_kit.blocks.windows import Windows
    from ipfs_kit.durable.reserve import Reserve

_U64: Final = struct.Struct(">Q")
_BATCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class PackStat:
    """The state of one pack.

    Args:
        pack_id: The pack.
        name: Its file name.
        kind: ``dag``, ``leaf`` or ``sealed``.
        domain: Its key domain, or None.
        sealed: It takes no more blocks.
        size_bytes: Of the file.
        live_bytes: Data of blocks that the index finds here.
        live_blocks: How many those are.
        indexed_to: Everything before this offset is in the index.
    """

    pack_id: int
    name: str
    kind: str
    domain: str | None
    sealed: bool
    size_bytes: int
    live_bytes: int
    live_blocks: int
    indexed_to: int

    @property
    def garbage_bytes(self) -> int:
        """Bytes that compaction would free, but for frame heads of about 40 bytes a block."""
        return max(0, self.indexed_to - self.live_bytes - 40 * self.live_blocks - 300)


class Collecting:
    """The part of the pack store that serves garbage collection; the names behind ``self`` are the store's."""

    if TYPE_CHECKING:
        _index: Index
        _windows: Windows
        _files: PackFiles
        _packs: str
        _lock: threading.Condition
        _sync_lock: threading.Lock
        _writers: dict[tuple[Kind, str | None], PackWriter]
        _by_id: dict[int, PackWriter]
        _reserve: Reserve

        def sync(self) -> None:
            """See ``BlockStore.sync``."""

        def _writable(self) -> None: ...
        def _fail(self, error: BaseException) -> None: ...
        def _cut_back(self, error: BaseException) -> None: ...
        def _writer(self, kind: Kind, domain: str | None) -> PackWriter: ...

    # -- marks and epochs ----------------------------------------------------------------------------------------

    def epoch(self) -> int:
        """The present epoch of write windows."""
        return self._windows.epoch()

    def advance_epoch(self, timeout_s: float = 30.0) -> int:
        """Begin a new epoch after condemning.

        Returns:
            The new epoch.

        Raises:
            LockTimeout: A window of the epoch before the present one is still open.
        """
        self._writable()
        return self._windows.advance(timeout_s)

    def old_windows_closed(self, timeout_s: float) -> bool:
        """Whether every window opened before the present epoch has closed, waiting up to ``timeout_s`` seconds."""
        return self._windows.old_closed(timeout_s)

    def condemn(self, multihashes: Iterable[bytes]) -> int:
        """Mark blocks for removal; a put finds them absent and writes them anew.

        Returns:
            How many present blocks were newly marked.
        """
        self._writable()
        epoch = _U64.pack(self.epoch())
        return sum(self._index.update(_marking(batch, epoch)) for batch in _batches(multihashes))

    def condemned(self) -> Iterator[tuple[bytes, int]]:
        """Every marked block with the epoch in which it was marked."""
        with self._index.reading() as txn:
            rows = [(key, int(_U64.unpack(value)[0])) for key, value in txn.cursor(self._index.marks).iternext()]
        yield from rows

    def rescue(self, multihashes: Iterable[bytes]) -> int:
        """Clear marks and remember the blocks, whose descendants the collector must then look at again.

        Returns:
            How many carried a mark.
        """
        self._writable()
        keys = list(multihashes)

        def clear(txn: Txn) -> int:
            cleared = [key for key in keys if txn.lmdb.delete(key, db=txn.marks)]
            self.note_rescued(txn, cleared)
            return len(cleared)

        return self._index.update(clear)

    def note_rescued(self, txn: Txn, multihashes: Iterable[bytes]) -> None:
        """Remember, inside an index transaction, blocks whose mark was cleared."""
        for key in multihashes:
            txn.lmdb.put(key, b"", db=txn.rescued)

    def rescued(self) -> list[bytes]:
        """Blocks whose mark was cleared since ``forget_rescued``."""
        with self._index.reading() as txn:
            return [key for key, _ in txn.cursor(self._index.rescued).iternext()]

    def forget_rescued(self, multihashes: Iterable[bytes]) -> None:
        """Drop blocks from the list of rescued ones, once their descendants were looked at."""
        keys = list(multihashes)

        def drop(txn: Txn) -> None:
            for key in keys:
                txn.lmdb.delete(key, db=txn.rescued)

        self._index.update(drop)

    def remove_condemned(self, multihashes: Iterable[bytes]) -> tuple[int, int]:
        """Forget those of these blocks that still carry a mark.

        Returns:
            How many were removed, and their bytes.
        """
        self._writable()
        count = size = 0
        for batch in _batches(multihashes):
            done, freed = self._index.update(_removing(batch))
            count, size = count + done, size + freed
        return count, size

    # -- folding -------------------------------------------------------------------------------------------------

    def database(self, name: str, *, duplicates: bool = False) -> Any:
        """A named table beside the index, for ``db=`` in its transactions; it is lost whenever the index is rebuilt."""
        return self._index.database(name, duplicates=duplicates)

    def update_index(self, change: Callable[[Txn], Any]) -> Any:
        """Run one write transaction over the index and the tables beside it."""
        self._writable()
        return self._index.update(change)

    def pack_positions(self) -> dict[int, int]:
        """How far each pack is indexed: what lies before that offset is durable and never changes."""
        return {i: row.indexed_to for i, row in self._index.pack_rows().items() if row.state != DOOMED}

    def frames(self, pack_id: int, start: int = 0, end: int | None = None) -> Iterator[tuple[Frame, bytes]]:
        """Yield the blocks of a pack in the order they were appended, without checking hashes.

        Args:
            pack_id: The pack.
            start: Offset of the first frame wanted; a former ``end``, or 0 for the first block.
            end: Offset to stop at; None means the indexed part.

        Raises:
            FormatError: The framing is broken.
            FileNotFoundError: The pack is gone.
        """
        stop = self.pack_positions().get(pack_id, 0) if end is None else end
        with mapped(self._files.path(pack_id)) as view:
            _, first = decode_start(view[:1024])
            for frame in walk(view, max(start, first), min(stop, len(view))):
                yield frame, bytes(view[frame.offset : frame.offset + frame.length])

    def pack_stats(self) -> list[PackStat]:
        """The state of every indexed pack."""
        stats = []
        for pack_id, row in self._index.pack_rows().items():
            path = self._files.path(pack_id)
            if row.state == DOOMED:
                continue
            try:
                size = os.stat(path).st_size
                domain = read_descriptor(path)[0].domain if kind_of(pack_id).name == "SEALED" else None
            except FileNotFoundError:
                continue
            stats.append(
                PackStat(
                    pack_id,
                    pack_name(pack_id),
                    kind_of(pack_id).name.lower(),
                    domain,
                    row.state == SEALED,
                    size,
                    row.live_bytes,
                    row.live_blocks,
                    row.indexed_to,
                )
            )
        return stats

    def size_bytes(self) -> int:
        """Bytes of all files in ``packs``."""
        with os.scandir(self._packs) as entries:
            return sum(entry.stat().st_size for entry in entries if not is_temporary(entry.name))

    def room_to_copy(self, size: int) -> bool:
        """Whether the disk holds so many bytes more, with some left for the index and the record of the collection.

        The reserve is there for this: it is given back when that makes the room, and set aside again once collected.
        """
        wanted = size + (self._reserve.low // 2 if size else 0)
        free = self._reserve.free()
        if free < wanted <= free + self._reserve.held():
            free += self._reserve.release()
        return free >= wanted

    # -- compaction ----------------------------------------------------------------------------------------------

    def compact(self, pack_id: int) -> int | None:
        """Copy a pack's live blocks into a pack of ours, then remove it.

        Args:
            pack_id: A sealed pack, or one without a living owner.

        Returns:
            Bytes freed, or None when another process is appending to the pack.

        Raises:
            IntegrityError: A live block is damaged; the pack stays as it is.
            StorageFailed: The disk refused.
        """
        self._writable()
        self.sync()
        owner = self._release_for_compaction(pack_id)
        row = self._index.pack_rows().get(pack_id)
        if row is None or (owner is None and row.state == OPEN):
            if owner is not None:
                owner.close()
            return None
        try:
            freed = self._rewrite(pack_id)
        except StorageFailed as exc:
            self._fail(exc)
            self._cut_back(exc)
            raise
        finally:
            if owner is not None:
                owner.close()
        self._files.forget(pack_id)
        recovery.drop_pack(self._index, self._packs, pack_id)
        return freed

    def _release_for_compaction(self, pack_id: int) -> PackWriter | None:
        """Own an unsealed pack without appending to it any more."""
        with self._sync_lock, self._lock:
            for family, writer in list(self._writers.items()):
                if writer.pack_id == pack_id and not writer.dirty:
                    del self._writers[family]
                    del self._by_id[pack_id]
                    return writer
            if pack_id in self._by_id:
                return None
        return PackWriter.adopt(self._packs, pack_id)

    def _rewrite(self, pack_id: int) -> int:
        path = self._files.path(pack_id)
        domain = read_descriptor(path)[0].domain
        moves: list[tuple[bytes, Place, Place]] = []
        with mapped(path) as view:
            _, first = decode_start(view[:1024])
            row = self._index.pack_rows()[pack_id]
            for frame in walk(view, first, min(row.indexed_to, len(view))):
                place = self._index.lookup(frame.cid.multihash)
                if place is not None and (place.pack_id, place.offset) == (pack_id, frame.offset):
                    self._move(view, frame, place, domain, moves)
            size = len(view)
        self._sync_moved({new.pack_id for _, _, new in moves})
        kept = self._index.update(_relocating(pack_id, moves))
        return size - kept

    def _move(
        self, view: memoryview, frame: Frame, place: Place, domain: str | None, moves: list[tuple[bytes, Place, Place]]
    ) -> None:
        data = bytes(view[frame.offset : frame.offset + frame.length])
        CID(frame.cid.binary).check(data)
        with self._lock:
            writer = self._writer(kind_of(place.pack_id), domain)
            offset = writer.add(frame.cid, data)
            moves.append((frame.cid.multihash, place, Place(writer.pack_id, offset, frame.length, place.codec)))

    def _sync_moved(self, pack_ids: set[int]) -> None:
        """Make copies durable before the index names them; ``sync`` covers every writer of ours."""
        if pack_ids:
            self.sync()


def _batches(multihashes: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for key in multihashes:
        batch.append(key)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _marking(batch: list[bytes], epoch: bytes) -> Callable[[Txn], int]:
    def mark(txn: Txn) -> int:
        done = 0
        for key in batch:
            if txn.lmdb.get(key, db=txn.blocks) is not None:
                done += txn.lmdb.put(key, epoch, db=txn.marks, overwrite=False)
        return done

    return mark


def _removing(batch: list[bytes]) -> Callable[[Txn], tuple[int, int]]:
    def remove(txn: Txn) -> tuple[int, int]:
        done = size = 0
        for key in batch:
            if txn.lmdb.get(key, db=txn.marks) is None:
                continue
            place = txn.get(key)
            if txn.remove(key) and place is not None:
                done, size = done + 1, size + place.length
        return done, size

    return remove


def _relocating(pack_id: int, moves: list[tuple[bytes, Place, Place]]) -> Callable[[Txn], int]:
    def relocate(txn: Txn) -> int:
        kept = 0
        for key, old, new in moves:
            # A block removed or rewritten meanwhile stays so; its copy is garbage.
            if txn.get(key) == old:
                txn.set(key, new)
                kept += new.length
        txn.pack(pack_id).state = DOOMED
        return kept

    return relocate
