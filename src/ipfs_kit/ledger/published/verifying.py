"""Verification of imported publications: every byte of their folders, derived again; it writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Final

from ipfs_kit.durable import StateDB
from ipfs_kit.durable.files import is_temporary
from ipfs_kit.errors import IntegrityError, KitError
from ipfs_kit.ledger.check import Head
from ipfs_kit.ledger.layout import SEGMENTS, TILE_WIDTH, full_tiles, levels, tile_path
from ipfs_kit.ledger.published import tables
from ipfs_kit.ledger.published.importing import FOLDER, MARKER, files_below, read_small
from ipfs_kit.ledger.published.layout import signed_line
from ipfs_kit.ledger.published.records import check_records
from ipfs_kit.ledger.published.tables import Imported
from ipfs_kit.ledger.published.taking import tile_of
from ipfs_kit.ledger.published.tree import TrustedTiles

_MEND: Final = "drop the publication and import it again"
Tick = Callable[[], None]


def findings(state: StateDB, store: str, tick: Tick) -> Iterator[str]:
    """Every fault of every imported publication: where it is, what is wrong, how to mend it.

    Args:
        state: ``state.db``.
        store: The store's directory.
        tick: Called now and then; raises to cancel.
    """
    folder = os.path.join(store, FOLDER)
    known = set()
    for imported in tables.listed(state):
        known.add(imported.id)
        found = dict.fromkeys(_Check(state, folder, imported, tick).run())
        yield from (f"{FOLDER}/{imported.id}/{fault}: {_MEND}" for fault in found)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        # A marker says that an import was interrupted: the next one removes what it left.
        where = os.path.join(folder, name)
        # The first thing an import makes is the folder, the second its marker.
        empty = os.path.isdir(where) and all(is_temporary(os.path.basename(path)) for path in files_below(where))
        if name not in known and not empty and not os.path.exists(os.path.join(where, MARKER)):
            yield f"{FOLDER}/{name}: is no publication that was imported: remove it"


class _Check:
    """One publication."""

    def __init__(self, state: StateDB, folder: str, imported: Imported, tick: Tick) -> None:
        self._imported = imported
        self._files = tables.files(state, imported.id)
        self._folder = os.path.join(folder, imported.id)
        self._tick = tick

    def run(self) -> Iterator[str]:
        """Every fault, each beginning with the file's path in the publication."""
        parts: dict[str, tuple[Head, list[str]]] = {}
        size = 0
        for log, held in self._imported.publication.logs.items():
            try:
                head = self._imported.head(log)
            except (KitError, KeyError) as exc:
                yield f"{log}/checkpoint: the copy in state.db is not signed by its publisher ({exc})"
                continue
            if head.size != held.size or sum(self._files.get(log, {}).values()) != held.records:
                yield f"{log}/checkpoint: the copy in state.db is not that of the manifest"
            if head.extensions != (signed_line(self._imported.publication.scope, held, self._files.get(log, {})),):
                yield f"{log}/checkpoint: the copy in state.db vouches for other files than are registered"
            good = []
            for name in self._files.get(log, {}):
                self._tick()
                fault = self._bytes_fault(f"{log}/{SEGMENTS}/{name}", name[26:90])
                if fault is None:
                    good.append(name)
                    size += os.path.getsize(os.path.join(self._folder, log, SEGMENTS, name))
                else:
                    yield fault
            faults = list(self._tile_faults(log, head))
            yield from faults
            if not faults:
                parts[log] = head, good
        yield from self._unknown()
        yield from self._record_faults(parts, size)

    def _bytes_fault(self, path: str, wanted: str) -> str | None:
        digest = sha256()
        try:
            with open(os.path.join(self._folder, path), "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as exc:
            return f"{path}: cannot be read ({exc.strerror})"
        return None if digest.hexdigest() == wanted else f"{path}: its bytes are not what was imported"

    def _tile_faults(self, log: str, head: Head) -> Iterator[str]:
        edges = {path: wanted for path, wanted in self._imported.edges.items() if path.startswith(f"{log}/")}
        faults = [fault for path, wanted in edges.items() if (fault := self._bytes_fault(path, wanted)) is not None]
        yield from faults
        if faults:
            return
        where = os.path.join(self._folder, log)
        try:
            tiles = TrustedTiles(lambda path, limit: read_small(os.path.join(where, path), limit), head.size, head.root)
        except IntegrityError as exc:
            yield f"{log}/{exc.details.get('path', 'tile')}: {exc.message}"
            return
        for level in range(levels(head.size)):
            for index in self._indices(log, level, full_tiles(level, head.size)):
                self._tick()
                try:
                    tiles.hashes(level, index)
                except IntegrityError as exc:
                    yield f"{log}/{exc.details.get('path', tile_path(level, index))}: {exc.message}"

    def _indices(self, log: str, level: int, full: int) -> Iterator[int]:
        """Full tiles that must be there: all above the leaves; of the leaves' those that are there."""
        if level:
            yield from range(full)
            return
        for path in files_below(os.path.join(self._folder, log, "tile", "0")):
            try:
                _, index, width = tile_of(f"tile/0/{path}")
            except IntegrityError:
                continue  # named as unknown
            if width == TILE_WIDTH and index < full:
                yield index

    def _unknown(self) -> Iterator[str]:
        if os.path.exists(os.path.join(self._folder, MARKER)):
            return  # an import is under way or was interrupted; what is registered was checked
        for path in files_below(self._folder):
            log, _, name = path.partition("/")
            held = self._imported.publication.logs.get(log)
            if is_temporary(os.path.basename(path)):
                continue
            if held is not None and name.startswith(f"{SEGMENTS}/"):
                sound = name.partition("/")[2] in self._files.get(log, {})
            else:
                sound = held is not None and (path in self._imported.edges or _is_full_tile(name, held.size))
            if not sound:
                yield f"{path}: is no file of this publication"

    def _record_faults(self, parts: Mapping[str, tuple[Head, list[str]]], size: int) -> Iterator[str]:
        publication = self._imported.publication
        try:
            for found in check_records(
                self._folder, publication.node, publication.scope.stream, parts, size, lambda _done: self._tick()
            ):
                if found.fault is not None:
                    yield f"{found.log}/{SEGMENTS}/{found.file}: {found.fault}"
                elif found.records != self._files[found.log][found.file]:
                    yield f"{found.log}/{SEGMENTS}/{found.file}: holds other than {found.records} records by state.db"
        except IntegrityError as exc:
            yield f"{SEGMENTS}: {exc.message}"


def _is_full_tile(name: str, size: int) -> bool:
    try:
        level, index, width = tile_of(name)
    except IntegrityError:
        return False
    return width == TILE_WIDTH and index < full_tiles(level, size)


def row_faults(expected: Mapping[str, Mapping[str, Any] | None], state: StateDB) -> Iterator[str]:
    """Rows of ``state.db`` that are not what the records of imports say.

    Args:
        expected: By id the effect of its last import; None where it cannot be read any more.
        state: ``state.db``.
    """
    rows = {imported.id: imported for imported in tables.listed(state)}
    mend = "restore state.db from its backup"
    for ident in sorted(set(expected) | set(rows)):
        if ident in expected and expected[ident] is None:
            continue
        imported, effect = rows.get(ident), expected.get(ident)
        where = f"state.db, ledger_imports {ident}"
        if effect is None or imported is None:
            yield f"{where}: {'no op made this row' if effect is None else 'its row is missing'}: {mend}"
            continue
        try:
            heads = {log: [(head := imported.head(log)).size, head.root] for log in imported.notes}
        except KitError:
            continue  # named where the checkpoint is checked
        said = [effect.get(key) for key in ("name", "vkey", "root", "logs", "files")]
        files = tables.digest(tables.files(state, ident))
        if said != [imported.name, imported.vkey, imported.root, heads, files]:
            yield f"{where}: its row is not what the op that made it says: {mend}"
