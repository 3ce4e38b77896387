"""Deterministic inputs of the golden vectors: a vector is a seed or a name here, and the CIDs other programs gave."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

BLOCK = 65_536
KIB = 1024
MIB = 1024 * KIB

Tree = dict[str, "bytes | str | Tree"]
"""A directory: bytes are a file, str is a symlink's target, a dict a directory."""


class SeededStream:
    """``size`` bytes: 64 KiB blocks of seeded noise, each starting with its own number, so that no two are equal."""

    def __init__(self, seed: int, size: int) -> None:
        self._base = random.Random(seed).randbytes(BLOCK)
        self._left = size
        self._index = 0
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        parts = [self._rest]
        have = len(self._rest)
        while have < wanted:
            parts.append(self._index.to_bytes(8, "little") + self._base[8:])
            self._index += 1
            have += BLOCK
        data = b"".join(parts)
        self._rest = data[wanted:]
        self._left -= wanted
        return data[:wanted]


def content(seed: int, size: int) -> bytes:
    return SeededStream(seed, size).read(size)


FILE_SIZES = [
    0, 1, 2, 127, 128, 1000, 65_536,
    256 * KIB - 1, 256 * KIB, 256 * KIB + 1, 512 * KIB,
    MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 12_345,
    174 * 256 * KIB - 1, 174 * 256 * KIB, 174 * 256 * KIB + 1,
]  # fmt: skip
FILE_SIZES_LARGE = [1024 * MIB - 1, 1024 * MIB, 1024 * MIB + 1, 1100 * MIB + 7]


def _flat(count: int, width: int = 6, prefix: str = "file-") -> Tree:
    return {f"{prefix}{i:0{width}d}.txt": b"content %d" % i for i in range(count)}


def _exact(over: int, per_link: Callable[[int], int], base: int, threshold: int = 262_144) -> Tree:
    """Names of one length and one content, the last name stretched so that the measured size is exact."""
    tree: Tree = {}
    size = base
    width = 20
    target = threshold + over
    while target - size > 3 * per_link(width):
        tree[f"{len(tree):0{width}d}"] = b"x"
        size += per_link(width)
    # Two names share what is left; their sizes grow by one byte with their length.
    left = target - size
    for first in range(width, 120):
        for second in range(width, 120):
            if per_link(first) + per_link(second) == left:
                tree["a" * first] = b"x"
                tree["b" * second] = b"x"
                return tree
    raise AssertionError("no pair of names fits")


def _block_link(name: int) -> int:
    # CIDv1 of 36 bytes, tsize of one byte.
    return 2 + 2 + 36 + 2 + name + 2


def _links_link(name: int) -> int:
    return name + 34


TREES: dict[str, Callable[[], Tree]] = {
    "empty": dict,
    "one-empty-file": lambda: {"empty": b""},
    "few": lambda: {"a": b"alpha\n", "b": b"", "c.txt": b"gamma" * 1000},
    "order": lambda: {n: n.encode() for n in ["b", "a", "B", "A", "aa", "a-", "a.", "10", "9", "~", " ", "a b"]},
    "nested": lambda: {
        "docs": {"guide": {"one.md": b"# one\n", "two.md": b"# two\n"}, "readme": b"read me\n"},
        "empty": {},
        "src": {"main.py": b"print(1)\n"},
    },
    "nested-files": lambda: {
        "docs": {"guide": {"one.md": b"# one\n", "two.md": b"# two\n"}, "readme": b"read me\n"},
        "src": {"main.py": b"print(1)\n", "empty.py": b""},
    },
    "unicode": lambda: {
        "caf\u00e9": b"composed", "cafe\u0301": b"decomposed", "\u6f22\u5b57": b"han", "\U0001f600": b"emoji",
        "\u0440\u0443": {"\u05e9": b"rtl"},
    },
    "symlinks": lambda: {
        "target": b"here\n", "link": "target", "up": "../elsewhere", "abs": "/etc/hosts", "d": {"l": "."},
    },
    "large-file-inside": lambda: {"big": content(7, 3 * MIB + 5), "small": b"s"},
    "flat-300": lambda: _flat(300),
    "flat-3000": lambda: _flat(3000),
    "flat-5000": lambda: _flat(5000),
    "flat-6000": lambda: _flat(6000),
    "flat-12000": lambda: _flat(12_000),
    "hamt-below-plain": lambda: {"sharded": _flat(6000), "plain": {"x": b"y"}},
    "block-at-threshold": lambda: _exact(0, _block_link, 4),
    "block-over-threshold": lambda: _exact(1, _block_link, 4),
    "links-at-threshold": lambda: _exact(0, _links_link, 0),
    "links-over-threshold": lambda: _exact(1, _links_link, 0),
}  # fmt: skip
PLAIN_TREES = ["few", "order", "nested-files", "unicode", "large-file-inside", "flat-300"]
"""Trees for ipfs-car, which drops empty directories, follows links and unwraps a single file."""
EDIT_TREE = "flat-6000"
EDIT_REMOVALS = [1, 200, 1000, 2000]
"""Entries removed from ``EDIT_TREE``, first names first: it stays sharded, then becomes plain again."""


def materialize(tree: Tree, path: Path) -> None:
    path.mkdir()
    for name, value in tree.items():
        if isinstance(value, dict):
            materialize(value, path / name)
        elif isinstance(value, str):
            os.symlink(value, path / name)
        else:
            (path / name).write_bytes(value)
