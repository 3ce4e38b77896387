"""What ``state.db`` knows of sealed segments: the files registered, and those that expired."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from ipfs_kit.durable.state import Schema, Tx
from ipfs_kit.ledger.batches import Querying

SCHEMA: Final = Schema(
    "segments",
    1,
    (
        # One row a file; the files of one span share ``first_index`` and ``stop`` and split its records by family.
        """CREATE TABLE ledger_segments(
            log TEXT NOT NULL, first_index INTEGER NOT NULL, family TEXT NOT NULL, stop INTEGER NOT NULL,
            count INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL, manifest BLOB NOT NULL,
            time_min INTEGER NOT NULL, time_max INTEGER NOT NULL, op_id_min BLOB NOT NULL, op_id_max BLOB NOT NULL,
            PRIMARY KEY(log, first_index, family)) WITHOUT ROWID""",
        "CREATE INDEX ledger_segments_family ON ledger_segments(family, time_max)",
        """CREATE TABLE ledger_expired(
            log TEXT NOT NULL, first_index INTEGER NOT NULL, family TEXT NOT NULL, stop INTEGER NOT NULL,
            count INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL, manifest BLOB NOT NULL,
            why TEXT NOT NULL, time_ns INTEGER NOT NULL, PRIMARY KEY(log, first_index, family)) WITHOUT ROWID""",
    ),
)
COLUMNS: Final = (
    "log, first_index, family, stop, count, name, size, sha256, manifest, time_min, time_max, op_id_min, op_id_max"
)


class Segment(NamedTuple):
    """One registered file: the records of one family in a span of a log."""

    log: str
    first_index: int
    family: str
    """The stream whose records alone it holds; empty for all streams that share one rule: keep for ever."""
    stop: int
    """The index after the span's last record."""
    rows: int
    name: str
    size: int
    sha256: bytes
    manifest: bytes
    time_min: int
    time_max: int
    op_id_min: bytes
    op_id_max: bytes

    @property
    def dense(self) -> bool:
        """Whether it holds every record of its span."""
        return self.rows == self.stop - self.first_index


def segment_name(first: int, last: int, digest: bytes) -> str:
    """``segment_name(0, 9, d)`` is ``000000000000-000000000009-<64 hex digits of d>.parquet``."""
    return f"{first:012d}-{last:012d}-{digest.hex()}.parquet"


def read(db: Querying, where: str = "", params: tuple[Any, ...] = ()) -> list[Segment]:
    """Registered files in log order.

    Args:
        db: ``state.db``.
        where: A condition of ours in SQL.
        params: Its values.
    """
    condition = f"WHERE {where}" if where else ""
    rows = db.query(
        f"SELECT {COLUMNS} FROM ledger_segments {condition} ORDER BY log, first_index, family",  # noqa: S608 - our own text
        params,
    )
    return [Segment(*row) for row in rows]


def insert(tx: Tx, segments: Iterable[Segment]) -> None:
    """Register files."""
    tx.executemany(
        f"INSERT INTO ledger_segments({COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [tuple(segment) for segment in segments],
    )


def expire(tx: Tx, segment: Segment, why: str, now_ns: int) -> bool:
    """Move a file's row to those that expired; False when it is not registered any more."""
    gone = tx.execute(
        "DELETE FROM ledger_segments WHERE log = ? AND first_index = ? AND family = ? AND sha256 = ? RETURNING 1",
        (*segment[:3], segment.sha256),
    )
    if gone:
        tx.execute(
            "INSERT INTO ledger_expired(log, first_index, family, stop, count, name, size, sha256, manifest, why, time_ns) "
            "VALUES(?,?,?,?,?,?,?,?,?,?,?)",
            (*segment[:9], why, now_ns),
        )
    return bool(gone)
