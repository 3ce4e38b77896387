"""Appending to packs: one process owns a pack while it holds an exclusive ``flock`` on the file.

The owner, or after its death its successor, is the only one who appends to a pack or cuts off its torn tail.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final

from ipfs_kit.blocks.pack_files import Scan, mapped, read_descriptor, scan, walk
from ipfs_kit.blocks.pack_layout import (
    PACK_BYTES_MAX,
    PACK_FRAMES_MAX,
    STUB_BYTES_MAX,
    Descriptor,
    Kind,
    decode_start,
    encode_sidecar,
    encode_start,
    frame_head,
    kind_of,
    pack_id_new,
    pack_name,
    sidecar_name,
)
from ipfs_kit.durable.files import AppendFile, create_idempotent, remove, storage_failed, sync_dir
from ipfs_kit.errors import FormatError, StorageFailed
from ipfs_kit.ipld.cid import CID

# One vectored write per this many bytes; larger blocks go out with the one that passes the mark.
_FLUSH_BYTES: Final = 1024 * 1024


class PackWriter:
    """An owned pack. Not thread-safe, except that ``sync`` may run beside ``add``.

    Args:
        directory: The packs' directory.
        pack_id: The pack.
        domain: Its key domain, or None.
        file: The open file, locked.
        fresh: The name is not yet durable.
    """

    def __init__(self, directory: str, pack_id: int, domain: str | None, file: AppendFile, *, fresh: bool) -> None:
        self.directory = directory
        self.pack_id = pack_id
        self.kind = kind_of(pack_id)
        self.domain = domain
        self._file = file
        self._fresh = fresh
        self.frames = 0
        self.end = file.size
        """Where the next frame starts, buffered ones counted."""
        self._buffers: list[bytes] = []
        self._buffered_bytes = 0
        self.buffered: dict[int, bytes] = {}
        """Data not yet handed to the kernel, by offset."""

    @classmethod
    def create(
        cls, directory: str, kind: Kind, domain: str | None, created_ns: int, random: bytes
    ) -> PackWriter | None:
        """Start a new pack.

        Returns:
            The writer, or None when another process took the file in the moment before it was locked.

        Raises:
            StorageFailed: The disk refused.
        """
        pack_id = pack_id_new(kind, random)
        path = os.path.join(directory, pack_name(pack_id))
        file = AppendFile(path, exclusive=True)
        try:
            if not _lock(file) or os.fstat(file.fileno()).st_nlink == 0:
                file.close()
                return None
            start = encode_start(Descriptor(pack_id, domain, created_ns))
            file.append([start])
        except BaseException:
            file.close()
            raise
        return cls(directory, pack_id, domain, file, fresh=True)

    @classmethod
    def adopt(cls, directory: str, pack_id: int) -> PackWriter | None:
        """Become the owner of a pack whose owner has gone.

        Returns:
            The writer, or None when the pack has an owner, is sealed, gone, or no readable pack.
        """
        path = os.path.join(directory, pack_name(pack_id))
        try:
            file = AppendFile(path, create=False)
        except StorageFailed as exc:
            if exc.details.get("errno") == errno.ENOENT:
                return None
            raise
        try:
            if _lock(file) and not os.path.exists(os.path.join(directory, sidecar_name(pack_id))):
                descriptor, _ = read_descriptor(path)
                same = os.stat(path).st_ino == os.fstat(file.fileno()).st_ino
                if same and descriptor.pack_id == pack_id:
                    # Its creator may have died between creating the name and syncing the directory.
                    return cls(directory, pack_id, descriptor.domain, file, fresh=True)
        except (FormatError, FileNotFoundError):
            file.close()
            return None
        except OSError as exc:
            file.close()
            raise storage_failed("adopt", path, exc) from exc
        except BaseException:
            file.close()
            raise
        file.close()
        return None

    @classmethod
    def discard_stub(cls, directory: str, pack_id: int) -> bool:
        """Remove a file whose creator died before its first bytes were written.

        Returns:
            True when it was such a file.
        """
        path = os.path.join(directory, pack_name(pack_id))
        if os.stat(path).st_size >= STUB_BYTES_MAX:
            return False
        file = AppendFile(path, create=False)
        try:
            if not _lock(file):
                return False
            try:
                read_descriptor(path)
            except FormatError:
                return remove(path)
            return False
        finally:
            file.close()

    @property
    def path(self) -> str:
        """The pack's file."""
        return self._file.path

    @property
    def full(self) -> bool:
        """Whether the pack should take no more blocks."""
        return self.end >= PACK_BYTES_MAX or self.frames >= PACK_FRAMES_MAX

    @property
    def waiting_bytes(self) -> int:
        """Bytes not yet handed to the kernel."""
        return self._buffered_bytes

    @property
    def dirty(self) -> bool:
        """Whether some frame is not yet durable."""
        return self.end != self._file.synced or self._fresh

    def add(self, cid: CID, data: bytes) -> int:
        """Append one frame, into memory first.

        Returns:
            The offset of the data in the pack.

        Raises:
            StorageFailed: The disk refused.
        """
        head = frame_head(cid, len(data))
        offset = self.end + len(head)
        self._buffers.append(head)
        self._buffers.append(data)
        self.buffered[offset] = data
        self.end = offset + len(data)
        self.frames += 1
        self._buffered_bytes += len(data) + len(head)
        if self._buffered_bytes >= _FLUSH_BYTES:
            self.flush()
        return offset

    def flush(self) -> None:
        """Hand everything buffered to the kernel.

        Raises:
            StorageFailed: The disk refused.
        """
        if self._buffers:
            few = self._buffered_bytes < 4096 * len(self._buffers)
            self._file.append([b"".join(self._buffers)] if few else self._buffers)
            self._buffers = []
            self._buffered_bytes = 0
            self.buffered = {}

    def sync(self) -> None:
        """Make everything flushed durable.

        Raises:
            StorageFailed: The disk refused.
        """
        self._file.sync()
        if self._fresh:
            sync_dir(self.directory)
            self._fresh = False

    def sync_all(self) -> None:
        """Sync also what a former owner wrote, whether or not it synced it.

        Raises:
            StorageFailed: The disk refused.
        """
        self._file.sync(force=True)
        if self._fresh:
            sync_dir(self.directory)
            self._fresh = False

    def recover(self, indexed_to: int) -> Scan:
        """Verify what follows the indexed part and cut off a torn tail; for the successor of a dead owner.

        Args:
            indexed_to: Where the index ends; 0 when it knows nothing.

        Returns:
            The frames found.

        Raises:
            StorageFailed: The disk refused.
        """
        with mapped(self.path) as view:
            _, first = decode_start(view[:1024])
            found = scan(view, max(indexed_to, first))
        if self._file.size > found.end:
            self._file.truncate(found.end)
            self.end = found.end
        self.frames = len(found.frames)
        return found

    def cut_back(self) -> None:
        """After a refused write: give back what was appended since the last sync, on which nothing relies.

        The bytes were never acknowledged nor listed, and the pack stays ours until it is closed, so the cut needs no
        sync: a crash before it reaches the disk leaves a tail as any crash does. Only for a writer taken out of use.
        """
        self._buffers, self._buffered_bytes, self.buffered = [], 0, {}
        self._file.cut_back()
        self.end = self._file.size

    def seal(self) -> None:
        """Write the sidecar of a synced pack; nothing may be added afterwards.

        Raises:
            StorageFailed: The disk refused.
        """
        with mapped(self.path) as view:
            _, first = decode_start(view[:1024])
            rows = [(f.cid.multihash, f.offset, f.length, f.cid.codec) for f in walk(view, first, len(view))]
            size = len(view)
        create_idempotent(
            os.path.join(self.directory, sidecar_name(self.pack_id)), encode_sidecar(self.pack_id, size, rows)
        )

    def close(self) -> None:
        """Give up ownership without flushing."""
        self._file.close()


def _lock(file: AppendFile) -> bool:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise storage_failed("lock", file.path, exc) from exc
    return True
