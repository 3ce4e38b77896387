"""What differs between two trees, at a cost that follows the difference.

Folders with a metadata index (every folder of a bucket) are compared run by run, in byte order of names, without
opening children that are equal. Folders that came without one are compared by their UnixFS links. Changes come in path
order: a folder before what is in it, names of a folder by their bytes, so a path is a cursor.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Iterator
from enum import StrEnum
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.paths import DEPTH_MAX, Path, check_component, format_path, parse_path
from ipfs_kit.buckets.tree import Step, View
from ipfs_kit.errors import InvalidInput, InvalidPath
from ipfs_kit.ipld.unixfs import Link, entry_of
from ipfs_kit.ipld.unixfs.compare import diff_links

SELECTION_MAX: Final = 65_536
"""Changed names of one folder without index sorted at a time: about 20 MB; more are found by walking again."""
RENAMES_MAX: Final = 20_000
"""Changes that rename detection holds at once."""


class ChangeKind(StrEnum):
    """How a path differs."""

    ADDED = "added"
    REMOVED = "removed"
    MODIFIED = "modified"
    TYPE_CHANGED = "type_changed"
    """A file became a folder or link, or the other way round."""
    META = "meta"
    """Same content; times, mode, type, tags or user metadata differ."""
    RENAMED = "renamed"
    """Same content at another path; only from ``find_renames``."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs.

    Args:
        parts: Components of the path; empty for the root.
        kind: How it differs.
        before: The entry on the left; None when added.
        after: The entry on the right; None when removed.
        source: For a rename, where it was.
    """

    parts: Path
    kind: ChangeKind
    before: Item | None
    after: Item | None
    source: Path | None = None

    @property
    def path(self) -> str:
        """The path as text, ``/a/b``."""
        return format_path(self.parts)


@dataclass(frozen=True, slots=True)
class DiffPage:
    """One page of changes."""

    changes: tuple[Change, ...]
    cursor: str | None
    """Pass as ``after`` for the next page; None at the end."""


Pair = tuple[bytes, Item | None, Item | None]


def same(one: Item | None, other: Item | None) -> bool:
    """Whether two entries are equal: content, kind, times and metadata (as far as both sides carry an index)."""
    if one is None or other is None:
        return one is other
    return (
        one.binary == other.binary
        and one.kind is other.kind
        and (one.meta == other.meta or one.meta is None or other.meta is None)
        and same_attrs(one, other)
    )


def same_attrs(one: Item, other: Item) -> bool:
    """Whether times, mode, type, tags and user metadata of two entries are equal."""
    return one.mtime_ns == other.mtime_ns and (one.attrs or None) == (other.attrs or None)


def same_tree(one: Item, other: Item) -> bool:
    """Whether all that is below two folders is equal."""
    return one.binary == other.binary and (one.meta == other.meta or one.meta is None or other.meta is None)


def diff(
    view: View,
    left: Item | None,
    right: Item | None,
    *,
    path: Path = (),
    expand: bool = True,
    after: Path | None = None,
) -> Iterator[Change]:
    """Changes that lead from one entry to another, in path order.

    Memory is bounded by the depth of the trees (plus at most ``SELECTION_MAX`` names of a folder without index).

    Args:
        view: Reads both.
        left: The entry before; None for nothing.
        right: The entry after.
        path: Where both are; prefix of every change.
        expand: Name also each path below a folder that was added or removed as a whole.
        after: Only changes whose path comes behind this one.
    """
    first = _change(path, left, right)
    if first is not None and (after is None or path > after):
        yield first
    stack = [_below(view, left, right, path, expand, after)]
    while stack:
        pair = next(stack[-1][1], None)
        if pair is None:
            stack.pop()
            continue
        where = (*stack[-1][0], pair[0])
        change = _change(where, pair[1], pair[2])
        if change is not None and (after is None or where > after):
            yield change
        if len(where) > DEPTH_MAX:
            raise InvalidPath(f"the tree is more than {DEPTH_MAX} folders deep")
        stack.append(_below(view, pair[1], pair[2], where, expand, after))


def diff_page(
    view: View,
    left: Item | None,
    right: Item | None,
    *,
    limit: int,
    after: str | None = None,
    path: Path = (),
    expand: bool = True,
) -> DiffPage:
    """One page of ``diff``.

    Args:
        view: Reads both.
        left: The entry before.
        right: The entry after.
        limit: Most changes returned.
        after: The cursor of the page before.
        path: Where both are.
        expand: As for ``diff``.
    """
    if limit < 1:
        raise InvalidInput("limit must be 1 or more")
    found: list[Change] = []
    start = parse_path(after) if after is not None else None
    for change in diff(view, left, right, path=path, expand=expand, after=start):
        if len(found) == limit:
            return DiffPage(tuple(found), found[-1].path)
        found.append(change)
    return DiffPage(tuple(found), None)


def steps(changes: Iterable[Change]) -> Iterator[Step]:
    """What ``Tree.apply`` needs to perform changes given in path order; expanded or not, each subtree is one step."""
    covered: Path | None = None
    gone: set[Path] = set()
    for change in changes:
        if covered is not None and change.parts[: len(covered)] == covered:
            continue
        # Setting an entry sets all that is below it.
        covered = change.parts
        source = change.source
        if source is not None:
            if not _is_inside(source, gone):
                yield Step(source, change.before, None)
            yield Step(change.parts, None, change.after)
            continue
        if change.before is not None and change.before.is_dir and (change.after is None or not change.after.is_dir):
            gone.add(change.parts)
        yield Step(change.parts, change.before, change.after)


def find_renames(changes: Iterable[Change], *, limit: int = RENAMES_MAX) -> Iterator[Change]:
    """Pair what was removed with what was added when both are the same file or folder, by CID.

    A folder that moved is one rename, and nothing below it is named. Of several candidates the first in path order is
    taken. Reads all changes before it yields; with more than ``limit`` of them it yields them as they are.
    """
    held: list[Change] = []
    source = iter(changes)
    for change in source:
        held.append(change)
        if len(held) > limit:
            yield from held
            yield from source
            return
    sources = _candidates(held)
    moved: dict[Path, Change] = {}
    gone: set[Path] = set()
    for change in held:
        item = change.after
        if change.kind is not ChangeKind.ADDED or item is None or _is_inside(change.parts, moved):
            continue
        fitting = sources.get((item.binary, item.kind.value), [])
        while fitting and _is_inside(fitting[0].parts, gone):
            fitting.pop(0)
        if fitting:
            origin = fitting.pop(0)
            gone.add(origin.parts)
            moved[change.parts] = Change(change.parts, ChangeKind.RENAMED, origin.before, item, origin.parts)
    for change in held:
        if change.parts in moved and change.kind is ChangeKind.ADDED:
            yield moved[change.parts]
        elif (change.kind is ChangeKind.ADDED and _is_inside(change.parts, moved)) or (
            change.kind is ChangeKind.REMOVED and _is_inside(change.parts, gone)
        ):
            continue
        else:
            yield change


def _candidates(changes: Iterable[Change]) -> dict[tuple[bytes, str], list[Change]]:
    found: dict[tuple[bytes, str], list[Change]] = {}
    for change in changes:
        item = change.before
        # Empty files are all equal, which says nothing about where they came from.
        if change.kind is ChangeKind.REMOVED and item is not None and (item.size > 0 or item.is_dir):
            found.setdefault((item.binary, item.kind.value), []).append(change)
    return found


def _is_inside(path: Path, places: Collection[Path]) -> bool:
    """Whether a path is one of the places or below one."""
    return any(path[:depth] in places for depth in range(1, len(path) + 1)) if places else False


def _change(path: Path, before: Item | None, after: Item | None) -> Change | None:
    if before is None or after is None:
        if before is after:
            return None
        return Change(path, ChangeKind.ADDED if before is None else ChangeKind.REMOVED, before, after)
    if before.kind is not after.kind:
        return Change(path, ChangeKind.TYPE_CHANGED, before, after)
    if not before.is_dir and before.binary != after.binary:
        return Change(path, ChangeKind.MODIFIED, before, after)
    return None if same_attrs(before, after) else Change(path, ChangeKind.META, before, after)


def _below(
    view: View, left: Item | None, right: Item | None, path: Path, expand: bool, after: Path | None
) -> tuple[Path, Iterator[Pair]]:
    """Pairs to look at below two entries."""
    one = left if left is not None and left.is_dir else None
    other = right if right is not None and right.is_dir else None
    if one is None and other is None:
        return path, iter(())
    if (one is None or other is None) and not expand:
        return path, iter(())
    if after is None or path > after:
        return path, folder_pairs(view, one, other)
    if path != after[: len(path)]:
        return path, iter(())  # the whole folder comes before the cursor
    bound = after[len(path)] if len(after) > len(path) else b""
    return path, (pair for pair in folder_pairs(view, one, other) if pair[0] >= bound)


def folder_pairs(view: View, left: Item | None, right: Item | None) -> Iterator[Pair]:
    """Names of two folders whose entries differ, in byte order: ``(name, left entry, right entry)``."""
    if left is not None and right is not None and same_tree(left, right):
        return iter(())
    if (left is None or left.meta is not None) and (right is None or right.meta is not None):
        return view.index.diff(left.meta if left is not None else None, right.meta if right is not None else None)
    return _pairs_by_links(view, left, right)


def _pairs_by_links(view: View, left: Item | None, right: Item | None) -> Iterator[Pair]:
    """Compare folders by their UnixFS links: only content counts, because one side knows nothing else."""

    def links() -> Iterator[tuple[bytes, Link | None, Link | None]]:
        return diff_links(view.get, left.cid if left is not None else None, right.cid if right is not None else None)

    for name, one, other in _sorted_names(links):
        check_component(name)
        yield name, _item(view, left, name, one), _item(view, right, name, other)


def _item(view: View, folder: Item | None, name: bytes, link: Link | None) -> Item | None:
    if link is None or folder is None:
        return None
    if folder.meta is not None:
        return view.index.lookup(folder.meta, name)
    return Item.of(entry_of(link.cid, view.get, link.tsize))


Triple = tuple[bytes, Link | None, Link | None]


def _sorted_names(links: Callable[[], Iterator[Triple]], selection: int = SELECTION_MAX) -> Iterator[Triple]:
    """Sort what a walk yields, walking again for each ``selection`` of names rather than holding them all."""
    after = b""
    while True:
        chosen: list[Triple] = []
        cut = False
        for triple in links():
            if triple[0] <= after:
                continue
            if len(chosen) < selection:
                chosen.append(triple)
                if len(chosen) == selection:
                    chosen.sort(key=_name)
                continue
            cut = True
            if triple[0] < chosen[-1][0]:
                chosen.pop()
                insort(chosen, triple, key=_name)
        chosen.sort(key=_name)
        yield from chosen
        if not cut:
            return
        after = chosen[-1][0]


def _name(triple: Triple) -> bytes:
    return triple[0]
