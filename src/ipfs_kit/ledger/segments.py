"""Sealed segments: the older records of a log in Parquet files (decisions 14 and 15; ``docs/format/segments.md``).

Sealing moves whole batches from ``state.db`` into ``ledger/<log>/segments/``. Steps, under the lease ``sealing``:
file durable → file read back and every record CID compared with the log → manifest durable → one state transaction that
registers the segment and drops the tail rows. A crash before the transaction leaves the tail and at most two files that
nobody refers to, which the next sealing removes; a crash after it leaves the segment.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from ipfs_kit.durable.files import create_idempotent, make_dirs, remove, sweep_temporaries
from ipfs_kit.durable.locks import Lease
from ipfs_kit.durable.state import Schema, StateDB
from ipfs_kit.errors import IntegrityError, InternalError, InvalidInput, KitError, StorageFailed
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.dag_cbor import block, decode
from ipfs_kit.ledger.batches import batches, drop_tail, log_state, log_state_in
from ipfs_kit.ledger.columns import (
    DICTIONARY_NAMES,
    INDEX,
    RAW,
    from_table,
    need_pyarrow,
    record_cids,
    schema,
    to_table,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from ipfs_kit.ledger.select import Where

SCHEMA: Final = Schema(
    "segments",
    1,
    (
        """CREATE TABLE ledger_segments(
            log TEXT NOT NULL, first_index INTEGER NOT NULL, count INTEGER NOT NULL, name TEXT NOT NULL,
            size INTEGER NOT NULL, sha256 BLOB NOT NULL, manifest BLOB NOT NULL, time_min INTEGER NOT NULL,
            time_max INTEGER NOT NULL, op_id_min BLOB NOT NULL, op_id_max BLOB NOT NULL,
            PRIMARY KEY(log, first_index)) WITHOUT ROWID""",
    ),
)
_COLUMNS: Final = "log, first_index, count, name, size, sha256, manifest, time_min, time_max, op_id_min, op_id_max"
_ROW_GROUP: Final = 1_024
"""Rows that are read together for one record: about 130 kB, 1 ms; larger groups save 2 % of the disk."""
_GROUPS_KEPT: Final = 32
_FILES_KEPT: Final = 8
_MANIFEST_SUFFIX: Final = ".manifest"
_MANIFEST_KIND: Final = "ipfs-kit/segment"

Leaves = Callable[[str, int, int], Iterable[bytes]]
"""``leaves(log, start, stop)``: the leaf hashes of the log's tree, as its level-0 tiles hold them."""


class Condition(Protocol):
    """What ``scan`` needs of a condition; ``select`` has the one in use."""

    where: Where
    columns: list[str]

    def may_hold(self, name: str, low: Any, high: Any) -> bool:
        """Whether rows between two values of a column can meet it."""

    def mask(self, table: pa.Table) -> pa.Array:
        """Which rows meet it."""


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """When the tail is worth a file of its own.

    Args:
        rows: Seal whenever this many records wait.
        bytes: Or this many bytes of records.
        age_s: Or when the oldest record that waits is older than this; 0 seals everything integrated.
    """

    rows: int = 65_536
    bytes: int = 64 << 20
    age_s: float = 7 * 86_400.0

    def __post_init__(self) -> None:
        if not (1 <= self.rows <= 4 << 20 and 1 <= self.bytes <= 1 << 30 and self.age_s >= 0):
            raise InvalidInput("a seal policy has 1 to 4 Mi rows, 1 byte to 1 GiB, and an age of 0 s or more")


class Segment(NamedTuple):
    """One registered segment."""

    log: str
    first_index: int
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
    def stop(self) -> int:
        """The index after the last record."""
        return self.first_index + self.rows


class _Span(NamedTuple):
    """Neighbouring batches that become one segment."""

    first: int
    stop: int
    time_min: int
    time_max: int
    op_id_min: bytes
    op_id_max: bytes


def leaf_hash(entry: bytes) -> bytes:
    """The RFC 6962 leaf hash of a log entry."""
    return sha256(b"\0" + entry).digest()


def segment_name(first: int, last: int, digest: bytes) -> str:
    """``segment_name(0, 9, d)`` is ``000000000000-000000000009-<64 hex digits of d>.parquet``."""
    return f"{first:012d}-{last:012d}-{digest.hex()}.parquet"


class Segments:
    """Seals, lists and reads the segments of both logs; a ``RecordSource``. Safe to use from any thread.

    Args:
        state: ``state.db``, opened with ``SCHEMA`` among its schemas.
        directory: The store's directory.
        leaves: The log's leaf hashes, which sealing compares with; None only for reading.
    """

    def __init__(self, state: StateDB, directory: str | os.PathLike[str], leaves: Leaves | None = None) -> None:
        self._state = state
        self._store = os.fspath(directory)
        self._leaves = leaves
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._files: OrderedDict[str, Any] = OrderedDict()
        self._guard = threading.Lock()

    # -- sealing -----------------------------------------------------------------------------------------------------

    def directory(self, log: str) -> str:
        """Where the segments of a log lie."""
        return os.path.join(self._store, "ledger", log, "segments")

    def registered(self, log: str | None = None) -> list[Segment]:
        """Every registered segment in log order."""
        where, params = ("WHERE log = ?", (log,)) if log is not None else ("", ())
        rows = self._state.query(
            f"SELECT {_COLUMNS} FROM ledger_segments {where} ORDER BY log, first_index",  # noqa: S608 - constant columns
            params,
        )
        return [Segment(*row) for row in rows]

    def due(self, log: str, policy: SealPolicy, now_ns: int) -> list[tuple[int, int]]:
        """The index ranges that ``seal`` would move now; pure apart from reading."""
        return [(span.first, span.stop) for span in self._spans(log, policy, now_ns)]

    def seal(
        self, log: str, policy: SealPolicy, now_ns: int, *, segments_max: int = 1000, lock_timeout_s: float = 30.0
    ) -> list[Segment]:
        """Move what is due from ``state.db`` into segments.

        Args:
            log: ``main`` or ``bulk``.
            policy: When a segment is due.
            now_ns: Wall clock, for the age.
            segments_max: Most segments made by this call.
            lock_timeout_s: Longest wait for the lease ``sealing``.

        Returns:
            The new segments.

        Raises:
            MissingExtra: pyarrow is not installed; nothing was changed.
            LockTimeout: Another process is sealing.
            IntegrityError: The records do not match the log; nothing was dropped.
            StorageFailed: The operating system refused a write.
        """
        need_pyarrow()
        if self._leaves is None:
            raise InternalError("segments that were opened for reading cannot seal")
        lease = Lease(self._store, "sealing")
        try:
            with lease.acquire(lock_timeout_s):
                spans = self._spans(log, policy, now_ns)[:segments_max]
                if spans:
                    self._sweep(log)
                return [self._seal(log, span) for span in spans]
        finally:
            lease.close()

    def _spans(self, log: str, policy: SealPolicy, now_ns: int) -> list[_Span]:
        state = log_state(self._state, log)
        rows = self._state.query(
            "SELECT first_index, count, time_min, time_max, op_id_min, op_id_max, length(payload) FROM batches "
            "WHERE log = ? AND first_index >= ? AND first_index + count <= ? ORDER BY first_index",
            (log, state.sealed_upto, state.size),
        )
        spans: list[_Span] = []
        group: list[tuple[Any, ...]] = []
        count = size = 0
        for row in rows:
            group.append(row)
            count += row[1]
            size += row[6]
            if count >= policy.rows or size >= policy.bytes:
                spans.append(_span(group))
                group, count, size = [], 0, 0
        if group and now_ns - min(row[2] for row in group) >= policy.age_s * 1e9:
            spans.append(_span(group))
        return spans

    def _sweep(self, log: str) -> None:
        """Remove what a crash left between the file and the transaction; the caller holds the lease."""
        directory = self.directory(log)
        make_dirs(directory)
        sweep_temporaries(directory)
        known = self.files(log)
        for name in os.listdir(directory):
            if name not in known and name.endswith((".parquet", _MANIFEST_SUFFIX)):
                remove(os.path.join(directory, name))

    def _seal(self, log: str, span: _Span) -> Segment:
        records: list[bytes] = []
        for batch in batches(self._state, log, span.first, span.stop):
            records += batch.records()
        data = _parquet(to_table(records, span.first))
        digest = sha256(data).digest()
        name = segment_name(span.first, span.stop - 1, digest)
        path = os.path.join(self.directory(log), name)
        create_idempotent(path, data)
        self._check_written(log, path, span, records)
        state = log_state(self._state, log)
        cid, manifest = block(
            {
                "kind": _MANIFEST_KIND, "schema": 1, "log": log, "first": span.first, "last": span.stop - 1,
                "count": len(records), "file": name, "size": len(data), "sha256": digest,
                "tree": {"size": state.size, "root": state.root},
            }
        )  # fmt: skip
        create_idempotent(os.path.join(self.directory(log), str(cid) + _MANIFEST_SUFFIX), manifest)
        segment = Segment(log, span.first, len(records), name, len(data), digest, cid.binary, *span[2:])
        with self._state.transaction() as tx:
            if log_state_in(tx, log).sealed_upto != span.first:
                raise IntegrityError(
                    f"log {log} was sealed from elsewhere without the lease: run ledger verify", log=log
                )
            tx.execute(f"INSERT INTO ledger_segments({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?)", tuple(segment))
            drop_tail(tx, log, span.stop)
        return segment

    def _check_written(self, log: str, path: str, span: _Span, records: list[bytes]) -> None:
        """Read the file back and compare every record's CID with the log before anything is dropped."""
        assert self._leaves is not None
        made = record_cids(_read_table(path))
        logged = list(self._leaves(log, span.first, span.stop))
        if len(made) != len(logged) or len(made) != len(records):
            raise IntegrityError(
                f"{path} holds {len(made)} records, the log {len(logged)}: nothing was dropped", log=log
            )
        for at, (cid, leaf) in enumerate(zip(made, logged, strict=True)):
            if leaf_hash(cid) != leaf:
                raise IntegrityError(
                    f"record {span.first + at} of log {log} does not match its leaf; nothing was dropped: run verify",
                    log=log,
                    index=span.first + at,
                )

    def prune(self, log: str, upto: int) -> int:
        """Remove whole segments that end at or before ``upto``: their records are not kept any more, their proofs are.

        Returns:
            How many segments were removed.
        """
        lease = Lease(self._store, "sealing")
        try:
            with lease.acquire(self._state.lock_timeout_s):
                doomed = [segment for segment in self.registered(log) if segment.stop <= upto]
                with self._state.transaction() as tx:
                    for segment in doomed:
                        tx.execute("DELETE FROM ledger_segments WHERE log = ? AND first_index = ?", segment[:2])
                self._sweep(log)
        finally:
            lease.close()
        with self._guard:
            self._groups.clear()
            self._files.clear()
        return len(doomed)

    # -- checking ----------------------------------------------------------------------------------------------------

    def files(self, log: str) -> set[str]:
        """Every file name that belongs in the segments' directory of a log."""
        found: set[str] = set()
        for segment in self.registered(log):
            found |= {segment.name, str(CID(segment.manifest)) + _MANIFEST_SUFFIX}
        return found

    def check(self, log: str, *, deep: bool = True) -> Iterator[tuple[str, str]]:
        """Yield ``(path, fault)`` of each segment that is not as it was registered; writes nothing.

        Args:
            log: ``main`` or ``bulk``.
            deep: Also derive every record's CID and compare it with the log's leaves.
        """
        for segment in self.registered(log):
            path = os.path.join(self.directory(log), segment.name)
            try:
                with open(path, "rb") as file:
                    data = file.read()
                if len(data) != segment.size or sha256(data).digest() != segment.sha256:
                    yield path, "its bytes differ from its name and manifest"
                    continue
                fault = self._manifest_fault(segment)
                if fault:
                    yield path, fault
                if deep and self._leaves is not None:
                    made = [leaf_hash(cid) for cid in record_cids(_read_table(path))]
                    if made != list(self._leaves(log, segment.first_index, segment.stop)):
                        yield path, "its records do not match the log's leaves"
            except (OSError, IntegrityError, StorageFailed) as exc:
                yield path, f"cannot be read: {exc}"

    def _manifest_fault(self, segment: Segment) -> str | None:
        cid = CID(segment.manifest)
        with open(os.path.join(self.directory(segment.log), str(cid) + _MANIFEST_SUFFIX), "rb") as file:
            data = file.read(1 << 16)
        try:
            cid.check(data)
            manifest = decode(data)
        except KitError as exc:
            return f"its manifest is damaged: {exc}"
        stated = (manifest["log"], manifest["first"], manifest["count"], manifest["file"], manifest["sha256"])
        return None if stated == (*segment[:4], segment.sha256) else "its manifest names something else"

    # -- reading -----------------------------------------------------------------------------------------------------

    def record(self, log: str, index: int) -> bytes | None:
        """The encoded record, or None when it is not kept any more."""
        segment = self._holding(log, index)
        if segment is None:
            return None
        group, at = divmod(index - segment.first_index, self._group_rows(segment))
        return from_table(self._group(segment, group).slice(at, 1))[0]

    def records(self, log: str, start: int, stop: int) -> Iterator[tuple[int, bytes | None]]:
        """Every index in ``[start, stop)`` in order with its encoded record or None."""
        index = start
        while index < stop:
            segment = self._holding(log, index)
            if segment is None:
                yield index, None
                index += 1
                continue
            rows = self._group_rows(segment)
            group, at = divmod(index - segment.first_index, rows)
            count = min(stop, segment.stop, index - at + rows) - index
            yield from enumerate(from_table(self._group(segment, group).slice(at, count)), index)
            index += count

    def find(self, log: str, op_id: bytes) -> list[int]:
        """Indices of the records with an op id: none, one, or intent and outcome."""
        rows = self._state.query(
            f"SELECT {_COLUMNS} FROM ledger_segments "  # noqa: S608 - constant columns
            "WHERE log = ? AND op_id_min <= ? AND op_id_max >= ? ORDER BY first_index",
            (log, op_id, op_id),
        )
        found: list[int] = []
        for segment in (Segment(*row) for row in rows):
            found += self._find_in(segment, op_id)
        return found

    def _find_in(self, segment: Segment, op_id: bytes) -> list[int]:
        import pyarrow as pa
        import pyarrow.compute as pc

        file = self._file(segment)
        column = schema().get_field_index("op_id")
        found: list[int] = []
        with _translated(segment.name):
            for group in range(file.metadata.num_row_groups):
                bounds = file.metadata.row_group(group).column(column).statistics
                pruned = bounds is not None and bounds.has_min_max and not bounds.min <= op_id <= bounds.max
                if pruned and not _has_raw(file, group):
                    continue
                table = self._group(segment, group)
                mask = pc.fill_null(pc.equal(table["op_id"], pa.scalar(op_id, pa.binary(16))), False)
                found += table[INDEX].filter(mask).to_pylist()
                if table["raw"].null_count < table.num_rows:
                    kept = zip(table[INDEX].to_pylist(), table["raw"].to_pylist(), strict=True)
                    found += [index for index, data in kept if data is not None and data[4:20] == op_id]
        return sorted(found)

    def index_at_time(self, log: str, time_ns: int) -> int | None:
        """The largest index whose recorded time is at or before a time."""
        rows = self._state.query(
            f"SELECT {_COLUMNS} FROM ledger_segments WHERE log = ? AND time_min <= ? "  # noqa: S608 - constant columns
            "ORDER BY first_index DESC",
            (log, time_ns),
        )
        if not rows:
            return None
        import pyarrow as pa
        import pyarrow.compute as pc

        for segment in (Segment(*row) for row in rows):
            with _translated(segment.name):
                table = self._file(segment).read(columns=[INDEX, "time_ns"])
                mask = pc.fill_null(pc.less_equal(table["time_ns"].cast(pa.int64()), time_ns), False)
                indices = table[INDEX].filter(mask)
            if len(indices):
                return int(indices[-1].as_py())
        return None

    def scan(
        self, log: str, condition: Condition, start: int, stop: int, *, newest_first: bool = False
    ) -> Iterator[pa.Table]:
        """Rows of ``[start, stop)`` that meet a condition, as tables of at most a row group each.

        Args:
            log: ``main`` or ``bulk``.
            condition: Judges row groups by their statistics and rows by some of their columns.
            start: First index.
            stop: Index after the last.
            newest_first: Later tables first; within a table rows stay in order.
        """
        import pyarrow.compute as pc

        rows = self._state.query(
            f"SELECT {_COLUMNS} FROM ledger_segments WHERE log = ? AND first_index < ? "  # noqa: S608 - constant columns
            "AND first_index + count > ? ORDER BY first_index",
            (log, stop, start),
        )
        found = [Segment(*row) for row in rows]
        for segment in reversed(found) if newest_first else found:
            if not condition.where.within(segment.time_min, segment.time_max):
                continue
            file = self._file(segment)
            groups = range(file.metadata.num_row_groups)
            for group in reversed(groups) if newest_first else groups:
                if not _may_hold(file, group, condition):
                    continue
                with self._guard, _translated(segment.name):
                    narrow = file.read_row_group(group, columns=condition.columns, use_threads=False)
                mask = condition.mask(narrow)
                index = narrow[INDEX]
                mask = pc.and_(mask, pc.and_(pc.greater_equal(index, start), pc.less(index, stop)))
                if pc.any(mask).as_py():
                    yield self._group(segment, group).filter(mask)

    def _holding(self, log: str, index: int) -> Segment | None:
        rows = self._state.query(
            f"SELECT {_COLUMNS} FROM ledger_segments WHERE log = ? AND first_index <= ? "  # noqa: S608 - constant columns
            "ORDER BY first_index DESC LIMIT 1",
            (log, index),
        )
        segment = Segment(*rows[0]) if rows else None
        return segment if segment is not None and index < segment.stop else None

    def _file(self, segment: Segment) -> Any:
        with self._guard:
            file = self._files.get(segment.name)
        if file is not None:
            return file
        import pyarrow.parquet as pq

        path = os.path.join(self.directory(segment.log), segment.name)
        with _translated(path):
            file = pq.ParquetFile(path, read_dictionary=list(DICTIONARY_NAMES))
        with self._guard:
            self._files[segment.name] = file
            while len(self._files) > _FILES_KEPT:
                self._files.popitem(last=False)
        return file

    def _group_rows(self, segment: Segment) -> int:
        """Rows of every row group of a segment but its last, as its writer chose."""
        rows: int = self._file(segment).metadata.row_group(0).num_rows
        return rows

    def _group(self, segment: Segment, group: int) -> pa.Table:
        key = (segment.name, group)
        with self._guard:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
        need_pyarrow()
        file = self._file(segment)
        # The file object keeps one position: two threads must not read through it at once.
        with self._guard, _translated(segment.name):
            table = file.read_row_group(group, use_threads=False)
            self._groups[key] = table
            while len(self._groups) > _GROUPS_KEPT:
                self._groups.popitem(last=False)
        return table


def _may_hold(file: Any, group: int, condition: Condition) -> bool:
    if _has_raw(file, group):
        return True
    row_group = file.metadata.row_group(group)
    for at in range(row_group.num_columns):
        column = row_group.column(at)
        name = column.path_in_schema
        if name not in condition.columns or name in (INDEX, RAW):
            continue
        bounds = column.statistics
        if bounds is None or not bounds.has_min_max:
            continue
        low, high = (bounds.min_raw, bounds.max_raw) if name == "time_ns" else (bounds.min, bounds.max)
        if not condition.may_hold(name, low, high):
            return False
    return True


def _span(group: list[tuple[Any, ...]]) -> _Span:
    first, last = group[0], group[-1]
    return _Span(
        first[0], last[0] + last[1], min(r[2] for r in group), max(r[3] for r in group),
        min(r[4] for r in group), max(r[5] for r in group),
    )  # fmt: skip


class _translated:  # noqa: N801 - reads as the context manager it is
    """Turn what pyarrow raises on damaged bytes into our error."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> None:
        import pyarrow as pa

        if isinstance(value, FileNotFoundError):
            raise IntegrityError(f"segment {self._path} is missing: run ledger verify", path=self._path) from value
        if isinstance(value, (OSError, pa.ArrowException)):
            raise IntegrityError(f"segment {self._path} cannot be read: {value}; run ledger verify") from value


def _parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=_ROW_GROUP,
        use_dictionary=list(DICTIONARY_NAMES),
        column_encoding={INDEX: "DELTA_BINARY_PACKED", "time_ns": "DELTA_BINARY_PACKED"},
        write_statistics=[INDEX, "op_id", "phase", "time_ns", "operation", "actor", "stream", "status", "raw"],
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _read_table(path: str) -> pa.Table:
    need_pyarrow()
    import pyarrow.parquet as pq

    with _translated(path), pq.ParquetFile(path, read_dictionary=list(DICTIONARY_NAMES)) as file:
        return file.read(use_threads=False)


def _has_raw(file: Any, group: int) -> bool:
    row_group = file.metadata.row_group(group)
    bounds = row_group.column(row_group.num_columns - 1).statistics
    return bounds is None or not bounds.has_null_count or bounds.null_count < row_group.num_rows
