"""Merge, revert and undo: new operations computed from old states [24]."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from ipfs_kit.buckets import commits, merge
from ipfs_kit.buckets.base import Decision, forget
from ipfs_kit.buckets.configure import SettingsOps
from ipfs_kit.buckets.model import Applied, Committed
from ipfs_kit.buckets.paths import Ref
from ipfs_kit.buckets.refs import branch_ref
from ipfs_kit.buckets.resolving import same_state
from ipfs_kit.buckets.space import BUCKET_COLUMNS, BucketRow, Space
from ipfs_kit.buckets.tree import Step, Tree
from ipfs_kit.buckets.versions import Moving
from ipfs_kit.buckets.workspace import Head, Snapshot, Workspace, state_at, unpack_steps
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import Conflict, OpNotFound, RefConflict, RefNotFound, Stale
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ledger import Effect, Outcome


class _SessionPart(NamedTuple):
    """What undoing an op does to one session."""

    workspace: Workspace
    snapshot: Snapshot
    steps: tuple[Step, ...]
    head: Head | None


class _RefPart(NamedTuple):
    """What undoing an op does to one ref."""

    space: Space
    name: str
    before: CID | None
    after: CID | None


class HistoryOps(SettingsOps):
    """Operations on the graph of versions."""

    def merge(
        self, ref: str | Ref, source: str, message: str | None = None, *, author: str = "", strategy: str | None = None
    ) -> Effect:
        """Merge another state's commit into a session and its branch. Value: :class:`Committed`.

        Nothing to merge changes nothing; a session without own commits is moved forward; else a commit with two
        parents is made. Where others moved the session's own branch, merging that branch brings the session there with
        its uncommitted changes on top, and makes no commit.

        Args:
            ref: A live session; without uncommitted changes unless the source is its own branch.
            source: Branch, tag or commit of the same bucket.
            message: Message of the merge commit.
            author: Surrogate id; empty means the key ring's own ``local``.
            strategy: ``ours`` or ``theirs`` decides conflicts; None refuses them.

        Raises:
            Conflict: the session has uncommitted changes.
            MergeConflict: both sides changed the same paths; ``details['paths']`` names them.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space, head = workspace.space, snapshot.head
        other, theirs = self.commit_of(Ref.parse(f"{space.name}@{source}"))
        if other is not space:
            raise RefNotFound(f"{source} is no commit of bucket {space.name!r}")
        tip = self._ref_at(space.row, branch_ref(head.branch), None)
        behind = theirs == tip != head.base
        if behind and (head.base is None or commits.is_ancestor(space.get, head.base, theirs)):
            return self._follow(workspace, snapshot, theirs, strategy)
        self._require_clean(space, snapshot)
        if head.base is not None and commits.is_ancestor(space.get, theirs, head.base):
            return self.nothing(workspace, head, snapshot.root)
        if head.base is None or commits.is_ancestor(space.get, head.base, theirs):
            root, commit = self.commit_root(space, theirs), theirs
            settings = self.admit(space, head, snapshot.root, root)
            moving = Moving("merge", merge=True, settings=settings.op_index)
            return self.move_branch(workspace, snapshot, commit, root, Head(head.branch, commit), moving)
        result, _ = merge.merge_commits(space.profile, space.get, space.put, head.base, theirs, strategy=strategy)
        root = result.require()
        settings = self.admit(space, head, snapshot.root, root)
        text = message if message is not None else f"Merge {source} into {head.branch}"
        commit = self.write_commit(space, root, (head.base, theirs), text, author, None)
        moving = Moving("merge", merge=True, settings=settings.op_index)
        return self.move_branch(workspace, snapshot, commit, root, Head(head.branch, commit), moving)

    def _follow(self, workspace: Workspace, snapshot: Snapshot, theirs: CID, strategy: str | None) -> Effect:
        """Bring a session to where others moved its branch; what is uncommitted stays so, on top."""
        space, head = workspace.space, snapshot.head
        target = self.commit_root(space, theirs)
        base = self.base_root(space, head)
        root = merge.merge_trees(space.view, space.put, base, snapshot.root, target, strategy=strategy).require()

        def decide(tree: Tree) -> Decision:
            if workspace.seq != snapshot.seq or workspace.now_head() != head:
                raise Stale("the session changed meanwhile")
            now = tree.flush()
            steps = () if same_state(now, root) else (Step((), now, root),)
            value = Committed(space.name, head.branch, theirs, root.cid, False)
            return Decision(steps, value, head.base, theirs, Head(head.branch, theirs, head.merging))

        return self.effect(workspace, space.name, decide)

    def revert(
        self, ref: str | Ref, commit: str, message: str | None = None, *, author: str = "", override: bool = False
    ) -> Effect:
        """Commit the inverse of an earlier commit. Value: :class:`Committed`.

        Args:
            ref: A live session without uncommitted changes.
            commit: What to take back; of a merge, what it brought to its first parent.
            message: Message of the new commit.
            author: Surrogate id; empty means the key ring's own ``local``.
            override: Also where the branch is protected against commits.

        Raises:
            Conflict: the session has uncommitted changes.
            MergeConflict: later commits changed the same paths.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        space, head = workspace.space, snapshot.head
        self._require_clean(space, snapshot)
        _, found = self.commit_of(Ref.parse(f"{space.name}@{commit}"))
        if head.base is None or not commits.is_ancestor(space.get, found, head.base):
            raise RefNotFound(f"{commit} is not in the history of branch {head.branch!r}", ref=commit)
        record = commits.load(space.get, found)
        after = self.commit_root(space, found)
        before = self.commit_root(space, record.parents[0]) if record.parents else space.view.empty(space.put)
        result = merge.merge_trees(space.view, space.put, after, snapshot.root, before)
        root = result.require()
        if same_state(root, snapshot.root):
            return self.nothing(workspace, head, root)
        text = message if message is not None else f"Revert {found}"
        settings = self.admit(space, head, snapshot.root, root)
        cid = self.write_commit(space, root, (head.base,), text, author, {"reverts": str(found)})
        moving = Moving("revert", override=override, settings=settings.op_index)
        return self.move_branch(workspace, snapshot, cid, root, Head(head.branch, cid), moving)

    # -- undo -----------------------------------------------------------------------------------------------------

    def undo(self, op_index: int, *, override: bool = False) -> Effect:
        """Take back one operation by a new one: a three-way merge per session, compare-and-swap per ref [24].

        Value: a list of :class:`Applied`, one for each bucket whose content changed.

        Args:
            op_index: The op.
            override: Also where that moves a protected branch back.

        Raises:
            Protected: (from the effect) it would move a protected branch back and ``override`` is off.
            OpNotFound: the op changed no bucket (or there is none of this index).
            MergeConflict: later operations changed the same paths; nothing is undone.
            RefConflict: (from the effect) a ref moved since; nothing is undone.
            Expired: the op lies before the time-travel horizon.
        """
        whole = self._undo_whole(op_index) or self.undo_settings(op_index)
        if whole is not None:
            return whole
        sessions = [self._undo_session(*row, op_index) for row in self._touched(op_index)]
        refs = self._undo_refs(op_index)
        if not sessions and not refs:
            raise OpNotFound(f"op {op_index} changed no bucket, so there is nothing to undo", op=op_index)

        def run(tx: Tx) -> Outcome:
            outcome = Outcome(value=[], effect=["undo", op_index, []], target=f"op {op_index}")
            with ExitStack() as held:
                for part in sorted(sessions, key=lambda each: each.workspace.session):
                    held.enter_context(part.workspace.lock)
                    self.check_open(tx, part.workspace)
                    part.workspace.catch_up(tx)
                    if part.workspace.seq != part.snapshot.seq:
                        raise Stale("the session changed meanwhile")
                moved = [self._swap_back(tx, ref, override) for ref in refs]
                done = [part.workspace for part in sessions]
                outcome.on_abort = partial(forget, done)
                try:
                    self._apply_parts(tx, sessions, outcome)
                except BaseException:
                    forget(done)
                    raise
            outcome.effect[2].append(moved)
            return outcome

        return run

    def _apply_parts(self, tx: Tx, parts: list[_SessionPart], outcome: Outcome) -> None:
        for part in parts:
            root = part.workspace.catch_up(tx).flush()
            value = Applied(part.workspace.space.name, "/", None, root.cid, 0, len(part.steps))
            told = self.apply(tx, part.workspace, Decision(part.steps, value, root.cid, None, part.head), "")
            outcome.effect[2].append(told.effect)
            outcome.value.append(value)
            outcome.before = root.cid
            if part.steps:
                after = part.workspace.catch_up(tx).flush()
                outcome.after = after.cid

    def _touched(self, op_index: int) -> list[tuple[int, bytes]]:
        return [
            (int(session), payload)
            for session, payload in self.state.query(
                "SELECT session, payload FROM effects WHERE op_index=?", (op_index,)
            )
        ]

    def _undo_session(self, session: int, payload: bytes, op_index: int) -> _SessionPart:
        rows = self.state.query(
            "SELECT buckets.name, sessions.name FROM sessions JOIN buckets ON buckets.id=sessions.bucket "
            "WHERE sessions.id=? AND sessions.dropped_op IS NULL AND buckets.dropped_op IS NULL",
            (session,),
        )
        if not rows:
            raise Conflict(f"the session that op {op_index} changed was dropped; undo that first")
        workspace = self.workspace(*rows[0])
        space = workspace.space
        steps = unpack_steps(space.unseal(payload))
        after, before = state_at(space, session, op_index), state_at(space, session, op_index - 1)
        now = workspace.flushed()
        head = None
        if before.head != after.head and now.head == after.head:
            head = before.head
        taken: tuple[Step, ...] = ()
        if steps:
            result = merge.merge_trees(
                space.view, space.put, after.root, now.root, before.root, paths=[step.path for step in steps]
            )
            root = result.require()
            taken = result.steps
            if not taken and not same_state(root, now.root):
                taken = (Step((), now.root, root),)
        return _SessionPart(workspace, now, taken, head)

    def _undo_refs(self, op_index: int) -> list[_RefPart]:
        found = []
        for bucket, name, before, after in self.state.query(
            "SELECT bucket, ref, before, after FROM ref_effects WHERE op_index=?", (op_index,)
        ):
            rows = self.state.query(
                f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE id=? AND dropped_op IS NULL",  # noqa: S608 - constant text
                (bucket,),
            )
            if not rows:
                raise Conflict(f"the bucket that op {op_index} changed was dropped; undo that first")
            old = CID(before) if before is not None else None
            new = CID(after) if after is not None else None
            found.append(_RefPart(self.space(BucketRow.of(rows[0])), name, old, new))
        return found

    def _swap_back(self, tx: Tx, ref: _RefPart, override: bool) -> list[Any]:
        current = self.refs.read_in(tx, ref.space.row.uid, ref.name)
        if (current.commit if current is not None else None) != ref.after:
            raise RefConflict(
                f"{ref.name} of bucket {ref.space.name!r} moved since; undo the later ops first", ref=ref.name
            )
        return self.swap(tx, ref.space, ref.name, current, ref.before, override=override, merge=True)

    def _undo_whole(self, op_index: int) -> Effect | None:
        """Undo of making or dropping a bucket or a session."""
        made = self.state.query("SELECT name, id FROM buckets WHERE created_op=? AND dropped_op IS NULL", (op_index,))
        if made:
            return self._undo_made(made[0][0], made[0][1], op_index)
        dropped = self.state.query("SELECT id FROM buckets WHERE dropped_op=?", (op_index,))
        if dropped:
            return self.undelete(dropped[0][0], op_index)
        opened = self.state.query(
            "SELECT buckets.name, sessions.name FROM sessions JOIN buckets ON buckets.id=sessions.bucket "
            "WHERE sessions.created_op=? AND sessions.dropped_op IS NULL AND buckets.created_op<>?",
            (op_index, op_index),
        )
        if opened:
            return self.session_drop(*opened[0])
        closed = self.state.query("SELECT id FROM sessions WHERE dropped_op=?", (op_index,))
        return self.session_undrop(closed[0][0], op_index) if closed else self._undo_revival(op_index)

    def _undo_made(self, name: str, bucket: int, op_index: int) -> Effect:
        """Undo of what made a bucket: an empty one goes; one that came with its history goes unless it changed since."""
        if not self.state.query("SELECT 1 FROM ref_effects WHERE op_index=? AND bucket=? LIMIT 1", (op_index, bucket)):
            return self.delete(name)
        drop = self.delete(name, force=True)

        def run(tx: Tx) -> Outcome:
            if self._changed_since(tx, bucket, 0, op_index):
                raise Conflict(f"bucket {name!r} changed since op {op_index}; undo the later ops first")
            return drop(tx)

        return run

    def _undo_revival(self, op_index: int) -> Effect | None:
        """Undo of an undo that brought a bucket or session back: it is dropped again, unless it changed since.

        Raises:
            Conflict: it changed since, or the op was itself taken back already.
        """
        rows = self.state.query(
            "SELECT buckets.name, sessions.name, revivals.bucket, revivals.session FROM revivals "
            "JOIN buckets ON buckets.id=revivals.bucket AND buckets.dropped_op IS NULL "
            "LEFT JOIN sessions ON sessions.id=revivals.session "
            "WHERE revivals.op_index=? AND (revivals.session=0 OR sessions.dropped_op IS NULL)",
            (op_index,),
        )
        if not rows:
            again = self.state.query("SELECT op_index FROM revivals WHERE dropped_op=?", (op_index,))
            if again:
                raise Conflict(f"op {op_index} was taken back by op {again[0][0]} already; undo that one to redo it")
            return None
        bucket, session, bucket_id, session_id = rows[0]
        drop = self.session_drop(bucket, session, force=True) if session_id else self.delete(bucket, force=True)

        def run(tx: Tx) -> Outcome:
            # What came back was whole, so it may go again whole; but nothing that came since may go with it.
            if self._changed_since(tx, bucket_id, session_id, op_index):
                raise Conflict(f"bucket {bucket!r} changed since op {op_index}; undo the later ops first")
            return drop(tx)

        return run

    def _changed_since(self, tx: Tx, bucket: int, session: int, op_index: int) -> bool:
        ours = "SELECT id FROM sessions WHERE bucket=? AND (?=0 OR id=?)"
        return bool(
            tx.execute(
                f"SELECT 1 FROM effects WHERE op_index>? AND session IN ({ours}) UNION ALL "  # noqa: S608 - constant text
                "SELECT 1 FROM ref_effects WHERE op_index>? AND bucket=? AND ?=0 UNION ALL "
                "SELECT 1 FROM sessions WHERE created_op>? AND bucket=? AND ?=0 UNION ALL "
                "SELECT 1 FROM bucket_settings WHERE op_index>? AND bucket=? AND ?=0 LIMIT 1",
                (op_index, bucket, session, session, *(op_index, bucket, session) * 3),
            )
        )
