"""A counter shared by the processes that use one key ring, read in about 0.1 µs.

Even means settled; odd means a key is being destroyed, or a process died while destroying one. A reader whose cached
number equals the shared one knows that no key it holds was destroyed since.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

from ipfs_kit.durable import files
from ipfs_kit.errors import AlreadyExists, FormatError

_COUNTER: Final = struct.Struct("<Q")


class Epoch:
    """The shared counter of one ring.

    Args:
        path: An existing file of eight bytes.

    Raises:
        FormatError: The file is missing or has another size.
    """

    __slots__ = ("_map", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size != _COUNTER.size:
                    raise FormatError(f"{path} has the wrong size: remove it while nothing uses the store, then reopen")
                self._map = mmap.mmap(file.fileno(), _COUNTER.size, access=mmap.ACCESS_READ)
        except OSError as exc:
            raise FormatError(f"{path} cannot be read: {exc}") from exc

    @staticmethod
    def create(path: str, value: int) -> None:
        """Make the counter file unless it exists."""
        try:
            files.create_exclusive(path, _COUNTER.pack(value), mode=0o600)
        except AlreadyExists:
            return

    def token(self) -> bytes:
        """The counter as bytes, for the cheapest comparison."""
        return self._map[:]

    def value(self) -> int:
        """The counter."""
        return int(_COUNTER.unpack(self._map[:])[0])

    def set(self, value: int) -> None:
        """Change the counter for every process; eight bytes in one sector are written whole."""
        files.overwrite(self._path, _COUNTER.pack(value))

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()
