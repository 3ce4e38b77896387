"""How this project opens SQLite through apsw: pragmas, error translation, and the fault-injecting VFS."""

from __future__ import annotations

import atexit
import errno
import urllib.parse
from typing import Any, Final

import apsw

from ipfs_kit.durable import faults
from ipfs_kit.errors import (
    BudgetExceeded,
    Cancelled,
    Conflict,
    IntegrityError,
    InternalError,
    KitError,
    LockTimeout,
    NoSpace,
    ReadOnly,
    StorageFailed,
)

_VFS_NAME: Final = "ipfs-kit-faults"
# Prepared statements kept per connection; the engine's own statements number well under this.
_STATEMENTS: Final = 256
# Pages of 4 KiB kept per connection, as SQLite's negative KiB figure.
_CACHE_KIB: Final = 16_384
_STORAGE: Final = (apsw.IOError, apsw.FullError, apsw.CantOpenError, apsw.NoMemError, apsw.PermissionsError)
_vfs: list[apsw.VFS] = []


class _FaultFile(apsw.VFSFile):
    """Asks the fault hook before each call that changes a file."""

    def __init__(self, name: Any, flags: list[int]) -> None:
        raw = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = raw or "temporary"
        super().__init__("", name, flags)

    def _ask(self, operation: str, extended: int) -> None:
        if faults.hook is None:
            return
        try:
            faults.hook(operation, self._name)
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            error = apsw.FullError(str(exc)) if full else apsw.IOError(str(exc))
            error.extendedresult = apsw.SQLITE_FULL if full else extended  # type: ignore[union-attr]  # apsw reads it
            raise error from exc

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  apsw names the callback
        self._ask("sqlite-write", apsw.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802  apsw names the callback
        self._ask("sqlite-sync", apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802  apsw names the callback
        self._ask("sqlite-truncate", apsw.SQLITE_IOERR_TRUNCATE)
        super().xTruncate(size)


class _FaultVFS(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(_VFS_NAME, "", makedefault=False)

    def xOpen(self, name: Any, flags: list[int]) -> _FaultFile:  # noqa: N802  apsw names the callback
        return _FaultFile(name, flags)

    def xDelete(self, name: str, sync_dir: bool) -> None:  # noqa: N802  apsw names the callback
        if faults.hook is not None:
            try:
                faults.hook("sqlite-remove", name)
            except OSError as exc:
                error = apsw.IOError(str(exc))
                error.extendedresult = apsw.SQLITE_IOERR_DELETE  # type: ignore[attr-defined]  # apsw reads it
                raise error from exc
        super().xDelete(name, sync_dir)


def _vfs_name() -> str | None:
    """The VFS to open with: the plain one unless a fault hook is installed."""
    if faults.hook is None:
        return None
    if not _vfs:
        _vfs.append(_FaultVFS())
        atexit.register(_close_all)
    return _VFS_NAME


def _close_all() -> None:
    """Close what a failure left open: a connection that outlives its Python VFS crashes the exiting interpreter."""
    for connection in apsw.connections():
        connection.close(force=True)


def connect(path: str, *, writer: bool, busy_timeout_s: float) -> apsw.Connection:
    """Open a connection for reading and, when ``writer``, writing.

    Args:
        path: The database file, which exists.
        writer: False sets ``query_only``.
        busy_timeout_s: How long SQLite waits for foreign tools that hold its own locks.
    """
    connection = apsw.Connection(
        path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=_vfs_name(), statementcachesize=_STATEMENTS
    )
    connection.set_busy_timeout(int(busy_timeout_s * 1000))
    _tune(connection)
    if writer:
        connection.pragma("synchronous", "FULL")
        connection.pragma("foreign_keys", True)
        # The owner checkpoints outside its lock; see StateDB.
        connection.wal_autocheckpoint(0)
    else:
        connection.pragma("query_only", True)
    return connection


def connect_read_only(path: str, *, immutable: bool) -> apsw.Connection:
    """Open a connection that writes nothing.

    Args:
        path: The database file.
        immutable: The file has no log and nobody writes it, so SQLite needs neither locks nor shared memory. Otherwise
            an existing shared-memory file is read, and one that no live writer vouches for is rebuilt in memory.
    """
    mode = "immutable=1" if immutable else "mode=ro&readonly_shm=1"
    uri = f"file:{urllib.parse.quote(path)}?{mode}"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    connection = apsw.Connection(uri, flags=flags, statementcachesize=_STATEMENTS)
    connection.set_busy_timeout(5_000)
    _tune(connection)
    return connection


def _tune(connection: apsw.Connection) -> None:
    connection.pragma("cache_size", -_CACHE_KIB)
    connection.pragma("temp_store", "MEMORY")


def poisons(error: apsw.Error) -> bool:
    """Whether an error inside a transaction means that the file can no longer be trusted to keep what is written."""
    return isinstance(error, (*_STORAGE, apsw.CorruptError, apsw.NotADBError))


def translate(error: apsw.Error, path: str) -> KitError:
    """Turn a SQLite error into one of ours.

    Args:
        error: What apsw raised.
        path: The database file.

    Returns:
        The error to raise ``from error``.
    """
    if isinstance(error, apsw.FullError) or getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_SHMSIZE:
        return NoSpace(
            f"SQLite has no room for {path}: {error}; run 'ipfs-kit gc' or free disk space, then reopen the store",
            path=path,
            result=getattr(error, "extendedresult", None),
        )
    if isinstance(error, _STORAGE):
        return StorageFailed(
            f"SQLite could not use {path}: {error}; free disk space or check the disk, then reopen the store",
            path=path,
            result=getattr(error, "extendedresult", None),
        )
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return IntegrityError(f"{path} is damaged: {error}; run 'ipfs-kit verify'", path=path)
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return LockTimeout(f"{path} is locked by another program: {error}; close it and try again", path=path)
    if isinstance(error, apsw.ConstraintError):
        return Conflict(f"a constraint of {path} forbids the change: {error}", path=path)
    if isinstance(error, apsw.ReadOnlyError):
        return ReadOnly(f"{path} is open for reading only: {error}", path=path)
    if isinstance(error, apsw.TooBigError):
        return BudgetExceeded(f"a value is too large for {path}: {error}", path=path)
    if isinstance(error, (apsw.InterruptError, apsw.AbortError)):
        return Cancelled(f"a query on {path} was interrupted: {error}", path=path)
    return InternalError(f"SQLite refused a statement on {path}: {error}", path=path)
