"""Commits taken to another place: cherry-pick, reset and rebase. Each is one op, whole or not at all [24]."""

from __future__ import annotations

from typing import Final, NamedTuple

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import commits, merge
from ipfs_kit.buckets.commits import Commit
from ipfs_kit.buckets.history import HistoryOps
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import Committed
from ipfs_kit.buckets.paths import Ref
from ipfs_kit.buckets.resolving import same_state
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.versions import Moving
from ipfs_kit.buckets.workspace import Head
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import BudgetExceeded, MergeConflict
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ledger import Effect, Outcome

REBASE_MAX: Final = 1_000
"""Commits that one rebase replays."""
THEIRS_MAX: Final = 100_000
"""Commits the other branch may have since the histories parted."""


@dataclass(frozen=True, slots=True)
class Rebased:
    """What came of a rebase.

    Args:
        bucket: The bucket.
        branch: The branch that moved.
        commit: Its head now.
        root: The content now.
        created: Whether commits were made; False when the branch only moved forward, or not at all.
        replayed: Commits made.
        dropped: Commits left out, because what they changed was there already or they only merged.
    """

    bucket: str
    branch: str
    commit: CID | None
    root: CID
    created: bool
    replayed: int
    dropped: int


class _Replay(NamedTuple):
    head: CID
    root: Item
    replayed: int
    dropped: int


class RewriteOps(HistoryOps):
    """Operations that make a branch hold other commits."""

    def cherry_pick(
        self,
        ref: str | Ref,
        commit: str,
        message: str | None = None,
        *,
        author: str = "",
        strategy: str | None = None,
        override: bool = False,
    ) -> Effect:
        """Commit what another commit changed. Value: :class:`Committed`.

        Args:
            ref: A live session without uncommitted changes.
            commit: Whose changes to bring, of the same bucket; of a merge, what it brought to its first parent.
            message: Message of the new commit; the other's own when left out.
            author: Surrogate id; empty means the key ring's own ``local``.
            strategy: ``ours`` or ``theirs`` decides conflicts; None refuses them.
            override: Also where the branch is protected against commits.

        Raises:
            Conflict: the session has uncommitted changes.
            MergeConflict: the branch changed the same paths; ``details['paths']`` names them.
            RuleRefused: a rule or hook refuses what it would bring.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space, head = workspace.space, snapshot.head
        self._require_clean(space, snapshot)
        _, found = self.commit_of(Ref.parse(f"{space.name}@{commit}"))
        record = commits.load(space.get, found)
        root = self._carried(space, record, snapshot.root, strategy).require()
        if same_state(root, snapshot.root):
            return self.nothing(workspace, head, root)
        settings = self.admit(space, head, snapshot.root, root)
        text = message if message is not None else self._message(record) or f"Pick {found}"
        parents = (head.base,) if head.base is not None else ()
        kept = {**(self._kept(record) or {}), "cherry_picked": str(found)}
        cid = self.write_commit(space, root, parents, text, author, kept)
        moving = Moving("cherry_pick", override=override, settings=settings.op_index)
        return self.move_branch(workspace, snapshot, cid, root, Head(head.branch, cid), moving)

    def reset(self, ref: str | Ref, target: str, *, hard: bool = False, override: bool = False) -> Effect:
        """Make the session's branch name another commit. Value: :class:`Committed`.

        Commits that nothing else reaches stay readable until garbage collection, and undo brings the branch back.

        Args:
            ref: A live session.
            target: Branch, tag or commit of the same bucket.
            hard: Also give the session that commit's content and discard what is uncommitted; without it the session
                keeps its content, and what differs shows as uncommitted.
            override: Also where the branch is protected.

        Raises:
            Protected: (from the effect) the branch is protected, would lose commits, and ``override`` is off.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space, head = workspace.space, snapshot.head
        _, found = self.commit_of(Ref.parse(f"{space.name}@{target}"))
        root = self.commit_root(space, found) if hard else snapshot.root
        moving = Moving("reset", keep=not hard, override=override)
        return self.move_branch(workspace, snapshot, found, root, Head(head.branch, found), moving)

    def rebase(
        self, ref: str | Ref, onto: str, *, author: str = "", strategy: str | None = None, override: bool = False
    ) -> Effect:
        """Replay the commits of a session's branch on another one. Value: :class:`Rebased`.

        Each own commit since the histories parted is made again, oldest first, with its message, metadata and author;
        merges are not, and neither is what the other branch holds already. The first conflict stops all of it.

        Args:
            ref: A live session without uncommitted changes.
            onto: Branch, tag or commit of the same bucket.
            author: Author of commits whose own author's key was destroyed; empty means the key ring's own ``local``.
            strategy: ``ours`` (what the other branch has) or ``theirs`` (the commit replayed) decides conflicts.
            override: Also where the branch is protected.

        Raises:
            Conflict: the session has uncommitted changes.
            MergeConflict: a commit changes what the other branch changed; ``details`` name commit and paths.
            BudgetExceeded: more than 1,000 commits would be replayed.
            Protected: (from the effect) the branch is protected, would lose commits, and ``override`` is off.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space, head = workspace.space, snapshot.head
        self._require_clean(space, snapshot)
        _, target = self.commit_of(Ref.parse(f"{space.name}@{onto}"))
        if head.base is not None and commits.is_ancestor(space.get, target, head.base):
            return self._stays(workspace.space.name, head, snapshot.root)
        own = self._own_commits(space, head.base, target)
        done = self._replayed(space, own, target, author, strategy)
        settings = self.admit(space, head, snapshot.root, done.root)
        moving = Moving("rebase", override=override, settings=settings.op_index)
        effect = self.move_branch(workspace, snapshot, done.head, done.root, Head(head.branch, done.head), moving)

        def run(tx: Tx) -> Outcome:
            outcome = effect(tx)
            value: Committed = outcome.value
            made = done.replayed > 0
            outcome.value = Rebased(
                value.bucket, value.branch, value.commit, value.root, made, done.replayed, done.dropped
            )
            return outcome

        return run

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _stays(self, bucket: str, head: Head, root: Item) -> Effect:
        value = Rebased(bucket, head.branch, head.base, root.cid, False, 0, 0)
        return lambda tx: Outcome(value=value, before=head.base, after=head.base, target=bucket)

    def _own_commits(self, space: Space, head: CID | None, target: CID) -> list[tuple[CID, Commit]]:
        """Commits of a branch that another does not have, oldest first."""
        if head is None:
            return []
        bases = commits.merge_bases(space.get, [head], [target])
        floor = min((commits.load(space.get, base).order_ns for base in bases), default=-(1 << 63))
        theirs: set[bytes] = set()
        for cid, commit in commits.walk(space.get, [target]):
            # ``order`` rises along every edge, so nothing below the floor is on one side only.
            if commit.order_ns < floor:
                break
            theirs.add(cid.binary)
            if len(theirs) > THEIRS_MAX:
                raise BudgetExceeded(f"the other branch is more than {THEIRS_MAX} commits ahead; merge it instead")
        found: list[tuple[CID, Commit]] = []
        for cid, commit in commits.walk(space.get, [head]):
            if commit.order_ns < floor:
                break
            if cid.binary not in theirs:
                found.append((cid, commit))
            if len(found) > REBASE_MAX:
                raise BudgetExceeded(f"more than {REBASE_MAX} commits would be replayed; merge instead of rebasing")
        return found[::-1]

    def _replayed(
        self, space: Space, own: list[tuple[CID, Commit]], target: CID, author: str, strategy: str | None
    ) -> _Replay:
        head, root, replayed, dropped = target, self.commit_root(space, target), 0, 0
        for cid, commit in own:
            if len(commit.parents) > 1:
                dropped += 1
                continue
            result = self._carried(space, commit, root, strategy)
            try:
                next_root = result.require()
            except MergeConflict as exc:
                raise MergeConflict(f"commit {cid}: {exc.message}", commit=str(cid), **exc.details) from exc
            if same_state(next_root, root):
                dropped += 1
                continue
            key = self.keys.subject_key(commit.author) if self.keys is not None else None
            who = commit.author if key is not None else author
            kept = {**(self._kept(commit) or {}), "rebased": str(cid)}
            head = self.write_commit(space, next_root, (head,), self._message(commit) or "", who, kept)
            root, replayed = next_root, replayed + 1
        return _Replay(head, root, replayed, dropped)

    def _carried(self, space: Space, commit: Commit, ours: Item, strategy: str | None) -> merge.MergeResult:
        """What a commit changed since its first parent, brought onto another state."""
        theirs = Item(commit.root.binary, ours.kind, 0, _tsize(commit), meta=commit.meta)
        parent = commit.parents[0] if commit.parents else None
        base = self.commit_root(space, parent) if parent is not None else space.view.empty(space.put)
        return merge.merge_trees(space.view, space.put, base, ours, theirs, strategy=strategy)

    def _message(self, commit: Commit) -> str | None:
        key = self.keys.subject_key(commit.author) if self.keys is not None else None
        return commit.open_message(key)

    def _kept(self, commit: Commit) -> dict[str, object] | None:
        key = self.keys.subject_key(commit.author) if self.keys is not None else None
        found = commit.open_metadata(key)
        return dict(found) if found is not None else None


def _tsize(commit: Commit) -> int:
    found = commit.ext.get("tsize")
    return found if isinstance(found, int) else 0
