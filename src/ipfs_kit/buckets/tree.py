"""The tree of a bucket: immutable states read through :class:`View`, the working state as a lazy overlay,
:class:`Tree` [22].

A folder is an :class:`~ipfs_kit.buckets.index.Item` (UnixFS CID plus index CID). :class:`Tree` keeps one
:class:`_Dir` for each folder that was changed since the last flush, holding only what changed; everything else is
read from the immutable base. Moving, copying and removing a folder relinks one item. ``flush`` rewrites dirty folders
alone, from the leaves up, and the root it yields is a pure function of the entries [21].
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from ipfs_kit.buckets.index import Get, Index, Item, Put, Row
from ipfs_kit.buckets.paths import Path, check_component, format_path
from ipfs_kit.errors import InvalidPath, PathNotFound
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Directory, Kind, Profile, entry_of

INDEXED_FOLDERS_KEPT = 1_024
"""Folders without an index whose derived index is remembered."""


class Step(NamedTuple):
    """One change of a tree, lossless in both directions; the root is the empty path."""

    path: Path
    before: Item | None
    after: Item | None


class View:
    """Reads immutable trees; safe to use from any thread.

    Args:
        profile: Shape of UnixFS nodes.
        get: Bytes of a block; raises BlockNotFound.
        keep: Stores index nodes derived for folders that came without any.
    """

    def __init__(self, profile: Profile, get: Get, keep: Put) -> None:
        self.profile = profile
        self.get = get
        self.keep = keep
        self.index = Index(get)
        self._derived: OrderedDict[bytes, CID] = OrderedDict()

    def empty(self, put: Put) -> Item:
        """An empty folder, its blocks stored."""
        cid, tsize = Directory(self.profile, self.get, None).flush(put)
        return Item(bytes(cid), Kind.DIR, 0, tsize, meta=self.index.update(None, (), put))

    def meta_of(self, folder: Item) -> CID:
        """The index of a folder, derived from its blocks when it came without one."""
        if folder.meta is not None:
            return folder.meta
        known = self._derived.get(folder.binary)
        if known is None:
            known = self.derive(folder, self.keep)
            self._derived[folder.binary] = known
            if len(self._derived) > INDEXED_FOLDERS_KEPT:
                self._derived.popitem(last=False)
        return known

    def derive(self, folder: Item, put: Put) -> CID:
        """Build the index of one folder by looking at every block it links; names are checked [31].

        Raises:
            InvalidPath: the folder holds a name that no bucket may hold.
        """

        def items() -> Iterator[tuple[bytes, Item]]:
            directory = Directory(self.profile, self.get, folder.cid)
            for _, link in directory.iterate(None):
                yield check_component(link.name), Item.of(entry_of(link.cid, self.get, link.tsize))

        return self.index.update(None, items(), put)

    def adopt(self, item: Item, put: Put) -> Item:
        """A tree from elsewhere with the index of every folder in it; each name checked, recursion bounded by path
        depth.

        Raises:
            InvalidPath: a forbidden name, or deeper than paths may be.
            BlockNotFound: part of the tree is missing.
        """
        return self._adopt(item, put, 0)

    def _adopt(self, item: Item, put: Put, depth: int) -> Item:
        if not item.is_dir or item.meta is not None:
            return item
        if depth >= 256:
            raise InvalidPath("the tree is more than 256 folders deep")
        directory = Directory(self.profile, self.get, item.cid)
        edits: list[tuple[bytes, Item | None]] = []
        for _, link in directory.iterate(None):
            child = Item.of(entry_of(link.cid, self.get, link.tsize))
            edits.append((check_component(link.name), self._adopt(child, put, depth + 1)))
        return replace(item, meta=self.index.update(None, edits, put))

    def child(self, folder: Item, name: bytes) -> Item | None:
        """The entry of a name in a folder."""
        return self.index.lookup(self.meta_of(folder), name)

    def lookup(self, root: Item, path: Path) -> Item | None:
        """The entry at a path; None when there is none or when something on the way is no folder."""
        item: Item | None = root
        for name in path:
            if item is None or not item.is_dir:
                return None
            item = self.child(item, name)
        return item

    def children(self, folder: Item, after: bytes | None = None) -> Iterator[tuple[bytes, Item]]:
        """Entries of a folder in byte order of names, from the first name greater than ``after``."""
        return self.index.iterate(self.meta_of(folder), after)

    def rows(self, folder: Item, after: bytes | None, limit: int) -> list[tuple[bytes, Row]]:
        """A page of a folder as stored; see :meth:`Index.page`."""
        return self.index.page(self.meta_of(folder), after, limit)

    def walk(self, item: Item, path: Path = ()) -> Iterator[tuple[Path, Item]]:
        """Everything below a folder, parents first, in byte order."""
        stack = [self._level(path, item)] if item.is_dir else []
        while stack:
            here = next(stack[-1], None)
            if here is None:
                stack.pop()
                continue
            yield here
            if here[1].is_dir:
                stack.append(self._level(*here))

    def _level(self, path: Path, folder: Item) -> Iterator[tuple[Path, Item]]:
        for name, child in self.children(folder):
            yield (*path, name), child

    def edit(self, folder: Item, edits: Iterable[tuple[bytes, Item | None]], put: Put) -> Item:
        """The folder with entries set or removed; both trees are rewritten only where they change."""
        known = list(edits)
        directory = Directory(self.profile, self.get, folder.cid)
        for name, item in known:
            if item is None:
                directory.remove(name)
            else:
                directory.set(name, item.cid, item.tsize)
        cid, tsize = directory.flush(put)
        meta = self.index.update(self.meta_of(folder), known, put)
        return replace(folder, binary=bytes(cid), tsize=tsize, meta=meta)


class _Dir:
    """A folder with changes not yet flushed."""

    __slots__ = ("base", "dirs", "names", "overlay")

    def __init__(self, base: Item) -> None:
        self.base = base
        self.overlay: dict[bytes, Item | None] = {}
        self.dirs: dict[bytes, _Dir] = {}
        self.names: list[bytes] | None = None

    @property
    def dirty(self) -> bool:
        return bool(self.overlay or self.dirs)


class Tree:
    """The mutable state of one session. Not thread-safe: its workspace serialises use.

    Args:
        view: Reads the immutable parts; ``view.get`` must also find what ``put`` stored.
        put: Receives the blocks of flushed folders.
        root: The state to start from.
    """

    def __init__(self, view: View, put: Put, root: Item) -> None:
        self.view = view
        self._put = put
        self._root = _Dir(root)

    def lookup(self, path: Path) -> Item | None:
        """The entry at a path; a changed folder is flushed to know its CID."""
        node = self._root
        for at, name in enumerate(path):
            child = node.dirs.get(name)
            if child is None:
                item = self._entry(node, name)
                return self.view.lookup(item, path[at + 1 :]) if item is not None else None
            node = child
        self._flush(node)
        return node.base

    def kind(self, path: Path) -> Kind | None:
        """What is at a path, without flushing anything."""
        node = self._root
        for at, name in enumerate(path):
            child = node.dirs.get(name)
            if child is None:
                item = self._entry(node, name)
                found = self.view.lookup(item, path[at + 1 :]) if item is not None else None
                return found.kind if found is not None else None
            node = child
        return Kind.DIR

    def page(self, path: Path, after: bytes | None, limit: int) -> list[tuple[bytes, Item]]:
        """At most ``limit`` entries of the folder at a path, in byte order of names.

        Raises:
            PathNotFound: nothing is there, or no folder.
        """
        node = self._root
        for at, name in enumerate(path):
            child = node.dirs.get(name)
            if child is None:
                item = self._entry(node, name)
                found = self.view.lookup(item, path[at + 1 :]) if item is not None else None
                return list(islice(self.view.children(as_folder(found, path), after), limit))
            node = child
        return list(islice(self._merged(node, after), limit))

    def settled(self, path: Path) -> Item | None:
        """The folder at a path when nothing in it changed since the last flush, so that its index tells all."""
        node = self._root
        for at, name in enumerate(path):
            child = node.dirs.get(name)
            if child is None:
                item = self._entry(node, name)
                found = self.view.lookup(item, path[at + 1 :]) if item is not None else None
                return found if found is not None and found.is_dir else None
            node = child
        return None if node.dirty else node.base

    def is_empty(self, path: Path) -> bool:
        """Whether the folder at a path has no entry."""
        return not self.page(path, None, 1)

    def apply(self, steps: Iterable[Step]) -> None:
        """Perform steps; the caller has checked them against this state.

        Raises:
            PathNotFound: a parent folder is missing, so the steps belong to another state.
        """
        for step in steps:
            self._set(step.path, step.after)

    def flush(self) -> Item:
        """Rewrite dirty folders and return the root."""
        self._flush(self._root)
        return self._root.base

    @property
    def dirty(self) -> bool:
        """Whether anything changed since the last flush."""
        return self._root.dirty

    def _set(self, path: Path, item: Item | None) -> None:
        if not path:
            assert item is not None
            self._root = _Dir(item)
            return
        node = self._root
        for depth, name in enumerate(path[:-1], 1):
            child = node.dirs.get(name)
            if child is None:
                child = _Dir(as_folder(self._entry(node, name), path[:depth]))
                node.dirs[name] = child
            node = child
        name = path[-1]
        node.dirs.pop(name, None)
        if name not in node.overlay:
            node.names = None
        node.overlay[name] = item

    def _entry(self, node: _Dir, name: bytes) -> Item | None:
        if name in node.overlay:
            return node.overlay[name]
        return self.view.child(node.base, name)

    def _merged(self, node: _Dir, after: bytes | None) -> Iterator[tuple[bytes, Item]]:
        """Entries of a changed folder: its overlay over its base, changed folders below flushed as they are met."""
        if node.names is None:
            node.names = sorted(node.overlay)
        names = node.names
        at = bisect_right(names, after) if after is not None else 0
        for name, item in self.view.children(node.base, after):
            while at < len(names) and names[at] < name:
                yield from self._shown(node, names[at], node.overlay[names[at]])
                at += 1
            if at < len(names) and names[at] == name:
                yield from self._shown(node, name, node.overlay[name])
                at += 1
            else:
                yield from self._shown(node, name, item)
        for name in names[at:]:
            yield from self._shown(node, name, node.overlay[name])

    def _shown(self, node: _Dir, name: bytes, item: Item | None) -> Iterator[tuple[bytes, Item]]:
        child = node.dirs.get(name)
        if child is not None:
            self._flush(child)
            yield name, child.base
        elif item is not None:
            yield name, item

    def _flush(self, node: _Dir) -> None:
        """Depth is bounded by the depth of paths, so plain recursion is safe."""
        if not node.dirty:
            return
        for name, child in node.dirs.items():
            self._flush(child)
            node.overlay[name] = child.base
        node.base = self.view.edit(node.base, node.overlay.items(), self._put)
        node.overlay = {}
        node.dirs = {}
        node.names = None


def growth(view: View, steps: Iterable[Step]) -> tuple[int, int]:
    """By how many files and content bytes steps make a tree grow; a folder costs one node of its index."""
    entries = size = 0
    for step in steps:
        for item, sign in ((step.before, -1), (step.after, 1)):
            if item is None:
                continue
            if item.is_dir:
                totals = view.index.totals(view.meta_of(item))
                entries, size = entries + sign * totals.files, size + sign * totals.size_bytes
            else:
                entries, size = entries + sign, size + sign * item.size
    return entries, size


def as_folder(item: Item | None, path: Path) -> Item:
    """``item`` when it is a folder.

    Raises:
        PathNotFound: it is absent or something else.
    """
    if item is None:
        raise PathNotFound(f"nothing is at {format_path(path)!a}", path=format_path(path))
    if not item.is_dir:
        raise PathNotFound(f"{format_path(path)!a} is a {item.kind.value}, not a folder", path=format_path(path))
    return item


def as_present(item: Item | None, path: Path) -> Item:
    """``item`` when there is one.

    Raises:
        PathNotFound: there is none.
    """
    if item is None:
        raise PathNotFound(f"nothing is at {format_path(path)!a}", path=format_path(path))
    return item


Merge = Callable[[Item | None, Item | None, Item | None], Item | None]
"""Three-way merge of entries at one path: base, ours, theirs; see ``buckets.merge``."""
