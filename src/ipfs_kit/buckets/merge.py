"""Three-way merge of trees: what theirs changed since the base, brought onto ours.

One function serves branch merge (base = best common ancestor), revert (base = the commit, theirs = its parent),
cherry-pick (base = the parent, theirs = the commit) and undo (base = after, ours = now, theirs = before, at given
paths) [24]. Subtrees that a side did not change are never opened, so the cost follows what theirs changed. Rules, per
entry:

- equal on both sides, or changed on one side only: no conflict;
- folders on both sides: merged entry by entry; a folder that one side removed conflicts only with what the other side
  added or changed in it;
- the same content on both sides, other metadata: merged field by field, tag by tag; of two times the later;
- else a named conflict. With conflicts nothing is written, unless a strategy decides them.

Merging is symmetric: with the sides exchanged, the result is the same and each conflict is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import commits
from ipfs_kit.buckets.diff import folder_pairs, same, same_attrs, same_tree
from ipfs_kit.buckets.index import Get, Item, Put
from ipfs_kit.buckets.paths import DEPTH_MAX, Path, format_path
from ipfs_kit.buckets.tree import Step, View
from ipfs_kit.errors import InvalidInput, InvalidPath, MergeConflict
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Kind, Profile, entry_of

CONFLICTS_MAX: Final = 1_000
"""Conflicts named in one result; a merge with more stops looking."""
STEPS_MAX: Final = 1_000
"""Steps of one result; a merge that takes more is one step at the root."""
BASES_MAX: Final = 8
"""Best common ancestors merged into a virtual base; further ones are left out, always the same."""
BASE_DEPTH_MAX: Final = 4
"""Criss-cross upon criss-cross: beyond this the newest common ancestor alone is the base."""
_MAP_KEYS: Final = ("tags", "user")


class ConflictKind(StrEnum):
    """Why an entry cannot be merged."""

    BOTH_MODIFIED = "both_modified"
    BOTH_ADDED = "both_added"
    MODIFY_DELETE = "modify_delete"
    """One side removed it (or a folder it is in), the other changed or added it."""
    TYPE_CHANGE = "type_change"
    """It is of different kinds on the two sides."""
    META = "meta"
    """Same content, but one metadata field was set differently on both sides."""


class Strategy(StrEnum):
    """Which side a conflict is decided for."""

    OURS = "ours"
    THEIRS = "theirs"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One path both sides changed."""

    parts: Path
    kind: ConflictKind
    base: Item | None
    ours: Item | None
    theirs: Item | None

    @property
    def path(self) -> str:
        """The path as text, ``/a/b``."""
        return format_path(self.parts)


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge came to.

    Args:
        root: The merged root; None when there are undecided conflicts, and then nothing was written.
        conflicts: In path order; with a strategy, those it decided.
        steps: What turns ours into the result; one step at the root when there are many.
        truncated: More conflicts exist than are named.
    """

    root: Item | None
    conflicts: tuple[Conflict, ...]
    steps: tuple[Step, ...]
    truncated: bool = False

    def require(self) -> Item:
        """The merged root.

        Raises:
            MergeConflict: there are conflicts; ``details["paths"]`` and ``details["conflicts"]`` name them.
        """
        if self.root is not None:
            return self.root
        named = ", ".join(f"{conflict.path!a} ({conflict.kind.value})" for conflict in self.conflicts[:5])
        more = "" if len(self.conflicts) <= 5 and not self.truncated else " and more"
        raise MergeConflict(
            f"both sides changed {named}{more}: make them equal on one side, or merge with strategy ours or theirs",
            paths=[conflict.path for conflict in self.conflicts],
            conflicts=[{"path": conflict.path, "kind": conflict.kind.value} for conflict in self.conflicts],
            truncated=self.truncated,
        )


Resolve = Callable[[Conflict], Item | None]


def merge_trees(
    view: View,
    put: Put,
    base: Item | None,
    ours: Item,
    theirs: Item,
    *,
    strategy: Strategy | str | None = None,
    paths: Collection[Path] | None = None,
) -> MergeResult:
    """Merge two folders that come from one.

    Args:
        view: Reads all three; ``view.get`` must also find what ``put`` stored.
        put: Receives the blocks of merged folders; called only when there is no undecided conflict.
        base: What both come from; None for nothing.
        ours: The side that is kept where theirs changed nothing.
        theirs: The side whose changes are brought.
        strategy: ``ours`` or ``theirs`` decides every conflict; for a removed folder, as a whole.
        paths: Bring only changes at or below these paths; None for all.

    Raises:
        InvalidInput: an unknown strategy.
    """
    resolve = None
    if strategy is not None:
        resolve = _RESOLVERS.get(strategy)
        if resolve is None:
            raise InvalidInput(f"there is no merge strategy {strategy!a}: use ours or theirs")
    wanted = _trie(paths) if paths is not None else None
    if resolve is None:
        look = _Merger(view, None, None)
        look.root(base, ours, theirs, wanted)
        if look.conflicts:
            return MergeResult(None, tuple(look.conflicts), (), look.truncated)
    merger = _Merger(view, put, resolve)
    root = merger.root(base, ours, theirs, wanted)
    steps = merger.steps
    if len(steps) > STEPS_MAX:
        steps = [Step((), ours, root)]
    return MergeResult(root, tuple(merger.conflicts), tuple(steps), merger.truncated)


_RESOLVERS: Final[Mapping[str, Resolve]] = {
    Strategy.OURS: lambda conflict: conflict.ours,
    Strategy.THEIRS: lambda conflict: conflict.theirs,
}

_Trie = dict[bytes, Any]
"""Wanted paths: name to what is wanted below it, where None means everything."""


def _trie(paths: Iterable[Path]) -> _Trie | None:
    top: _Trie = {}
    for path in paths:
        if not path:
            return None
        node = top
        for name in path[:-1]:
            below = node.setdefault(name, {})
            if below is None:
                break
            node = below
        else:
            node[path[-1]] = None
    return top


class _Full(Exception):
    """As many conflicts as a result names have been found."""


class _Merger:
    """One walk over three trees. Recursion is bounded by the depth of paths.

    Args:
        view: Reads the trees.
        put: Receives blocks; None to look for conflicts only.
        resolve: Decides conflicts; None keeps ours and lists them.
    """

    def __init__(self, view: View, put: Put | None, resolve: Resolve | None) -> None:
        self._view = view
        self._put = put
        self._resolve = resolve
        self.conflicts: list[Conflict] = []
        self.steps: list[Step] = []
        self.truncated = False

    def root(self, base: Item | None, ours: Item, theirs: Item, wanted: _Trie | None) -> Item:
        """Merge the roots."""
        try:
            merged = self._part((), base, ours, theirs, wanted) if wanted else self._entry((), base, ours, theirs)
        except _Full:
            return ours
        if merged is None:
            raise InvalidInput("a root cannot be merged away; merge folders")
        return merged

    # -- folders -------------------------------------------------------------------------------------------------

    def _folder(self, path: Path, base: Item | None, ours: Item, theirs: Item | None, wanted: _Trie | None) -> Item:
        """Ours with what theirs changed since the base; attributes of the folder itself stay ours."""
        if len(path) > DEPTH_MAX:
            raise InvalidPath(f"the tree is more than {DEPTH_MAX} folders deep")
        edits: list[tuple[bytes, Item | None]] = []
        for name, before, after in folder_pairs(self._view, base, theirs):
            if wanted is not None and name not in wanted:
                continue
            here = self._view.child(ours, name)
            where = (*path, name)
            below = wanted[name] if wanted is not None else None
            if below is not None:
                merged = self._part(where, before, here, after, below)
            else:
                merged = self._entry(where, before, here, after)
            if not same(merged, here):
                edits.append((name, merged))
        if not edits or self._put is None:
            return ours
        return self._view.edit(ours, edits, self._put)

    def _part(
        self, path: Path, base: Item | None, ours: Item | None, theirs: Item | None, wanted: _Trie | None
    ) -> Item | None:
        """Merge only what is wanted below a path; what is at the path itself stays ours."""
        one = base if base is not None and base.is_dir else None
        other = theirs if theirs is not None and theirs.is_dir else None
        if ours is not None and ours.is_dir:
            return self._folder(path, one, ours, other, wanted)
        if any(wanted is None or name in wanted for name, _, _ in folder_pairs(self._view, one, other)):
            # The folder the change belongs to is gone.
            self._conflict(Conflict(path, ConflictKind.MODIFY_DELETE, base, ours, theirs))
        return ours

    # -- entries -------------------------------------------------------------------------------------------------

    def _entry(self, path: Path, base: Item | None, ours: Item | None, theirs: Item | None) -> Item | None:
        if same(ours, theirs) or same(base, theirs):
            return ours
        if same(base, ours):
            return self._took(path, ours, theirs)
        if ours is None or theirs is None:
            return self._removed(path, base, ours, theirs)
        if ours.is_dir and theirs.is_dir:
            return self._folders(path, base, ours, theirs)
        if ours.kind is not theirs.kind:
            return self._decided(path, ConflictKind.TYPE_CHANGE, base, ours, theirs)
        return self._files(path, base, ours, theirs)

    def _folders(self, path: Path, base: Item | None, ours: Item, theirs: Item) -> Item | None:
        below = base if base is not None and base.is_dir else None
        mark = len(self.steps)
        merged = ours
        if same_tree(ours, theirs) or (below is not None and same_tree(below, theirs)):
            whole = False
        elif below is not None and same_tree(below, ours):
            whole = True
            merged = replace(theirs, mtime_ns=ours.mtime_ns, attrs=ours.attrs)
        else:
            whole = False
            merged = self._folder(path, below, ours, theirs, None)
        named = self._attrs(path, below, ours, theirs)
        if named is None:
            return ours
        if not whole and same_attrs(named, ours):
            return merged
        del self.steps[mark:]
        return self._took(path, ours, replace(merged, mtime_ns=named.mtime_ns, attrs=named.attrs))

    def _files(self, path: Path, base: Item | None, ours: Item, theirs: Item) -> Item | None:
        known = base if base is not None and base.kind is ours.kind else None
        if ours.binary == theirs.binary or (known is not None and known.binary == theirs.binary):
            content = ours
        elif known is not None and known.binary == ours.binary:
            content = theirs
        else:
            kind = ConflictKind.BOTH_ADDED if base is None else ConflictKind.BOTH_MODIFIED
            return self._decided(path, kind, base, ours, theirs)
        named = self._attrs(path, known, ours, theirs)
        if named is None:
            return ours
        return self._took(path, ours, replace(content, mtime_ns=named.mtime_ns, attrs=named.attrs))

    def _attrs(self, path: Path, base: Item | None, ours: Item, theirs: Item) -> Item | None:
        """Ours with merged attributes; None for an undecided conflict, which is listed."""
        mtime_ns, attrs = merge_attrs(base, ours, theirs)
        if attrs is None:
            conflict = Conflict(path, ConflictKind.META, base, ours, theirs)
            self._conflict(conflict)
            if self._resolve is None:
                return None
            side = self._resolve(conflict)
            attrs = dict(side.attrs or {}) if side is not None else {}
        return replace(ours, mtime_ns=mtime_ns, attrs=attrs or None)

    def _removed(self, path: Path, base: Item | None, ours: Item | None, theirs: Item | None) -> Item | None:
        """One side removed what the other changed."""
        kept = ours if ours is not None else theirs
        assert base is not None
        assert kept is not None
        if kept.is_dir and base.is_dir:
            clashes = self._changed_below(path, base, kept, mine=ours is not None)
            found = False
            for clash in clashes:
                found = True
                self._conflict(clash)
            if not found:
                return self._took(path, ours, None)
        elif kept.same_content(base) and (kept.attrs or None) == (base.attrs or None):
            return self._took(path, ours, None)  # only its time moved
        else:
            self._conflict(Conflict(path, ConflictKind.MODIFY_DELETE, base, ours, theirs))
        if self._resolve is None:
            return ours
        return self._took(path, ours, self._resolve(Conflict(path, ConflictKind.MODIFY_DELETE, base, ours, theirs)))

    def _changed_below(self, path: Path, base: Item, kept: Item, *, mine: bool) -> Iterator[Conflict]:
        """What the side that kept a folder added or changed in it; removing more agrees with the other side."""
        if len(path) > DEPTH_MAX:
            raise InvalidPath(f"the tree is more than {DEPTH_MAX} folders deep")
        for name, before, after in folder_pairs(self._view, base, kept):
            where = (*path, name)
            if after is None:
                continue
            if before is not None and before.is_dir and after.is_dir:
                yield from self._changed_below(where, before, after, mine=mine)
                continue
            unchanged = before is not None and after.same_content(before)
            if unchanged and before is not None and (after.attrs or None) == (before.attrs or None):
                continue
            one, other = (after, None) if mine else (None, after)
            yield Conflict(where, ConflictKind.MODIFY_DELETE, before, one, other)

    # -- outcomes ------------------------------------------------------------------------------------------------

    def _took(self, path: Path, ours: Item | None, result: Item | None) -> Item | None:
        if self._put is not None and len(self.steps) <= STEPS_MAX and not same(ours, result):
            self.steps.append(Step(path, ours, result))
        return result

    def _decided(
        self, path: Path, kind: ConflictKind, base: Item | None, ours: Item | None, theirs: Item | None
    ) -> Item | None:
        conflict = Conflict(path, kind, base, ours, theirs)
        self._conflict(conflict)
        return self._took(path, ours, self._resolve(conflict)) if self._resolve is not None else ours

    def _conflict(self, conflict: Conflict) -> None:
        if len(self.conflicts) < CONFLICTS_MAX:
            self.conflicts.append(conflict)
            return
        self.truncated = True
        if self._resolve is None:
            raise _Full


def merge_attrs(base: Item | None, ours: Item, theirs: Item) -> tuple[int | None, dict[str, Any] | None]:
    """Merge times and attributes: field by field, tags and user metadata key by key, of two new times the later.

    Returns:
        Time and attributes; None for the attributes when one field was set differently on both sides.
    """
    times = [item.mtime_ns if item is not None else None for item in (base, ours, theirs)]
    if times[1] == times[2] or times[0] == times[2]:
        mtime_ns = times[1]
    elif times[0] == times[1]:
        mtime_ns = times[2]
    else:
        mtime_ns = max(time for time in times[1:] if time is not None)
    first, mine, other = ((item.attrs if item is not None else None) or {} for item in (base, ours, theirs))
    merged = _merge_maps(first, mine, other, _MAP_KEYS)
    return mtime_ns, merged


def _merge_maps(
    base: Mapping[str, Any], ours: Mapping[str, Any], theirs: Mapping[str, Any], nested: tuple[str, ...] = ()
) -> dict[str, Any] | None:
    merged: dict[str, Any] = {}
    for key in sorted({*base, *ours, *theirs}):
        first, mine, other = base.get(key), ours.get(key), theirs.get(key)
        if mine == other or first == other:
            value = mine
        elif first == mine:
            value = other
        elif key in nested:
            value = _merge_maps(first or {}, mine or {}, other or {})
            if value is None:
                return None
        else:
            return None
        if value not in (None, {}):
            merged[key] = value
    return merged


# -- commits -------------------------------------------------------------------------------------------------------


def root_item(get: Get, commit: commits.Commit) -> Item:
    """The root folder of a commit."""
    return replace(Item.of(entry_of(commit.root, get)), meta=commit.meta)


def merge_commits(
    profile: Profile,
    get: Get,
    put: Put,
    ours: CID,
    theirs: CID,
    *,
    strategy: Strategy | str | None = None,
) -> tuple[MergeResult, tuple[CID, ...]]:
    """Merge two commits over their best common ancestors.

    Several of those (a criss-cross history) are first merged with each other into a virtual base, whose blocks are kept
    in memory only; a path on which they conflict counts as changed on both sides.

    Args:
        profile: Shape of the nodes written.
        get: Bytes of a block; must also find what ``put`` stored.
        put: Receives the blocks of merged folders.
        ours: The commit merged into.
        theirs: The commit merged.
        strategy: As for ``merge_trees``.

    Returns:
        The result and the best common ancestors, newest first; none for unrelated histories.
    """
    scratch: dict[bytes, bytes] = {}

    def get_too(cid: CID) -> bytes:
        found = scratch.get(cid.binary)
        return found if found is not None else get(cid)

    def keep(cid: CID, data: bytes) -> None:
        scratch[cid.binary] = data

    view = View(profile, get_too, keep)
    bases = commits.merge_bases(get, [ours], [theirs])
    base = _base(view, keep, get, bases, 0)

    def put_all(cid: CID, data: bytes) -> object:
        answer = put(cid, data)
        # A store that encrypts answers with the address to link.
        scratch[(answer if isinstance(answer, CID) else cid).binary] = data
        return answer

    sides = [root_item(get, commits.load(get, cid)) for cid in (ours, theirs)]
    return merge_trees(view, put_all, base, sides[0], sides[1], strategy=strategy), bases


def _base(view: View, keep: Put, get: Get, bases: tuple[CID, ...], depth: int) -> Item | None:
    """The one root that stands for several best common ancestors."""
    if not bases:
        return None
    base = root_item(get, commits.load(get, bases[0]))
    if depth >= BASE_DEPTH_MAX:
        return base
    for at, cid in enumerate(bases[1:BASES_MAX], 1):
        below = _base(view, keep, get, commits.merge_bases(get, bases[:at], [cid]), depth + 1)
        merger = _Merger(view, keep, _marker)
        base = merger.root(below, base, root_item(get, commits.load(get, cid)), None)
    return base


def _marker(conflict: Conflict) -> Item:
    """An entry that equals nothing: its content is the conflict itself, and no block of it exists."""
    sides = [item.binary if item is not None else None for item in (conflict.base, conflict.ours, conflict.theirs)]
    data = dag_cbor.encode(["ipfs-kit/conflict", conflict.kind.value, *sides])
    return Item(CID.of(data).binary, Kind.FILE, len(data), len(data))
