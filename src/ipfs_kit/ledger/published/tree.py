"""Tiles of somebody else's log, each trusted only once it is shown to lead to the signed root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from ipfs_kit.errors import IntegrityError
from ipfs_kit.ledger import merkle
from ipfs_kit.ledger.layout import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, full_tiles, levels, partial_width, tile_path

Read = Callable[[str, int], bytes | None]
"""``read(path, limit)``: bytes of a tile, or None."""
_CACHED: Final = 512
"""Tiles held: 10 MB of Python objects; records are read in order."""


class TrustedTiles:
    """The tree of a signed head, read tile by tile; a full tile is checked against the one above it.

    Args:
        read: Where tiles come from, by their C2SP names.
        size: Leaves of the signed head.
        root: Its root.

    Raises:
        IntegrityError: The right edge does not lead to the root.
    """

    def __init__(self, read: Read, size: int, root: bytes) -> None:
        self._read = read
        self.size = size
        self.hashes = lru_cache(maxsize=_CACHED)(self._load)
        # The peaks of the tree are all the hashes of its partial tiles: the root vouches for each of them.
        if merkle.root(self._node, size) != root:
            raise IntegrityError(f"the tiles do not lead to the signed root of {size} records")

    def leaf(self, index: int) -> bytes:
        """The leaf hash at an index below the size."""
        return self.hashes(0, index // TILE_WIDTH)[index % TILE_WIDTH]

    def root_at(self, size: int) -> bytes:
        """The root that the same log had at a smaller size.

        Raises:
            IntegrityError: A tile that is needed for it is not there.
        """
        return merkle.root(self._node, size)

    def width(self, level: int, index: int) -> int:
        """How many hashes of a tile the tree has; 0 for a tile beyond it."""
        full = full_tiles(level, self.size)
        if index < full:
            return TILE_WIDTH
        return partial_width(level, self.size) if index == full else 0

    def _node(self, height: int, index: int) -> bytes:
        level, rise = divmod(height, TILE_HEIGHT)
        tile, at = divmod(index << rise, TILE_WIDTH)
        return merkle.perfect_root(self.hashes(level, tile)[at : at + (1 << rise)])

    def _load(self, level: int, index: int) -> Sequence[bytes]:
        width = self.width(level, index)
        name = tile_path(level, index, width or TILE_WIDTH)
        data = self._read(name, TILE_WIDTH * HASH_BYTES) if width else None
        if data is None:
            raise IntegrityError(f"{name} is missing", path=name)
        if len(data) != width * HASH_BYTES:
            raise IntegrityError(f"{name} has {len(data)} bytes instead of {width * HASH_BYTES}", path=name)
        found = tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))
        # A full tile is one hash of the tile above it, at most eight times up.
        if width == TILE_WIDTH and level + 1 < levels(self.size):
            above = self.hashes(level + 1, index // TILE_WIDTH)[index % TILE_WIDTH]
            if merkle.perfect_root(found) != above:
                raise IntegrityError(f"{name} is not the tile that the signed root covers", path=name)
        return found
