"""Stores around stores: verify, cache and retry, each with the interface of ``BlockStore``, composed in one place."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.blocks._base import BlockStore, Properties
from ipfs_kit.errors import StorageFailed, Timeout
from ipfs_kit.ipld.cid import CID

T = TypeVar("T")

# What is worth asking again: the far side may answer later. A StorageFailed of a disk stays one and is not retried.
_TRANSIENT: Final = (Timeout, ConnectionError)


class Wrapper(BlockStore):
    """Passes every call to another store; wrappers override what they change.

    Args:
        inner: The wrapped store, closed with this one.
    """

    def __init__(self, inner: BlockStore) -> None:
        self.inner = inner

    @property
    def properties(self) -> Properties:
        """See ``BlockStore.properties``."""
        return self.inner.properties

    def get(self, cid: CID) -> bytes:
        """See ``BlockStore.get``."""
        return self.inner.get(cid)

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """See ``BlockStore.get_many``."""
        return self.inner.get_many(cids)

    def has(self, cid: CID) -> bool:
        """See ``BlockStore.has``."""
        return self.inner.has(cid)

    def has_many(self, cids: Iterable[CID]) -> list[bool]:
        """See ``BlockStore.has_many``."""
        return self.inner.has_many(cids)

    def size(self, cid: CID) -> int:
        """See ``BlockStore.size``."""
        return self.inner.size(cid)

    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """See ``BlockStore.put``."""
        return self.inner.put(cid, data, verify=verify)

    def put_many(self, items: Iterable[tuple[CID, bytes]], *, verify: bool = True) -> int:
        """See ``BlockStore.put_many``."""
        return self.inner.put_many(items, verify=verify)

    def delete(self, cid: CID) -> bool:
        """See ``BlockStore.delete``."""
        return self.inner.delete(cid)

    def cids(self) -> Iterator[CID]:
        """See ``BlockStore.cids``."""
        return self.inner.cids()

    def sync(self) -> None:
        """See ``BlockStore.sync``."""
        self.inner.sync()

    def close(self) -> None:
        """See ``BlockStore.close``."""
        self.inner.close()


class VerifyingStore(Wrapper):
    """Checks every block against its CID on the way in and out, for stores that trust the far side."""

    def get(self, cid: CID) -> bytes:
        """See ``BlockStore.get``."""
        data = cid.digest if cid.is_identity else self.inner.get(cid)
        cid.check(data)
        return data

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """See ``BlockStore.get_many``."""
        for cid, data in self.inner.get_many(cids):
            cid.check(data)
            yield cid, data

    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """See ``BlockStore.put``."""
        if verify:
            cid.check(data)
        return self.inner.put(cid, data, verify=False)

    def put_many(self, items: Iterable[tuple[CID, bytes]], *, verify: bool = True) -> int:
        """See ``BlockStore.put_many``."""
        return self.inner.put_many(_checked(items) if verify else items, verify=False)


class CachingStore(Wrapper):
    """Keeps the blocks read last in memory.

    Args:
        inner: The wrapped store.
        bytes_max: Most bytes of blocks kept.
        block_bytes_max: Larger blocks are passed through, so that one file does not empty the cache.
    """

    def __init__(self, inner: BlockStore, *, bytes_max: int, block_bytes_max: int = 256 * 1024) -> None:
        super().__init__(inner)
        self._bytes_max = bytes_max
        self._block_bytes_max = block_bytes_max
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()

    def get(self, cid: CID) -> bytes:
        """See ``BlockStore.get``."""
        key = cid.multihash
        with self._guard:
            data = self._kept.get(key)
            if data is not None:
                self._kept.move_to_end(key)
                return data
        data = self.inner.get(cid)
        self._keep(key, data)
        return data

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """See ``BlockStore.get_many``."""
        for cid in cids:
            yield cid, self.get(cid)

    def delete(self, cid: CID) -> bool:
        """See ``BlockStore.delete``."""
        done = self.inner.delete(cid)
        with self._guard:
            data = self._kept.pop(cid.multihash, None)
            self._bytes -= len(data) if data is not None else 0
        return done

    def _keep(self, key: bytes, data: bytes) -> None:
        if len(data) > self._block_bytes_max:
            return
        with self._guard:
            if key not in self._kept:
                self._kept[key] = data
                self._bytes += len(data)
            while self._bytes > self._bytes_max:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= len(dropped)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a refused call is made again.

    Args:
        attempts: Most calls, the first one counted.
        delay_s: Wait before the second call; it doubles each time.
        delay_max_s: Longest wait.
        wait: Waits that many seconds; it may raise to give up early. ``threading.Event().wait`` will do.
    """

    attempts: int
    delay_s: float
    delay_max_s: float
    wait: Callable[[float], object]


class RetryingStore(Wrapper):
    """Makes calls again that failed for a passing reason; every call of the contract is idempotent.

    Args:
        inner: The wrapped store.
        policy: How often and how long.
    """

    def __init__(self, inner: BlockStore, policy: RetryPolicy) -> None:
        super().__init__(inner)
        self._policy = policy

    def get(self, cid: CID) -> bytes:
        """See ``BlockStore.get``."""
        return self._again(lambda: self.inner.get(cid))

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """See ``BlockStore.get_many``."""
        for cid in cids:
            yield cid, self.get(cid)

    def has(self, cid: CID) -> bool:
        """See ``BlockStore.has``."""
        return self._again(lambda: self.inner.has(cid))

    def has_many(self, cids: Iterable[CID]) -> list[bool]:
        """See ``BlockStore.has_many``."""
        wanted = list(cids)
        return self._again(lambda: self.inner.has_many(wanted))

    def size(self, cid: CID) -> int:
        """See ``BlockStore.size``."""
        return self._again(lambda: self.inner.size(cid))

    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """See ``BlockStore.put``."""
        return self._again(lambda: self.inner.put(cid, data, verify=verify))

    def put_many(self, items: Iterable[tuple[CID, bytes]], *, verify: bool = True) -> int:
        """See ``BlockStore.put_many``."""
        return sum(self.put(cid, data, verify=verify) for cid, data in items)

    def delete(self, cid: CID) -> bool:
        """See ``BlockStore.delete``."""
        return self._again(lambda: self.inner.delete(cid))

    def sync(self) -> None:
        """See ``BlockStore.sync``."""
        self._again(self.inner.sync)

    def _again(self, call: Callable[[], T]) -> T:
        delay = self._policy.delay_s
        for _ in range(self._policy.attempts - 1):
            try:
                return call()
            except _TRANSIENT:
                self._policy.wait(delay)
                delay = min(delay * 2, self._policy.delay_max_s)
        try:
            return call()
        except ConnectionError as exc:
            raise StorageFailed(f"{self.inner.properties.name} does not answer: {exc}; check the connection") from exc


def compose(
    store: BlockStore, *, verify: bool = False, retry: RetryPolicy | None = None, cache_bytes: int = 0
) -> BlockStore:
    """Wrap a store in the one right order: retry next to the medium, then verify, then cache.

    Args:
        store: The bare store.
        verify: It does not check blocks itself.
        retry: Make calls again that fail for a passing reason.
        cache_bytes: Memory for blocks read last; 0 for none.

    Returns:
        The store to use; closing it closes ``store``.
    """
    if retry is not None:
        store = RetryingStore(store, retry)
    if verify:
        store = VerifyingStore(store)
    if cache_bytes > 0:
        store = CachingStore(store, bytes_max=cache_bytes)
    return store


def _checked(items: Iterable[tuple[CID, bytes]]) -> Iterator[tuple[CID, bytes]]:
    for cid, data in items:
        cid.check(data)
        yield cid, data
