"""Bloom filters: which values certainly do not occur in a part.

B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970; the k positions come from two halves of
one digest (A. Kirsch, M. Mitzenmacher, "Less hashing, same performance", 2006).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import FormatError

RATE: Final = 0.01
"""Of so many values that do not occur one part in a hundred is read in vain."""
BITS_MAX: Final = 1 << 24
"""Beyond (1.7 million distinct values) the rate rises instead of the filter."""


@dataclass(frozen=True, slots=True)
class Bloom:
    """A filter.

    Args:
        bits: The bits, eight a byte.
        hashes: Positions of one value.
    """

    bits: bytes
    hashes: int

    @staticmethod
    def of(values: Iterable[Any]) -> Bloom:
        """The filter of values; None among them is passed over."""
        known = [value for value in values if value is not None]
        wanted = math.ceil(-len(known) * math.log(RATE) / math.log(2) ** 2)
        size = min(max(64, -(-wanted // 8) * 8), BITS_MAX)
        hashes = max(1, min(16, round(size / max(1, len(known)) * math.log(2))))
        bits = bytearray(size // 8)
        for value in known:
            for at in _positions(value, hashes, size):
                bits[at >> 3] |= 1 << (at & 7)
        return Bloom(bytes(bits), hashes)

    def may_hold(self, value: Any) -> bool:
        """Whether a value may occur; False is certain."""
        return all(self.bits[at >> 3] & (1 << (at & 7)) for at in _positions(value, self.hashes, len(self.bits) * 8))

    def encode(self) -> str:
        """As text."""
        return f"{self.hashes}:{base64.b64encode(self.bits).decode()}"

    @staticmethod
    def decode(text: str) -> Bloom:
        """The filter of a text.

        Raises:
            FormatError: It is none.
        """
        hashes, _, bits = text.partition(":")
        data = base64.b64decode(bits, validate=True)
        if not 1 <= int(hashes) <= 16 or not 0 < len(data) * 8 <= BITS_MAX:
            raise FormatError("a Bloom filter does not parse; restore the dataset from an earlier version")
        return Bloom(data, int(hashes))


def _positions(value: Any, hashes: int, size: int) -> list[int]:
    data = json.dumps(value, default=str).encode()
    digest = blake2b(data, digest_size=16).digest()
    first, step = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") | 1
    return [(first + at * step) % size for at in range(hashes)]
