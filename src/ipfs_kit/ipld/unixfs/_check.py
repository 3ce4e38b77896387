"""The strict check of an arriving UnixFS tree: everything later code relies on, in time linear in distinct blocks."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, FormatError
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_PB, RAW
from ipfs_kit.ipld.unixfs._data import TYPE_DIRECTORY, TYPE_FILE, TYPE_HAMT, TYPE_RAW, TYPE_SYMLINK, decode_data
from ipfs_kit.ipld.unixfs._directory import check_name
from ipfs_kit.ipld.unixfs._entry import load
from ipfs_kit.ipld.unixfs._hamt import Shape, parse_shard
from ipfs_kit.ipld.unixfs._murmur3 import murmur3_x64_64
from ipfs_kit.ipld.unixfs._reader import load_file_node
from ipfs_kit.ipld.unixfs._wire import parse_field, split, tsize_sum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_kit.ipld.unixfs._entry import Get

_ENTRIES_MAX: Final = 1 << 62
"""Logical entries: a DAG of directories that repeat can claim any number."""


@dataclass(frozen=True, slots=True)
class TreeReport:
    """What a checked tree holds; repeated subtrees count in ``entries`` and ``content_bytes`` each time they appear."""

    entries: int
    """Directory entries, at every level."""
    content_bytes: int
    """Bytes of all files."""
    blocks: int
    """Distinct blocks."""
    block_bytes: int
    """Their bytes."""


@dataclass(slots=True)
class _Frame:
    """A directory being walked."""

    cid: CID
    children: Iterator[CID]
    entries: int = 0
    content_bytes: int = 0


def check_tree(cid: CID, get: Get, budgets: Budgets = DEFAULT) -> TreeReport:
    """Verify a file, directory or symlink and everything below it.

    Checked: names legal, unique and in order; HAMT positions equal to the name hash, prefixes, bitmaps, minimal shape
    and shard sizes; file sizes that add up with the real bytes; symlink targets; depth, counts and claimed sizes within
    budgets. ``get`` verifies blocks against their CIDs.

    Raises:
        FormatError: A structure is wrong.
        InvalidPath: A name is illegal.
        BudgetExceeded: The tree is deeper or claims more than allowed.
        BlockNotFound: A block is absent.
    """
    checker = _Checker(get, budgets)
    entries, content_bytes = checker.run(cid)
    if content_bytes > budgets.logical_ratio * max(1, checker.block_bytes):
        raise BudgetExceeded(
            f"{cid} claims {content_bytes} bytes in {checker.block_bytes} bytes of blocks: refused as a bomb"
        )
    return TreeReport(entries, content_bytes, len(checker.sizes) + checker.shards, checker.block_bytes)


@dataclass(slots=True)
class _Checker:
    get: Get
    budgets: Budgets
    # Logical (entries, content bytes) below each node that was checked, by binary CID.
    sizes: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    block_bytes: int = 0
    shards: int = 0
    """HAMT nodes below roots. They stay out of ``sizes``: as a directory of its own a shard must fail its check."""

    def run(self, root: CID) -> tuple[int, int]:
        frame = self._visit(root)
        stack = [] if frame is None else [frame]
        while stack:
            frame = stack[-1]
            child = next(frame.children, None)
            if child is None:
                stack.pop()
                done = (frame.entries, frame.content_bytes)
                self.sizes[frame.cid.binary] = done
                if stack:
                    self._add(stack[-1], done)
                continue
            known = self.sizes.get(child.binary)
            inner = None if known is not None else self._visit(child)
            if inner is None:
                self._add(frame, known or self.sizes[child.binary])
            elif len(stack) >= self.budgets.path_components:
                raise BudgetExceeded(f"directories nest deeper than {self.budgets.path_components}")
            else:
                stack.append(inner)
        return self.sizes[root.binary]

    def _add(self, frame: _Frame, below: tuple[int, int]) -> None:
        frame.entries += below[0] + 1
        frame.content_bytes += below[1]
        if frame.content_bytes > self.budgets.logical_bytes or frame.entries > _ENTRIES_MAX:
            raise BudgetExceeded(f"directory {frame.cid} claims more content than {self.budgets.logical_bytes} bytes")

    def _load(self, cid: CID) -> bytes:
        """Load a block that is seen for the first time."""
        block = load(self.get, cid, self.budgets)
        self.block_bytes += len(block)
        if len(self.sizes) + self.shards >= self.budgets.dag_nodes:
            raise BudgetExceeded(f"the tree has more than {self.budgets.dag_nodes} blocks")
        return block

    def _visit(self, cid: CID) -> _Frame | None:
        """Check one node; a directory comes back as a frame, anything else is checked whole."""
        if cid.codec == RAW:
            self.sizes[cid.binary] = (0, len(self._load(cid)))
            return None
        if cid.codec != DAG_PB:
            raise FormatError(f"{cid} is no UnixFS node: its codec is {cid.codec:#x}")
        block = self._load(cid)
        fields, message = split(block)
        data = decode_data(message, self.budgets)
        if data.type == TYPE_DIRECTORY:
            self.sizes[cid.binary] = (0, 0)
            return _Frame(cid, self._plain(cid, fields))
        if data.type == TYPE_HAMT:
            self.sizes[cid.binary] = (0, 0)
            return _Frame(cid, self._sharded(cid, block))
        if data.type in (TYPE_FILE, TYPE_RAW):
            self.block_bytes -= len(block)  # the walk of the file loads its root again
            self._file(cid)
            return None
        if data.type == TYPE_SYMLINK and not fields and 0 < len(data.data) <= self.budgets.symlink_bytes:
            self.sizes[cid.binary] = (0, 0)
            return None
        raise FormatError(f"{cid} is no file or directory, or a symlink without a proper target")

    def _plain(self, cid: CID, fields: list[bytes]) -> Iterator[CID]:
        self._count_links(cid, len(fields))
        last = b""
        for link in fields:
            child, name, _ = parse_field(link)
            check_name(name)
            if name <= last:
                raise FormatError(f"directory {cid} has names twice or out of order at {name!r}")
            last = name
            yield CID(child)

    def _count_links(self, cid: CID, count: int) -> None:
        if count > self.budgets.links_per_node:
            raise BudgetExceeded(f"{cid} has {count} links, more than {self.budgets.links_per_node}")

    def _sharded(self, root: CID, block: bytes) -> Iterator[CID]:
        fanout, bitmap, fields = parse_shard(root, block, None)
        shape = Shape.of(fanout)
        # (slots of the path so far as one integer, its depth, cid, bitmap, fields): depth first, bounded by the hash.
        stack = [(0, 0, root, bitmap, fields)]
        while stack:
            path, depth, cid, bitmap, fields = stack.pop()
            numbers = _set_bits(bitmap)
            for number, link in zip(numbers, fields, strict=True):
                child, label, tsize = parse_field(link)
                if label[: shape.width] != shape.prefixes[number]:
                    raise FormatError(f"HAMT node {cid} has a link whose prefix is not its slot {number}")
                where = path << shape.bits | number
                name = label[shape.width :]
                if name:
                    check_name(name)
                    if murmur3_x64_64(name) >> 64 - shape.bits * (depth + 1) != where:
                        raise FormatError(f"HAMT node {cid} holds {name!r} in a place that is not its hash")
                    yield CID(child)
                    continue
                if depth + 1 >= min(shape.depth_max, self.budgets.hamt_depth):
                    raise BudgetExceeded(f"HAMT {root} is deeper than its hash has bits")
                below = CID(child)
                stack.append((where, depth + 1, below, *self._shard(below, fanout, tsize, shape.width)))

    def _shard(self, cid: CID, fanout: int, tsize: int, width: int) -> tuple[int, list[bytes]]:
        if cid.codec != DAG_PB:
            raise FormatError(f"{cid} stands where a HAMT node must be")
        block = self._load(cid)
        self.shards += 1
        _, bitmap, fields = parse_shard(cid, block, fanout)
        if len(fields) < 2 and (not fields or len(parse_field(fields[0])[1]) > width):
            raise FormatError(f"HAMT node {cid} has fewer than two entries and should be part of its parent")
        if tsize != len(block) + tsize_sum(fields):
            raise FormatError(f"the link to HAMT node {cid} states a wrong size")
        return bitmap, fields

    def _file(self, root: CID) -> None:
        """Check a file: each node against its own parts and against what its parents say of it."""
        sizes = self.sizes
        stack: list[tuple[CID, int | None, int]] = [(root, None, 0)]
        while stack:
            cid, stated, depth = stack.pop()
            known = sizes.get(cid.binary)
            if known is not None:
                size = known[1]
            else:
                if depth > self.budgets.file_depth:
                    raise BudgetExceeded(f"file {root} is deeper than {self.budgets.file_depth} levels")
                node = load_file_node(self._load, cid, 0, self.budgets)
                size = node.end
                sizes[cid.binary] = (0, size)
                for index in range(len(node.fields)):
                    child, expected = node.child(index)
                    stack.append((child, expected, depth + 1))
            if stated is not None and size != stated:
                raise FormatError(f"block {cid} holds {size} content bytes, its parent says {stated}")


def _set_bits(bitmap: int) -> list[int]:
    numbers = []
    while bitmap:
        low = bitmap & -bitmap
        numbers.append(low.bit_length() - 1)
        bitmap ^= low
    return numbers
