"""Partitions of a published metadata index, as peers ask for them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit import CID, Result
from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.search.metadata import parts

if TYPE_CHECKING:
    from ipfs_kit_py._adapter import Adapter


def listed(index: Adapter, request: Mapping[str, Any]) -> tuple[Result, dict[str, Any]]:
    """Publish the index, or what changed in it, and list its blocks."""
    since = request.get("since")
    given = {} if since is None else {"since": since, "name": "metadata-index-part"}
    done = index.call("metadata.publish", **given)
    part, _ = parts.read(done.value.cid, index.kit.engine.blocks.get)
    partitions = [{"partition_id": number, "cid": str(leaf)} for number, leaf in enumerate(part.leaves)]
    told = {"root": str(done.value.cid), "node": part.node, "vkey": part.vkey, "since": since, "upto": part.upto}
    return done, {**told, "records": part.count, "partitions": partitions, "partition_count": len(partitions)}


def partition_of(index: Adapter, request: Mapping[str, Any]) -> CID:
    """The block that is asked for, if it belongs to the root named.

    Raises:
        InvalidInput: No root is named.
        NotFound: The root has no such partition.
    """
    if not request.get("root"):
        raise InvalidInput("name the 'root' that the partition request returned, and 'cid' or 'partition_id'")
    root = CID.parse(str(request["root"]))
    part, _ = parts.read(root, index.kit.engine.blocks.get)
    wanted, number = request.get("cid"), request.get("partition_id")
    if wanted is None and number is None:
        return root
    if wanted is None:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(part.leaves):
            raise NotFound(f"the index has {len(part.leaves)} partitions; there is no {number!r}")
        return part.leaves[number]
    found = CID.parse(str(wanted))
    if found != root and found not in part.leaves:
        raise NotFound(f"{found} is no partition of the index {root}")
    return found


def data_of(index: Adapter, cid: CID) -> tuple[Result, dict[str, Any]]:
    """The bytes of a block, checked against its CID."""
    done = index.call("block.get", cid=str(cid))
    data = done.value if isinstance(done.value, bytes) else done.value.data
    return done, {"cid": str(cid), "size": len(data), "encoding": "base64", "content": base64.b64encode(data).decode()}
