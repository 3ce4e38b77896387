"""Directed acyclic graphs of blocks: encode, resolve, walk."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import InvalidInput
from ipfs_kit.ipld import CID, codecs, dag_cbor, dag_json
from ipfs_kit.ipld.dag_pb import PBNode
from ipfs_kit.ipld.links import links
from ipfs_kit.ipld.resolve import get_value, resolve, split_path
from ipfs_kit.ipld.walk import walk
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.block import BlockInfo, refuse_sealed

Reference = Annotated[str, Arg("a CID, or CID/path through IPLD or UnixFS names", positional=True)]


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path leads.

    Args:
        cid: The block the path ends in.
        remainder: What of the path lies inside that block.
    """

    cid: CID
    remainder: str


@dataclass(frozen=True, slots=True)
class DagStat:
    """Totals of a graph, each block counted once.

    Args:
        cid: Its root.
        blocks: Number of distinct blocks.
        size: Their bytes in all.
    """

    cid: CID
    blocks: int
    size: int


@dataclass(frozen=True, slots=True)
class LinkPage:
    """Children of a block, in link order."""

    cid: CID
    links: list[CID]


def read_node(text: str) -> Any:
    """Read a node that a person wrote as JSON: white space and any order of keys are fine, repeated keys are not.

    Raises:
        InvalidInput: It is not JSON, or not a node.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InvalidInput("an object of the node has the same key twice")
        return found

    try:
        value = json.loads(text, object_pairs_hook=unique)
        strict = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except InvalidInput:
        raise
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"the node is not JSON: {exc}") from exc
    return dag_json.decode(strict)


@operation(
    "dag.put",
    Mode.WRITE,
    "block:write",
    idempotent=True,
    irreversible="nothing refers to a lone node; gc removes it unless pinned",
    places=Everywhere("stores a block outside all buckets"),
)
def dag_put(
    ctx: Context,
    node: Annotated[str, Arg('the node as dag-json text, links as {"/": "CID"}', content=True, positional=True)],
    codec: Annotated[Literal["dag-cbor", "dag-json"], Arg("how to store it")] = "dag-cbor",
) -> BlockInfo:
    """Store a node given as dag-json and return its CID."""
    value = read_node(node)
    data = dag_cbor.encode(value) if codec == "dag-cbor" else dag_json.encode(value)
    cid = CID.of(data, codecs.codec_code(codec))

    def prepare() -> Effect:
        new = ctx.engine.blocks.put(cid, data, verify=False)
        return lambda tx: Outcome(BlockInfo(cid, len(data), new), effect={"block": cid}, after=cid)

    info: BlockInfo = ctx.commit(prepare)
    return info


@operation("dag.get", Mode.READ, "block:read", places=Everywhere("reads any node by its CID"))
def dag_get(ctx: Context, path: Reference) -> Any:
    """Return the node a path leads to, as dag-json values."""
    refuse_sealed(split_path(path)[0])
    value = get_value(ctx.engine.blocks.get, path)
    return json.loads(dag_json.encode(_data_model(value) if isinstance(value, PBNode) else value))


def _data_model(node: PBNode) -> dict[str, Any]:
    """A dag-pb node in the IPLD data model, with the field names its specification gives."""
    links = [
        {"Hash": link.cid}
        | ({} if link.name is None else {"Name": link.name.decode("utf-8", "replace")})
        | ({} if link.tsize is None else {"Tsize": link.tsize})
        for link in node.links
    ]
    return {"Links": links} if node.data is None else {"Data": node.data, "Links": links}


@operation("dag.resolve", Mode.READ, "block:read", places=Everywhere("reads any node by its CID"))
def dag_resolve(ctx: Context, path: Reference) -> Resolved:
    """Return the CID a path leads to and what remains of the path inside that block."""
    found = resolve(ctx.engine.blocks.get, path)
    return Resolved(found.cid, "/".join(found.remainder))


@operation("dag.links", Mode.READ, "block:read", aliases=("refs",), places=Everywhere("reads any node by its CID"))
def dag_links(ctx: Context, path: Reference) -> LinkPage:
    """List the children of the block a path leads to."""
    found = resolve(ctx.engine.blocks.get, path)
    return LinkPage(found.cid, links(found.cid, ctx.engine.blocks.get(found.cid)))


@operation("dag.stat", Mode.READ, "block:read", places=Everywhere("reads any graph by its CID"))
def dag_stat(ctx: Context, path: Reference) -> DagStat:
    """Count the distinct blocks below a path and their bytes."""
    root = resolve(ctx.engine.blocks.get, path).cid
    blocks = size = 0
    for visit in walk([root], ctx.engine.blocks.get):
        blocks += 1
        size += 0 if visit.data is None else len(visit.data)
        if blocks % 1000 == 0:
            ctx.progress(blocks, unit="blocks")
    return DagStat(root, blocks, size)
