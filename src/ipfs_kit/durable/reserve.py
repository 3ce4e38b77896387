"""The reserve: disk space set aside so that a full disk can still be recorded on, cleaned up and closed.

``reserve`` is a file of zeros with allocated blocks. When the file system runs low it is cut to nothing, which gives
those blocks back; when there is room again it is allocated anew. The file itself is the only state, so any process may
do either, and a crash in between leaves a smaller reserve that the next opening completes
(``docs/design/004-full-disk.md``).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ipfs_kit.durable.files import PathLike, _call, is_no_space, storage_failed
from ipfs_kit.errors import NoSpace

RESERVE_NAME: Final = "reserve"
RESERVE_BYTES: Final = 8 * 1024 * 1024
# On a disk with more free than this, a store smaller than the reserve gets a small one: enough to record and to close.
SMALL_BYTES: Final = 512 * 1024
_NEAR_BYTES: Final = 1024 * 1024 * 1024
# On a small file system the reserve takes this part of it.
_SHARE: Final = 16
# Bytes let through on one look at the file system.
_CREDIT_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """How full the file system of a store is.

    Args:
        free_bytes: What unprivileged processes may still write.
        reserve_bytes: What the reserve holds now.
        reserve_wanted_bytes: What it holds when it is complete.
    """

    free_bytes: int
    reserve_bytes: int
    reserve_wanted_bytes: int

    @property
    def state(self) -> str:
        """``complete``, ``partial``, or ``given back`` while the disk is full or there was no room yet."""
        if self.reserve_bytes >= self.reserve_wanted_bytes:
            return "complete"
        return "partial" if self.reserve_bytes else "given back"


class Reserve:
    """The reserve of one store; any number of objects and processes may use the same file.

    Args:
        directory: The store's directory, which exists.
    """

    def __init__(self, directory: PathLike) -> None:
        self.directory = os.fspath(directory)
        self.path = os.path.join(self.directory, RESERVE_NAME)
        self.size = min(RESERVE_BYTES, max(64 * 1024, self._status().f_blocks * self._status().f_frsize // _SHARE))
        self.low = self.size // 4
        """With less free than this the reserve is given back."""
        self._credit = 0

    def room(self, store_bytes: Callable[[], int]) -> Room:
        """What is free and what is set aside.

        Args:
            store_bytes: Tells what the store holds.
        """
        return Room(self.free(), self.held(), self.wanted(store_bytes))

    def wanted(self, store_bytes: Callable[[], int]) -> int:
        """Bytes that a complete reserve holds: what a store on this disk needs to be cleaned up.

        Args:
            store_bytes: Tells what the store holds.
        """
        if self.free() > _NEAR_BYTES and store_bytes() < self.size:
            return min(self.size, SMALL_BYTES)
        return self.size

    def free(self) -> int:
        """Bytes that may still be written."""
        status = self._status()
        return status.f_bavail * status.f_frsize

    def held(self) -> int:
        """Bytes that the reserve really occupies."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            return 0
        except OSError as exc:
            raise storage_failed("examine", self.path, exc) from exc
        return min(status.st_size, status.st_blocks * 512)

    def relieve(self) -> bool:
        """Give the reserve back when the disk is nearly full.

        Returns:
            False when the disk is full nevertheless: recording is not possible.
        """
        free = self.free()
        if free < self.low:
            free += self.release()
        return free >= self.size // 32

    def release(self) -> int:
        """Give the reserve back to the file system.

        Returns:
            The bytes it held.
        """
        try:
            fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        except OSError as exc:
            raise storage_failed("release", self.path, exc) from exc
        try:
            # Whoever is allocating it right now does so because there was room; it gives way or is cut just after.
            fcntl.flock(fd, fcntl.LOCK_EX)
            held = self.held()
            if held:
                _call("truncate", self.path)
                os.ftruncate(fd, 0)
                # Journalling file systems hand freed blocks out again only once the change is committed.
                os.fdatasync(fd)
            return held
        except OSError as exc:
            raise storage_failed("release", self.path, exc) from exc
        finally:
            os.close(fd)

    def restore(self, store_bytes: Callable[[], int]) -> bool:
        """Set the space aside again when there is room, and when the disk or the store is of a size to need it.

        Args:
            store_bytes: Tells what the store holds; a small store on an empty disk gets a small reserve.

        Returns:
            Whether the reserve is complete.
        """
        wanted = self.wanted(store_bytes)
        if self.held() >= wanted:
            return True
        if self.free() < 2 * wanted + self.low:
            return False
        try:
            _call("allocate", self.path)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise storage_failed("allocate", self.path, exc) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(fd, 0, wanted)
            return True
        except OSError as exc:
            if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False  # another process is at it
            os.ftruncate(fd, 0)
            if is_no_space(exc):
                return False
            raise storage_failed("allocate", self.path, exc) from exc
        finally:
            os.close(fd)

    def credit(self, size: int) -> bool:
        """Whether the last look at the file system covers this many bytes more; racing threads may overdraw a little."""
        self._credit -= size
        return self._credit >= 0

    def admit(self, size: int, *, essential: bool = False) -> None:
        """Refuse content before it is written, when it would use up what cleaning up needs.

        Args:
            size: Bytes about to be written, with those waiting in memory.
            essential: Small structures, as removing something writes them; they may use half of the reserve.

        Raises:
            NoSpace: There is no room; nothing was written.
        """
        free, held = self.free(), self.held()
        floor = self.low if held else self.low + self.size
        if essential:
            floor = self.low // 2 if held else self.size // 2
        spare = free - size - floor
        if spare < 0:
            raise self.refusal(free)
        self._credit = min(_CREDIT_BYTES, spare // 4)

    def refusal(self, free: int | None = None) -> NoSpace:
        """The error for what does not fit any more."""
        left = self.free() if free is None else free
        return NoSpace(
            f"the disk of {self.directory} is full ({left} bytes free): remove what you can spare and run "
            "'ipfs-kit gc', or free disk space, then try again",
            path=self.directory,
            free_bytes=left,
        )

    def _status(self) -> os.statvfs_result:
        try:
            return os.statvfs(self.directory)
        except OSError as exc:
            raise storage_failed("examine", self.directory, exc) from exc
