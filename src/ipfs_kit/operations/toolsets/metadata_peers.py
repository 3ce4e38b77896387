"""Metadata indices of several nodes made one: published as a signed DAG, checked and merged without overwriting."""

from __future__ import annotations

from time import time_ns
from typing import Annotated, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import Tx
from ipfs_kit.errors import Denied, InvalidInput, InvalidName
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.ledger.published.layout import vkey_of
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import add_pin, pins_effect
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.search.metadata import parts
from ipfs_kit.search.metadata.statements import Peer, Statement, Writer, keep_peer, last_op, peers

MERGED_MAX: Final = 20_000
"""Statements that one call merges; it returns a cursor when there are more."""
PIN: Final = "metadata-index"


@dataclass(frozen=True, slots=True)
class PublishedIndex:
    """An index, or what changed in it, as blocks.

    Args:
        cid: Its root; pinned.
        statements: Statements in it, deletions among them.
        leaves: Blocks below the root.
        since: It holds what operations after this one changed; None for everything.
        upto: The last operation it holds; give it as ``since`` for the next part.
        vkey: Verifier key that whoever merges it needs, from you and not from the index.
    """

    cid: CID
    statements: int
    leaves: int
    since: int | None
    upto: int
    vkey: str


@operation(
    "metadata.publish",
    Mode.WRITE,
    "metadata:write",
    idempotent=True,
    undo="inverse",
    places=Everywhere("publishes what is known of all content"),
)
def metadata_publish(
    ctx: Context,
    since: Annotated[int | None, Arg("only what operations after this one changed", minimum=-1)] = None,
    name: Annotated[str, Arg(f"name of the pin that keeps it, {PIN} or {PIN}-...; moves from the one before")] = PIN,
) -> PublishedIndex:
    """Write the index, or what changed in it, as blocks that other nodes can check and merge; send them as a CAR.

    What did not change since an earlier publication is shared with it.
    """
    if name != PIN and not name.startswith(f"{PIN}-"):
        raise InvalidName(f"the pin of an index is named {PIN} or {PIN}-...: other pins are not moved")
    engine = ctx.engine
    vkey = engine.ledger.vkey("main")
    with engine.blocks.window():

        def prepare() -> Effect:
            root, part = parts.write(
                engine.state,
                engine.ledger.node,
                vkey,
                engine.keys.signer().sign,
                -1 if since is None else since,
                last_op(engine.state),
                lambda cid, data: engine.blocks.put(cid, data, verify=False),
                lambda done: ctx.progress(done, unit="statements"),
            )
            told = PublishedIndex(root, part.count, len(part.leaves), since, part.upto, vkey)
            step = engine.pins.add(root, "recursive", name, now_ns=time_ns(), replace=True, complete=True)
            return pins_effect([add_pin(step)], told, after=root)

        published: PublishedIndex = ctx.commit(prepare)
    return published


@dataclass(frozen=True, slots=True)
class MergedIndex:
    """What a merge came to.

    Args:
        node: The node whose index it was.
        statements: Statements looked at.
        taken: Statements that outranked what was known here.
        refused: Statements in this node's own name that it never made, or has lost: not taken.
        cursor: Pass it to merge what follows; None when all was.
        upto: Everything of that node up to this operation of it is merged now; None when nothing is merged whole.
    """

    node: str
    statements: int
    taken: int
    refused: int
    cursor: int | None
    upto: int | None


@operation(
    "metadata.merge",
    Mode.WRITE,
    "metadata:write",
    idempotent=True,
    irreversible="what other nodes said is known from then on; delete the records you do not want",
    places=Everywhere("takes over what another node says of any content"),
)
def metadata_merge(
    ctx: Context,
    root: Annotated[CID, Arg("root of the other node's index, whose blocks are here", positional=True)],
    vkey: Annotated[
        str | None, Arg("verifier key of either of the node's logs, as its owner told you; needed the first time")
    ] = None,
    cursor: Annotated[int, Arg("continue at this cursor", minimum=0)] = 0,
    restore: Annotated[
        bool, Arg("also take back what this node itself said, after an older backup was restored")
    ] = False,
) -> MergedIndex:
    """Merge another node's index into this one: nothing said here is overwritten, and every order gives the same result.

    The root's signature, every block's digest and every record are checked before anything is taken.

    Raises:
        InvalidInput: The node is not known here, and no verifier key was given.
        IntegrityError: It is not signed by that node, or something in it does not check; nothing was taken.
    """
    engine = ctx.engine
    part, signature = parts.read(root, engine.blocks.get)
    trusted = _trusted(ctx, part.node, vkey)
    parts.check(part, signature, trusted)
    taken: list[Statement] = []
    stop = cursor
    for leaf in part.leaves[cursor:]:
        taken += parts.statements(leaf, engine.blocks.get, time_ns())
        stop += 1
        ctx.progress(len(taken), part.count, "statements")
        if len(taken) + parts.LEAF_STATEMENTS_MAX > MERGED_MAX:
            break
    more = stop < len(part.leaves)
    node = engine.ledger.node

    def effect(tx: Tx) -> Outcome:
        writer = Writer(tx, node, time_ns())
        refused = sum(writer.is_invented(each) for each in taken) if not restore else 0
        count = sum([writer.take(each) for each in taken if restore or not writer.is_invented(each)])
        peer = Peer(part.node, trusted, root.binary, part.upto)
        upto = keep_peer(tx, peer, part.since, cursor, stop if more else None)
        value = MergedIndex(part.node, len(taken), count, refused, stop if more else None, upto if upto >= 0 else None)
        return Outcome(value, effect={"metadata": writer.changes, "merged": root}, target=str(root))

    merged: MergedIndex = ctx.commit(lambda: effect)
    return merged


def _trusted(ctx: Context, node: str, vkey: str | None) -> str:
    """The verifier key to check a node's index with; the one known here is never replaced silently."""
    known = next((peer.vkey for peer in peers(ctx.engine.state) if peer.node == node), None)
    if node == ctx.engine.ledger.node:
        return ctx.engine.ledger.vkey("main")
    if vkey is None:
        if known is None:
            raise InvalidInput(
                f"node {node[:64]!a} is not known here: give the verifier key that its owner told you "
                "('ipfs-kit ledger vkey' there) with --vkey"
            )
        return known
    given = vkey_of(vkey, "main")
    if known is not None and known != given:
        raise Denied(
            f"node {node} is known here by another verifier key, and a node does not change its key: whoever gave you this one "
            "is not whom you trusted"
        )
    return given


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A node whose index was merged.

    Args:
        node: The node.
        vkey: Its verifier key.
        root: The index or part merged last.
        upto: Everything up to this operation of it is merged, ask it to publish since this one; None when nothing is
            merged whole.
    """

    node: str
    vkey: str
    root: CID
    upto: int | None


@dataclass(frozen=True, slots=True)
class PeerList:
    """Nodes whose indices were merged, in order of node."""

    peers: list[PeerInfo]


@operation(
    "metadata.peers", Mode.READ, "metadata:read", places=Everywhere("lists nodes whose indices were merged"), quick=True
)
def metadata_peers(ctx: Context) -> PeerList:
    """List the nodes whose indices were merged here, and how far."""
    known = peers(ctx.engine.state)
    return PeerList(
        [PeerInfo(each.node, each.vkey, CID(each.root), each.upto if each.upto >= 0 else None) for each in known]
    )
