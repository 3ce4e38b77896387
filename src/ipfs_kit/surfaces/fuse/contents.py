"""Contents of open files: read through windows, written into a temporary file that is put in place as a whole."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from typing import Any, Final

from ipfs_kit.operations.kit import Kit
from ipfs_kit.surfaces.filesystem_errors import os_errors

WINDOW: Final = 4 << 20
"""Bytes fetched at once: the kernel asks for 128 KiB, and a block of 1 MiB is hashed whole whatever is taken from it."""
SMALL_MAX: Final = 8 << 20


class OpenFile:
    """One file that is open, whichever number of handles it has.

    Args:
        kit: The store.
        place: ``BUCKET[@ref]:/path``.
        size: Its bytes when it was opened.
        cid: CID of its content then; None for a new file.
    """

    def __init__(self, kit: Kit, place: str, size: int, cid: str | None) -> None:
        self.place, self.handles = place, 0
        self._kit, self._size, self._cid = kit, size, cid
        self._window, self._start = b"", 0
        self._file: Any = None
        self._dirty = cid is None
        self.changed_ns = time.time_ns()
        self.unlinked = False

    @property
    def dirty(self) -> bool:
        """Whether what is in the store is older."""
        return self._dirty

    @property
    def size(self) -> int:
        """Bytes as its users see it."""
        return self._size if self._file is None else os.fstat(self._file.fileno()).st_size

    def read(self, size: int, offset: int) -> bytes:
        """Bytes from an offset; fewer at the end."""
        if self._file is not None:
            return os.pread(self._file.fileno(), size, offset)
        if self._cid is None or offset >= self._size:
            return b""
        if not self._start <= offset < self._start + len(self._window):
            self._fetch(offset)
        found = self._window[offset - self._start :][:size]
        rest = min(size, self._size - offset) - len(found)
        return found + self.read(rest, offset + len(found)) if rest > 0 and found else found

    def _fetch(self, offset: int) -> None:
        with os_errors(self.place):
            content = self._kit.files.read(self.place, offset=offset, length=WINDOW)
            if str(content.cid) != self._cid:
                raise OSError(errno.ESTALE, "it was changed while it was open: open it again", self.place)
            self._window, self._start = content.read(), offset

    def write(self, data: bytes, offset: int) -> int:
        """Put bytes at an offset; how many."""
        self._own()
        self._touch()
        return os.pwrite(self._file.fileno(), data, offset)

    def truncate(self, length: int) -> None:
        """Cut or extend with zeros."""
        self._own(length)
        self._touch()
        os.ftruncate(self._file.fileno(), length)

    def _touch(self) -> None:
        self._dirty, self.changed_ns = True, time.time_ns()

    def _own(self, keep: int | None = None) -> None:
        """Have a temporary file with the present content, or the first bytes of it."""
        if self._file is not None:
            return
        self._file = tempfile.NamedTemporaryFile(prefix="kit-")  # noqa: SIM115 - closed by ``close``
        wanted = self._size if keep is None else min(keep, self._size)
        if self._cid is None or not wanted:
            return
        with os_errors(self.place):
            content = self._kit.files.read(self.place, offset=0, length=wanted)
            if str(content.cid) != self._cid:
                raise OSError(errno.ESTALE, "it was changed while it was open: open it again", self.place)
            for piece in content.open():
                self._file.write(piece)
        self._file.flush()

    def store(self) -> None:
        """Put the content in place, in one operation; nothing when it is there already or the name is gone."""
        if not self._dirty or self.unlinked:
            return
        files = self._kit.files
        with os_errors(self.place):
            if self._file is None:
                files.write(self.place, data=b"")
            elif self.size <= SMALL_MAX:
                files.write(self.place, data=os.pread(self._file.fileno(), self.size, 0))
            else:
                files.put(self._file.name, self.place, ignore_files=False)
        self._dirty = False

    def close(self) -> None:
        """Forget the temporary file."""
        if self._file is not None:
            self._file.close()
            self._file = None
