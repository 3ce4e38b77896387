"""The history of one path: which commits touched it, and who touched what is in a folder last.

Open buckets are answered from an index in ``cache/history`` (see ``path_index``), so the cost follows the commits that
touched the path. Sealed buckets have none, because it would outlive their key; neither has a store that may not be
written: there every commit is looked at, a bounded number for each page.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import commits
from ipfs_kit.buckets.base import page_limit
from ipfs_kit.buckets.buckets import Buckets
from ipfs_kit.buckets.commits import Commit
from ipfs_kit.buckets.diff import folder_pairs, same
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.buckets.path_index import Known, PathIndex, is_sound, root_of
from ipfs_kit.buckets.paths import Location, Path, bytes_of, format_path, text_of
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.tree import as_folder
from ipfs_kit.buckets.versions import LogEntry
from ipfs_kit.durable import Lease, make_dirs, rebuildable
from ipfs_kit.errors import IntegrityError, InternalError, RefNotFound
from ipfs_kit.ipld.cid import CID

SCAN_MAX: Final = 10_000
"""Commits looked at for one page."""
BLAME_SCAN_MAX: Final = 50_000
"""Candidates looked at for one page of last changes."""
_SUFFIX: Final = ".db"


@dataclass(frozen=True, slots=True)
class PathLog:
    """One page of commits that touched a path, newest first.

    Args:
        commits: The commits.
        cursor: Pass as ``after`` for the next page; None at the end.
        scanned: Commits looked at.
    """

    commits: tuple[LogEntry, ...]
    cursor: CID | None
    scanned: int


@dataclass(frozen=True, slots=True)
class LastChange:
    """Who touched one entry of a folder last.

    Args:
        path: The entry.
        name: Its name.
        kind: ``file``, ``dir`` or ``symlink``.
        cid: CID of its content.
        commit: The newest commit that changed it or anything below it; None when the commits one call looks at do not
            tell.
    """

    path: str
    name: str
    kind: str
    cid: CID
    commit: LogEntry | None


@dataclass(frozen=True, slots=True)
class BlamePage:
    """Entries of a folder with their last changes, in byte order of names."""

    entries: tuple[LastChange, ...]
    cursor: str | None
    """Pass as ``after`` for the next page; None at the end."""


class PathHistories:
    """Histories of paths in all buckets of one store.

    Args:
        directory: The store's directory.
        buckets: Its buckets.
        read_only: Whether nothing may be written, also not to the cache.
        lock_timeout_s: Longest wait for another process that brings the same index forward.
    """

    def __init__(
        self, directory: str | os.PathLike[str], buckets: Buckets, read_only: bool, lock_timeout_s: float
    ) -> None:
        self._folder = os.path.join(os.fspath(directory), "cache", "history")
        self._buckets = buckets
        self._read_only = read_only
        self._timeout_s = lock_timeout_s

    # -- log ------------------------------------------------------------------------------------------------------

    def log(
        self,
        location: Location,
        *,
        limit: int = 50,
        after: CID | None = None,
        progress: Callable[[int], object] = lambda done: None,
    ) -> PathLog:
        """Commits that changed a path or anything below it, merges followed into both sides.

        A merge counts only when what it has differs from every parent.

        Args:
            location: The path, in a session (its branch counts), a branch, a tag or a commit.
            limit: Most commits, at most 1,000.
            after: The cursor of the page before.
            progress: Called with commits newly filed in the index; may raise to stop.
        """
        limit = page_limit(limit)
        space, head = self._head(location)
        if head is None:
            return PathLog((), None, 0)
        try:
            return self._log(space, head, location.path, limit, after, progress)
        except IntegrityError:
            if not self._discarded(space):
                raise
            return self._log(space, head, location.path, limit, after, progress)

    def _log(
        self, space: Space, head: CID, path: Path, limit: int, after: CID | None, progress: Callable[[int], object]
    ) -> PathLog:
        with self._index(space, head, progress) as index:
            if index is None:
                return self._scanned(space, head, path, limit, after)
            start = index.known(head)
            assert start is not None
            bound = index.known(after) if after is not None else None
            if after is not None and bound is None:
                raise RefNotFound(f"{after} is not in this history; begin again without it")
            found: list[tuple[CID, Commit]] = []
            scanned, last = 0, after
            for known in self._reached(index, start, path, bound):
                if len(found) == limit or scanned == SCAN_MAX:
                    return PathLog(self._told(found), last, scanned)
                scanned, last = scanned + 1, known.cid
                commit = commits.load(space.get, known.cid)
                if touches(space, commit, path):
                    found.append((known.cid, commit))
            return PathLog(self._told(found), None, scanned)

    def _reached(self, index: PathIndex, head: Known, path: Path, after: Known | None) -> Iterator[Known]:
        reached = index.reach(head)
        for known in index.candidates(path, after):
            if known.pos <= reached.get(known.chain, -1):
                yield known

    def _scanned(self, space: Space, head: CID, path: Path, limit: int, after: CID | None) -> PathLog:
        last = after
        found: list[tuple[CID, Commit]] = []
        waiting = after is not None
        scanned = 0
        for cid, commit in commits.walk(space.get, [head]):
            if waiting:
                waiting = cid != after
                continue
            if len(found) == limit or scanned == SCAN_MAX:
                return PathLog(self._told(found), last, scanned)
            scanned, last = scanned + 1, cid
            if touches(space, commit, path):
                found.append((cid, commit))
        if waiting:
            raise RefNotFound(f"{after} is not in this history; begin again without it")
        return PathLog(self._told(found), None, scanned)

    def _told(self, found: list[tuple[CID, Commit]]) -> tuple[LogEntry, ...]:
        return tuple(self._buckets.told(cid, commit) for cid, commit in found)

    # -- blame ----------------------------------------------------------------------------------------------------

    def blame(
        self,
        location: Location,
        *,
        after: str | None = None,
        limit: int = 100,
        progress: Callable[[int], object] = lambda done: None,
    ) -> BlamePage:
        """The newest commit that changed each entry of a folder, or anything below it.

        What is uncommitted is not looked at: a session stands for the commit it builds on.

        Args:
            location: The folder; as for :meth:`log`.
            after: The cursor of the page before.
            limit: Most entries, at most 1,000.
            progress: As for :meth:`log`.
        """
        limit = page_limit(limit)
        space, head = self._head(location)
        if head is None:
            return BlamePage((), None)
        try:
            return self._blame(space, head, location, after, limit, progress)
        except IntegrityError:
            if not self._discarded(space):
                raise
            return self._blame(space, head, location, after, limit, progress)

    def _blame(
        self,
        space: Space,
        head: CID,
        location: Location,
        after: str | None,
        limit: int,
        progress: Callable[[int], object],
    ) -> BlamePage:
        folder = space.view.lookup(self._buckets.commit_root(space, head), location.path)
        if folder is None:
            raise RefNotFound(f"{location} is not in the last commit; commit it first")
        start = bytes_of(after) if after is not None else None
        names: list[tuple[bytes, Item]] = []
        more = False
        for name, item in space.view.children(as_folder(folder, location.path), start):
            if len(names) == limit:
                more = True
                break
            names.append((name, item))
        with self._index(space, head, progress) as index:
            if index is None:
                newest = self._walked(space, head, location.path, [name for name, _ in names])
            else:
                newest = self._looked_up(index, space, head, location.path, [name for name, _ in names])
        entries = []
        for name, item in names:
            if name not in newest:  # the budget of this page is spent: the next one begins here
                more = True
                break
            entries.append(self._last_change((*location.path, name), item, newest[name]))
        if more and not entries:
            first, item = names[0]
            entries.append(self._last_change((*location.path, first), item, None))
        return BlamePage(tuple(entries), text_of(names[len(entries) - 1][0]) if more else None)

    def _last_change(self, path: Path, item: Item, found: tuple[CID, Commit] | None) -> LastChange:
        told = self._buckets.told(*found) if found is not None else None
        return LastChange(format_path(path), text_of(path[-1]), item.kind.value, item.cid, told)

    def _looked_up(
        self, index: PathIndex, space: Space, head: CID, folder: Path, names: list[bytes]
    ) -> dict[bytes, tuple[CID, Commit] | None]:
        start = index.known(head)
        assert start is not None
        reached = index.reach(start)
        found: dict[bytes, tuple[CID, Commit] | None] = {}
        left = BLAME_SCAN_MAX
        for name in names:
            path = (*folder, name)
            newest = None
            for known in index.candidates(path, None):
                if left == 0:
                    return found
                left -= 1
                if known.pos > reached.get(known.chain, -1):
                    continue
                commit = commits.load(space.get, known.cid)
                if touches(space, commit, path):
                    newest = (known.cid, commit)
                    break
            found[name] = newest
        return found

    def _walked(
        self, space: Space, head: CID, folder: Path, names: list[bytes]
    ) -> dict[bytes, tuple[CID, Commit] | None]:
        found: dict[bytes, tuple[CID, Commit] | None] = dict.fromkeys(names)
        wanted = set(names)
        for scanned, (cid, commit) in enumerate(commits.walk(space.get, [head])):
            if not wanted or scanned == SCAN_MAX:
                break
            here = _folder(space, commit, folder)
            changed: set[bytes] | None = None
            parents = [_folder(space, commits.load(space.get, parent), folder) for parent in commit.parents] or [None]
            for before in parents:
                names_of = {name for name, _, _ in folder_pairs(space.view, before, here)}
                changed = names_of if changed is None else changed & names_of
            for name in wanted & (changed or set()):
                found[name] = (cid, commit)
                wanted.discard(name)
        return found

    # -- the index ------------------------------------------------------------------------------------------------

    def sweep(self) -> int:
        """Remove indexes of buckets that are no more; how many went."""
        try:
            names = [name for name in os.listdir(self._folder) if name.endswith(_SUFFIX)]
        except FileNotFoundError:
            return 0
        here = self._buckets.uids() if names else frozenset()
        gone = [name for name in names if name.removesuffix(_SUFFIX) not in here]
        for name in gone:
            rebuildable.discard(os.path.join(self._folder, name))
        return len(gone)

    def _discarded(self, space: Space) -> bool:
        """Remove an index that is damaged inside; whether it was: else something in the store itself is."""
        path = os.path.join(self._folder, space.row.uid + _SUFFIX)
        if self._read_only or not os.path.exists(path):
            return False
        lease = Lease(self._folder, space.row.uid)
        lease.acquire(self._timeout_s)
        try:
            if is_sound(path):
                return False
            rebuildable.discard(path)
            return True
        finally:
            lease.release()

    @contextmanager
    def _index(self, space: Space, head: CID, progress: Callable[[int], object]) -> Iterator[PathIndex | None]:
        """The index of a bucket that knows a head; None where none may be written."""
        if space.row.kind is BucketKind.SEALED or self._read_only:
            yield None
            return
        path = os.path.join(self._folder, space.row.uid + _SUFFIX)
        make_dirs(self._folder, 0o700)
        index = self._brought(path, space, head, progress)
        try:
            yield index
        finally:
            index.close()

    def _brought(self, path: str, space: Space, head: CID, progress: Callable[[int], object]) -> PathIndex:
        lease = Lease(self._folder, space.row.uid)
        for anew in (False, True):
            try:
                whole = None if anew else PathIndex.open_whole(path)
                if whole is not None:
                    if whole.known(head) is not None:
                        return whole
                    whole.close()
                lease.acquire(self._timeout_s)
                try:
                    if anew:
                        rebuildable.discard(path)
                    return self._forward(PathIndex.open(path), space, head, progress)
                finally:
                    lease.release()
            except IntegrityError:
                if anew:
                    raise
        raise InternalError("the second try returns or raises")

    def _forward(self, index: PathIndex, space: Space, head: CID, progress: Callable[[int], object]) -> PathIndex:
        try:
            index.bring_to(head, space.get, space.view, space.view.empty(space.keep), progress)
        except BaseException:
            index.close()
            raise
        return index

    def _head(self, location: Location) -> tuple[Space, CID | None]:
        ref = location.ref
        if ref.live:
            workspace = self._buckets.live_ref(ref)
            return workspace.space, workspace.head().base
        return self._buckets.commit_of(self._buckets.resolve_time(ref))


def touches(space: Space, commit: Commit, path: Path) -> bool:
    """Whether what is at a path in a commit differs from what every parent has there."""
    here = space.view.lookup(root_of(commit), path)
    if not commit.parents:
        return here is not None
    parents = (commits.load(space.get, parent) for parent in commit.parents)
    return not any(_equal(space.view.lookup(root_of(parent), path), here) for parent in parents)


def _equal(one: Item | None, other: Item | None) -> bool:
    return same(one, other) and (one is None or other is None or one.meta == other.meta)


def _folder(space: Space, commit: Commit, path: Path) -> Item | None:
    found = space.view.lookup(root_of(commit), path)
    return found if found is not None and found.is_dir else None
