"""Conditions asked of a batch: which of its rows meet them."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.search.metadata.conditions import SAME, Clause, Condition, Either
from ipfs_kit.search.metadata.fields import METADATA_KEYS, Kind
from ipfs_kit.search.metadata.table import CODED, CODED_METADATA, NUMBERS, need_pyarrow

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FEW: Final = 8
"""When fewer than one in so many rows are left, the next condition looks at them alone."""
_LISTS: Final = 3
_THROUGH: Final = 9
_LONG: Final = 10_000
"""Rows from which on the texts are first searched as one."""
_HITS_ONE_IN: Final = 64
"""When more than one row in so many is hit, finding hits one by one takes longer than asking each row."""
_SHORT: Final = 28
"""Bytes of a text up to which comparing it place by place is as fast as a regular expression."""
_PATTERN_MAX: Final = 200
"""Characters that are searched as a regular expression, whose size is bounded."""
_COMPARE: Final = {
    "==": "equal", "!=": "not_equal", ">": "greater", ">=": "greater_equal", "<": "less", "<=": "less_equal",
}  # fmt: skip


def matching(batch: pa.RecordBatch, live: np.ndarray, clauses: Sequence[Clause]) -> np.ndarray:
    """Numbers of the rows that are live and meet every clause, ascending.

    Args:
        batch: A coded batch, or a slice of one.
        live: Which of its rows count.
        clauses: The clauses.
    """
    import numpy as np

    mask = live
    rows: np.ndarray | None = None
    for clause in sorted(clauses, key=_cost):
        if rows is None:
            mask = mask & _holds(batch, clause)
            found = int(np.count_nonzero(mask))
            if found * FEW < len(mask):
                rows = np.flatnonzero(mask)
        elif len(rows):
            rows = rows[_holds(_only(batch, rows, clause), clause)]
    return np.flatnonzero(mask) if rows is None else rows


def _only(batch: pa.RecordBatch, rows: np.ndarray, clause: Clause) -> pa.RecordBatch:
    """Some rows of the columns that a clause looks at."""
    pa = need_pyarrow()
    conditions = clause.conditions if isinstance(clause, Either) else (clause,)
    names = dict.fromkeys(condition.field for condition in conditions)
    if "properties" in names:
        names[NUMBERS] = None
    chosen = pa.array(rows)
    return pa.RecordBatch.from_arrays([batch.column(name).take(chosen) for name in names], names=list(names))


def reads_texts(clause: Clause) -> bool:
    """Whether a clause looks through long texts, which Arrow does beside other threads; all else holds the interpreter."""
    return _cost(clause) >= _THROUGH


def _cost(clause: Clause) -> int:
    if isinstance(clause, Either):
        return sum(_cost(each) for each in clause.conditions)
    if clause.operator == "is_null" or clause.kind in (Kind.BOOL, Kind.NUMBER, Kind.TIME):
        return 1
    if clause.kind is Kind.LIST or clause.field == "properties":
        return _LISTS
    if clause.field in CODED or clause.key in CODED_METADATA:
        return 2
    return _THROUGH if clause.operator == "contains" else 4


def _holds(batch: pa.RecordBatch, clause: Clause) -> np.ndarray:
    import numpy as np

    if isinstance(clause, Either):
        mask = np.zeros(batch.num_rows, bool)
        for each in clause.conditions:
            mask |= _holds(batch, each)
        return mask
    column = batch.column(clause.field)
    if clause.field == "properties":
        return _property(batch, column, clause)
    if clause.field == "metadata":
        return _metadata(column, clause)
    if clause.kind is Kind.LIST:
        return _list(column, clause)
    if clause.kind is Kind.TEXT:
        return _text(column, clause.operator, clause.value)
    return _scalar(column, clause)


def _bools(found: Any) -> np.ndarray:
    mask: np.ndarray = found.fill_null(False).to_numpy(zero_copy_only=False)
    return mask


def _nulls(column: pa.Array, wanted: bool) -> np.ndarray:
    mask = _bools(column.is_null())
    return mask if wanted else ~mask


def _scalar(column: pa.Array, condition: Condition) -> np.ndarray:
    pa = need_pyarrow()
    import pyarrow.compute as pc

    if condition.operator == "is_null":
        return _nulls(column, condition.value)
    if condition.kind is Kind.TIME:
        column = column.cast(pa.int64())
    if condition.operator == "in":
        kind = pa.bool_() if condition.kind is Kind.BOOL else None
        whole = all(not isinstance(value, float) for value in condition.value)
        values = pa.array(list(condition.value), kind or (pa.int64() if whole else pa.float64()))
        if not whole:
            column = column.cast(pa.float64(), safe=False)
        return _bools(pc.and_(pc.is_in(column, value_set=values), column.is_valid()))
    return _bools(getattr(pc, _COMPARE[condition.operator])(column, condition.value))


def _text(column: pa.Array, operator: str, value: Any) -> np.ndarray:
    pa = need_pyarrow()
    import numpy as np
    import pyarrow.compute as pc

    if operator == "is_null":
        return _nulls(column, value)
    if pa.types.is_dictionary(column.type):
        # One row more than there are values: rows without a value point there.
        hits = np.append(_text(column.dictionary, operator, value), False)
        codes = column.indices
        return hits[(codes.fill_null(len(hits) - 1) if codes.null_count else codes).to_numpy()]  # type: ignore[no-any-return]
    if operator == "in":
        found = pc.is_in(column, value_set=pa.array(value, pa.string()))
        return _bools(pc.and_(found, column.is_valid()))
    if operator == "contains":
        return containing(column, value)
    if operator == SAME:
        return _bools(pc.equal(pc.utf8_lower(column), value))
    if operator in ("starts_with", "ends_with"):
        return _bools(getattr(pc, operator)(column, value))
    return _bools(getattr(pc, _COMPARE[operator])(column, value))


def containing(column: pa.StringArray, value: str) -> np.ndarray:
    """Rows whose text holds a value; where few do, one search over the texts laid end to end finds them sooner."""
    import numpy as np
    import pyarrow.compute as pc

    size = len(column)
    buffers = column.buffers()
    if not value or size < _LONG or buffers[2] is None:
        return _bools(pc.match_substring(column, value))
    ends = np.frombuffer(buffers[1], np.int32, size + 1, column.offset * 4)
    wanted = value.encode()
    search = re.compile(re.escape(wanted)).search
    texts = memoryview(buffers[2])
    hits: list[int] = []
    last = int(ends[-1])
    found = search(texts, int(ends[0]), last)
    while found is not None and len(hits) < size // _HITS_ONE_IN:
        hits.append(found.start())
        found = search(texts, found.start() + 1, last)
    if found is not None:
        seen = int(np.searchsorted(ends, found.start(), "right"))
        soon = len(hits) * 2 > seen or last - int(ends[0]) < _SHORT * size
        if soon or len(value) > _PATTERN_MAX:
            return _bools(pc.match_substring(column, value))
        return _bools(pc.match_substring_regex(column, _quoted(value)))  # faster to tell that a long text lacks it
    mask = np.zeros(size, bool)
    if hits:
        starts = np.array(hits, np.int64)
        rows = np.searchsorted(ends, starts, "right") - 1
        whole = starts + len(wanted) <= ends[rows + 1]  # not from one row into the next
        mask[rows[whole]] = True
        mask &= _bools(column.is_valid())
    return mask


def _quoted(text: str) -> str:
    """A regular expression of RE2 that matches a text alone."""
    return re.sub(r"[^\w\s]", lambda mark: f"\\x{{{ord(mark.group()):x}}}", text).replace("\0", r"\x00")


def _metadata(column: pa.StructArray, condition: Condition) -> np.ndarray:
    import numpy as np

    if condition.key is not None:
        return _text(column.field(METADATA_KEYS.index(condition.key)), condition.operator, condition.value)
    if condition.operator == "contains":
        if condition.value not in METADATA_KEYS:
            return np.zeros(len(column), bool)
        return _nulls(column.field(METADATA_KEYS.index(condition.value)), False)
    empty = np.ones(len(column), bool)
    for number in range(len(METADATA_KEYS)):
        empty &= _nulls(column.field(number), True)
    return empty if condition.value else ~empty


class _Elements:
    """The elements of a column of lists, or the keys of maps: codes into distinct values, row after row.

    Masks over elements are of one byte each; numbers of rows are made only where few are hit.
    """

    def __init__(self, offsets: pa.Array, elements: pa.DictionaryArray) -> None:
        import numpy as np

        starts = offsets.to_numpy()
        self.first, self.last = int(starts[0]), int(starts[-1])
        self.starts = starts - self.first if self.first else starts
        self.lengths: np.ndarray = np.diff(starts)
        values = elements.slice(self.first, self.last - self.first)
        self.distinct = values.dictionary
        self.codes = values.indices.to_numpy()

    def hit(self, hits: np.ndarray) -> np.ndarray:
        """Which elements have a distinct value that is hit."""
        import numpy as np

        chosen = np.flatnonzero(hits)
        if len(chosen) == 0:
            return np.zeros(len(self.codes), bool)
        return self.codes == chosen[0] if len(chosen) == 1 else hits[self.codes]  # type: ignore[no-any-return]

    def rows(self, mask: np.ndarray) -> np.ndarray:
        """Which rows have an element that is marked."""
        import numpy as np

        if np.count_nonzero(mask) * FEW <= len(self.lengths):
            found = np.zeros(len(self.lengths), bool)
            found[np.searchsorted(self.starts, np.flatnonzero(mask), "right") - 1] = True
            return found
        shortest, longest = int(self.lengths.min()), int(self.lengths.max())
        if shortest == longest <= FEW:
            # Rows of equal length: element by element, which is several times as fast.
            found = mask[::longest].copy()
            for place in range(1, longest):
                found |= mask[place::longest]
            return found
        # One more element, for rows without any at the end; what such a row is given is not its own.
        summed: np.ndarray = np.logical_or.reduceat(np.append(mask, False), self.starts[:-1])
        return summed & (self.lengths > 0)


def _list(column: pa.ListArray, condition: Condition) -> np.ndarray:
    elements = _Elements(column.offsets, column.values)
    operator, value = condition.operator, condition.value
    if operator == "is_null":
        return (elements.lengths == 0) == value  # type: ignore[no-any-return]
    if operator in ("==", "!="):
        same = _same(column, elements, value)
        return same if operator == "==" else ~same & (elements.lengths > 0)
    asked = "==" if operator == "contains" else operator
    return elements.rows(elements.hit(_text(elements.distinct, asked, value)))


def _same(column: pa.ListArray, elements: _Elements, value: Sequence[str]) -> np.ndarray:
    """Rows whose elements are those given: as many, and none that is not among them."""
    import numpy as np

    found: np.ndarray = elements.lengths == len(value)
    if not value or not found.any():
        return found
    marks = [elements.hit(_text(elements.distinct, "==", each)) for each in value[:FEW]]
    found &= elements.rows(min(marks, key=np.count_nonzero))
    rows = np.flatnonzero(found)
    if len(rows) * FEW < len(found):
        if len(rows):
            few = column.take(need_pyarrow().array(rows))
            found[rows] &= ~_strange(_Elements(few.offsets, few.values), value)
        return found
    found &= ~_strange(elements, value)
    return found


def _strange(elements: _Elements, value: Sequence[str]) -> np.ndarray:
    """Rows that have an element which is not among those given."""
    return elements.rows(~elements.hit(_text(elements.distinct, "in", value)))


def _property(batch: pa.RecordBatch, column: pa.MapArray, condition: Condition) -> np.ndarray:
    keys = _Elements(column.offsets, column.keys)
    if condition.key is None and condition.operator == "is_null":
        return (keys.lengths == 0) == condition.value  # type: ignore[no-any-return]
    mask = keys.hit(_text(keys.distinct, "==", condition.value if condition.key is None else condition.key))
    if condition.key is None:
        return keys.rows(mask)
    if condition.operator == "is_null":
        rows = keys.rows(mask)
        return ~rows if condition.value else rows
    return keys.rows(mask & _values(batch, column, keys, condition))


def _values(batch: pa.RecordBatch, column: pa.MapArray, keys: _Elements, condition: Condition) -> np.ndarray:
    """Which values of properties meet a condition; compared with a number they are read as numbers."""
    import numpy as np

    operator, value = condition.operator, condition.value
    given = value if operator == "in" else (value,)
    texts = [each for each in given if isinstance(each, str)]
    mask = np.zeros(len(keys.codes), bool)
    if texts:
        items = column.items.slice(keys.first, keys.last - keys.first)
        hits = _text(items.dictionary, operator, texts if operator == "in" else value)
        mask |= hits[items.indices.to_numpy()]
    if len(texts) < len(given):
        lists = batch.column(NUMBERS)
        first = lists.offsets[0].as_py()
        numbers = lists.values.to_numpy()[first : first + len(mask)]
        if operator == "in":
            mask |= np.isin(numbers, [float(each) for each in given if not isinstance(each, str)])
        else:
            mask |= getattr(np, _COMPARE[operator])(numbers, float(value)) & ~np.isnan(numbers)
    return mask
