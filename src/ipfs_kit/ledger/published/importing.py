"""Importing publications of other nodes: verified against the publisher's key and history before anything is registered.

Files are added to ``imported/NODE-SCOPE/`` under names that their content fixes; queries read only what ``state.db``
registers, in the transaction that ends an import. While files are being added a marker stands in the folder, so that
whatever a crash leaves is known for what it is and removed by the next import.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import Lease, StateDB, make_dirs
from ipfs_kit.durable.files import create_idempotent, remove, sweep_temporaries, sync_dir
from ipfs_kit.errors import Conflict, Denied, IntegrityError, InvalidInput, NotFound
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ledger.check import Head, read_note
from ipfs_kit.ledger.layout import CHECKPOINT, SEGMENTS, TILE_WIDTH
from ipfs_kit.ledger.published import tables
from ipfs_kit.ledger.published.folder import Tree
from ipfs_kit.ledger.published.layout import LOG, Counts, Publication, node_of, vkey_of
from ipfs_kit.ledger.published.tables import Imported
from ipfs_kit.ledger.published.taking import Progress, Taking, tile_of
from ipfs_kit.ledger.published.tree import TrustedTiles
from ipfs_kit.ledger.published.writing import read_manifest

FOLDER: Final = "imported"
MARKER: Final = "importing"
"""Stands in a publication's folder while an import adds and removes files."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A publication whose every record was verified, with its files in place and not registered yet.

    Args:
        imported: What to register.
        added: Log, name and records of the files it did not have.
        withdrawn: Log and name of files that the publisher publishes no more.
        files: Names of all its files by log.
    """

    imported: Imported
    added: tuple[tuple[str, str, int], ...]
    withdrawn: tuple[tuple[str, str], ...]
    files: Mapping[str, Sequence[str]]

    def effect(self) -> dict[str, object]:
        """What the record of the import says: enough to compare the rows with."""
        made = self.imported
        heads = {log: made.head(log) for log in made.notes}
        return {
            "imported": made.id,
            "name": made.name,
            "vkey": made.vkey,
            "root": made.root,
            "logs": {log: [head.size, head.root] for log, head in heads.items()},
            "files": tables.digest(self.files),
        }


class Imports:
    """The imported publications of one store.

    Args:
        state: ``state.db``.
        store: The store's directory.
        node: Surrogate id of this store.
        budgets: Bounds on what strangers made.
    """

    def __init__(self, state: StateDB, store: str, node: str, budgets: Budgets = DEFAULT) -> None:
        self._state = state
        self._store = store
        self._node = node
        self._budgets = budgets

    def folder(self, publication: str) -> str:
        """Where the files of a publication lie."""
        return os.path.join(self._store, FOLDER, publication)

    @contextmanager
    def importing(self, lock_timeout_s: float = 30.0) -> Iterator[None]:
        """Keep every other process from importing and dropping; removes what crashed imports left.

        Raises:
            LockTimeout: Another process is at it.
        """
        lease = Lease(self._store, "imports")
        try:
            with lease.acquire(lock_timeout_s):
                self._sweep_crashed()
                yield
        finally:
            lease.close()

    # -- accepting ---------------------------------------------------------------------------------------------------

    def accept(self, tree: Tree, vkey: str | None, name: str | None, now_ns: int, progress: Progress) -> Accepted:
        """Verify a publication and add its files; the caller holds ``importing`` and registers what this returns.

        Args:
            tree: The publication.
            vkey: Verifier key of either of the publisher's logs; None once it is known here.
            name: What to call the publisher; None keeps its name, at first its node id.
            now_ns: Wall clock.
            progress: Receives reports.

        Raises:
            InvalidInput: No key is known for the publisher, or it is this store's own publication.
            Denied: The key is not the one that the publisher is known by.
            IntegrityError: It does not verify, or contradicts what was imported before; nothing changed.
            Conflict: Records in it are imported by another publication of the same node.
        """
        publication = read_manifest(tree)
        known = tables.of_node(self._state, publication.node)
        trusted = self._trusted(publication, vkey, known)
        before = next((each for each in known if each.id == publication.id), None)
        self._disjoint(publication, known)
        notes = {log: self._note(tree, log) for log in publication.logs}
        heads = {log: self._head(notes[log], trusted, log, held) for log, held in publication.logs.items()}
        if before is not None and set(before.publication.logs) - set(heads):
            raise IntegrityError(f"{publication.id} lacks a log that it had: it is an older one; nothing was imported")
        folder = self.folder(publication.id)
        make_dirs(folder, 0o700)
        create_idempotent(os.path.join(folder, MARKER), b"")
        try:
            had = {} if before is None else tables.files(self._state, before.id)
            taken = Taking(folder, tree, publication, heads, had, self._budgets, progress)
            for log, head in heads.items():
                self._extends(taken.tiles(log), publication, log, head, known)
            taken.run()
        except BaseException:
            self._settle(publication.id, before)
            raise
        called = name or (known[0].name if known else publication.node)
        made = Imported(
            publication.id,
            publication.node,
            called,
            trusted,
            tree.root,
            publication,
            notes,
            taken.edges,
            taken.volume,
            now_ns,
        )
        return Accepted(made, tuple(taken.added), tuple(taken.withdrawn), taken.files)

    def settle(self, publication: str) -> None:
        """Remove what is not registered from a publication's folder, once its transaction is through or has failed."""
        self._settle(publication, self.get(publication))

    def get(self, publication: str) -> Imported | None:
        """An imported publication by id."""
        return next((each for each in tables.listed(self._state) if each.id == publication), None)

    def named(self, text: str) -> Imported:
        """An imported publication by id, or by ``NAME-SCOPE`` with the publisher's name.

        Raises:
            NotFound: There is none.
        """
        for each in tables.listed(self._state):
            if text in (each.id, f"{each.name}-{each.publication.scope.text}"):
                return each
        raise NotFound(f"no publication {text[:100]!r} is imported: see 'ipfs-kit ledger publication-list'")

    def _trusted(self, publication: Publication, vkey: str | None, known: Sequence[Imported]) -> str:
        if publication.node == self._node:
            raise InvalidInput("this is the store's own publication: its records are here already")
        if vkey is None:
            if not known:
                raise InvalidInput(
                    f"node {publication.node} is not known here: give the verifier key that its owner told you "
                    "('ipfs-kit ledger vkey' there) with --vkey"
                )
            return known[0].vkey
        if node_of(vkey) != publication.node:
            raise Denied(
                f"the publication says it is of node {publication.node}, the verifier key is of node {node_of(vkey)}"
            )
        given = vkey_of(vkey, "main")
        if known and known[0].vkey != given:
            raise Denied(
                f"node {publication.node} is known here by another verifier key: a node does not change its key. Whoever gave "
                "you this one is not whom you trusted; to trust it none the less, drop the node's publications first"
            )
        return given

    @staticmethod
    def _disjoint(publication: Publication, known: Sequence[Imported]) -> None:
        """Records must not be counted twice: a whole log and streams of it exclude each other."""
        for each in known:
            kinds = {publication.scope.kind, each.publication.scope.kind}
            if LOG in kinds and each.id != publication.id and set(each.publication.logs) & set(publication.logs):
                raise Conflict(
                    f"{each.id} is imported and holds records that {publication.scope.text} holds too: "
                    f"'ipfs-kit ledger publication-drop {each.id}' first"
                )

    def _note(self, tree: Tree, log: str) -> str:
        data = tree.read(f"{log}/{CHECKPOINT}", self._budgets.publication_note_bytes)
        if data is None:
            raise IntegrityError(f"{log}/{CHECKPOINT} is missing: the publication is incomplete")
        try:
            return data.decode()
        except UnicodeDecodeError as exc:
            raise IntegrityError(f"{log}/{CHECKPOINT} is not text") from exc

    @staticmethod
    def _head(note: str, vkey: str, log: str, held: Counts) -> Head:
        try:
            head = read_note(note, vkey_of(vkey, log))
        except IntegrityError as exc:
            raise IntegrityError(f"{log}/{CHECKPOINT}: {exc.message}; nothing was imported") from exc
        if head.size != held.size:
            raise IntegrityError(f"{log}/{CHECKPOINT} signs {head.size} records, the manifest says {held.size}")
        return head

    def _extends(
        self, tiles: TrustedTiles, publication: Publication, log: str, head: Head, known: Sequence[Imported]
    ) -> None:
        """Refuse a history that does not extend, or is not extended by, what was imported of the node before."""
        for each in known:
            if log not in each.publication.logs:
                continue
            old = each.head(log)
            if old.size > head.size and each.id == publication.id:
                raise IntegrityError(
                    f"rollback: {publication.id} was imported with {old.size} records of {log}, this is an older one with "
                    f"{head.size}; nothing was imported",
                    log=log,
                )
            larger, smaller = (tiles, old) if old.size <= head.size else (self._tiles(each, log), head)
            try:
                root = larger.root_at(smaller.size)
            except IntegrityError as exc:
                raise IntegrityError(
                    f"{publication.id} does not show that its log {log} extends what {each.id} holds: {exc.message}",
                    log=log,
                ) from exc
            if root != smaller.root:
                raise IntegrityError(
                    f"fork: log {log} of node {publication.node} had another history when {each.id} was imported, at "
                    f"{smaller.size} records. Two signed checkpoints contradict each other: keep both as evidence; nothing "
                    "was imported",
                    log=log,
                )

    def _tiles(self, imported: Imported, log: str) -> TrustedTiles:
        where = os.path.join(self.folder(imported.id), log)
        head = imported.head(log)
        return TrustedTiles(lambda path, limit: read_small(os.path.join(where, path), limit), head.size, head.root)

    # -- settling ----------------------------------------------------------------------------------------------------

    def _settle(self, publication: str, registered: Imported | None) -> None:
        """Leave in a folder what is registered, and no marker."""
        folder = self.folder(publication)
        if registered is None:
            remove_folder(folder)
            return
        wanted = tables.files(self._state, publication)
        for path in list(files_below(folder)):
            log, _, name = path.partition("/")
            if path != MARKER and not _belongs(registered, wanted, log, name):
                remove(os.path.join(folder, path), sync=False)
        for directory, _, _ in os.walk(folder, topdown=False):
            sweep_temporaries(directory)
            if not os.listdir(directory):
                os.rmdir(directory)
        remove(os.path.join(folder, MARKER))

    def _sweep_crashed(self) -> None:
        folder = os.path.join(self._store, FOLDER)
        if not os.path.isdir(folder):
            return
        known = {each.id: each for each in tables.listed(self._state)}
        for name in sorted(os.listdir(folder)):
            if name not in known or os.path.exists(os.path.join(folder, name, MARKER)):
                self._settle(name, known.get(name))


def _belongs(registered: Imported, wanted: Mapping[str, Mapping[str, int]], log: str, name: str) -> bool:
    held = registered.publication.logs.get(log)
    if held is None:
        return False
    if name.startswith(f"{SEGMENTS}/"):
        return name.partition("/")[2] in wanted.get(log, {})
    try:
        level, index, width = tile_of(name)
    except IntegrityError:
        return False
    full = held.size >> 8 * (level + 1)
    return width == (TILE_WIDTH if index < full else (held.size >> 8 * level) % TILE_WIDTH if index == full else 0)


def read_small(path: str, limit: int) -> bytes | None:
    """At most ``limit`` + 1 bytes of a file; None when it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None


def files_below(folder: str) -> Iterator[str]:
    """Paths of everything below a folder that is no folder, relative to it."""
    for directory, _, names in os.walk(folder):
        for name in sorted(names):
            yield os.path.relpath(os.path.join(directory, name), folder)


def remove_folder(folder: str) -> None:
    """Remove a folder with all below it, its marker last, so that what a crash leaves is known for what it is."""
    if os.path.isdir(folder):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if os.path.isdir(path):
                shutil.rmtree(path)
        shutil.rmtree(folder)
    sync_dir(os.path.dirname(folder))
