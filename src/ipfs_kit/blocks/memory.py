"""Blocks in a dictionary: for tests, scratch work and as the model that other stores are compared with."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ipfs_kit.blocks._base import BlockStore, Properties, block_not_found, cid_of
from ipfs_kit.errors import StorageFailed
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW

_PROPERTIES = Properties(name="memory", durable=False, shared=False)


class MemoryStore(BlockStore):
    """Blocks that live as long as this object."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, tuple[int, bytes]] = {}
        self._guard = threading.Lock()
        self._closed = False

    @property
    def properties(self) -> Properties:
        """See ``BlockStore.properties``."""
        return _PROPERTIES

    def get(self, cid: CID) -> bytes:
        """See ``BlockStore.get``."""
        if cid.is_identity:
            return cid.digest
        found = self._usable().get(cid.multihash)
        if found is None:
            raise block_not_found(cid)
        cid.check(found[1])
        return found[1]

    def has(self, cid: CID) -> bool:
        """See ``BlockStore.has``."""
        return cid.is_identity or cid.multihash in self._usable()

    def size(self, cid: CID) -> int:
        """See ``BlockStore.size``."""
        if cid.is_identity:
            return len(cid.digest)
        found = self._usable().get(cid.multihash)
        if found is None:
            raise block_not_found(cid)
        return len(found[1])

    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """See ``BlockStore.put``."""
        blocks = self._usable()
        if verify:
            cid.check(data)
        if cid.is_identity:
            return False
        key = cid.multihash
        with self._guard:
            before = blocks.get(key)
            if before is None:
                blocks[key] = (cid.codec, bytes(data))
            elif before[0] == RAW != cid.codec:
                # The same bytes under a codec with links: listing shows the one that says more.
                blocks[key] = (cid.codec, before[1])
        return before is None

    def delete(self, cid: CID) -> bool:
        """See ``BlockStore.delete``."""
        return self._usable().pop(cid.multihash, None) is not None

    def cids(self) -> Iterator[CID]:
        """See ``BlockStore.cids``."""
        for multihash, (codec, _) in list(self._usable().items()):
            yield cid_of(codec, multihash)

    def sync(self) -> None:
        """See ``BlockStore.sync``."""
        self._usable()

    def close(self) -> None:
        """See ``BlockStore.close``."""
        self._closed = True

    def __len__(self) -> int:
        return len(self._blocks)

    def _usable(self) -> dict[bytes, tuple[int, bytes]]:
        if self._closed:
            raise StorageFailed("the memory store is closed: make another one")
        return self._blocks
