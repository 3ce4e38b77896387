"""The dag-pb bytes of UnixFS nodes as directories handle them: links stay raw (tag and length included)."""

from __future__ import annotations

from typing import NamedTuple

from ipfs_kit.errors import FormatError
from ipfs_kit.ipld import dag_pb, varint
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID


class Link(NamedTuple):
    """One directory entry as stored."""

    name: bytes
    cid: CID
    tsize: int


def split(block: bytes, budgets: Budgets = DEFAULT) -> tuple[list[bytes], bytes]:
    """Cut a dag-pb block into its raw links and its data.

    Raises:
        FormatError: The block is no dag-pb node, or one without data, which is no UnixFS node.
    """
    data, fields = dag_pb.split_links(block, budgets)
    if not data:
        raise FormatError("the dag-pb node has no data and so is no UnixFS node")
    return fields, data


def parse_field(field: bytes) -> tuple[bytes, bytes, int]:
    """Return binary CID (unchecked), name and tsize of a raw link.

    Raises:
        FormatError: The link is malformed.
    """
    # The usual link of fewer than 128 bytes, at half the cost of the general parser. A CID or name length of 128 or
    # more cannot fit and ends in an index error.
    try:
        size = len(field)
        if field[1] == size - 2 and field[2] == 0x0A:
            middle = 4 + field[3]
            if field[middle] == 0x12:
                end = middle + 2 + field[middle + 1]
                if field[end] == 0x18:
                    tsize = field[end + 1]
                    if tsize >= 0x80:
                        tsize, stop = varint.decode(field, end + 1, 10)
                    else:
                        stop = end + 2
                    if stop == size:
                        return field[4:middle], field[middle + 2 : end], tsize
    except IndexError:
        return dag_pb.parse_link(field)
    return dag_pb.parse_link(field)


def field_size(cid_bytes: int, name_bytes: int, tsize: int) -> int:
    """Return the length of a raw link from the lengths of its parts."""
    size = varint.size
    body = 3 + size(cid_bytes) + cid_bytes + size(name_bytes) + name_bytes + size(tsize)
    return 1 + size(body) + body


def tsize_sum(fields: list[bytes]) -> int:
    """Return the sum of the tsizes of raw links."""
    total = 0
    for field in fields:
        total += parse_field(field)[2]
    return total
