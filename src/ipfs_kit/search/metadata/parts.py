"""An index, or what changed in it, as a DAG of blocks that another node checks and merges (docs/format/metadata-index.md).

The root names the node, what it holds and its leaves, and is signed with the node's key. A leaf is a list of statements. In a
whole index they are in order of CID and leaves end where a hash of the CID says so: an index that changed little shares nearly
all leaves with the one before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import StateDB
from ipfs_kit.errors import BudgetExceeded, FormatError, IntegrityError, InvalidCid
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.keys.signing import verify_signature
from ipfs_kit.ledger.check import read_vkey
from ipfs_kit.ledger.published.layout import node_of
from ipfs_kit.search.metadata.fields import decode_foreign
from ipfs_kit.search.metadata.statements import Statement, statements_after
from ipfs_kit.search.metadata.table import key_of

FORMAT: Final = "ipfs-kit/metadata-index"
VERSION: Final = 1
LEAF_ONE_IN: Final = 256
"""A leaf ends after one CID in so many."""
LEAF_STATEMENTS_MAX: Final = 2_048
LEAF_BYTES_MAX: Final = 1 << 20
LEAVES_MAX: Final = 100_000
AHEAD_NS: Final = 24 * 3_600 * 1_000_000_000
"""How far a peer's clock may be ahead: a statement of the far future would outrank all others for good."""
_NODE: Final = re.compile(r"[0-9a-f]{1,64}\Z")
_KEYS: Final = {"format", "version", "node", "vkey", "since", "upto", "count", "leaves", "signature"}

Get = Callable[[CID], bytes]
Put = Callable[[CID, bytes], object]


@dataclass(frozen=True, slots=True)
class Part:
    """The root of an index, or of a part of one.

    Args:
        node: The node that published it.
        vkey: The verifier key it says it has.
        since: The part holds what that node's operations after this one changed; -1 for everything.
        upto: Its last operation the part holds.
        count: Statements in it.
        leaves: Its leaves.
    """

    node: str
    vkey: str
    since: int
    upto: int
    count: int
    leaves: tuple[CID, ...]

    def body(self) -> dict[str, Any]:
        """What is signed."""
        return {
            "format": FORMAT, "version": VERSION, "node": self.node, "vkey": self.vkey, "since": self.since,
            "upto": self.upto, "count": self.count, "leaves": list(self.leaves),
        }  # fmt: skip


def write(
    state: StateDB, node: str, vkey: str, sign: Callable[[bytes], bytes], since: int, upto: int, put: Put,
    progress: Callable[[int], object],
) -> tuple[CID, Part]:  # fmt: skip
    """Write an index, or a part of it, as blocks.

    Args:
        state: Holds the statements.
        node: This node.
        vkey: Its verifier key.
        sign: Signs with its key.
        since: Only what operations after this one changed; -1 for everything.
        upto: The last operation that counts.
        put: Stores a block.
        progress: Told of statements written; may raise to stop.

    Returns:
        The root and what it says.
    """
    leaves: list[CID] = []
    count = 0
    for rows in _leaves(statements_after(state, since, upto)):
        leaves.append(_put(put, [[row.cid, row.node, row.version, row.removed, row.record] for row in rows]))
        count += len(rows)
        progress(count)
        if len(leaves) > LEAVES_MAX:
            raise BudgetExceeded("the index is too large for one root: publish what changed, with 'since'")
    part = Part(node, vkey, since, upto, count, tuple(leaves))
    return _put(put, {**part.body(), "signature": sign(_message(part))}), part


def _leaves(statements: Iterable[Statement]) -> Iterator[list[Statement]]:
    rows: list[Statement] = []
    size = 0
    for statement in statements:
        rows.append(statement)
        size += len(statement.cid) + len(statement.node) + len(statement.record or b"") + 32
        ends = key_of(statement.cid) % LEAF_ONE_IN == 0
        if ends or len(rows) == LEAF_STATEMENTS_MAX or size > LEAF_BYTES_MAX:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _put(put: Put, value: Any) -> CID:
    data = dag_cbor.encode(value)
    cid = CID.of(data, DAG_CBOR)
    put(cid, data)
    return cid


def _message(part: Part) -> bytes:
    return f"{FORMAT}/{VERSION}\n".encode() + dag_cbor.encode(part.body())


def read(root: CID, get: Get) -> tuple[Part, bytes]:
    """Read a root; nothing of it is believed yet.

    Returns:
        What it says, and its signature.

    Raises:
        FormatError: It is none.
    """
    row = _decoded(root, get)
    if not isinstance(row, dict) or row.get("format") != FORMAT:
        raise FormatError(f"{root} is no metadata index: give the root that metadata.publish returned")
    if row.get("version") != VERSION:
        raise FormatError(f"{root} was made by a newer build; upgrade ipfs-kit-py")
    numbers = [row.get(name) for name in ("since", "upto", "count")]
    leaves, signature = row.get("leaves"), row.get("signature")
    if (
        set(row) != _KEYS
        or not all(isinstance(row[name], str) for name in ("node", "vkey"))
        or not all(isinstance(number, int) and not isinstance(number, bool) and number >= -1 for number in numbers)
        or not isinstance(leaves, list)
        or len(leaves) > LEAVES_MAX
        or not all(isinstance(leaf, CID) and leaf.codec == DAG_CBOR for leaf in leaves)
        or not isinstance(signature, bytes)
    ):
        raise FormatError(f"{root} is no whole root of a metadata index")
    return Part(row["node"], row["vkey"], row["since"], row["upto"], row["count"], tuple(leaves)), signature


def check(part: Part, signature: bytes, vkey: str) -> None:
    """Check that the node of a verifier key signed a part.

    Raises:
        IntegrityError: It did not.
    """
    if node_of(vkey) != part.node:
        raise IntegrityError(
            f"the index says it is of node {part.node[:64]!a}, the verifier key is of node {node_of(vkey)}"
        )
    if not verify_signature(read_vkey(vkey)[2], _message(part), signature):
        raise IntegrityError(f"the index is not signed with the key of node {part.node}")


def statements(leaf: CID, get: Get, now_ns: int) -> list[Statement]:
    """The statements of a leaf, each checked in full.

    Args:
        leaf: The leaf.
        get: Bytes of a block.
        now_ns: The present time.

    Raises:
        FormatError: One of them does not check; nothing of the part should be taken.
    """
    rows = _decoded(leaf, get)
    if not isinstance(rows, list) or not 0 < len(rows) <= LEAF_STATEMENTS_MAX:
        raise FormatError(f"{leaf} is no leaf of a metadata index")
    return [_statement(leaf, row, now_ns) for row in rows]


def _statement(leaf: CID, row: Any, now_ns: int) -> Statement:
    if not isinstance(row, list) or len(row) != 5:
        raise FormatError(f"{leaf} holds something that is no statement")
    binary, node, version, removed, record = row
    if (
        not isinstance(binary, bytes)
        or not isinstance(node, str)
        or not _NODE.match(node)
        or isinstance(version, bool)
        or not isinstance(version, int)
        or not isinstance(removed, bool)
        or not (record is None if removed else isinstance(record, bytes))
    ):
        raise FormatError(f"{leaf} holds a statement that does not parse")
    if not 0 <= version <= now_ns + AHEAD_NS:
        raise FormatError(f"{leaf} holds a statement more than a day in the future: set the clock of node {node} right")
    try:
        cid = CID(binary)
    except InvalidCid as exc:
        raise FormatError(f"{leaf} holds a statement about what is no CID") from exc
    if cid.binary != binary:
        raise FormatError(f"{leaf} holds a CID that is not in its one form")
    if record is not None:
        decode_foreign(cid, record)
    return Statement(binary, node, version, removed, record)


def _decoded(cid: CID, get: Get) -> Any:
    if cid.codec != DAG_CBOR:
        raise FormatError(f"{cid} is no part of a metadata index: it is not dag-cbor")
    data = get(cid)
    cid.check(data)
    return dag_cbor.decode(data)
