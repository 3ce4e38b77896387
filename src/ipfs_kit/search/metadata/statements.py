"""Statements: what each node says about each CID, the durable truth of the metadata index (a table of ``state.db``).

A statement is the newest record that one node gave for one CID, under a version that only grows; a deleted one keeps its
version and a mark. Two indices are merged by taking, for each CID and node, the statement with the higher version, and of
one version the deleted one: an operation that is commutative, associative and idempotent, so that nodes end with the same
statements in whatever order they meet, and none is overwritten by another's. What is shown of a CID is a function of its
statements alone (``fold``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from ipfs_kit.durable import Schema, StateDB, Tx
from ipfs_kit.errors import BudgetExceeded, Conflict, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.search.metadata.fields import Kept, decode_record, encode_record, shown

SCHEMA: Final = Schema(
    "metadata_index",
    1,
    (
        """CREATE TABLE metadata_statements(
            cid BLOB NOT NULL, node TEXT NOT NULL, version INTEGER NOT NULL, removed INTEGER NOT NULL, record BLOB,
            op_index INTEGER NOT NULL, CHECK((record IS NULL) = removed))""",
        "CREATE UNIQUE INDEX metadata_by_cid ON metadata_statements(cid, node)",
        "CREATE INDEX metadata_by_op ON metadata_statements(op_index, cid, node)",
        """CREATE TABLE metadata_peers(
            node TEXT PRIMARY KEY, vkey TEXT NOT NULL, root BLOB NOT NULL, leaf INTEGER NOT NULL, upto INTEGER NOT NULL)
            WITHOUT ROWID""",
    ),
)
EFFECT_BYTES_MAX: Final = 7 << 20
"""Bytes of records that one operation may change, before and after: its effect must fit a block."""
_COLUMNS: Final = "cid, node, version, removed, record"
_SELECT: Final = f"SELECT {_COLUMNS} FROM metadata_statements WHERE "  # noqa: S608 - constants
_PAGE: Final = 4_096

Change = list[Any]
"""``[cid, node, digest, before, after]`` of one statement; before and after are None or ``[version, removed, record]``."""


class Statement(NamedTuple):
    """What one node says about one CID.

    Args:
        cid: The CID, binary.
        node: The node.
        version: Grows with every change by that node; nanoseconds since 1970, or one more than the version before.
        removed: Whether it was deleted, by whichever node.
        record: The record's bytes; None when removed.
    """

    cid: bytes
    node: str
    version: int
    removed: bool
    record: bytes | None

    @property
    def rank(self) -> tuple[int, bool, bytes]:
        """What decides between two statements of one node about one CID: the greater one stands."""
        # Two of one version differ only after a node went on from an old backup: their bytes decide, everywhere alike.
        return (self.version, self.removed, b"" if self.record is None else blake2b(self.record).digest())

    def digest(self) -> bytes:
        """A digest of everything it says, for the record of the operation that made it."""
        parts = (self.cid, self.node.encode(), str(self.version).encode(), b"%d" % self.removed, self.record or b"")
        hashed = blake2b(digest_size=16)
        for part in parts:
            hashed.update(len(part).to_bytes(4) + part)
        return hashed.digest()


def fold(statements: Iterable[Statement]) -> tuple[Kept, int, str] | None:
    """What statements about one CID come to, in whatever order they are given.

    Texts and numbers are those of the newest statement that has any; lists and maps hold what any statement says, a map's
    key as the newest says it; accesses add up, the latest access and the largest replication count; ``local``, ``pinned``
    and ``embedding_available`` hold where any statement says so.

    Returns:
        The record, the newest version and its node; None when nothing stands.
    """
    live = sorted((s for s in statements if not s.removed), key=lambda s: (s.version, s.node), reverse=True)
    if not live:
        return None
    records = [decode_record(s.record or b"") for s in live]
    found = records[0] if len(records) == 1 else _joined(records)
    return found, live[0].version, live[0].node


def _joined(records: Sequence[Kept]) -> Kept:
    """Records of several nodes as one, the newest given first."""
    found: Kept = {}
    for record in records:
        for name, value in record.items():
            if name not in found:
                found[name] = value
            elif isinstance(value, list):
                found[name] = sorted({*found[name], *value})
            elif isinstance(value, dict):
                found[name] = {**value, **found[name]}
            elif name == "access_count":
                found[name] += value
            elif name in ("last_accessed", "replication") or isinstance(value, bool):
                found[name] = max(found[name], value)
    return found


def show(statements: Sequence[Statement]) -> dict[str, Any] | None:
    """A CID's record with all fields, or None when nothing stands."""
    found = fold(statements)
    if found is None:
        return None
    kept, version, node = found
    return shown(CID(statements[0].cid), kept, indexed_ms=version // 1_000_000, node=node)


class Writer:
    """Changes statements inside a state transaction and gathers what it changed.

    Args:
        tx: The transaction.
        node: The store's own node.
        now_ns: The present time.
    """

    def __init__(self, tx: Tx, node: str, now_ns: int) -> None:
        self._tx = tx
        self._node = node
        self._now_ns = now_ns
        self._bytes = 0
        self.changes: list[Change] = []

    def put(self, cid: CID, kept: Kept) -> bool:
        """State a record for a CID in the place of this node's last one.

        An ``access_count`` given is the count over all nodes; accesses that are not given stay as they were.

        Returns:
            Whether anything changed.
        """
        others, own = self._of(cid)
        wanted = dict(kept)
        before = _record(own)
        if "access_count" in wanted:
            wanted["access_count"] = max(0, wanted["access_count"] - _accesses(others))
        elif "access_count" in before:
            wanted["access_count"] = before["access_count"]
        if "last_accessed" in before:
            wanted.setdefault("last_accessed", before["last_accessed"])
        if own is not None and not own.removed and wanted == before:
            return False
        self._state(cid, others, own, wanted)
        return True

    def edit(self, cid: CID, change: Callable[[Kept, Kept], Kept]) -> None:
        """Change this node's record of a CID.

        Args:
            cid: The CID.
            change: Takes this node's record and what all nodes' records come to; returns this node's new record.

        Raises:
            NotFound: There is no record of the CID.
        """
        others, own = self._of(cid)
        found = fold([*others, *([own] if own else [])])
        if found is None:
            raise NotFound(f"no record of {cid}: add one with metadata.add", cid=str(cid))
        self._state(cid, others, own, change(_record(own), found[0]))

    def remove(self, cid: CID) -> bool:
        """Delete what is said about a CID here: every statement known; what others say later counts again.

        Returns:
            Whether there was anything.
        """
        others, own = self._of(cid)
        live = [s for s in (*others, *([own] if own else [])) if not s.removed]
        for statement in live:
            self.write(statement._replace(removed=True, record=None), statement)
        return bool(live)

    def restore(self, changes: Iterable[Change]) -> None:
        """Take changes of one operation back.

        What was deleted of other nodes' statements is stated again by this node, which may not speak for them.

        Raises:
            Conflict: A statement changed since.
        """
        by_cid: dict[bytes, list[Change]] = {}
        for change in changes:
            by_cid.setdefault(change[0], []).append(change)
        for binary, done in by_cid.items():
            for _, node, _, _, after in done:
                current = self._one(binary, node)
                if current is None or list(current[2:]) != after:
                    cid = str(CID(binary))
                    raise Conflict(f"the record of {cid} changed since: nothing was taken back", cid=cid)
            self._restore(CID(binary), done)

    def _restore(self, cid: CID, done: Sequence[Change]) -> None:
        others, own = self._of(cid)
        was = next((change[3] for change in done if change[1] == self._node), None if own is None else list(own[2:]))
        before = [Statement(cid.binary, self._node, *was)] if was is not None else []
        before += [Statement(cid.binary, node, *old) for _, node, _, old, _ in done if node != self._node and old]
        found = fold(before)
        if found is not None:
            self._state(cid, others, own, found[0])
        elif own is not None:
            gone = own._replace(version=self._next(others, own), removed=True, record=None)
            self.write(gone, own)

    def take(self, statement: Statement) -> bool:
        """Take over another node's statement where it outranks what is known; whether it did."""
        current = self._one(statement.cid, statement.node)
        if current is not None and current.rank >= statement.rank:
            return False
        self.write(statement, current, keep=False)
        return True

    def is_invented(self, statement: Statement) -> bool:
        """Whether a statement in this node's name is newer than any that this node knows to have made."""
        if statement.node != self._node:
            return False
        own = self._one(statement.cid, self._node)
        return own is None or statement.version > own.version

    def write(self, statement: Statement, before: Statement | None, *, keep: bool = True) -> None:
        """Write one statement in the place of another.

        Args:
            statement: The new one.
            before: The one there was.
            keep: Whether the change names both in full, so that it can be taken back.
        """
        self._tx.execute(
            "INSERT INTO metadata_statements(cid, node, version, removed, record, op_index) VALUES(?,?,?,?,?,?) "
            "ON CONFLICT(cid, node) DO UPDATE SET version=excluded.version, removed=excluded.removed, "
            "record=excluded.record, op_index=excluded.op_index",
            (*statement[:3], int(statement.removed), statement.record, self._tx.op_index),
        )
        change: Change = [statement.cid, statement.node, statement.digest(), None, None]
        self._bytes += 100 + len(statement.cid)
        if keep:
            change[3] = None if before is None else list(before[2:])
            change[4] = list(statement[2:])
            self._bytes += len(statement.record or b"") + (0 if before is None else len(before.record or b""))
        if self._bytes > EFFECT_BYTES_MAX:
            raise BudgetExceeded(
                f"one call changes at most {EFFECT_BYTES_MAX >> 20} MiB of records: give fewer records at a time"
            )
        self.changes.append(change)

    def _state(self, cid: CID, others: Sequence[Statement], own: Statement | None, kept: Kept) -> None:
        version = self._next(others, own)
        self.write(Statement(cid.binary, self._node, version, False, encode_record(kept)), own)

    def _next(self, others: Sequence[Statement], own: Statement | None) -> int:
        """A version newer than all that is known, also where another node's clock is ahead."""
        return max(self._now_ns, *(s.version + 1 for s in (*others, *([own] if own else []))), 0)

    def _of(self, cid: CID) -> tuple[list[Statement], Statement | None]:
        found = [_statement(row) for row in self._tx.execute(_SELECT + "cid=?", (cid.binary,))]
        own = next((s for s in found if s.node == self._node), None)
        return [s for s in found if s.node != self._node], own

    def _one(self, cid: bytes, node: str) -> Statement | None:
        rows = self._tx.execute(_SELECT + "cid=? AND node=?", (cid, node))
        return _statement(rows[0]) if rows else None


def statements_after(state: StateDB, op_index: int, upto: int) -> Iterator[Statement]:
    """Every statement in order of CID; after an operation, those that the operations ``(op_index, upto]`` left."""
    if op_index < 0:
        for held in every(state):
            yield from held
        return
    after: tuple[Any, ...] = (op_index + 1, b"", "")
    while True:
        rows = state.query(
            f"SELECT {_COLUMNS}, op_index FROM metadata_statements WHERE (op_index, cid, node)>(?,?,?) "  # noqa: S608 - constants
            "AND op_index<=? ORDER BY op_index, cid, node LIMIT ?",
            (*after, upto, _PAGE),
        )
        for row in rows:
            yield _statement(row)
        if len(rows) < _PAGE:
            return
        after = (rows[-1][5], rows[-1][0], rows[-1][1])


class Peer(NamedTuple):
    """A node whose index was merged: its verifier key, what was merged last, and the last operation that holds."""

    node: str
    vkey: str
    root: bytes
    upto: int


def peers(state: StateDB) -> list[Peer]:
    """The nodes whose indices were merged, in order of node."""
    if not are_kept(state):
        return []
    return [Peer(*row) for row in state.query("SELECT node, vkey, root, upto FROM metadata_peers ORDER BY node")]


def keep_peer(tx: Tx, peer: Peer, since: int, start: int, stop: int | None) -> int:
    """Remember how far a node's index was merged; what was passed over never counts as merged.

    Args:
        tx: The transaction.
        peer: The node, its key, the root, and the last operation that the root holds.
        since: The root holds what operations after this one changed; -1 for everything.
        start: The leaf that this merge began with.
        stop: The leaf that the next one begins with; None when this one reached the end.

    Returns:
        The last operation up to which everything of that node is merged; -1 for none.
    """
    rows = tx.execute("SELECT root, leaf, upto FROM metadata_peers WHERE node=?", (peer.node,))
    root, leaf, upto = rows[0] if rows else (b"", 0, -1)
    follows = start == 0 or (root == peer.root and leaf == start)
    if follows and stop is None and since <= upto:
        upto = max(upto, peer.upto)
    tx.execute(
        "INSERT INTO metadata_peers(node, vkey, root, leaf, upto) VALUES(?,?,?,?,?) ON CONFLICT(node) DO UPDATE SET "
        "root=excluded.root, leaf=excluded.leaf, upto=excluded.upto",
        (peer.node, peer.vkey, peer.root, (stop or 0) if follows else 0, upto),
    )
    return int(upto)


def are_kept(state: StateDB) -> bool:
    """Whether there is a place for statements: not in a store made before there was, and open for reading only."""
    return not state.read_only or bool(state.query("SELECT 1 FROM sqlite_schema WHERE name='metadata_statements'"))


def statements_of(state: StateDB, cid: CID) -> list[Statement]:
    """Every statement about a CID, in order of node."""
    return [_statement(row) for row in state.query(_SELECT + "cid=? ORDER BY node", (cid.binary,))]


def last_op(state: StateDB) -> int:
    """Index of the last operation that changed a statement and was not outdone; -1 for none."""
    found = state.query("SELECT max(op_index) FROM metadata_statements")[0][0]
    return -1 if found is None else int(found)


def every(state: StateDB) -> Iterator[list[Statement]]:
    """The statements of one CID after another, in order of CID, a bounded number of rows at a time."""
    after: tuple[bytes, str] = (b"", "")
    held: list[Statement] = []
    while True:
        rows = state.query(_SELECT + "(cid, node)>(?,?) ORDER BY cid, node LIMIT ?", (*after, _PAGE))
        for row in rows:
            if held and held[0].cid != row[0]:
                yield held
                held = []
            held.append(_statement(row))
        if len(rows) < _PAGE:
            break
        after = (rows[-1][0], rows[-1][1])
    if held:
        yield held


def changed_since(state: StateDB, op_index: int, upto: int) -> Iterator[list[bytes]]:
    """CIDs whose statements were changed by the operations ``(op_index, upto]``, binary, a bounded number at a time."""
    after: tuple[int, bytes, str] = (op_index + 1, b"", "")
    while True:
        rows = state.query(
            "SELECT op_index, cid, node FROM metadata_statements WHERE (op_index, cid, node)>(?,?,?) AND op_index<=? "
            "ORDER BY op_index, cid, node LIMIT ?",
            (*after, upto, _PAGE),
        )
        if rows:
            yield list(dict.fromkeys(row[1] for row in rows))
        if len(rows) < _PAGE:
            return
        after = tuple(rows[-1])


def far_behind(state: StateDB, op_index: int, limit: int) -> bool:
    """Whether more statements than a limit were changed by operations after one."""
    rows = state.query(
        "SELECT count(*) FROM (SELECT 1 FROM metadata_statements WHERE op_index>? LIMIT ?)", (op_index, limit + 1)
    )
    return int(rows[0][0]) > limit


def _statement(row: tuple[Any, ...]) -> Statement:
    return Statement(row[0], row[1], row[2], bool(row[3]), row[4])


def _record(own: Statement | None) -> Kept:
    return {} if own is None or own.record is None else decode_record(own.record)


def _accesses(statements: Iterable[Statement]) -> int:
    return sum(int(_record(s).get("access_count", 0)) for s in statements if not s.removed)
