"""What differs between two directories, at a cost that follows the difference.

Two HAMT nodes are compared by the raw bytes of their links: only sub-shards whose links differ are read. Two plain
directories are compared by theirs. A plain directory against a sharded one (the threshold was crossed), or two fanouts,
have no nodes in common: every entry is read and looked up on the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from ipfs_kit.errors import FormatError, InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_PB, plain_codec
from ipfs_kit.ipld.unixfs._data import DIRECTORY_DATA, TYPE_DIRECTORY, TYPE_HAMT, decode_data
from ipfs_kit.ipld.unixfs._directory import Directory
from ipfs_kit.ipld.unixfs._entry import load
from ipfs_kit.ipld.unixfs._hamt import parse_shard
from ipfs_kit.ipld.unixfs._profiles import PROFILES
from ipfs_kit.ipld.unixfs._wire import Link, parse_field, split

Get = Callable[[CID], bytes]
Pair = tuple[bytes, Link | None, Link | None]

# Only read through: no profile's rule on writing matters.
_READING: Final = next(iter(PROFILES.values()))


class _Side(NamedTuple):
    """The root of one directory."""

    cid: CID
    fields: list[bytes]
    fanout: int
    """0 for a plain directory."""


class _Slot(NamedTuple):
    """One parsed link of a HAMT node."""

    number: bytes
    name: bytes
    """Empty for a sub-shard."""
    cid: bytes
    tsize: int

    def link(self) -> Link:
        return Link(self.name, CID(self.cid), self.tsize)


def diff_links(get: Get, left: CID | None, right: CID | None) -> Iterator[Pair]:
    """Names whose links differ: ``(name, left link or None, right link or None)``, each name once.

    Links are compared by CID. The order is that of the trees: byte order of names between plain directories, slot order
    between sharded ones.

    Args:
        get: Block source.
        left: Root of one directory; None for none.
        right: Root of the other.

    Raises:
        FormatError: A node does not parse.
        InvalidInput: A root is no directory.
    """
    if left == right:
        return
    one = _open(get, left) if left is not None else None
    other = _open(get, right) if right is not None else None
    if one is not None and other is not None and one.fanout and other.fanout:
        if one.fanout == other.fanout:
            yield from _shards(get, one.fields, other.fields, one.fanout, 0)
        else:
            yield from _by_lookup(get, one, other)
    elif one is not None and one.fanout:
        yield from _streamed(get, one, other, swap=False)
    elif other is not None and other.fanout:
        yield from _streamed(get, other, one, swap=True)
    else:
        yield from _plain(one.fields if one is not None else [], other.fields if other is not None else [])


def _open(get: Get, cid: CID) -> _Side:
    if plain_codec(cid.codec) != DAG_PB:
        raise InvalidInput(f"{cid} is no directory: its codec is {cid.codec:#x}; name a directory")
    block = load(get, cid)
    fields, message = split(block)
    kind = TYPE_DIRECTORY if message == DIRECTORY_DATA else decode_data(message).type
    if kind == TYPE_DIRECTORY:
        return _Side(cid, fields, 0)
    if kind != TYPE_HAMT:
        raise InvalidInput(f"{cid} is a file or symlink: name a directory")
    fanout, _, fields = parse_shard(cid, block, None)
    if fanout < 2:
        raise FormatError(f"{cid} is a HAMT with a fanout below 2")
    return _Side(cid, fields, fanout)


def _only(fields: list[bytes], others: list[bytes]) -> list[bytes]:
    """Fields that the other node does not have byte for byte, in order."""
    known = set(others)
    return [field for field in fields if field not in known]


def _width(fanout: int) -> int:
    return len(f"{fanout - 1:X}")


# -- plain against plain -------------------------------------------------------------------------------------------


def _table(fields: list[bytes]) -> dict[bytes, Link]:
    table: dict[bytes, Link] = {}
    for field in fields:
        cid, name, tsize = parse_field(field)
        if name in table:
            raise FormatError(f"a directory holds the name {name[:80]!r} twice")
        table[name] = Link(name, CID(cid), tsize)
    return table


def _plain(left: list[bytes], right: list[bytes]) -> Iterator[Pair]:
    one, other = _table(_only(left, right)), _table(_only(right, left))
    for name in sorted(one.keys() | other.keys()):
        before, after = one.get(name), other.get(name)
        if before is None or after is None or before.cid != after.cid:
            yield name, before, after


# -- sharded against sharded ---------------------------------------------------------------------------------------


def _slots(fields: list[bytes], width: int) -> dict[bytes, _Slot]:
    slots: dict[bytes, _Slot] = {}
    for field in fields:
        cid, label, tsize = parse_field(field)
        slot = _Slot(label[:width], label[width:], cid, tsize)
        if len(label) < width or slot.number in slots:
            raise FormatError("a HAMT node has two links in one slot, or a link without slot number")
        slots[slot.number] = slot
    return slots


def _read(get: Get, slot: _Slot, fanout: int) -> list[bytes]:
    cid = CID(slot.cid)
    if plain_codec(cid.codec) != DAG_PB:
        raise FormatError(f"{cid} stands where a HAMT node must be")
    return parse_shard(cid, load(get, cid), fanout)[2]


def _shards(get: Get, left: list[bytes], right: list[bytes], fanout: int, depth: int) -> Iterator[Pair]:
    if depth >= DEFAULT.hamt_depth:
        raise FormatError("a sharded directory is deeper than its hash has bits")
    width = _width(fanout)
    ones, others = _slots(_only(left, right), width), _slots(_only(right, left), width)
    for number in sorted(ones.keys() | others.keys()):
        one, other = ones.get(number), others.get(number)
        if one is not None and other is not None:
            if one.cid == other.cid and one.name == other.name:
                continue
            if not one.name and not other.name:
                yield from _shards(get, _read(get, one, fanout), _read(get, other, fanout), fanout, depth + 1)
                continue
        yield from _slot_pair(get, one, other, fanout, depth)


def _slot_pair(get: Get, one: _Slot | None, other: _Slot | None, fanout: int, depth: int) -> Iterator[Pair]:
    """One slot of which at most one side is a sub-shard."""
    if one is not None and (other is None or other.name):
        # ``one`` may be a sub-shard: stream it against the single entry of the other side, if any.
        single = other.link() if other is not None else None
        for link in _entries(get, one, fanout, depth):
            if single is None or link.name != single.name:
                yield link.name, link, None
            else:
                if link.cid != single.cid:
                    yield link.name, link, single
                single = None
        if single is not None:
            yield single.name, None, single
    elif other is not None:
        for name, before, after in _slot_pair(get, other, one, fanout, depth):
            yield name, after, before


def _entries(get: Get, slot: _Slot, fanout: int, depth: int) -> Iterator[Link]:
    """The entries in a slot: one, or those of its sub-shard."""
    if slot.name:
        yield slot.link()
    else:
        yield from _all(get, _read(get, slot, fanout), fanout, depth + 1)


def _all(get: Get, fields: list[bytes], fanout: int, depth: int) -> Iterator[Link]:
    """Every entry below a node, in slot order."""
    if depth >= DEFAULT.hamt_depth:
        raise FormatError("a sharded directory is deeper than its hash has bits")
    width = _width(fanout)
    for field in fields:
        cid, label, tsize = parse_field(field)
        yield from _entries(get, _Slot(label[:width], label[width:], cid, tsize), fanout, depth)


# -- no nodes in common --------------------------------------------------------------------------------------------


def _streamed(get: Get, sharded: _Side, plain: _Side | None, *, swap: bool) -> Iterator[Pair]:
    """A sharded directory against a plain one, which fits into memory, or against nothing."""
    table = _table(plain.fields) if plain is not None else {}
    for link in _all(get, sharded.fields, sharded.fanout, 0):
        match = table.pop(link.name, None)
        if match is None or match.cid != link.cid:
            yield (link.name, match, link) if swap else (link.name, link, match)
    for name in sorted(table):
        yield (name, table[name], None) if swap else (name, None, table[name])


def _by_lookup(get: Get, one: _Side, other: _Side) -> Iterator[Pair]:
    left, right = Directory(_READING, get, one.cid), Directory(_READING, get, other.cid)
    for link in _all(get, one.fields, one.fanout, 0):
        match = right.lookup(link.name)
        if match is None or match.cid != link.cid:
            yield link.name, link, match
    for link in _all(get, other.fields, other.fanout, 0):
        if left.lookup(link.name) is None:
            yield link.name, None, link
