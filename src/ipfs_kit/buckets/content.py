"""Writing into the middle or at the end of a file without rewriting it.

With fixed chunks a chunk that a write does not touch keeps its leaf: it is linked again by CID, not read, hashed or
stored. Only touched chunks and the inner nodes (one per 1,024 leaves) are written, and the result is the CID a clean
build of the new content has. Content-defined chunks move with the content, so there the file is streamed through the
chunker again; leaves of equal content are the same blocks all the same.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

from ipfs_kit.buckets.index import Get, Put
from ipfs_kit.errors import BudgetExceeded
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW, plain_codec
from ipfs_kit.ipld.unixfs import Entry, FileReader, Profile, build_bytes, build_file, open_file

# The balanced layout exists once, in ipld; a spliced file must be laid out by the very same code to get the same CID.
from ipfs_kit.ipld.unixfs._build import _Tree
from ipfs_kit.ipld.unixfs._reader import load_file_node
from ipfs_kit.ipld.unixfs._wire import parse_field

GAP_BYTES_MAX = 1 << 40
"""Largest hole a write may leave; zeros cost one leaf and links, but a typing error should not make 2**60 of them."""


class _Leaf(NamedTuple):
    start: int
    end: int
    cid: CID
    tsize: int


def splice(cid: CID, size: int, data: bytes, start: int, truncate: bool, profile: Profile, get: Get, put: Put) -> Entry:
    """The file with ``data`` written at ``start``.

    Args:
        cid: The file as it is.
        size: Its content bytes.
        data: What to write.
        start: Where; beyond the end leaves zeros in between.
        truncate: End the file after the written bytes.
        profile: Shape of the new file.
        get: Reads blocks.
        put: Stores blocks.
    """
    if start - size > GAP_BYTES_MAX:
        raise BudgetExceeded(
            f"the write would leave a hole of {start - size} bytes; at most {GAP_BYTES_MAX} are allowed"
        )
    end = start + len(data)
    total = end if truncate else max(size, end)
    with open_file(cid, get) as old:
        patch = _Patch(old, size, data, start)
        if total <= profile.chunk_size and profile.chunker == "fixed":
            return build_bytes(patch.read_range(0, total), profile, put)
        if profile.chunker != "fixed":
            return build_file(io.BufferedReader(_PatchReader(patch, total)), profile, put)
        kept = _kept_leaves(cid, get, profile, min(start, size), end, total)
        tree = _Tree(profile, put)
        for at in range(0, total, profile.chunk_size):
            stop = min(at + profile.chunk_size, total)
            leaf = kept.get(at)
            if leaf is not None and leaf.end == stop:
                tree._add(0, leaf.cid.binary, leaf.tsize, stop - at)  # noqa: SLF001 - see the import
                continue
            made = build_bytes(patch.read_range(at, stop), profile, put)
            tree._add(0, made.cid.binary, made.tsize, stop - at)  # noqa: SLF001 - see the import
        return tree.finish()


class _Patch:
    """Old content with new bytes laid over it."""

    def __init__(self, old: FileReader, size: int, data: bytes, start: int) -> None:
        self._old = old
        self._size = size
        self._data = data
        self._start = start

    def read_range(self, start: int, stop: int) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive) of the new content."""
        end = self._start + len(self._data)
        if self._start <= start and stop <= end:
            return self._data[start - self._start : stop - self._start]
        out = bytearray(stop - start)
        if start < self._size:
            self._old.seek(start)
            have = min(stop, self._size) - start
            out[:have] = self._old.read(have)
        low, high = max(start, self._start), min(stop, end)
        if low < high:
            out[low - start : high - start] = self._data[low - self._start : high - self._start]
        return bytes(out)


class _PatchReader(io.RawIOBase):
    """A patch as a stream."""

    def __init__(self, patch: _Patch, total: int) -> None:
        self._patch = patch
        self._total = total
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # Buffer is 3.12 typing
        """Fill the buffer with the next bytes."""
        stop = min(self._at + len(buffer), self._total)
        part = self._patch.read_range(self._at, stop)
        buffer[: len(part)] = part
        self._at = stop
        return len(part)


def _kept_leaves(cid: CID, get: Get, profile: Profile, start: int, end: int, total: int) -> dict[int, _Leaf]:
    """Leaves outside ``start`` to ``end`` that lie where the profile would put them."""
    kept: dict[int, _Leaf] = {}
    for leaf in _leaves(cid, get):
        untouched = leaf.end <= start or leaf.start >= end
        placed = leaf.start % profile.chunk_size == 0 and leaf.end <= total
        if untouched and placed and (plain_codec(leaf.cid.codec) == RAW) == profile.raw_leaves:
            kept[leaf.start] = leaf
    return kept


def _leaves(cid: CID, get: Get) -> Iterator[_Leaf]:
    """Leaves of a file in order, reading inner nodes alone as far as their links tell."""
    root = load_file_node(get, cid, 0, DEFAULT)
    if not root.fields:
        yield _Leaf(0, root.end, cid, len(get(cid)))
        return
    stack = [(root, 0)]
    while stack:
        node, at = stack.pop()
        if at == len(node.fields):
            continue
        stack.append((node, at + 1))
        if len(stack) > DEFAULT.file_depth:
            raise BudgetExceeded(f"the file's tree is deeper than {DEFAULT.file_depth} levels")
        binary, _, tsize = parse_field(node.fields[at])
        child = CID(binary)
        low, high = node.start + node.bounds[at], node.start + node.bounds[at + 1]
        if plain_codec(child.codec) == RAW:
            yield _Leaf(low, high, child, tsize)
            continue
        below = load_file_node(get, child, low, DEFAULT)
        if below.fields:
            stack.append((below, 0))
        else:
            yield _Leaf(low, high, child, tsize)
