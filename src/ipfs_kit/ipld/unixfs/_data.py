"""The UnixFS ``Data`` message (specs.ipfs.tech/unixfs): strict decoding, and encoding exactly as Kubo encodes."""

from __future__ import annotations

from dataclasses import field
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, FormatError
from ipfs_kit.ipld import varint
from ipfs_kit.ipld.budgets import DEFAULT, Budgets

TYPE_RAW: Final = 0
TYPE_DIRECTORY: Final = 1
TYPE_FILE: Final = 2
TYPE_METADATA: Final = 3
TYPE_SYMLINK: Final = 4
TYPE_HAMT: Final = 5

HASH_MURMUR3: Final = 0x22

DIRECTORY_DATA: Final = b"\x08\x01"
"""The whole message of a plain directory without mode and mtime."""


@dataclass(slots=True)
class Data:
    """A decoded message; absent optional numbers are None."""

    type: int
    data: bytes = b""
    filesize: int | None = None
    blocksizes: list[int] = field(default_factory=list)
    hash_type: int | None = None
    fanout: int | None = None
    mode: int | None = None
    mtime: tuple[int, int] | None = None
    """Seconds since the epoch and nanoseconds."""


_VARINT_FIELDS: Final = {1: "type", 3: "filesize", 5: "hash_type", 6: "fanout", 7: "mode"}
_NAMES: Final = {**_VARINT_FIELDS, 2: "data", 4: "blocksizes", 8: "mtime"}


def decode_data(message: bytes, budgets: Budgets = DEFAULT) -> Data:
    """Read a message.

    Raises:
        FormatError: Truncated, a field unknown, repeated or of the wrong type, or no node type.
        BudgetExceeded: More block sizes than links are allowed.
    """
    out = Data(-1)
    seen = 0
    at = 0
    end = len(message)
    while at < end:
        tag, at = varint.decode(message, at, 10)
        number, wire = tag >> 3, tag & 7
        if number == 4 and wire == 0:
            size, at = varint.decode(message, at, 10)
            out.blocksizes.append(size)
            if len(out.blocksizes) > budgets.links_per_node:
                raise BudgetExceeded(f"a UnixFS node lists more than {budgets.links_per_node} blocks")
            continue
        if number not in _NAMES or seen >> number & 1:
            raise FormatError(f"UnixFS data has an unknown or repeated field {number}")
        seen |= 1 << number
        if wire == 0 and number in _VARINT_FIELDS:
            value, at = varint.decode(message, at, 10)
            setattr(out, _VARINT_FIELDS[number], value)
        elif wire == 2 and number in (2, 4, 8):
            size, at = varint.decode(message, at, 10)
            part = message[at : at + size]
            at += size
            if len(part) != size:
                raise FormatError("UnixFS data is cut off")
            if number == 2:
                out.data = part
            elif number == 4:
                out.blocksizes.extend(_packed(part, budgets))
            else:
                out.mtime = _mtime(part)
        else:
            raise FormatError(f"UnixFS field {_NAMES[number]} has wire type {wire}")
    if not TYPE_RAW <= out.type <= TYPE_HAMT:
        raise FormatError("UnixFS data names no known node type")
    return out


def _packed(part: bytes, budgets: Budgets) -> list[int]:
    if len(part) > budgets.links_per_node * 10:
        raise BudgetExceeded(f"a UnixFS node lists more than {budgets.links_per_node} blocks")
    sizes = []
    at = 0
    while at < len(part):
        size, at = varint.decode(part, at, 10)
        sizes.append(size)
    if len(sizes) > budgets.links_per_node:
        raise BudgetExceeded(f"a UnixFS node lists more than {budgets.links_per_node} blocks")
    return sizes


def _mtime(part: bytes) -> tuple[int, int]:
    seconds: int | None = None
    nanos = 0
    at = 0
    while at < len(part):
        tag = part[at]
        if tag == 0x08 and seconds is None:
            seconds, at = varint.decode(part, at + 1, 10)
            if seconds >= 1 << 63:
                seconds -= 1 << 64
        elif tag == 0x15 and seconds is not None and at + 5 == len(part):
            nanos = int.from_bytes(part[at + 1 : at + 5], "little")
            at += 5
        else:
            raise FormatError("UnixFS modification time does not parse")
    if seconds is None or nanos > 999_999_999:
        raise FormatError("UnixFS modification time lacks seconds or has too many nanoseconds")
    return seconds, nanos


def file_node_data(filesize: int, blocksizes: bytes) -> bytes:
    """Return the message of a File node with children; ``blocksizes`` are already encoded fields."""
    return b"\x08\x02\x18" + varint.encode(filesize) + blocksizes


def symlink_data(target: bytes) -> bytes:
    """Return the message of a symbolic link."""
    return b"\x08\x04\x12" + varint.encode(len(target)) + target


def hamt_data(bitmap: int, fanout: int) -> bytes:
    """Return the message of a HAMT node; the bitmap's bytes are big-endian without leading zeros."""
    bits = bitmap.to_bytes((bitmap.bit_length() + 7) // 8, "big")
    middle = b"\x12" + varint.encode(len(bits)) + bits if bits else b""
    return b"\x08\x05%b\x28\x22\x30%b" % (middle, varint.encode(fanout))
