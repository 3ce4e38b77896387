"""Names below ``ledger/<log>/`` as pure functions: C2SP tlog-tiles paths, checkpoint and manifests.

>>> tile_path(0, 1234067)
'tile/0/x001/x234/067'
>>> tile_path(1, 5, 17)
'tile/1/005.p/17'
>>> bundle_path(256, 3)
'tile/entries/256.p/3'
"""

from __future__ import annotations

from typing import Final

TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 256
"""Hashes of a full tile, entries of a full bundle."""
HASH_BYTES: Final = 32
ENTRY_BYTES: Final = 36
"""A binary CID: version, codec, hash code, length, digest."""
ENTRIES: Final = "entries"
CHECKPOINT: Final = "checkpoint"
MANIFESTS: Final = "manifests"
SEGMENTS: Final = "segments"


def index_path(index: int) -> str:
    """A tile index as path elements of three digits, all but the last marked ``x``."""
    text = f"{index % 1000:03d}"
    index //= 1000
    while index:
        text = f"x{index % 1000:03d}/{text}"
        index //= 1000
    return text


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Path of a tile; partial when narrower than 256."""
    return f"tile/{level}/{index_path(index)}" + ("" if width == TILE_WIDTH else f".p/{width}")


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """Path of an entry bundle; partial when narrower than 256."""
    return f"tile/{ENTRIES}/{index_path(index)}" + ("" if width == TILE_WIDTH else f".p/{width}")


def levels(size: int) -> int:
    """How many tile levels a tree of this size has."""
    count = 0
    while size:
        count += 1
        size >>= TILE_HEIGHT
    return count


def partial_width(level: int, size: int) -> int:
    """Width of the partial tile at a level, 0 when there is none."""
    return (size >> (TILE_HEIGHT * level)) % TILE_WIDTH


def full_tiles(level: int, size: int) -> int:
    """Number of full tiles at a level."""
    return size >> (TILE_HEIGHT * (level + 1))
