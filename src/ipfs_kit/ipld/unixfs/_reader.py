"""Reading files: any range of any layout (balanced, trickle, inline data), touching only the blocks it needs."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW, plain_codec
from ipfs_kit.ipld.unixfs._data import TYPE_DIRECTORY, TYPE_FILE, TYPE_HAMT, TYPE_RAW, Data
from ipfs_kit.ipld.unixfs._entry import load, load_node
from ipfs_kit.ipld.unixfs._wire import parse_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_kit.ipld.unixfs._entry import Get


class FileNode:
    """One node of a file's DAG: inline data first, then its children in order."""

    __slots__ = ("bounds", "data", "end", "fields", "start")

    def __init__(self, start: int, data: bytes, fields: list[bytes], bounds: list[int]) -> None:
        self.start = start
        self.end = start + bounds[-1]
        self.data = data
        self.fields = fields
        self.bounds = bounds
        """Offsets of the children within the node, and the node's size last."""

    def child(self, index: int) -> tuple[CID, int]:
        """Return a child's CID and the content size the node states for it."""
        return CID(parse_field(self.fields[index])[0]), self.bounds[index + 1] - self.bounds[index]


def load_file_node(get: Get, cid: CID, start: int, budgets: Budgets) -> FileNode:
    """Load and check one node of a file.

    Raises:
        FormatError: It does not parse, is no file node, or its sizes do not add up.
        InvalidInput: It is a directory or symlink.
        BudgetExceeded: It claims more content than is allowed.
    """
    if plain_codec(cid.codec) == RAW:
        block = load(get, cid, budgets)
        return FileNode(start, block, [], [len(block)])
    fields, data, block_size = load_node(get, cid, budgets)
    if data.type not in (TYPE_FILE, TYPE_RAW):
        what = "a directory" if data.type in (TYPE_DIRECTORY, TYPE_HAMT) else "no file"
        raise InvalidInput(f"{cid} is {what}: name a file")
    bounds = _bounds(cid, data, len(fields))
    size = bounds[-1]
    if size > budgets.logical_bytes:
        raise BudgetExceeded(f"file {cid} claims {size} bytes, more than {budgets.logical_bytes}")
    if not fields and size > block_size:
        raise FormatError(f"file node {cid} claims {size} bytes without holding them")
    return FileNode(start, data.data, fields, bounds)


def _bounds(cid: CID, data: Data, links: int) -> list[int]:
    if len(data.blocksizes) != links:
        raise FormatError(f"file node {cid} has {links} links but {len(data.blocksizes)} block sizes")
    bounds = list(accumulate(data.blocksizes, initial=len(data.data)))
    if data.filesize is not None and data.filesize != bounds[-1]:
        raise FormatError(f"file node {cid} states {data.filesize} bytes, its parts add up to {bounds[-1]}")
    return bounds


class _Cursor:
    """The path from the root to the leaf last read; moving to a near leaf reloads only what differs."""

    def __init__(self, cid: CID, get: Get, budgets: Budgets) -> None:
        self._get = get
        self._budgets = budgets
        root = load_file_node(get, cid, 0, budgets)
        self._path = [root]
        self.size = root.end
        self._leaf: bytes = b""
        self._leaf_start = 0

    def part(self, position: int) -> tuple[bytes, int]:
        """Return the leaf data holding ``position`` (below ``size``) and the index of that byte in it."""
        index = position - self._leaf_start
        if 0 <= index < len(self._leaf):
            return self._leaf, index
        path = self._path
        while len(path) > 1 and not path[-1].start <= position < path[-1].end:
            path.pop()
        node = path[-1]
        while True:
            index = position - node.start
            if index < len(node.data):
                self._leaf = node.data
                self._leaf_start = node.start
                return node.data, index
            if len(path) > self._budgets.file_depth:
                raise BudgetExceeded(f"the file's tree is deeper than {self._budgets.file_depth} levels")
            # bisect_right passes over empty children, which start where their right neighbour does.
            at = bisect_right(node.bounds, index) - 1
            cid, size = node.child(at)
            child = load_file_node(self._get, cid, node.start + node.bounds[at], self._budgets)
            if child.end - child.start != size:
                raise FormatError(f"block {cid} holds {child.end - child.start} content bytes, its parent says {size}")
            node = child
            if node.fields:
                path.append(node)


class FileReader(io.RawIOBase):
    """A seekable binary stream over a UnixFS file, raw block or identity CID.

    Args:
        cid: Root of the file.
        get: Block source; it verifies blocks against their CIDs.
        budgets: Bounds on depth, links and claimed size.

    Raises:
        InvalidInput: The CID names a directory or symlink.
        FormatError: The root is no file node.
    """

    def __init__(self, cid: CID, get: Get, budgets: Budgets = DEFAULT) -> None:
        super().__init__()
        self.cid = cid
        self._cursor = _Cursor(cid, get, budgets)
        self._position = 0

    @property
    def size(self) -> int:
        """Content bytes of the file."""
        return self._cursor.size

    def readable(self) -> bool:
        """Whether the stream can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether the stream can seek: always."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; past the end is allowed and reads nothing."""
        self._check_open()
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise InvalidInput(f"cannot seek to {offset} from {whence}: the position would be invalid")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end; everything left when negative."""
        self._check_open()
        left = self.size - self._position
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        data, index = self._cursor.part(self._position)
        if index + wanted <= len(data):
            self._position += wanted
            return data if wanted == len(data) else data[index : index + wanted]
        parts = bytearray()
        for part in self._parts(wanted):
            parts += part
        return bytes(parts)

    def readall(self) -> bytes:
        """Return everything from the position to the end."""
        return self.read(-1)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # Buffer is 3.12 typing
        """Fill the buffer; fewer bytes only at the end."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        at = 0
        for part in self._parts(min(len(view), max(0, self.size - self._position))):
            view[at : at + len(part)] = part
            at += len(part)
        return at

    def _parts(self, wanted: int) -> Iterator[memoryview]:
        while wanted > 0:
            data, index = self._cursor.part(self._position)
            part = memoryview(data)[index : index + wanted]
            self._position += len(part)
            wanted -= len(part)
            yield part

    def _check_open(self) -> None:
        if self.closed:
            raise InvalidInput("the file is closed: open it again")


def open_file(cid: CID, get: Get, budgets: Budgets = DEFAULT) -> FileReader:
    """Open a file for reading; see ``FileReader``."""
    return FileReader(cid, get, budgets)


def iter_range(
    cid: CID, get: Get, offset: int = 0, length: int | None = None, budgets: Budgets = DEFAULT
) -> Iterator[memoryview]:
    """Yield the content of a byte range, one piece per leaf and without copies.

    Args:
        cid: Root of the file.
        get: Block source.
        offset: First byte; past the end gives nothing.
        length: Bytes at most; None means to the end.
        budgets: Bounds on depth, links and claimed size.

    Raises:
        InvalidInput: A negative offset or length, or the CID names no file.
        FormatError: Sizes do not add up with the real bytes.
    """
    if offset < 0 or (length is not None and length < 0):
        raise InvalidInput("offset and length of a range cannot be negative")
    cursor = _Cursor(cid, get, budgets)
    end = cursor.size if length is None else min(cursor.size, offset + length)
    while offset < end:
        data, index = cursor.part(offset)
        part = memoryview(data)[index : index + end - offset]
        offset += len(part)
        yield part
