"""The metadata tree: one sorted, sharded dag-cbor index per folder, parallel to the UnixFS tree [21].

A folder's index maps each name to an :class:`Item`: what the UnixFS link says (CID, tsize) plus what it cannot say
(kind, size, mtime, mode, type, tags) and, for a folder, the CID of its own index. Hence ``ls`` and ``stat`` open no
child block.

The index is a tree of sorted runs. An item ends its run when the 32-bit word ``level % 8`` of SHA-256(name) is
divisible by ``RUN_TARGET`` and the run has two items, or when the run has ``RUN_MAX`` items; runs of a level are the
items of the next, named by their last name, until one run is left. So the index is a pure function of its items, a
change rewrites one run per level, and equal parts of two indexes are equal blocks. Byte tables:
``docs/format/buckets.md``.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import lt
from typing import Any, NamedTuple

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.paths import COMPONENT_BYTES_MAX, check_component
from ipfs_kit.errors import FormatError, InternalError, InvalidInput
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ipld.unixfs import Entry, Kind

Get = Callable[[CID], bytes]
Put = Callable[[CID, bytes], object]

FORMAT = 1
"""First element of every node; a reader refuses others by name."""
RUN_TARGET = 64
"""Mean items of a run: one changed item rewrites about 6 kB per level."""
RUN_MAX = 512
"""Longest run, so that names chosen to end no run still give bounded nodes."""
LEVELS_MAX = 32
"""Deepest index: runs have two items at least, so 2**32 names fit."""
NODES_CACHED = 1_024
"""Decoded nodes kept per index; about 20 kB each."""

_KINDS = {0: Kind.FILE, 1: Kind.DIR, 2: Kind.SYMLINK}
_KIND_CODES = {kind: code for code, kind in _KINDS.items()}
DIR_CODE = _KIND_CODES[Kind.DIR]
"""How a stored row says that it is a folder."""
KIND_NAMES = tuple(_KINDS[code].value for code in range(len(_KINDS)))
"""What callers see, by kind code."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a folder: the UnixFS link and its metadata.

    Args:
        binary: Binary CID of the UnixFS node.
        kind: File, folder or symbolic link.
        size: Content bytes of a file, target length of a link, 0 for a folder.
        tsize: Serialized bytes of the DAG below (dag-pb Tsize).
        mtime_ns: Modification time, where known.
        attrs: Only keys that are set, of ``mode``, ``type``, ``tags``, ``user``.
        meta: For a folder the CID of its index; None when it has none (yet).
    """

    binary: bytes
    kind: Kind
    size: int
    tsize: int
    mtime_ns: int | None = None
    attrs: Mapping[str, Any] | None = None
    meta: CID | None = None

    @property
    def cid(self) -> CID:
        """The CID of the UnixFS node."""
        return CID(self.binary)

    @property
    def is_dir(self) -> bool:
        """Whether this is a folder."""
        return self.kind is Kind.DIR

    def entry(self) -> Entry:
        """What a UnixFS directory needs to link this."""
        return Entry(cid=self.cid, tsize=self.tsize, kind=self.kind, size=self.size)

    @staticmethod
    def of(
        entry: Entry, *, mtime_ns: int | None = None, attrs: Mapping[str, Any] | None = None, meta: CID | None = None
    ) -> Item:
        """An item for a UnixFS entry."""
        return Item(bytes(entry.cid), entry.kind, entry.size, entry.tsize, mtime_ns, attrs or None, meta)

    def same_content(self, other: Item | None) -> bool:
        """Whether the other has the same bytes and kind, whatever its times and tags."""
        return other is not None and self.binary == other.binary and self.kind is other.kind

    def with_attrs(self, attrs: Mapping[str, Any] | None) -> Item:
        """The same entry with other attributes."""
        return replace(self, attrs=attrs or None)


class Totals(NamedTuple):
    """Sums over an index and every index below it."""

    entries: int
    """Entries of this folder alone."""
    files: int
    """Files and links in the whole subtree."""
    size_bytes: int
    """Their content bytes."""


Row = tuple[Any, ...]
"""A row as stored, without its name. Tuples of plain values cost the garbage collector nothing, lists 60 ms a pass."""


class _Node:
    """A decoded node: names, and beside each its row as stored."""

    __slots__ = ("_totals", "level", "names", "rows")

    def __init__(self, level: int, names: list[bytes], rows: list[Row]) -> None:
        self.level = level
        self.names = names
        self.rows = rows
        self._totals: Totals | None = None

    @property
    def totals(self) -> Totals:
        """Sums over the rows, made when first asked for."""
        if self._totals is None:
            self._totals = _sum_rows(self.level, self.rows)
        return self._totals


Edit = tuple[bytes, Item | None]


def pack_item(item: Item, totals: Totals | None) -> Row:
    """The stored row of an item, without its name."""
    files, size = (totals.files, totals.size_bytes) if totals is not None else (0, 0)
    return (
        _KIND_CODES[item.kind],
        item.binary,
        item.size,
        item.tsize,
        item.mtime_ns,
        dict(item.attrs) if item.attrs else None,
        [item.meta, files, size] if item.meta is not None else None,
    )


def unpack_item(row: Sequence[Any]) -> Item:
    """The item of a stored row.

    Raises:
        FormatError: the row is not one of ours.
    """
    try:
        kind, binary, size, tsize, mtime_ns, attrs, meta = row
        return Item(binary, _KINDS[kind], size, tsize, mtime_ns, attrs, meta[0] if meta is not None else None)
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        raise FormatError("a metadata row does not have the form of docs/format/buckets.md; run verify") from exc


class Index:
    """Reads and rewrites folder indexes over a block store; safe to use from any thread.

    Args:
        get: Bytes of a block; raises BlockNotFound.
    """

    def __init__(self, get: Get) -> None:
        self._get = get
        self._nodes: OrderedDict[bytes, _Node] = OrderedDict()
        self._lock = threading.Lock()

    def lookup(self, root: CID, name: bytes) -> Item | None:
        """The item of a name, reading one node per level."""
        node = self.node_at(root)
        while True:
            at = bisect_left(node.names, name)
            if at == len(node.names):
                return None
            if node.level == 0:
                return unpack_item(node.rows[at]) if node.names[at] == name else None
            node = self.child_of(node, at)

    def iterate(self, root: CID, after: bytes | None = None) -> Iterator[tuple[bytes, Item]]:
        """Names and items in byte order, from the first name greater than ``after``."""
        for names, rows, start in self._leaves(root, after):
            for at in range(start, len(names)):
                yield names[at], unpack_item(rows[at])

    def page(self, root: CID, after: bytes | None, limit: int) -> list[tuple[bytes, Row]]:
        """At most ``limit`` names and rows as stored, in byte order, from the first name greater than ``after``.

        For listings: a row is ``(kind code, binary CID, size, tsize, mtime_ns, attrs, below)``; see
        :func:`unpack_item`.
        """
        found: list[tuple[bytes, Row]] = []
        for names, rows, start in self._leaves(root, after):
            stop = start + limit - len(found)
            found.extend(zip(names[start:stop], rows[start:stop], strict=True))
            if len(found) >= limit:
                break
        return found

    def totals(self, root: CID) -> Totals:
        """Counts and sizes, from the root node alone."""
        return self.node_at(root).totals

    def update(self, root: CID | None, edits: Iterable[Edit], put: Put) -> CID:
        """The index with some names set or removed; writes only the nodes that change.

        Args:
            root: The index to start from; None for an empty one.
            edits: ``(name, item or None)``; the last of a name counts; removing an absent name does nothing.
            put: Stores a block.
        """
        rows: dict[bytes, Row | None] = {}
        for name, item in edits:
            if item is None:
                rows[name] = None
                continue
            totals = self.totals(item.meta) if item.meta is not None else None
            rows[name] = pack_item(item, totals)
        return self._rewrite(root, rows, put)

    def diff(self, left: CID | None, right: CID | None) -> Iterator[tuple[bytes, Item | None, Item | None]]:
        """Names whose rows differ, in byte order, without reading what both share."""
        if left == right:
            return
        for name, one, other in _merge_sorted(self._runs(left, right), self._runs(right, left)):
            if one != other:
                yield (
                    name,
                    unpack_item(one) if one is not None else None,
                    unpack_item(other) if other is not None else None,
                )

    def blocks(self, root: CID) -> Iterator[CID]:
        """Every node of this index alone, parents first, without the indexes of folders in it."""
        stack = [root]
        while stack:
            cid = stack.pop()
            yield cid
            node = self.node_at(cid)
            if node.level > 0:
                stack.extend(row[0] for row in reversed(node.rows))

    # -- reading -------------------------------------------------------------------------------------------------

    def node_at(self, cid: CID) -> _Node:
        """One node, decoded and checked."""
        key = bytes(cid)
        with self._lock:
            node = self._nodes.get(key)
            if node is not None:
                self._nodes.move_to_end(key)
                return node
        node = _decode(self._get(cid))
        self._remember(key, node)
        return node

    def _remember(self, key: bytes, node: _Node) -> None:
        with self._lock:
            self._nodes[key] = node
            if len(self._nodes) > NODES_CACHED:
                self._nodes.popitem(last=False)

    def child_of(self, node: _Node, at: int) -> _Node:
        """A child of an inner node.

        Raises:
            FormatError: it does not fit its parent.
        """
        child = self.node_at(node.rows[at][0])
        # A child one level down makes every descent end; its last name is what the parent promised.
        if child.level != node.level - 1 or not child.names or child.names[-1] != node.names[at]:
            raise FormatError("a metadata index node does not fit its parent; run verify")
        return child

    def _leaves(self, root: CID, after: bytes | None) -> Iterator[tuple[list[bytes], list[Row], int]]:
        stack: list[tuple[_Node, int]] = []
        node = self.node_at(root)
        while True:
            start = bisect_right(node.names, after) if after is not None else 0
            if node.level == 0:
                yield node.names, node.rows, start
            else:
                stack.append((node, start))
            while stack and stack[-1][1] >= len(stack[-1][0].names):
                stack.pop()
            if not stack:
                return
            parent, at = stack.pop()
            stack.append((parent, at + 1))
            node = self.child_of(parent, at)

    def _runs(self, root: CID | None, other: CID | None) -> Iterator[tuple[bytes, Row]]:
        """Rows of the leaves that the other index does not have as a whole."""
        if root is None:
            return
        shared = _NodeSet(self, other)
        top = self.node_at(root)
        if top.names and shared.holds(root, top.level, top.names[-1]):
            return
        stack: list[tuple[_Node, int]] = [(top, 0)]
        while stack:
            node, at = stack.pop()
            if node.level == 0:
                yield from zip(node.names, node.rows, strict=True)
                continue
            if at + 1 < len(node.names):
                stack.append((node, at + 1))
            # Asked before it is read: what both share is never loaded.
            if not shared.holds(_link(node.rows[at]), node.level - 1, node.names[at]):
                stack.append((self.child_of(node, at), 0))

    # -- rewriting -----------------------------------------------------------------------------------------------

    def _rewrite(self, root: CID | None, edits: dict[bytes, Row | None], put: Put) -> CID:
        top = self.node_at(root) if root is not None else None
        height = top.level if top is not None else -1
        level = 0
        while True:
            if level < height:
                assert top is not None
                edits = self._rewrite_level(top, level, edits, put)
                if not edits:
                    assert root is not None
                    return root
                level += 1
                continue
            merged = _apply(top if level == height else None, edits)
            if not merged:
                return _link(self._write(0, [], put)[1])
            if level > 0 and len(merged) == 1:
                return self._collapse(merged[0][1][0])
            runs = [self._write(level, run, put) for run in _split(level, merged)]
            if len(runs) == 1:
                return _link(runs[0][1])
            edits = dict(runs)
            level += 1
            if level >= LEVELS_MAX:
                raise InternalError("a metadata index grew past its deepest level")

    def _rewrite_level(
        self, top: _Node, level: int, edits: dict[bytes, Row | None], put: Put
    ) -> dict[bytes, Row | None]:
        """Apply edits to one level below the root; returns the edits this makes in the level above."""
        ups: dict[bytes, Row | None] = {}
        pending = sorted(edits.items())
        at = 0
        while at < len(pending):
            cursor = _Cursor(self, top, level, pending[at][0])
            rows: list[tuple[bytes, Row]] = []
            while True:
                node, last_name, is_last = cursor.node, cursor.last_name, cursor.is_last
                ups.setdefault(last_name, None)
                stop = at
                while stop < len(pending) and (is_last or pending[stop][0] <= last_name):
                    stop += 1
                rows.extend(_apply(node, dict(pending[at:stop])))
                at = stop
                done, rows = _split_open(level, rows)
                for run in done:
                    ups.update([self._write(level, run, put)])
                if is_last:
                    if rows:
                        ups.update([self._write(level, rows, put)])
                    break
                if not rows:
                    break
                cursor.advance()
        return {name: row for name, row in ups.items() if row != _row_at(self, top, level + 1, name)}

    def _write(self, level: int, run: list[tuple[bytes, Row]], put: Put) -> tuple[bytes, Row]:
        node = _Node(level, [name for name, _ in run], [row for _, row in run])
        data = dag_cbor.encode([FORMAT, level, [[name, *row] for name, row in run]])
        cid = CID.of(data, DAG_CBOR)
        answer = put(cid, data)
        # A store that encrypts answers with the CID to link to.
        cid = answer if isinstance(answer, CID) else cid
        self._remember(bytes(cid), node)
        return (node.names[-1] if node.names else b""), (cid, *node.totals)

    def _collapse(self, cid: CID) -> CID:
        node = self.node_at(cid)
        while node.level > 0 and len(node.rows) == 1:
            cid = node.rows[0][0]
            node = self.node_at(cid)
        return cid


class _Cursor:
    """Walks the nodes of one level from left to right, beginning at the one that holds a name."""

    def __init__(self, index: Index, top: _Node, level: int, name: bytes) -> None:
        self._index = index
        self._level = level
        self._stack: list[tuple[_Node, int]] = []
        node = top
        while node.level > level:
            at = min(bisect_left(node.names, name), len(node.names) - 1)
            self._stack.append((node, at))
            node = index.child_of(node, at)
        self.node = node

    @property
    def last_name(self) -> bytes:
        """Name under which the level above knows the present node."""
        return self.node.names[-1]

    @property
    def is_last(self) -> bool:
        """Whether no node of the level follows."""
        return all(at == len(node.names) - 1 for node, at in self._stack)

    def advance(self) -> None:
        """Go to the next node; there must be one."""
        while self._stack[-1][1] == len(self._stack[-1][0].names) - 1:
            self._stack.pop()
        node, at = self._stack.pop()
        self._stack.append((node, at + 1))
        child = self._index.child_of(node, at + 1)
        while child.level > self._level:
            self._stack.append((child, 0))
            child = self._index.child_of(child, 0)
        self.node = child


class _NodeSet:
    """Tells whether an index has a node, by descending to the place where it would be."""

    def __init__(self, index: Index, root: CID | None) -> None:
        self._index = index
        self._root = root

    def holds(self, cid: CID, level: int, last_name: bytes) -> bool:
        """Whether the node ``cid``, known by its level and last name, is one of the index."""
        if self._root is None:
            return False
        if cid == self._root:
            return True
        at = self._index.node_at(self._root)
        while at.level > level:
            place = bisect_left(at.names, last_name)
            if place == len(at.names):
                return False
            if at.rows[place][0] == cid:
                return True
            if at.level - 1 == level:
                return False
            at = self._index.child_of(at, place)
        return False


def _link(row: Row) -> CID:
    """The node a row of an inner level links."""
    link = row[0]
    assert isinstance(link, CID)
    return link


def _row_at(index: Index, top: _Node, level: int, name: bytes) -> Row | None:
    node = top
    while True:
        at = bisect_left(node.names, name)
        if at == len(node.names):
            return None
        if node.level == level:
            return node.rows[at] if node.names[at] == name else None
        node = index.child_of(node, at)


def _apply(node: _Node | None, edits: dict[bytes, Row | None]) -> list[tuple[bytes, Row]]:
    """Sorted rows of a node with edits applied."""
    if node is None or not node.names:
        return [(name, row) for name, row in sorted(edits.items()) if row is not None]
    rows: dict[bytes, Row] = dict(zip(node.names, node.rows, strict=True))
    grown = False
    for name, row in edits.items():
        if row is None:
            rows.pop(name, None)
        else:
            grown = grown or name not in rows
            rows[name] = row
    return sorted(rows.items()) if grown else list(rows.items())


def _ends_run(level: int, name: bytes, length: int) -> bool:
    if length >= RUN_MAX:
        return True
    if length < 2:
        return False
    word = 4 * (level % 8)
    return int.from_bytes(hashlib.sha256(name).digest()[word : word + 4]) % RUN_TARGET == 0


def _split_open(
    level: int, rows: list[tuple[bytes, Row]]
) -> tuple[list[list[tuple[bytes, Row]]], list[tuple[bytes, Row]]]:
    """Runs that end, and the rows after the last end."""
    done: list[list[tuple[bytes, Row]]] = []
    start = 0
    for at, (name, _) in enumerate(rows):
        if _ends_run(level, name, at - start + 1):
            done.append(rows[start : at + 1])
            start = at + 1
    return done, rows[start:]


def _split(level: int, rows: list[tuple[bytes, Row]]) -> list[list[tuple[bytes, Row]]]:
    done, rest = _split_open(level, rows)
    return [*done, rest] if rest else done


def _sum_rows(level: int, rows: list[Row]) -> Totals:
    if level > 0:
        return Totals(sum(row[1] for row in rows), sum(row[2] for row in rows), sum(row[3] for row in rows))
    files = size = 0
    for row in rows:
        if row[0] != 1:
            files += 1
            size += row[2]
        elif row[6] is not None:
            files += row[6][1]
            size += row[6][2]
    return Totals(len(rows), files, size)


def _decode(data: bytes) -> _Node:
    try:
        # Only this layer writes index nodes, and no import brings them in: trees that arrive get theirs made here.
        value = dag_cbor.decode(data, own=True)
        form, level, rows = value
        if form != FORMAT or not isinstance(level, int) or not 0 <= level < LEVELS_MAX:
            raise FormatError("a metadata index node has a form this build does not read; upgrade ipfs-kit-py")
        node = _Node(level, [row[0] for row in rows], [tuple(row[1:]) for row in rows])
    except (InvalidInput, ValueError, TypeError, IndexError, KeyError) as exc:
        raise FormatError("a metadata index node does not parse; run verify") from exc
    _check(node)
    return node


def _check(node: _Node) -> None:
    names, rows = node.names, node.rows
    if not names:
        return
    width = 7 if node.level == 0 else 4
    # One pass in C for each question: a listing decodes ten thousands of rows a second.
    if set(map(len, rows)) != {width} or set(map(type, names)) != {bytes} or not all(map(lt, names, names[1:])):
        raise FormatError("a metadata index node is out of order; run verify")
    together = b"".join(names)
    # Common names need no closer look; anything else is judged where all names are.
    if b"/" in together or b"\0" in together or min(map(len, names)) < 3 or max(map(len, names)) > COMPONENT_BYTES_MAX:
        for name in names:
            check_component(name)


def _merge_sorted(
    left: Iterator[tuple[bytes, Row]], right: Iterator[tuple[bytes, Row]]
) -> Iterator[tuple[bytes, Row | None, Row | None]]:
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one[0], one[1], None
            one = next(left, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(right, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(left, None), next(right, None)
