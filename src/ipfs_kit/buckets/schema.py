"""Tables of this layer in ``state.db``; what each column promises is in ``docs/format/buckets.md``."""

from __future__ import annotations

from ipfs_kit.durable.state import Schema

# An op that brought a dropped bucket or session back: what undo of that op, and @op:N in between, must know.
_REVIVALS = """CREATE TABLE revivals(
            op_index INTEGER NOT NULL, bucket INTEGER NOT NULL REFERENCES buckets(id), session INTEGER NOT NULL,
            dropped_op INTEGER NOT NULL, time_ns INTEGER NOT NULL, PRIMARY KEY(bucket, session, op_index)) STRICT, WITHOUT ROWID"""
_REVIVALS_OP = "CREATE INDEX revivals_op ON revivals(op_index)"

# One row for each change of a bucket's settings; the newest counts.
_SETTINGS = """CREATE TABLE bucket_settings(
            bucket INTEGER NOT NULL REFERENCES buckets(id), op_index INTEGER NOT NULL, time_ns INTEGER NOT NULL,
            value BLOB NOT NULL, PRIMARY KEY(bucket, op_index)) STRICT, WITHOUT ROWID"""
_SETTINGS_OP = "CREATE INDEX bucket_settings_op ON bucket_settings(op_index)"

# A dropped bucket or session keeps its row (dropped_op set) so that @op:N before that still reads it, until it expires.
BUCKETS_SCHEMA = Schema(
    "buckets",
    3,
    (
        """CREATE TABLE buckets(
            id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, name TEXT NOT NULL, type TEXT NOT NULL, structure TEXT
            NOT NULL, kind TEXT NOT NULL, profile TEXT NOT NULL, domain TEXT, metadata BLOB NOT NULL, created_ns
            INTEGER NOT NULL, created_op INTEGER NOT NULL, dropped_ns INTEGER, dropped_op INTEGER) STRICT""",
        "CREATE UNIQUE INDEX buckets_name ON buckets(name) WHERE dropped_op IS NULL",
        """CREATE TABLE sessions(
            id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL REFERENCES buckets(id), name TEXT NOT NULL,
            created_op INTEGER NOT NULL, dropped_op INTEGER) STRICT""",
        "CREATE UNIQUE INDEX sessions_name ON sessions(bucket, name) WHERE dropped_op IS NULL",
        """CREATE TABLE effects(
            session INTEGER NOT NULL REFERENCES sessions(id), seq INTEGER NOT NULL, op_index INTEGER NOT NULL,
            time_ns INTEGER NOT NULL, payload BLOB NOT NULL, head BLOB, PRIMARY KEY(session, seq)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX effects_op ON effects(op_index)",
        """CREATE TABLE snapshots(
            session INTEGER NOT NULL REFERENCES sessions(id), seq INTEGER NOT NULL, op_index INTEGER NOT NULL,
            time_ns INTEGER NOT NULL, root BLOB NOT NULL, head BLOB NOT NULL, PRIMARY KEY(session, seq)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE ref_effects(
            op_index INTEGER NOT NULL, bucket INTEGER NOT NULL REFERENCES buckets(id), ref TEXT NOT NULL, time_ns
            INTEGER NOT NULL, before BLOB, after BLOB, PRIMARY KEY(bucket, ref, op_index)) STRICT, WITHOUT ROWID""",
        "CREATE INDEX ref_effects_op ON ref_effects(op_index)",
        _REVIVALS,
        _REVIVALS_OP,
        _SETTINGS,
        _SETTINGS_OP,
    ),
    {1: (_REVIVALS, _REVIVALS_OP), 2: (_SETTINGS, _SETTINGS_OP)},
)
