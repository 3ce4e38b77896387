"""murmur3-x64-64 (multicodec 0x22): the first 64 bits of MurmurHash3_x64_128 with seed 0."""

from __future__ import annotations

from struct import Struct
from typing import Final

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_C1: Final = 0x87C37B91114253D5
_C2: Final = 0x4CF5AD432745937F
_BLOCK: Final = Struct("<QQ")


def murmur3_x64_64(data: bytes) -> int:
    """Return the hash as an integer whose most significant byte is the first that a HAMT consumes."""
    size = len(data)
    h1 = h2 = 0
    tail = size & ~15
    if tail:
        for k1, k2 in _BLOCK.iter_unpack(data[:tail]):
            k1 = k1 * _C1 & _MASK
            h1 ^= ((k1 << 31 | k1 >> 33) & _MASK) * _C2 & _MASK
            h1 = ((h1 << 27 | h1 >> 37) + h2 & _MASK) * 5 + 0x52DCE729 & _MASK
            k2 = k2 * _C2 & _MASK
            h2 ^= ((k2 << 33 | k2 >> 31) & _MASK) * _C1 & _MASK
            h2 = ((h2 << 31 | h2 >> 33) + h1 & _MASK) * 5 + 0x38495AB5 & _MASK
    if size != tail:
        rest = int.from_bytes(data[tail:], "little")
        k2 = rest >> 64
        if k2:
            k2 = k2 * _C2 & _MASK
            h2 ^= ((k2 << 33 | k2 >> 31) & _MASK) * _C1 & _MASK
        k1 = (rest & _MASK) * _C1 & _MASK
        h1 ^= ((k1 << 31 | k1 >> 33) & _MASK) * _C2 & _MASK
    h1 ^= size
    h2 ^= size
    h1 = h1 + h2 & _MASK
    h2 = h2 + h1 & _MASK
    h1 = (h1 ^ h1 >> 33) * 0xFF51AFD7ED558CCD & _MASK
    h1 = (h1 ^ h1 >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    h2 = (h2 ^ h2 >> 33) * 0xFF51AFD7ED558CCD & _MASK
    h2 = (h2 ^ h2 >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return (h1 ^ h1 >> 33) + (h2 ^ h2 >> 33) & _MASK
