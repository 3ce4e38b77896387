"""Files that survive a crash, named by what each call guarantees.

Every function returns only after the stated effect is durable, and raises ``StorageFailed`` when the operating system
refuses. A caller that sees ``StorageFailed`` must not retry on the same file: after a failed ``fsync`` the kernel may
report success for bytes it dropped.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ipfs_kit.durable import faults
from ipfs_kit.errors import AlreadyExists, NoSpace, StorageFailed

if TYPE_CHECKING:
    from types import TracebackType

Buffer: TypeAlias = bytes | bytearray | memoryview
PathLike: TypeAlias = str | os.PathLike[str]

# Linux refuses more vectors than this in one call (UIO_MAXIOV).
_IOV_MAX: Final = 1024
_TMP_SUFFIX: Final = ".kit-tmp"
_serial = itertools.count()


def is_no_space(error: OSError) -> bool:
    """Whether the disk, or the caller's quota of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def storage_failed(operation: str, path: PathLike, error: OSError) -> StorageFailed:
    """Describe a refused durable call with what the user can do about it.

    Args:
        operation: The durable call, for example ``"sync"``.
        path: The file or directory it was for.
        error: What the operating system answered.

    Returns:
        The error to raise ``from error``.
    """
    advice = {
        errno.ENOSPC: "run 'ipfs-kit gc' or free disk space, then reopen the store",
        errno.EDQUOT: "run 'ipfs-kit gc' or raise the disk quota, then reopen the store",
        errno.EROFS: "the file system is read-only: mount it writable or open the store with read_only=True",
        errno.EACCES: "check the permissions, or open the store with read_only=True",
        errno.EPERM: "check the permissions, or open the store with read_only=True",
    }.get(error.errno or 0, "check the disk and the system log, then reopen the store")
    kind = NoSpace if is_no_space(error) else StorageFailed
    return kind(
        f"{operation} failed on {os.fspath(path)}: {error.strerror or error}; {advice}",
        operation=operation,
        path=os.fspath(path),
        errno=error.errno,
    )


def _call(operation: str, path: str) -> None:
    if faults.hook is not None:
        faults.hook(operation, path)


def _write_all(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    """Write every buffer at ``offset`` and return the bytes written; short writes are continued."""
    total = 0
    for start in range(0, len(buffers), _IOV_MAX):
        chunk: list[Buffer] = list(buffers[start : start + _IOV_MAX])
        while chunk:
            done = os.pwritev(fd, chunk, offset + total)
            total += done
            index = 0
            while index < len(chunk) and done >= len(chunk[index]):
                done -= len(chunk[index])
                index += 1
            chunk = chunk[index:]
            if chunk and done:
                chunk[0] = memoryview(chunk[0])[done:]
    return total


def _buffers(data: Buffer | Iterable[Buffer]) -> list[Buffer]:
    return [data] if isinstance(data, (bytes, bytearray, memoryview)) else list(data)


def _write_temporary(path: str, data: Buffer | Iterable[Buffer], mode: int) -> str:
    """Write and sync a complete sibling of ``path`` and return its name."""
    head, tail = os.path.split(path)
    temporary = os.path.join(head, f".{tail}.{os.getpid()}-{next(_serial)}{_TMP_SUFFIX}")
    _call("create", temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        buffers = _buffers(data)
        _call("write", temporary)
        _write_all(fd, buffers, 0)
        _call("sync", temporary)
        os.fdatasync(fd)
    except BaseException:
        os.close(fd)
        _discard(temporary)
        raise
    os.close(fd)
    return temporary


def _discard(temporary: str) -> None:
    """Drop a temporary file after a failure; one that cannot be removed is swept later by name."""
    try:
        os.unlink(temporary)
    except OSError:
        return


def _sync_dir(path: str) -> None:
    _call("sync_dir", path)
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_dir(path: PathLike) -> None:
    """Make the names in a directory durable.

    Args:
        path: The directory.

    Raises:
        StorageFailed: The operating system refused.
    """
    try:
        _sync_dir(os.fspath(path))
    except OSError as exc:
        raise storage_failed("sync_dir", path, exc) from exc


def create_exclusive(
    path: PathLike, data: Buffer | Iterable[Buffer], *, mode: int = 0o644, sync_name: bool = True
) -> None:
    """Create a file with all of ``data``, durable, under a name nobody else has.

    Args:
        path: The name; a crash leaves it absent or complete.
        data: The content: one buffer or several to be joined.
        mode: Permission bits.
        sync_name: False leaves the name to a later ``sync_dir``: one for many files.

    Raises:
        AlreadyExists: The name is taken.
        StorageFailed: The operating system refused.
    """
    name = os.fspath(path)
    try:
        temporary = _write_temporary(name, data, mode)
        try:
            _call("link", name)
            os.link(temporary, name)
        finally:
            _discard(temporary)
        if sync_name:
            _sync_dir(os.path.dirname(name))
    except FileExistsError as exc:
        raise AlreadyExists(f"{name} exists already", path=name) from exc
    except OSError as exc:
        raise storage_failed("create_exclusive", name, exc) from exc


def create_idempotent(
    path: PathLike, data: Buffer | Iterable[Buffer], *, mode: int = 0o644, sync_name: bool = True
) -> bool:
    """Create a file whose content is fixed by its name; finding the same bytes there is success.

    Args:
        path: The name; a crash leaves it absent or complete.
        data: The content: one buffer or several to be joined.
        mode: Permission bits.
        sync_name: False leaves the name to a later ``sync_dir``: one for many files.

    Returns:
        True when this call created the file.

    Raises:
        AlreadyExists: The name is taken by other content.
        StorageFailed: The operating system refused.
    """
    name = os.fspath(path)
    content = b"".join(_buffers(data))
    try:
        create_exclusive(name, content, mode=mode, sync_name=sync_name)
        return True
    except AlreadyExists:
        try:
            if Path(name).read_bytes() != content:
                raise
            # The earlier creator may have died between linking the name and syncing the directory.
            if sync_name:
                _sync_dir(os.path.dirname(name))
        except OSError as exc:
            raise storage_failed("create_idempotent", name, exc) from exc
        return False


def replace(path: PathLike, data: Buffer | Iterable[Buffer], *, mode: int | None = None) -> None:
    """Swap a file's whole content atomically: readers and crashes see the old bytes or the new, nothing between.

    Args:
        path: The file; it need not exist.
        data: The content: one buffer or several to be joined.
        mode: Permission bits; None keeps those of the present file, or 0o644.

    Raises:
        StorageFailed: The operating system refused.
    """
    name = os.fspath(path)
    try:
        if mode is None:
            try:
                mode = stat.S_IMODE(os.stat(name).st_mode)
            except FileNotFoundError:
                mode = 0o644
        temporary = _write_temporary(name, data, mode)
        try:
            _call("rename", name)
            os.rename(temporary, name)
        except BaseException:
            _discard(temporary)
            raise
        _sync_dir(os.path.dirname(name))
    except OSError as exc:
        raise storage_failed("replace", name, exc) from exc


def move(source: PathLike, target: PathLike) -> None:
    """Give a file a new name in its directory, durably; whoever has it open goes on with it.

    Args:
        source: The file.
        target: Its new name, which must be free: one that is taken is replaced.

    Raises:
        StorageFailed: The operating system refused, or the file is absent.
    """
    name = os.fspath(target)
    try:
        _call("rename", name)
        os.rename(source, name)
        _sync_dir(os.path.dirname(name))
    except OSError as exc:
        raise storage_failed("move", name, exc) from exc


def remove(path: PathLike, *, missing_ok: bool = True, sync: bool = True) -> bool:
    """Unlink a file and make its absence durable.

    Args:
        path: The file.
        missing_ok: False raises when there is nothing to remove.
        sync: False leaves syncing the directory to the caller, who removes several files.

    Returns:
        True when a file was removed.

    Raises:
        StorageFailed: The operating system refused, or the file is absent and ``missing_ok`` is False.
    """
    name = os.fspath(path)
    try:
        _call("remove", name)
        try:
            os.unlink(name)
        except FileNotFoundError:
            if not missing_ok:
                raise
            return False
        if sync:
            _sync_dir(os.path.dirname(name))
        return True
    except OSError as exc:
        raise storage_failed("remove", name, exc) from exc


def overwrite(path: PathLike, fill: Buffer) -> None:
    """Overwrite a file's bytes in place, durable, keeping its size: for secrets that are about to be removed.

    Args:
        path: An existing regular file.
        fill: The pattern, repeated over the whole file.

    Raises:
        StorageFailed: The operating system refused.
    """
    name = os.fspath(path)
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size
            pattern = bytes(fill) * (size // max(1, len(fill)) + 1)
            _call("write", name)
            _write_all(fd, [pattern[:size]], 0)
            _call("sync", name)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        raise storage_failed("overwrite", name, exc) from exc


def make_dirs(path: PathLike, mode: int = 0o755) -> None:
    """Create a directory and its missing parents, durable.

    Args:
        path: The directory; finding it is success.
        mode: Permission bits of each directory created.

    Raises:
        StorageFailed: The operating system refused, or the name is taken by something else.
    """
    name = os.path.abspath(path)
    missing: list[str] = []
    while not os.path.isdir(name):
        missing.append(name)
        parent = os.path.dirname(name)
        if parent == name:
            break
        name = parent
    try:
        for directory in reversed(missing):
            _call("mkdir", directory)
            try:
                os.mkdir(directory, mode)
            except FileExistsError:
                if not os.path.isdir(directory):
                    raise
            _sync_dir(os.path.dirname(directory))
    except OSError as exc:
        raise storage_failed("make_dirs", path, exc) from exc


def is_temporary(name: str) -> bool:
    """Whether a file name is one that an interrupted ``create_*`` or ``replace`` leaves behind."""
    return name.startswith(".") and name.endswith(_TMP_SUFFIX)


def sweep_temporaries(path: PathLike) -> int:
    """Remove what interrupted calls of dead processes left in a directory.

    Args:
        path: The directory.

    Returns:
        How many files were removed.

    Raises:
        StorageFailed: The operating system refused.
    """
    directory = os.fspath(path)
    try:
        names = [name for name in os.listdir(directory) if is_temporary(name)]
        removed = 0
        for name in names:
            owner = name[: -len(_TMP_SUFFIX)].rpartition(".")[2].partition("-")[0]
            if owner.isdigit() and os.path.exists(f"/proc/{owner}"):
                continue
            removed += remove(os.path.join(directory, name), sync=False)
    except OSError as exc:
        raise storage_failed("sweep_temporaries", directory, exc) from exc
    return removed


class AppendFile:
    """A file that only grows at its end, written with one vectored call per batch.

    Not thread-safe: the owner serialises. After any refused call the object raises ``StorageFailed`` for ever, because
    neither the tail nor the state of earlier unsynced bytes is known; reopen the file and truncate to a known size.

    Args:
        path: The file.
        create: Create it when absent (the caller syncs the directory).
        exclusive: With ``create``: refuse a file that exists.
        mode: Permission bits of a created file.
    """

    __slots__ = ("_failed", "_fd", "_size", "_synced", "path")

    def __init__(self, path: PathLike, *, create: bool = True, exclusive: bool = False, mode: int = 0o644) -> None:
        self.path = os.fspath(path)
        self._fd = -1
        self._failed = False
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | (os.O_EXCL if exclusive else 0)
        try:
            if create:
                _call("create", self.path)
            self._fd = os.open(self.path, flags, mode)
            self._size = os.fstat(self._fd).st_size
        except FileExistsError as exc:
            raise AlreadyExists(f"{self.path} exists already", path=self.path) from exc
        except OSError as exc:
            raise storage_failed("open", self.path, exc) from exc
        self._synced = self._size

    @property
    def size(self) -> int:
        """Bytes in the file, synced or not."""
        return self._size

    @property
    def synced(self) -> int:
        """Bytes known to be durable."""
        return self._synced

    def fileno(self) -> int:
        """The open descriptor, for ``pread`` and ``flock``."""
        return self._fd

    def append(self, buffers: Sequence[Buffer]) -> int:
        """Write buffers one after another at the end; not yet durable.

        Args:
            buffers: What to write, in order.

        Returns:
            The offset of the first byte written.

        Raises:
            StorageFailed: The operating system refused; the object is dead.
        """
        offset = self._size
        try:
            self._usable()
            _call("append", self.path)
            self._size = offset + _write_all(self._fd, buffers, offset)
        except OSError as exc:
            self._failed = True
            raise storage_failed("append", self.path, exc) from exc
        return offset

    def sync(self, *, force: bool = False) -> None:
        """Make every appended byte durable; may run in another thread beside ``append``.

        Args:
            force: Sync even when this object appended nothing: a former owner may have.

        Raises:
            StorageFailed: The operating system refused; the object is dead.
        """
        self._usable()
        size = self._size
        if self._synced == size and not force:
            return
        try:
            _call("sync", self.path)
            os.fdatasync(self._fd)
        except OSError as exc:
            self._failed = True
            raise storage_failed("sync", self.path, exc) from exc
        self._synced = size

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes, durable.

        Raises:
            StorageFailed: The operating system refused; the object is dead.
        """
        self._usable()
        try:
            _call("truncate", self.path)
            os.ftruncate(self._fd, size)
            self._size = size
            _call("sync", self.path)
            os.fdatasync(self._fd)
        except OSError as exc:
            self._failed = True
            raise storage_failed("truncate", self.path, exc) from exc
        self._synced = size

    def cut_back(self) -> None:
        """Drop every byte after the last sync, to give its space back; the object takes no more writes.

        Raises:
            StorageFailed: The operating system refused; the bytes stay, as after a crash.
        """
        self._failed = True
        if self._fd < 0:
            return
        try:
            _call("truncate", self.path)
            os.ftruncate(self._fd, self._synced)
        except OSError as exc:
            raise storage_failed("truncate", self.path, exc) from exc
        self._size = self._synced

    def close(self) -> None:
        """Close without syncing; a second call does nothing."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _usable(self) -> None:
        if self._failed or self._fd < 0:
            why = "an earlier write to it failed" if self._failed else "it is closed"
            raise StorageFailed(f"{self.path} takes no more writes: {why}; reopen the store", path=self.path)

    def __enter__(self) -> AppendFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
