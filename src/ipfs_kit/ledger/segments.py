"""Sealed segments: the older records of a log in Parquet files (decisions 14 and 15; ``docs/format/segments.md``).

Sealing moves whole batches from ``state.db`` into ``ledger/<log>/segments/``: a span of records becomes one file, and one
more for each stream in it that may expire or is compressed in its own way. Steps, under the lease ``sealing``: files
durable → files read back and every record CID compared with the log → manifests durable → one state transaction that
registers the files and drops the tail rows. A crash before the transaction leaves the tail and files that nobody refers
to, which the next sealing removes; a crash after it leaves the segments.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ipfs_kit.durable.files import create_idempotent, make_dirs, remove, sweep_temporaries
from ipfs_kit.durable.locks import Lease
from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import IntegrityError, InternalError, InvalidInput, KitError, StorageFailed
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.dag_cbor import block, decode
from ipfs_kit.ledger import _segment_rows as segment_rows
from ipfs_kit.ledger._segment_reading import Condition, SegmentReader, read_table
from ipfs_kit.ledger._segment_rows import SCHEMA, Segment, segment_name
from ipfs_kit.ledger.batches import batches, drop_tail, log_state, log_state_in
from ipfs_kit.ledger.columns import DICTIONARY_NAMES, INDEX, need_pyarrow, record_cids, to_table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["SCHEMA", "Condition", "SealPolicy", "Segment", "Segments", "leaf_hash", "segment_name", "to_parquet"]

ZSTD_LEVEL: Final = 3
"""Compression of the records that no stream declares another level for."""
_ROW_GROUP: Final = 4_096
"""Rows that are read together for one record, in about 0.8 ms; a scan in SQL takes a fifth longer with a quarter of them."""
_MANIFEST_SUFFIX: Final = ".manifest"
_MANIFEST_KIND: Final = "ipfs-kit/segment"

Leaves = Callable[[str, int, int], Iterable[bytes]]
"""``leaves(log, start, stop)``: the leaf hashes of the log's tree, as its level-0 tiles hold them."""
Families = Callable[[], Mapping[str, int]]
"""Compression level by stream, of the streams whose records get files of their own."""


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


class _Span(NamedTuple):
    """Neighbouring batches that are sealed together."""

    first: int
    stop: int
    time_min: int
    time_max: int
    op_id_min: bytes
    op_id_max: bytes


def leaf_hash(entry: bytes) -> bytes:
    """The RFC 6962 leaf hash of a log entry."""
    return sha256(b"\0" + entry).digest()


class Segments(SegmentReader):
    """Seals, expires, checks and reads the segments of both logs. Safe to use from any thread.

    Args:
        state: ``state.db``, opened with ``SCHEMA`` among its schemas.
        directory: The store's directory.
        leaves: The log's leaf hashes, which sealing compares with; None only for reading.
        families: Which streams get files of their own; none by default.
    """

    def __init__(
        self,
        state: StateDB,
        directory: str | os.PathLike[str],
        leaves: Leaves | None = None,
        families: Families = dict,
    ) -> None:
        super().__init__(state, directory)
        self._leaves = leaves
        self._families = families

    # -- sealing -----------------------------------------------------------------------------------------------------

    def due(self, log: str, policy: SealPolicy, now_ns: int) -> list[tuple[int, int]]:
        """The index ranges that ``seal`` would move now; pure apart from reading."""
        return [(span.first, span.stop) for span in self._spans(log, policy, now_ns)]

    @contextmanager
    def sealing(self, lock_timeout_s: float = 30.0) -> Iterator[None]:
        """Keep every other process from sealing and expiring.

        Raises:
            LockTimeout: Another process is at it.
        """
        lease = Lease(self._store, "sealing")
        try:
            with lease.acquire(lock_timeout_s):
                yield
        finally:
            lease.close()

    def seal(
        self, log: str, policy: SealPolicy, now_ns: int, *, segments_max: int = 1000, lock_timeout_s: float = 30.0
    ) -> list[Segment]:
        """Move what is due from ``state.db`` into segments.

        Args:
            log: ``main`` or ``bulk``.
            policy: When a segment is due.
            now_ns: Wall clock, for the age.
            segments_max: Most spans sealed by this call.
            lock_timeout_s: Longest wait for the lease ``sealing``.

        Returns:
            The new files.

        Raises:
            MissingExtra: pyarrow is not installed; nothing was changed.
            LockTimeout: Another process is sealing.
            IntegrityError: The records do not match the log; nothing was dropped.
            StorageFailed: The operating system refused a write.
        """
        need_pyarrow()
        if self._leaves is None:
            raise InternalError("segments that were opened for reading cannot seal")
        with self.sealing(lock_timeout_s):
            spans = self._spans(log, policy, now_ns)[:segments_max]
            if not spans:
                return []
            self.sweep(log)
            families = self._families()
            return [segment for span in spans for segment in self._seal(log, span, families)]

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

    def sweep(self, log: str) -> int:
        """Remove files that no row names, left by a crash or by an expiry; the caller holds the lease.

        Returns:
            How many.
        """
        directory = self.directory(log)
        make_dirs(directory)
        sweep_temporaries(directory)
        known = self.files(log)
        strays = [n for n in os.listdir(directory) if n not in known and n.endswith((".parquet", _MANIFEST_SUFFIX))]
        for name in strays:
            remove(os.path.join(directory, name))
        return len(strays)

    def _seal(self, log: str, span: _Span, families: Mapping[str, int]) -> list[Segment]:
        records: list[bytes] = []
        for batch in batches(self._state, log, span.first, span.stop):
            records += batch.records()
        made: list[Segment] = []
        for family, level, table in _split(to_table(records, span.first), families):
            data = to_parquet(table, level)
            digest = sha256(data).digest()
            name = segment_name(span.first, span.stop - 1, digest)
            create_idempotent(os.path.join(self.directory(log), name), data)
            bounds = _bounds_of(span, table) if family else span[2:]
            made.append(
                Segment(log, span.first, family, span.stop, table.num_rows, name, len(data), digest, b"", *bounds)
            )
        self._check_written(log, span, made, len(records))
        state = log_state(self._state, log)
        tree = {"size": state.size, "root": state.root}
        made = [self._described(segment, tree) for segment in made]
        with self._state.transaction() as tx:
            if log_state_in(tx, log).sealed_upto != span.first:
                raise IntegrityError(
                    f"log {log} was sealed from elsewhere without the lease: run ledger verify", log=log
                )
            segment_rows.insert(tx, made)
            drop_tail(tx, log, span.stop)
            tx.give_back()
        return made

    def _described(self, segment: Segment, tree: Mapping[str, Any]) -> Segment:
        """Write the manifest of a file."""
        cid, manifest = block(
            {
                "kind": _MANIFEST_KIND, "schema": 1, "log": segment.log, "family": segment.family,
                "first": segment.first_index, "last": segment.stop - 1, "count": segment.rows, "file": segment.name,
                "size": segment.size, "sha256": segment.sha256, "tree": dict(tree),
                "times": [segment.time_min, segment.time_max], "op_ids": [segment.op_id_min, segment.op_id_max],
            }
        )  # fmt: skip
        create_idempotent(os.path.join(self.directory(segment.log), str(cid) + _MANIFEST_SUFFIX), manifest)
        return segment._replace(manifest=cid.binary)

    def _check_written(self, log: str, span: _Span, made: Sequence[Segment], count: int) -> None:
        """Read the files back: together they hold every record of the span once, each as the log has it."""
        assert self._leaves is not None
        logged = list(self._leaves(log, span.first, span.stop))
        seen = bytearray(len(logged))
        for segment in made:
            table = read_table(os.path.join(self.directory(log), segment.name))
            for index, cid in zip(table[INDEX].to_pylist(), record_cids(table), strict=True):
                at = index - span.first
                if not 0 <= at < len(logged) or seen[at] or leaf_hash(cid) != logged[at]:
                    raise IntegrityError(
                        f"record {index} of log {log} does not match its leaf; nothing was dropped: run verify",
                        log=log,
                        index=index,
                    )
                seen[at] = 1
        if not all(seen) or len(seen) != count:
            raise IntegrityError(
                f"the files hold {sum(seen)} of {count} records, the log {len(logged)}: nothing was dropped", log=log
            )

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
                if deep and self._leaves is not None and not self._matches(segment, path):
                    yield path, "its records do not match the log's leaves"
            except (OSError, IntegrityError, StorageFailed) as exc:
                yield path, f"cannot be read: {exc}"

    def _matches(self, segment: Segment, path: str) -> bool:
        assert self._leaves is not None
        table = read_table(path)
        logged = list(self._leaves(segment.log, segment.first_index, segment.stop))
        indices = [index - segment.first_index for index in table[INDEX].to_pylist()]
        return (
            len(indices) == segment.rows
            and all(0 <= at < len(logged) for at in indices)
            and [leaf_hash(cid) for cid in record_cids(table)] == [logged[at] for at in indices]
        )

    def _manifest_fault(self, segment: Segment) -> str | None:
        cid = CID(segment.manifest)
        with open(os.path.join(self.directory(segment.log), str(cid) + _MANIFEST_SUFFIX), "rb") as file:
            data = file.read(1 << 16)
        try:
            cid.check(data)
            manifest = decode(data)
        except KitError as exc:
            return f"its manifest is damaged: {exc}"
        names = ("log", "first", "family", "count", "file", "sha256")
        stated = tuple(manifest.get(name) for name in names)
        meant = (*segment[:3], segment.rows, segment.name, segment.sha256)
        return None if stated == meant else "its manifest names something else"


def _span(group: list[tuple[Any, ...]]) -> _Span:
    first, last = group[0], group[-1]
    return _Span(
        first[0], last[0] + last[1], min(r[2] for r in group), max(r[3] for r in group),
        min(r[4] for r in group), max(r[5] for r in group),
    )  # fmt: skip


def _split(table: pa.Table, families: Mapping[str, int]) -> Iterator[tuple[str, int, pa.Table]]:
    """A span's records by family, with the compression level of each; records kept raw stay with the family ''."""
    import pyarrow as pa
    import pyarrow.compute as pc

    streams = table["stream"].combine_chunks()
    present = sorted(set(pc.unique(streams).to_pylist()) & families.keys())
    if not present:
        yield "", ZSTD_LEVEL, table
        return
    apart = pc.fill_null(pc.is_in(streams, value_set=pa.array(present, pa.string())), False)
    if not pc.all(apart).as_py():
        yield "", ZSTD_LEVEL, table.filter(pc.invert(apart))
    for family in present:
        yield family, families[family], table.filter(pc.fill_null(pc.equal(streams, family), False))


def _bounds_of(span: _Span, table: pa.Table) -> tuple[int, int, bytes, bytes]:
    """Span of times and op ids of one family's records."""
    import pyarrow as pa
    import pyarrow.compute as pc

    times = pc.min_max(table["time_ns"].cast(pa.int64())).as_py()
    op_ids = pc.min_max(table["op_id"].cast(pa.binary())).as_py()
    if None in times.values() or None in op_ids.values():
        return span[2:]
    return times["min"], times["max"], op_ids["min"], op_ids["max"]


def to_parquet(table: pa.Table, level: int = ZSTD_LEVEL) -> bytes:
    """A table of records as the bytes of a segment.

    Args:
        table: Columns as ``columns.schema`` has them.
        level: Compression level of zstd.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=level,
        row_group_size=_ROW_GROUP,
        use_dictionary=list(DICTIONARY_NAMES),
        column_encoding={INDEX: "DELTA_BINARY_PACKED", "time_ns": "DELTA_BINARY_PACKED"},
        write_statistics=[INDEX, "op_id", "phase", "time_ns", "operation", "actor", "stream", "status", "raw"],
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data
