"""Tiles and entry bundles of one log as files (C2SP tlog-tiles): written once, synced, read back for proofs.

``Growth`` extends a tree from its right edge: it reads the partial tiles of the present size, takes new entries, and
writes only what they touch, whatever the size of the log.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

from ipfs_kit.durable import create_idempotent, make_dirs, remove
from ipfs_kit.durable.files import storage_failed, sync_dir
from ipfs_kit.errors import AlreadyExists, IntegrityError
from ipfs_kit.ledger import merkle
from ipfs_kit.ledger.layout import (
    ENTRY_BYTES,
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    bundle_path,
    full_tiles,
    levels,
    partial_width,
    tile_path,
)

_LENGTH: Final = ENTRY_BYTES.to_bytes(2, "big")
_FRAMED: Final = 2 + ENTRY_BYTES


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Entries with their uint16 lengths."""
    return b"".join(_LENGTH + entry for entry in entries)


def split_bundle(data: bytes) -> list[bytes]:
    """Entries of a bundle, each a 36-byte CID.

    Raises:
        IntegrityError: A length differs, or bytes are left over.
    """
    if len(data) % _FRAMED or any(data[at : at + 2] != _LENGTH for at in range(0, len(data), _FRAMED)):
        raise IntegrityError("an entry bundle does not hold 36-byte CIDs: run ledger verify")
    return [data[at + 2 : at + _FRAMED] for at in range(0, len(data), _FRAMED)]


def split_hashes(data: bytes) -> list[bytes]:
    """Hashes of a tile."""
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class TileFiles:
    """Reads tiles and bundles of one log; keeps the last ones read, and tiles never change.

    Args:
        directory: ``ledger/<log>``.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        # 1,024 tiles are 8 MiB at most; a proof reads at most two per level.
        self._cached = lru_cache(maxsize=1024)(self._load)

    def hashes(self, level: int, index: int, width: int) -> Sequence[bytes]:
        """The first ``width`` hashes of a tile, from the partial file or the full one that replaced it.

        Raises:
            IntegrityError: Neither file is there, or it has another length.
        """
        return self._cached(level, index, width)

    def entries(self, index: int, width: int = TILE_WIDTH) -> list[bytes]:
        """The first ``width`` entries of a bundle.

        Raises:
            IntegrityError: The file is missing or malformed.
        """
        return split_bundle(self._read(bundle_path(index, width), bundle_path(index), width * _FRAMED))

    def nodes(self, size: int) -> merkle.Nodes:
        """The perfect subtrees of a tree of this size, from its tiles."""

        def node(height: int, index: int) -> bytes:
            level, rise = divmod(height, TILE_HEIGHT)
            tile, at = divmod(index << rise, TILE_WIDTH)
            width = TILE_WIDTH if tile < full_tiles(level, size) else partial_width(level, size)
            return merkle.perfect_root(self.hashes(level, tile, width)[at : at + (1 << rise)])

        return node

    def forget(self) -> None:
        """Drop cached tiles."""
        self._cached.cache_clear()

    def _load(self, level: int, index: int, width: int) -> tuple[bytes, ...]:
        data = self._read(tile_path(level, index, width), tile_path(level, index), width * HASH_BYTES)
        return tuple(split_hashes(data))

    def _read(self, name: str, full_name: str, length: int) -> bytes:
        for candidate in (name, full_name, *self._wider(name, full_name)):
            try:
                with open(os.path.join(self.directory, candidate), "rb") as file:
                    data = file.read(TILE_WIDTH * _FRAMED + 1)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as exc:
                raise storage_failed("read", os.path.join(self.directory, candidate), exc) from exc
            if len(data) < length or (candidate == name and name != full_name and len(data) != length):
                raise IntegrityError(
                    f"{candidate} has {len(data)} bytes instead of {length}: run ledger verify", path=candidate
                )
            return data[:length]
        raise IntegrityError(f"{name} is missing: run ledger verify", path=name)

    def _wider(self, name: str, full_name: str) -> Iterator[str]:
        """Wider partial files of the same tile: what is left when a newer checkpoint has removed the one asked for."""
        if name != full_name:
            parent = os.path.dirname(name)
            try:
                widths = [int(entry) for entry in os.listdir(os.path.join(self.directory, parent)) if entry.isdecimal()]
            except (FileNotFoundError, NotADirectoryError):
                return
            yield from (f"{parent}/{width}" for width in sorted(widths) if width > int(os.path.basename(name)))


class Growth:
    """A tree being extended from its right edge.

    Args:
        files: Tiles of the log as they are.
        size: Leaves in them.
    """

    def __init__(self, files: TileFiles, size: int) -> None:
        self._files = files
        self.size = size
        # Directories with new names, each synced once at the end instead of once a tile.
        self._touched: set[str] = set()
        self._row: list[list[bytes]] = []
        for level in range(levels(size)):
            width = partial_width(level, size)
            index = full_tiles(level, size)
            self._row.append(list(files.hashes(level, index, width)) if width else [])
        width = partial_width(0, size)
        self._entries = files.entries(full_tiles(0, size), width) if width else []
        if [merkle.leaf_hash(entry) for entry in self._entries] != (self._row[0] if self._row else []):
            raise IntegrityError("the last entry bundle does not match its tile: run ledger verify")

    def root(self) -> bytes:
        """Root of the tree as it stands."""
        frontier: list[bytes] = []
        for level in reversed(range(len(self._row))):
            row, at = self._row[level], 0
            for bit in reversed(range(TILE_HEIGHT)):
                width = 1 << bit
                if len(row) & width:
                    frontier.append(merkle.perfect_root(row[at : at + width]))
                    at += width
        return merkle.fold(frontier)

    def add(self, entries: Sequence[bytes]) -> None:
        """Append entries; tiles and bundles are written as they fill, their names durable after ``finish``."""
        at = 0
        while at < len(entries):
            if not self._row:
                self._row.append([])
            chunk = entries[at : at + TILE_WIDTH - len(self._row[0])]
            at += len(chunk)
            self.size += len(chunk)
            self._entries += chunk
            self._row[0] += [sha256(b"\x00" + entry).digest() for entry in chunk]
            if len(self._row[0]) == TILE_WIDTH:
                self._carry()

    def finish(self) -> None:
        """Write the partial tiles and bundle of the present size, and make all names written so far durable."""
        for level in range(levels(self.size)):
            width = partial_width(level, self.size)
            if width:
                self._write(tile_path(level, full_tiles(level, self.size), width), b"".join(self._row[level]))
        if self._entries:
            self._write(bundle_path(full_tiles(0, self.size), len(self._entries)), encode_bundle(self._entries))
        for directory in sorted(self._touched):
            sync_dir(directory)
        self._touched.clear()

    def _carry(self) -> None:
        """Write the tiles that have just become full, from the leaves upward, each hashed into the one above."""
        self._write(bundle_path(full_tiles(0, self.size) - 1), encode_bundle(self._entries))
        self._entries = []
        level = 0
        while len(self._row[level]) == TILE_WIDTH:
            self._write(tile_path(level, full_tiles(level, self.size) - 1), b"".join(self._row[level]))
            if level + 1 == len(self._row):
                self._row.append([])
            self._row[level + 1].append(merkle.perfect_root(self._row[level]))
            self._row[level] = []
            level += 1

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self._files.directory, name)
        directory = os.path.dirname(path)
        if directory not in self._touched:
            make_dirs(directory)
            self._touched.add(directory)
        try:
            create_idempotent(path, data, sync_name=False)
        except AlreadyExists as exc:
            raise IntegrityError(
                f"{name} holds other hashes than the records give: run ledger verify", path=name
            ) from exc


def remove_partials(directory: str, old: int, new: int) -> None:
    """Remove the partial tiles and bundle that belong to a tree of ``old`` leaves and not to that of ``new``.

    Args:
        directory: ``ledger/<log>``.
        old: A size that no checkpoint names any more.
        new: The size that the present checkpoint names.
    """
    for name in sorted(set(_partials(old)) - set(_partials(new))):
        path = os.path.join(directory, name)
        remove(path, sync=False)
        try:
            os.rmdir(os.path.dirname(path))
        except OSError:
            # A wider partial tile of the same index lives there, or there is none.
            continue


def _partials(size: int) -> list[str]:
    """Names of the partial tiles and bundle that belong to a tree of this size."""
    found = []
    for level in range(levels(size)):
        width = partial_width(level, size)
        if width:
            found.append(tile_path(level, full_tiles(level, size), width))
    width = partial_width(0, size)
    if width:
        found.append(bundle_path(full_tiles(0, size), width))
    return found
