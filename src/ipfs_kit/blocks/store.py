"""The embedded block store: append-only packs beside a rebuildable index (decisions 3, 4 and 5).

A put block lives first in this process's private table, which ``sync`` turns into index rows once the packs are
durable; so the index never names a block that a crash could take away. See ``docs/format/ordering.md``.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from typing import Any, Final

from ipfs_kit.blocks import recovery
from ipfs_kit.blocks._base import BlockStore, Properties, block_not_found, cid_of
from ipfs_kit.blocks.index import OPEN, SEALED, Index, Place, Txn, unpack_place
from ipfs_kit.blocks.pack_files import PackFiles
from ipfs_kit.blocks.pack_gc import Collecting
from ipfs_kit.blocks.pack_layout import FRAME_BYTES_MAX, Kind, kind_for, kind_of
from ipfs_kit.blocks.pack_reading import Entry, Reading
from ipfs_kit.blocks.pack_writer import PackWriter
from ipfs_kit.blocks.windows import Windows
from ipfs_kit.durable.files import PathLike, make_dirs
from ipfs_kit.durable.reserve import Reserve
from ipfs_kit.durable.shared import Registry
from ipfs_kit.durable.state import StateDB, Tx
from ipfs_kit.errors import BudgetExceeded, IntegrityError, KitError, NoSpace, ReadOnly, StorageFailed, StoreNotFound
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW

Family = tuple[Kind, str | None]

# A background sync starts at these marks and puts wait at twice as much, so memory and loss stay bounded.
_PENDING_BYTES: Final = 64 * 1024 * 1024
_PENDING_BLOCKS: Final = 50_000
# put_many verifies and looks up this much at a time outside the lock.
_CHUNK_ITEMS: Final = 2048
_CHUNK_BYTES: Final = 8 * 1024 * 1024
_CREATE_TRIES: Final = 8
_BLOCK_BYTES_MAX: Final = FRAME_BYTES_MAX - 160


class PackStore(Reading, Collecting, BlockStore):
    """The store of one directory, shared by all in the process that open it; see ``BlockStore`` for its rules."""

    def __init__(
        self,
        directory: str,
        state: StateDB | None,
        *,
        read_only: bool,
        now: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self.directory = directory
        self.read_only = read_only
        self._state = state
        self._now = now
        self._random = random
        self._packs = os.path.join(directory, "packs")
        self._files = PackFiles(self._packs)
        self._index = Index(os.path.join(directory, "cache", "index"), read_only=read_only)
        self._scratch: Any = None
        self._reserve = Reserve(directory)
        self._windows = Windows(directory, self._index, state.lock_timeout_s if state is not None else 30.0)
        self._lock = threading.Condition(threading.Lock())
        self._sync_lock = threading.Lock()
        self._writers: dict[Family, PackWriter] = {}
        self._full: list[PackWriter] = []
        self._by_id: dict[int, PackWriter] = {}
        self._pending: dict[bytes, Entry] = {}
        self._syncing: dict[bytes, Entry] = {}
        self._pending_bytes = 0
        self._background: threading.Thread | None = None
        self._failure: str | None = None
        self._failure_kind: type[StorageFailed] = StorageFailed
        self._closed = False
        self._forked = False

    @classmethod
    def open(
        cls,
        directory: PathLike,
        state: StateDB | None = None,
        *,
        read_only: bool = False,
        now: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
    ) -> PackStore:
        """Open the store, creating it when absent; one path opened twice in a process gives one shared object.

        Args:
            directory: The store's directory; packs lie in ``packs``, the index in ``cache/index``.
            state: Its commit point, which is poisoned together with the store when a sync fails.
            read_only: Write nothing.
            now: Wall clock in nanoseconds, for the packs' descriptors.
            random: Source of random bytes, for the packs' names.

        Raises:
            StoreNotFound: ``read_only`` and there is no store.
            StorageFailed: The disk refused.
        """
        name = os.path.abspath(directory)
        packs = os.path.join(name, "packs")
        if read_only and not os.path.isdir(packs):
            raise StoreNotFound(f"{name} holds no block store: run 'ipfs-kit init' first", path=name)
        if not read_only:
            make_dirs(packs)

        def make() -> PackStore:
            store = cls(name, state, read_only=read_only, now=now, random=random)
            store.start()
            return store

        return _registry.open(packs, read_only, make)

    def start(self) -> None:
        """Open the index and take up what dead processes left; ``open`` calls it once."""
        _watch_forks()
        _live.add(self)
        try:
            if self.read_only:
                self._start_reading()
            else:
                self._index.open(lambda index: recovery.rebuild(index, self._packs, read_only=False))
                recovery.take_up_tails(self._index, self._packs)
        except BaseException:
            self._shut()
            raise

    def _start_reading(self) -> None:
        """Use the present index, or one of our own outside the store when there is none to trust."""
        try:
            self._index.open(lambda index: None)
        except (FileNotFoundError, IntegrityError):
            import tempfile

            self._scratch = tempfile.TemporaryDirectory(prefix="ipfs-kit-index-")
            self._index = Index(self._scratch.name, private=True)
            self._index.open(lambda index: recovery.rebuild(index, self._packs, read_only=True))
            self._windows = Windows(self.directory, self._index, 0.0)

    # -- BlockStore ----------------------------------------------------------------------------------------------

    @property
    def properties(self) -> Properties:
        """See ``BlockStore.properties``."""
        return Properties(name="packs", writable=not self.read_only, deletes=not self.read_only)

    def has(self, cid: CID) -> bool:
        """See ``BlockStore.has``; inside a write window a condemned block counts as absent, so that it is put again."""
        return self.has_many((cid,))[0]

    def has_many(self, cids: Iterable[CID]) -> list[bool]:
        """See ``BlockStore.has_many``."""
        self._usable()
        wanted = list(cids)
        # The private table first: a block leaves it only after the index lists it.
        answers = [cid.is_identity or self._unsynced(cid.multihash) is not None for cid in wanted]
        with self._index.reading() as txn:
            marks = self._windows.open_here and txn.stat(self._index.marks)["entries"]
            for number, cid in enumerate(wanted):
                if not answers[number]:
                    key = cid.multihash
                    found = txn.get(key, db=self._index.blocks) is not None
                    answers[number] = found and not (marks and txn.get(key, db=self._index.marks) is not None)
        return answers

    def size(self, cid: CID) -> int:
        """See ``BlockStore.size``."""
        if cid.is_identity:
            return len(cid.digest)
        self._usable()
        entry = self._unsynced(cid.multihash) or self._index.lookup(cid.multihash)
        if entry is None:
            raise block_not_found(cid)
        return entry[2]

    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """See ``BlockStore.put``."""
        return self.put_in(None, ((cid, data),), verify=verify) == 1

    def put_many(self, items: Iterable[tuple[CID, bytes]], *, verify: bool = True) -> int:
        """See ``BlockStore.put_many``."""
        return self.put_in(None, items, verify=verify)

    def put_in(self, domain: str | None, items: Iterable[tuple[CID, bytes]], *, verify: bool) -> int:
        """Put blocks into the packs of a key domain, or of open buckets when ``domain`` is None.

        Returns:
            How many were new.
        """
        self._writable()
        new = 0
        chunk: list[tuple[bytes, int, CID, bytes]] = []
        size = 0
        for cid, data in items:
            binary = cid.binary
            # The usual CID is recognised by its first bytes; everything else goes through the strict parser.
            plain = len(binary) == 36 and binary[2:4] == b"\x12\x20"
            if verify:
                if plain and type(data) is bytes:
                    if sha256(data).digest() != binary[4:]:
                        cid.check(data)
                else:
                    data = bytes(data)
                    cid.check(data)
            if plain:
                chunk.append((binary[2:], binary[1], cid, data))
            elif not cid.is_identity:
                chunk.append((cid.multihash, cid.codec, cid, data))
            size += len(data)
            if size >= _CHUNK_BYTES or len(chunk) >= _CHUNK_ITEMS:
                new += self._put_chunk(domain, chunk)
                chunk, size = [], 0
        return new + self._put_chunk(domain, chunk) if chunk else new

    def delete(self, cid: CID) -> bool:
        """See ``BlockStore.delete``; the bytes stay in their pack until it is compacted."""
        self._writable()
        if cid.is_identity:
            return False
        self.sync()
        return self._index.update(lambda txn: txn.remove(cid.multihash))

    def cids(self) -> Iterator[CID]:
        """See ``BlockStore.cids``."""
        self._usable()
        mine = {**self._syncing, **self._pending}
        for multihash, entry in mine.items():
            yield cid_of(entry[3], multihash)
        for multihash, place in self._index.multihashes():
            if multihash not in mine:
                yield cid_of(place.codec, multihash)

    def page(self, after: CID | None, limit: int) -> list[CID]:
        """Durable blocks in the index's order, which stays the same while blocks come and go.

        Args:
            after: The last block of the page before; None for the first page.
            limit: Most blocks returned.
        """
        self._usable()
        rows = self._index.multihashes(page=min(limit, 4096), after=b"" if after is None else after.multihash)
        return [cid_of(place.codec, multihash) for multihash, place in itertools.islice(rows, limit)]

    def sync(self) -> None:
        """See ``BlockStore.sync``."""
        self._writable()
        with self._sync_lock:
            self._writable()
            try:
                self._sync()
                return
            except BaseException as exc:
                failed = exc
                self._fail(exc)
        self._cut_back(failed)
        raise failed

    def close(self) -> None:
        """Sync and give up one opening; the last one releases the packs for other processes to go on with."""
        if self._closed or self._forked:
            return
        try:
            if not self.read_only and self._failure is None:
                self.sync()
        finally:
            _registry.release(self, self._shut)

    # -- the rest of the contract --------------------------------------------------------------------------------

    @property
    def index(self) -> Index:
        """The block index, for transactions over it and tables beside it."""
        return self._index

    def window(self) -> AbstractContextManager[None]:
        """A write window: blocks put, or found absent no more, inside it survive collection until it closes."""
        self._usable()
        return nullcontext() if self.read_only else self._windows.window()

    def domain(self, key_domain: str) -> BlockStore:
        """The same store, putting into packs of one key domain, which can be dropped when its key is destroyed."""
        from ipfs_kit.blocks.domain import DomainStore

        return DomainStore(self, key_domain)

    def retain(self, tx: Tx, cids: Iterable[CID]) -> None:
        """Make sure, inside a state transaction, that blocks about to be referenced are durable and stay.

        Args:
            tx: The open transaction: it keeps the collector from removing anything meanwhile.
            cids: The blocks that the transaction will reference.

        Raises:
            BlockNotFound: One of them is absent.
        """
        assert tx is not None
        wanted = [cid for cid in cids if not cid.is_identity]
        if any(self._unsynced(cid.multihash) is not None for cid in wanted):
            self.sync()
        marked: list[bytes] = []
        with self._index.reading() as txn:
            marks = txn.stat(self._index.marks)["entries"]
            for cid in wanted:
                key = cid.multihash
                if txn.get(key, db=self._index.blocks) is None:
                    raise block_not_found(cid)
                if marks and txn.get(key, db=self._index.marks) is not None:
                    marked.append(key)
        if marked:
            self.rescue(marked)

    # -- putting -------------------------------------------------------------------------------------------------

    def _put_chunk(self, domain: str | None, chunk: list[tuple[bytes, int, CID, bytes]]) -> int:
        fresh = self._not_indexed([item for item in chunk if not self._covers(self._unsynced(item[0]), item[1])])
        if not fresh:
            return 0
        self._admit(fresh, domain)
        try:
            return self._take_in(fresh, domain)
        except StorageFailed as exc:
            if self._failure is not None:
                self._cut_back(exc)
            raise

    def _admit(self, fresh: list[tuple[bytes, int, CID, bytes]], domain: str | None) -> None:
        """Refuse what the disk has no room for while nothing of it is written, so that the store stays usable."""
        size = sum(len(item[3]) for item in fresh)
        if not self._reserve.credit(size):
            waiting = sum(writer.waiting_bytes for writer in list(self._by_id.values()))
            essential = domain is not None or all(item[1] != RAW for item in fresh)
            self._reserve.admit(size + waiting, essential=essential)

    def _take_in(self, fresh: list[tuple[bytes, int, CID, bytes]], domain: str | None) -> int:
        new = 0
        with self._lock:
            while self._too_much_pending() and self._background is not None:
                self._lock.wait(1.0)
            self._writable()
            pending, syncing = self._pending, self._syncing
            try:
                for multihash, codec, cid, data in fresh:
                    if self._covers(pending.get(multihash) or syncing.get(multihash), codec):
                        continue
                    if len(data) > _BLOCK_BYTES_MAX:
                        raise BudgetExceeded(
                            f"block {cid} has {len(data)} bytes; at most {_BLOCK_BYTES_MAX} fit a pack"
                        )
                    writer = self._writer(kind_for(codec) if domain is None else Kind.SEALED, domain)
                    pending[multihash] = (writer.pack_id, writer.add(cid, data), len(data), codec)
                    self._pending_bytes += len(data)
                    new += 1
            except StorageFailed as exc:
                self._fail(exc)
                raise
            if self._pending_bytes >= _PENDING_BYTES or len(pending) >= _PENDING_BLOCKS:
                self._sync_in_background()
        return new

    @staticmethod
    def _covers(known: Entry | Place | None, codec: int) -> bool:
        """Whether a block known under one codec need not be stored again under another, which may tell of links."""
        return known is not None and (codec in (RAW, known[3]) or known[3] != RAW)

    def _not_indexed(self, chunk: list[tuple[bytes, int, CID, bytes]]) -> list[tuple[bytes, int, CID, bytes]]:
        """Drop what the index has under a codec that says as much, unless it is condemned."""
        fresh = []
        with self._index.reading() as txn:
            blocks, marks = self._index.blocks, self._index.marks
            marked = txn.stat(marks)["entries"]
            for item in chunk:
                value = txn.get(item[0], db=blocks)
                known = None if value is None else unpack_place(value)
                if self._covers(known, item[1]) and not (marked and txn.get(item[0], db=marks) is not None):
                    continue
                fresh.append(item)
        return fresh

    def _writer(self, kind: Kind, domain: str | None) -> PackWriter:
        """The pack to append to, adopted or created at first use; the caller holds the lock."""
        writer = self._writers.get((kind, domain))
        if writer is not None and not writer.full:
            return writer
        if writer is not None:
            self._full.append(writer)
        writer = self._adopt(kind, domain)
        for _ in range(_CREATE_TRIES):
            if writer is not None:
                break
            # Another process may look into the new file before we have locked it; then the next name is ours.
            writer = PackWriter.create(self._packs, kind, domain, self._now(), self._random(7))
        if writer is None:
            raise StorageFailed(f"{self._packs}: every new pack was taken over; try again")
        self._writers[kind, domain] = writer
        self._by_id[writer.pack_id] = writer
        return writer

    def _adopt(self, kind: Kind, domain: str | None) -> PackWriter | None:
        rows = self._index.pack_rows()
        open_packs = [i for i, row in rows.items() if row.state == OPEN and kind_of(i) == kind and i not in self._by_id]
        for pack_id in open_packs:
            writer = PackWriter.adopt(self._packs, pack_id)
            if writer is None:
                continue
            if writer.domain == domain and not writer.full:
                # The former owner may have indexed more, or sealed it, since we looked.
                row = self._index.pack_rows().get(pack_id)
                if row is not None and row.state == OPEN and writer.end >= row.indexed_to:
                    writer.frames = row.live_blocks
                    if writer.end > row.indexed_to:
                        found, end, damaged = recovery.recover_into(writer, row.indexed_to)
                        recovery.commit_tail(self._index, pack_id, found, end, sealed=damaged)
                        if damaged:
                            writer.close()
                            continue
                    return writer
            writer.close()
        return None

    # -- syncing -------------------------------------------------------------------------------------------------

    def _sync(self) -> None:
        with self._lock:
            writers = [w for w in (*self._full, *self._writers.values()) if w.dirty]
            if not writers and not self._pending:
                return
            for writer in writers:
                writer.flush()
            ends = {writer.pack_id: writer.end for writer in writers}
            full = list(self._full)
            self._syncing = self._pending
            self._pending = {}
            self._pending_bytes = 0
        _sync_all(writers)
        rows: dict[int, list[recovery.Row]] = {pack_id: [] for pack_id in ends}
        for multihash, (pack_id, offset, length, codec) in self._syncing.items():
            rows[pack_id].append((multihash, offset, length, codec))

        def fill(txn: Txn) -> None:
            for pack_id, found in rows.items():
                self.note_rescued(txn, recovery.index_rows(txn, pack_id, sorted(found)))
                txn.pack(pack_id).indexed_to = ends[pack_id]

        self._index.update(fill)
        with self._lock:
            self._syncing = {}
            self._lock.notify_all()
        for writer in full:
            self._seal(writer)

    def _seal(self, writer: PackWriter) -> None:
        writer.seal()

        def sealed(txn: Txn) -> None:
            txn.pack(writer.pack_id).state = SEALED

        self._index.update(sealed)
        with self._lock:
            self._full.remove(writer)
            del self._by_id[writer.pack_id]
        writer.close()

    def _sync_in_background(self) -> None:
        if self._background is None:
            self._background = threading.Thread(target=self._sync_behind, name="ipfs-kit-block-sync", daemon=True)
            self._background.start()

    def _sync_behind(self) -> None:
        try:
            self.sync()
        except KitError as exc:
            # The next put or sync raises it: sync has already poisoned the store.
            self._failure = self._failure or str(exc)
        finally:
            with self._lock:
                self._background = None
                self._lock.notify_all()

    def _too_much_pending(self) -> bool:
        return self._pending_bytes >= 2 * _PENDING_BYTES or len(self._pending) >= 2 * _PENDING_BLOCKS

    # -- life ----------------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether the store may be handed to another opener."""
        return not self._closed and self._failure is None

    def _usable(self) -> None:
        if self._forked:
            raise StorageFailed(f"{self.directory} was opened before this process was forked: open it again")
        if self._closed:
            raise StorageFailed(f"the block store {self.directory} is closed: open it again")

    def _writable(self) -> None:
        self._usable()
        if self.read_only:
            raise ReadOnly(f"{self.directory} is open for reading only", path=self.directory)
        if self._failure is not None:
            raise self._failure_kind(f"{self.directory} failed earlier ({self._failure}): reopen the store")

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = str(error) or type(error).__name__
            self._failure_kind = NoSpace if isinstance(error, NoSpace) else StorageFailed
            if self._state is not None:
                self._state.poison(f"blocks are not durable: {self._failure}", self._failure_kind)

    def _cut_back(self, error: BaseException) -> None:
        """After a failure: give back the space of blocks that were never made durable, so that nothing refers to them."""
        with self._sync_lock, self._lock:
            self._pending, self._syncing, self._pending_bytes = {}, {}, 0
            for writer in (*self._full, *self._writers.values()):
                try:
                    writer.cut_back()
                except StorageFailed as exc:
                    # Its bytes stay as a torn tail, which the next owner cuts off; the first error is the one to tell.
                    error.add_note(exc.message)

    def _shut(self) -> None:
        self._closed = True
        _live.discard(self)
        background = self._background
        if background is not None and background is not threading.current_thread():
            background.join()
        for writer in (*self._full, *self._writers.values()):
            writer.close()
        self._files.close()
        self._windows.close()
        self._index.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def orphan(self) -> None:
        """Make this object refuse every call in a forked child, and let go of the parent's packs."""
        self._forked = True
        self._index.orphan()
        self._windows.orphan()
        for writer in (*self._full, *self._writers.values()):
            writer.close()


def _sync_all(writers: list[PackWriter]) -> None:
    """Sync several packs at once: the disk overlaps their flushes."""
    errors: list[BaseException] = []

    def work(writer: PackWriter) -> None:
        try:
            writer.sync()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers[1:]]
    for thread in threads:
        thread.start()
    for writer in writers[:1]:
        work(writer)
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


_registry: Registry[PackStore] = Registry(lambda store: store.usable)
_live: weakref.WeakSet[PackStore] = weakref.WeakSet()
_fork_hooks: list[bool] = []


def _watch_forks() -> None:
    if not _fork_hooks:
        _fork_hooks.append(True)
        os.register_at_fork(after_in_child=_after_fork_child)


def _after_fork_child() -> None:
    for store in list(_live):
        store.orphan()
    _live.clear()
