"""``state.db``: the one commit point of a store (decision 1).

SQLite in WAL mode with ``synchronous=FULL``. One writer at a time, chosen by a blocking ``flock`` on ``<path>.lock``;
readers never wait. An I/O error inside a transaction poisons the object: what the failed sync left on disk is unknown,
so every later call raises ``StorageFailed`` until the store is reopened.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import apsw

from ipfs_kit.durable import _sqlite
from ipfs_kit.durable._filesystem import refuse_network
from ipfs_kit.durable._format import Schema, check_header, check_version, initialise
from ipfs_kit.durable._tx import Params, Snapshot, Tx
from ipfs_kit.durable.files import PathLike, storage_failed, sync_dir
from ipfs_kit.durable.locks import FileLock
from ipfs_kit.durable.shared import Registry, identity
from ipfs_kit.errors import (
    InternalError,
    LockTimeout,
    NoSpace,
    ReadOnly,
    StorageFailed,
    StoreNotFound,
    Unsupported,
)

__all__ = ["Schema", "Snapshot", "StateDB", "Tx"]

# 4 KiB pages in the log before the committer folds them into the main file, outside the lock.
_CHECKPOINT_PAGES: Final = 2_000
# Beyond this the fold is done under the lock, because concurrent writers keep it from ever completing outside.
_CHECKPOINT_PAGES_HARD: Final = 16_000
_READERS_KEPT: Final = 16
_FORK_WAIT_S: Final = 2.0


class StateDB:
    """The shared handle on one ``state.db``; open it with ``StateDB.open``. Safe to use from any thread."""

    def __init__(self, path: str, *, read_only: bool, lock_timeout_s: float, now: Callable[[], int]) -> None:
        self.path = path
        self.read_only = read_only
        self.lock_timeout_s = lock_timeout_s
        self._now = now
        self._key = identity(path)
        self._lock = FileLock(path + ".lock")
        self._mutex = threading.Lock()
        self._owner = 0
        self._writer: apsw.Connection | None = None
        self._readers: list[apsw.Connection] = []
        self._readers_out = 0
        self._readers_guard = threading.Lock()
        self._watch: apsw.Connection | None = None
        self._watches = 0
        self._watch_guard = threading.Lock()
        self._wal_pages = 0
        self._failure: str | None = None
        self._failure_kind: type[StorageFailed] = StorageFailed
        self._closed = False
        self._forked = False
        self._quiet = False
        self._seen: tuple[int, int] | None = None

    @classmethod
    def open(
        cls,
        path: PathLike,
        schemas: Sequence[Schema],
        *,
        read_only: bool = False,
        lock_timeout_s: float = 30.0,
        now: Callable[[], int] = time.time_ns,
    ) -> StateDB:
        """Open the state file, creating it and the tables of each layer when absent.

        Opening one path twice in a process gives one shared object; ``close`` it as often as it was opened.

        Args:
            path: The file.
            schemas: The tables of the layers above.
            read_only: Write nothing at all, not even lock or log files.
            lock_timeout_s: Longest wait for other writers.
            now: Wall clock in nanoseconds, for ``Tx.began_ns``.

        Raises:
            StoreNotFound: ``read_only`` and there is no file.
            Unsupported: A newer build wrote the file, or it lies on a network file system.
            FormatError: The file is not ours.
        """
        name = os.path.abspath(path)
        _prepare_file(name, read_only=read_only)
        if identity(name) in _tainted:
            raise StorageFailed(
                f"{name} was in use when this process was forked; open it before its first use, or use spawn", path=name
            )

        def make() -> StateDB:
            db = cls(name, read_only=read_only, lock_timeout_s=lock_timeout_s, now=now)
            db.start()
            return db

        db = _registry.open(name, read_only, make)
        try:
            db.apply(schemas)
        except BaseException:
            db.close()
            raise
        return db

    # -- writing -------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[Tx]:
        """Open the one write transaction: blocking lock, BEGIN IMMEDIATE, then COMMIT or, on an exception, ROLLBACK.

        When the block ends without an exception its changes are durable.

        Raises:
            LockTimeout: Another process or thread held the lock past the limit.
            ReadOnly: The store was opened read-only.
            StorageFailed: An I/O error; the changes are not acknowledged and the object is dead.
        """
        self._usable()
        if self.read_only:
            raise ReadOnly(f"{self.path} is open for reading only", path=self.path)
        if self._owner == threading.get_ident():
            raise InternalError("a state transaction is open in this thread; use Tx.savepoint to nest")
        if not self._mutex.acquire(timeout=self.lock_timeout_s):
            raise LockTimeout(
                f"another thread of this process held the state transaction for {self.lock_timeout_s:g} s",
                path=self.path,
                pid=os.getpid(),
            )
        self._owner = threading.get_ident()
        try:
            self._usable()
            connection = self._writing()
            self._lock.acquire(self.lock_timeout_s)
            try:
                yield from self._transact(connection)
                if self._wal_pages >= _CHECKPOINT_PAGES_HARD:
                    self._checkpoint(connection)
            finally:
                self._lock.release()
            if self._wal_pages >= _CHECKPOINT_PAGES:
                self._checkpoint(connection)
        finally:
            self._owner = 0
            self._mutex.release()

    def _transact(self, connection: apsw.Connection) -> Iterator[Tx]:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.Error as exc:
            raise self.fail(exc) from exc
        try:
            yield Tx(self, connection, self._now())
            if self._failure is not None:
                raise self.failure()
            try:
                connection.execute("COMMIT")
            except apsw.Error as exc:
                raise self.fail(exc) from exc
        except BaseException:
            self._roll_back(connection)
            raise

    def _roll_back(self, connection: apsw.Connection) -> None:
        if not connection.in_transaction:
            return
        try:
            connection.execute("ROLLBACK")
        except apsw.Error as exc:
            # The log keeps no commit mark, so nothing of it counts; but the connection is of no further use.
            self._failure = self._failure or f"rolling back failed: {exc}"

    def _checkpoint(self, connection: apsw.Connection) -> None:
        """Fold the log into the main file as far as readers allow."""
        try:
            log, done = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except (apsw.BusyError, apsw.LockedError):
            return  # another process is folding the same log
        except apsw.Error as exc:
            raise self.fail(exc) from exc
        # What stays is held by a reader; the count starts over so that we do not fold after every commit.
        self._wal_pages = 0 if done >= log else (log - done) // 2

    # -- reading -------------------------------------------------------------------------------------------------

    def query(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one statement over the last committed state, never that of an open transaction."""
        if self.read_only:
            return self._query_quiet(sql, params)
        connection = self._take_reader()
        try:
            return connection.execute(sql, params).fetchall()
        except apsw.Error as exc:
            raise _sqlite.translate(exc, self.path) from exc
        finally:
            self._give_reader(connection)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Hold one committed state for several queries; keep it short, because the log cannot shrink meanwhile."""
        connection = self._take_reader()
        try:
            try:
                connection.execute("BEGIN").fetchall()
            except apsw.Error as exc:
                raise _sqlite.translate(exc, self.path) from exc
            try:
                yield Snapshot(connection, self.path)
            finally:
                connection.execute("ROLLBACK").fetchall()
        finally:
            self._give_reader(connection)

    def changed(self) -> int:
        """A token of the committed state, comparable only with others from this object: it differs after a commit."""
        self._usable()
        with self._watch_guard:
            if self._watch is None:
                # A new connection counts anew: its numbers must not be taken for those of the one before.
                self._watch = self._connect_reader()
                self._watches += 1
            try:
                version = cast(int, self._watch.execute("PRAGMA data_version").fetchall()[0][0])
                return self._watches << 32 | version
            except apsw.Error as exc:
                raise _sqlite.translate(exc, self.path) from exc

    def _query_quiet(self, sql: str, params: Params) -> list[tuple[Any, ...]]:
        """Query without shared memory, again when a writer changed the file meanwhile."""
        for _ in range(50):
            before = self._quiet_state()
            if before != self._seen:
                self._drop_readers()
                self._seen = before
            connection = self._take_reader()
            try:
                rows = connection.execute(sql, params).fetchall()
                error = None
            except apsw.Error as exc:
                error = exc
            finally:
                self._give_reader(connection)
            if self._quiet_state() == before or before[0] < 0:
                if error is not None:
                    raise _sqlite.translate(error, self.path) from error
                return rows
        raise LockTimeout(f"{self.path} changes faster than it can be read without locks", path=self.path)

    def _quiet_state(self) -> tuple[int, int]:
        """What tells one quiet file from another; (-1, -1) when SQLite itself follows its log."""
        if _size_of(self.path + "-wal"):
            return (-1, -1)
        status = os.stat(self.path)
        return (status.st_mtime_ns, status.st_size)

    # -- life ----------------------------------------------------------------------------------------------------

    @property
    def failed(self) -> bool:
        """Whether an I/O error made this object unusable."""
        return self._failure is not None

    @property
    def closed(self) -> bool:
        """Whether the last opener has closed it."""
        return self._closed

    def failure(self) -> StorageFailed:
        """The error that every call on a poisoned object raises."""
        return self._failure_kind(f"{self.path} failed earlier ({self._failure}): reopen the store", path=self.path)

    def poison(self, reason: str, kind: type[StorageFailed] = StorageFailed) -> None:
        """Stop every further write, because something that a commit relies on was not made durable.

        Args:
            reason: What failed, for the message of later calls.
            kind: The class of the error that later calls raise.
        """
        if self._failure is None:
            self._failure_kind = kind
        self._failure = self._failure or reason

    def fail(self, error: apsw.Error) -> Exception:
        """Translate an error of the writing connection, poisoning the object when it concerns the disk."""
        translated = _sqlite.translate(error, self.path)
        if _sqlite.poisons(error):
            self.poison(str(error), NoSpace if isinstance(translated, NoSpace) else StorageFailed)
        return translated

    def close(self) -> None:
        """Give up one opening; the last one closes the connections and folds the log."""
        if self._forked or self._closed:
            return
        _registry.release(self, self._shut)

    def __enter__(self) -> StateDB:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Check or create the file; ``open`` calls it once."""
        refuse_network(os.path.dirname(self.path))
        _watch_forks()
        _live.add(self)
        try:
            if self.read_only:
                check_header(self.query("PRAGMA application_id"), self.query("PRAGMA user_version"), self.path)
                return
            leftover = _size_of(self.path + "-wal") > 0
            with self._mutex, self._lock.acquire(self.lock_timeout_s):
                connection = self._writing()
                if leftover:
                    # Commits that a crashed writer left may sit in the log unsynced: folding rewrites and syncs them,
                    # so that no later commit stands on them.
                    self._checkpoint(connection)
        except BaseException:
            self._shut()
            raise

    def _shut(self) -> None:
        self._closed = True
        _live.discard(self)
        self._drop_readers()
        with self._watch_guard:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        try:
            with self._mutex:
                self._close_writer()
        finally:
            self._lock.close()

    def _close_writer(self) -> None:
        if self._writer is None:
            return
        if self._failure is not None:
            # After a failed sync the page cache may differ from the disk: fold nothing on the way out.
            self._writer.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        writer, self._writer = self._writer, None
        try:
            writer.close()
        except apsw.Error as exc:
            # Closing folds the log into the file; what was committed stays in the log for whoever opens next.
            writer.close(True)
            raise self.fail(exc) from exc

    def _usable(self) -> None:
        if self._forked:
            raise StorageFailed(f"{self.path} was opened before this process was forked: open it again", path=self.path)
        if self._closed:
            raise StorageFailed(f"{self.path} is closed: open it again", path=self.path)
        if self._failure is not None:
            raise self.failure()

    def _writing(self) -> apsw.Connection:
        """The writing connection, opened and initialised when needed; the caller holds the mutex."""
        if self._writer is None:
            try:
                connection = _sqlite.connect(self.path, writer=True, busy_timeout_s=self.lock_timeout_s)
                if not self._lock.held:
                    with self._lock.acquire(self.lock_timeout_s):
                        initialise(connection, self.path)
                else:
                    initialise(connection, self.path)
                connection.set_wal_hook(self._count_pages)
            except apsw.Error as exc:
                raise _sqlite.translate(exc, self.path) from exc
            self._writer = connection
        return self._writer

    def _count_pages(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def apply(self, schemas: Sequence[Schema]) -> None:
        """Create or migrate the tables of more layers.

        Raises:
            Unsupported: A newer build wrote them.
        """
        known = dict(self.query("SELECT name, version FROM kit_schema"))
        if all(known.get(schema.name) == schema.version for schema in schemas):
            return
        if self.read_only:
            for schema in schemas:
                check_version(schema, known.get(schema.name, schema.version), self.path)
            return
        with self.transaction() as tx:
            known = dict(tx.execute("SELECT name, version FROM kit_schema"))
            for schema in schemas:
                _apply_schema(tx, schema, known.get(schema.name), self.path)

    def _connect_reader(self) -> apsw.Connection:
        try:
            if not self.read_only:
                return _sqlite.connect(self.path, writer=False, busy_timeout_s=self.lock_timeout_s)
            return _sqlite.connect_read_only(self.path, immutable=not _size_of(self.path + "-wal"))
        except apsw.Error as exc:
            raise _sqlite.translate(exc, self.path) from exc

    def _take_reader(self) -> apsw.Connection:
        self._usable()
        with self._readers_guard:
            self._readers_out += 1
            if self._readers:
                return self._readers.pop()
        try:
            return self._connect_reader()
        except BaseException:
            with self._readers_guard:
                self._readers_out -= 1
            raise

    def _give_reader(self, connection: apsw.Connection) -> None:
        with self._readers_guard:
            self._readers_out -= 1
            if len(self._readers) < _READERS_KEPT and not self._closed:
                self._readers.append(connection)
                return
        connection.close()

    def _drop_readers(self) -> None:
        with self._readers_guard:
            readers, self._readers = self._readers, []
        for connection in readers:
            connection.close()

    def quiesce(self) -> bool:
        """Close every connection before a fork, leaving the writer's turn taken until ``resume``.

        Returns:
            False when a connection is in use and cannot be closed.
        """
        if self._owner == threading.get_ident() or not self._mutex.acquire(timeout=_FORK_WAIT_S):
            return False
        self._quiet = True
        self._drop_readers()
        with self._watch_guard:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self._close_writer()
        return self._readers_out == 0

    def resume(self) -> None:
        """Let writers in again after ``quiesce``; connections reopen at use."""
        if self._quiet:
            self._quiet = False
            self._mutex.release()

    def orphan(self, *, clean: bool) -> None:
        """Make this object refuse every call in a forked child.

        Args:
            clean: No connection was open at the fork, so the child may open the file anew.
        """
        self._forked = True
        self._lock.orphan()
        if not clean:
            _tainted.add(self._key)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _prepare_file(path: str, *, read_only: bool) -> None:
    if os.path.isfile(path):
        return
    if read_only:
        raise StoreNotFound(f"{path} does not exist: run 'ipfs-kit init' first", path=path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as exc:
        raise storage_failed("create", path, exc) from exc
    sync_dir(os.path.dirname(path))


def _apply_schema(tx: Tx, schema: Schema, stored: int | None, path: str) -> None:
    if stored is None:
        for statement in schema.statements:
            tx.execute(statement)
        tx.execute("INSERT INTO kit_schema(name, version) VALUES (?, ?)", (schema.name, schema.version))
        return
    check_version(schema, stored, path)
    for version in range(stored, schema.version):
        if version not in schema.migrations:
            raise Unsupported(
                f"{path}: no way from format {version} of '{schema.name}' to {version + 1} in this build", path=path
            )
        for statement in schema.migrations[version]:
            tx.execute(statement)
    if stored != schema.version:
        tx.execute("UPDATE kit_schema SET version = ? WHERE name = ?", (schema.version, schema.name))


def _reusable(db: StateDB) -> bool:
    return not (db.failed or db.closed)


_registry: Registry[StateDB] = Registry(_reusable)
_live: weakref.WeakSet[StateDB] = weakref.WeakSet()
# Files whose SQLite bookkeeping a forked child inherited in the middle of use; its POSIX locks would be wrong.
_tainted: set[tuple[int, int]] = set()
_quiesced: list[tuple[StateDB, bool]] = []
_fork_hooks: list[bool] = []


def _watch_forks() -> None:
    if not _fork_hooks:
        _fork_hooks.append(True)
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_parent, after_in_child=_after_fork_child)


def _before_fork() -> None:
    _quiesced[:] = [(db, db.quiesce()) for db in list(_live)]


def _after_fork_parent() -> None:
    for db, _ in _quiesced:
        db.resume()
    _quiesced.clear()


def _after_fork_child() -> None:
    for db, clean in _quiesced:
        db.orphan(clean=clean)
    _quiesced.clear()
    _live.clear()
