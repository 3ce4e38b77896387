"""Tables of ``state.db`` about the witnesses of a store; apart, so that opening a store imports nothing that talks."""

from __future__ import annotations

from typing import Final

from ipfs_kit.durable import Schema

SCHEMA: Final = Schema(
    "witnesses",
    1,
    (
        """CREATE TABLE ledger_witnesses(
            name TEXT PRIMARY KEY, vkey TEXT NOT NULL, url TEXT NOT NULL, size INTEGER NOT NULL, time_s INTEGER NOT NULL,
            refusal TEXT NOT NULL, trouble TEXT NOT NULL, failed_ns INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE TABLE ledger_witnessed(log TEXT PRIMARY KEY, size INTEGER NOT NULL, note TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE ledger_quorum(id INTEGER PRIMARY KEY CHECK(id = 1), quorum INTEGER NOT NULL)",
    ),
)
