"""Read CARv1 and CARv2 as a stream: one section in memory at a time, every block verified."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Final, Protocol

from ipfs_kit.errors import BudgetExceeded, FormatError, IntegrityError
from ipfs_kit.ipld import varint
from ipfs_kit.ipld.budgets import DEFAULT, KIB, Budgets
from ipfs_kit.ipld.car.frames import V2_PRAGMA, check_section_size, decode_header, split_section
from ipfs_kit.ipld.car.index import V2_HEADER_BYTES, V2Header, decode_index, decode_v2_header
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import CAR_MULTIHASH_INDEX_SORTED

_CHUNK_BYTES: Final = 256 * KIB


class Readable(Protocol):
    """What a CAR is read from: a binary file, pipe, socket file or ``io.BytesIO``."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes; none at the end."""


class _Source:
    """Exact reads and varints over a stream, through one buffer."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self.offset = 0
        """Bytes handed out so far."""

    def _fill(self, count: int) -> None:
        """Have ``count`` unread bytes in the buffer, or all there are."""
        have = len(self._buffer) - self._at
        if have >= count:
            return
        parts = [self._buffer[self._at :]]
        while have < count:
            part = self._stream.read(max(_CHUNK_BYTES, count - have))
            if not part:
                break
            parts.append(part)
            have += len(part)
        self._buffer = b"".join(parts)
        self._at = 0

    def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes, or fewer at the end of the stream."""
        at = self._at
        have = len(self._buffer) - at
        if have >= count:
            self._at = at + count
            self.offset += count
            return self._buffer[at : at + count]
        # The rest goes past the buffer: one copy for a large block.
        parts = [self._buffer[at:]]
        self._buffer, self._at = b"", 0
        while have < count:
            part = self._stream.read(count - have)
            if not part:
                break
            parts.append(part)
            have += len(part)
        self.offset += have
        return b"".join(parts)

    def peek(self, count: int) -> bytes:
        """Return the next ``count`` bytes, or fewer at the end of the stream, without passing them."""
        self._fill(count)
        return self._buffer[self._at : self._at + count]

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes in bounded memory."""
        while count:
            passed = len(self.take(min(count, _CHUNK_BYTES)))
            if not passed:
                raise FormatError("CAR is cut off")
            count -= passed

    def varint(self) -> int | None:
        """Return the next varint, or None at the end of the stream."""
        at = self._at
        if len(self._buffer) - at < varint.MAX_BYTES:
            self._fill(varint.MAX_BYTES)
            at = 0
            if not self._buffer:
                return None
            self._at = 0
        value, self._at = varint.decode(self._buffer, at)
        self.offset += self._at - at
        return value


class CarReader:
    """The blocks of one CAR, once, in file order.

    Iterating yields ``(CID, block)``, each verified against its CID. The header is read at construction.

    Args:
        stream: Source; need not be seekable.
        budgets: Bounds on every size in the file.
        check_index: Also read the index of a CARv2 after its blocks and compare it with what was there. An index that
            is not checked is not read either, so a wrong one does no harm.

    Raises:
        FormatError: The stream does not start with a CAR header.
        BudgetExceeded: The header is too large.
    """

    def __init__(self, stream: Readable, budgets: Budgets = DEFAULT, *, check_index: bool = False) -> None:
        self._source = _Source(stream)
        self._budgets = budgets
        self._check_index = check_index
        self._started = False
        self.version = 1
        """1 or 2."""
        self.header: V2Header | None = None
        """The fixed header of a CARv2."""
        self.block_count = 0
        """Blocks read so far."""
        body = self._header_body()
        if body == V2_PRAGMA[1:]:
            self.version = 2
            self.header = decode_v2_header(self._source.take(V2_HEADER_BYTES))
            self._source.skip(self.header.data_offset - self._source.offset)
            body = self._header_body()
        self.roots: list[CID] = decode_header(body, budgets)
        """The roots the header names; nothing says that their blocks are in the file."""

    @property
    def offset(self) -> int:
        """Bytes of the stream before the next section: just after a block was given, where it ends."""
        return self._source.offset

    def _header_body(self) -> bytes:
        size = self._source.varint()
        if size is None:
            raise FormatError("not a CAR: it is empty")
        if size > self._budgets.car_header_bytes:
            raise BudgetExceeded(f"CAR header of {size} bytes is larger than {self._budgets.car_header_bytes}")
        body = self._source.take(size)
        if len(body) != size or size == 0:
            raise FormatError("CAR header is cut off")
        return body

    def __iter__(self) -> Iterator[tuple[CID, bytes]]:
        if self._started:
            raise FormatError("a CAR stream is read once: open it again")
        self._started = True
        header = self.header
        end = header.data_offset + header.data_size if header else None
        base = header.data_offset if header else 0
        seen: list[tuple[CID, int]] | None = [] if self._check_index and header and header.index_offset else None
        source, budgets = self._source, self._budgets
        while end is None or source.offset < end:
            start = source.offset
            size = source.varint()
            if size is None:
                if end is not None:
                    raise FormatError("CARv2 data is cut off")
                return
            check_section_size(size, start, budgets)
            if end is not None and source.offset + size > end:
                raise FormatError(f"section at offset {start} runs past the CARv2 data")
            cid, cid_bytes = split_section(source.peek(min(size, budgets.cid_bytes)))
            source.take(cid_bytes)
            data = source.take(size - cid_bytes)
            if len(data) != size - cid_bytes:
                raise FormatError(f"section at offset {start} is cut off", offset=start)
            cid.check(data)
            self.block_count += 1
            if self.block_count > budgets.car_blocks:
                raise BudgetExceeded(f"CAR holds more than {budgets.car_blocks} blocks")
            if seen is not None:
                seen.append((cid, start - base))
            yield cid, data
        if seen is not None and header is not None:
            self._compare(header, seen)

    def _compare(self, header: V2Header, seen: list[tuple[CID, int]]) -> None:
        self._source.skip(header.index_offset - self._source.offset)
        data = self._source.take(self._budgets.car_index_bytes + 1)
        index = decode_index(data, self._budgets)
        with_code = index.codec == CAR_MULTIHASH_INDEX_SORTED
        found = {(cid.hash_code if with_code else None, cid.digest, offset) for cid, offset in seen}
        listed = set(index)
        wrong = next((entry for entry in listed if tuple(entry) not in found), None)
        if wrong is not None:
            raise IntegrityError(f"CAR index points at offset {wrong.offset}, where no such block starts")
        if header.fully_indexed and len(listed) != len(found):
            raise IntegrityError(f"CAR says it is fully indexed but lists {len(listed)} of {len(found)} blocks")


def read_car(stream: Readable | bytes, budgets: Budgets = DEFAULT, *, check_index: bool = False) -> CarReader:
    """Open a CARv1 or CARv2 for reading.

    Args:
        stream: A binary stream (need not be seekable) or the bytes of a whole CAR.
        budgets: Bounds on every size in the file.
        check_index: Compare the index of a CARv2 with its blocks after the last one.

    Returns:
        A reader with ``roots`` that iterates verified ``(CID, block)`` pairs.

    Raises:
        FormatError: The stream does not start with a CAR header.
        BudgetExceeded: The header is too large.
    """
    return CarReader(io.BytesIO(stream) if isinstance(stream, bytes) else stream, budgets, check_index=check_index)
