"""Tables of ``state.db`` about imported publications; apart, so that opening a store imports nothing that verifies them."""

from __future__ import annotations

from typing import Final

from ipfs_kit.durable import Schema

SCHEMA: Final = Schema(
    "imports",
    1,
    (
        """CREATE TABLE ledger_imports(
            id TEXT PRIMARY KEY, node TEXT NOT NULL, name TEXT NOT NULL, vkey TEXT NOT NULL, root BLOB NOT NULL,
            manifest BLOB NOT NULL, notes TEXT NOT NULL, edges TEXT NOT NULL, bytes INTEGER NOT NULL, imported_ns INTEGER NOT NULL)
            WITHOUT ROWID""",
        "CREATE INDEX ledger_imports_node ON ledger_imports(node)",
        """CREATE TABLE ledger_import_files(
            id TEXT NOT NULL, log TEXT NOT NULL, file TEXT NOT NULL, records INTEGER NOT NULL,
            PRIMARY KEY(id, log, file)) WITHOUT ROWID""",
    ),
)
