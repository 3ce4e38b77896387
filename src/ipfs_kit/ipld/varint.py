"""Unsigned LEB128 integers, strict (multiformats/unsigned-varint: minimal, at most 9 bytes)."""

from __future__ import annotations

from ipfs_kit.errors import FormatError, InvalidInput

MAX_BYTES = 9
"""Longest varint in bytes: 63 bits, the limit set by the multiformats specification."""

MAX_VALUE = (1 << 63) - 1
"""Largest value."""

_SMALL = tuple(bytes((i,)) for i in range(128))


def encode(value: int) -> bytes:
    """Return the minimal varint of ``value``.

    Raises:
        InvalidInput: ``value`` is negative or needs more than 63 bits.
    """
    if 0 <= value < 128:
        return _SMALL[value]
    if not 0 <= value <= MAX_VALUE:
        raise InvalidInput(f"{value} does not fit an unsigned varint (0 to 2^63-1)")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def size(value: int) -> int:
    """Return how many bytes ``encode(value)`` takes."""
    return max(1, (value.bit_length() + 6) // 7)


def decode(data: bytes | bytearray | memoryview, offset: int = 0, max_bytes: int = MAX_BYTES) -> tuple[int, int]:
    """Read one varint.

    Args:
        data: Buffer holding it.
        offset: Index of its first byte.
        max_bytes: Refuse a longer one; protobuf fields pass 10 to allow 64 bits.

    Returns:
        The value and the index just past it.

    Raises:
        FormatError: It is cut off, too long or not minimally encoded.
    """
    try:
        byte = data[offset]
        if byte < 0x80:
            return byte, offset + 1
        value = byte & 0x7F
        shift = 7
        end = offset + max_bytes
        offset += 1
        while offset < end:
            byte = data[offset]
            offset += 1
            if byte < 0x80:
                if byte == 0:
                    raise FormatError("varint is not minimally encoded")
                return value | byte << shift, offset
            value |= (byte & 0x7F) << shift
            shift += 7
    except IndexError as exc:
        raise FormatError("varint is cut off") from exc
    raise FormatError(f"varint is longer than {max_bytes} bytes")
