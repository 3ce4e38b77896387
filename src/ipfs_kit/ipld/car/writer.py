"""Write CARv1 and CARv2 as a stream: one block in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, Final, Protocol, cast

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.car.frames import V2_PRAGMA, check_section_size, encode_header, section_prefix
from ipfs_kit.ipld.car.index import V2_HEADER_BYTES, V2Header, encode_index
from ipfs_kit.ipld.cid import CID

_DATA_OFFSET: Final = len(V2_PRAGMA) + V2_HEADER_BYTES


class Writable(Protocol):
    """Where a CAR is written; a CARv2 also needs ``seek`` and ``tell``."""

    def write(self, data: bytes, /) -> Any:
        """Write all of ``data``."""


class CarWriter:
    """Appends blocks to one CAR; ``close`` finishes it (a CARv2 is invalid before).

    Args:
        out: Buffered binary output; CARv2 needs it seekable because its header holds the data size.
        roots: CIDs the header names.
        version: 1 or 2.
        index: Whether a CARv2 gets a MultihashIndexSorted; costs about 150 bytes of memory a block.
        verify: Whether to check each block against its CID; only for blocks that were just verified pass False.
        budgets: Bounds that readers apply.

    Raises:
        InvalidInput: The version does not exist, or a CARv2 was asked for on an output that cannot seek.
    """

    def __init__(
        self,
        out: Writable,
        roots: Sequence[CID],
        *,
        version: int = 1,
        index: bool = True,
        verify: bool = True,
        budgets: Budgets = DEFAULT,
    ) -> None:
        if version not in (1, 2):
            raise InvalidInput(f"CAR version {version} does not exist: use 1 or 2")
        self._out = out
        self._verify = verify
        self._budgets = budgets
        self._entries: list[tuple[CID, int]] | None = [] if version == 2 and index else None
        self._all_indexed = True
        self._seekable: BinaryIO | None = None
        self._start = 0
        if version == 2:
            if not getattr(out, "seekable", lambda: False)():
                raise InvalidInput("a CARv2 needs a seekable output: write version 1 to a pipe")
            self._seekable = cast(BinaryIO, out)
            self._start = self._seekable.tell()
            out.write(V2_PRAGMA + bytes(V2_HEADER_BYTES))
        header = encode_header(roots, budgets)
        out.write(header)
        self._size = len(header)
        self.block_count = 0
        """Blocks written so far."""

    @property
    def size(self) -> int:
        """Bytes of the CARv1 part so far."""
        return self._size

    def write(self, cid: CID, data: bytes) -> None:
        """Append one block.

        Raises:
            IntegrityError: ``data`` does not hash to ``cid``.
            BudgetExceeded: The section would be larger than readers accept.
        """
        if self._verify:
            cid.check(data)
        prefix = section_prefix(cid, len(data))
        check_section_size(len(cid.binary) + len(data), self._size, self._budgets)
        if self._entries is not None:
            if cid.is_identity:
                # Readers take the block out of the CID itself, so go-car leaves it out of the index too.
                self._all_indexed = False
            else:
                self._entries.append((cid, self._size))
        self._out.write(prefix)
        self._out.write(data)
        self._size += len(prefix) + len(data)
        self.block_count += 1

    def close(self) -> int:
        """Finish the file.

        Returns:
            Bytes of the whole CAR.
        """
        out = self._seekable
        if out is None:
            return self._size
        total = _DATA_OFFSET + self._size
        index_offset = 0
        if self._entries is not None:
            index_offset = total
            index = encode_index(self._entries)
            out.write(index)
            total += len(index)
        header = V2Header(_DATA_OFFSET, self._size, index_offset, bool(index_offset) and self._all_indexed)
        out.seek(self._start + len(V2_PRAGMA))
        out.write(header.encode())
        out.seek(self._start + total)
        return total


def write_car(
    out: Writable,
    roots: Sequence[CID],
    blocks: Iterable[tuple[CID, bytes]],
    version: int = 1,
    *,
    index: bool = True,
    verify: bool = True,
    budgets: Budgets = DEFAULT,
) -> int:
    """Write a whole CAR.

    Args:
        out: Buffered binary output; CARv2 needs it seekable.
        roots: CIDs the header names.
        blocks: ``(CID, block)`` pairs in the order to write them.
        version: 1 or 2.
        index: Whether a CARv2 gets an index.
        verify: Whether to check each block against its CID.
        budgets: Bounds that readers apply.

    Returns:
        Bytes written.

    Raises:
        InvalidInput: The version does not exist, or a CARv2 was asked for on an output that cannot seek.
        IntegrityError: A block does not hash to its CID.
    """
    writer = CarWriter(out, roots, version=version, index=index, verify=verify, budgets=budgets)
    for cid, data in blocks:
        writer.write(cid, data)
    return writer.close()
