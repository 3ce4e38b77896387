"""Records that meet a condition, oldest or newest first, page by page, without a query engine.

The condition is judged on stored columns only, so nothing is decrypted for a row that is not wanted. In sealed
segments, row groups are skipped by their statistics and only the columns of the condition are read before the rows
that meet it.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import cbrrr

from ipfs_kit.errors import FormatError, IntegrityError
from ipfs_kit.ledger.batches import Querying, batch_at, log_state
from ipfs_kit.ledger.columns import INDEX, RAW, from_table
from ipfs_kit.ledger.record import FIELDS

if TYPE_CHECKING:
    import pyarrow as pa

    from ipfs_kit.ledger.segments import Segments

_AT: Final = {name: FIELDS.index(name) for name in FIELDS}
_TIME: Final = _AT["time_ns"]
_NAMES: Final = ("stream", "operation", "status", "surface", "actor", "subject", "error_kind", "node")


@dataclass(frozen=True, slots=True)
class Where:
    """A condition over the stored columns of records; None means any.

    Args:
        stream: Families of ops.
        operation: Catalogue names.
        status: How ops ended.
        surface: By which surfaces.
        actor: Surrogate ids of callers.
        subject: Surrogate ids of the people whose keys seal the records.
        error_kind: Stable error codes.
        node: Stores that wrote the records.
        since_ns: Recorded at or after this time.
        until_ns: Recorded before this time.
    """

    stream: frozenset[str] | None = None
    operation: frozenset[str] | None = None
    status: frozenset[str] | None = None
    surface: frozenset[str] | None = None
    actor: frozenset[str] | None = None
    subject: frozenset[str] | None = None
    error_kind: frozenset[str] | None = None
    node: frozenset[str] | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def wanted(self) -> list[tuple[str, frozenset[str]]]:
        """The names asked for, column by column."""
        return [(name, value) for name in _NAMES if (value := getattr(self, name)) is not None]

    def within(self, time_min: int, time_max: int) -> bool:
        """Whether records of a span of times could meet it."""
        return (self.since_ns is None or time_max >= self.since_ns) and (
            self.until_ns is None or time_min < self.until_ns
        )


def select(
    db: Querying,
    segments: Segments | None,
    log: str,
    where: Where,
    start: int = 0,
    stop: int | None = None,
    *,
    newest_first: bool = False,
) -> Iterator[tuple[int, bytes]]:
    """Index and encoded record of every record in ``[start, stop)`` that is kept and meets a condition.

    Args:
        db: ``state.db``.
        segments: The sealed segments; None when nothing was sealed.
        log: ``main`` or ``bulk``.
        where: The condition.
        start: First index.
        stop: Index after the last; None for the end of the log.
        newest_first: Highest index first.

    Raises:
        IntegrityError: A batch or segment is damaged or missing.
    """
    state = log_state(db, log)
    end = state.next_index if stop is None else min(stop, state.next_index)
    middle = min(max(start, state.sealed_upto), end)
    parts = [(True, start, middle), (False, middle, end)]
    for sealed, first, last in reversed(parts) if newest_first else parts:
        if first >= last:
            continue
        if sealed:
            if segments is not None:
                yield from _in_segments(segments, log, where, first, last, newest_first)
        else:
            yield from _in_tail(db, segments, log, where, first, last, newest_first)


def _in_tail(
    db: Querying, segments: Segments | None, log: str, where: Where, start: int, stop: int, newest_first: bool
) -> Iterator[tuple[int, bytes]]:
    names = [(_AT[name], value) for name, value in where.wanted()]
    # A name stands in the encoding as it is written: most records that do not meet it need not be decoded.
    written = [[name.encode("utf-8", "surrogatepass") for name in value] for _, value in where.wanted()]
    at = stop - 1 if newest_first else start
    while start <= at < stop:
        batch = batch_at(db, log, at)
        if batch is None:
            # Sealed since we looked: the segments have it now.
            sealed = log_state(db, log).sealed_upto
            if sealed <= at or segments is None:
                raise IntegrityError(f"record {at} of log {log} is missing from state.db: run ledger verify", index=at)
            first, last = (start, at + 1) if newest_first else (at, min(stop, sealed))
            yield from _in_segments(segments, log, where, first, last, newest_first)
            if newest_first:
                return
            at = last
            continue
        first, last = max(start, batch.first_index), min(stop, batch.first_index + batch.count)
        if where.within(batch.time_min, batch.time_max):
            records = list(enumerate(batch.records(), batch.first_index))[
                first - batch.first_index : last - batch.first_index
            ]
            for index, data in reversed(records) if newest_first else records:
                if all(any(name in data for name in one) for one in written) and _meets(data, names, where):
                    yield index, data
        at = first - 1 if newest_first else last


def _meets(data: bytes, names: list[tuple[int, frozenset[str]]], where: Where) -> bool:
    row = _decoded(data)
    for at, wanted in names:
        if row[at] not in wanted:
            return False
    time_ns = row[_TIME]
    return (where.since_ns is None or time_ns >= where.since_ns) and (
        where.until_ns is None or time_ns < where.until_ns
    )


def _decoded(data: bytes) -> list[Any]:
    try:
        row: Any = cbrrr.decode_dag_cbor(data)
    except (ValueError, OverflowError) as exc:
        raise FormatError(f"a record does not decode: {exc}; run ledger verify") from exc
    if type(row) is not list or len(row) != len(FIELDS):
        raise FormatError("the bytes are no op record: run ledger verify")
    return row


def _in_segments(
    segments: Segments, log: str, where: Where, start: int, stop: int, newest_first: bool
) -> Iterator[tuple[int, bytes]]:
    for files in segments.scan(log, _Columns(where), start, stop, newest_first=newest_first):
        parts = [_rows_of(tables, where, newest_first) for tables in files]
        yield from parts[0] if len(parts) == 1 else heapq.merge(*parts, key=itemgetter(0), reverse=newest_first)


def _rows_of(tables: Iterator[pa.Table], where: Where, newest_first: bool) -> Iterator[tuple[int, bytes]]:
    names = [(_AT[name], value) for name, value in where.wanted()]
    for table in tables:
        rows = list(zip(table[INDEX].to_pylist(), from_table(table), strict=True))
        if table[RAW].null_count < table.num_rows:
            # Records kept as raw bytes have no columns to judge by.
            raw = table[RAW].is_null().to_pylist()
            rows = [row for row, judged in zip(rows, raw, strict=True) if judged or _meets(row[1], names, where)]
        yield from reversed(rows) if newest_first else rows


class _Columns:
    """A condition as a segment's reader needs it.

    Args:
        where: The condition.
    """

    def __init__(self, where: Where) -> None:
        self._names = where.wanted()
        self.where = where
        timed = where.since_ns is not None or where.until_ns is not None
        self.columns = [INDEX, RAW, *(name for name, _ in self._names), *(["time_ns"] if timed else [])]

    def may_hold(self, name: str, low: Any, high: Any) -> bool:
        """Whether a row group whose column lies between two values can hold a row that is wanted."""
        return all(any(low <= value <= high for value in wanted) for column, wanted in self._names if column == name)

    def mask(self, table: pa.Table) -> pa.Array:
        """Which rows meet it, or are kept raw."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found: Any = None
        for name, wanted in self._names:
            column = table[name]
            # pyarrow compares dictionaries by their values only once they are decoded.
            plain = column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            one = pc.is_in(plain, value_set=pa.array(sorted(wanted), pa.string()))
            found = one if found is None else pc.and_(found, one)
        for bound, compare in ((self.where.since_ns, pc.greater_equal), (self.where.until_ns, pc.less)):
            if bound is not None:
                one = pc.fill_null(compare(table["time_ns"].cast(pa.int64()), bound), False)
                found = one if found is None else pc.and_(found, one)
        kept_raw = pc.is_valid(table[RAW])
        return pc.or_(found, kept_raw) if found is not None else pc.or_(kept_raw, True)
