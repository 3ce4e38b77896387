"""A bucket, or a version of it, as a folder for programs that know nothing of it.

Every access is a recorded operation. A file that is written reaches the bucket when it is closed or synced, in one
operation. Permissions and times that programs set are kept as long as it is mounted: the bucket has no place for them.
"""

# mfusepy is only there with the extra.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
import time
from typing import Any, Final

from ipfs_kit.errors import KitError, MissingExtra, StorageFailed
from ipfs_kit.operations.kit import Kit
from ipfs_kit.surfaces.filesystem_errors import os_errors
from ipfs_kit.surfaces.fuse.contents import OpenFile

try:
    from mfusepy import FUSE, Operations
except (ModuleNotFoundError, OSError) as exc:  # OSError: the operating system's library is missing
    raise MissingExtra(
        "mounting needs mfusepy and the system's fuse3: pip install 'ipfs-kit-py[fuse]', and install fuse3",
        package="mfusepy",
    ) from exc

_log = logging.getLogger(__name__)
PAGE: Final = 1_000
INTERRUPTED: Final = 8
"""Status of libfuse (fuse_main) when its loop was ended by a signal, after it has unmounted."""
KEPT_MAX: Final = 100_000
"""Paths whose permissions and times are kept while mounted."""
STAYS_S: Final = 3_600.0
"""How long the kernel may keep what it learned of a version, which never changes."""


class BucketFolder(Operations):  # type: ignore[misc]
    """One bucket as FUSE operations.

    Args:
        kit: The store.
        ref: ``BUCKET``, ``BUCKET@ref`` or ``BUCKET#session``.
        top: Path inside that is mounted, without slashes around it.
        writable: Whether anything may be changed.
    """

    def __init__(self, kit: Kit, ref: str, top: str, writable: bool) -> None:
        self._kit, self._ref, self._top, self._writable = kit, ref, top, writable
        self._open: dict[str, OpenFile] = {}
        self._handles: dict[int, OpenFile] = {}
        self._next = 0
        self._kept: dict[str, dict[str, Any]] = {}
        self._mounted = time.time_ns() / 1e9

    def place(self, path: str) -> str:
        """A path of the folder as operations take it."""
        inside = "/".join(part for part in (self._top, path.strip("/")) if part)
        return f"{self._ref}:/{inside}"

    # -- looking -------------------------------------------------------------------------------------------------

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """What stat(2) tells."""
        opened = self._handles.get(fh) if fh is not None else None
        opened = opened or self._open.get(path)
        if opened is not None:
            found = self._attributes("file", opened.size, opened.changed_ns / 1e9)
        else:
            with os_errors(path):
                one = self._kit.files.stat(self.place(path))
            found = self._attributes(one.kind, one.size, None if one.mtime_ns is None else one.mtime_ns / 1e9, one.mode)
        kept = self._kept.get(path, {})
        if "st_mode" in kept:
            found["st_mode"] = stat.S_IFMT(found["st_mode"]) | kept["st_mode"]
        return {**found, **{name: value for name, value in kept.items() if name != "st_mode"}}

    def _attributes(self, kind: str, size: int, mtime: float | None, mode: int | None = None) -> dict[str, Any]:
        bits = {"dir": stat.S_IFDIR | 0o755, "symlink": stat.S_IFLNK | 0o777}.get(kind, stat.S_IFREG | (mode or 0o644))
        when = self._mounted if mtime is None else mtime
        return {
            "st_mode": bits if self._writable else bits & ~0o222, "st_nlink": 2 if kind == "dir" else 1, "st_size": size,
            "st_uid": os.getuid(), "st_gid": os.getgid(), "st_mtime": when, "st_ctime": when, "st_atime": when,
            "st_blocks": (size + 511) // 512,
        }  # fmt: skip

    def readdir(self, path: str, fh: int) -> list[str]:
        """Names in a folder."""
        names, cursor = [".", ".."], None
        with os_errors(path):
            while True:
                page = self._kit.files.list(self.place(path), cursor=cursor, limit=PAGE)
                names += [entry.name for entry in page.entries]
                cursor = page.cursor
                if cursor is None:
                    break
        inside = path.rstrip("/") + "/"
        new = [each[len(inside) :] for each in self._open if each.startswith(inside) and "/" not in each[len(inside) :]]
        return names + [name for name in new if name not in set(names)]

    def readlink(self, path: str) -> str:
        """Where a symbolic link points."""
        with os_errors(path):
            target = self._kit.files.stat(self.place(path)).target
        if target is None:
            raise OSError(errno.EINVAL, "it is no symbolic link", path)
        return target

    def statfs(self, path: str) -> dict[str, int]:
        """What the store's disk has left."""
        found = os.statvfs(self._kit.engine.path)
        names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail")
        return {**{name: getattr(found, name) for name in names}, "f_namemax": 255}

    # -- open files ----------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        """Open a file that is there."""
        opened = self._open.get(path)
        if opened is None:
            with os_errors(path):
                found = self._kit.files.stat(self.place(path))
            if found.kind != "file":
                raise OSError(errno.EISDIR if found.kind == "dir" else errno.EINVAL, f"it is a {found.kind}", path)
            opened = OpenFile(self._kit, self.place(path), found.size, str(found.cid))
        if flags & (os.O_WRONLY | os.O_RDWR):
            self._check()
        if flags & os.O_TRUNC:
            opened.truncate(0)
        return self._handle(path, opened)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        """Make a file and open it; it reaches the bucket when it is closed or synced."""
        self._check()
        with os_errors(path):
            parent = self._kit.files.stat(self.place(os.path.dirname(path)))
        if parent.kind != "dir":
            raise OSError(errno.ENOTDIR, "its parent is no folder", path)
        self._keep(path, st_mode=stat.S_IMODE(mode))
        return self._handle(path, OpenFile(self._kit, self.place(path), 0, None))

    def _handle(self, path: str, opened: OpenFile) -> int:
        self._next += 1
        opened.handles += 1
        self._open[path] = self._handles[self._next] = opened
        return self._next

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Bytes of an open file."""
        return self._handles[fh].read(size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """Write into an open file."""
        self._check()
        return self._handles[fh].write(bytes(data), offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """Cut a file, open or not."""
        self._check()
        opened = self._handles.get(fh) if fh is not None else self._open.get(path)
        if opened is not None:
            opened.truncate(length)
            return 0
        handle = self.open(path, os.O_RDWR)
        try:
            self._handles[handle].truncate(length)
            self._handles[handle].store()
        finally:
            self.release(path, handle)
        return 0

    def flush(self, path: str, fh: int) -> int:
        """A handle is closed: what was written is put in place, and the caller learns of a failure."""
        self._handles[fh].store()
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        """What was written is durable when this returns."""
        self._handles[fh].store()
        return 0

    def release(self, path: str, fh: int) -> int:
        """The last user of a handle has gone."""
        opened = self._handles.pop(fh)
        opened.handles -= 1
        if not opened.handles:
            try:
                opened.store()
            finally:
                opened.close()
                for name in [name for name, each in self._open.items() if each is opened]:
                    del self._open[name]
        return 0

    # -- changing ------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self._writable:
            raise OSError(errno.EROFS, "this is a version, or mounted for reading only")

    def mkdir(self, path: str, mode: int) -> int:
        """Make a folder."""
        self._check()
        with os_errors(path):
            self._kit.files.mkdir(self.place(path))
        self._keep(path, st_mode=stat.S_IMODE(mode))
        return 0

    def rmdir(self, path: str) -> int:
        """Remove an empty folder."""
        self._check()
        with os_errors(path):
            self._kit.files.rmdir(self.place(path))
        self._kept.pop(path, None)
        return 0

    def unlink(self, path: str) -> int:
        """Remove a file or link; who has it open goes on using it."""
        self._check()
        opened = self._open.pop(path, None)
        if opened is not None:
            if not opened.dirty:
                opened.write(b"", 0)  # it takes its content along
            fresh, opened.unlinked = opened.dirty, True
            if fresh and not self._there(path):
                self._kept.pop(path, None)
                return 0
        with os_errors(path):
            self._kit.files.rm(self.place(path))
        self._kept.pop(path, None)
        return 0

    def _there(self, path: str) -> bool:
        try:
            self._kit.files.stat(self.place(path))
        except KitError:
            return False
        return True

    def rename(self, old: str, new: str) -> int:
        """Give another name; what has that name already is replaced, as rename(2) says."""
        self._check()
        opened = self._open.get(old)
        if opened is not None:
            opened.store()
        replaced = self._open.pop(new, None)
        if replaced is not None:
            replaced.unlinked = True
        with os_errors(old):
            kind = self._kit.files.stat(self.place(old)).kind
            if self._there(new) and self._kit.files.stat(self.place(new)).kind == "dir":
                if kind != "dir":
                    raise OSError(errno.EISDIR, "it is a folder", new)
                self._kit.files.rmdir(self.place(new))
            self._kit.files.mv(self.place(old), self.place(new), overwrite=True)
        self._moved(old, new)
        return 0

    def _moved(self, old: str, new: str) -> None:
        for table in (self._open, self._kept):
            for path in [path for path in table if path == old or path.startswith(old + "/")]:
                table[new + path[len(old) :]] = moved = table.pop(path)  # type: ignore[assignment]
                if isinstance(moved, OpenFile):
                    moved.place = self.place(new + path[len(old) :])

    def symlink(self, target: str, source: str) -> int:
        """Make a symbolic link; mfusepy calls what is made ``target``."""
        self._check()
        with os_errors(target), tempfile.TemporaryDirectory(prefix="kit-") as folder:
            os.symlink(source, os.path.join(folder, os.path.basename(target)))
            self._kit.files.put(folder, self.place(os.path.dirname(target)), ignore_files=False)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        """Keep permissions as long as it is mounted."""
        self._check()
        self._keep(path, st_mode=stat.S_IMODE(mode))
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        """Owners are those of who mounted it; only these may be set."""
        self._check()
        if uid not in (-1, 0xFFFFFFFF, os.getuid()) or gid not in (-1, 0xFFFFFFFF, os.getgid()):
            raise OSError(errno.EPERM, "a bucket keeps no owners", path)
        return 0

    def utimens(self, path: str, times: tuple[float, float] | None = None) -> int:
        """Keep times as long as it is mounted."""
        self._check()
        now = time.time_ns() / 1e9
        accessed, changed = times if times is not None else (now, now)
        scale = 1e9 if changed > 1e12 else 1  # nanoseconds, as this library may give them
        self._keep(path, st_atime=accessed / scale, st_mtime=changed / scale)
        return 0

    def _keep(self, path: str, **values: Any) -> None:
        if path not in self._kept and len(self._kept) >= KEPT_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept.setdefault(path, {}).update(values)

    def destroy(self, path: str) -> None:
        """It is unmounted: what is still open is put in place."""
        for opened in set(self._handles.values()):
            try:
                opened.store()
            except OSError:
                _log.exception("what was written to %s was not stored", opened.place)
            opened.close()


def serve(kit: Kit, ref: str, top: str, folder: str, *, writable: bool, fixed: bool) -> None:
    """Mount a folder of a bucket and answer the kernel until it is unmounted or interrupted.

    Args:
        kit: The store.
        ref: ``BUCKET``, ``BUCKET@ref`` or ``BUCKET#session``.
        top: Path inside, without slashes around it.
        folder: Where it is mounted.
        writable: Whether anything may be changed.
        fixed: Whether it is a version, which never changes.

    Raises:
        StorageFailed: The system did not mount it.
    """
    stays = STAYS_S if fixed else 0.0
    try:
        FUSE(
            BucketFolder(kit, ref, top, writable), folder, foreground=True, nothreads=True, fsname="ipfs-kit",
            subtype="kit", ro=not writable, attr_timeout=stays, entry_timeout=stays, negative_timeout=stays,
            kernel_cache=fixed, hard_remove=True, default_permissions=True,
        )  # fmt: skip
    except RuntimeError as exc:
        if exc.args != (INTERRUPTED,):
            raise StorageFailed(f"mounting failed with status {exc}: is fuse3 installed and {folder} yours?") from exc
