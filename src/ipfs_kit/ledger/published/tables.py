"""Imported publications in ``state.db``: which there are, and the files that queries may read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import Tx
from ipfs_kit.ipld import CID
from ipfs_kit.ledger.batches import Querying
from ipfs_kit.ledger.check import Head, read_note
from ipfs_kit.ledger.published.layout import Publication, vkey_of

_SELECT: Final = "SELECT id, node, name, vkey, root, manifest, notes, edges, bytes, imported_ns FROM ledger_imports"


@dataclass(frozen=True, slots=True)
class Imported:
    """A publication of another node that was verified and registered.

    Args:
        id: ``NODE-SCOPE``.
        node: Surrogate id of the store that published it.
        name: What its publisher is called here.
        vkey: The verifier key that its publisher is trusted by.
        root: CID of its directory.
        publication: Its manifest.
        notes: Its signed checkpoints by log.
        edges: SHA-256 in hex of the tiles at the right edge of its trees, by path: only the root vouches for those.
        bytes: Bytes of its Parquet files.
        imported_ns: When it was imported last.
    """

    id: str
    node: str
    name: str
    vkey: str
    root: CID
    publication: Publication
    notes: Mapping[str, str]
    edges: Mapping[str, str]
    bytes: int
    imported_ns: int

    def head(self, log: str) -> Head:
        """The signed head of a log, its signature checked again.

        Raises:
            IntegrityError: The checkpoint in ``state.db`` is not signed by the publisher.
        """
        return read_note(self.notes[log], vkey_of(self.vkey, log))


def listed(db: Querying) -> list[Imported]:
    """Every imported publication, by id; none in a store opened read-only that was made before there were any."""
    if not db.query("SELECT 1 FROM sqlite_schema WHERE name = 'ledger_imports'"):
        return []
    return [_imported(row) for row in db.query(f"{_SELECT} ORDER BY id")]


def of_node(db: Querying, node: str) -> list[Imported]:
    """The imported publications of a node."""
    return [_imported(row) for row in db.query(f"{_SELECT} WHERE node = ? ORDER BY id", (node,))]


def files(db: Querying, publication: str) -> dict[str, dict[str, int]]:
    """The registered Parquet files of a publication and how many records each holds, by log."""
    found: dict[str, dict[str, int]] = {}
    for log, file, records in db.query(
        "SELECT log, file, records FROM ledger_import_files WHERE id = ?", (publication,)
    ):
        found.setdefault(log, {})[file] = records
    return found


def digest(held: Mapping[str, Iterable[str]]) -> str:
    """SHA-256 in hex over the names of all files: what the record of an import says of them."""
    names = sorted(f"{log}/{file}" for log, each in held.items() for file in each)
    return sha256("\n".join(names).encode()).hexdigest()


def register(
    tx: Tx, imported: Imported, added: Iterable[tuple[str, str, int]], withdrawn: Iterable[tuple[str, str]]
) -> None:
    """Register a publication, or its successor.

    Args:
        tx: The transaction.
        imported: What it is now.
        added: Log, name and number of records of files it did not have.
        withdrawn: Log and name of files it has no more.
    """
    tx.execute(
        "INSERT OR REPLACE INTO ledger_imports(id, node, name, vkey, root, manifest, notes, edges, bytes, imported_ns) "
        "VALUES(?,?,?,?,?,?,?,?,?,?)",
        (
            imported.id,
            imported.node,
            imported.name,
            imported.vkey,
            imported.root.binary,
            imported.publication.encode(),
            json.dumps(dict(sorted(imported.notes.items()))),
            json.dumps(dict(sorted(imported.edges.items()))),
            imported.bytes,
            imported.imported_ns,
        ),
    )
    tx.executemany(
        "DELETE FROM ledger_import_files WHERE id = ? AND log = ? AND file = ?",
        [(imported.id, log, file) for log, file in withdrawn],
    )
    tx.executemany(
        "INSERT OR IGNORE INTO ledger_import_files(id, log, file, records) VALUES(?,?,?,?)",
        [(imported.id, *each) for each in added],
    )


def unregister(tx: Tx, publication: str) -> bool:
    """Forget a publication; whether it was there."""
    gone = tx.execute("DELETE FROM ledger_imports WHERE id = ? RETURNING 1", (publication,))
    tx.execute("DELETE FROM ledger_import_files WHERE id = ?", (publication,))
    return bool(gone)


def _imported(row: tuple[Any, ...]) -> Imported:
    ident, node, name, vkey, root, manifest, notes, edges, size, imported_ns = row
    return Imported(
        ident,
        node,
        name,
        vkey,
        CID(root),
        Publication.decode(manifest),
        json.loads(notes),
        json.loads(edges),
        size,
        imported_ns,
    )
