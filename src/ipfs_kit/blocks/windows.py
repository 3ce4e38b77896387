"""Write windows: how garbage collection waits for every writer that began before it condemned (decision 5).

Like read-copy-update: an epoch number lives in the block index, and a window holds a shared lock on one of two files,
chosen by the epoch's parity, for as long as it is open. The collector condemns, advances the epoch, and then needs the
exclusive lock of the old parity: it gets it once every window opened before has closed, and never waits for later ones.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ipfs_kit.blocks.index import Index, Txn
from ipfs_kit.durable.locks import FileLock
from ipfs_kit.errors import LockTimeout

_EPOCH_KEY: Final = b"epoch"
_U64: Final = struct.Struct(">Q")
_JOIN_TRIES: Final = 1000


class Windows:
    """The windows of one store in one process.

    Args:
        directory: The store's directory; the lock files ``window-0.lock`` and ``window-1.lock`` lie there.
        index: Keeps the epoch.
        timeout_s: Longest wait to enter.
    """

    def __init__(self, directory: str, index: Index, timeout_s: float) -> None:
        self._paths = [os.path.join(directory, f"window-{parity}.lock") for parity in (0, 1)]
        self._locks = [FileLock(path) for path in self._paths]
        self._counts = [0, 0]
        self._guard = threading.Lock()
        self._mine = threading.local()
        self._index = index
        self._timeout_s = timeout_s

    @property
    def open_here(self) -> bool:
        """Whether any thread of this process is inside a window."""
        return self._counts != [0, 0]

    def epoch(self) -> int:
        """The present epoch."""
        with self._index.reading() as txn:
            value = txn.get(_EPOCH_KEY, db=self._index.meta)
        return 0 if value is None else int(_U64.unpack(value)[0])

    @contextmanager
    def window(self) -> Iterator[None]:
        """Hold the present epoch open; windows of one thread nest at no cost."""
        depth = getattr(self._mine, "depth", 0)
        parity = -1
        if depth == 0:
            parity = self._enter()
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth -= 1
            if parity >= 0:
                self._leave(parity)

    def advance(self, timeout_s: float) -> int:
        """Begin a new epoch.

        Args:
            timeout_s: Longest wait for windows of the epoch before the present one, whose lock the new one takes over.

        Returns:
            The new epoch.

        Raises:
            LockTimeout: Such a window is still open.
        """
        now = self.epoch()
        self._drain((now + 1) % 2, timeout_s)

        def bump(txn: Txn) -> int:
            value = txn.lmdb.get(_EPOCH_KEY, db=txn.meta)
            present = 0 if value is None else int(_U64.unpack(value)[0])
            if present == now:
                txn.lmdb.put(_EPOCH_KEY, _U64.pack(now + 1), db=txn.meta)
            return now + 1

        return self._index.update(bump)

    def old_closed(self, timeout_s: float) -> bool:
        """Whether every window opened before the present epoch has closed, waiting up to ``timeout_s``."""
        try:
            self._drain((self.epoch() + 1) % 2, timeout_s)
        except LockTimeout:
            return False
        return True

    def close(self) -> None:
        """Close the lock files."""
        for lock in self._locks:
            lock.close()

    def orphan(self) -> None:
        """In a forked child: let go of the lock files without unlocking the parent's windows."""
        for lock in self._locks:
            lock.orphan()

    def _enter(self) -> int:
        for _ in range(_JOIN_TRIES):
            epoch = self.epoch()
            parity = epoch % 2
            with self._guard:
                if self._counts[parity] == 0:
                    self._locks[parity].acquire(self._timeout_s, shared=True)
                self._counts[parity] += 1
            # The collector may have advanced between the look and the lock; then this lock covers nothing.
            if self.epoch() == epoch:
                return parity
            self._leave(parity)
        raise LockTimeout("garbage collection keeps advancing: try again")

    def _leave(self, parity: int) -> None:
        with self._guard:
            self._counts[parity] -= 1
            if self._counts[parity] == 0:
                self._locks[parity].release()

    def _drain(self, parity: int, timeout_s: float) -> None:
        # A lock object of its own: this process's windows are writers like any other's.
        lock = FileLock(self._paths[parity])
        try:
            lock.acquire(timeout_s)
        finally:
            lock.close()
