"""Reading packs: shared descriptors, verified scans and what a torn tail is."""

from __future__ import annotations

import mmap
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.blocks.pack_layout import (
    Descriptor,
    Frame,
    decode_frame,
    decode_start,
    pack_name,
)
from ipfs_kit.durable.files import storage_failed
from ipfs_kit.errors import FormatError, IntegrityError

# Descriptors kept open; the usual limit of a process is 1,024 and servers need theirs for sockets.
_OPEN_MAX: Final = 128
# Where a CID of a common form may begin inside damaged bytes: version 1 with any codec, or version 0.
_CID_START: Final = re.compile(rb"\x01[\x80-\xff]{0,8}[\x00-\x7f](?:\x12\x20|\x1e\x20)|\x12\x20", re.DOTALL)
_RESYNC_TRIES_MAX: Final = 100_000


class OpenPack:
    """One open descriptor; it closes when the last reader lets go of the object."""

    __slots__ = ("fd",)

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class PackFiles:
    """Reads blocks out of the packs of one directory through a bounded number of descriptors.

    Args:
        directory: Where the packs are.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._open: OrderedDict[int, OpenPack] = OrderedDict()
        self._guard = threading.Lock()

    def path(self, pack_id: int) -> str:
        """The file of a pack."""
        return os.path.join(self.directory, pack_name(pack_id))

    def read(self, pack_id: int, offset: int, length: int) -> bytes:
        """Read bytes of a pack; fewer when the file ends there.

        Raises:
            FileNotFoundError: The pack is gone; look the block up again.
            StorageFailed: The disk cannot read it.
        """
        pack = self._open.get(pack_id)
        if pack is None:
            pack = self._opened(pack_id)
        try:
            data = os.pread(pack.fd, length, offset)
            while len(data) < length:
                more = os.pread(pack.fd, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as exc:
            raise storage_failed("read", self.path(pack_id), exc) from exc
        return data

    def forget(self, pack_id: int) -> None:
        """Let go of a pack that is about to be removed."""
        with self._guard:
            self._open.pop(pack_id, None)

    def close(self) -> None:
        """Let go of every pack."""
        with self._guard:
            self._open.clear()

    def _opened(self, pack_id: int) -> OpenPack:
        try:
            pack = OpenPack(self.path(pack_id))
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise storage_failed("open", self.path(pack_id), exc) from exc
        with self._guard:
            self._open[pack_id] = pack
            while len(self._open) > _OPEN_MAX:
                self._open.popitem(last=False)
        return pack


@dataclass(slots=True)
class Scan:
    """What a verified walk over a pack found.

    Args:
        frames: Good frames in order.
        end: Where the last good frame ends; a torn tail starts there.
        damaged: Offsets of frames inside the good region whose bytes are wrong.
    """

    frames: list[Frame] = field(default_factory=list)
    end: int = 0
    damaged: list[int] = field(default_factory=list)


@contextmanager
def mapped(path: str) -> Iterator[memoryview]:
    """Map a pack for scanning; an empty file gives an empty view.

    Raises:
        FileNotFoundError: There is no such file.
        StorageFailed: The file cannot be mapped.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            area = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else None
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise storage_failed("read", path, exc) from exc
    view = memoryview(area) if area is not None else memoryview(b"")
    try:
        yield view
    finally:
        view.release()
        if area is not None:
            area.close()


def read_descriptor(path: str) -> tuple[Descriptor, int]:
    """Read what a pack says about itself and where its blocks start.

    Raises:
        FormatError: The file is no pack.
        FileNotFoundError: There is no such file.
        StorageFailed: The disk cannot read it.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(1024)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise storage_failed("read", path, exc) from exc
    return decode_start(start)


def walk(view: memoryview, start: int, end: int) -> Iterator[Frame]:
    """Yield frames without checking hashes.

    Raises:
        FormatError: The framing breaks before ``end``.
    """
    while start < end:
        frame = decode_frame(view, start, end)
        yield frame
        start = frame.offset + frame.length


def scan(view: memoryview, start: int) -> Scan:
    """Walk frames from ``start`` to the end of a pack, checking every hash.

    A bad frame with a good one anywhere after it is damage inside the pack, to be reported and kept; a bad stretch with
    nothing good after it is a torn tail. Only the second may ever be cut off.
    """
    result = Scan(end=start)
    end = len(view)
    suspects: list[int] = []
    while start < end:
        try:
            frame = decode_frame(view, start, end)
        except FormatError:
            resumed = _resync(view, start + 1, end)
            if resumed is None:
                break
            suspects.append(start)
            start = resumed
            continue
        stop = frame.offset + frame.length
        if is_good(view, frame):
            result.frames.append(frame)
            result.end = stop
            result.damaged += suspects
            suspects = []
        else:
            suspects.append(start)
        start = stop
    return result


def is_good(view: memoryview, frame: Frame) -> bool:
    """Whether a frame's data hashes to its CID."""
    try:
        frame.cid.check(bytes(view[frame.offset : frame.offset + frame.length]))
    except IntegrityError:
        return False
    return True


def _resync(view: memoryview, start: int, end: int) -> int | None:
    """Find the next frame after broken framing: the place before a CID from which a whole, good frame follows."""
    tries = 0
    for match in _CID_START.finditer(view, start, end):
        tries += 1
        if tries > _RESYNC_TRIES_MAX:
            return None
        for width in (1, 2, 3, 4):
            at = match.start() - width
            if at < start:
                break
            try:
                frame = decode_frame(view, at, end)
            except FormatError:
                continue
            if frame.offset - len(frame.cid.binary) == match.start() and is_good(view, frame):
                return at
    return None
