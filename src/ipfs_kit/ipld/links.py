"""The children of a block, by its codec."""

from __future__ import annotations

from ipfs_kit.errors import FormatError, InvalidCid
from ipfs_kit.ipld import dag_cbor, dag_json, dag_pb
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_JSON, DAG_PB, plain_codec


def links(cid: CID, data: bytes, budgets: Budgets = DEFAULT) -> list[CID]:
    """Return every link of a block in order of appearance, repeats included.

    Args:
        cid: Address of the block; only its codec is used, a sealed one as the codec of its plaintext.
        data: The block, decrypted if the address is a sealed one.
        budgets: Bounds on links, depth and size.

    Returns:
        The links; none for raw and for codecs this library does not know.

    Raises:
        FormatError: The block does not parse by its codec.
        BudgetExceeded: It breaks a bound.
    """
    codec = plain_codec(cid.codec)
    if codec == DAG_PB:
        _, raw_links = dag_pb.split_links(data, budgets)
        try:
            return [CID(dag_pb.parse_link(raw)[0]) for raw in raw_links]
        except InvalidCid as exc:
            raise FormatError(f"dag-pb link is not a CID: {exc.message}") from exc
    if codec == DAG_CBOR:
        return dag_cbor.decode_links(data, budgets)
    if codec == DAG_JSON:
        return dag_json.decode_links(data, budgets)
    return []
