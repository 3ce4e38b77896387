"""Working sessions: state that every process shares and that survives a crash [22].

A session is a row of ``sessions``; its state is the newest snapshot plus the effects recorded since. A mutation runs
under the state lock: catch up with what others recorded, check its premises, insert one ``effects`` row, then change
the tree in memory. Other processes replay the rows they have not seen. A reader in the writer's own process may see
an effect up to one batch before it is durable; nothing is acknowledged before that.

After ``SNAPSHOT_EVERY`` effects the next mutation flushes the tree outside the lock and records the root with its own
row, so opening costs the last root and a bounded replay.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.index import Item, pack_item, unpack_item
from ipfs_kit.buckets.paths import Path, parse_path
from ipfs_kit.buckets.tree import Step, Tree, growth
from ipfs_kit.errors import Expired, FormatError, InternalError, RefNotFound
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID

if TYPE_CHECKING:
    from ipfs_kit.buckets.space import Space
    from ipfs_kit.durable.state import Tx

DEFAULT_BRANCH = "main"
"""Branch of a new bucket's workspace."""
DEFAULT_SESSION = "main"
"""The workspace that every call without ``#session`` shares."""
SNAPSHOT_EVERY = 256
"""Effects between snapshots: bounds what opening replays."""
PAYLOAD_FORMAT = 1
ROW_DIGEST_BYTES = 16

Query = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]


class Head(NamedTuple):
    """What a session builds on."""

    branch: str
    base: CID | None
    """Commit the working state started from."""
    merging: CID | None = None
    """Second parent of the next commit."""


class Snapshot(NamedTuple):
    """A flushed state, named by what it contains."""

    seq: int
    op_index: int
    root: Item
    head: Head


@dataclass(frozen=True, slots=True)
class Planned:
    """What an effect decided under the lock."""

    steps: tuple[Step, ...]
    head: Head | None = None
    """New head of the session; None leaves it."""


def op_index_of(tx: Tx) -> int:
    """Index the running op will have in the main log; the committer sets ``tx.op_index`` before each effect.

    Raises:
        InternalError: the transaction does not come from the committer.
    """
    value = getattr(tx, "op_index", None)
    if value is None:
        raise InternalError("an effect ran outside the ledger's committer, which alone knows the op's index")
    return int(value)


def row_digest(row: Sequence[int | bytes | None]) -> bytes:
    """What an op's record keeps of a row of ``effects`` or ``snapshots``: half of the SHA-256 of its dag-cbor list.

    Taken of the columns as they lie on disk, so that it tells nothing about a sealed bucket whose key is gone.
    """
    return sha256(dag_cbor.encode(list(row))).digest()[:ROW_DIGEST_BYTES]


def pack_steps(steps: Iterable[Step]) -> bytes:
    """Steps as stored: ``[1, [[names], row or null, row or null], ...]``, lossless both ways."""
    packed = [
        [
            list(step.path),
            list(pack_item(step.before, None)) if step.before is not None else None,
            list(pack_item(step.after, None)) if step.after is not None else None,
        ]
        for step in steps
    ]
    return dag_cbor.encode([PAYLOAD_FORMAT, packed])


def unpack_steps(data: bytes) -> list[Step]:
    """The steps of a stored payload.

    Raises:
        FormatError: it does not parse.
    """
    try:
        form, packed = dag_cbor.decode(data)
        if form != PAYLOAD_FORMAT:
            raise FormatError("a session effect was written by a newer build; upgrade ipfs-kit-py")
        return [
            Step(
                parse_path(tuple(path)),
                unpack_item(before) if before is not None else None,
                unpack_item(after) if after is not None else None,
            )
            for path, before, after in packed
        ]
    except (ValueError, TypeError) as exc:
        raise FormatError("a session effect does not parse; run verify") from exc


def pack_head(head: Head) -> bytes:
    """A head as stored."""
    return dag_cbor.encode([head.branch, head.base, head.merging])


def unpack_head(data: bytes) -> Head:
    """The head of stored bytes."""
    branch, base, merging = dag_cbor.decode(data)
    return Head(branch, base, merging)


def pack_root(root: Item) -> bytes:
    """A root as stored."""
    return dag_cbor.encode(list(pack_item(root, None)))


class Workspace:
    """One session as this process sees it; safe to use from any thread.

    Args:
        space: The bucket.
        session: Row id of the session.
        name: Its name.
    """

    def __init__(self, space: Space, session: int, name: str) -> None:
        self.space = space
        self.session = session
        self.name = name
        self.lock = threading.RLock()
        self._tree: Tree | None = None
        self._seq = -1
        self._op_index = -1
        self._head = Head("", None)
        self._snapshot_seq = -1
        self._offered: Snapshot | None = None
        self._token: int | None = None
        self._totals: tuple[int, int] | None = None

    # -- reading (callers hold ``lock`` while they use the tree) ---------------------------------------------------

    def tree(self) -> Tree:
        """The present tree, caught up with every committed effect."""
        token = self.space.state.changed()
        if self._tree is None or token != self._token:
            # The token is read before the rows, so a commit in between is seen again next time.
            self._catch_up(self.space.state.query)
            self._token = token
        assert self._tree is not None
        return self._tree

    def head(self) -> Head:
        """Branch and commit the session builds on."""
        with self.lock:
            self.tree()
            return self._head

    def now_head(self) -> Head:
        """The head as this process last saw it; for callers that just caught up under the lock."""
        return self._head

    def totals(self) -> tuple[int, int]:
        """Files and content bytes of the present tree, for callers that just caught up under the lock.

        The first call flushes the tree; from then on each effect adds its own difference.
        """
        if self._totals is None:
            assert self._tree is not None
            view = self.space.view
            found = view.index.totals(view.meta_of(self._tree.flush()))
            self._totals = (found.files, found.size_bytes)
        return self._totals

    @property
    def seq(self) -> int:
        """Number of the last effect applied."""
        return self._seq

    def flushed(self) -> Snapshot:
        """The present state as a root whose blocks are all in the store (not yet synced)."""
        with self.lock:
            root = self.tree().flush()
            self.space.persist(root)
            return Snapshot(self._seq, self._op_index, root, self._head)

    # -- mutation -----------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Outside the lock, before building an effect: flush when a snapshot is due,
        for :meth:`record` to take along.
        """
        with self.lock:
            self.tree()
            if self._seq - self._snapshot_seq >= SNAPSHOT_EVERY:
                self._offered = self.flushed()

    def warm(self, path: Path) -> None:
        """Outside the lock: flush a folder that an effect is about to relink, so that little is left to do under it."""
        with self.lock:
            item = self.tree().lookup(path)
            if item is not None:
                self.space.persist(item)

    def catch_up(self, tx: Tx) -> Tree:
        """Under the state lock: the tree with every effect recorded so far, also earlier ones of the same batch."""
        if self._seq > self._snapshot_seq >= 0 and not self._recorded(tx):
            self._tree = None
            self._offered = None
        self._catch_up(tx.execute)
        assert self._tree is not None
        return self._tree

    def record(self, tx: Tx, planned: Planned, op_index: int) -> bytes:
        """Insert the row of an effect, then apply it; the last thing an effect does that can fail.

        Args:
            tx: The batch transaction.
            planned: Steps checked against the tree that :meth:`catch_up` gave.
            op_index: Index of the op.

        Returns:
            The row's digest for the op's record, which lets ``verify`` see a row changed behind the ledger's back.
        """
        assert self._tree is not None
        roots = [item for step in planned.steps for item in (step.before, step.after) if item is not None]
        if self.space.persist(*roots):
            # Rare: a folder changed between preparation and here. Its blocks must be durable before the row that names
            # them.
            self.space.blocks.sync()
        seq = self._seq + 1
        if self._offered is not None:
            self._insert_snapshot(tx, self._offered)
        payload = self.space.seal(pack_steps(planned.steps))
        head = pack_head(planned.head) if planned.head is not None else None
        row = (self.session, seq, op_index, tx.began_ns, payload, head)
        tx.execute("INSERT INTO effects(session, seq, op_index, time_ns, payload, head) VALUES(?,?,?,?,?,?)", row)
        self._apply(seq, op_index, planned.steps, planned.head)
        return row_digest(row)

    def offer(self, snapshot: Snapshot) -> None:
        """Let the next :meth:`record` take a flushed state along, whose blocks the committer has synced by then."""
        self._offered = snapshot

    def contains(self, tx: Tx, snapshot: Snapshot) -> bool:
        """Under the lock: whether a state flushed before is part of this session's history as it is recorded."""
        if snapshot.seq > self._seq:
            return False
        rows = tx.execute(
            "SELECT op_index FROM effects WHERE session=? AND seq=? UNION ALL "
            "SELECT op_index FROM snapshots WHERE session=? AND seq=?",
            (self.session, snapshot.seq, self.session, snapshot.seq),
        )
        return any(op_index == snapshot.op_index for (op_index,) in rows)

    def checkpoint(self, tx: Tx, snapshot: Snapshot) -> None:
        """Record a flushed state whose blocks are durable."""
        self._insert_snapshot(tx, snapshot)

    def replace(self, root: Item, last: tuple[int, int], head: Head) -> None:
        """Take another root where the recorded state cannot be read; the next :meth:`record` replaces it whole.

        Args:
            root: The root to go on from.
            last: Number and op of the last effect recorded.
            head: What the session builds on.
        """
        self._tree = Tree(self.space.view, self.space.hold, root)
        (self._seq, self._op_index), self._head = last, head
        self._offered, self._token, self._totals = None, None, None

    def invalidate(self) -> None:
        """Forget the state in memory, because a transaction that changed it did not commit."""
        with self.lock:
            self._tree = None
            self._offered = None
            self._token = None

    @property
    def unsaved(self) -> int:
        """Effects since the last snapshot."""
        return self._seq - self._snapshot_seq if self._tree is not None else 0

    def _insert_snapshot(self, tx: Tx, snapshot: Snapshot) -> None:
        tx.execute(
            "INSERT OR IGNORE INTO snapshots(session, seq, op_index, time_ns, root, head) VALUES(?,?,?,?,?,?)",
            (
                self.session,
                snapshot.seq,
                snapshot.op_index,
                tx.began_ns,
                self.space.seal(pack_root(snapshot.root)),
                pack_head(snapshot.head),
            ),
        )
        self._snapshot_seq = max(self._snapshot_seq, snapshot.seq)
        self._offered = None

    def _recorded(self, tx: Tx) -> bool:
        """Whether the last effect in memory is in the database: not so after a savepoint of ours was rolled back."""
        rows = tx.execute("SELECT op_index FROM effects WHERE session=? AND seq=?", (self.session, self._seq))
        return bool(rows) and rows[0][0] == self._op_index

    def _catch_up(self, query: Query) -> None:
        if self._tree is None:
            snapshot = newest_snapshot(self.space, self.session, query)
            self._tree = Tree(self.space.view, self.space.hold, snapshot.root)
            self._totals = None
            self._seq, self._op_index, _, self._head = snapshot
            self._snapshot_seq = snapshot.seq
        rows = query(
            "SELECT seq, op_index, payload, head FROM effects WHERE session=? AND seq>? ORDER BY seq",
            (self.session, self._seq),
        )
        for seq, op_index, payload, head in rows:
            steps = unpack_steps(self.space.unseal(payload))
            self._apply(seq, op_index, steps, unpack_head(head) if head is not None else None)

    def _apply(self, seq: int, op_index: int, steps: Sequence[Step], head: Head | None) -> None:
        assert self._tree is not None
        if seq != self._seq + 1:
            raise FormatError(f"session {self.name!r} lacks effect {self._seq + 1}; run verify")
        try:
            self._tree.apply(steps)
            if self._totals is not None:
                more, larger = growth(self.space.view, steps)
                self._totals = (self._totals[0] + more, self._totals[1] + larger)
        except BaseException:
            self._tree = None  # half applied: read it again from the store
            raise
        self._seq, self._op_index = seq, op_index
        if head is not None:
            self._head = head


def newest_snapshot(space: Space, session: int, query: Query, op: int | None = None) -> Snapshot:
    """The newest snapshot of a session, or the newest not after an op.

    Raises:
        Expired: history before the oldest kept snapshot was asked for.
        RefNotFound: the session did not exist then.
    """
    last = op if op is not None else (1 << 63) - 1
    rows = query(
        "SELECT seq, op_index, root, head FROM snapshots WHERE session=? AND op_index<=? ORDER BY seq DESC LIMIT 1",
        (session, last),
    )
    if not rows:
        created = query("SELECT created_op FROM sessions WHERE id=?", (session,))
        if op is not None and created and created[0][0] <= op:
            raise Expired(
                f"the state after op {op} lies before the time-travel horizon; a commit or tag of that time still reads"
            )
        raise RefNotFound(f"bucket {space.name!r} had no such session at that op")
    seq, op_index, root, head = rows[0]
    return Snapshot(seq, op_index, unpack_item(dag_cbor.decode(space.unseal(root))), unpack_head(head))


def state_at(space: Space, session: int, op: int) -> Snapshot:
    """The state of a session after an op: newest snapshot not after it, then the effects up to it.

    Raises:
        Expired: it lies before the horizon.
        RefNotFound: the session did not exist then.
    """
    query = space.state.query
    start = newest_snapshot(space, session, query, op)
    rows = query(
        "SELECT seq, op_index, payload, head FROM effects WHERE session=? AND seq>? AND op_index<=? ORDER BY seq",
        (session, start.seq, op),
    )
    if not rows:
        return start
    if rows[0][0] != start.seq + 1:
        raise Expired(f"the effects up to op {op} lie before the time-travel horizon")
    known = space.remembered(session, rows[-1][0])
    if known is not None:
        return known
    tree, head = Tree(space.view, space.keep, start.root), start.head
    for _, _, payload, stored in rows:
        tree.apply(unpack_steps(space.unseal(payload)))
        head = unpack_head(stored) if stored is not None else head
    snapshot = Snapshot(rows[-1][0], rows[-1][1], tree.flush(), head)
    space.remember(session, snapshot)
    return snapshot
