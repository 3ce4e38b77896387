"""Writing into the middle or at the end of a file without rewriting it.

With fixed chunks the place of every node of a balanced DAG follows from the size alone, so the new file is built from
its root down: a node that a write does not touch is linked again by CID, whole subtrees at once, and only the nodes on
the way to the written bytes are read and written. Appending to a file of n leaves thus reads and writes the right edge,
O(log n) blocks, and the result is the CID a clean build of the new content has. Content-defined chunks move with the
content, so there the file is streamed through the chunker again; leaves of equal content are the same blocks all the
same. So is a file that some other importer laid out in another way.
"""

from __future__ import annotations

import io
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

from ipfs_kit.errors import BudgetExceeded
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW, plain_codec
from ipfs_kit.ipld.unixfs._build import Level, build_bytes, build_file
from ipfs_kit.ipld.unixfs._entry import Entry, Kind
from ipfs_kit.ipld.unixfs._reader import FileReader, load_file_node
from ipfs_kit.ipld.unixfs._wire import parse_field

if TYPE_CHECKING:
    from ipfs_kit.ipld.unixfs._entry import Get, Put
    from ipfs_kit.ipld.unixfs._profiles import Profile

GAP_BYTES_MAX: Final = 1 << 40
"""Largest hole a write may leave: a typing error should not make a file of 2**60 bytes."""


class _Part(NamedTuple):
    """A node as its parent links it."""

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

    Raises:
        BudgetExceeded: the hole before ``start`` would be larger than 1 TiB.
    """
    if start - size > GAP_BYTES_MAX:
        raise BudgetExceeded(
            f"the write would leave a hole of {start - size} bytes; at most {GAP_BYTES_MAX} are allowed"
        )
    end = start + len(data)
    total = end if truncate else max(size, end)
    with closing(_Patch(cid, get, size, data, start)) as patch:
        if profile.chunker != "fixed":
            return build_file(io.BufferedReader(_PatchReader(patch, total)), profile, put)
        if total <= profile.chunk_size:
            return build_bytes(patch.read_range(0, total), profile, put)
        return _Splicer(patch, total, profile, get, put).build()


class _Patch:
    """Old content with new bytes laid over it; the old file is opened when some of it is read."""

    def __init__(self, cid: CID, get: Get, size: int, data: bytes, start: int) -> None:
        self.cid = cid
        self.size = size
        self.start = start
        self.end = start + len(data)
        self._get = get
        self._data = data
        self._old: FileReader | None = None

    def read_range(self, start: int, stop: int, leaf: CID | None = None) -> bytes:
        """Bytes ``start`` to ``stop`` (exclusive) of the new content.

        Args:
            start: First byte.
            stop: Byte after the last.
            leaf: The old leaf that begins at ``start``, when known: it is read without the way down to it.
        """
        if self.start <= start and stop <= self.end:
            return self._data[start - self.start : stop - self.start]
        out = bytearray(stop - start)
        if start < self.size:
            have = min(stop, self.size) - start
            if leaf is not None:
                with FileReader(leaf, self._get) as reader:
                    out[:have] = reader.read(have)
            else:
                old = self._reader()
                old.seek(start)
                out[:have] = old.read(have)
        low, high = max(start, self.start), min(stop, self.end)
        if low < high:
            out[low - start : high - start] = self._data[low - self.start : high - self.start]
        return bytes(out)

    def close(self) -> None:
        """Close the old file."""
        if self._old is not None:
            self._old.close()

    def _reader(self) -> FileReader:
        if self._old is None:
            self._old = FileReader(self.cid, self._get)
        return self._old


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


class _Splicer:
    """Builds the nodes of a patched file from the root down, beside those the old file has at the same places."""

    def __init__(self, patch: _Patch, total: int, profile: Profile, get: Get, put: Put) -> None:
        self._patch = patch
        self._total = total
        self._profile = profile
        self._get = get
        self._put = put
        self._zeros: dict[int, _Part] = {}
        self._read: dict[CID, list[_Part] | None] = {}

    def build(self) -> Entry:
        """The new file, of more than one leaf."""
        height = self._height(self._total)
        cid, tsize = self._node(height, 0, self._old_at(height))
        return Entry(cid, tsize, Kind.FILE, self._total)

    def _height(self, size: int) -> int:
        height = 0
        while self._span(height) < size:
            height += 1
        return height

    def _span(self, height: int) -> int:
        """Content bytes of a full node."""
        full: int = self._profile.chunk_size * self._profile.max_links**height
        return full

    def _old_at(self, height: int) -> dict[int, _Part]:
        """The old node that the new root is built beside: by its height in the leftmost branch, as far as it fits."""
        reached = self._height(self._patch.size)
        part = self._root(reached)
        while part is not None and reached > height:
            below = self._children(reached, 0, part.cid)
            part = below[0] if below is not None else None
            reached -= 1
        return {reached: part} if part is not None else {}

    def _root(self, height: int) -> _Part | None:
        """The old root with its tsize, which nothing tells yet; None when it is not laid out as the profile does."""
        cid = self._patch.cid
        block_size = len(self._get(cid))
        if height > 0:
            below = self._children(height, 0, cid)
            tsize = block_size + sum(child.tsize for child in below or ())
            # The way down to the first leaf is a sample of what will be linked again without a look at it.
            for level in range(height - 1, 0, -1):
                below = self._children(level, 0, below[0].cid) if below is not None else None
            return _Part(cid, tsize) if below is not None else None
        is_raw = plain_codec(cid.codec) == RAW
        fits = is_raw == self._profile.raw_leaves and not load_file_node(self._get, cid, 0, DEFAULT).fields
        return _Part(cid, block_size) if fits else None

    def _children(self, height: int, start: int, cid: CID) -> list[_Part] | None:
        """What an old node links; None when it is not laid out as the profile does."""
        if cid in self._read:
            return self._read[cid]
        node = load_file_node(self._get, cid, start, DEFAULT)
        step, size = self._span(height - 1), min(self._span(height), self._patch.size - start)
        if node.data or node.bounds != [*range(0, size, step), size]:
            return None
        found = []
        for field in node.fields:
            binary, _, tsize = parse_field(field)
            found.append(_Part(CID(binary), tsize))
        raw = height == 1 and self._profile.raw_leaves
        fits = all((plain_codec(child.cid.codec) == RAW) == raw for child in (found[0], found[-1]))
        if start == 0:
            # Looked at to judge the root, and again on the way down.
            self._read[cid] = found if fits else None
        return found if fits else None

    def _node(self, height: int, start: int, old: dict[int, _Part]) -> _Part:
        """The node of a height that begins at ``start``; ``old`` has the old one of that place, or of one below it."""
        stop = min(start + self._span(height), self._total)
        patch, here = self._patch, old.get(height)
        if here is not None and stop == min(start + self._span(height), patch.size) and self._untouched(start, stop):
            return here
        hole = start >= patch.size and stop <= patch.start and stop - start == self._span(height)
        if hole and height in self._zeros:
            return self._zeros[height]
        made = self._made_leaf(start, stop, here) if height == 0 else self._made_node(height, start, stop, old)
        if hole:
            self._zeros[height] = made
        return made

    def _untouched(self, start: int, stop: int) -> bool:
        return stop <= self._patch.start or start >= self._patch.end

    def _made_leaf(self, start: int, stop: int, old: _Part | None) -> _Part:
        data = self._patch.read_range(start, stop, old.cid if old is not None else None)
        made = build_bytes(data, self._profile, self._put)
        return _Part(made.cid, made.tsize)

    def _made_node(self, height: int, start: int, stop: int, old: dict[int, _Part]) -> _Part:
        here, step, level = old.get(height), self._span(height - 1), Level()
        beside = self._children(height, start, here.cid) if here is not None else None
        for at, low in enumerate(range(start, stop, step)):
            if beside is not None and at < len(beside):
                below = {height - 1: beside[at]}
            else:
                # A new root stands above the old one: that one begins where the file does.
                below = old if here is None and at == 0 else {}
            child = self._node(height - 1, low, below)
            level.add(child.cid.binary, child.tsize, min(step, stop - low))
        return _Part(*level.write(self._profile.cid_head, self._put))
