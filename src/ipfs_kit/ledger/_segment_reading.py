"""Reading sealed segments: by index, op id, time and condition, over the several files a span may have."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import heapq
import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import IntegrityError
from ipfs_kit.ledger import _segment_rows as rows
from ipfs_kit.ledger._segment_rows import Segment
from ipfs_kit.ledger.columns import DICTIONARY_NAMES, INDEX, RAW, from_table, need_pyarrow, schema

if TYPE_CHECKING:
    import pyarrow as pa

    from ipfs_kit.ledger.select import Where

_GROUPS_KEPT: Final = 32
_FILES_KEPT: Final = 16
_T = TypeVar("_T")


class Condition(Protocol):
    """What ``scan`` needs of a condition; ``select`` has the one in use."""

    where: Where
    columns: list[str]

    def may_hold(self, name: str, low: Any, high: Any) -> bool:
        """Whether rows between two values of a column can meet it."""

    def mask(self, table: pa.Table) -> pa.Array:
        """Which rows meet it."""


class SegmentReader:
    """Reads the segments of both logs; a ``RecordSource``. Safe to use from any thread.

    Args:
        state: ``state.db``, opened with ``SCHEMA`` among its schemas.
        directory: The store's directory.
    """

    def __init__(self, state: StateDB, directory: str | os.PathLike[str]) -> None:
        self._state = state
        self._store = os.fspath(directory)
        self._groups: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._files: OrderedDict[str, tuple[Any, list[tuple[int, int]]]] = OrderedDict()
        self._guard = threading.Lock()

    def directory(self, log: str) -> str:
        """Where the segments of a log lie."""
        return os.path.join(self._store, "ledger", log, "segments")

    def registered(self, log: str | None = None) -> list[Segment]:
        """Every registered file in log order."""
        return rows.read(self._state) if log is None else rows.read(self._state, "log = ?", (log,))

    def forget(self) -> None:
        """Drop what is kept in memory and close the files."""
        with self._guard:
            self._groups.clear()
            self._files.clear()

    # -- the contract of a record source -------------------------------------------------------------------------

    def record(self, log: str, index: int) -> bytes | None:
        """The encoded record, or None when it is not kept any more."""
        for segment in self._holding(log, index):
            place = self._if_there(segment, partial(self._locate, segment, index))
            if place is not None:
                group, at = place
                return from_table(self._group(segment, group).slice(at, 1))[0]
        return None

    def records(self, log: str, start: int, stop: int) -> Iterator[tuple[int, bytes | None]]:
        """Every index in ``[start, stop)`` in order with its encoded record or None."""
        index = start
        while index < stop:
            span = self._holding(log, index)
            end = min(stop, span[0].stop) if span else min(stop, self._next_span(log, index))
            parts = [self._rows(segment, index, end) for segment in span]
            for at, data in parts[0] if len(parts) == 1 else heapq.merge(*parts, key=itemgetter(0)):
                while index < at:
                    yield index, None
                    index += 1
                yield at, data
                index = at + 1
            while index < end:
                yield index, None
                index += 1

    def find(self, log: str, op_id: bytes) -> list[int]:
        """Indices of the records with an op id: none, one, or intent and outcome."""
        found: list[int] = []
        for segment in rows.read(self._state, "log = ? AND op_id_min <= ? AND op_id_max >= ?", (log, op_id, op_id)):
            found += self._if_there(segment, partial(self._find_in, segment, op_id)) or []
        return sorted(found)

    def index_at_time(self, log: str, time_ns: int) -> int | None:
        """The largest index whose recorded time is at or before a time, of records that are kept."""
        found = rows.read(self._state, "log = ? AND time_min <= ?", (log, time_ns))
        for _, span in groupby(reversed(found), key=lambda segment: segment.first_index):
            places = [self._if_there(segment, partial(self._last_before, segment, time_ns)) for segment in span]
            if kept := [place for place in places if place is not None]:
                return max(kept)
        return None

    def scan(
        self, log: str, condition: Condition, start: int, stop: int, *, newest_first: bool = False
    ) -> Iterator[list[Iterator[pa.Table]]]:
        """Rows of ``[start, stop)`` that meet a condition: for each span its files, each as tables in order.

        Args:
            log: ``main`` or ``bulk``.
            condition: Judges files by family and time, row groups by their statistics, rows by some of their columns.
            start: First index.
            stop: Index after the last.
            newest_first: Later spans and tables first; within a table rows stay in order.
        """
        found = rows.read(self._state, "log = ? AND first_index < ? AND stop > ?", (log, stop, start))
        where = condition.where
        for _, span in groupby(reversed(found) if newest_first else found, key=lambda segment: segment.first_index):
            files = [
                self._tables(segment, condition, start, stop, newest_first)
                for segment in span
                if where.within(segment.time_min, segment.time_max)
                and (not segment.family or where.stream is None or segment.family in where.stream)
            ]
            if files:
                yield files

    # -- inside one file -----------------------------------------------------------------------------------------

    def _tables(
        self, segment: Segment, condition: Condition, start: int, stop: int, newest_first: bool
    ) -> Iterator[pa.Table]:
        import pyarrow.compute as pc

        file = self._if_there(segment, lambda: self._file(segment))
        if file is None:
            return
        groups = range(file.metadata.num_row_groups)
        bounds = self._bounds(segment)
        for group in reversed(groups) if newest_first else groups:
            if bounds[group][0] >= stop or bounds[group][1] < start or not _may_hold(file, group, condition):
                continue
            with self._guard, translated(segment.name):
                narrow = file.read_row_group(group, columns=condition.columns, use_threads=False)
            index = narrow[INDEX]
            mask = pc.and_(condition.mask(narrow), pc.and_(pc.greater_equal(index, start), pc.less(index, stop)))
            if pc.any(mask).as_py():
                yield self._group(segment, group).filter(mask)

    def _rows(self, segment: Segment, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Index and record of a file's records in ``[start, stop)``, in order."""
        bounds = self._if_there(segment, lambda: self._bounds(segment)) or []
        for group, (low, high) in enumerate(bounds):
            if high < start or low >= stop:
                continue
            table = self._group(segment, group)
            indices = table[INDEX].to_pylist()
            first, last = bisect_left(indices, start), bisect_left(indices, stop)
            yield from zip(indices[first:last], from_table(table.slice(first, last - first)), strict=True)

    def _locate(self, segment: Segment, index: int) -> tuple[int, int] | None:
        """Row group of a record and its row there; None when another file of the span has it, or had it."""
        bounds = self._bounds(segment)
        group = bisect_left(bounds, index, key=itemgetter(1))
        if group == len(bounds) or bounds[group][0] > index:
            return None
        if segment.dense:
            return group, index - bounds[group][0]
        import pyarrow as pa
        import pyarrow.compute as pc

        at = pc.index(self._group(segment, group)[INDEX], pa.scalar(index, pa.int64())).as_py()
        return None if at < 0 else (group, at)

    def _find_in(self, segment: Segment, op_id: bytes) -> list[int]:
        import pyarrow as pa
        import pyarrow.compute as pc

        file = self._file(segment)
        column = schema().get_field_index("op_id")
        found: list[int] = []
        with translated(segment.name):
            for group in range(file.metadata.num_row_groups):
                bounds = file.metadata.row_group(group).column(column).statistics
                pruned = bounds is not None and bounds.has_min_max and not bounds.min <= op_id <= bounds.max
                if pruned and not _has_raw(file, group):
                    continue
                table = self._group(segment, group)
                mask = pc.fill_null(pc.equal(table["op_id"], pa.scalar(op_id, pa.binary(16))), False)
                found += table[INDEX].filter(mask).to_pylist()
                if table[RAW].null_count < table.num_rows:
                    kept = zip(table[INDEX].to_pylist(), table[RAW].to_pylist(), strict=True)
                    found += [index for index, data in kept if data is not None and data[4:20] == op_id]
        return found

    def _last_before(self, segment: Segment, time_ns: int) -> int | None:
        import pyarrow as pa
        import pyarrow.compute as pc

        file = self._file(segment)
        with self._guard, translated(segment.name):
            table = file.read(columns=[INDEX, "time_ns"])
        mask = pc.fill_null(pc.less_equal(table["time_ns"].cast(pa.int64()), time_ns), False)
        indices = table[INDEX].filter(mask)
        return int(indices[-1].as_py()) if len(indices) else None

    # -- files and row groups ------------------------------------------------------------------------------------

    def _holding(self, log: str, index: int) -> list[Segment]:
        """The files of the span that an index lies in; none when all of them expired."""
        newest = "(SELECT max(first_index) FROM ledger_segments WHERE log = ? AND first_index <= ?)"
        found = rows.read(self._state, f"log = ? AND first_index = {newest}", (log, log, index))
        return found if found and index < found[0].stop else []

    def _next_span(self, log: str, index: int) -> int:
        row = self._state.query(
            "SELECT min(first_index) FROM ledger_segments WHERE log = ? AND first_index > ?", (log, index)
        )[0][0]
        return 1 << 62 if row is None else int(row)

    def _if_there(self, segment: Segment, read: Callable[[], _T]) -> _T | None:
        """What ``read`` returns; None when the file expired while we were on the way to it."""
        try:
            return read()
        except IntegrityError:
            if rows.read(self._state, "log = ? AND first_index = ? AND family = ?", segment[:3]):
                raise
            return None

    def _file(self, segment: Segment) -> Any:
        return self._opened(segment)[0]

    def _bounds(self, segment: Segment) -> list[tuple[int, int]]:
        """First and last index of each row group."""
        return self._opened(segment)[1]

    def _opened(self, segment: Segment) -> tuple[Any, list[tuple[int, int]]]:
        with self._guard:
            found = self._files.get(segment.name)
            if found is not None:
                self._files.move_to_end(segment.name)
                return found
        need_pyarrow()
        import pyarrow.parquet as pq

        path = os.path.join(self.directory(segment.log), segment.name)
        with translated(path):
            file = pq.ParquetFile(path, read_dictionary=list(DICTIONARY_NAMES))
            bounds = []
            for group in range(file.metadata.num_row_groups):
                stated = file.metadata.row_group(group).column(0).statistics
                if stated is None or not stated.has_min_max:
                    raise IntegrityError(f"segment {path} does not say which records it holds; run ledger verify")
                bounds.append((int(stated.min), int(stated.max)))
        with self._guard:
            self._files[segment.name] = file, bounds
            while len(self._files) > _FILES_KEPT:
                self._files.popitem(last=False)
        return file, bounds

    def _group(self, segment: Segment, group: int) -> pa.Table:
        key = (segment.name, group)
        with self._guard:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
        file = self._file(segment)
        # The file object keeps one position: two threads must not read through it at once.
        with self._guard, translated(segment.name):
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


def _has_raw(file: Any, group: int) -> bool:
    row_group = file.metadata.row_group(group)
    bounds = row_group.column(row_group.num_columns - 1).statistics
    return bounds is None or not bounds.has_null_count or bounds.null_count < row_group.num_rows


class translated:  # noqa: N801 - reads as the context manager it is
    """Turn what pyarrow raises on damaged bytes into our error.

    Args:
        path: The file, for the message.
    """

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


def read_table(path: str) -> pa.Table:
    """A whole segment as one table, its bytes read afresh."""
    need_pyarrow()
    import pyarrow.parquet as pq

    with translated(path), pq.ParquetFile(path, read_dictionary=list(DICTIONARY_NAMES)) as file:
        return file.read(use_threads=False)
