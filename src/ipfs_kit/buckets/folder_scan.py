"""What differs between a folder on disk and a tree, reading again only files that may have changed.

What was read before is kept in a file of the cache: size, times, inode and mode of each file, and the CID its content
had. A file whose figures are the same is not read. As with git's index, figures prove nothing about a file that was
changed so shortly before it was read that a later change could leave its times as they were: such files are read again
the next time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import apsw

from ipfs_kit.buckets.ignore import IGNORE_BYTES_MAX, IGNORE_FILE, Rules, parse_file, parse_rules
from ipfs_kit.buckets.index import Item, Put
from ipfs_kit.buckets.model import Problem
from ipfs_kit.buckets.paths import DEPTH_MAX, Path, check_component, format_path
from ipfs_kit.buckets.tree import Step, View
from ipfs_kit.durable import rebuildable
from ipfs_kit.errors import InvalidInput, KitError, PathNotFound
from ipfs_kit.ipld.unixfs import build_file, build_symlink

FORMAT: Final = 1
RACY_NS: Final = 2_000_000_000
"""A file changed within this of being read is read again: the coarsest clock of common file systems ticks every 2 s."""
PROBLEMS_MAX: Final = 1_000
BATCH: Final = 1_000
_TABLES: Final = """
CREATE TABLE files(folder BLOB NOT NULL, name BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, mode INTEGER NOT NULL, seen_ns INTEGER NOT NULL,
    cid BLOB NOT NULL, PRIMARY KEY(folder, name)) WITHOUT ROWID;
"""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Figures(NamedTuple):
    """What the file system says about a file, and when it was asked."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int
    seen_ns: int

    @staticmethod
    def of(status: os.stat_result, seen_ns: int) -> Figures:
        """The figures of a ``stat``; inodes beyond 63 bits wrap."""
        inode = status.st_ino & 0x7FFF_FFFF_FFFF_FFFF
        return Figures(status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode, status.st_mode, seen_ns)

    def proves(self, now: Figures) -> bool:
        """Whether a file with these figures when it was read is unchanged when it has others now."""
        racy = max(self.mtime_ns, self.ctime_ns) + RACY_NS >= self.seen_ns
        return self[:5] == now[:5] and not racy


@dataclass(slots=True)
class ScanReport:
    """What a scan came across.

    Args:
        files: Files and links in the folder.
        size: Their bytes.
        read: Files and links whose content was read.
        read_bytes: Their bytes.
        ignored: Entries left out by rules; a folder counts once.
        problems: What could not be read, and why; what the tree has there stays.
        problems_count: How many, also beyond those named.
    """

    files: int = 0
    size: int = 0
    read: int = 0
    read_bytes: int = 0
    ignored: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_count: int = 0


class Known:
    """Figures of files read before. Callers hold the folder's lease.

    Args:
        path: The file; its folder exists.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        with rebuildable.errors_of(path):
            self._db: apsw.Connection = rebuildable.connect(path)
            if self._db.pragma("user_version") not in (0, FORMAT):
                self._db.close()
                rebuildable.discard(path)
                self._db = rebuildable.connect(path)
            if self._db.pragma("user_version") == 0:
                with self._db:
                    self._db.execute(_TABLES)
                    self._db.pragma("user_version", FORMAT)
        self._set: list[tuple[Any, ...]] = []

    def below(self, folder: Path) -> dict[bytes, tuple[Figures, bytes]]:
        """Files of one folder: name to figures and binary CID."""
        self.save()
        with rebuildable.errors_of(self._path):
            rows = self._db.execute(
                "SELECT name, size, mtime_ns, ctime_ns, inode, mode, seen_ns, cid FROM files WHERE folder=?",
                (b"/".join(folder),),
            )
            return {row[0]: (Figures(*row[1:7]), row[7]) for row in rows}

    def note(self, folder: Path, name: bytes, figures: Figures, cid: bytes) -> None:
        """Remember what was read."""
        self._set.append((b"/".join(folder), name, *figures, cid))
        if len(self._set) >= BATCH:
            self.save()

    def forget(self, folder: Path, names: set[bytes]) -> None:
        """Drop files that are no more."""
        with rebuildable.errors_of(self._path), self._db:
            self._db.executemany(
                "DELETE FROM files WHERE folder=? AND name=?", [(b"/".join(folder), name) for name in names]
            )

    def save(self) -> None:
        """Write what is pending."""
        if self._set:
            with rebuildable.errors_of(self._path), self._db:
                self._db.executemany("INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?,?,?,?)", self._set)
            self._set.clear()

    def close(self) -> None:
        """Write what is pending and close."""
        try:
            self.save()
        finally:
            self._db.close()


class Scan:
    """One walk over a folder, beside a tree.

    Args:
        view: Reads the tree.
        put: Stores blocks of what was read; one that drops them makes the scan a dry run.
        known: What was read before.
        now: Wall clock in nanoseconds.
        ignore: Further rules, as in a ``.kitignore`` of the top folder.
        progress: Called with files looked at and bytes read so far; may raise to stop.
    """

    def __init__(
        self,
        view: View,
        put: Put,
        known: Known,
        now: Callable[[], int],
        *,
        ignore: tuple[str, ...] = (),
        progress: Callable[[int, int], object],
    ) -> None:
        self._view = view
        self._put = put
        self._known = known
        self._now = now
        self._rules = Rules().below(0, parse_rules(ignore))
        self._progress = progress
        self.report = ScanReport()

    def steps(self, folder: str | os.PathLike[str], base: Item) -> Iterator[Step]:
        """What turns the tree into the folder, a folder before what is in it.

        Args:
            folder: On disk; a link given here is followed, links inside are kept.
            base: The tree.

        Raises:
            PathNotFound: Nothing is there, or it cannot be opened.
        """
        try:
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as exc:
            raise PathNotFound(f"{os.fspath(folder)!a} cannot be opened as a folder: {exc.strerror}") from exc
        except ValueError as exc:
            raise InvalidInput(f"{os.fspath(folder)!a} is no path: {exc}") from exc
        try:
            yield from self._folder(opened, (), base, self._rules)
        finally:
            os.close(opened)

    def _folder(self, opened: int, path: Path, base: Item | None, rules: Rules) -> Iterator[Step]:
        """One open folder and all below; recursion is bounded by the depth of paths."""
        names, folders, whole = self._listed(opened, path)
        if IGNORE_FILE in names:
            rules = rules.below(len(path), self._ignore_rules(opened, path))
        held = dict(self._view.children(base)) if base is not None else {}
        known = self._known.below(path)
        seen: set[bytes] = set()
        for name in names:
            if not self._ignored(rules, (*path, name), False):
                seen.add(name)
                yield from self._entry(opened, path, name, held.get(name), known.get(name))
        for name in folders:
            if not self._ignored(rules, (*path, name), True):
                seen.add(name)
                yield from self._below(opened, (*path, name), held.get(name), rules)
        for name, item in held.items():
            # What is ignored now but was not is taken out of the tree; a folder that could not be listed stays whole.
            if name not in seen and whole:
                yield Step((*path, name), item, None)
        gone = known.keys() - seen
        if gone and whole:
            self._known.forget(path, set(gone))

    def _below(self, parent: int, path: Path, item: Item | None, rules: Rules) -> Iterator[Step]:
        try:
            check_component(path[-1])
            if len(path) > DEPTH_MAX:
                raise InvalidInput(f"more than {DEPTH_MAX} folders deep")
            opened = os.open(path[-1], _FOLDER, dir_fd=parent)
        except (OSError, KitError) as exc:
            self._problem(path, exc)
            return
        try:
            base = item if item is not None and item.is_dir else None
            if base is None:
                yield Step(path, item, self._view.empty(self._put))
            yield from self._folder(opened, path, base, rules)
        finally:
            os.close(opened)

    def _entry(
        self, opened: int, path: Path, name: bytes, item: Item | None, known: tuple[Figures, bytes] | None
    ) -> Iterator[Step]:
        where = (*path, name)
        try:
            check_component(name)
            seen_ns = self._now()
            status = os.stat(name, dir_fd=opened, follow_symlinks=False)
            now = Figures.of(status, seen_ns)
            if item is not None and known is not None and known[1] == item.binary and known[0].proves(now):
                self._count(item.size)
                return
            found = self._read(opened, where, status)
            if found is None:
                return
        except (OSError, KitError) as exc:
            self._problem(where, exc)
            return
        self._count(found.size)
        self.report.read += 1
        self.report.read_bytes += found.size
        self._known.note(path, name, now, found.binary)
        same_time = item is not None and found.mtime_ns in (None, item.mtime_ns)
        if same_time and found.same_content(item):
            return
        if item is not None and item.attrs and found.kind is item.kind:
            found = found.with_attrs(item.attrs)  # labels given in the bucket stay with the file
        yield Step(where, item, found)

    def _read(self, opened: int, where: Path, status: os.stat_result) -> Item | None:
        profile = self._view.profile
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(where[-1], dir_fd=opened)
            return Item.of(build_symlink(target, profile, self._put))  # a link's own time is nothing anyone restores
        if not stat.S_ISREG(status.st_mode):
            self._problem(where, InvalidInput("a device, pipe or socket has no content to keep"))
            return None
        descriptor = os.open(where[-1], _FILE, dir_fd=opened)
        try:
            with open(descriptor, "rb", buffering=0, closefd=False) as stream:
                base = self.report.read_bytes
                told = self._progress
                entry = build_file(
                    stream, profile, self._put, progress=lambda done: told(self.report.files, base + done)
                )
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if (after.st_mtime_ns, after.st_size) != (status.st_mtime_ns, entry.size):
            # Kept as read; its figures are those from before it was read, so that it is read again.
            self._problem(where, InvalidInput("it changed while it was read; what was read is kept"))
        return Item.of(entry, mtime_ns=status.st_mtime_ns)

    def _listed(self, opened: int, path: Path) -> tuple[list[bytes], list[bytes], bool]:
        names: list[bytes] = []
        folders: list[bytes] = []
        try:
            with os.scandir(opened) as found:
                for each in found:
                    (folders if each.is_dir(follow_symlinks=False) else names).append(os.fsencode(each.name))
        except OSError as exc:
            self._problem(path, exc)
            return [], [], False
        return sorted(names), sorted(folders), True

    def _ignore_rules(self, opened: int, path: Path) -> Any:
        try:
            descriptor = os.open(IGNORE_FILE, _FILE, dir_fd=opened)
            with open(descriptor, "rb") as stream:
                return parse_file(stream.read(IGNORE_BYTES_MAX + 1))
        except (OSError, KitError) as exc:
            self._problem((*path, IGNORE_FILE), exc)
        return ()

    def _ignored(self, rules: Rules, path: Path, is_dir: bool) -> bool:
        if not rules.groups or not rules.ignores(path, is_dir):
            return False
        self.report.ignored += 1
        return True

    def _count(self, size: int) -> None:
        self.report.files += 1
        self.report.size += size
        if self.report.files % 256 == 0:
            self._progress(self.report.files, self.report.read_bytes)

    def _problem(self, path: Path, error: OSError | KitError) -> None:
        self.report.problems_count += 1
        if len(self.report.problems) < PROBLEMS_MAX:
            reason = error.kind.value if isinstance(error, KitError) else "unreadable"
            detail = error.message if isinstance(error, KitError) else error.strerror or str(error)
            self.report.problems.append(Problem(format_path(path), reason, detail))


def kind_of(step: Step) -> str:
    """How a path differs, in the words of a diff."""
    if step.before is None:
        return "added"
    if step.after is None:
        return "removed"
    if step.before.same_content(step.after):
        return "metadata"
    return "modified" if step.before.kind is step.after.kind else "type_changed"
