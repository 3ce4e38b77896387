"""HAMT-sharded directories (specs.ipfs.tech/unixfs, as Kubo writes them): nodes whose links stay raw bytes.

A shard holds its occupied slots in ascending order. A slot is a raw link field (an entry, or a clean sub-shard) or a
loaded ``Shard``. An entry's link name is its slot in upper-case hex, as wide as the fanout needs, and then the name; a
sub-shard's is the slot alone. A sub-shard always has two entries or more: with one it collapses into its parent, so
the tree is a pure function of the entries.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_PB, plain_codec
from ipfs_kit.ipld.dag_pb import join, link_bytes
from ipfs_kit.ipld.unixfs._data import HASH_MURMUR3, TYPE_HAMT, decode_data, hamt_data
from ipfs_kit.ipld.unixfs._entry import linked, load
from ipfs_kit.ipld.unixfs._murmur3 import murmur3_x64_64
from ipfs_kit.ipld.unixfs._wire import Link, parse_field, split, tsize_sum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipfs_kit.ipld.unixfs._entry import Get, Put

_DATA_HEAD: Final = b"\x08\x05\x12"
_DATA_TAIL_256: Final = b"\x28\x22\x30\x80\x02"

_CACHED_SLOTS: Final = 131_072
"""Slots of clean shards kept parsed: about 12 MB, enough for the upper levels of a directory of millions."""


class Shape(NamedTuple):
    """What follows from a fanout."""

    fanout: int
    bits: int
    """Hash bits per level."""
    width: int
    """Hex digits of a slot number."""
    depth_max: int
    """Levels until the 64-bit hash is used up."""
    prefixes: tuple[bytes, ...]

    @classmethod
    def of(cls, fanout: int) -> Shape:
        """Return the shape of a fanout.

        Raises:
            FormatError: It is no power of two from 8 to the limit.
        """
        if not 8 <= fanout <= DEFAULT.hamt_fanout or fanout & (fanout - 1):
            raise FormatError(f"a HAMT fanout is a power of two from 8 to {DEFAULT.hamt_fanout}, not {fanout}")
        bits = fanout.bit_length() - 1
        width = len(f"{fanout - 1:X}")
        return cls(fanout, bits, width, 64 // bits, tuple(b"%0*X" % (width, i) for i in range(fanout)))

    def slot(self, hashed: int, depth: int) -> int:
        """Return the slot of a hash at a depth (0 is the root).

        Raises:
            InvalidInput: The hash has no bits left: two names share it whole.
        """
        if depth >= self.depth_max:
            raise InvalidInput("two names share one 64-bit hash, which a sharded directory cannot hold: rename one")
        return hashed >> 64 - self.bits * (depth + 1) & self.fanout - 1


class Shard:
    """One HAMT node."""

    __slots__ = ("bitmap", "dirty", "number", "origin", "slots", "tsum")

    def __init__(self, bitmap: int, slots: list[bytes | Shard], tsum: int, number: int = 0) -> None:
        self.bitmap = bitmap
        self.slots = slots
        self.tsum = tsum
        """Sum of the tsizes of the raw fields; loaded children are added when they are written."""
        self.number = number
        """Slot in the parent."""
        self.origin: bytes | None = None
        """The parent's field for this node, valid while the node is clean."""
        self.dirty = False


def parse_shard(cid: CID, block: bytes, fanout: int | None) -> tuple[int, int, list[bytes]]:
    """Return fanout, bitmap and link fields of a HAMT node.

    Raises:
        FormatError: It is no HAMT node, hashes otherwise than murmur3, differs in fanout from the root, or its bitmap
            does not fit its links.
    """
    fields, message = split(block)
    bits = message[4:-5]
    if message[:3] == _DATA_HEAD and message[3] == len(bits) <= 32 and message[-5:] == _DATA_TAIL_256:
        own = 256
    else:
        data = decode_data(message)
        if data.type != TYPE_HAMT or data.hash_type != HASH_MURMUR3 or data.fanout is None:
            raise FormatError(f"{cid} is no HAMT node with murmur3 hashing")
        own, bits = data.fanout, data.data
    bitmap = int.from_bytes(bits, "big")
    if fanout not in (None, own) or bitmap.bit_count() != len(fields) or bitmap >> own:
        raise FormatError(f"HAMT node {cid} has another fanout than its root, or a bitmap that does not fit its links")
    return own, bitmap, fields


class Hamt:
    """A sharded directory being read and edited.

    Args:
        get: Block source.
        cid_head: Bytes before the digest of CIDs written.
        fanout: Fanout of a new tree.
        base: An existing root; its own fanout counts.
    """

    def __init__(self, get: Get, cid_head: bytes, fanout: int, base: tuple[CID, bytes] | None = None) -> None:
        self._get = get
        self._cid_head = cid_head
        self._cache: OrderedDict[bytes, tuple[int, list[bytes], int]] = OrderedDict()
        self._cached = 0
        if base is None:
            self.root = Shard(0, [], 0)
            self._root_summed = True
        else:
            fanout, bitmap, fields = parse_shard(base[0], base[1], None)
            self.root = Shard(bitmap, list(fields), 0)
            # Adding up a root's links costs more than a lookup: done at the first flush.
            self._root_summed = False
        self.shape = Shape.of(fanout)

    def open(self, cid: bytes) -> tuple[int, list[bytes], int]:
        """Return bitmap, fields and block length of a clean shard; the list is shared and must not be changed."""
        cache = self._cache
        node = cache.get(cid)
        if node is None:
            address = CID(cid)
            if plain_codec(address.codec) != DAG_PB:
                raise FormatError(f"{address} stands where a HAMT node must be")
            block = load(self._get, address)
            _, bitmap, fields = parse_shard(address, block, self.shape.fanout)
            node = bitmap, fields, len(block)
            self._remember(cid, node)
        return node

    def _remember(self, cid: bytes, node: tuple[int, list[bytes], int]) -> None:
        if cid in self._cache:
            return
        self._cache[cid] = node
        self._cached += len(node[1])
        while self._cached > _CACHED_SLOTS:
            self._cached -= len(self._cache.popitem(last=False)[1][1])

    def _own(self, field: bytes, cid: bytes, tsize: int, number: int) -> Shard:
        """Load a sub-shard for editing."""
        bitmap, fields, block_size = self.open(cid)
        tsum = tsize - block_size
        if tsum < 0:
            tsum = tsize_sum(fields)
        shard = Shard(bitmap, list(fields), tsum, number)
        shard.origin = field
        return shard

    # Reading.

    def lookup(self, name: bytes) -> Link | None:
        """Return the entry of this name."""
        shape = self.shape
        hashed = murmur3_x64_64(name)
        bitmap = self.root.bitmap
        slots: list[bytes | Shard] = self.root.slots
        for depth in range(shape.depth_max):
            bit = 1 << shape.slot(hashed, depth)
            if not bitmap & bit:
                return None
            item = slots[(bitmap & bit - 1).bit_count()]
            if type(item) is Shard:
                bitmap, slots = item.bitmap, item.slots
                continue
            cid, label, tsize = parse_field(cast(bytes, item))
            if len(label) > shape.width:
                return Link(name, CID(cid), tsize) if label[shape.width :] == name else None
            bitmap, fields, _ = self.open(cid)
            slots = cast("list[bytes | Shard]", fields)
        return None

    def iterate(self, after: bytes | None = None) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield (name, binary CID, tsize) in hash order, beginning behind the name ``after``."""
        bound = None if after is None else murmur3_x64_64(after)
        return self._walk(self.root.bitmap, self.root.slots, 0, bound)

    def _walk(
        self, bitmap: int, slots: list[bytes | Shard], depth: int, bound: int | None
    ) -> Iterator[tuple[bytes, bytes, int]]:
        shape = self.shape
        if depth >= shape.depth_max:
            raise BudgetExceeded("the sharded directory is deeper than its hash has bits")
        at = 0
        edge = False
        if bound is not None:
            bit = 1 << shape.slot(bound, depth)
            at = (bitmap & bit - 1).bit_count()
            edge = bool(bitmap & bit)
        # A snapshot: the caller may edit between two entries.
        for item in slots[at:]:
            inner = bound if edge else None
            if type(item) is Shard:
                yield from self._walk(item.bitmap, item.slots, depth + 1, inner)
            else:
                cid, label, tsize = parse_field(cast(bytes, item))
                if len(label) > shape.width:
                    name = label[shape.width :]
                    if inner is None or murmur3_x64_64(name) > inner:
                        yield name, cid, tsize
                else:
                    sub_bitmap, fields, _ = self.open(cid)
                    yield from self._walk(sub_bitmap, cast("list[bytes | Shard]", fields), depth + 1, inner)
            edge = False

    # Editing.

    def set(self, name: bytes, cid: bytes, tsize: int) -> tuple[bytes, int] | None:
        """Add or replace an entry; returns binary CID and tsize of what it replaced."""
        return self._set(self.root, murmur3_x64_64(name), 0, name, cid, tsize)

    def _set(
        self, node: Shard, hashed: int, depth: int, name: bytes, cid: bytes, tsize: int
    ) -> tuple[bytes, int] | None:
        shape = self.shape
        number = shape.slot(hashed, depth)
        bit = 1 << number
        at = (node.bitmap & bit - 1).bit_count()
        if not node.bitmap & bit:
            node.slots.insert(at, link_bytes(cid, shape.prefixes[number] + name, tsize))
            node.bitmap |= bit
            node.tsum += tsize
            node.dirty = True
            return None
        item = node.slots[at]
        if type(item) is Shard:
            child = item
        else:
            field = cast(bytes, item)
            old_cid, label, old_tsize = parse_field(field)
            old_name = label[shape.width :]
            if old_name == name:
                if old_cid != cid or old_tsize != tsize:
                    node.slots[at] = link_bytes(cid, label, tsize)
                    node.tsum += tsize - old_tsize
                    node.dirty = True
                return old_cid, old_tsize
            if old_name:
                child = Shard(0, [], 0, number)
                self._set(child, murmur3_x64_64(old_name), depth + 1, old_name, old_cid, old_tsize)
            else:
                child = self._own(field, old_cid, old_tsize, number)
        old = self._set(child, hashed, depth + 1, name, cid, tsize)
        if item is not child:
            node.slots[at] = child
            node.tsum -= old_tsize
        node.dirty |= child.dirty
        return old

    def remove(self, name: bytes) -> tuple[bytes, int] | None:
        """Remove an entry; returns its binary CID and tsize, or None when there is none."""
        if self.lookup(name) is None:
            return None
        return self._remove(self.root, murmur3_x64_64(name), 0, name)

    def _remove(self, node: Shard, hashed: int, depth: int, name: bytes) -> tuple[bytes, int]:
        # The name is known to be present.
        shape = self.shape
        number = shape.slot(hashed, depth)
        bit = 1 << number
        at = (node.bitmap & bit - 1).bit_count()
        item = node.slots[at]
        node.dirty = True
        if type(item) is not Shard:
            field = cast(bytes, item)
            cid, label, tsize = parse_field(field)
            node.tsum -= tsize
            if len(label) > shape.width:
                del node.slots[at]
                node.bitmap &= ~bit
                return cid, tsize
            item = node.slots[at] = self._own(field, cid, tsize, number)
        removed = self._remove(item, hashed, depth + 1, name)
        if not item.slots:
            del node.slots[at]
            node.bitmap &= ~bit
        elif len(item.slots) == 1 and type(item.slots[0]) is bytes:
            cid, label, tsize = parse_field(item.slots[0])
            if len(label) > shape.width:
                node.slots[at] = link_bytes(cid, shape.prefixes[number] + label[shape.width :], tsize)
                node.tsum += tsize
        return removed

    # Writing.

    def clean_fields(self) -> list[bytes]:
        """Return the root's raw links while nothing was changed."""
        return [cast(bytes, item.origin) if type(item) is Shard else cast(bytes, item) for item in self.root.slots]

    def flush(self, put: Put) -> tuple[CID, int]:
        """Write every dirty shard, children first, and return CID and tsize of the root."""
        return self._flush(self.root, put)

    def _flush(self, node: Shard, put: Put) -> tuple[CID, int]:
        slots = node.slots
        for at, item in enumerate(slots):
            if type(item) is not Shard:
                continue
            if item.dirty or item.origin is None:
                cid, tsize = self._flush(item, put)
                field = link_bytes(cid.binary, self.shape.prefixes[item.number], tsize)
            else:
                field = item.origin
                tsize = parse_field(field)[2]
            slots[at] = field
            node.tsum += tsize
        fields = cast("list[bytes]", slots)
        if node is self.root and not self._root_summed:
            node.tsum = tsize_sum(fields)
            self._root_summed = True
        block = join(hamt_data(node.bitmap, self.shape.fanout), fields)
        cid = CID(self._cid_head + sha256(block).digest())
        cid = linked(put(cid, block), cid)
        node.dirty = False
        if node is not self.root:
            self._remember(cid.binary, (node.bitmap, fields, len(block)))
        return cid, len(block) + node.tsum


def write_sorted(
    items: list[tuple[int, bytes, bytes, int]], shape: Shape, cid_head: bytes, depth: int, put: Put
) -> tuple[int, list[bytes], int]:
    """Write the shards below one node for entries sorted by hash.

    Args:
        items: (hash, name, binary CID, tsize), sorted, names unique, all belonging to this node.
        shape: Shape of the tree.
        cid_head: Bytes before the digest of CIDs written.
        depth: Depth of the node itself, which is not written.
        put: Called with each block below the node.

    Returns:
        The node's bitmap, its fields and the sum of their tsizes.
    """
    bitmap = 0
    fields: list[bytes] = []
    tsum = 0
    at = 0
    end = len(items)
    while at < end:
        number = shape.slot(items[at][0], depth)
        stop = at + 1
        while stop < end and shape.slot(items[stop][0], depth) == number:
            stop += 1
        bitmap |= 1 << number
        if stop - at == 1:
            _, name, cid, tsize = items[at]
            fields.append(link_bytes(cid, shape.prefixes[number] + name, tsize))
        else:
            below = write_sorted(items[at:stop], shape, cid_head, depth + 1, put)
            block = join(hamt_data(below[0], shape.fanout), below[1])
            child = CID(cid_head + sha256(block).digest())
            child = linked(put(child, block), child)
            tsize = len(block) + below[2]
            fields.append(link_bytes(child.binary, shape.prefixes[number], tsize))
        tsum += tsize
        at = stop
    return bitmap, fields, tsum
