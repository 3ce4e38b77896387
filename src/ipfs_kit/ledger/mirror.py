"""A mirror: a directory that follows a store's published logs, file by file, and never gives up a history it has seen.

The mirror holds, for each log, what C2SP tlog-tiles names (checkpoint, tiles, entry bundles), the manifests and sealed
segments, and the verifier key. Files are only added; the checkpoint is replaced last, and only by one whose tree extends the
one it had. What expired in the store is removed here too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable.files import create_idempotent, make_dirs, remove, replace
from ipfs_kit.errors import AlreadyExists, IntegrityError, InvalidInput
from ipfs_kit.ledger import merkle
from ipfs_kit.ledger.check import Head, read_note
from ipfs_kit.ledger.layout import (
    CHECKPOINT,
    MANIFESTS,
    SEGMENTS,
    TILE_WIDTH,
    bundle_path,
    full_tiles,
    levels,
    partial_width,
    tile_path,
)
from ipfs_kit.ledger.tiles import TileFiles, remove_partials

VKEY: Final = "vkey"
_NAMED: Final = (MANIFESTS, "streams", SEGMENTS)
"""Folders whose files are named by their content."""
_NOTE_BYTES_MAX: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What one run did to a log of the mirror.

    Args:
        log: ``main`` or ``bulk``.
        size: Records the mirror covers now.
        before: Records it covered before.
        files: Files added.
        bytes: Their bytes.
        removed: Files removed because what they held has expired.
    """

    log: str
    size: int
    before: int
    files: int
    bytes: int
    removed: int


class Mirror:
    """One mirror directory.

    Args:
        source: The store's ``ledger`` directory.
        directory: The mirror.
        vkeys: Verifier key by log.
    """

    def __init__(self, source: str, directory: str, vkeys: Mapping[str, str]) -> None:
        self._source = source
        self._directory = os.path.abspath(directory)
        self._vkeys = vkeys
        store = os.path.dirname(os.path.abspath(source))
        if os.path.commonpath([store, self._directory]) == store:
            raise InvalidInput("a mirror lies outside of the store: name another directory")

    def update(self, sizes: Mapping[str, int], named: Callable[[str], set[str]]) -> list[Mirrored]:
        """Bring the mirror up to date; the caller keeps others from publishing meanwhile.

        Args:
            sizes: Published size of each log.
            named: Names of a log's files in ``segments/`` that are registered.

        Raises:
            IntegrityError: The mirror has seen another history than this store's, or is damaged; nothing was overwritten.
            StorageFailed: The operating system refused a write; run it again.
        """
        heads = {log: self._judged(log, size) for log, size in sizes.items()}
        # ``main``'s checkpoint carries the root of ``bulk``, so it comes last.
        done = [self._follow(log, sizes[log], heads[log], named(log)) for log in sorted(sizes)]
        return sorted(done, key=lambda each: each.log != "main")

    def check(self) -> dict[str, int]:
        """Derive every root of the mirror anew from its own entries; sizes by log.

        Raises:
            IntegrityError: It does not hold what its checkpoints say.
        """
        found = {}
        for log in self._vkeys:
            head = self._head(log)
            if head is not None:
                self._rebuild(log, head)
                found[log] = head.size
        return found

    # -- one log -------------------------------------------------------------------------------------------------

    def _head(self, log: str) -> Head | None:
        path = os.path.join(self._directory, log, CHECKPOINT)
        try:
            with open(path, "rb") as file:
                data = file.read(_NOTE_BYTES_MAX)
        except FileNotFoundError:
            return None
        try:
            return read_note(data.decode(), self._vkeys[log])
        except (IntegrityError, UnicodeDecodeError) as exc:
            raise IntegrityError(
                f"{path} is no checkpoint of this store ({exc}): the mirror follows another one; name another directory"
            ) from exc

    def _judged(self, log: str, size: int) -> Head | None:
        """The mirror's checkpoint, once it is shown that the store's log extends it."""
        head = self._head(log)
        if head is None:
            return None
        files = TileFiles(os.path.join(self._source, log))
        if head.size > size or merkle.root(files.nodes(size), head.size) != head.root:
            raise IntegrityError(
                f"the mirror in {self._directory} has signed proof of {head.size} records of log {log} that this store's "
                f"{size} do not extend: history was rewritten or restored from an older copy. Nothing was overwritten; "
                "keep the mirror as evidence and name another directory",
                log=log,
            )
        return head

    def _follow(self, log: str, size: int, head: Head | None, registered: set[str]) -> Mirrored:
        before = head.size if head is not None else 0
        source, target = os.path.join(self._source, log), os.path.join(self._directory, log)
        make_dirs(target)
        count = volume = 0
        for name in (*_published(before, size), *_content(source, registered)):
            with open(os.path.join(source, name), "rb") as file:
                data = file.read()
            path = os.path.join(target, name)
            make_dirs(os.path.dirname(path))
            try:
                fresh = create_idempotent(path, data)
            except AlreadyExists as exc:
                raise IntegrityError(
                    f"{path} differs from the store's: the mirror or the store is damaged, nothing was overwritten; run "
                    "'ipfs-kit ledger verify'"
                ) from exc
            if fresh:
                count += 1
                volume += len(data)
        removed = self._expire(target, registered)
        if merkle.root(TileFiles(target).nodes(size), size) != merkle.root(TileFiles(source).nodes(size), size):
            raise IntegrityError(f"the copy of log {log} in {target} does not lead to the root that was signed")
        create_idempotent(os.path.join(target, VKEY), self._vkeys[log].encode() + b"\n")
        with open(os.path.join(source, CHECKPOINT), "rb") as file:
            note = file.read(_NOTE_BYTES_MAX)
        if read_note(note.decode(), self._vkeys[log]).size != size:
            raise IntegrityError(f"the checkpoint of log {log} moved while it was mirrored: try again")
        replace(os.path.join(target, CHECKPOINT), note)
        if before:
            remove_partials(target, before, size)
        return Mirrored(log, size, before, count, volume, removed)

    def _expire(self, target: str, registered: set[str]) -> int:
        folder = os.path.join(target, SEGMENTS)
        if not os.path.isdir(folder):
            return 0
        gone = sorted(set(os.listdir(folder)) - registered)
        for name in gone:
            remove(os.path.join(folder, name))
        return len(gone)

    def _rebuild(self, log: str, head: Head) -> None:
        files = TileFiles(os.path.join(self._directory, log))
        above: list[bytes] = []
        last: list[bytes] = []
        for bundle in range(-(-head.size // TILE_WIDTH)):
            width = TILE_WIDTH if bundle < full_tiles(0, head.size) else partial_width(0, head.size)
            last = [sha256(b"\0" + entry).digest() for entry in files.entries(bundle, width)]
            if list(files.hashes(0, bundle, width)) != last:
                raise IntegrityError(f"tile {bundle} of log {log} in the mirror is not that of its entries", log=log)
            if width == TILE_WIDTH:
                above.append(merkle.perfect_root(last))

        def node(height: int, index: int) -> bytes:
            if height < 8:
                at = (index << height) % TILE_WIDTH
                return merkle.perfect_root(last[at : at + (1 << height)])
            return merkle.perfect_root(above[index << (height - 8) : (index + 1) << (height - 8)])

        if merkle.root(node, head.size) != head.root:
            raise IntegrityError(f"the entries of log {log} in the mirror do not lead to its signed root", log=log)


def _published(before: int, size: int) -> Iterator[str]:
    """Tiles and bundles of a tree that one of ``before`` leaves did not have in full."""
    for level in range(levels(size)):
        for index in range(full_tiles(level, before), full_tiles(level, size)):
            yield tile_path(level, index)
            if level == 0:
                yield bundle_path(index)
        width = partial_width(level, size)
        if width:
            yield tile_path(level, full_tiles(level, size), width)
            if level == 0:
                yield bundle_path(full_tiles(level, size), width)


def _content(source: str, registered: set[str]) -> Iterator[str]:
    for folder in _NAMED:
        path = os.path.join(source, folder)
        for name in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            if not name.startswith(".") and (folder != SEGMENTS or name in registered):
                yield f"{folder}/{name}"
