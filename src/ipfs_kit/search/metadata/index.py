"""The metadata index of one store: statements in ``state.db``, and questions to the segments that follow them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import StateDB
from ipfs_kit.errors import InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.search.metadata.conditions import Clause
from ipfs_kit.search.metadata.evaluate import matching, reads_texts
from ipfs_kit.search.metadata.fields import FIELDS, METADATA_KEYS, SEARCHED, Kind, iso_ms
from ipfs_kit.search.metadata.projection import MANIFEST, Progress, Projection, Segments
from ipfs_kit.search.metadata.segment import ROWS_SUFFIX, Segment, searched_words
from ipfs_kit.search.metadata.statements import are_kept, show, statements_of
from ipfs_kit.search.metadata.table import WORD, batch_of, need_pyarrow

if TYPE_CHECKING:
    import numpy as np

PAGE_MAX: Final = 10_000
"""Records of one page."""
PAGE_CHARS: Final = 32 << 20
"""Characters of the texts of one page; it ends before, when its records are large."""
CHECKED: Final = 500
"""Records made ready at a time."""
WINDOW_ROWS: Final = 65_536
"""Rows that the first look of a page passes through."""
WINDOW_GROWTH: Final = 16
"""How many times as many each further look passes through."""
THREADED_ROWS: Final = 200_000
"""Rows from which on several threads pay."""
THREADS_MAX: Final = 4
_KEYS: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Shared:
    """The index as files that other processes map.

    Args:
        files: Arrow IPC files, oldest first; every row of them counts, and no CID stands twice.
        rows: Records in them.
        size_bytes: Their bytes.
        op_index: The last operation they hold; -1 for none.
    """

    files: list[str]
    rows: int
    size_bytes: int
    op_index: int


class MetadataIndex:
    """Answers questions about the metadata of CIDs.

    Args:
        store: The store's directory.
        state: Its state file, opened with the tables of ``statements``.
        mark: Names the operation of an index in the main log.
        read_only: Whether nothing may be written, also not to the cache.
        lock_timeout_s: Longest wait for another process that writes the files.
    """

    def __init__(
        self,
        store: str | os.PathLike[str],
        state: StateDB,
        mark: Callable[[int], str],
        read_only: bool,
        lock_timeout_s: float,
    ) -> None:
        self._state = state
        self.projection = Projection(store, state, mark, read_only, lock_timeout_s)

    def get(self, cid: CID) -> dict[str, Any] | None:
        """The record of a CID, from the statements themselves; None when there is none."""
        found = statements_of(self._state, cid) if are_kept(self._state) else []
        return show(found) if found else None

    def count(self, clauses: Sequence[Clause], progress: Progress | None = None) -> int:
        """How many records meet every clause."""
        wanted = tuple(clauses)
        segments = self.projection.segments(progress)
        if not wanted:
            return sum(int(each.live.sum()) for each in segments)
        return sum(len(hits) for hits in _on_all(wanted, [(each, 0, each.rows) for each in segments]))

    def page(
        self,
        clauses: Sequence[Clause],
        columns: Sequence[str] | None,
        limit: int,
        cursor: str | None = None,
        progress: Progress | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Records that meet every clause, in a fixed order that means nothing: that of a hash of their CIDs.

        Args:
            clauses: The clauses.
            columns: Fields wanted; None for all.
            limit: At most so many.
            cursor: Where the page before ended.
            progress: Told of rows read when the index is made anew.

        Returns:
            The records, and the cursor of the next page, None when this was the last.
        """
        names = check_columns(columns)
        wanted = tuple(clauses)
        low, after = _cursor(cursor)
        segments = self.projection.segments(progress)
        total = sum(each.rows for each in segments)
        span = _KEYS if total <= WINDOW_ROWS else _KEYS * WINDOW_ROWS // total
        found: list[tuple[int, str, int, int]] = []
        while low < _KEYS and len(found) <= limit:
            high = min(low + span, _KEYS)
            found += _in_order(segments, wanted, low, high, after, limit + 1 - len(found))
            low, span, after = high, span * WINDOW_GROWTH, ""
        rows = _rendered(segments, [place[2:] for place in found[:limit]], names)
        key, cid = found[len(rows) - 1][:2] if rows else (0, "")
        return rows, f"{key:016x}:{cid}" if len(found) > len(rows) else None

    def every(
        self, clauses: Sequence[Clause], columns: Sequence[str] | None = None, progress: Progress | None = None
    ) -> Iterator[dict[str, Any]]:
        """All records that meet every clause, a page at a time."""
        cursor: str | None = None
        while True:
            rows, cursor = self.page(clauses, columns, PAGE_MAX, cursor, progress)
            yield from rows
            if cursor is None:
                return

    def search(
        self,
        text: str,
        fields: Sequence[str] | None,
        clauses: Sequence[Clause],
        columns: Sequence[str] | None,
        limit: int,
        offset: int = 0,
        progress: Progress | None = None,
    ) -> tuple[list[dict[str, Any]], bool]:
        """Records that hold every word of a text, those first that hold all of them as whole words.

        Args:
            text: Words, each of which may be a part of a word; upper and lower case are the same.
            fields: Only in these; None for all of ``SEARCHED``.
            clauses: Further conditions.
            columns: Fields wanted; None for all.
            limit: At most so many.
            offset: So many passed over.
            progress: Told of rows read when the index is made anew.

        Returns:
            The records, and whether there are more.

        Raises:
            InvalidInput: The text holds no word, or a field is not searched.
        """
        names, where = check_columns(columns), check_searched(fields)
        words = searched_words(text)
        if not words:
            raise InvalidInput("the text holds no word to look for")
        segments = self.projection.segments(progress)
        places = _worded(segments, text, tuple(clauses))
        if where is None:
            rows = _rendered(segments, _pairs(places[offset : offset + limit]), names)
            return rows, len(places) > offset + len(rows)
        kept: list[tuple[int, int]] = []
        for start in range(0, len(places), CHECKED):
            some = _pairs(places[start : start + CHECKED])
            kept += [
                place
                for place, row in zip(some, render(segments, some, list(FIELDS)), strict=True)
                if _holds(row, where, words)
            ]
            if len(kept) > offset + limit:
                break
        rows = _rendered(segments, kept[offset : offset + limit], names)
        return rows, len(kept) > offset + len(rows)

    def share(self) -> Shared:
        """Write what is in memory, leave no row that does not count, and name the files; they stay until the next call."""
        segments, sizes = self.projection.purge(keep=True)
        files = [os.path.join(self.projection.folder, f"{each.name}{ROWS_SUFFIX}") for each in segments]
        rows = sum(each.rows for each in segments)
        return Shared(files, rows, sum(sizes), self.projection.seen)

    def tidy(self) -> None:
        """Let what was deleted leave the files too; where nobody asked yet, there are none, and none are made."""
        if os.path.exists(os.path.join(self.projection.folder, MANIFEST)) and find_spec("pyarrow") is not None:
            self.projection.purge(keep=False)

    def table(self) -> Any:
        """The index as one ``pyarrow.Table`` over the mapped files; rows that do not count are left out."""
        pa = need_pyarrow()
        import numpy as np

        parts = [
            each.batch if each.pure else each.batch.take(pa.array(np.flatnonzero(each.live)))
            for each in self.projection.segments()
        ]
        tables = [pa.Table.from_batches([part.select(list(FIELDS))]) for part in parts]
        if not tables:
            return pa.Table.from_batches([batch_of([])[0].select(list(FIELDS))])
        return pa.concat_tables(tables).unify_dictionaries()


def _cursor(cursor: str | None) -> tuple[int, str]:
    if cursor is None:
        return 0, ""
    key, colon, cid = cursor.partition(":")
    try:
        found = int(key, 16)
    except ValueError:
        found = -1
    if not colon or not 0 <= found < _KEYS:
        raise InvalidInput("the cursor is not one that a page returned")
    return found, cid


def _in_order(
    segments: Segments, clauses: tuple[Clause, ...], low: int, high: int, after: str, limit: int
) -> list[tuple[int, str, int, int]]:
    """The first matches with keys in ``[low, high)``: key, CID, number of the segment, number of the row."""
    import numpy as np

    keys, owners, rows = [], [], []

    spans = [(_place(each.keys, low), _place(each.keys, high)) for each in segments]
    pieces = [(each, start, stop) for each, (start, stop) in zip(segments, spans, strict=True)]
    for number, ((each, _, _), hits) in enumerate(zip(pieces, _on_all(clauses, pieces), strict=True)):
        keys.append(each.keys[hits])
        owners.append(np.full(len(hits), number))
        rows.append(hits)
    if not keys:
        return []
    every_key = np.concatenate(keys)
    order = np.argsort(every_key, kind="stable")
    # Rows of the cursor's key are looked at again, and those of one key stay together, however many there are.
    again = int(np.count_nonzero(every_key == np.uint64(low))) if after else 0
    stop = min(limit + again, len(order))
    while stop < len(order) and every_key[order[stop]] == every_key[order[stop - 1]]:
        stop += 1
    owner, row = np.concatenate(owners), np.concatenate(rows)
    found = sorted(
        (
            int(every_key[at]),
            segments[int(owner[at])].batch.column("cid")[int(row[at])].as_py(),
            int(owner[at]),
            int(row[at]),
        )
        for at in order[:stop]
    )
    return [place for place in found if not after or place[:2] > (low, after)][:limit]


def _on_all(clauses: tuple[Clause, ...], pieces: Sequence[tuple[Segment, int, int]]) -> list[np.ndarray]:
    """The rows that meet every clause in some rows of each segment; where there is much, on several threads."""
    rows = sum(stop - start for _, start, stop in pieces)
    if len(pieces) == 1 or rows < THREADED_ROWS or not any(map(reads_texts, clauses)):
        return [each.find(clauses, start, stop) for each, start, stop in pieces]
    with ThreadPoolExecutor(min(THREADS_MAX, os.cpu_count() or 1), thread_name_prefix="ipfs-kit-metadata") as pool:
        return list(pool.map(lambda piece: piece[0].find(clauses, piece[1], piece[2]), pieces))


def _place(keys: np.ndarray, bound: int) -> int:
    import numpy as np

    return len(keys) if bound >= _KEYS else int(np.searchsorted(keys, np.uint64(bound), "left"))


def _worded(segments: Segments, text: str, clauses: tuple[Clause, ...]) -> np.ndarray:
    """Segment and row of the records that hold the words, whole words first, each kind in order of key."""
    import numpy as np

    parts: list[tuple[np.ndarray, ...]] = []
    for number, each in enumerate(segments):
        hits = each.with_words(text)
        if clauses and len(hits):
            hits = _filtered(each, hits, clauses)
        parts_of_words = ~np.isin(hits, each.with_words(text, exact=True), assume_unique=True)
        parts.append((parts_of_words, each.keys[hits], np.full(len(hits), number), hits))
    if not parts:
        return np.empty((0, 2), np.int64)
    ranks, keys, owners, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((keys, ranks))
    return np.stack([owners[order], rows[order]], axis=1)


def _pairs(places: np.ndarray) -> list[tuple[int, int]]:
    return [(int(owner), int(row)) for owner, row in places]


def _filtered(segment: Segment, hits: np.ndarray, clauses: tuple[Clause, ...]) -> np.ndarray:
    import numpy as np

    pa = need_pyarrow()
    chosen = segment.batch.take(pa.array(hits))
    return hits[matching(chosen, np.ones(len(hits), bool), clauses)]  # type: ignore[no-any-return]


def check_columns(columns: Sequence[str] | None) -> list[str]:
    """The fields a caller wants, all when it says nothing; ``cid`` is always among them.

    Raises:
        InvalidInput: There is no such field.
    """
    if columns is None:
        return list(FIELDS)
    unknown = [str(name)[:100] for name in columns if name not in FIELDS]
    if unknown:
        raise InvalidInput(f"there is no field {', '.join(unknown[:5])}: fields are {', '.join(FIELDS)}")
    return list(dict.fromkeys(["cid", *columns]))


def check_searched(fields: Sequence[str] | None) -> list[str] | None:
    """The fields text search is confined to.

    Raises:
        InvalidInput: One of them is not searched.
    """
    if fields is None:
        return None
    wanted: list[str] = []
    for name in fields:
        here = [each for each in SEARCHED if each == name or each.startswith(f"{name}.")]
        if not here and name.startswith("properties.") and len(name) > len("properties."):
            here = [name]
        if not here:
            raise InvalidInput(f"text is searched in {', '.join(SEARCHED)}, not in {str(name)[:100]}")
        wanted += here
    return wanted or None


def _holds(row: dict[str, Any], fields: Iterable[str], words: Sequence[str]) -> bool:
    """Whether every word is a part of a word of one of the fields."""
    texts: list[str] = []
    for name in fields:
        field, _, key = name.partition(".")
        value = row[field].get(key) if key else row[field]
        texts += value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value or ""]
    there = [word for text in texts for word in WORD.findall(text.casefold())]
    return all(any(word in each for each in there) for word in words)


def _rendered(segments: Segments, places: Sequence[tuple[int, int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Records at places, fewer where they are so large that a page of them would not be bounded; one at the least."""
    if len(places) <= CHECKED:
        return render(segments, places, names)  # within bounds, whatever they hold
    found: list[dict[str, Any]] = []
    size = 0
    for start in range(0, len(places), CHECKED):
        for row in render(segments, places[start : start + CHECKED], names):
            size += sum(_weight(value) for value in row.values())
            if size > PAGE_CHARS and found:
                return found
            found.append(row)
    return found


def _weight(value: Any) -> int:
    """Characters of a value's texts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return sum(len(each or "") for each in value)
    return len(value) if isinstance(value, str) else 0


def render(segments: Segments, places: Sequence[tuple[int, int]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Records at places, in their order, with the fields named.

    Args:
        segments: The index.
        places: Number of the segment and of the row.
        names: Fields.
    """
    pa = need_pyarrow()
    found: list[dict[str, Any]] = [{}] * len(places)
    for number, each in enumerate(segments):
        here = [(at, row) for at, (owner, row) in enumerate(places) if owner == number]
        if not here:
            continue
        chosen = pa.array([row for _, row in here], pa.int64())
        columns = [_shown(name, each.batch.column(name).take(chosen)) for name in names]
        for (at, _), *values in zip(here, *columns, strict=True):
            found[at] = dict(zip(names, values, strict=True))
    return found


def _shown(name: str, column: Any) -> list[Any]:
    if FIELDS[name] is Kind.TIME:
        return [None if value is None else iso_ms(value) for value in column.cast(need_pyarrow().int64()).to_pylist()]
    if need_pyarrow().types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values: list[Any] = column.to_pylist()
    if name == "metadata":
        return [{key: value[key] for key in METADATA_KEYS} for value in values]
    return [dict(value) for value in values] if name == "properties" else values
