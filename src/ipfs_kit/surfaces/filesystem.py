"""The buckets as an fsspec file system: ``kit://BUCKET[@ref]/path`` for pandas, pyarrow, DuckDB, torch and all that use it.

Every access is one recorded operation. Without ``@ref`` paths are read from and written to the bucket's working state;
at a version they can only be read. Nothing is cached between calls, so listings are never stale.
"""

# fsspec ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from ipfs_kit.errors import ErrorKind, KitError
from ipfs_kit.operations.kit import Kit
from ipfs_kit.surfaces.filesystem_errors import os_errors

READ_BLOCK: Final = 8 << 20
"""Bytes fetched at once by a file read from beginning to end, and held of one being written: more lie on disk."""
SEEN_MAX: Final = 10_000
"""Contents whose first sight is remembered."""
APPENDED_MAX: Final = 8 << 20
PAGE: Final = 1_000


class KitFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """One store's buckets.

    Args:
        store: The store's directory; the default one when left out.
        read_only: Open it for reading only.
        storage_options: Those of fsspec, such as ``use_listings_cache``, which has no effect here.
    """

    protocol: ClassVar[str] = "kit"
    root_marker: ClassVar[str] = ""
    sep: ClassVar[str] = "/"

    def __init__(
        self, store: str | os.PathLike[str] | None = None, read_only: bool = False, **storage_options: Any
    ) -> None:
        super().__init__(**storage_options)
        self.store = None if store is None else os.fspath(store)
        self.read_only = read_only
        self._guard = threading.RLock()
        self._opened: tuple[int, Kit] | None = None
        self._seen: dict[tuple[str, str | None], datetime] = {}

    @property
    def kit(self) -> Kit:
        """The open store: opened at the first access, by a forked child for itself, and until ``close``."""
        with self._guard:
            if self._opened is None or self._opened[0] != os.getpid():
                with os_errors(str(self.store)):
                    self._opened = (os.getpid(), Kit.open(Kit.store_path(self.store), read_only=self.read_only))
            return self._opened[1]

    @property
    def fsid(self) -> str:
        """Names the store among file systems."""
        return f"kit_{self.kit.store.info().node}"

    def close(self) -> None:
        """Release the store."""
        with self._guard:
            opened, self._opened = self._opened, None
        if opened is not None and opened[0] == os.getpid():
            opened[1].close()

    # -- looking -------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """What is known of one entry: name, size, type, cid, and mtime, content type and tags where kept."""
        path = self._strip_protocol(path)
        if not path:
            return {"name": "", "size": 0, "type": "directory"}
        with os_errors(path):
            return self._entry(self.kit.files.stat(_place(path)), path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The entries of a folder, or the file itself; the buckets for the empty path."""
        path = self._strip_protocol(path)
        with os_errors(path):
            found = self._buckets() if not path else self._listed(path)
        return found if detail else [entry["name"] for entry in found]

    def _buckets(self) -> list[dict[str, Any]]:
        found = []
        cursor: str | None = None
        while True:
            page = self.kit.bucket.list(cursor=cursor, limit=PAGE)
            found += [{"name": one.name, "size": 0, "type": "directory"} for one in page.buckets]
            cursor = page.cursor
            if cursor is None:
                return found

    def _listed(self, path: str) -> list[dict[str, Any]]:
        whole = self.kit.files.stat(_place(path))
        if whole.kind != "dir":
            return [self._entry(whole, path)]
        found, cursor = [], None
        while True:
            page = self.kit.files.list(_place(path), cursor=cursor, limit=PAGE)
            found += [self._entry(one, f"{path}/{one.name}") for one in page.entries]
            cursor = page.cursor
            if cursor is None:
                return found

    def _entry(self, stat: Any, path: str) -> dict[str, Any]:
        kind = {"dir": "directory", "file": "file"}.get(stat.kind, "link")
        found = {"name": path, "size": stat.size, "type": kind, "cid": str(stat.cid)}
        if stat.mtime_ns is not None:
            found["mtime"] = stat.mtime_ns / 1e9
        for name in ("content_type", "tags"):
            if getattr(stat, name):
                found[name] = getattr(stat, name)
        return found

    def ukey(self, path: str) -> str:
        """What names the content of an entry: its CID."""
        return str(self.info(path)["cid"])

    def checksum(self, path: str) -> int:
        """A number that changes with the content."""
        return int.from_bytes(self.ukey(path).encode()[-16:], "big")

    def modified(self, path: str) -> datetime:
        """When an entry was changed: the time kept with it, else when this object first saw its present content."""
        found = self.info(path)
        if "mtime" in found:
            return datetime.fromtimestamp(found["mtime"], UTC)
        seen = (found["name"], found.get("cid"))
        with self._guard:
            when = self._seen.pop(seen, None) or datetime.now(UTC)
            self._seen[seen] = when
            if len(self._seen) > SEEN_MAX:
                del self._seen[next(iter(self._seen))]
        return when

    # -- reading and writing -------------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> KitFile:
        if mode not in ("rb", "wb", "ab", "xb"):
            raise ValueError(f"mode {mode!r} is none of rb, wb, ab and xb")
        size = READ_BLOCK if block_size in (None, "default") else block_size
        return KitFile(self, path, mode, size, autocommit, cache_options=cache_options, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """A file's bytes, or a range of them; negative numbers count from the end."""
        path = self._strip_protocol(path)
        with os_errors(path):
            first, last = start or 0, end
            if first < 0 or (last is not None and last < 0):
                size = self.kit.files.stat(_place(path)).size
                first = max(0, size + first) if first < 0 else first
                last = size + last if last is not None and last < 0 else last
            length = None if last is None else max(0, last - first)
            return bytes(self.kit.files.read(_place(path), offset=first, length=length).read())

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """Write a whole file at once."""
        path = self._strip_protocol(path)
        with os_errors(path):
            if mode == "create" and self.exists(path):
                raise FileExistsError(errno.EEXIST, "there is a file already", path)
            self.with_parent(path, lambda: self.kit.files.write(_place(path), data=bytes(value)))

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        """Make an empty file, or empty one."""
        if truncate or not self.exists(path):
            self.pipe_file(path, b"")

    def with_parent(self, path: str, work: Any) -> None:
        """Do something that needs a parent folder; made when it is not there, as object stores do."""
        try:
            work()
        except KitError as error:
            parent = self._parent(path)
            if error.kind is not ErrorKind.PATH_NOT_FOUND or "/" not in parent or self.exists(parent):
                raise
            self.kit.files.mkdir(_place(parent), parents=True)
            work()

    # -- changing ------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a folder, or a bucket."""
        path = self._strip_protocol(path)
        with os_errors(path):
            if self.exists(path):
                raise FileExistsError(errno.EEXIST, "it is there already", path)
            self._made(path, create_parents)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder with its parents, the bucket included."""
        path = self._strip_protocol(path)
        with os_errors(path):
            if not self.exists(path):
                self._made(path, True)
            elif not exist_ok:
                raise FileExistsError(errno.EEXIST, "it is there already", path)

    def _made(self, path: str, parents: bool) -> None:
        bucket, _, inside = path.partition("/")
        if not inside or (parents and not self.exists(bucket)):
            self.kit.bucket.create(bucket)
        if inside:
            self.kit.files.mkdir(_place(path), parents=parents)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder, or an empty bucket."""
        path = self._strip_protocol(path)
        with os_errors(path):
            if "/" in path:
                self.kit.files.rmdir(_place(path))
            else:
                self.kit.bucket.delete(path)

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        path = self._strip_protocol(path)
        with os_errors(path):
            self.kit.files.rm(_place(path))

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, and folders with all they hold when asked for: each in one operation, which can be undone."""
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for each in self._topmost(self.expand_path(path)):
            with os_errors(each):
                if "/" in each:
                    self.kit.files.rm(_place(each), recursive=recursive)
                else:
                    self.kit.bucket.delete(each, force=recursive)

    def _topmost(self, paths: list[str]) -> list[str]:
        found: list[str] = []
        for path in sorted(paths):
            if not (found and path.startswith(found[-1] + "/")):
                found.append(path)
        return found

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy by reference: no content is read or stored again."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        with os_errors(path1):
            if self.isdir(path1):
                self.makedirs(path2, exist_ok=True)
                return
            self.with_parent(path2, lambda: self.kit.files.cp(_place(path1), _place(path2), overwrite=True))

    def mv_file(self, path1: str, path2: str, **_: Any) -> None:
        """Move by reference; what is there is replaced."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        with os_errors(path1):
            self.with_parent(path2, lambda: self.kit.files.mv(_place(path1), _place(path2), overwrite=True))

    def commit(self, bucket: str, message: str = "") -> str | None:
        """Commit a bucket's working state; the CID of its commit, None while it never had one."""
        with os_errors(bucket):
            made = self.kit.versions.commit(self._strip_protocol(bucket), message=message).commit
        return None if made is None else str(made)


class KitFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is read in ranges, or written whole when it is closed."""

    _temporary: Any = None
    """What was written so far, on disk; None while all of it fits into the buffer."""
    _content: bytes | None = None
    """A whole small file, ready to be committed."""

    def __init__(self, fs: KitFileSystem, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> None:
        self._appending = mode == "ab"
        if mode == "xb":
            if fs.exists(path):
                raise FileExistsError(errno.EEXIST, "there is a file already", path)
            mode = "wb"
        # Appending adds to what is there when the file is closed: nothing of it is read or held.
        super().__init__(fs, path, "wb" if self._appending else mode, *args, **kwargs)
        if mode == "rb" and self.details["type"] == "directory":
            raise IsADirectoryError(errno.EISDIR, "it is a folder", path)

    def _fetch_range(self, start: int, end: int) -> bytes:
        with os_errors(self.path):
            content = self.fs.kit.files.read(_place(self.path), offset=start, length=max(0, end - start))
            if str(content.cid) != self.details["cid"]:
                raise OSError(
                    errno.ESTALE, "it was changed while it was read: open it again, or at a version", self.path
                )
            return bytes(content.read())

    def _initiate_upload(self) -> None:
        """Nothing: what is written waits in the buffer."""

    def _upload_chunk(self, final: bool = False) -> bool:
        if final and self._temporary is None:
            self._content = self.buffer.getvalue()
        else:
            if self._temporary is None:
                self._temporary = tempfile.NamedTemporaryFile(prefix="kit-")  # noqa: SIM115 - closed by commit or discard
            self._temporary.write(self.buffer.getvalue())
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Put the new content in place of the old, in one operation; appending takes one for every 8 MiB."""
        files, place = self.fs.kit.files, _place(self.path)
        with os_errors(self.path):
            if self._appending and self.fs.exists(self.path):
                for piece in self._pieces():
                    files.append(place, data=piece)
            elif self._temporary is None:
                self.fs.with_parent(self.path, lambda: files.write(place, data=self._content or b""))
            else:
                self._temporary.flush()
                self.fs.with_parent(self.path, lambda: files.put(self._temporary.name, place))
        self.discard()

    def _pieces(self) -> Iterator[bytes]:
        if self._temporary is None:
            yield self._content or b""
            return
        self._temporary.seek(0)
        yield from iter(lambda: self._temporary.read(APPENDED_MAX), b"")

    def discard(self) -> None:
        """Forget what was written."""
        self._content = None
        if self._temporary is not None:
            self._temporary.close()
            self._temporary = None

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        if kind is not None and self.mode == "wb":
            # A block that failed leaves the old content in place.
            self.discard()
            self.closed = True
            return
        super().__exit__(kind, value, trace)


def _place(path: str) -> str:
    """``BUCKET[@ref]/inside`` as the operations take it; a slash in a ref is written %2F."""
    bucket, _, inside = path.partition("/")
    return f"{bucket.replace('%2F', '/')}:/{inside}"
