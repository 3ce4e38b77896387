"""dag-pb (ipld.io/specs/codecs/dag-pb): the node format under UnixFS.

::

    PBNode := PBLink* Data?            canonical; Data? PBLink* is accepted too
    PBLink := 12 len( 0a len cid  [12 len name]  [18 tsize] )
    Data   := 0a len bytes

Besides whole nodes there are raw helpers that keep each link as its exact bytes, so that a directory of 256 links is
cut apart and put together again without parsing links that do not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidCid
from ipfs_kit.ipld import varint
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID

_TAG_DATA: Final = 0x0A
_TAG_LINKS: Final = 0x12
_TAG_HASH: Final = 0x0A
_TAG_NAME: Final = 0x12
_TAG_TSIZE: Final = 0x18


@dataclass(frozen=True, slots=True)
class PBLink:
    """One link of a node."""

    cid: CID
    name: bytes | None = None
    """Name as on the wire; None when the field is absent, which is not the same bytes as an empty name."""
    tsize: int | None = None
    """Cumulative size in bytes of the blocks below, as claimed by the writer; None when absent."""


@dataclass(frozen=True, slots=True)
class PBNode:
    """One dag-pb block."""

    data: bytes | None = None
    """Opaque bytes (UnixFS puts a message here); None when the field is absent."""
    links: Sequence[PBLink] = ()


def encode(node: PBNode) -> bytes:
    """Return the canonical block: links sorted by name (stable), then data.

    Raises:
        InvalidInput: A size is out of range.
    """
    links = sorted(node.links, key=lambda link: link.name or b"")
    return join(node.data, [encode_link(link) for link in links])


def encode_link(link: PBLink) -> bytes:
    """Return one link as it stands in a block, tag and length included."""
    cid_binary = link.cid.binary
    body = b"\x0a" + varint.encode(len(cid_binary)) + cid_binary
    if link.name is not None:
        body += b"\x12" + varint.encode(len(link.name)) + link.name
    if link.tsize is not None:
        body += b"\x18" + varint.encode(link.tsize)
    return b"\x12" + varint.encode(len(body)) + body


def decode(data: bytes, budgets: Budgets = DEFAULT) -> PBNode:
    """Read a block strictly; links keep the order in which they stand.

    Raises:
        FormatError: A field is unknown, repeated, out of order, cut off or no CID.
        BudgetExceeded: There are too many links.
    """
    payload, raw_links = _split(data, budgets)
    return PBNode(payload, tuple([decode_link(raw) for raw in raw_links]))


def decode_link(raw: bytes) -> PBLink:
    """Read one raw link strictly.

    Raises:
        FormatError: It is malformed or its hash is no CID.
    """
    cid_binary, name, tsize = _link_fields(raw)
    try:
        return PBLink(CID(cid_binary), name, tsize)
    except InvalidCid as exc:
        raise FormatError(f"dag-pb link is not a CID: {exc.message}") from exc


def split_links(block: bytes, budgets: Budgets = DEFAULT) -> tuple[bytes, list[bytes]]:
    """Cut a block into its data and its raw links (tag and length included), without reading into the links.

    Args:
        block: A dag-pb block, data first or last.
        budgets: Bounds the number of links.

    Returns:
        The data (empty when absent) and the links in order.

    Raises:
        FormatError: The outer structure is malformed.
        BudgetExceeded: There are too many links.
    """
    data, raw_links = _split(block, budgets)
    return data or b"", raw_links


def join(data: bytes | None, raw_links: Iterable[bytes]) -> bytes:
    """Put a block together from its data and raw links, in the order given.

    Args:
        data: Opaque bytes; None leaves the field out, empty bytes write an empty field.
        raw_links: Links as ``split_links`` or ``link_bytes`` return them, already sorted by name.
    """
    links = b"".join(raw_links)
    if data is None:
        return links
    return links + b"\x0a" + varint.encode(len(data)) + data


def link_bytes(cid_binary: bytes, name: bytes, tsize: int) -> bytes:
    """Return the raw link (tag and length included) for a binary CID, a name (may be empty) and a cumulative size."""
    if len(cid_binary) < 128 and len(name) < 128 and 0 <= tsize < 0x4000:
        # Same bytes as below; most links are this small, and directories write many.
        size = bytes((tsize,)) if tsize < 128 else bytes((tsize & 0x7F | 0x80, tsize >> 7))
        cid_size = len(cid_binary)
        total = cid_size + len(name) + len(size) + 5
        if total < 128:
            return b"%c%c\x0a%c%b\x12%c%b\x18%b" % (18, total, cid_size, cid_binary, len(name), name, size)
    body = b"\x0a%b%b\x12%b%b\x18%b" % (
        varint.encode(len(cid_binary)),
        cid_binary,
        varint.encode(len(name)),
        name,
        varint.encode(tsize),
    )
    return b"\x12" + varint.encode(len(body)) + body


def parse_link(raw: bytes) -> tuple[bytes, bytes, int]:
    """Read a raw link: binary CID (not checked to be one), name and cumulative size, with b"" and 0 for absent ones.

    Raises:
        FormatError: The link is malformed.
    """
    cid_binary, name, tsize = _link_fields(raw)
    return cid_binary, name or b"", tsize or 0


def link_name(raw: bytes) -> bytes:
    """Return the name of a raw link, b"" when absent; reads nothing else.

    Raises:
        FormatError: The link is malformed up to its name.
    """
    try:
        if raw[1] < 0x80 and raw[3] < 0x80:
            at = 4 + raw[3]
            if raw[at] == _TAG_NAME and raw[at + 1] < 0x80:
                return raw[at + 2 : at + 2 + raw[at + 1]]
    except IndexError:
        # No room for a name: the full parse says whether that is sound.
        return parse_link(raw)[1]
    return parse_link(raw)[1]


def link_cid(raw: bytes) -> bytes:
    """Return the binary CID of a raw link, not checked to be one; reads nothing else.

    Raises:
        FormatError: The link is malformed up to its CID.
    """
    # The usual 36-byte or 34-byte CID in a link of fewer than 128 bytes.
    if len(raw) > 38 and raw[1] < 0x80 and raw[2] == _TAG_HASH and raw[3] in (36, 34):
        return raw[4 : 4 + raw[3]]
    return parse_link(raw)[0]


def _split(block: bytes, budgets: Budgets) -> tuple[bytes | None, list[bytes]]:
    size = len(block)
    data: bytes | None = None
    i = 0
    if block[:1] == b"\x0a":
        data, i = _field(block, 1)
    links: list[bytes] = []
    append = links.append
    try:
        while i < size and block[i] == _TAG_LINKS:
            count = block[i + 1]
            end = i + 2 + count
            if count >= 0x80:
                count, end = varint.decode(block, i + 1)
                end += count
            append(block[i:end])
            i = end
    except IndexError as exc:
        raise FormatError("dag-pb link is cut off") from exc
    if i < size and block[i] == _TAG_DATA and data is None:
        data, i = _field(block, i + 1)
    if i > size:
        raise FormatError("dag-pb link is cut off")
    if i < size:
        raise FormatError(f"dag-pb field {block[i]:#04x} is unknown, repeated or out of order")
    if len(links) > budgets.links_per_node:
        raise BudgetExceeded(f"node holds {len(links)} links, more than {budgets.links_per_node}")
    return data, links


def _field(raw: bytes, at: int) -> tuple[bytes, int]:
    """Read a length-delimited field whose length stands at ``at``."""
    count, start = varint.decode(raw, at)
    end = start + count
    if end > len(raw):
        raise FormatError("dag-pb field is cut off")
    return raw[start:end], end


def _link_fields(raw: bytes) -> tuple[bytes, bytes | None, int | None]:
    if raw[:1] != b"\x12":
        raise FormatError("not a dag-pb link")
    count, i = varint.decode(raw, 1)
    size = len(raw)
    if i + count != size:
        raise FormatError("dag-pb link has another length than it announces")
    if i >= size or raw[i] != _TAG_HASH:
        raise FormatError("dag-pb link has no hash")
    cid_binary, i = _field(raw, i + 1)
    name: bytes | None = None
    tsize: int | None = None
    if i < size and raw[i] == _TAG_NAME:
        name, i = _field(raw, i + 1)
    if i < size and raw[i] == _TAG_TSIZE:
        tsize, i = varint.decode(raw, i + 1)
    if i != size:
        raise FormatError(f"dag-pb link field {raw[i]:#04x} is unknown, repeated or out of order")
    return cid_binary, name, tsize
