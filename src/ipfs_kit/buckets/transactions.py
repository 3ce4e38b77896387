"""Transactions of a bucket: a session that starts at the working state and joins it again, whole or not at all.

Begin, commit and rollback are one effect each, so a crash leaves a transaction open or ended, never half of either.
What others changed meanwhile stays: a commit brings only what the transaction changed, by three-way merge.
"""

from __future__ import annotations

from typing import Any, Final

from ipfs_kit.buckets import commits
from ipfs_kit.buckets.base import Decision
from ipfs_kit.buckets.buckets import Buckets
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.merge import merge_trees
from ipfs_kit.buckets.model import Applied
from ipfs_kit.buckets.paths import format_path
from ipfs_kit.buckets.refs import branch_ref
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.tree import Step, Tree
from ipfs_kit.buckets.workspace import (
    DEFAULT_SESSION,
    Head,
    Query,
    Snapshot,
    newest_snapshot,
    op_index_of,
    pack_root,
    unpack_head,
    unpack_steps,
)
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import AlreadyExists, BlockNotFound, IntegrityError, KitError, Stale
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.walk import blocks as blocks_below
from ipfs_kit.ledger import Effect, Outcome

PREFIX: Final = "tx-"
"""What the names of transactions' sessions begin with."""
CHECKPOINTS_TRIED: Final = 100
"""Checkpoints looked at for one that is whole."""
STEPS_MAX: Final = 100_000
"""Changes since a checkpoint that are carried over to it."""


def session_of(transaction: str) -> str:
    """Name of a transaction's session."""
    return PREFIX + transaction


def begin(buckets: Buckets, bucket: str, transaction: str) -> Effect:
    """Open a session at the bucket's working state. Value: the session's name.

    Raises:
        AlreadyExists: (from the effect) there is one of this name.
    """
    main = buckets.workspace(bucket)
    name = session_of(transaction)
    space = main.space
    snapshot = main.flushed()

    def run(tx: Tx) -> Outcome:
        with main.lock:
            buckets.check_open(tx, main)
            main.catch_up(tx)
            if main.seq != snapshot.seq or not main.contains(tx, snapshot):
                raise Stale("the working state moved meanwhile")
            if tx.execute(
                "SELECT 1 FROM sessions WHERE bucket=? AND name=? AND dropped_op IS NULL", (space.row.id, name)
            ):
                raise AlreadyExists(f"bucket {bucket!r} has a transaction {transaction!r}", session=name)
            space.blocks.sync()
            buckets.retain(tx, space, [snapshot.root.cid])
            made = buckets._insert_session(  # noqa: SLF001 - this module is part of Buckets
                tx, space.row.id, name, space, pack_root(snapshot.root), snapshot.head, op_index_of(tx)
            )
        return Outcome(name, ["session", space.row.id, name, [*made]], target=f"{bucket}#{name}")

    return run


def commit(buckets: Buckets, bucket: str, transaction: str) -> Effect:
    """Bring what a transaction changed into the working state and end it. Value: :class:`Applied`.

    Raises:
        RefNotFound: There is no such transaction open.
        MergeConflict: The working state changed at the same paths; the transaction stays open.
    """
    main, own = buckets.workspace(bucket), buckets.workspace(bucket, session_of(transaction))
    space = main.space
    start = _start(space, own.session, buckets)
    ours, theirs = main.flushed(), own.flushed()
    merged = merge_trees(space.view, space.put, start, ours.root, theirs.root)
    root = merged.require()
    main.prepare()

    def run(tx: Tx) -> Outcome:
        first, second = sorted((main, own), key=lambda each: each.session)
        with first.lock, second.lock:
            buckets.check_open(tx, main)
            buckets.check_open(tx, own)
            now = main.catch_up(tx).flush()
            own.catch_up(tx)
            if main.seq != ours.seq or own.seq != theirs.seq:
                raise Stale("the working state or the transaction moved meanwhile")
            space.blocks.sync()
            applied = Applied(bucket, "/", root.cid, now.cid, paths=len(merged.steps))
            decision = Decision(tuple(merged.steps), applied, now.cid, root.cid)
            outcome = buckets.apply(tx, main, decision, bucket)
            tx.execute("UPDATE sessions SET dropped_op=? WHERE id=?", (op_index_of(tx), own.session))
        ended: list[Any] = ["session_drop", own.session]
        outcome.effect = ended if outcome.effect is None else [outcome.effect, ended]
        return outcome

    return run


def _start(space: Space, session: int, buckets: Buckets) -> Item:
    """The state a transaction began with: its session's first snapshot."""
    created = buckets.state.query("SELECT created_op FROM sessions WHERE id=?", (session,))[0][0]
    return newest_snapshot(space, session, buckets.state.query, created).root


def open_transactions(buckets: Buckets, bucket: str) -> list[str]:
    """Transactions of a bucket that have not ended."""
    # The rows alone: opening each session would fail where another caller ends one meanwhile.
    rows = buckets.state.query(
        "SELECT name FROM sessions WHERE bucket=? AND dropped_op IS NULL ORDER BY name", (buckets.row(bucket).id,)
    )
    return [name[len(PREFIX) :] for (name,) in rows if name.startswith(PREFIX)]


# -- recovery ----------------------------------------------------------------------------------------------------


def damage(space: Space, item: Item) -> str | None:
    """Why a tree cannot be read whole, by fetching and checking each of its blocks; None when it can."""
    try:
        for path, found in space.view.walk(item):
            if not found.is_dir:
                why = _unreadable(space, found)
                if why is not None:
                    return f"{format_path(path)}: {why}"
            elif (why := _folder(space, found)) is not None:
                return f"{format_path(path)}: {why}"
    except (IntegrityError, BlockNotFound) as exc:
        return exc.message
    return None if (why := _folder(space, item)) is None else f"/: {why}"


def _folder(space: Space, item: Item) -> str | None:
    try:
        space.get(item.cid)
    except (IntegrityError, BlockNotFound) as exc:
        return exc.message
    return None


def _unreadable(space: Space, item: Item) -> str | None:
    try:
        for _ in blocks_below([item.cid], space.get):
            pass
    except (IntegrityError, BlockNotFound) as exc:
        return exc.message
    return None


class Recovered:
    """What a recovery found.

    Args:
        root: The state's root.
        checkpoint: The newest whole checkpoint; None when there is none.
        damaged: Checkpoints newer than that, each with the reason.
        fell_back: Why the working state had to be rebuilt from a checkpoint; None when it was whole.
        lost: Paths whose present content could not be kept.
    """

    def __init__(self, root: CID) -> None:
        self.root = root
        self.checkpoint: CID | None = None
        self.damaged: list[str] = []
        self.fell_back: str | None = None
        self.lost: list[str] = []


def recover(buckets: Buckets, bucket: str) -> tuple[Recovered, Effect]:
    """Check the working state and the checkpoints block by block, and rebuild what is damaged.

    A whole working state is kept as it is. A damaged one becomes the newest whole checkpoint with the changes recorded
    since, less those whose own content is damaged, which are named.

    Returns:
        What was found, and the effect that makes it the working state.
    """
    main = buckets.workspace(bucket)
    space = main.space
    snapshot = newest_snapshot(space, main.session, buckets.state.query)
    found = Recovered(snapshot.root.cid)
    head = _head(buckets, main.session, snapshot)
    whole = _newest_whole(buckets, bucket, head.base, found)
    now: Item | None = None
    try:
        now = main.flushed().root
        found.fell_back = damage(space, now)
    except (IntegrityError, BlockNotFound) as exc:
        found.fell_back = exc.message
    kept = now if found.fell_back is None else None
    if kept is not None and (not found.damaged or found.checkpoint is None):
        found.root = kept.cid
        return found, lambda tx: Outcome(found, target=bucket)
    # Also beside a whole state the branch goes back to the whole checkpoint: the next one needs a parent it can read.
    rebuilt = kept if kept is not None else _rebuilt(buckets, bucket, whole, found)
    found.root = rebuilt.cid
    last = _last(buckets.state.query, main.session, snapshot)

    def run(tx: Tx) -> Outcome:
        with main.lock:
            buckets.check_open(tx, main)
            if _last(tx.execute, main.session, snapshot) != last:
                raise Stale("the working state moved meanwhile")
            space.blocks.sync()
            # The tree before may be unreadable: this effect replaces all of it and needs nothing of it.
            main.replace(rebuilt, last, head)
            moved, now_head = None, head
            if found.damaged and found.checkpoint is not None:
                name = branch_ref(head.branch)
                now_head = Head(head.branch, found.checkpoint)
                current = buckets.refs.read_in(tx, space.row.uid, name)
                # What lies before it cannot be read any more, so a protected branch gives way, too.
                moved = buckets.swap(tx, space, name, current, found.checkpoint, override=True)
            step = Step((), snapshot.root, rebuilt)
            outcome = buckets.apply(tx, main, Decision((step,), found, None, rebuilt.cid, now_head), bucket)
            main.checkpoint(tx, Snapshot(main.seq, op_index_of(tx), rebuilt, now_head))
            if moved is not None:
                outcome.effect = ["commit", outcome.effect, moved]
            return outcome

    return found, run


def _last(query: Query, session: int, snapshot: Snapshot) -> tuple[int, int]:
    """Number and op of the last effect of a session."""
    rows = query("SELECT seq, op_index FROM effects WHERE session=? ORDER BY seq DESC LIMIT 1", (session,))
    return max((int(rows[0][0]), int(rows[0][1])) if rows else (-1, -1), (snapshot.seq, snapshot.op_index))


def _head(buckets: Buckets, session: int, snapshot: Snapshot) -> Head:
    """What a session builds on, read without its tree."""
    rows = buckets.state.query(
        "SELECT head FROM effects WHERE session=? AND seq>? AND head IS NOT NULL ORDER BY seq DESC LIMIT 1",
        (session, snapshot.seq),
    )
    return unpack_head(rows[0][0]) if rows else snapshot.head


def _newest_whole(buckets: Buckets, bucket: str, cid: CID | None, found: Recovered) -> tuple[Item, int] | None:
    """Root and op of the newest checkpoint whose every block is right; damaged ones are noted."""
    space = buckets.workspace(bucket).space
    for _ in range(CHECKPOINTS_TRIED):
        if cid is None:
            return None
        try:
            commit = commits.load(space.get, cid)
        except (IntegrityError, BlockNotFound) as exc:
            found.damaged.append(f"{cid}: {exc.message}")
            cid = _before(buckets, bucket, cid)
            continue
        root = buckets.commit_root(space, cid)
        why = damage(space, root)
        if why is None:
            found.checkpoint = cid
            return root, _op_of(buckets, bucket, cid)
        found.damaged.append(f"{cid}: {why}")
        cid = commit.parents[0] if commit.parents else None
    return None


def _before(buckets: Buckets, bucket: str, cid: CID) -> CID | None:
    """The checkpoint before one whose block cannot be read, as the branch's recorded moves name it."""
    rows = buckets.state.query(
        "SELECT before FROM ref_effects WHERE bucket=? AND after=? ORDER BY op_index DESC LIMIT 1",
        (buckets.row(bucket).id, cid.binary),
    )
    return CID(rows[0][0]) if rows and rows[0][0] is not None else None


def _op_of(buckets: Buckets, bucket: str, cid: CID) -> int:
    rows = buckets.state.query(
        "SELECT op_index FROM ref_effects WHERE bucket=? AND after=? ORDER BY op_index DESC LIMIT 1",
        (buckets.row(bucket).id, cid.binary),
    )
    return int(rows[0][0]) if rows else -1


def _rebuilt(buckets: Buckets, bucket: str, whole: tuple[Item, int] | None, found: Recovered) -> Item:
    main = buckets.workspace(bucket)
    space = main.space
    root, since = whole if whole is not None else (space.view.empty(space.put), -1)
    rows = buckets.state.query(
        "SELECT payload FROM effects WHERE session=? AND op_index>? ORDER BY seq LIMIT ?",
        (main.session, since, STEPS_MAX),
    )
    lost: dict[str, None] = {}
    for (payload,) in rows:
        for step in unpack_steps(space.unseal(payload)):
            tree = Tree(space.view, space.put, root)
            path = format_path(step.path)
            try:
                why = None if step.after is None else damage(space, step.after) or _unreadable_file(space, step.after)
                if why is None:
                    tree.apply((Step(step.path, tree.lookup(step.path), step.after),))
                    root = tree.flush()
                    lost.pop(path, None)
                    continue
            except KitError as exc:
                why = exc.message
            lost[path] = None
    found.lost = sorted(lost)
    return root


def _unreadable_file(space: Space, item: Item) -> str | None:
    return None if item.is_dir else _unreadable(space, item)


def snapshot_of(buckets: Buckets, bucket: str, transaction: str | None = None) -> Snapshot:
    """The working state of a bucket or of one of its transactions."""
    return buckets.workspace(bucket, session_of(transaction) if transaction else DEFAULT_SESSION).flushed()
