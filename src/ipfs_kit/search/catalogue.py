"""The indexes of one store: one that follows each bucket's working state, and a few of older states beside it.

They lie in ``cache/search`` and may be removed at any time. The content of a sealed bucket is never written there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ipfs_kit.buckets import Buckets
from ipfs_kit.buckets.diff import diff
from ipfs_kit.buckets.index import Item, pack_item, unpack_item
from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.buckets.paths import Location, Path
from ipfs_kit.buckets.space import Space
from ipfs_kit.durable import Lease, make_dirs, rebuildable
from ipfs_kit.errors import ReadOnly, Unsupported
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.unixfs import open_file
from ipfs_kit.search.text_index import Counts, TextIndex

OLDER_MAX: Final = 4
"""Indexes of older states kept for each bucket."""
_SUFFIX: Final = ".db"


class States:
    """Reads the states of one bucket for its index.

    Args:
        space: The bucket.
    """

    def __init__(self, space: Space) -> None:
        self._space = space

    def changes(self, old: Item, new: Item) -> Iterator[tuple[Path, Item | None, Item | None]]:
        """Every path that differs, with its entry before and after."""
        for change in diff(self._space.view, old, new):
            yield change.parts, change.before, change.after

    def walk(self, root: Item) -> Iterator[tuple[Path, Item]]:
        """Everything below a root."""
        return self._space.view.walk(root)

    def read(self, item: Item, limit: int) -> bytes:
        """The first bytes of a file."""
        with open_file(item.cid, self._space.get) as reader:
            return bytes(reader.read(min(limit, item.size)))


class Indexes:
    """All text indexes of one store.

    Args:
        directory: The store's directory.
        buckets: Its buckets.
        read_only: Whether nothing may be written, also not to the cache.
        lock_timeout_s: Longest wait for another process that brings the same index forward.
    """

    def __init__(
        self, directory: str | os.PathLike[str], buckets: Buckets, read_only: bool, lock_timeout_s: float
    ) -> None:
        self._folder = os.path.join(os.fspath(directory), "cache", "search")
        self._buckets = buckets
        self._read_only = read_only
        self._timeout_s = lock_timeout_s

    @contextmanager
    def at(
        self, location: Location, progress: Callable[[int], None], *, anew: bool = False
    ) -> Iterator[tuple[TextIndex, Item]]:
        """The index of a state, brought forward to it first.

        Args:
            location: A bucket in any state; the path does not matter.
            progress: Called with files looked at; may raise to stop.
            anew: Discard what is there and build it from nothing.

        Raises:
            Unsupported: The bucket is sealed.
            ReadOnly: The index is not of this state, and nothing may be written.
        """
        root, space, _ = self._buckets.item_with_space(Location(location.ref, ()))
        if space.row.kind is BucketKind.SEALED:
            raise Unsupported(
                f"bucket {space.name} is sealed: an index would hold its words in the clear, so there is none"
            )
        wanted = _stored(root)
        follows = self._path(space)
        if location.ref.live and location.ref.session is None:
            path = follows
        else:
            path = self._path(space, root.cid)
        if self._read_only:
            for known in (follows, path):
                if os.path.exists(known):
                    with self._opened(known) as index:
                        if index.root == wanted:
                            yield index, root
                            return
            raise ReadOnly(
                f"the index of bucket {space.name} is not of this state, and the store is open for reading only: "
                "search once without --read-only"
            )
        make_dirs(self._folder, 0o700)
        with self._lease(space):
            if anew:
                rebuildable.discard(path)
            if path != follows and not os.path.exists(path):
                self._make_room(space)
            with self._opened(path) as index:
                if index.root != wanted:
                    self._bring(index, path, follows, space, root, wanted, progress)
        with self._opened(path) as index:
            yield index, root

    def _bring(
        self,
        index: TextIndex,
        path: str,
        follows: str,
        space: Space,
        root: Item,
        wanted: str,
        progress: Callable[[int], None],
    ) -> None:
        if path != follows and index.root is None and os.path.exists(follows):
            with self._opened(follows) as nearest:
                if nearest.root is not None:
                    nearest.copy_to(index)
        old = None if index.root is None else _item(index.root)
        index.bring_to(States(space), old, root, wanted, progress)

    def status(self, bucket: str) -> list[tuple[CID | None, Counts]]:
        """The indexes of a bucket: the one that follows its working state first, then older states, newest first.

        Returns:
            Root of the state each is an index of, None in the middle of a change, and what it holds.
        """
        found = []
        for path in self._known(self._space(bucket)):
            with self._opened(path) as index:
                found.append((None if index.root is None else _item(index.root).cid, index.counts()))
        return found

    def drop(self, bucket: str) -> int:
        """Remove the indexes of a bucket; what they held is made again when it is next asked for. How many went."""
        if self._read_only:
            raise ReadOnly("the store is open for reading only: its indexes stay")
        space = self._space(bucket)
        gone = self._known(space)
        if gone:
            with self._lease(space):
                for path in gone:
                    rebuildable.discard(path)
        return len(gone)

    def sweep(self) -> int:
        """Remove indexes of buckets that are no more; how many went."""
        names = _names(self._folder)
        here = self._buckets.uids() if names else set()
        gone = [name for name in names if name.removesuffix(_SUFFIX).split("-")[0] not in here]
        for name in gone:
            rebuildable.discard(os.path.join(self._folder, name))
        return len(gone)

    def _known(self, space: Space) -> list[str]:
        return [path for path in (self._path(space), *self._older(space)) if os.path.exists(path)]

    @contextmanager
    def _opened(self, path: str) -> Iterator[TextIndex]:
        index = TextIndex.open(path)
        try:
            yield index
        finally:
            index.close()

    @contextmanager
    def _lease(self, space: Space) -> Iterator[None]:
        lease = Lease(self._folder, space.row.uid)
        lease.acquire(self._timeout_s)
        try:
            yield
        finally:
            lease.release()

    def _space(self, bucket: str) -> Space:
        return self._buckets.space(self._buckets.row(bucket))

    def _path(self, space: Space, root: CID | None = None) -> str:
        name = space.row.uid if root is None else f"{space.row.uid}-{root}"
        return os.path.join(self._folder, name + _SUFFIX)

    def _older(self, space: Space) -> list[str]:
        found = [
            os.path.join(self._folder, name) for name in _names(self._folder) if name.startswith(f"{space.row.uid}-")
        ]
        return sorted(found, key=os.path.getmtime, reverse=True)

    def _make_room(self, space: Space) -> None:
        for path in self._older(space)[OLDER_MAX - 1 :]:
            rebuildable.discard(path)


def _names(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))
    except FileNotFoundError:
        return []


def _stored(root: Item) -> str:
    return dag_cbor.encode(list(pack_item(root, None))).hex()


def _item(stored: str) -> Item:
    return unpack_item(dag_cbor.decode(bytes.fromhex(stored)))
