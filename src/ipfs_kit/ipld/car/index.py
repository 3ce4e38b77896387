"""CARv2 header and indexes (ipld.io/specs/transport/car/carv2).

::

    CARv2  := pragma(11) header(40) padding? CARv1 padding? index?
    header := characteristics(16) data_offset(u64le) data_size(u64le) index_offset(u64le)
    index  := varint(0x0400) widths                                   IndexSorted
            | varint(0x0401) count(u32le) (hash code(u64le) widths)*  MultihashIndexSorted
    widths := count(u32le) (width(u32le) size(u64le) entries)*        entry: digest, offset(u64le), sorted by digest

Offsets count from the first byte of the inner CARv1 and name the first byte of a section.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput
from ipfs_kit.ipld import varint
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import CAR_INDEX_SORTED, CAR_MULTIHASH_INDEX_SORTED

V2_HEADER_BYTES: Final = 40
"""Bytes of the fixed header that follows the pragma."""

_V2_HEADER: Final = struct.Struct("<16sQQQ")
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_BUCKET: Final = struct.Struct("<IQ")
_FULLY_INDEXED: Final = 0x80
# Hash functions in one index; the multicodec table has about 500.
_CODES_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class V2Header:
    """The fixed header of a CARv2; offsets count from the first byte of the file."""

    data_offset: int
    data_size: int
    index_offset: int
    """0 when the file has no index."""
    fully_indexed: bool
    """Whether the writer says that the index lists every section, identity CIDs included."""

    def encode(self) -> bytes:
        """Return the 40 bytes."""
        characteristics = bytes((_FULLY_INDEXED if self.fully_indexed else 0,)) + bytes(15)
        return _V2_HEADER.pack(characteristics, self.data_offset, self.data_size, self.index_offset)


def decode_v2_header(data: bytes) -> V2Header:
    """Read the 40 bytes after the pragma.

    Raises:
        FormatError: They are cut off or contradict each other.
    """
    if len(data) != V2_HEADER_BYTES:
        raise FormatError("CARv2 header is cut off")
    characteristics, data_offset, data_size, index_offset = _V2_HEADER.unpack(data)
    if data_offset < 11 + V2_HEADER_BYTES:
        raise FormatError(f"CARv2 data offset {data_offset} lies inside the header")
    if data_size == 0:
        raise FormatError("CARv2 data size is zero: the writer did not finish the file")
    if index_offset and index_offset < data_offset + data_size:
        raise FormatError(f"CARv2 index offset {index_offset} lies inside the data")
    return V2Header(data_offset, data_size, index_offset, bool(characteristics[0] & _FULLY_INDEXED))


class IndexEntry(NamedTuple):
    """One line of an index."""

    hash_code: int | None
    """None in an IndexSorted, which does not record it."""
    digest: bytes
    offset: int


class CarIndex:
    """A parsed index: sorted runs of fixed-width entries, searched in place.

    Args:
        codec: 0x0400 or 0x0401.
        buckets: (hash code or None, entry width in bytes) to the bytes of its entries.
    """

    def __init__(self, codec: int, buckets: dict[tuple[int | None, int], bytes]) -> None:
        self.codec = codec
        self._buckets = buckets

    def __len__(self) -> int:
        return sum(len(run) // width for (_, width), run in self._buckets.items())

    def __iter__(self) -> Iterator[IndexEntry]:
        for (code, width), run in self._buckets.items():
            for at in range(0, len(run), width):
                offset = _U64.unpack_from(run, at + width - 8)[0]
                yield IndexEntry(code, run[at : at + width - 8], offset)

    def find(self, cid: CID) -> list[int]:
        """Return the offsets recorded for the multihash of ``cid``; verify what lies there before trusting it."""
        digest = cid.digest
        width = len(digest) + 8
        code = cid.hash_code if self.codec == CAR_MULTIHASH_INDEX_SORTED else None
        run = self._buckets.get((code, width), b"")
        low, high = 0, len(run) // width
        while low < high:
            middle = (low + high) // 2
            if run[middle * width : middle * width + width - 8] < digest:
                low = middle + 1
            else:
                high = middle
        offsets: list[int] = []
        at = low * width
        while at < len(run) and run[at : at + width - 8] == digest:
            offsets.append(_U64.unpack_from(run, at + width - 8)[0])
            at += width
        return offsets


def encode_index(entries: Iterable[tuple[CID, int]]) -> bytes:
    """Return a MultihashIndexSorted over (CID, offset) pairs."""
    runs: dict[int, dict[int, list[bytes]]] = {}
    for cid, offset in entries:
        digest = cid.digest
        runs.setdefault(cid.hash_code, {}).setdefault(len(digest) + 8, []).append(digest + _U64.pack(offset))
    out = [varint.encode(CAR_MULTIHASH_INDEX_SORTED), _U32.pack(len(runs))]
    for code in sorted(runs):
        out += [_U64.pack(code), _U32.pack(len(runs[code]))]
        for width in sorted(runs[code]):
            run = runs[code][width]
            # Offsets are little-endian: sort equal digests by number, not by bytes.
            run.sort(key=lambda entry: (entry[:-8], _U64.unpack(entry[-8:])))
            out.append(_BUCKET.pack(width, len(run) * width))
            out += run
    return b"".join(out)


def decode_index(data: bytes, budgets: Budgets = DEFAULT) -> CarIndex:
    """Read an index of either format.

    Raises:
        FormatError: It is cut off, has trailing bytes or is not sorted.
        BudgetExceeded: It is too large.
        InvalidInput: The format is not one of the two.
    """
    if len(data) > budgets.car_index_bytes:
        raise BudgetExceeded(f"CAR index of {len(data)} bytes is larger than {budgets.car_index_bytes}")
    codec, at = varint.decode(data)
    buckets: dict[tuple[int | None, int], bytes] = {}
    try:
        if codec == CAR_INDEX_SORTED:
            at = _widths(data, at, None, buckets)
        elif codec == CAR_MULTIHASH_INDEX_SORTED:
            (count,) = _U32.unpack_from(data, at)
            at += 4
            if count > _CODES_MAX:
                raise BudgetExceeded(f"CAR index names {count} hash functions, more than {_CODES_MAX}")
            for _ in range(count):
                (code,) = _U64.unpack_from(data, at)
                at = _widths(data, at + 8, code, buckets)
        else:
            raise InvalidInput(f"CAR index format {codec:#06x} is unknown: formats are 0x0400 and 0x0401")
    except struct.error as exc:
        raise FormatError("CAR index is cut off") from exc
    if at != len(data):
        raise FormatError(f"{len(data) - at} bytes follow the CAR index")
    return CarIndex(codec, buckets)


def _widths(data: bytes, at: int, code: int | None, buckets: dict[tuple[int | None, int], bytes]) -> int:
    (count,) = _U32.unpack_from(data, at)
    at += 4
    if count > 256:
        raise FormatError(f"CAR index has {count} widths for one hash function")
    for _ in range(count):
        width, size = _BUCKET.unpack_from(data, at)
        at += _BUCKET.size
        if not 8 <= width <= 8 + 128 or size % width or (code, width) in buckets:
            raise FormatError(f"CAR index has a malformed run of width {width}")
        if size > len(data) - at:
            raise FormatError("CAR index is cut off")
        run = data[at : at + size]
        at += size
        last = b""
        for i in range(0, size, width):
            digest = run[i : i + width - 8]
            if digest < last:
                raise FormatError("CAR index is not sorted")
            last = digest
        buckets[code, width] = run
    return at
