"""Mutations of files and folders.
Each prepares its blocks outside the lock and returns an effect (value: ``Applied``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any, BinaryIO

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.attrs import check_attrs
from ipfs_kit.buckets.base import Decision
from ipfs_kit.buckets.guards import check_totals, settings_now
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import Applied, BucketKind
from ipfs_kit.buckets.paths import Location, Path, bytes_of, format_path, is_within
from ipfs_kit.buckets.reads import ReadOps
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.tree import Step, Tree, as_present
from ipfs_kit.buckets.workspace import Workspace
from ipfs_kit.errors import AlreadyExists, InvalidInput, InvalidPath, NotEmpty, PathNotFound, Stale
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Entry, Kind, build_bytes, build_file, build_symlink, entry_of, open_file, splice
from ipfs_kit.ledger import Effect

_KEEP: Any = object()


@dataclass(frozen=True, slots=True)
class PutOptions:
    """How an entry is put.

    Args:
        create_parents: Make missing folders on the way.
        overwrite: Replace a file that is there.
        content_type: Media type to remember.
        tags: Short text labels.
        metadata: Anything else (dag-cbor values).
        mtime_ns: Modification time; None means now.
        mode: Permission bits to remember.
    """

    create_parents: bool = True
    overwrite: bool = True
    content_type: str | None = None
    tags: Mapping[str, str] | None = None
    metadata: Mapping[str, Any] | None = None
    mtime_ns: int | None = None
    mode: int | None = None

    def attrs(self) -> Mapping[str, Any] | None:
        """As stored in the index."""
        return check_attrs({"type": self.content_type, "tags": self.tags, "user": self.metadata, "mode": self.mode})


class FileOps(ReadOps):
    """The mutations of a working session."""

    # -- building content -----------------------------------------------------------------------------------------

    def build_bytes(self, bucket: str, data: bytes) -> Entry:
        """Store content under the bucket's profile without linking it anywhere;
        pass the result to :meth:`put_entry`.
        """
        space = self.space(self.row(bucket))
        return build_bytes(data, space.profile, space.put)

    def build_stream(self, bucket: str, stream: BinaryIO, *, progress: Callable[[int], object] | None = None) -> Entry:
        """Store a stream of any size in bounded memory without linking it; pass the result to :meth:`put_entry`.

        Args:
            bucket: Whose profile and key to use.
            stream: Read to its end.
            progress: Called with the content bytes stored so far; an exception from it cancels.
        """
        space = self.space(self.row(bucket))
        return build_file(stream, space.profile, space.put, progress=progress)

    # -- putting --------------------------------------------------------------------------------------------------

    def put_bytes(self, at: str | Location, data: bytes, **options: Any) -> Effect:
        """Put a file.

        Args:
            at: Where; a live session.
            data: Its content.
            options: Fields of :class:`PutOptions`.

        Raises:
            AlreadyExists: (from the effect) a folder is there, or a file and ``overwrite`` is off.
        """
        workspace, location = self.live(at)
        self.expect_room(workspace, location.path, len(data))
        entry = build_bytes(data, workspace.space.profile, workspace.space.put)
        return self._put_file(workspace, location, entry, PutOptions(**options))

    def put_stream(
        self, at: str | Location, stream: BinaryIO, *, progress: Callable[[int], object] | None = None, **options: Any
    ) -> Effect:
        """Put a file of any size from a stream, in bounded memory; the effect never raises ``Stale``.

        Args:
            at: Where; a live session.
            stream: Read to its end.
            progress: Called with the content bytes stored so far.
            options: Fields of :class:`PutOptions`.
        """
        workspace, location = self.live(at)
        space = workspace.space
        watch = self._watched(workspace, location, progress)
        entry = build_file(stream, space.profile, space.put, progress=watch)
        return self._put_file(workspace, location, entry, PutOptions(**options))

    def _watched(
        self, workspace: Workspace, location: Location, progress: Callable[[int], object] | None
    ) -> Callable[[int], object] | None:
        """Progress of a stream that ends when the quota has no room for more of it."""
        most = self.expect_room(workspace, location.path, None)
        if most is None:
            return progress

        def told(done: int) -> None:
            if done > most:
                self.expect_room(workspace, location.path, done)
            if progress is not None:
                progress(done)

        return told

    def watched_import(
        self, at: str | Location, progress: Callable[[int, int], object]
    ) -> Callable[[int, int], object]:
        """Progress of an import that ends when the quota has no room for more of it.

        What is put onto an existing folder may replace what is there, so only more than the whole quota ends it early.

        Args:
            at: Where it will be put.
            progress: Called with files and bytes stored so far.
        """
        workspace, location = self.live(at)
        settings = settings_now(self.state.query, workspace.space)
        if settings.quota.unlimited:
            return progress
        with workspace.lock:
            fresh = workspace.tree().kind(location.path) is None
            held = workspace.totals() if fresh else (0, 0)

        def told(files: int, done: int) -> None:
            check_totals(settings, workspace.space, held, files, done)
            progress(files, done)

        return told

    def symlink(self, at: str | Location, target: str, **options: Any) -> Effect:
        """Put a symbolic link; it is kept as data and never followed."""
        workspace, location = self.live(at)
        entry = build_symlink(bytes_of(target), workspace.space.profile, workspace.space.put)
        return self._put_file(workspace, location, entry, PutOptions(**options))

    def put_entry(
        self,
        at: str | Location,
        entry: Entry | CID | Item,
        *,
        meta: CID | None = None,
        merge: bool = True,
        **options: Any,
    ) -> Effect:
        """Link something whose blocks are in the store: a file, a link or a whole folder.

        A folder put to a new path becomes that path; put to an existing folder it is merged into it, files of the
        same path replaced. The names in it are checked.

        Args:
            at: Where; a live session.
            entry: What to link.
            meta: Index of a folder, when known; otherwise it is built from the blocks.
            merge: Whether an existing folder may be merged into.
            options: Fields of :class:`PutOptions`.

        Raises:
            AlreadyExists: file and folder meet at one path.
            Stale: (from the effect) the folder to merge into changed since; prepare again.
        """
        workspace, location = self.live(at)
        space, chosen = workspace.space, PutOptions(**options)
        if isinstance(entry, Item):
            item = entry
        else:
            known = entry_of(entry, space.get) if isinstance(entry, CID) else entry
            item = Item.of(known, mtime_ns=self._mtime(chosen), attrs=chosen.attrs(), meta=meta)
        if not item.is_dir:
            return self._put_item(workspace, location, item, chosen)
        item = space.view.adopt(item, space.put)
        return self._put_folder(workspace, location, item, chosen, merge)

    def mkdir(self, at: str | Location, *, parents: bool = False, exist_ok: bool = False) -> Effect:
        """Make an empty folder.

        Args:
            at: Where.
            parents: Make missing folders on the way.
            exist_ok: Succeed when the folder is there.
        """
        workspace, location = self.live(at)
        path = location.path
        empty = self._empty(workspace.space)

        def decide(tree: Tree) -> Decision:
            kind = tree.kind(path)
            if kind is Kind.DIR and exist_ok:
                here = as_present(tree.lookup(path), path)
                return Decision((), self._applied(location, here, here), here.cid, here.cid)
            if kind is not None:
                raise AlreadyExists(f"{location} exists ({kind.value})", path=format_path(path))
            steps = (*missing_parents(tree, path, parents, empty), Step(path, None, empty))
            return Decision(steps, self._applied(location, None, empty, len(steps)), None, empty.cid)

        return self.effect(workspace, str(location), decide)

    # -- removing -------------------------------------------------------------------------------------------------

    def rm(self, at: str | Location, *, recursive: bool = False) -> Effect:
        """Remove a file, a link or, with ``recursive``, a folder and all in it.

        Raises:
            PathNotFound: (from the effect) nothing is there.
            NotEmpty: (from the effect) a folder with content, without ``recursive``.
        """
        workspace, location = self.live(at)
        return self._remove(workspace, location, recursive=recursive, folder_only=False)

    def rmdir(self, at: str | Location) -> Effect:
        """Remove an empty folder.

        Raises:
            PathNotFound: (from the effect) nothing is there, or no folder.
            NotEmpty: (from the effect) it has content.
        """
        workspace, location = self.live(at)
        return self._remove(workspace, location, recursive=False, folder_only=True)

    def _remove(self, workspace: Workspace, location: Location, *, recursive: bool, folder_only: bool) -> Effect:
        path = below_root(location)
        workspace.warm(path)

        def decide(tree: Tree) -> Decision:
            item = as_present(tree.lookup(path), path)
            if folder_only and not item.is_dir:
                raise PathNotFound(f"{location} is a {item.kind.value}, not a folder; use rm", path=format_path(path))
            if item.is_dir and not recursive and not tree.is_empty(path):
                raise NotEmpty(
                    f"folder {location} is not empty; pass recursive to remove all in it", path=format_path(path)
                )
            return Decision((Step(path, item, None),), self._applied(location, item, None), item.cid, None)

        return self.effect(workspace, str(location), decide)

    # -- moving and copying ---------------------------------------------------------------------------------------

    def mv(self, source: str | Location, target: str | Location, *, overwrite: bool = False) -> Effect:
        """Move an entry; onto an existing folder means into it.

        Args:
            source: What; a live session.
            target: Where to; a live session of this or another bucket.
            overwrite: Replace a file, or an empty folder by a folder.

        Raises:
            AlreadyExists: (from the effect) something is at the target.
            InvalidPath: the target lies inside the source.
        """
        return self._transfer(source, target, overwrite=overwrite, remove=True)

    def cp(self, source: str | Location, target: str | Location, *, overwrite: bool = False) -> Effect:
        """Copy an entry by linking it again; onto an existing folder means into it.

        Content is built anew only when the buckets differ in profile or key. The source may be any state.

        Args:
            source: What, in any state of any bucket.
            target: Where to; a live session.
            overwrite: Replace a file, or an empty folder by a folder.
        """
        return self._transfer(source, target, overwrite=overwrite, remove=False)

    def _transfer(self, source: str | Location, target: str | Location, *, overwrite: bool, remove: bool) -> Effect:
        there, goal = self.live(target)
        if not remove:
            item, origin, source_path = self.item_with_space(source)
            item = self.recode(origin, there.space, item)
            return self._place(there, goal, source_path, item, overwrite)
        here, start = self.live(source)
        path = below_root(start)
        here.warm(path)
        if here is there:
            return self._move_within(here, start, goal, overwrite)
        moved, origin, _ = self.item_with_space(source)
        recoded = self.recode(origin, there.space, moved)

        def decide(left: Tree, right: Tree) -> tuple[Decision, Decision]:
            item = as_present(left.lookup(path), path)
            if not item.same_content(moved):
                raise Stale(f"{start} changed while it was moved")
            removal = Decision((Step(path, item, None),), None, item.cid, None)
            return removal, self._placed(right, goal, path, recoded, overwrite)

        return self.effect_on_two(here, there, f"{start} -> {goal}", decide)

    def _move_within(self, workspace: Workspace, start: Location, goal: Location, overwrite: bool) -> Effect:
        def decide(tree: Tree) -> Decision:
            item = as_present(tree.lookup(start.path), start.path)
            final = landing(tree, goal.path, start.path)
            if is_within(final, start.path):
                if final == start.path:
                    raise AlreadyExists(f"{start} is there already", path=format_path(final))
                raise InvalidPath(f"cannot move {start} into itself", path=format_path(final))
            replaced = replaceable(tree, final, item, overwrite)
            missing_parents(tree, final, False, item)
            steps = (Step(start.path, item, None), Step(final, replaced, item))
            value = self._applied(Location(goal.ref, final), item, item, 2)
            return Decision(steps, value, item.cid, item.cid)

        return self.effect(workspace, f"{start} -> {goal}", decide)

    def _place(self, workspace: Workspace, goal: Location, source: Path, item: Item, overwrite: bool) -> Effect:
        return self.effect(workspace, str(goal), lambda tree: self._placed(tree, goal, source, item, overwrite))

    def _placed(self, tree: Tree, goal: Location, source: Path, item: Item, overwrite: bool) -> Decision:
        final = landing(tree, goal.path, source)
        replaced = replaceable(tree, final, item, overwrite)
        missing_parents(tree, final, False, item)
        before = replaced.cid if replaced is not None else None
        value = self._applied(Location(goal.ref, final), replaced, item)
        return Decision((Step(final, replaced, item),), value, before, item.cid)

    def recode(self, origin: Space, target: Space, item: Item) -> Item:
        """The entry as the target bucket would have built it; the same item where both share profile and key."""
        plain = origin.row.kind is BucketKind.OPEN and target.row.kind is BucketKind.OPEN
        if origin is target or (plain and origin.profile == target.profile):
            return item
        if item.kind is Kind.SYMLINK:
            built = build_symlink(self.link_target(origin, item), target.profile, target.put)
        elif item.kind is Kind.FILE:
            with open_file(item.cid, origin.get) as stream:
                built = build_file(stream, target.profile, target.put)
        else:
            children = ((name, self.recode(origin, target, child)) for name, child in origin.view.children(item))
            folder = target.view.edit(self._empty(target), children, target.put)
            return replace(folder, mtime_ns=item.mtime_ns, attrs=item.attrs)
        return Item.of(built, mtime_ns=item.mtime_ns, attrs=item.attrs)

    # -- changing in place ----------------------------------------------------------------------------------------

    def write(self, at: str | Location, data: bytes, *, offset: int = 0, truncate: bool = False) -> Effect:
        """Write bytes at an offset, creating the file when absent; a gap reads as zeros.

        Chunks that the write does not touch keep their blocks, so the cost follows the written bytes.

        Args:
            at: Which file; a live session.
            data: What to write.
            offset: Where the first byte goes.
            truncate: End the file after the written bytes.

        Raises:
            Stale: (from the effect) the file changed since; prepare again.
        """
        if offset < 0:
            raise InvalidInput("offset must be 0 or more")
        return self._rewrite(at, data, offset, truncate)

    def append(self, at: str | Location, data: bytes) -> Effect:
        """Write bytes at the end of a file, creating it when absent.

        Raises:
            Stale: (from the effect) the file changed since; prepare again.
        """
        return self._rewrite(at, data, None, False)

    def _rewrite(self, at: str | Location, data: bytes, offset: int | None, truncate: bool) -> Effect:
        workspace, location = self.live(at)
        path, space = below_root(location), workspace.space
        with workspace.lock:
            old = workspace.tree().lookup(path)
        if old is not None and old.kind is not Kind.FILE:
            raise PathNotFound(f"{location} is a {old.kind.value}, not a file", path=format_path(path))
        size = old.size if old is not None else 0
        start = size if offset is None else offset
        self.expect_room(workspace, path, max(start + len(data), 0 if truncate else size))
        if old is None and start == 0:
            built = build_file(BytesIO(data), space.profile, space.put)
        else:
            source = old.cid if old is not None else build_bytes(b"", space.profile, space.put).cid
            built = splice(source, size, data, start, truncate, space.profile, space.get, space.put)
        new = Item.of(built, mtime_ns=self.now(), attrs=old.attrs if old is not None else None)

        def decide(tree: Tree) -> Decision:
            now = tree.lookup(path)
            if (now is None) != (old is None) or (old is not None and not old.same_content(now)):
                raise Stale(f"{location} changed while it was written")
            missing_parents(tree, path, False, new)
            return self._change(location, now, new)

        return self.effect(workspace, str(location), decide)

    def set_metadata(
        self,
        at: str | Location,
        *,
        content_type: str | None = _KEEP,
        tags: Mapping[str, str] | None = _KEEP,
        metadata: Mapping[str, Any] | None = _KEEP,
        mtime_ns: int | None = _KEEP,
        mode: int | None = _KEEP,
    ) -> Effect:
        """Change what is remembered beside the content; arguments left out stay, None clears. The root CID stays."""
        workspace, location = self.live(at)
        path = below_root(location)
        given = {"type": content_type, "tags": tags, "user": metadata, "mode": mode}
        changed = {key: value for key, value in given.items() if value is not _KEEP}

        def decide(tree: Tree) -> Decision:
            old = as_present(tree.lookup(path), path)
            attrs = check_attrs({**(old.attrs or {}), **changed})
            new = replace(old, attrs=attrs, mtime_ns=old.mtime_ns if mtime_ns is _KEEP else mtime_ns)
            return self._change(location, old, new)

        return self.effect(workspace, str(location), decide)

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _put_file(self, workspace: Workspace, location: Location, entry: Entry, options: PutOptions) -> Effect:
        item = Item.of(entry, mtime_ns=self._mtime(options), attrs=options.attrs())
        return self._put_item(workspace, location, item, options)

    def _put_item(self, workspace: Workspace, location: Location, item: Item, options: PutOptions) -> Effect:
        path = below_root(location)
        empty = self._empty(workspace.space) if options.create_parents and len(path) > 1 else None

        def decide(tree: Tree) -> Decision:
            if tree.kind(path) is Kind.DIR:
                raise AlreadyExists(f"{location} is a folder; remove it first", path=format_path(path))
            old = tree.lookup(path)
            if old is not None and not options.overwrite:
                raise AlreadyExists(f"{location} exists; pass overwrite to replace it", path=format_path(path))
            parents = missing_parents(tree, path, options.create_parents, empty)
            return self._change(location, old, item, parents)

        return self.effect(workspace, str(location), decide)

    def _put_folder(
        self, workspace: Workspace, location: Location, item: Item, options: PutOptions, merge: bool
    ) -> Effect:
        path, space = location.path, workspace.space
        with workspace.lock:
            base = workspace.tree().lookup(path)
            if base is not None and base.is_dir:
                space.persist(base)
        if base is not None and not (base.is_dir and (merge or not path)):
            raise AlreadyExists(f"{location} exists; put the folder elsewhere or remove it", path=format_path(path))
        merged = overlaid(space, base, item, path, options.overwrite) if base is not None else item
        empty = self._empty(space) if options.create_parents and path else None

        def decide(tree: Tree) -> Decision:
            now = tree.lookup(path)
            if (now is None) != (base is None) or (base is not None and not base.same_content(now)):
                raise Stale(f"{location} changed while a folder was merged into it")
            parents = missing_parents(tree, path, options.create_parents, empty) if path else ()
            return self._change(location, now, merged, parents)

        return self.effect(workspace, str(location), decide)

    def _change(self, location: Location, old: Item | None, new: Item, parents: tuple[Step, ...] = ()) -> Decision:
        before = old.cid if old is not None else None
        value = self._applied(location, old, new, 1 + len(parents))
        if old == new:
            return Decision((), value, before, new.cid)
        return Decision((*parents, Step(location.path, old, new)), value, before, new.cid)

    def _applied(self, location: Location, old: Item | None, new: Item | None, paths: int = 1) -> Applied:
        return Applied(
            location.bucket,
            format_path(location.path),
            new.cid if new is not None else None,
            old.cid if old is not None else None,
            new.size if new is not None else 0,
            paths,
        )

    def _empty(self, space: Space) -> Item:
        """An empty folder; its two blocks are put each time, because the store may have collected them since."""
        return space.view.empty(space.put)

    def _mtime(self, options: PutOptions) -> int:
        return options.mtime_ns if options.mtime_ns is not None else self.now()


def below_root(location: Location) -> Path:
    """The path of a location that must not be the root.

    Raises:
        InvalidPath: it is.
    """
    if not location.path:
        raise InvalidPath(f"{location} is the root of the bucket; name something in it")
    return location.path


def missing_parents(tree: Tree, path: Path, create: bool, empty: Item | None) -> tuple[Step, ...]:
    """Steps that make the folders missing above a path.

    Raises:
        PathNotFound: one is missing and ``create`` is off.
        AlreadyExists: something on the way is no folder.
    """
    if len(path) < 2 or tree.kind(path[:-1]) is Kind.DIR:
        return ()
    for depth in range(1, len(path)):
        kind = tree.kind(path[:depth])
        if kind is Kind.DIR:
            continue
        if kind is not None:
            raise AlreadyExists(
                f"{format_path(path[:depth])!a} is a {kind.value}, so nothing can be put below it",
                path=format_path(path),
            )
        if not create or empty is None:
            raise PathNotFound(
                f"the folder {format_path(path[:depth])!a} does not exist", path=format_path(path[:depth])
            )
        return tuple(Step(path[:at], None, empty) for at in range(depth, len(path)))
    return ()


def landing(tree: Tree, goal: Path, source: Path) -> Path:
    """Where a move or copy ends up: inside the goal when that is a folder, else at it."""
    if tree.kind(goal) is Kind.DIR and source:
        return (*goal, source[-1])
    if not goal:
        raise InvalidPath("the root of a bucket cannot be replaced by a copy; use checkout or restore")
    return goal


def replaceable(tree: Tree, path: Path, item: Item, overwrite: bool) -> Item | None:
    """What is at a path, when it may be replaced by ``item``.

    Raises:
        AlreadyExists: it may not.
        NotEmpty: it is a folder with content.
    """
    old = tree.lookup(path)
    if old is None:
        return None
    if not overwrite or old.is_dir != item.is_dir:
        raise AlreadyExists(f"{format_path(path)!a} exists ({old.kind.value})", path=format_path(path))
    if old.is_dir and not tree.is_empty(path):
        raise NotEmpty(f"folder {format_path(path)!a} is not empty", path=format_path(path))
    return old


def overlaid(space: Space, base: Item, item: Item, path: Path, overwrite: bool) -> Item:
    """A folder merged into another: new names added, files replaced, folders merged; cost follows the added folder.

    Raises:
        AlreadyExists: file and folder meet, or a file is there and ``overwrite`` is off.
    """
    edits: list[tuple[bytes, Item | None]] = []
    for name, new in space.view.children(item):
        old = space.view.child(base, name)
        if old == new:
            continue
        where = (*path, name)
        if old is not None and old.is_dir != new.is_dir:
            raise AlreadyExists(f"{format_path(where)!a} is a {old.kind.value} in the bucket", path=format_path(where))
        if old is not None and not old.is_dir and not overwrite:
            raise AlreadyExists(f"{format_path(where)!a} exists; pass overwrite to replace it", path=format_path(where))
        edits.append((name, overlaid(space, old, new, where, overwrite) if old is not None and old.is_dir else new))
    return space.view.edit(base, edits, space.put) if edits else base
