"""The tables of streams in ``state.db``: batches, flushes, cursors, settings."""

from __future__ import annotations

from typing import Final

from ipfs_kit.durable.state import Schema

SCHEMA: Final = Schema(
    "streams",
    1,
    (
        """CREATE TABLE stream_batches(
            stream TEXT NOT NULL, log TEXT NOT NULL, first_index INTEGER NOT NULL, last_index INTEGER NOT NULL,
            count INTEGER NOT NULL, cid BLOB NOT NULL, PRIMARY KEY(stream, log, first_index)) WITHOUT ROWID""",
        """CREATE TABLE stream_flushes(
            stream TEXT NOT NULL, seq INTEGER NOT NULL, cid BLOB NOT NULL, log TEXT NOT NULL, count INTEGER NOT NULL,
            time_ns INTEGER NOT NULL, PRIMARY KEY(stream, seq)) WITHOUT ROWID""",
        "CREATE UNIQUE INDEX stream_flush_cid ON stream_flushes(cid)",
        """CREATE TABLE stream_cursors(
            stream TEXT NOT NULL, log TEXT NOT NULL, scanned INTEGER NOT NULL, PRIMARY KEY(stream, log)) WITHOUT ROWID""",
        """CREATE TABLE stream_settings(
            stream TEXT NOT NULL PRIMARY KEY, settings BLOB NOT NULL) WITHOUT ROWID""",
    ),
)
