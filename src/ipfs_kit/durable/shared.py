"""One shared object per opened path in a process (decision 2).

Two opens of one file give one object with a count; the last ``close`` really closes. Objects are keyed by device and
inode, so a symlink or a relative name finds the same one, and a path that was deleted and made anew does not.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable.files import PathLike, storage_failed

T = TypeVar("T")
Key = tuple[int, int, Hashable]


def identity(path: PathLike) -> tuple[int, int]:
    """The device and inode numbers that name an existing file whatever path leads to it.

    Raises:
        StorageFailed: The file cannot be examined.
    """
    try:
        status = os.stat(path)
    except OSError as exc:
        raise storage_failed("open", path, exc) from exc
    return status.st_dev, status.st_ino


@dataclass(slots=True)
class _Slot(Generic[T]):
    """One key's object, its number of openers, and the lock under which it is made and closed."""

    guard: threading.Lock
    value: T | None = None
    count: int = 0


class Registry(Generic[T]):
    """Shares objects by file identity inside one process; a forked child starts empty.

    Args:
        usable: Says whether an object may be handed out again; a failed one is replaced by a fresh one.
        abandon: Called in a forked child with each object inherited, for libraries that let a process open a file once.
    """

    def __init__(self, usable: Callable[[T], bool], abandon: Callable[[T], None] | None = None) -> None:
        self._usable = usable
        self._abandon = abandon
        self._slots: dict[Key, _Slot[T]] = {}
        self._guard = threading.Lock()
        self._pid = os.getpid()

    def open(self, path: PathLike, variant: Hashable, make: Callable[[], T]) -> T:
        """Return the object for a file, making it when there is none.

        Args:
            path: An existing file.
            variant: What else must be equal to share, for example read-only.
            make: Builds the object.
        """
        slot = self._slot((*identity(path), variant))
        with slot.guard:
            if slot.value is None or not self._usable(slot.value):
                slot.value = make()
                slot.count = 0
            slot.count += 1
            return slot.value

    def release(self, value: T, close: Callable[[], None]) -> bool:
        """Count one opener less and close at zero.

        Args:
            value: What ``open`` returned.
            close: Really closes it.

        Returns:
            True when it was closed by this call.
        """
        for key, slot in list(self._here().items()):
            if slot.value is value:
                with slot.guard:
                    if slot.value is value:
                        slot.count -= 1
                        if slot.count > 0:
                            return False
                        slot.value = None
                        close()
                        self._forget(key, slot)
                        return True
        # A failed object that a newer one replaced: nobody else is counted on it.
        close()
        return True

    def _here(self) -> dict[Key, _Slot[T]]:
        if self._pid != os.getpid():
            inherited, self._slots = self._slots, {}
            self._guard = threading.Lock()
            self._pid = os.getpid()
            for slot in inherited.values():
                if self._abandon is not None and slot.value is not None:
                    self._abandon(slot.value)
        return self._slots

    def _slot(self, key: Key) -> _Slot[T]:
        slots = self._here()
        with self._guard:
            slot = slots.get(key)
            if slot is None:
                slot = slots[key] = _Slot(threading.Lock())
            return slot

    def _forget(self, key: Key, slot: _Slot[T]) -> None:
        with self._guard:
            if self._slots.get(key) is slot and slot.value is None and not slot.guard.locked():
                del self._slots[key]
