"""The block index: LMDB, multihash to place, rebuildable from the packs alone (decision 4).

LMDB runs with NOSYNC: a killed process loses nothing, because the pages live in the page cache, but a crash of the
machine may leave the file inconsistent. So the index carries the id of the boot it was written in, and whoever opens it
first after another boot throws it away and rebuilds it, unless it was synced and marked clean.

It lists durable blocks only: the store writes a block's row after the pack's ``fdatasync``.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

import lmdb

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import faults
from ipfs_kit.durable.files import make_dirs, remove, replace, storage_failed
from ipfs_kit.durable.locks import FileLock
from ipfs_kit.durable.shared import Registry
from ipfs_kit.errors import IntegrityError, KitError, NoSpace, StorageFailed, Unavailable, Unsupported

T = TypeVar("T")

FORMAT_VERSION: Final = 1
# Address space only: the file is sparse and grows with its rows, about 100 bytes each.
_MAP_BYTES: Final = (1 << 40, 1 << 36, 1 << 33, 1 << 31)
_READERS_MAX: Final = 1024
# The lock file is mapped: a page of it without a block on the disk would end the process when the disk is full.
_LOCK_BYTES: Final = 17 * 4096
_DATABASES_MAX: Final = 32
# None kept: a spare holds a reader slot, which a forked child would give back under its parent. Costs 0.15 us a read.
_SPARE_TXNS: Final = 0
# Below this many rows a rebuild after a reboot takes well under a second; marking clean at each close costs more.
_CLEAN_ROWS_MIN: Final = 200_000
_PLACE: Final = struct.Struct("<QIIQ")
_PACK: Final = struct.Struct("<BQQQ")
_U64: Final = struct.Struct(">Q")
_WAIT_S: Final = 120.0

OPEN: Final = 0
SEALED: Final = 1
DOOMED: Final = 2


class Place(NamedTuple):
    """Where a block's data lies."""

    pack_id: int
    offset: int
    length: int
    codec: int

    def pack(self) -> bytes:
        """The row's value."""
        return _PLACE.pack(*self)


@dataclass(slots=True)
class PackRow:
    """What the index knows of one pack.

    Args:
        state: OPEN takes appends, SEALED is full, DOOMED waits to be unlinked.
        indexed_to: Everything before this offset is in the index.
        live_bytes: Data bytes of blocks whose row points here.
        live_blocks: How many those are.
    """

    state: int = OPEN
    indexed_to: int = 0
    live_bytes: int = 0
    live_blocks: int = 0

    def pack(self) -> bytes:
        """The row's value."""
        return _PACK.pack(self.state, self.indexed_to, self.live_bytes, self.live_blocks)


def unpack_place(value: bytes) -> Place:
    """Read a row's value."""
    return Place._make(_PLACE.unpack(value))


def boot_id() -> str:
    """What differs after each start of the machine; empty where the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Txn:
    """One write transaction over the index, with its tables and the pack rows it changed."""

    __slots__ = ("_index", "_packs", "blocks", "lmdb", "marks", "meta", "rescued")

    def __init__(self, index: Index, txn: lmdb.Transaction[bytes]) -> None:
        self._index = index
        self.lmdb = txn
        self.blocks = index.blocks
        self.marks = index.marks
        self.meta = index.meta
        self.rescued = index.rescued
        self._packs: dict[int, PackRow | None] = {}

    def get(self, multihash: bytes) -> Place | None:
        """The place of a block."""
        value = self.lmdb.get(multihash, db=self.blocks)
        return None if value is None else unpack_place(value)

    def set(self, multihash: bytes, place: Place) -> None:
        """Point a block at a place, taking it from the one it had."""
        old = self.get(multihash)
        if old is not None:
            self._count(old, -1)
        self.lmdb.put(multihash, place.pack(), db=self.blocks)
        self._count(place, 1)

    def remove(self, multihash: bytes) -> bool:
        """Forget a block and its mark."""
        old = self.get(multihash)
        if old is None:
            return False
        self._count(old, -1)
        self.lmdb.delete(multihash, db=self.blocks)
        self.lmdb.delete(multihash, db=self.marks)
        return True

    def pack(self, pack_id: int) -> PackRow:
        """The row of a pack, to be changed in place; it is written when the transaction ends."""
        row = self._packs.get(pack_id)
        if row is None:
            value = self.lmdb.get(_U64.pack(pack_id), db=self._index.packs)
            row = self._packs[pack_id] = PackRow() if value is None else PackRow(*_PACK.unpack(value))
        return row

    def drop_pack(self, pack_id: int) -> None:
        """Forget a pack."""
        self._packs[pack_id] = None

    def flush(self) -> None:
        """Write the changed pack rows."""
        for pack_id, row in self._packs.items():
            key = _U64.pack(pack_id)
            if row is None:
                self.lmdb.delete(key, db=self._index.packs)
            else:
                self.lmdb.put(key, row.pack(), db=self._index.packs)

    def _count(self, place: Place, sign: int) -> None:
        row = self.pack(place.pack_id)
        row.live_bytes = max(0, row.live_bytes + sign * place.length)
        row.live_blocks = max(0, row.live_blocks + sign)


class Index:
    """An open index; any thread may use it.

    Args:
        path: Its directory.
        read_only: Take no write transaction.
        private: The directory is this process's own, so locks and boots do not matter.
    """

    def __init__(self, path: str, *, read_only: bool = False, private: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._private = private
        self._write_guard = threading.Lock()
        self._wrote = False
        self._openers = FileLock(os.path.join(path, "openers.lock"))
        self._named: dict[str, Any] = {}
        self._env: lmdb.Environment | None = None
        self._pid = os.getpid()

    # -- opening -------------------------------------------------------------------------------------------------

    def open(self, rebuild: Callable[[Index], None]) -> None:
        """Open the index, making it anew when it is absent, damaged or of another boot.

        Args:
            rebuild: Fills the new index; nobody else has it open meanwhile.
        """
        if self.read_only and not self._private:
            self._open_reading()
            return
        make_dirs(self.path)
        for _ in range(100):
            if self._openers.try_acquire():
                try:
                    if not self._is_sound():
                        self._recreate(rebuild)
                finally:
                    self._openers.release()
            self._openers.acquire(_WAIT_S, shared=True)
            if self._is_sound():
                self._writable().reader_check()
                return
            # Somebody else came first and left the index unsound: let go and try to be first again.
            self._shut()
            self._openers.release()
        raise Unavailable(f"the block index {self.path} is damaged and in use: stop the other programs, then reopen")

    def _open_reading(self) -> None:
        data = os.path.join(self.path, "data.mdb")
        if not os.path.exists(data):
            raise FileNotFoundError(data)
        self._connect(create=False)
        if not self._is_current():
            self._shut()
            raise FileNotFoundError(data)

    def _is_sound(self) -> bool:
        """Open the present file and say whether it can be trusted."""
        if self._env is None:
            if not os.path.exists(os.path.join(self.path, "data.mdb")):
                return False
            try:
                self._connect(create=True)
            except IntegrityError:
                self._shut()
                return False
        if self._is_current():
            return True
        self._shut()
        return False

    def _is_current(self) -> bool:
        boot = self._meta_text(b"boot")
        version = self._meta_text(b"version")
        if version and int(version) > FORMAT_VERSION:
            raise Unsupported(f"the block index {self.path} has format {version}: upgrade ipfs-kit or remove cache/")
        if version != str(FORMAT_VERSION) or not self._meta_text(b"ready"):
            return False
        return self._private or (boot == boot_id() and boot != "") or self._is_clean()

    def _recreate(self, rebuild: Callable[[Index], None]) -> None:
        self._shut()
        for name in ("data.mdb", "lock.mdb", "clean"):
            remove(os.path.join(self.path, name), sync=False)
        self._connect(create=True)
        rebuild(self)

        def ready(txn: Txn) -> None:
            txn.lmdb.put(b"boot", boot_id().encode(), db=txn.meta)
            txn.lmdb.put(b"version", str(FORMAT_VERSION).encode(), db=txn.meta)
            txn.lmdb.put(b"ready", b"1", db=txn.meta)

        self.update(ready)

    def _connect(self, *, create: bool) -> None:
        options: dict[str, Any] = {
            "max_dbs": _DATABASES_MAX,
            "max_readers": _READERS_MAX,
            "max_spare_txns": _SPARE_TXNS,
            "sync": False,
            "metasync": False,
            "readahead": False,
            "subdir": True,
        }
        if not create and not os.access(self.path, os.W_OK):
            # A read-only medium: nobody can be writing there, so readers need no slots.
            options.update(readonly=True, create=False, lock=False)
        self._env = _environments.open(self.path, None, lambda: _open_environment(self.path, options))
        try:
            names = (b"blocks", b"packs", b"marks", b"meta", b"rescued")
            # Not inside a transaction of ours: a read transaction that is put aside for reuse forgets its handles.
            self.blocks, self.packs, self.marks, self.meta, self.rescued = (
                self._env.open_db(name, create=create) for name in names
            )
        except lmdb.Error as exc:
            raise _translate(exc, self.path) from exc

    # -- reading -------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction[bytes]]:
        """A read transaction over the newest state."""
        try:
            with self._begin() as txn:
                yield txn
        except lmdb.Error as exc:
            raise _translate(exc, self.path) from exc

    def lookup(self, multihash: bytes) -> Place | None:
        """The place of a block, or None."""
        try:
            with self._begin() as txn:
                value = txn.get(multihash, db=self.blocks)
        except lmdb.Error as exc:
            raise _translate(exc, self.path) from exc
        return None if value is None else Place._make(_PLACE.unpack(value))

    def pack_rows(self) -> dict[int, PackRow]:
        """Every pack the index knows."""
        with self.reading() as txn:
            return {
                _U64.unpack(key)[0]: PackRow(*_PACK.unpack(value)) for key, value in txn.cursor(self.packs).iternext()
            }

    def multihashes(self, page: int = 4096, after: bytes = b"") -> Iterator[tuple[bytes, Place]]:
        """Blocks after a key in key order, in pages, so that no long read keeps old pages of the file from being reused."""
        while True:
            with self.reading() as txn:
                cursor = txn.cursor(self.blocks)
                found = cursor.set_range(after)
                if found and cursor.key() == after:
                    found = cursor.next()
                rows: list[tuple[bytes, bytes]] = []
                while found and len(rows) < page:
                    rows.append(cursor.item())
                    found = cursor.next()
            if not rows:
                return
            for key, value in rows:
                yield key, unpack_place(value)
            after = rows[-1][0]

    def count(self) -> int:
        """How many blocks are listed."""
        with self.reading() as txn:
            return int(txn.stat(self.blocks)["entries"])

    def marked(self, multihashes: Iterable[bytes]) -> set[bytes]:
        """Which of these blocks carry a condemned mark."""
        with self.reading() as txn:
            if not txn.stat(self.marks)["entries"]:
                return set()
            return {key for key in multihashes if txn.get(key, db=self.marks) is not None}

    # -- writing -------------------------------------------------------------------------------------------------

    def update(self, change: Callable[[Txn], T]) -> T:
        """Run one write transaction; an exception leaves the index as it was.

        Raises:
            StorageFailed: The disk refused.
            IntegrityError: The index is damaged.
        """
        env = self._writable()
        with self._write_guard:
            if not self._wrote and not self._private:
                remove(os.path.join(self.path, "clean"))
                self._wrote = True
            try:
                with env.begin(write=True) as txn:
                    tables = Txn(self, txn)
                    result = change(tables)
                    tables.flush()
                    if faults.hook is not None:
                        faults.hook("lmdb-commit", self.path)
                    return result
            except lmdb.Error as exc:
                raise _translate(exc, self.path) from exc
            except OSError as exc:
                raise storage_failed("commit", self.path, exc) from exc

    def database(self, name: str, *, duplicates: bool = False) -> Any:
        """A named table of another component inside the index; it is lost and rebuilt with it.

        Args:
            name: Its name.
            duplicates: Several sorted values per key.

        Returns:
            The handle for ``db=`` of a transaction.
        """
        handle = self._named.get(name)
        if handle is None:
            env = self._writable()
            with self._write_guard:
                try:
                    handle = env.open_db(b"x-" + name.encode(), create=not self.read_only, dupsort=duplicates)
                except lmdb.Error as exc:
                    raise _translate(exc, self.path) from exc
            self._named[name] = handle
        return handle

    def close(self) -> None:
        """Close; the last user of a large index leaves it synced and marked clean."""
        if self._pid != os.getpid():
            return
        if self._env is None:
            self._openers.close()
            return
        rows = self.count() if self._wrote and not self._private else 0
        if self._openers.held:
            self._openers.release()
            if rows >= _CLEAN_ROWS_MIN and self._openers.try_acquire():
                try:
                    self._mark_clean()
                finally:
                    self._openers.release()
        self._shut()
        self._openers.close()

    def _mark_clean(self) -> None:
        env = self._writable()
        try:
            env.sync(True)
        except lmdb.Error as exc:
            raise _translate(exc, self.path) from exc
        replace(os.path.join(self.path, "clean"), str(env.info()["last_txnid"]).encode())

    def _is_clean(self) -> bool:
        try:
            with open(os.path.join(self.path, "clean"), "rb") as file:
                return file.read(32) == str(self._writable().info()["last_txnid"]).encode()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise storage_failed("read", self.path, exc) from exc

    def _meta_text(self, key: bytes) -> str:
        with self.reading() as txn:
            return (txn.get(key, db=self.meta) or b"").decode()

    def _writable(self) -> lmdb.Environment:
        if self._env is None or self._pid != os.getpid():
            raise StorageFailed(f"the block index {self.path} is closed: open the store again")
        return self._env

    def _begin(self) -> lmdb.Transaction[bytes]:
        """A read transaction, which costs about half a microsecond."""
        env = self._writable()
        try:
            return env.begin(buffers=False)
        except lmdb.ReadersFullError:
            # Slots of processes that were killed are free again after this check.
            env.reader_check()
        except lmdb.Error as exc:
            raise _translate(exc, self.path) from exc
        try:
            return env.begin(buffers=False)
        except lmdb.Error as exc:
            raise _translate(exc, self.path) from exc

    def _shut(self) -> None:
        env, self._env = self._env, None
        self._named.clear()
        if env is not None:
            _environments.release(env, env.close)

    def orphan(self) -> None:
        """In a forked child: let go of what belongs to the parent without unlocking anything of it."""
        env, self._env = self._env, None
        if env is not None:
            # lmdb refuses a second environment on one path, so the child could open nothing while this one lives.
            env.close()
        self._openers.orphan()


# One environment per path and process is what lmdb allows: a read-only store shares it with a writable one.
_environments: Registry[lmdb.Environment] = Registry(lambda env: True)


def _open_environment(path: str, options: dict[str, Any]) -> lmdb.Environment:
    last: Exception | None = None
    if options.get("lock", True):
        _allocate_lock(os.path.join(path, "lock.mdb"))
    for size in _MAP_BYTES:
        try:
            return lmdb.open(path, map_size=size, **options)
        except (lmdb.MemoryError, MemoryError) as exc:
            last = exc
        except lmdb.Error as exc:
            if "allocate memory" not in str(exc):
                raise _translate(exc, path) from exc
            last = exc
    raise Unavailable(f"no address space for the block index {path}: raise 'ulimit -v'") from last


def _allocate_lock(path: str) -> None:
    """Give every page of the lock file its block; LMDB takes a longer file as room for more readers."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            status = os.fstat(fd)
            if status.st_size < _LOCK_BYTES or status.st_blocks * 512 < _LOCK_BYTES:
                os.posix_fallocate(fd, 0, _LOCK_BYTES)
        finally:
            os.close(fd)
    except OSError as exc:
        raise storage_failed("allocate", path, exc) from exc


_DAMAGED: Final = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.BadDbiError,
    lmdb.IncompatibleError,
    lmdb.NotFoundError,
)


def _translate(error: lmdb.Error, path: str) -> KitError:
    if isinstance(error, _DAMAGED):
        return IntegrityError(f"the block index {path} is damaged ({error}): reopen the store, or remove cache/index")
    if isinstance(error, lmdb.MapFullError):
        return StorageFailed(f"the block index {path} outgrew its address space: reopen the store", path=path)
    if os.strerror(errno.ENOSPC) in str(error) or os.strerror(errno.EDQUOT) in str(error):
        return NoSpace(
            f"the block index {path} has no room: run 'ipfs-kit gc' or free disk space, then reopen the store",
            path=path,
        )
    return StorageFailed(f"the block index {path} failed: {error}; free disk space, then reopen the store", path=path)
