"""The bytes of packs and their sidecars; pure functions, no I/O.

A pack is a CARv1 (ipld.io/specs/transport/car/carv1) whose one root is a descriptor block, written first. Each frame is
``varint(len(cid) + len(data)) | cid | data``. A sidecar lists a sealed pack's frames sorted by multihash:

====================  ======================================================================
``IPKTSIDE``          8 bytes of magic
version               u16, 1
pack id               u64
pack size             u64, bytes of the whole pack
count                 u32, rows
rows                  ``u8 len | multihash | u32 offset of data | u32 length of data | u64 codec``
SHA-256               32 bytes, of everything before
====================  ======================================================================

Integers are little-endian. A pack id is a kind number in the top byte above 56 random bits, so a name says the kind.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from hashlib import sha256
from typing import Any, Final, NamedTuple

import cbrrr

from ipfs_kit.errors import FormatError, KitError
from ipfs_kit.ipld import varint
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, RAW

FORMAT: Final = "ipfs-kit/pack"
FORMAT_VERSION: Final = 1
PACK_BYTES_MAX: Final = 256 * 1024 * 1024
"""A pack is sealed once it holds this many bytes (decision 3)."""
PACK_FRAMES_MAX: Final = 500_000
"""A pack of tiny blocks is sealed earlier, so that writing its sidecar stays well under a second."""
FRAME_BYTES_MAX: Final = 8 * 1024 * 1024
"""Longest frame without its length; what any reader of CARs here accepts (ipld.budgets.car_section_bytes)."""
STUB_BYTES_MAX: Final = 1024
"""A file shorter than this may lack even its descriptor; one that is longer is never thrown away."""
SIDECAR_SUFFIX: Final = ".idx"
_MAGIC: Final = b"IPKTSIDE"
_SIDE_HEAD: Final = struct.Struct("<8sHQQI")
_SIDE_ROW: Final = struct.Struct("<IIQ")
_RANDOM_BITS: Final = 56
# {"roots": [36-byte CID], "version": 1} in dag-cbor, before and after the CID.
_HEADER_HEAD: Final = b"\x3a\xa2eroots\x81\xd8\x2a\x58\x25\x00"
_HEADER_TAIL: Final = b"gversion\x01"
_HEADER_BYTES: Final = len(_HEADER_HEAD) + 36 + len(_HEADER_TAIL)
_NAME: Final = re.compile(r"(dag|leaf|sealed)-([0-9a-f]{14})\.car\Z")


class Kind(IntEnum):
    """What a pack holds; blocks of one kind have one life and one way to be read."""

    DAG = 1
    LEAF = 2
    SEALED = 3


class Frame(NamedTuple):
    """One block inside a pack."""

    cid: CID
    offset: int
    """Of the data, from the start of the pack."""
    length: int
    """Of the data, in bytes."""
    start: int
    """Of the frame's own length prefix; the frame ends at ``offset + length``."""


class Descriptor(NamedTuple):
    """What a pack says about itself."""

    pack_id: int
    domain: str | None
    created_ns: int


def pack_id_new(kind: Kind, random: bytes) -> int:
    """Make a pack id of seven random bytes."""
    return int(kind) << _RANDOM_BITS | int.from_bytes(random[:7], "big")


def kind_of(pack_id: int) -> Kind:
    """The kind a pack id names."""
    return Kind(pack_id >> _RANDOM_BITS)


def kind_for(codec: int) -> Kind:
    """Where a block of this codec goes in an open bucket."""
    return Kind.LEAF if codec == RAW else Kind.DAG


def pack_name(pack_id: int) -> str:
    """The file name of a pack, for example ``dag-0123456789abcd.car``."""
    return f"{kind_of(pack_id).name.lower()}-{pack_id & (1 << _RANDOM_BITS) - 1:014x}.car"


def sidecar_name(pack_id: int) -> str:
    """The file name of a pack's sidecar."""
    return pack_name(pack_id)[:-4] + SIDECAR_SUFFIX


def parse_name(name: str) -> int | None:
    """The pack id of a pack's file name; None for any other name."""
    match = _NAME.match(name)
    return None if match is None else Kind[match[1].upper()] << _RANDOM_BITS | int(match[2], 16)


def frame_head(cid: CID, length: int) -> bytes:
    """What stands before a block's data."""
    binary = cid.binary
    size = len(binary) + length
    if size < 0x80:
        return bytes((size,)) + binary
    if size < 0x4000:
        return bytes((size & 0x7F | 0x80, size >> 7)) + binary
    return varint.encode(size) + binary


def encode_start(descriptor: Descriptor) -> bytes:
    """The first bytes of a pack: CAR header and descriptor frame."""
    value: dict[str, Any] = {
        "created": descriptor.created_ns,
        "domain": descriptor.domain,
        "format": FORMAT,
        "kind": kind_of(descriptor.pack_id).name.lower(),
        "pack": descriptor.pack_id.to_bytes(8, "big"),
        "version": FORMAT_VERSION,
    }
    block = cbrrr.encode_dag_cbor(value)
    cid = CID.of(block, DAG_CBOR)
    return _HEADER_HEAD + cid.binary + _HEADER_TAIL + frame_head(cid, len(block)) + block


def decode_start(data: bytes | memoryview) -> tuple[Descriptor, int]:
    """Read a pack's header and descriptor.

    Args:
        data: The first bytes of the file; 1 KiB is enough.

    Returns:
        The descriptor and the offset of the first block's frame.

    Raises:
        FormatError: This is no pack, or it is cut off.
    """
    head = bytes(data[:_HEADER_BYTES])
    if len(head) < _HEADER_BYTES or not head.startswith(_HEADER_HEAD) or not head.endswith(_HEADER_TAIL):
        raise FormatError("not a pack: the CAR header is missing or cut off")
    frame = decode_frame(data, _HEADER_BYTES, len(data))
    block = bytes(data[frame.offset : frame.offset + frame.length])
    frame.cid.check(block)
    if frame.cid.binary != head[len(_HEADER_HEAD) : len(_HEADER_HEAD) + 36]:
        raise FormatError("not a pack: its first block is not its root")
    try:
        value: Any = cbrrr.decode_dag_cbor(block)
        known = value["format"] == FORMAT and value["version"] <= FORMAT_VERSION
        descriptor = Descriptor(int.from_bytes(value["pack"], "big"), value["domain"], value["created"])
    except (ValueError, TypeError, KeyError) as exc:
        raise FormatError("not a pack: the descriptor does not parse") from exc
    if not known:
        raise FormatError(f"a pack of format {value['format']!r} version {value['version']!r}: upgrade ipfs-kit")
    return descriptor, frame.offset + frame.length


def decode_frame(data: bytes | memoryview, start: int, end: int) -> Frame:
    """Read the frame at ``start`` without checking its hash.

    Args:
        data: The pack.
        start: Where the frame starts.
        end: Where the readable bytes end.

    Raises:
        FormatError: There is no whole frame.
    """
    try:
        size, at = varint.decode(data, start, 5)
    except KitError as exc:
        raise FormatError(f"no frame at offset {start}: {exc.message}") from exc
    if size > FRAME_BYTES_MAX or size < 4 or at + size > end:
        raise FormatError(f"the frame at offset {start} of {size} bytes is cut off or too long")
    binary = bytes(data[at : at + 36])
    if binary[:2] == b"\x12\x20":
        binary = binary[:34]
    elif not (binary[:1] == b"\x01" and binary[2:4] in (b"\x12\x20", b"\x1e\x20") and binary[1] < 0x80):
        binary = _long_cid(bytes(data[at : at + min(size, 160)]), start)
    if len(binary) > size:
        raise FormatError(f"the frame at offset {start} is shorter than its CID")
    try:
        cid = CID(binary)
    except KitError as exc:
        raise FormatError(f"the frame at offset {start} has no valid CID: {exc.message}") from exc
    return Frame(cid, at + len(binary), size - len(binary), start)


def _long_cid(data: bytes, start: int) -> bytes:
    try:
        _, at = varint.decode(data, 0)
        for _ in range(2):
            _, at = varint.decode(data, at)
        length, at = varint.decode(data, at)
    except KitError as exc:
        raise FormatError(f"the frame at offset {start} has no valid CID: {exc.message}") from exc
    return data[: at + length]


def encode_sidecar(pack_id: int, pack_size: int, rows: Iterable[tuple[bytes, int, int, int]]) -> bytes:
    """The sidecar of a sealed pack.

    Args:
        pack_id: The pack.
        pack_size: Its size in bytes.
        rows: Multihash, offset, length and codec of each frame.
    """
    ordered = sorted(rows)
    parts = [_SIDE_HEAD.pack(_MAGIC, FORMAT_VERSION, pack_id, pack_size, len(ordered))]
    pack = _SIDE_ROW.pack
    for multihash, offset, length, codec in ordered:
        parts.append(bytes((len(multihash),)) + multihash + pack(offset, length, codec))
    body = b"".join(parts)
    return body + sha256(body).digest()


def decode_sidecar(data: bytes) -> tuple[int, int, Iterator[tuple[bytes, int, int, int]]]:
    """Read a sidecar.

    Returns:
        Pack id, pack size, and the rows.

    Raises:
        FormatError: It is cut off, damaged or of an unknown version.
    """
    if len(data) < _SIDE_HEAD.size + 32 or sha256(memoryview(data)[:-32]).digest() != data[-32:]:
        raise FormatError("a sidecar is cut off or damaged: rebuild it with 'ipfs-kit repair'")
    magic, version, pack_id, pack_size, count = _SIDE_HEAD.unpack_from(data)
    if magic != _MAGIC or version != FORMAT_VERSION:
        raise FormatError(f"a sidecar of version {version}: upgrade ipfs-kit")
    return pack_id, pack_size, _rows(data, count)


def _rows(data: bytes, count: int) -> Iterator[tuple[bytes, int, int, int]]:
    at, unpack = _SIDE_HEAD.size, _SIDE_ROW.unpack_from
    for _ in range(count):
        end = at + 1 + data[at]
        offset, length, codec = unpack(data, end)
        yield data[at + 1 : end], offset, length, codec
        at = end + _SIDE_ROW.size
