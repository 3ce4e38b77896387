"""The blocks of one key domain: the same store and index, other packs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ipfs_kit.blocks._base import BlockStore, Properties
from ipfs_kit.ipld.cid import CID

if TYPE_CHECKING:
    from ipfs_kit.blocks.store import PackStore


class DomainStore(BlockStore):
    """A view of a pack store whose puts go to the packs of one key domain.

    Args:
        store: The whole store; reads go through it unchanged.
        key_domain: The domain's id, written into the packs' descriptors.
    """

    def __init__(self, store: PackStore, key_domain: str) -> None:
        self._store = store
        self.key_domain = key_domain

    @property
    def properties(self) -> Properties:
        """See ``BlockStore.properties``."""
        return self._store.properties

    def get(self, cid: CID) -> bytes:
        """See ``BlockStore.get``."""
        return self._store.get(cid)

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """See ``BlockStore.get_many``."""
        return self._store.get_many(cids)

    def has(self, cid: CID) -> bool:
        """See ``BlockStore.has``."""
        return self._store.has(cid)

    def has_many(self, cids: Iterable[CID]) -> list[bool]:
        """See ``BlockStore.has_many``."""
        return self._store.has_many(cids)

    def size(self, cid: CID) -> int:
        """See ``BlockStore.size``."""
        return self._store.size(cid)

    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """See ``BlockStore.put``."""
        return self._store.put_in(self.key_domain, ((cid, data),), verify=verify) == 1

    def put_many(self, items: Iterable[tuple[CID, bytes]], *, verify: bool = True) -> int:
        """See ``BlockStore.put_many``."""
        return self._store.put_in(self.key_domain, items, verify=verify)

    def delete(self, cid: CID) -> bool:
        """See ``BlockStore.delete``."""
        return self._store.delete(cid)

    def cids(self) -> Iterator[CID]:
        """See ``BlockStore.cids``; lists the whole store, because the index keeps digests only."""
        return self._store.cids()

    def sync(self) -> None:
        """See ``BlockStore.sync``."""
        self._store.sync()

    def close(self) -> None:
        """Do nothing: the whole store is closed by whoever opened it."""
        return
