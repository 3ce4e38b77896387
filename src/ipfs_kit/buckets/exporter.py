"""Export of a file or folder to local disk, never outside its target [31].

Every folder is opened relative to its parent's descriptor, one checked name at a time and without following links. A
single name holds neither a slash nor ``..``, so this walk gives what ``openat2(RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS)``
would, on every kernel. Links are made last, and only such as stay inside whatever other links do: relative, with
``..`` at their beginning alone, and never above the target. Set-id bits are dropped. Names that a case-insensitive or
normalising file system would confuse are reported and the later one left out, unless that is allowed.

A new file is created under its own name and removed again when writing fails. A file that is overwritten, where that
is allowed, is swapped atomically up to ``SWAP_BYTES_MAX``; a larger one is removed first, so that memory stays
bounded.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import field

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import Problem
from ipfs_kit.buckets.paths import DEPTH_MAX, Path, check_component, format_path, text_of
from ipfs_kit.buckets.tree import View
from ipfs_kit.durable import files as durable
from ipfs_kit.errors import InvalidPath, KitError, StorageFailed
from ipfs_kit.ipld.unixfs import Kind, open_file, read_symlink

COPY_BYTES = 1024 * 1024
SWAP_BYTES_MAX = 64 * 1024 * 1024
"""Largest file held in memory for an atomic swap."""
PROBLEMS_MAX = 10_000
LINKS_MAX = 1_000_000
"""Links remembered until the end; further ones are reported."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class ExportReport:
    """What came of an export."""

    files: int = 0
    folders: int = 0
    links: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_count: int = 0


def export_item(
    item: Item,
    view: View,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    allow_collisions: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> ExportReport:
    """Write an entry at a local path: a file as that file, a folder's contents into that folder.

    Args:
        item: What to write.
        view: The bucket's.
        target: Where; its parent must exist. The path itself is the caller's and may lead through links.
        overwrite: Replace files and links that are there; folders are merged either way.
        allow_collisions: Write names that differ only in case or Unicode form side by side.
        progress: Called with files and bytes written so far; an exception from it cancels.

    Returns:
        Counts, and what was left out and why.

    Raises:
        StorageFailed: the target itself cannot be made.
    """
    exporter = _Exporter(view, overwrite, allow_collisions, progress)
    local = os.path.abspath(os.fspath(target))
    try:
        if item.is_dir:
            os.makedirs(local, exist_ok=True)
            opened = os.open(local, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                exporter.folder(opened, (), item)
                exporter.make_links(opened)
            finally:
                os.close(opened)
        else:
            parent, name = os.path.split(local)
            opened = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                exporter.entry(opened, (), os.fsencode(name), item)
                exporter.make_links(opened)
            finally:
                os.close(opened)
    except OSError as exc:
        raise StorageFailed(f"{local!a} cannot be written: {exc.strerror}; name a folder you may write to") from exc
    return exporter.report


class _Exporter:
    def __init__(
        self,
        view: View,
        overwrite: bool,
        allow_collisions: bool,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._view = view
        self._overwrite = overwrite
        self._allow_collisions = allow_collisions
        self._progress = progress
        self._links: list[tuple[Path, bytes]] = []
        self.report = ExportReport()

    def folder(self, opened: int, path: Path, item: Item) -> None:
        """Write a folder's contents into an open folder; recursion is bounded by the depth of paths."""
        self.report.folders += 1
        taken: set[str] = set()
        for name, child in self._view.children(item):
            where = (*path, name)
            try:
                check_component(name)
            except InvalidPath as exc:
                self._problem(where, "bad name", exc.message)
                continue
            folded = unicodedata.normalize("NFC", text_of(name)).casefold()
            if folded in taken and not self._allow_collisions:
                self._problem(where, "collision", "another name here differs only in case or Unicode form")
                continue
            taken.add(folded)
            self.entry(opened, path, name, child)

    def entry(self, opened: int, path: Path, name: bytes, item: Item) -> None:
        """Write one entry into an open folder."""
        where = (*path, name)
        try:
            if item.kind is Kind.SYMLINK:
                self._remember_link(where, read_symlink(item.cid, self._view.get))
            elif item.is_dir:
                self._subfolder(opened, where, item)
            else:
                self._file(opened, where, item)
        except OSError as exc:
            self._problem(where, _REASONS.get(exc.errno or 0, "unwritable"), exc.strerror or str(exc))
        except KitError as exc:
            self._problem(where, exc.kind.value, exc.message)

    def make_links(self, top: int) -> None:
        """Make the links, when no file will be written through any of them any more."""
        for path, target in self._links:
            try:
                self._make_link(top, path, target)
            except OSError as exc:
                self._problem(path, _REASONS.get(exc.errno or 0, "unwritable"), exc.strerror or str(exc))

    def _subfolder(self, opened: int, path: Path, item: Item) -> None:
        if len(path) > DEPTH_MAX:
            raise InvalidPath(f"more than {DEPTH_MAX} folders deep")
        with suppress(FileExistsError):  # merged into; opening it tells whether it is a folder
            os.mkdir(path[-1], 0o755, dir_fd=opened)
        below = os.open(path[-1], _FOLDER, dir_fd=opened)
        try:
            self.folder(below, path, item)
            if item.mtime_ns is not None:
                os.utime(below, ns=(item.mtime_ns, item.mtime_ns))
        finally:
            os.close(below)

    def _file(self, opened: int, path: Path, item: Item) -> None:
        name = path[-1]
        mode = item.attrs.get("mode", 0o644) & 0o777 if item.attrs else 0o644
        if self._present(opened, name):
            if not self._overwrite:
                raise FileExistsError(errno.EEXIST, "it exists; pass overwrite to replace it")
            if item.size <= SWAP_BYTES_MAX:
                self._swap(opened, name, item, mode)
                return self._counted(item)
            os.unlink(name, dir_fd=opened)
        descriptor = os.open(name, _NEW, mode, dir_fd=opened)
        done = False
        try:
            self._copy(descriptor, item)
            if item.mtime_ns is not None:
                os.utime(descriptor, ns=(item.mtime_ns, item.mtime_ns))
            done = True
        finally:
            os.close(descriptor)
            if not done:
                os.unlink(name, dir_fd=opened)
        return self._counted(item)

    def _present(self, opened: int, name: bytes) -> bool:
        try:
            found = os.stat(name, dir_fd=opened, follow_symlinks=False)
        except FileNotFoundError:
            return False
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a folder is there")
        return True

    def _copy(self, descriptor: int, item: Item) -> None:
        with open_file(item.cid, self._view.get) as source, open(descriptor, "wb", buffering=0, closefd=False) as out:
            written = 0
            while chunk := source.read(COPY_BYTES):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[out.write(rest) :]
                written += len(chunk)
                if self._progress is not None and item.size > COPY_BYTES:
                    self._progress(self.report.files, self.report.bytes + written)

    def _swap(self, opened: int, name: bytes, item: Item, mode: int) -> None:
        with open_file(item.cid, self._view.get) as source:
            data = source.read(item.size)
        # The descriptor names the folder even if someone moves it or puts a link in its place meanwhile.
        path = os.path.join(f"/proc/self/fd/{opened}", os.fsdecode(name))
        durable.replace(path, data, mode=mode)
        if item.mtime_ns is not None:
            os.utime(name, ns=(item.mtime_ns, item.mtime_ns), dir_fd=opened, follow_symlinks=False)

    def _remember_link(self, path: Path, target: bytes) -> None:
        if not stays_inside(path, target):
            self._problem(path, "link outside", f"its target {text_of(target)!a} may lead out of the exported folder")
        elif len(self._links) >= LINKS_MAX:
            self._problem(path, "too many links", f"more than {LINKS_MAX}")
        else:
            self._links.append((path, target))

    def _make_link(self, top: int, path: Path, target: bytes) -> None:
        opened = os.dup(top)
        try:
            for name in path[:-1]:
                below = os.open(name, _FOLDER, dir_fd=opened)
                os.close(opened)
                opened = below
            if self._present(opened, path[-1]):
                if not self._overwrite:
                    raise FileExistsError(errno.EEXIST, "it exists; pass overwrite to replace it")
                os.unlink(path[-1], dir_fd=opened)
            os.symlink(target, path[-1], dir_fd=opened)
            self.report.links += 1
        finally:
            os.close(opened)

    def _counted(self, item: Item) -> None:
        self.report.files += 1
        self.report.bytes += item.size
        if self._progress is not None:
            self._progress(self.report.files, self.report.bytes)

    def report_problem(self, path: Path, error: OSError) -> None:
        """Note what the file system refused."""
        self._problem(path, _REASONS.get(error.errno or 0, "unwritable"), error.strerror or str(error))

    def _problem(self, path: Path, reason: str, detail: str) -> None:
        self.report.problems_count += 1
        if len(self.report.problems) < PROBLEMS_MAX:
            self.report.problems.append(Problem(format_path(path), reason, detail))


class Writer:
    """Changes single paths of a folder on disk, never outside it; use it as a context manager.

    Args:
        folder: The folder; the path itself is the caller's and may lead through links.
        view: The bucket's.
        progress: Called with files and bytes written so far.

    Raises:
        StorageFailed: the folder cannot be opened.
    """

    def __init__(self, folder: str, view: View, progress: Callable[[int, int], object]) -> None:
        try:
            self._top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise StorageFailed(
                f"{folder!a} cannot be written: {exc.strerror}; name a folder you may write to"
            ) from exc
        self._exporter = _Exporter(view, True, True, progress)
        self.report = self._exporter.report
        self.removed = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if exc[0] is None:
                self._exporter.make_links(self._top)
        finally:
            os.close(self._top)

    def remove(self, path: Path, is_dir: bool) -> None:
        """Remove a file, a link or an empty folder; a folder that still holds something stays and is reported."""
        try:
            parent = self._parent(path)
            try:
                if is_dir:
                    os.rmdir(path[-1], dir_fd=parent)
                else:
                    os.unlink(path[-1], dir_fd=parent)
                self.removed += 1
            finally:
                os.close(parent)
        except OSError as exc:
            self._exporter.report_problem(path, exc)

    def write(self, path: Path, item: Item) -> None:
        """Write a file, a folder with all in it, or (at the end) a link."""
        try:
            check_component(path[-1])
            parent = self._parent(path)
            try:
                self._exporter.entry(parent, path[:-1], path[-1], item)
            finally:
                os.close(parent)
        except OSError as exc:
            self._exporter.report_problem(path, exc)

    def _parent(self, path: Path) -> int:
        opened = os.dup(self._top)
        try:
            for name in path[:-1]:
                below = os.open(name, _FOLDER, dir_fd=opened)
                os.close(opened)
                opened = below
        except OSError:
            os.close(opened)
            raise
        return opened


_REASONS = {
    errno.EEXIST: "exists",
    errno.EISDIR: "folder there",
    errno.ENOTDIR: "no folder there",
    errno.ELOOP: "link there",
    errno.ENAMETOOLONG: "name too long",
}


def stays_inside(path: Path, target: bytes) -> bool:
    """Whether a link at ``path`` leads inside the exported folder, whatever other such links there are.

    Only ``..`` at the beginning is understood: after a name that may itself be a link, ``..`` could lead anywhere.
    """
    if not target or target.startswith(b"/") or b"\0" in target:
        return False
    depth = len(path) - 1
    climbing = True
    for part in target.split(b"/"):
        if part in (b"", b"."):
            continue
        if part != b"..":
            climbing = False
            continue
        depth -= 1
        if not climbing or depth < 0:
            return False
    return True
