"""The contract of every block store, whatever keeps the bytes.

Rules that each implementation keeps and ``ipfs_kit.testing.block_store_suite`` checks:

* **Address.** A block is found by its multihash: CIDv0 and CIDv1 of the same digest name one block, and the codec of a
  CID does not matter to ``get``, ``has`` and ``size``. An identity CID carries its block; it is never stored.
* **Integrity.** ``get`` returns bytes that hash to the CID or raises ``IntegrityError``; never other bytes.
* **Crash.** A block is all there or absent. What was put before a ``sync`` that returned survives any crash; later
  blocks may be lost, each one wholly.
* **Visibility.** A put block is found at once through the same store object, and by others after ``sync``.
* **Retry.** ``put`` is idempotent; putting a present block returns False and changes nothing.
* **Concurrency.** Every method may be called from any thread. Iterators belong to one thread and may miss or include
  blocks put meanwhile.
* **Failure.** When the medium refuses a write, ``StorageFailed`` is raised and every later write raises it too, until
  the store is reopened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BlockNotFound
from ipfs_kit.ipld import varint
from ipfs_kit.ipld.cid import CID

if TYPE_CHECKING:
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Properties:
    """What a store can do, as data.

    Args:
        name: Short name for messages and metrics.
        durable: ``sync`` makes blocks survive a crash of the machine.
        shared: Other processes see the blocks.
        writable: ``put`` is allowed.
        deletes: ``delete`` is allowed.
        lists: ``cids`` lists everything.
    """

    name: str
    durable: bool = True
    shared: bool = True
    writable: bool = True
    deletes: bool = True
    lists: bool = True


class BlockStore(ABC):
    """Blocks by CID; see the module's rules."""

    @property
    @abstractmethod
    def properties(self) -> Properties:
        """What this store can do."""

    @abstractmethod
    def get(self, cid: CID) -> bytes:
        """Return a block, verified.

        Raises:
            BlockNotFound: The store does not have it.
            IntegrityError: The stored bytes do not hash to the CID.
        """

    @abstractmethod
    def has(self, cid: CID) -> bool:
        """Whether the store has a block; does not read it."""

    @abstractmethod
    def size(self, cid: CID) -> int:
        """Return the block's length in bytes without reading it.

        Raises:
            BlockNotFound: The store does not have it.
        """

    @abstractmethod
    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """Store a block; ``sync`` makes it durable.

        Args:
            cid: The address.
            data: The block.
            verify: False only when the caller has just computed ``cid`` from these bytes.

        Returns:
            True when the block is new here.

        Raises:
            IntegrityError: ``data`` does not hash to ``cid``; nothing is stored.
            ReadOnly: The store takes no writes.
            StorageFailed: The medium refused.
        """

    @abstractmethod
    def delete(self, cid: CID) -> bool:
        """Forget a block.

        Returns:
            True when it was there.
        """

    @abstractmethod
    def cids(self) -> Iterator[CID]:
        """Yield the version 1 CID of every block, in no particular order."""

    @abstractmethod
    def sync(self) -> None:
        """Make all blocks put so far durable and visible to other processes.

        Raises:
            StorageFailed: The medium refused; reopen the store.
        """

    @abstractmethod
    def close(self) -> None:
        """Release resources after a ``sync``; a second call does nothing."""

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """Yield each block with its CID, in the order asked.

        Raises:
            BlockNotFound: The store lacks one of them.
            IntegrityError: Stored bytes do not hash to their CID.
        """
        for cid in cids:
            yield cid, self.get(cid)

    def has_many(self, cids: Iterable[CID]) -> list[bool]:
        """Whether the store has each block, in the order asked."""
        return [self.has(cid) for cid in cids]

    def put_many(self, items: Iterable[tuple[CID, bytes]], *, verify: bool = True) -> int:
        """Store blocks; the same as ``put`` for each, faster.

        Returns:
            How many were new here.

        Raises:
            IntegrityError: A block does not hash to its CID; earlier ones may be stored.
        """
        return sum(self.put(cid, data, verify=verify) for cid, data in items)

    def __enter__(self) -> BlockStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def block_not_found(cid: CID) -> BlockNotFound:
    """The error for an absent block."""
    return BlockNotFound(f"block {cid} is not in the store", cid=str(cid))


def cid_of(codec: int, multihash: bytes) -> CID:
    """The version 1 CID of a stored block."""
    return CID(b"\x01" + varint.encode(codec) + multihash)
