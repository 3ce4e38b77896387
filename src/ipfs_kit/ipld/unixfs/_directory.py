"""Directories: a mutable view over an immutable base, loaded lazily and written back node by node."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from hashlib import sha256
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final, cast

from ipfs_kit.errors import AlreadyExists, FormatError, InvalidInput, InvalidPath
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_PB, SHA2_256, plain_codec
from ipfs_kit.ipld.dag_pb import join, link_bytes
from ipfs_kit.ipld.unixfs._data import DIRECTORY_DATA, TYPE_DIRECTORY, TYPE_HAMT, decode_data, hamt_data
from ipfs_kit.ipld.unixfs._entry import linked, load
from ipfs_kit.ipld.unixfs._hamt import Hamt, Shape, Shard, write_sorted
from ipfs_kit.ipld.unixfs._murmur3 import murmur3_x64_64
from ipfs_kit.ipld.unixfs._wire import Link, field_size, parse_field, split, tsize_sum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipfs_kit.ipld.unixfs._entry import Get, Put
    from ipfs_kit.ipld.unixfs._profiles import Profile

_FIELD_BYTES_MIN: Final = 13
"""Bytes of the smallest possible link field (identity CID of nothing, one-byte name)."""

_LINK_BYTES_MIN: Final = 5
"""Bytes of the smallest name and binary CID."""

_SLACK_BYTES: Final = 64 * 1024
"""How far past the threshold a size check counts on, so that the next thousand removals need no new one."""

_RECORD: Final = Struct("<QQHB")
"""Bulk spill record: hash, tsize, name length, CID length; then the name and the CID."""

_LEGAL: Final = DEFAULT.name_bytes


def check_name(name: bytes) -> None:
    """Require a name that may stand in a directory.

    Raises:
        InvalidPath: Empty, ``.``, ``..``, too long, or holding ``/`` or NUL.
    """
    if not name or len(name) > _LEGAL or b"/" in name or b"\0" in name or name == b"." or name == b"..":
        raise InvalidPath(
            f"{name[:80]!r} cannot name a directory entry: use 1 to {_LEGAL} bytes, no '/' or NUL, not '.' or '..'"
        )


class Directory:
    """A directory that can be read and edited.

    Nothing is loaded before it is needed and nothing is written before ``flush``. Over a base that is canonical for
    the profile (as this library and Kubo write them) the flushed root is a pure function of entries and profile.

    Args:
        profile: Decides CIDs and when the directory is sharded.
        get: Block source for the base and for nodes written by earlier flushes.
        base: Root of an existing directory; None for an empty one.
    """

    def __init__(self, profile: Profile, get: Get, base: CID | None = None) -> None:
        self._profile = profile
        self._get = get
        self._base = base
        self._base_tsize: int | None = None
        self._modified = base is None
        # Exactly one of the next three holds the entries once loaded: sorted clean fields, a table, or a HAMT.
        self._fields: list[bytes] | None = None
        self._table: dict[bytes, bytes] | None = {} if base is None else None
        self._hamt: Hamt | None = None
        self._names: list[bytes] | None = None
        # Size by the profile's measure: exact for a plain directory, a lower bound for a sharded one.
        self._size = self._empty_size

    @property
    def _empty_size(self) -> int:
        return len(join(DIRECTORY_DATA, [])) if self._profile.hamt_by == "block" else 0

    def _weight(self, name: bytes, cid: bytes, tsize: int) -> int:
        if self._profile.hamt_by == "block":
            return field_size(len(cid), len(name), tsize)
        return len(name) + len(cid)

    # Loading.

    def _load(self) -> None:
        """Bring the root block in."""
        if self._fields is not None or self._table is not None or self._hamt is not None:
            return
        base = cast(CID, self._base)
        if plain_codec(base.codec) != DAG_PB:
            raise FormatError(f"{base} is no directory: its codec is {base.codec:#x}")
        block = load(self._get, base)
        fields, message = split(block)
        kind = TYPE_DIRECTORY if message == DIRECTORY_DATA else decode_data(message).type
        if kind == TYPE_HAMT:
            self._hamt = Hamt(self._get, self._profile.cid_head, self._profile.hamt_fanout, (base, block))
            # A canonical base is sharded because it is over the threshold: only edits that shrink it ask for more.
            self._size = self._profile.hamt_threshold + 1
        elif kind == TYPE_DIRECTORY:
            self._fields = fields
        else:
            raise InvalidInput(f"{base} is a file or symlink: name a directory")

    def _edit(self) -> None:
        """Make the entries editable."""
        self._load()
        if self._fields is not None:
            self._to_table()
        hamt = self._hamt
        if hamt is not None and not self._modified:
            base = cast(CID, self._base)
            foreign = base.version != self._profile.cid_version or base.hash_code != SHA2_256
            if foreign or hamt.shape.fanout != self._profile.hamt_fanout:
                # Spliced sub-shards would keep the other profile's CIDs or widths: build the tree anew.
                self._to_hamt(hamt.iterate())

    def _to_table(self) -> None:
        table: dict[bytes, bytes] = {}
        size = self._empty_size
        for field in self._fields or ():
            cid, name, tsize = parse_field(field)
            if name in table:
                raise FormatError(f"directory {self._base} holds the name {name!r} twice")
            # Encoded anew: a foreign block may have spelled the link in another way.
            table[name] = link_bytes(cid, name, tsize)
            size += self._weight(name, cid, tsize)
        self._table = table
        self._fields = None
        self._names = None
        self._size = size

    def _to_hamt(self, entries: Iterable[tuple[bytes, bytes, int]]) -> None:
        hamt = Hamt(self._get, self._profile.cid_head, self._profile.hamt_fanout)
        size = self._empty_size
        for name, cid, tsize in entries:
            hamt.set(name, cid, tsize)
            size += self._weight(name, cid, tsize)
        self._hamt = hamt
        self._table = None
        self._names = None
        self._size = size

    # Reading.

    def lookup(self, name: bytes) -> Link | None:
        """Return the entry of this name, or None."""
        self._load()
        if self._hamt is not None:
            return self._hamt.lookup(name)
        if self._table is not None:
            field = self._table.get(name)
        else:
            fields = cast("list[bytes]", self._fields)
            at = bisect_left(fields, name, key=_name_of)
            field = fields[at] if at < len(fields) and _name_of(fields[at]) == name else None
        if field is None:
            return None
        cid, _, tsize = parse_field(field)
        return Link(name, CID(cid), tsize)

    def __contains__(self, name: bytes) -> bool:
        return self.lookup(name) is not None

    def __len__(self) -> int:
        self._load()
        if self._hamt is not None:
            return sum(1 for _ in self._hamt.iterate())
        return len(self._table if self._table is not None else cast("list[bytes]", self._fields))

    def is_empty(self) -> bool:
        """Whether there are no entries; at most one block is loaded."""
        self._load()
        if self._hamt is not None:
            return not self._hamt.root.slots
        return not (self._table if self._table is not None else self._fields)

    def is_sharded(self) -> bool:
        """Whether the directory is, and would be written as, a HAMT."""
        self._settle()
        return self._hamt is not None

    def iterate(self, after: bytes | None = None) -> Iterator[tuple[bytes, Link]]:
        """Yield (cursor, link) in tree order: byte order of names, or hash order when sharded.

        Args:
            after: A cursor from an earlier iteration: goes on behind it, also when its entry is gone.

        Raises:
            FormatError: The directory's links are not sorted by name.
        """
        self._settle()
        if self._hamt is not None:
            for name, cid, tsize in self._hamt.iterate(after):
                yield name, Link(name, CID(cid), tsize)
            return
        if self._fields is not None:
            fields = self._fields
            start = 0 if after is None else bisect_right(fields, after, key=_name_of)
            last = after
            for field in fields[start:]:
                cid, name, tsize = parse_field(field)
                if last is not None and name <= last:
                    raise FormatError(f"the links of directory {self._base} are not sorted by name: re-add its content")
                last = name
                yield name, Link(name, CID(cid), tsize)
            return
        table = cast("dict[bytes, bytes]", self._table)
        if self._names is None:
            self._names = sorted(table)
        names = self._names
        for name in names[0 if after is None else bisect_right(names, after) :]:
            found = table.get(name)
            if found is not None:
                cid, _, tsize = parse_field(found)
                yield name, Link(name, CID(cid), tsize)

    def __iter__(self) -> Iterator[Link]:
        return (link for _, link in self.iterate())

    # Editing.

    def set(self, name: bytes, cid: CID, tsize: int) -> None:
        """Add or replace an entry.

        Raises:
            InvalidPath: The name may not stand in a directory.
            InvalidInput: A negative tsize.
        """
        check_name(name)
        if tsize < 0:
            raise InvalidInput("tsize cannot be negative")
        self._edit()
        binary = cid.binary
        if self._hamt is not None:
            old = self._hamt.set(name, binary, tsize)
            if old == (binary, tsize):
                return
            if old is not None:
                self._size -= self._weight(name, *old)
            self._size += self._weight(name, binary, tsize)
            self._modified = True
            return
        table = cast("dict[bytes, bytes]", self._table)
        field = link_bytes(binary, name, tsize)
        before = table.get(name)
        if before == field:
            return
        if before is None:
            self._names = None
        else:
            old_cid, _, old_tsize = parse_field(before)
            self._size -= self._weight(name, old_cid, old_tsize)
        table[name] = field
        self._size += self._weight(name, binary, tsize)
        self._modified = True
        if self._size > self._profile.hamt_threshold:
            self._to_hamt((key, parts[0], parts[2]) for key, parts in ((k, parse_field(f)) for k, f in table.items()))

    def remove(self, name: bytes) -> bool:
        """Remove an entry; returns whether there was one."""
        self._load()
        if self.lookup(name) is None:
            return False
        self._edit()
        if self._hamt is not None:
            removed = cast("tuple[bytes, int]", self._hamt.remove(name))
            self._size -= self._weight(name, *removed)
        else:
            cid, _, tsize = parse_field(cast("dict[bytes, bytes]", self._table).pop(name))
            self._size -= self._weight(name, cid, tsize)
            self._names = None
        self._modified = True
        return True

    # Threshold.

    def _settle(self) -> None:
        """Give the entries the form they will be written in."""
        self._load()
        threshold = self._profile.hamt_threshold
        if self._fields is not None or self._hamt is None:
            if self._modified and self._size > threshold:
                # An edited foreign directory that should have been sharded, and that only shrank.
                table = cast("dict[bytes, bytes]", self._table)
                self._to_hamt((key, p[0], p[2]) for key, p in ((k, parse_field(f)) for k, f in table.items()))
            return
        if self._size > threshold:
            return
        self._size = self._measure(self._hamt, threshold + _SLACK_BYTES)
        if self._size <= threshold:
            self._table = {n: link_bytes(c, n, t) for n, c, t in self._hamt.iterate()}
            self._hamt = None
            self._names = None

    def _measure(self, hamt: Hamt, enough: int) -> int:
        """Return the size the plain directory would have, or, once past ``enough``, a lower bound."""
        size = self._empty_size
        width = hamt.shape.width
        by_block = self._profile.hamt_by == "block"
        # A canonical sub-shard holds two entries or more, so closed ones count before they are opened. Breadth first:
        # the upper ones hold the most.
        closed: deque[bytes | Shard] = deque()
        slots: list[bytes | Shard] = hamt.root.slots
        least = 2 * (_FIELD_BYTES_MIN if by_block else _LINK_BYTES_MIN)
        while True:
            for item in slots:
                if type(item) is Shard:
                    closed.append(item)
                    continue
                field = cast(bytes, item)
                if by_block and len(field) > 43 and field[1] < 0x80 and field[3] == 36 and field[40] == 0x12:
                    # A common CID: all lengths inside are single bytes, also without the prefix.
                    if field[41] == width:
                        closed.append(field[4:40])
                    else:
                        size += len(field) - width
                    continue
                cid, label, tsize = parse_field(field)
                if len(label) == width:
                    closed.append(cid)
                else:
                    size += self._weight(label[width:], cid, tsize)
            if not closed or size + least * len(closed) > enough:
                return size + least * len(closed)
            head = closed.popleft()
            slots = head.slots if type(head) is Shard else cast("list[bytes | Shard]", hamt.open(cast(bytes, head))[1])

    # Writing.

    def flush(self, put: Put) -> tuple[CID, int]:
        """Write the nodes that changed, children first, and make the result the new base.

        Args:
            put: Called with each block; ``get`` must find it afterwards if the directory is used on.

        Returns:
            CID and tsize of the root; those of the base when nothing changed.
        """
        if not self._modified:
            self._load()
            if self._base_tsize is None:
                fields = self._fields
                if self._hamt is not None:
                    fields = self._hamt.clean_fields()
                elif fields is None:
                    fields = list(cast("dict[bytes, bytes]", self._table).values())
                block_size = len(load(self._get, cast(CID, self._base)))
                self._base_tsize = block_size + tsize_sum(fields)
            return cast(CID, self._base), self._base_tsize
        self._settle()
        if self._hamt is not None:
            cid, tsize = self._hamt.flush(put)
        else:
            table = cast("dict[bytes, bytes]", self._table)
            if self._names is None:
                self._names = sorted(table)
            cid, tsize = _write_plain([table[name] for name in self._names], self._profile, put)
        self._base = cid
        self._base_tsize = tsize
        self._modified = False
        return cid, tsize

    @classmethod
    def bulk(
        cls, profile: Profile, entries: Iterable[tuple[bytes, CID, int]], put: Put, *, checked: bool = False
    ) -> tuple[CID, int]:
        """Write a directory of many entries at once, in memory of about 80 bytes an entry.

        Args:
            profile: Import settings.
            entries: (name, cid, tsize) in any order, each name once.
            put: Called with each block, children first.
            checked: The names are known to be legal.

        Returns:
            CID and tsize of the root, equal to those of a ``Directory`` with the same entries.

        Raises:
            AlreadyExists: A name occurs twice.
            InvalidPath: A name is illegal.
        """
        return _Bulk(profile, put).run(entries, checked)


def _name_of(field: bytes) -> bytes:
    return parse_field(field)[1]


def _write_plain(fields: list[bytes], profile: Profile, put: Put) -> tuple[CID, int]:
    block = join(DIRECTORY_DATA, fields)
    cid = CID(profile.cid_head + sha256(block).digest())
    cid = linked(put(cid, block), cid)
    return cid, len(block) + tsize_sum(fields)


class _Bulk:
    """Collects entries, packed by root slot once they exceed a plain directory, then writes slot by slot."""

    def __init__(self, profile: Profile, put: Put) -> None:
        self._profile = profile
        self._put = put
        self._shape = Shape.of(profile.hamt_fanout)

    def run(self, entries: Iterable[tuple[bytes, CID, int]], checked: bool) -> tuple[CID, int]:
        profile = self._profile
        by_block = profile.hamt_by == "block"
        plain: dict[bytes, tuple[bytes, int]] | None = {}
        parts: list[bytearray] = []
        size = len(join(DIRECTORY_DATA, [])) if by_block else 0
        for name, cid, tsize in entries:
            if not checked:
                check_name(name)
            binary = cid.binary
            if plain is None:
                self._pack(parts, name, binary, tsize)
                continue
            if name in plain:
                raise AlreadyExists(f"the name {name!r} occurs twice in one directory")
            plain[name] = (binary, tsize)
            size += field_size(len(binary), len(name), tsize) if by_block else len(name) + len(binary)
            if size > profile.hamt_threshold:
                parts = [bytearray() for _ in range(self._shape.fanout)]
                for key, (key_cid, key_tsize) in plain.items():
                    self._pack(parts, key, key_cid, key_tsize)
                plain = None
        if plain is not None:
            return _write_plain([link_bytes(plain[n][0], n, plain[n][1]) for n in sorted(plain)], profile, self._put)
        return self._write(parts)

    def _pack(self, parts: list[bytearray], name: bytes, cid: bytes, tsize: int) -> None:
        hashed = murmur3_x64_64(name)
        part = parts[self._shape.slot(hashed, 0)]
        part += _RECORD.pack(hashed, tsize, len(name), len(cid))
        part += name
        part += cid

    def _write(self, parts: list[bytearray]) -> tuple[CID, int]:
        profile = self._profile
        shape = self._shape
        bitmap = 0
        fields: list[bytes] = []
        tsum = 0
        for number, part in enumerate(parts):
            if not part:
                continue
            items = _unpack(part)
            parts[number] = bytearray()
            for one, other in pairwise(items):
                if one[0] == other[0] and one[1] == other[1]:
                    raise AlreadyExists(f"the name {one[1]!r} occurs twice in one directory")
            _, slot_fields, slot_tsum = write_sorted(items, shape, profile.cid_head, 0, self._put)
            bitmap |= 1 << number
            fields += slot_fields
            tsum += slot_tsum
        block = join(hamt_data(bitmap, shape.fanout), fields)
        cid = CID(profile.cid_head + sha256(block).digest())
        cid = linked(self._put(cid, block), cid)
        return cid, len(block) + tsum


def _unpack(part: bytearray) -> list[tuple[int, bytes, bytes, int]]:
    data = bytes(part)
    items = []
    at = 0
    head = _RECORD.size
    while at < len(data):
        hashed, tsize, name_size, cid_size = _RECORD.unpack_from(data, at)
        middle = at + head + name_size
        end = middle + cid_size
        items.append((hashed, data[at + head : middle], data[middle:end], tsize))
        at = end
    items.sort()
    return items
