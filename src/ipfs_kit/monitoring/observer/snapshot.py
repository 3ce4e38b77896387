"""What a folder looked like when it was last compared: one SQLite file, whose cost to update follows what changed.

A file counts as changed when its size, its modification or status-change time or its inode differ. Times tick more
slowly than files can be written: a file touched within ``RACY_NS`` of a comparison is remembered with its digest, and
read again the next time, as version control systems do for their index.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import apsw

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.ignore import Rules
from ipfs_kit.durable import rebuildable

FORMAT: Final = 1
ADDED: Final = "added"
MODIFIED: Final = "modified"
DELETED: Final = "deleted"
DIR: Final = "dir"
FILE: Final = "file"
RACY_NS: Final = 2_000_000_000
RACY_BYTES_MAX: Final = 16 << 20
"""A larger file that was just touched is judged by its times alone."""
PROBLEMS_MAX: Final = 100
DEPTH_MAX: Final = 512
_TABLES: Final = """
CREATE TABLE about(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE entries(parent BLOB NOT NULL, name BLOB NOT NULL, kind TEXT NOT NULL, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, digest BLOB,
    PRIMARY KEY(parent, name)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """An entry as it was seen.

    Args:
        kind: ``file``, ``dir``, ``symlink`` or ``other``.
        size: Bytes; 0 for folders.
        mtime_ns: Modification time, nanoseconds since 1970; 0 for folders, whose entries tell what changed.
        ctime_ns: Status-change time; 0 for folders.
        inode: Its inode; 0 for folders.
        digest: SHA-256 of a file touched just before it was seen.
    """

    kind: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry that differs.

    Args:
        path: Path below the folder, as the file system has it.
        change: ``added``, ``modified`` or ``deleted``.
        before: As it was; None when it is new.
        after: As it is; None when it is gone.
    """

    path: bytes
    change: str
    before: Seen | None
    after: Seen | None


class Comparison:
    """What a comparison met besides differences.

    Attributes:
        entries: Entries looked at.
        problems: Path and reason of the first ones that could not be read; what was below them stays as it was.
        problems_count: How many in all.
    """

    def __init__(self) -> None:
        self.entries = 0
        self.problems: list[tuple[bytes, str]] = []
        self.problems_count = 0

    def problem(self, path: bytes, error: OSError) -> None:
        """Note what could not be read."""
        self.problems_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append((path, error.strerror or type(error).__name__))


class Snapshot:
    """The snapshot of one folder; use as a context manager.

    Args:
        path: Its file; made anew when absent, damaged or of another format.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._db = rebuildable.open_tables(path, FORMAT, _TABLES)

    def __enter__(self) -> Snapshot:
        self._errors = rebuildable.errors_of(self._path)
        self._errors.__enter__()
        return self

    def __exit__(self, *exc: Any) -> bool | None:
        self._db.close()
        return self._errors.__exit__(*exc)

    def about(self, name: str) -> int | None:
        """A number kept with the snapshot; None when it was never set."""
        row = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def note(self, **values: int | None) -> None:
        """Keep numbers, in a transaction of its own unless one is open; None removes."""
        with self._db:
            for name, value in values.items():
                if value is None:
                    self._db.execute("DELETE FROM about WHERE name = ?", (name,))
                else:
                    self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def transaction(self) -> apsw.Connection:
        """A context that keeps all changes inside it, or none."""
        return self._db

    def figures(self) -> tuple[int, int, int]:
        """Files, folders and bytes of files; read from all entries."""
        kinds = {
            kind: (count, size)
            for kind, count, size in self._db.execute("SELECT kind, count(*), sum(size) FROM entries GROUP BY kind")
        }
        files, size = kinds.get(FILE, (0, 0))
        return files, kinds.get(DIR, (0, 0))[0], size

    def compare(
        self,
        root: bytes,
        *,
        now_ns: int,
        rules: Rules,
        without: Iterable[bytes] = (),
        only: Iterable[bytes] | None = None,
        met: Comparison,
        check: Callable[[int], None],
    ) -> Iterator[Difference]:
        """Every difference between the folder and its snapshot, which follows while they are read.

        Symbolic links are not followed. Call it within ``transaction``.

        Args:
            root: The folder, absolute.
            now_ns: The present, nanoseconds since 1970.
            rules: What is left out.
            without: Absolute paths that are left out with all below them.
            only: Paths below the folder to look at, with all below them; everything when None.
            met: Filled in.
            check: Called with entries looked at; may raise to stop.
        """
        work = _Work(self._db, root, now_ns, rules, frozenset(without), met, check)
        chosen = {b""} if only is None else set(only)
        if b"" in chosen:
            yield from work.folder(b"")
            return
        for path in _topmost(chosen):
            yield from work.path(path)


class _Work:
    """One comparison."""

    def __init__(
        self,
        db: apsw.Connection,
        root: bytes,
        now_ns: int,
        rules: Rules,
        without: frozenset[bytes],
        met: Comparison,
        check: Callable[[int], None],
    ) -> None:
        self._db, self._root, self._now_ns, self._rules = db, root, now_ns, rules
        self._without, self._met, self._check = without, met, check

    def path(self, path: bytes) -> Iterator[Difference]:
        """Differences at one path and below."""
        parts = path.split(b"/")
        for depth in range(1, len(parts)):  # what stands under a folder not seen before comes with that folder
            parent = b"/".join(parts[:depth])
            if self._known(parent) is None or self._left_out(parent, is_dir=True):
                yield from self._entry(parent)
                return
        yield from self._entry(path)

    def _entry(self, path: bytes) -> Iterator[Difference]:
        parent, _, name = path.rpartition(b"/")
        after = self._look(path)
        if after is not None and self._left_out(path, is_dir=after.kind == DIR):
            return
        yield from self._judge(parent, name, self._known(path), after)
        if after is not None and after.kind == DIR:
            yield from self.folder(path)

    def folder(self, top: bytes) -> Iterator[Difference]:
        """Differences below a folder; parents before what they hold."""
        waiting = [top]
        while waiting:
            at = waiting.pop()
            here = self._entries(at)
            if here is None:
                continue
            known = self._children(at)
            for name in sorted(here):
                self._met.entries += 1
                if self._met.entries % 1_000 == 0:
                    self._check(self._met.entries)
                path = _join(at, name)
                after = self._look(path)
                if after is None or self._left_out(path, is_dir=after.kind == DIR):
                    continue
                yield from self._judge(at, name, known.pop(name, None), after)
                if after.kind == DIR and path.count(b"/") < DEPTH_MAX:
                    waiting.append(path)
            for name, before in known.items():
                yield from self._gone(at, name, before)

    def _entries(self, at: bytes) -> list[bytes] | None:
        try:
            return os.listdir(_join(self._root, at) if at else self._root)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            return []
        except OSError as exc:
            self._met.problem(at, exc)
            return None

    def _judge(self, parent: bytes, name: bytes, before: Seen | None, after: Seen | None) -> Iterator[Difference]:
        path = _join(parent, name)
        if after is None:
            if before is not None:
                yield from self._gone(parent, name, before)
            return
        if before is not None and before.kind != after.kind:
            yield from self._gone(parent, name, before)
            before = None
        if before is not None and _same(before, after):
            if before.digest is None:
                return
            digest = self._digest(path, after)
            self._keep(parent, name, after, digest if self._racy(after) else None)
            if digest in (None, before.digest):
                return
        else:
            self._keep(parent, name, after, self._digest(path, after) if self._racy(after) else None)
        yield Difference(path, ADDED if before is None else MODIFIED, before, after)

    def _gone(self, parent: bytes, name: bytes, before: Seen) -> Iterator[Difference]:
        path = _join(parent, name)
        if before.kind == DIR:
            for child, seen in self._children(path).items():
                yield from self._gone(path, child, seen)
        self._db.execute("DELETE FROM entries WHERE parent = ? AND name = ?", (parent, name))
        yield Difference(path, DELETED, before, None)

    def _known(self, path: bytes) -> Seen | None:
        parent, _, name = path.rpartition(b"/")
        return self._children(parent, name).get(name)

    def _children(self, parent: bytes, name: bytes | None = None) -> dict[bytes, Seen]:
        one = "" if name is None else " AND name = ?"
        rows: Iterable[Any] = self._db.execute(_CHILDREN + one, (parent,) if name is None else (parent, name))
        return {row[0]: Seen(*row[1:]) for row in rows}

    def _keep(self, parent: bytes, name: bytes, seen: Seen, digest: bytes | None) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (parent, name, seen.kind, seen.size, seen.mtime_ns, seen.ctime_ns, seen.inode, digest),
        )

    def _left_out(self, path: bytes, *, is_dir: bool) -> bool:
        return _join(self._root, path) in self._without or self._rules.ignores(path.split(b"/"), is_dir)

    def _look(self, path: bytes) -> Seen | None:
        try:
            found = os.lstat(_join(self._root, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            self._met.problem(path, exc)
            return self._known(path)  # what cannot be looked at is not called gone
        if stat.S_ISDIR(found.st_mode):
            return Seen(DIR, 0, 0, 0, 0)
        kind = FILE if stat.S_ISREG(found.st_mode) else "symlink" if stat.S_ISLNK(found.st_mode) else "other"
        return Seen(kind, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)

    def _racy(self, seen: Seen) -> bool:
        newest = max(seen.mtime_ns, seen.ctime_ns)
        return seen.kind == FILE and seen.size <= RACY_BYTES_MAX and newest >= self._now_ns - RACY_NS

    def _digest(self, path: bytes, seen: Seen) -> bytes | None:
        """SHA-256 of a file as it is now; None when it cannot be read or is no file any more."""
        try:
            descriptor = os.open(_join(self._root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return hashlib.sha256(file.read(seen.size + 1)).digest()


_CHILDREN: Final = "SELECT name, kind, size, mtime_ns, ctime_ns, inode, digest FROM entries WHERE parent = ?"


def _same(before: Seen, after: Seen) -> bool:
    return (before.size, before.mtime_ns, before.ctime_ns, before.inode) == (
        after.size, after.mtime_ns, after.ctime_ns, after.inode,
    )  # fmt: skip


def _join(parent: bytes, name: bytes) -> bytes:
    return parent + b"/" + name if parent else name


def _topmost(paths: Iterable[bytes]) -> list[bytes]:
    """Paths without those that stand under another of them."""
    found: list[bytes] = []
    for path in sorted(set(paths), key=lambda path: path + b"/"):
        if not (found and (path + b"/").startswith(found[-1] + b"/")):
            found.append(path)
    return found
