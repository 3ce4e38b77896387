"""RFC 6962 Merkle trees over SHA-256, as pure functions over hashes that are passed in.

``Nodes`` answers the hash of a perfect subtree: ``nodes(level, index)`` covers leaves ``[index << level, (index + 1) <<
level)``. Everything else follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Final

Nodes = Callable[[int, int], bytes]

EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    """Hash of one entry: SHA-256(0x00 || entry)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node: SHA-256(0x01 || left || right)."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """Root of a perfect subtree from its bottom row, whose length is a power of two."""
    row = hashes
    while len(row) > 1:
        row = [sha256(b"\x01" + row[i] + row[i + 1]).digest() for i in range(0, len(row), 2)]
    return row[0]


def fold(frontier: Sequence[bytes]) -> bytes:
    """Root of a tree from its maximal perfect subtrees, left to right."""
    if not frontier:
        return EMPTY_ROOT
    root = frontier[-1]
    for left in reversed(frontier[:-1]):
        root = node_hash(left, root)
    return root


def decompose(start: int, stop: int) -> list[tuple[int, int]]:
    """The maximal perfect subtrees (level, index) that cover leaves ``[start, stop)`` of a tree, left to right.

    ``start`` is a multiple of the largest power of two that fits, as every subtree of a Merkle tree begins.
    """
    found = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        found.append((level, start >> level))
        start += 1 << level
    return found


def range_hash(nodes: Nodes, start: int, stop: int) -> bytes:
    """Merkle tree hash of leaves ``[start, stop)``."""
    return fold([nodes(level, index) for level, index in decompose(start, stop)])


def root(nodes: Nodes, size: int) -> bytes:
    """Root of the tree of the first ``size`` leaves."""
    return range_hash(nodes, 0, size)


def _split(count: int) -> int:
    """The largest power of two smaller than ``count``."""
    return 1 << ((count - 1).bit_length() - 1)


def inclusion_path(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """Audit path of a leaf, from its sibling upward (RFC 6962 section 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is outside a tree of {size}")
    path = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            path.append(range_hash(nodes, middle, stop))
            stop = middle
        else:
            path.append(range_hash(nodes, start, middle))
            start = middle
    path.reverse()
    return path


def consistency_path(nodes: Nodes, old: int, new: int) -> list[bytes]:
    """Proof that the tree of ``new`` leaves extends that of ``old`` (RFC 6962 section 2.1.2); empty when trivial."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} cannot extend one of {old}")
    if old in (0, new):
        return []
    path = []
    start, stop, whole = 0, new, True
    while stop != old:
        middle = start + _split(stop - start)
        if old <= middle:
            path.append(range_hash(nodes, middle, stop))
            stop = middle
        else:
            path.append(range_hash(nodes, start, middle))
            start, whole = middle, False
    if not whole:
        path.append(range_hash(nodes, start, stop))
    path.reverse()
    return path


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an audit path leads to, or None when its length does not fit (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    at, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            value = node_hash(sibling, value)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            value = node_hash(value, sibling)
        at >>= 1
        last >>= 1
    return value if last == 0 else None


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Whether a proof shows that one tree extends another (RFC 9162 section 2.1.4.2)."""
    if old == new:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    if not 0 < old < new or not path:
        return False
    hashes = list(path)
    if old & (old - 1) == 0:
        hashes.insert(0, old_root)
    at, last = old - 1, new - 1
    while at & 1:
        at >>= 1
        last >>= 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first = node_hash(sibling, first)
            second = node_hash(sibling, second)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            second = node_hash(second, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and first == old_root and second == new_root
