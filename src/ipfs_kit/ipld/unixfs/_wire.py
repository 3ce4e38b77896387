"""The dag-pb bytes of UnixFS nodes as directories handle them: whole links stay opaque byte strings.

A *field* is one ``PBNode.Links`` entry as it stands in the block, tag and length included, so that joining fields
rebuilds the block. Spec: ipld.io/specs/codecs/dag-pb.
"""

from __future__ import annotations

from typing import NamedTuple

from ipfs_kit.errors import FormatError
from ipfs_kit.ipld import varint
from ipfs_kit.ipld.cid import CID


class Link(NamedTuple):
    """One directory entry as stored."""

    name: bytes
    cid: CID
    tsize: int


def split(block: bytes) -> tuple[list[bytes], bytes]:
    """Cut a dag-pb block into its link fields and its data.

    Raises:
        FormatError: The block is no dag-pb node with data.
    """
    fields: list[bytes] = []
    data: bytes | None = None
    at = 0
    end = len(block)
    try:
        while at < end:
            tag = block[at]
            size = block[at + 1]
            if size < 0x80:
                start = at + 2
            else:
                size, start = varint.decode(block, at + 1, 10)
            stop = start + size
            if tag == 0x12:
                fields.append(block[at:stop])
            elif tag == 0x0A and data is None:
                data = block[start:stop]
            else:
                raise FormatError(f"not a dag-pb node: unexpected field tag {tag:#x} at byte {at}")
            at = stop
    except IndexError as exc:
        raise FormatError("the dag-pb node is cut off") from exc
    if at != end:
        raise FormatError("the dag-pb node is cut off")
    if data is None:
        raise FormatError("the dag-pb node has no data and so is no UnixFS node")
    return fields, data


def parse_field(field: bytes) -> tuple[bytes, bytes, int]:
    """Return binary CID (unchecked), name and tsize of a link field.

    Raises:
        FormatError: The link does not parse strictly: fields in order, none twice, hash present.
    """
    try:
        at = 2 if field[1] < 0x80 else varint.decode(field, 1, 10)[1]
        if field[at] != 0x0A:
            raise FormatError("the dag-pb link does not start with its hash")
        size = field[at + 1]
        if size < 0x80:
            at += 2
        else:
            size, at = varint.decode(field, at + 1, 10)
        cid = field[at : at + size]
        at += size
        end = len(field)
        name = b""
        tsize = 0
        if at < end and field[at] == 0x12:
            size = field[at + 1]
            if size < 0x80:
                at += 2
            else:
                size, at = varint.decode(field, at + 1, 10)
            name = field[at : at + size]
            at += size
        if at < end and field[at] == 0x18:
            tsize, at = varint.decode(field, at + 1, 10)
    except IndexError as exc:
        raise FormatError("the dag-pb link is cut off") from exc
    if at != end:
        raise FormatError("the dag-pb link does not parse: unknown, repeated or cut off fields")
    return cid, name, tsize


def parse_link(field: bytes) -> Link:
    """Return the link of a field, with its CID checked."""
    cid, name, tsize = parse_field(field)
    return Link(name, CID(cid), tsize)


def encode_field(cid: bytes, name: bytes, tsize: int) -> bytes:
    """Return the canonical field: hash, name and tsize all present, as Kubo writes them."""
    enc = varint.encode
    body = b"\x0a%b%b\x12%b%b\x18%b" % (enc(len(cid)), cid, enc(len(name)), name, enc(tsize))
    return b"\x12" + enc(len(body)) + body


def field_size(cid_bytes: int, name_bytes: int, tsize: int) -> int:
    """Return ``len(encode_field(...))`` from the lengths of its parts."""
    size = varint.size
    body = 3 + size(cid_bytes) + cid_bytes + size(name_bytes) + name_bytes + size(tsize)
    return 1 + size(body) + body


def join(fields: list[bytes], data: bytes) -> bytes:
    """Return the block of these fields and data: links first, as dag-pb orders them."""
    return b"%b\x0a%b%b" % (b"".join(fields), varint.encode(len(data)), data)


def tsize_sum(fields: list[bytes]) -> int:
    """Return the sum of the tsizes of link fields."""
    total = 0
    for field in fields:
        total += parse_field(field)[2]
    return total
