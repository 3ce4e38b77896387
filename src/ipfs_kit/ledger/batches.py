"""The tail of both logs in ``state.db``: one row per log and batch, records framed so that one can be sliced out.

Payload of a batch row, all numbers big-endian: ``count`` (4 bytes), then for each record the offset of its end counted
from the first record's start (4 bytes each), then the records one after another. ``checksum`` is the SHA-256 of the
payload. Records before ``logs.sealed_upto`` live in sealed segments and have no row here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import accumulate
from typing import Any, Final, NamedTuple, Protocol

from ipfs_kit.durable import Schema, Tx
from ipfs_kit.errors import Expired, FormatError, IntegrityError, InvalidInput, OpNotFound
from ipfs_kit.ledger.record import LOGS, OP_ID_BYTES, decode

SCHEMA: Final = Schema(
    "ledger",
    1,
    (
        """CREATE TABLE ledger_logs(
            log TEXT PRIMARY KEY, next_index INTEGER NOT NULL, sealed_upto INTEGER NOT NULL,
            size INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID""",
        # Small columns first: a scan over them then reads one page per row, never the payload's overflow pages.
        """CREATE TABLE batches(
            id INTEGER PRIMARY KEY, log TEXT NOT NULL, first_index INTEGER NOT NULL, count INTEGER NOT NULL,
            op_id_min BLOB NOT NULL, op_id_max BLOB NOT NULL, time_min INTEGER NOT NULL, time_max INTEGER NOT NULL,
            checksum BLOB NOT NULL, payload BLOB NOT NULL)""",
        "CREATE UNIQUE INDEX batches_index ON batches(log, first_index)",
        "CREATE INDEX batches_op ON batches(log, op_id_min, op_id_max)",
        """CREATE TABLE idempotency(
            principal TEXT NOT NULL, operation TEXT NOT NULL, key TEXT NOT NULL, request_hash BLOB NOT NULL,
            op_id BLOB NOT NULL, done INTEGER NOT NULL, result BLOB, created_ns INTEGER NOT NULL,
            expires_ns INTEGER NOT NULL, PRIMARY KEY(principal, operation, key)) WITHOUT ROWID""",
        "CREATE INDEX idempotency_expiry ON idempotency(expires_ns)",
        """CREATE TABLE ledger_manifests(
            log TEXT NOT NULL, first_index INTEGER NOT NULL, count INTEGER NOT NULL, cid BLOB NOT NULL,
            PRIMARY KEY(log, first_index)) WITHOUT ROWID""",
        *(
            "INSERT INTO ledger_logs(log, next_index, sealed_upto, size, root) "
            f"VALUES('{log}', 0, 0, 0, x'{sha256(b'').hexdigest()}')"
            for log in LOGS
        ),
    ),
)
"""``ledger_logs.size`` and ``root`` are the high-water mark of decision 16: what is integrated and may be signed."""

_COUNT: Final = struct.Struct(">I")
_COLUMNS: Final = "first_index, count, op_id_min, op_id_max, time_min, time_max, checksum, payload"


class RecordSource(Protocol):
    """Where records live that have left ``state.db``: the sealed segments.

    Indices are those of the log; an absent record (pruned or erased by a rule) answers None where stated.
    """

    def record(self, log: str, index: int) -> bytes | None:
        """The encoded record, or None when it is not kept any more."""

    def records(self, log: str, start: int, stop: int) -> Iterator[tuple[int, bytes | None]]:
        """Every index in ``[start, stop)`` in order with its encoded record or None."""

    def find(self, log: str, op_id: bytes) -> list[int]:
        """Indices of the records with an op id: none, one, or intent and outcome."""

    def index_at_time(self, log: str, time_ns: int) -> int | None:
        """The largest index whose recorded time is at or before a time."""


class LogState(NamedTuple):
    """How far one log has come."""

    next_index: int
    """Records appended: *sequenced*."""
    sealed_upto: int
    """Records before this index live in segments."""
    size: int
    """Leaves in the tree: *integrated*."""
    root: bytes
    """Root of the tree at ``size``."""


class Batch(NamedTuple):
    """One row of ``batches`` with a checked payload."""

    first_index: int
    count: int  # type: ignore[assignment]  # a record count, over tuple.count, which nobody needs here
    op_id_min: bytes
    op_id_max: bytes
    time_min: int
    time_max: int
    checksum: bytes
    payload: bytes

    def record(self, index: int) -> bytes:
        """Slice one encoded record by its log index."""
        at = index - self.first_index
        base = 4 + 4 * self.count
        start = 0 if at == 0 else _COUNT.unpack_from(self.payload, 4 * at)[0]
        return self.payload[base + start : base + _COUNT.unpack_from(self.payload, 4 + 4 * at)[0]]

    def records(self) -> list[bytes]:
        """Every encoded record in order."""
        return unframe(self.payload)


class Querying(Protocol):
    """What the readers here need of ``StateDB``, a snapshot of it, or a transaction wrapped to look the same."""

    def query(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows."""


def frame(records: Sequence[bytes]) -> bytes:
    """Join encoded records into one payload."""
    count = len(records)
    return b"".join((struct.pack(f">{count + 1}I", count, *accumulate(map(len, records))), *records))


def unframe(payload: bytes) -> list[bytes]:
    """Split a payload into its encoded records.

    Raises:
        FormatError: Its offsets do not add up.
    """
    if len(payload) < 4:
        raise FormatError("a batch payload has at least 4 bytes: run ledger verify")
    count = _COUNT.unpack_from(payload)[0]
    base = 4 + 4 * count
    if len(payload) < base:
        raise FormatError("a batch payload is shorter than its offset table: run ledger verify")
    ends = struct.unpack_from(f">{count}I", payload, 4)
    if (ends[-1] if count else 0) != len(payload) - base:
        raise FormatError("a batch payload's records do not fill it: run ledger verify")
    found = []
    start = base
    for end in ends:
        if base + end < start:
            raise FormatError("a batch payload's offsets run backwards: run ledger verify")
        found.append(payload[start : base + end])
        start = base + end
    return found


def insert(
    tx: Tx, log: str, first_index: int, records: Sequence[bytes], op_ids: Sequence[bytes], times: Sequence[int]
) -> None:
    """Append one batch row; the caller moves ``next_index`` in the same transaction."""
    payload = frame(records)
    tx.execute(
        f"INSERT INTO batches(log, {_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            log,
            first_index,
            len(records),
            min(op_ids),
            max(op_ids),
            min(times),
            max(times),
            sha256(payload).digest(),
            payload,
        ),
    )


def log_state(db: Querying, log: str) -> LogState:
    """Read how far a log has come.

    Raises:
        InvalidInput: There is no such log.
    """
    rows = db.query("SELECT next_index, sealed_upto, size, root FROM ledger_logs WHERE log = ?", (log,))
    if not rows:
        raise InvalidInput(f"there is no log {log!r}: it is main or bulk")
    return LogState(*rows[0])


def log_state_in(tx: Tx, log: str) -> LogState:
    """Read how far a log has come, inside a transaction."""
    return LogState(*tx.execute("SELECT next_index, sealed_upto, size, root FROM ledger_logs WHERE log = ?", (log,))[0])


def batch_at(db: Querying, log: str, index: int) -> Batch | None:
    """The batch row that holds an index, its checksum verified; None when the index is not in the tail.

    Raises:
        IntegrityError: The row does not match its checksum.
    """
    rows = db.query(
        f"SELECT {_COLUMNS} FROM batches WHERE log = ? AND first_index <= ? ORDER BY first_index DESC LIMIT 1",  # noqa: S608
        (log, index),
    )
    if not rows or rows[0][0] + rows[0][1] <= index:
        return None
    return _checked(log, Batch(*rows[0]))


def batches(db: Querying, log: str, start: int, stop: int) -> Iterator[Batch]:
    """Every batch row that overlaps ``[start, stop)``, in order, one query each, so that nothing large is held.

    Raises:
        IntegrityError: A row does not match its checksum, or one is missing.
    """
    index = start
    while index < stop:
        batch = batch_at(db, log, index)
        if batch is None:
            raise IntegrityError(
                f"record {index} of log {log} is missing from state.db: run ledger verify", log=log, index=index
            )
        yield batch
        index = batch.first_index + batch.count


def _checked(log: str, batch: Batch) -> Batch:
    if sha256(batch.payload).digest() != batch.checksum or len(batch.payload) < 4 + 4 * batch.count:
        raise IntegrityError(
            f"the batch of log {log} at {batch.first_index} does not match its checksum: run ledger verify",
            log=log,
            index=batch.first_index,
        )
    return batch


def drop_tail(tx: Tx, log: str, upto: int) -> int:
    """Remove the rows whose records are all before ``upto``, once segments hold them, and note that they are sealed.

    Args:
        tx: The transaction that also records the segment.
        log: ``main`` or ``bulk``.
        upto: First index to stay; it must be the start of a batch and within the signed tree.

    Returns:
        How many rows were removed.

    Raises:
        InvalidInput: ``upto`` is not a batch boundary, or beyond what is integrated.
    """
    state = log_state_in(tx, log)
    if not state.sealed_upto <= upto <= state.size:
        raise InvalidInput(f"log {log} can be sealed from {state.sealed_upto} to {state.size}, not to {upto}")
    if upto < state.next_index and not tx.execute(
        "SELECT 1 FROM batches WHERE log = ? AND first_index = ?", (log, upto)
    ):
        raise InvalidInput(f"index {upto} of log {log} is inside a batch: seal up to a batch's first index")
    rows = tx.execute("SELECT COUNT(*) FROM batches WHERE log = ? AND first_index < ?", (log, upto))[0][0]
    tx.execute("DELETE FROM batches WHERE log = ? AND first_index < ?", (log, upto))
    tx.execute("UPDATE ledger_logs SET sealed_upto = ? WHERE log = ?", (upto, log))
    return int(rows)


class Reader:
    """Reads records of both logs wherever they live.

    Args:
        state: ``state.db``.
        segments: The sealed segments; None when nothing was sealed yet.
    """

    def __init__(self, state: Querying, segments: RecordSource | None = None) -> None:
        self._state = state
        self.segments = segments

    def state(self, log: str) -> LogState:
        """How far a log has come."""
        return log_state(self._state, log)

    def record_at(self, log: str, index: int) -> bytes:
        """The encoded record at an index.

        Raises:
            OpNotFound: The log is shorter.
            Expired: The record is not kept any more.
        """
        batch = batch_at(self._state, log, index)
        if batch is not None:
            return batch.record(index)
        state = self.state(log)
        if not 0 <= index < state.next_index:
            raise OpNotFound(f"log {log} has {state.next_index} records, so none at {index}", log=log, index=index)
        if index >= state.sealed_upto:
            batch = batch_at(self._state, log, index)
            if batch is None:
                raise IntegrityError(
                    f"record {index} of log {log} is missing from state.db: run ledger verify", index=index
                )
            return batch.record(index)
        data = self._sealed().record(log, index)
        if data is None:
            raise Expired(
                f"record {index} of log {log} is not kept any more; its proof still verifies", log=log, index=index
            )
        return data

    def read(self, log: str, start: int, stop: int) -> Iterator[tuple[int, bytes | None]]:
        """Every index of ``[start, stop)`` that exists, with its encoded record; None where it is not kept any more."""
        state = self.state(log)
        start, stop = max(0, start), min(stop, state.next_index)
        middle = min(stop, max(start, state.sealed_upto))
        if start < middle:
            yield from self._sealed().records(log, start, middle)
        index = middle
        while index < stop:
            batch = batch_at(self._state, log, index)
            if batch is None:
                sealed = min(stop, self.state(log).sealed_upto)
                if sealed <= index:
                    raise IntegrityError(
                        f"record {index} of log {log} is missing from state.db: run ledger verify", index=index
                    )
                # Sealed while we were reading.
                yield from self._sealed().records(log, index, sealed)
                index = sealed
                continue
            end = min(stop, batch.first_index + batch.count)
            for at in range(index, end):
                yield at, batch.record(at)
            index = end

    def find(self, op_id: bytes) -> list[tuple[str, int]]:
        """Where the records with an op id are: one, or the intent and then its outcome.

        Raises:
            OpNotFound: Neither log holds it.
        """
        if len(op_id) != OP_ID_BYTES:
            raise InvalidInput(f"an op id has {OP_ID_BYTES} bytes, not {len(op_id)}")
        found: list[tuple[str, int]] = []
        for log in LOGS:
            if self.segments is not None:
                found += [(log, index) for index in self.segments.find(log, op_id)]
            rows = self._state.query(
                "SELECT first_index FROM batches WHERE log = ? AND op_id_min <= ? AND op_id_max >= ? "
                "ORDER BY first_index",
                (log, op_id, op_id),
            )
            for (first_index,) in rows:
                batch = batch_at(self._state, log, first_index)
                if batch is None or batch.first_index != first_index:
                    continue  # sealed a moment ago; the segments have answered or a second call will find it there
                found += [(log, first_index + at) for at, data in enumerate(batch.records()) if op_id_of(data) == op_id]
        if not found:
            raise OpNotFound(f"no recorded operation has the id {op_id.hex()}", op_id=op_id.hex())
        return sorted(set(found), key=lambda place: (LOGS.index(place[0]), place[1]))

    def index_at_time(self, log: str, time_ns: int) -> int | None:
        """The largest index whose recorded time is at or before a time; None when the log begins later [23]."""
        rows = self._state.query(
            "SELECT first_index FROM batches WHERE log = ? AND time_min <= ? ORDER BY first_index DESC LIMIT 1",
            (log, time_ns),
        )
        if rows:
            batch = batch_at(self._state, log, rows[0][0])
            if batch is not None:
                for at, data in reversed(list(enumerate(batch.records()))):
                    if decode(data).time_ns <= time_ns:
                        return batch.first_index + at
        if self.state(log).sealed_upto and self.segments is not None:
            return self.segments.index_at_time(log, time_ns)
        return None

    def _sealed(self) -> RecordSource:
        if self.segments is None:
            raise Expired(
                "these records are in sealed segments, which are not attached: open the store with its segments"
            )
        return self.segments


def op_id_of(record: bytes) -> bytes:
    """The op id of an encoded record, without decoding the rest: array header, schema number, 16-byte string."""
    return record[4:20]
