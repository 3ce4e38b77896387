"""Versions: commits, branches, tags, checkout and restore. Merge, revert and undo are in ``history``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import commits, guards
from ipfs_kit.buckets import diff as diffs
from ipfs_kit.buckets.base import Decision
from ipfs_kit.buckets.commits import Commit
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import Applied, Change, Committed, Status
from ipfs_kit.buckets.paths import (
    Location,
    Ref,
    as_ref,
    check_ref_name,
    format_path,
    looks_like_cid,
)
from ipfs_kit.buckets.refs import RefPage, RefValue, branch_ref, tag_ref
from ipfs_kit.buckets.resolving import ResolveOps, same_state
from ipfs_kit.buckets.settings import Settings
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.tree import Step, Tree
from ipfs_kit.buckets.workspace import DEFAULT_BRANCH, Head, Snapshot, Workspace, op_index_of
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import (
    AlreadyExists,
    Conflict,
    Expired,
    InvalidInput,
    RefConflict,
    RefNotFound,
    Stale,
    Unsupported,
)
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Kind
from ipfs_kit.ledger import Effect, Outcome

LOG_MAX = 1_000
"""Most commits of one page of the log."""
_CHANGE_NAMES = {"meta": "metadata", "type_changed": "modified"}
CHANGES_MAX = 10_000
"""Most changes of one answer."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One commit as callers see it."""

    cid: CID
    root: CID
    parents: tuple[CID, ...]
    author: str
    """Surrogate id."""
    message: str | None
    """None when the author's key was destroyed."""
    time_ns: int
    metadata: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Moving:
    """How a session's branch is moved.

    Args:
        what: Name of the operation, for its record.
        keep: The session keeps its present tree; otherwise it takes the new root and must not have moved.
        override: Also where the branch is protected.
        merge: Whether a merge of another branch moves it.
        settings: Op of the settings that allowed it; None when none were asked.
    """

    what: str
    keep: bool = False
    override: bool = False
    merge: bool = False
    settings: int | None = None


class VersionOps(ResolveOps):
    """What turns working states into versions and back."""

    # -- status and log -------------------------------------------------------------------------------------------

    def status(self, ref: str | Ref, *, limit: int = 1000) -> Status:
        """The working session against the commit it builds on."""
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space, head = workspace.space, snapshot.head
        base = self.base_root(space, head)
        changes, truncated = self._changes(space, base, snapshot.root, limit)
        return Status(
            space.name,
            workspace.name,
            head.branch,
            head.base,
            snapshot.root.cid,
            not changes and head.merging is None,
            changes,
            truncated,
            head.merging,
        )

    def diff(
        self, left: str | Location, right: str | Location, *, limit: int = 1000
    ) -> tuple[tuple[Change, ...], bool]:
        """Changes that lead from one state or folder to another, and whether more exist than were asked for."""
        before, space, _ = self.folder(left)
        after, other, _ = self.folder(right)
        if space is not other and (space.row.kind.value, other.row.kind.value) != ("open", "open"):
            raise InvalidInput("states of two buckets can be compared only when both are open")
        return self._changes(space, before, after, limit)

    def log(self, ref: str | Ref, *, limit: int = 50, after: CID | None = None) -> tuple[LogEntry, ...]:
        """History of a session, branch, tag or commit, newest first."""
        if limit < 1:
            raise InvalidInput("limit must be 1 or more")
        found = as_ref(ref)
        if found.live:
            workspace = self.live_ref(found)
            space, head = workspace.space, workspace.head().base
        else:
            space, head = self.commit_of(self.resolve_time(found))
        if head is None:
            return ()
        page = commits.log(space.get, head, limit=min(limit, LOG_MAX), after=after)
        return tuple(self.told(cid, commit) for cid, commit in page.commits)

    def told(self, cid: CID, commit: Commit) -> LogEntry:
        """A commit with its sealed fields opened where their key is held."""
        key = self.keys.subject_key(commit.author) if self.keys is not None else None
        return LogEntry(
            cid,
            commit.root,
            commit.parents,
            commit.author,
            commit.open_message(key),
            commit.time_ns,
            commit.open_metadata(key),
        )

    # -- committing -----------------------------------------------------------------------------------------------

    def commit(
        self,
        ref: str | Ref,
        message: str,
        *,
        author: str = "",
        metadata: Mapping[str, Any] | None = None,
        override: bool = False,
    ) -> Effect:
        """Commit the session's state to its branch. Value: :class:`Committed`.

        The state is that of this call; what others change in the session meanwhile stays uncommitted on top.

        Args:
            ref: A live session.
            message: Sealed under the author's key.
            author: Surrogate id from the key ring; empty means the ring's own ``local``.
            metadata: Anything to remember, sealed likewise.
            override: Also where the branch is protected against commits.

        Raises:
            RefConflict: (from the effect) the branch moved since the session was based on it; merge it first.
            RuleRefused: A rule or hook refuses what the commit changes; nothing was written.
            QuotaExceeded: It would add to more than the bucket may hold.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space, head = workspace.space, snapshot.head
        base = self.base_root(space, head)
        if head.merging is None and same_state(base, snapshot.root):
            return self.nothing(workspace, head, snapshot.root)
        settings = self.admit(space, head, base, snapshot.root)
        parents = tuple(cid for cid in (head.base, head.merging) if cid is not None)
        cid = self.write_commit(space, snapshot.root, parents, message, author, metadata)
        moving = Moving("commit", keep=True, override=override, settings=settings.op_index)
        return self.move_branch(workspace, snapshot, cid, snapshot.root, Head(head.branch, cid), moving)

    def admit(self, space: Space, head: Head, before: Item, after: Item) -> Settings:
        """Ask quota, rules and hooks whether a branch may take a state, before anything of a commit is written.

        Args:
            space: The bucket.
            head: Names the branch.
            before: Root of its present head.
            after: Root of the head it would have.

        Returns:
            The settings that allowed it.
        """
        settings = guards.settings_now(self.state.query, space)
        if not settings.quota.unlimited:
            was, now = (space.view.index.totals(space.view.meta_of(root)) for root in (before, after))
            grown = (now.files - was.files, now.size_bytes - was.size_bytes)
            guards.check_totals(settings, space, (was.files, was.size_bytes), *grown)
        guards.check_changes(settings, self.hooks, space, head.branch, before, after)
        return settings

    def write_commit(
        self,
        space: Space,
        root: Item,
        parents: tuple[CID, ...],
        message: str,
        author: str,
        metadata: Mapping[str, Any] | None,
    ) -> CID:
        """Store a commit block naming a root."""
        if self.keys is None:
            raise Unsupported("commits need the key ring that seals their messages; open the store with its keys")
        author = author or self.keys.subject_for("local")
        key = self.keys.subject_key(author)
        if key is None:
            raise Expired("the author's key was destroyed; commit as someone else")
        nonce, time_ns = self.random(16), self.now()
        known = tuple(commits.load(space.get, parent) for parent in parents)
        commit = Commit(
            bucket=space.row.uid,
            root=root.cid,
            meta=space.view.meta_of(root),
            parents=parents,
            author=author,
            time_ns=time_ns,
            order_ns=commits.order_after(time_ns, known),
            profile=space.profile.name,
            nonce=nonce,
            message=commits.seal_message(key, nonce, message),
            metadata=commits.seal_metadata(key, nonce, metadata),
            ext={"tsize": root.tsize},
        )
        cid, data = commit.encode()
        return space.put(cid, data)

    def nothing(self, workspace: Workspace, head: Head, root: Item) -> Effect:
        """An effect that changes nothing. Value: :class:`Committed` with ``created`` off."""
        value = Committed(workspace.space.name, head.branch, head.base, root.cid, False)

        def run(tx: Tx) -> Outcome:
            with workspace.lock:
                self.check_open(tx, workspace)
            return Outcome(value=value, before=head.base, after=head.base, target=workspace.space.name)

        return run

    def move_branch(
        self,
        workspace: Workspace,
        snapshot: Snapshot,
        commit: CID,
        root: Item,
        head: Head,
        moving: Moving,
    ) -> Effect:
        """Move the session's branch and the session together.

        Args:
            workspace: The session.
            snapshot: The state this was prepared against.
            commit: New head of the branch.
            root: The commit's root.
            head: New head of the session.
            moving: How.
        """
        space = workspace.space
        name = branch_ref(head.branch)
        keep = moving.keep

        def run(tx: Tx) -> Outcome:
            with workspace.lock:
                self.check_open(tx, workspace)
                tree = workspace.catch_up(tx)
                if workspace.now_head() != snapshot.head or not workspace.contains(tx, snapshot):
                    raise Stale("another commit of this session came first")
                if not keep and workspace.seq != snapshot.seq:
                    raise Stale("the session changed meanwhile")
                current = self.refs.read_in(tx, space.row.uid, name)
                if (current.commit if current is not None else None) != snapshot.head.base:
                    raise RefConflict(
                        f"branch {head.branch!r} moved since this session was based on it; merge it, then commit",
                        branch=head.branch,
                    )
                if moving.settings not in (None, guards.settings_now(tx.execute, space).op_index):
                    raise Stale("the bucket's settings changed meanwhile")
                if keep:
                    workspace.offer(snapshot)
                steps = () if keep else (Step((), tree.flush(), root),)
                moved = self.swap(tx, space, name, current, commit, override=moving.override, merge=moving.merge)
                value = Committed(space.name, head.branch, commit, root.cid, True)
                outcome = self.apply(
                    tx, workspace, Decision(steps, value, snapshot.head.base, commit, head), space.name
                )
                outcome.effect = [moving.what, outcome.effect, moved]
                return outcome

        return run

    def swap(
        self,
        tx: Tx,
        space: Space,
        name: str,
        current: RefValue | None,
        commit: CID | None,
        *,
        override: bool = False,
        merge: bool = False,
    ) -> list[Any]:
        """Move a ref inside the transaction and remember it for ``@op:`` and undo.

        Args:
            tx: The transaction.
            space: The bucket.
            name: Full name of the ref.
            current: Its value as just read.
            commit: What it shall name; None deletes it.
            override: Also where the branch is protected.
            merge: Whether a merge of another branch moves it.

        Returns:
            ``[name, before, after, bucket id, nonce]`` for the op's record.

        Raises:
            RefConflict: it has another generation.
            Protected: it is a protected branch that may not be moved so.
        """
        index = op_index_of(tx)
        if not override:
            was = current.commit if current is not None else None
            guards.check_move(guards.settings_now(tx.execute, space), space, name, was, commit, merge=merge)
        if commit is not None:
            self.retain(tx, space, [commit])
        generation = current.generation if current is not None else 0
        op_id = index.to_bytes(8)
        nonce = op_id + self.random(8)
        self.refs.swap_in(tx, space.row.uid, name, generation, commit, op_id=op_id, nonce=nonce)
        before = current.commit if current is not None else None
        tx.execute(
            "INSERT INTO ref_effects(op_index, bucket, ref, time_ns, before, after) VALUES(?,?,?,?,?,?)",
            (index, space.row.id, name, tx.began_ns, _binary(before), _binary(commit)),
        )
        return [name, before, commit, space.row.id, nonce]

    def sessions(self, bucket: str) -> list[tuple[str, str]]:
        """Names of a bucket's sessions, each with its branch."""
        row = self.row(bucket)
        rows = self.state.query(
            "SELECT name FROM sessions WHERE bucket=? AND dropped_op IS NULL ORDER BY name LIMIT 10000", (row.id,)
        )
        return [(name, self.workspace(bucket, name).head().branch) for (name,) in rows]

    # -- branches and tags ----------------------------------------------------------------------------------------

    def branch_create(self, bucket: str, name: str, *, at: str | None = None) -> Effect:
        """Make a branch. Value: its commit.

        Args:
            bucket: The bucket.
            name: Name of the branch.
            at: Branch, tag, commit or ``op:N``; the default workspace's commit when left out.

        Raises:
            AlreadyExists: (from the effect) there is one of this name.
        """
        return self._ref_create(bucket, branch_ref(check_ref_name(name)), at, "branch")

    def tag_create(self, bucket: str, name: str, *, at: str | None = None) -> Effect:
        """Make a tag; it never moves. Arguments as for :meth:`branch_create`."""
        return self._ref_create(bucket, tag_ref(check_ref_name(name)), at, "tag")

    def branch_delete(self, bucket: str, name: str, *, force: bool = False, override: bool = False) -> Effect:
        """Delete a branch. Value: the commit it named.

        Raises:
            Protected: (from the effect) it is protected and ``override`` is off.
            Conflict: (from the effect) a session is on it, or its commits would be unreachable and ``force`` is off.
        """
        return self._ref_delete(bucket, branch_ref(check_ref_name(name)), force, override)

    def tag_delete(self, bucket: str, name: str) -> Effect:
        """Delete a tag. Value: the commit it named."""
        return self._ref_delete(bucket, tag_ref(check_ref_name(name)), True, False)

    def branches(self, bucket: str, *, after: str | None = None, limit: int = 1000) -> RefPage:
        """One page of branches; names carry the prefix ``heads/``."""
        return self.refs.list(self.row(bucket).uid, "heads/", after=after, limit=limit)

    def tags(self, bucket: str, *, after: str | None = None, limit: int = 1000) -> RefPage:
        """One page of tags; names carry the prefix ``tags/``."""
        return self.refs.list(self.row(bucket).uid, "tags/", after=after, limit=limit)

    def _ref_create(self, bucket: str, full: str, at: str | None, what: str) -> Effect:
        row = self.row(bucket)
        space = self.space(row)
        commit = self._commit_named(row, at)

        def run(tx: Tx) -> Outcome:
            current = self.refs.read_in(tx, row.uid, full)
            if current is not None and current.commit is not None:
                raise AlreadyExists(f"{full} exists in bucket {bucket!r}", ref=full)
            moved = self.swap(tx, space, full, current, commit)
            return Outcome(value=commit, effect=[what, moved], after=commit, target=f"{bucket}@{full}")

        return run

    def _ref_delete(self, bucket: str, full: str, force: bool, override: bool) -> Effect:
        row = self.row(bucket)
        space = self.space(row)
        before = self.refs.get(row.uid, full)
        if before is None or before.commit is None:
            raise RefNotFound(f"bucket {bucket!r} has no {full}", ref=full)
        if not force and not self._reachable(space, before.commit, full):
            raise Conflict(
                f"{full} holds commits that nothing else reaches; merge or tag them, or pass force", ref=full
            )

        def run(tx: Tx) -> Outcome:
            current = self.refs.read_in(tx, row.uid, full)
            if current != before:
                raise Stale(f"{full} moved meanwhile")
            for name, branch in self.sessions(bucket):
                if branch_ref(branch) == full:
                    raise Conflict(f"session {name!r} is on {full}; check out another branch there first", session=name)
            effect = ["delete_ref", self.swap(tx, space, full, current, None, override=override)]
            return Outcome(value=before.commit, effect=effect, before=before.commit, target=f"{bucket}@{full}")

        return run

    def _reachable(self, space: Space, commit: CID, full: str) -> bool:
        after: str | None = None
        while True:
            page = self.refs.list(space.row.uid, "", after=after, limit=1000)
            for ref in page.refs:
                other = ref.value.commit
                if ref.name != full and other is not None and commits.is_ancestor(space.get, commit, other):
                    return True
            after = page.cursor
            if after is None:
                return False

    # -- checkout and restore -------------------------------------------------------------------------------------

    def checkout(self, ref: str | Ref, target: str, *, force: bool = False) -> Effect:
        """Switch a session to a branch, or give it the content of another state. Value: :class:`Applied`.

        Args:
            ref: A live session.
            target: A branch to switch to; or a tag, commit, ``op:N`` or ``time:T`` whose content the session takes,
                staying on
                its branch so that the next commit records the return.
            force: Discard uncommitted changes.

        Raises:
            Conflict: there are uncommitted changes and ``force`` is off.
            RefNotFound: there is no such state.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space = workspace.space
        if not force:
            self._require_clean(space, snapshot)
        value = self.refs.get(space.row.uid, branch_ref(target)) if _is_ref_name(target) else None
        if value is not None and value.commit is not None:
            root, head = self.commit_root(space, value.commit), Head(target, value.commit)
        elif target == DEFAULT_BRANCH and snapshot.head.branch == target:
            root, head = self.base_root(space, snapshot.head), snapshot.head
        else:
            _, root = self.fixed(Ref.parse(f"{space.name}@{target}"))
            head = Head(snapshot.head.branch, snapshot.head.base)
        return self._take(workspace, snapshot, root, head)

    def _take(self, workspace: Workspace, snapshot: Snapshot, root: Item, head: Head) -> Effect:
        space = workspace.space

        def decide(tree: Tree) -> Decision:
            if workspace.seq != snapshot.seq or workspace.now_head() != snapshot.head:
                raise Stale("the session changed meanwhile")
            now = tree.flush()
            value = Applied(space.name, "/", root.cid, now.cid)
            steps = () if same_state(now, root) else (Step((), now, root),)
            return Decision(steps, value, now.cid, root.cid, head if head != snapshot.head else None)

        return self.effect(workspace, space.name, decide)

    def restore(self, at: str | Location, source: str, *, force: bool = False) -> Effect:
        """Give one path the content it has in another state. Value: :class:`Applied`.

        Args:
            at: The path, in a live session.
            source: Branch, tag, commit, ``op:N`` or ``time:T`` of the same bucket.
            force: Discard uncommitted changes below the path.

        Raises:
            Conflict: (from the effect) the path has uncommitted changes and ``force`` is off.
            PathNotFound: nothing is at the path in that state.
        """
        workspace, location = self.live(at)
        space, path = workspace.space, location.path
        _, root = self.fixed(Ref.parse(f"{space.name}@{source}"))
        item = space.view.lookup(root, path)
        if item is None:
            # What is not there in that state cannot be restored; removing it is rm's business.
            self._absent(location, source)
        committed = space.view.lookup(self.base_root(space, workspace.head()), path)

        def decide(tree: Tree) -> Decision:
            now = tree.lookup(path)
            if not force and not (now == item or _same_entry(now, committed)):
                raise Conflict(f"{location} has uncommitted changes; commit them or pass force", path=format_path(path))
            for depth in range(1, len(path)):
                if tree.kind(path[:depth]) is not Kind.DIR:
                    raise Conflict(f"the folder {format_path(path[:depth])!a} is not there; restore it first")
            before = now.cid if now is not None else None
            value = Applied(space.name, format_path(path), item.cid, before, item.size)
            return Decision(() if now == item else (Step(path, now, item),), value, before, item.cid)

        return self.effect(workspace, str(location), decide)

    def _absent(self, location: Location, source: str) -> NoReturn:
        from ipfs_kit.errors import PathNotFound

        raise PathNotFound(f"{format_path(location.path)!a} is not in {source}", path=format_path(location.path))

    # -- comparing ------------------------------------------------------------------------------------------------

    def _changes(self, space: Space, left: Item, right: Item, limit: int) -> tuple[tuple[Change, ...], bool]:
        if limit < 1:
            raise InvalidInput("limit must be 1 or more")
        limit = min(limit, CHANGES_MAX)
        found: list[Change] = []
        for change in diffs.diff(space.view, left, right):
            if len(found) == limit:
                return tuple(found), True
            before, after = change.before, change.after
            found.append(
                Change(
                    change.path,
                    _CHANGE_NAMES.get(change.kind.value, change.kind.value),
                    before.cid if before is not None else None,
                    after.cid if after is not None else None,
                )
            )
        return tuple(found), False


def _same_entry(one: Item | None, other: Item | None) -> bool:
    return one == other or (one is not None and one.is_dir and one.same_content(other))


def _is_ref_name(text: str) -> bool:
    return ":" not in text and not looks_like_cid(text)


def _binary(cid: CID | None) -> bytes | None:
    return cid.binary if cid is not None else None
