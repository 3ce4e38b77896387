"""Taking the files of a publication in: copied, checked against the signed head, the records against the tiles."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Final

from ipfs_kit.durable import make_dirs
from ipfs_kit.durable.files import create_idempotent, replace, sync_dir
from ipfs_kit.errors import AlreadyExists, IntegrityError
from ipfs_kit.ipld.budgets import Budgets
from ipfs_kit.ledger.check import Head
from ipfs_kit.ledger.layout import SEGMENTS, TILE_WIDTH, full_tiles, levels, tile_path
from ipfs_kit.ledger.published.folder import Tree
from ipfs_kit.ledger.published.layout import Publication, signed_line
from ipfs_kit.ledger.published.records import check_records
from ipfs_kit.ledger.published.tree import TrustedTiles
from ipfs_kit.ledger.published.writing import published_names

_TILE: Final = re.compile(r"tile/([0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z")
_DEPTH: Final = 8
"""Folders of a tile's name, at most."""
Progress = Callable[[int, int | None, str], None]
"""Told of done, of all (None when unknown), and of what; raises to cancel."""


class Taking:
    """One publication being taken in; ``run`` leaves its files in place and says what is new.

    Args:
        folder: Where it goes.
        tree: Where it comes from.
        publication: Its manifest.
        heads: Its signed heads by log.
        had: Files registered of it by log, with their records.
        budgets: Bounds on what strangers made.
        progress: Receives reports.
    """

    def __init__(
        self,
        folder: str,
        tree: Tree,
        publication: Publication,
        heads: Mapping[str, Head],
        had: Mapping[str, Mapping[str, int]],
        budgets: Budgets,
        progress: Progress,
    ) -> None:
        self._folder = folder
        self._tree = tree
        self._publication = publication
        self._heads = heads
        self._had = had
        self._budgets = budgets
        self._progress = progress
        self.added: list[tuple[str, str, int]] = []
        self.withdrawn: list[tuple[str, str]] = []
        self.files: dict[str, list[str]] = {}
        self.edges: dict[str, str] = {}
        self.volume = 0

    def tiles(self, log: str) -> TrustedTiles:
        """The tree that the publication brings.

        Raises:
            IntegrityError: It does not lead to the signed root.
        """
        head = self._heads[log]
        return TrustedTiles(lambda path, limit: self._tree.read(f"{log}/{path}", limit), head.size, head.root)

    def run(self) -> None:
        """Take every file in.

        Raises:
            IntegrityError: A file is missing, too much, or not what the signed heads cover.
        """
        parts: dict[str, tuple[Head, list[str]]] = {}
        fresh: dict[str, list[str]] = {}
        size = 0
        for log, head in self._heads.items():
            names = published_names(self._tree, log, self._budgets.publication_files)
            stated = self._publication.logs[log].files
            if len(names) != stated:
                raise IntegrityError(f"{log} holds {len(names)} files, the manifest says {stated}")
            if head.extensions != (signed_line(self._publication.scope, self._publication.logs[log], names),):
                raise IntegrityError(
                    f"{log}/checkpoint vouches for other files or another scope than are here: some were left out, changed or "
                    "added on the way; nothing was imported"
                )
            _check_spans(names, head.size)
            mine = self._had.get(log, {})
            self.files[log] = names
            self.withdrawn += [(log, name) for name in sorted(set(mine) - set(names))]
            fresh[log] = [name for name in names if name not in mine]
            self._copy_tiles(log, self.tiles(log))
            size += self._copy_files(log, fresh[log])
            spans = {name[:25] for name in fresh[log]}
            # A span's files are checked together, so that no record is in two of them.
            parts[log] = head, [name for name in names if name[:25] in spans]
            where = os.path.join(self._folder, log, SEGMENTS)
            self.volume += sum(os.path.getsize(os.path.join(where, name)) for name in names)
        self._check(parts, fresh, size)

    def _copy_tiles(self, log: str, tiles: TrustedTiles) -> None:
        """Add the tiles that are not here, each shown to lead to the signed root."""
        target = os.path.join(self._folder, log)
        touched: set[str] = set()
        budgets = self._budgets
        paths = self._tree.walk(f"{log}/tile", budgets.publication_files, _DEPTH, budgets.publication_tiles)
        for done, path in enumerate(paths):
            if done % 256 == 0:
                self._progress(done, None, f"tiles of {log}")
            name = path[len(log) + 1 :]
            level, index, width = tile_of(name)
            if width != tiles.width(level, index):
                raise IntegrityError(f"{path} is no tile of {tiles.size} records")
            where = os.path.join(target, name)
            if os.path.exists(where) and width == TILE_WIDTH:
                continue
            data = b"".join(tiles.hashes(level, index))
            directory = os.path.dirname(where)
            if directory not in touched:
                make_dirs(directory, 0o700)
                touched.add(directory)
            _put(where, data)
            if width < TILE_WIDTH:
                self.edges[f"{log}/{name}"] = sha256(data).hexdigest()
        for directory in sorted(touched):
            sync_dir(directory)
        for level in range(1, levels(tiles.size)):
            for index in range(full_tiles(level, tiles.size)):
                if not os.path.exists(os.path.join(target, tile_path(level, index))):
                    raise IntegrityError(f"{log}/{tile_path(level, index)} is missing: the publication is incomplete")

    def _copy_files(self, log: str, names: Sequence[str]) -> int:
        target = os.path.join(self._folder, log, SEGMENTS)
        make_dirs(target, 0o700)
        size = 0
        for done, name in enumerate(names):
            self._progress(done, len(names), f"copying {log}")
            data = self._tree.read(f"{log}/{SEGMENTS}/{name}", self._budgets.publication_file_bytes)
            if data is None or sha256(data).hexdigest() != name[26:90]:
                raise IntegrityError(f"{log}/{SEGMENTS}/{name} is not what its name says; nothing was imported")
            _put(os.path.join(target, name), data)
            size += len(data)
        sync_dir(target)
        return size

    def _check(self, parts: Mapping[str, tuple[Head, list[str]]], fresh: Mapping[str, list[str]], size: int) -> None:
        total = sum(len(names) for _, names in parts.values())
        counted = {
            log: {name: n for name, n in self._had.get(log, {}).items() if name in self.files[log]} for log in parts
        }
        for found in check_records(
            self._folder,
            self._publication.node,
            self._publication.scope.stream,
            parts,
            size,
            lambda done: self._progress(done, total, "checking files"),
            self._budgets,
        ):
            if found.fault is not None:
                raise IntegrityError(f"{found.log}/{SEGMENTS}/{found.file}: {found.fault}; nothing was imported")
            counted[found.log][found.file] = found.records
        for log, held in self._publication.logs.items():
            records = sum(counted[log].values())
            if records != held.records:
                raise IntegrityError(f"{log} holds {records} records, the manifest says {held.records}")
            self.added += [(log, name, counted[log][name]) for name in fresh[log]]


def tile_of(name: str) -> tuple[int, int, int]:
    """Level, index and width of a tile by its C2SP name.

    Raises:
        IntegrityError: It is none.
    """
    match = _TILE.match(name)
    if match is not None:
        level = int(match[1])
        index = int(match[2].replace("x", "").replace("/", ""))
        width = TILE_WIDTH if match[3] is None else int(match[3])
        if level < 8 and width <= TILE_WIDTH and tile_path(level, index, width) == name:
            return level, index, width
    raise IntegrityError(f"{name[:120]!a} is no tile")


def _check_spans(names: Sequence[str], size: int) -> None:
    """Spans are the same or lie apart, so that a record is in one span only, and within the signed tree."""
    spans = sorted({(int(name[:12]), int(name[13:25])) for name in names})
    for (_, last), (first, _) in pairwise(spans):
        if first <= last:
            raise IntegrityError(f"two files state overlapping spans from {first}: this is no publication")
    if spans and spans[-1][1] >= size:
        raise IntegrityError(f"a file states records up to {spans[-1][1]}, but {size} are signed")


def _put(path: str, data: bytes) -> None:
    try:
        create_idempotent(path, data, sync_name=False)
    except AlreadyExists:
        # Left by an import that was refused: what this signed head covers takes its place.
        replace(path, data)
