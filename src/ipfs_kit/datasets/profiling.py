"""What the columns of a version are like, how they go together, and how far those of another version have moved away."""

# pyarrow and duckdb ship no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.datasets.arrow import need, plain
from ipfs_kit.datasets.state import DatasetState
from ipfs_kit.errors import BudgetExceeded, InvalidInput

MEMORY: Final = "1GB"
ROWS_MAX: Final = 50_000_000
"""Rows of one column that are compared at one time (400 MB of numbers)."""
CORRELATED_MAX: Final = 30
"""Numeric columns that are correlated with each other."""
BINS: Final = 10
VALUES: Final = 50
"""Most frequent values that are compared one by one; the others together."""
FLOOR: Final = 1e-4
"""Least share of a bin in the population stability index, so that an empty one does not make it infinite."""


@dataclass(frozen=True, slots=True)
class ColumnStats:
    """One column of a version.

    Args:
        name: Its name.
        type: Its Arrow type.
        rows: Rows, those without a value included.
        nulls: Rows without a value.
        distinct: About how many different values there are (HyperLogLog); None for lists and mappings.
        low: Smallest value.
        high: Largest value.
        mean: Of numbers; None for all else.
        deviation: Standard deviation of the sample, likewise.
        quartiles: First quartile, median and third of numbers, about; None for all else.
    """

    name: str
    type: str
    rows: int
    nulls: int
    distinct: int | None
    low: Any
    high: Any
    mean: float | None
    deviation: float | None
    quartiles: list[float] | None


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's coefficient of two numeric columns, -1 to 1, over rows that have both."""

    one: str
    other: str
    coefficient: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A version's columns, and the strongest correlations first.

    Args:
        rows: Rows looked at.
        columns: The columns.
        correlations: Of the first 30 numeric columns; None where it was not asked for.
    """

    rows: int
    columns: list[ColumnStats]
    correlations: list[Correlation] | None


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How far a column moved.

    Args:
        name: The column.
        psi: Population stability index over ten quantile bins of numbers, or over values; 0 is no change. By the rule of
            thumb of credit scoring (N. Siddiqi, 2006) below 0.1 is stable and from 0.25 on a shift.
        distance: Kolmogorov-Smirnov statistic of numbers, total variation distance of other values; 0 to 1.
        nulls_before: Share of rows without a value.
        nulls_after: Likewise.
        drifted: Whether the index, or the change in the share of nulls, reaches the threshold.
    """

    name: str
    psi: float
    distance: float
    nulls_before: float
    nulls_after: float
    drifted: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """How two versions differ as a whole.

    Args:
        columns: Columns that both have and that can be compared, the one that moved most first.
        drifted: Names of those that reach the threshold.
        left_out: Columns that only one has, whose type differs, or that hold lists and mappings.
        rows_before: Rows of the earlier.
        rows_after: Rows of the later.
    """

    columns: list[ColumnDrift]
    drifted: list[str]
    left_out: list[str]
    rows_before: int
    rows_after: int


def profile(
    state: DatasetState,
    split: str | None,
    columns: list[str] | None,
    correlate: bool,
    progress: Callable[[int], object],
) -> Profile:
    """Look at every row of a version once.

    Args:
        state: The version.
        split: One split; all when None.
        columns: Which columns; all when None.
        correlate: Whether numeric columns are correlated.
        progress: Called with rows read; may raise to stop.

    Raises:
        BudgetExceeded: It needs more than 1 GB of memory.
    """
    duckdb = need("duckdb")
    if state.schema is None:
        return Profile(0, [], [] if correlate else None)
    config = {"enable_external_access": "false", "memory_limit": MEMORY, "threads": "2"}
    with duckdb.connect(":memory:", config=config) as con:
        try:
            con.register("given", _reader(state, split, columns, progress))
            con.execute("CREATE TABLE t AS SELECT * FROM given")
            rows = int(con.execute("SELECT count(*) FROM t").fetchone()[0])
            names = list(state.schema.names) if columns is None else columns
            found = [_column(con, state.schema.field(name)) for name in names]
            return Profile(rows, found, _correlations(con, state, names) if correlate else None)
        except duckdb.OutOfMemoryException as exc:
            raise BudgetExceeded(f"these rows need more than {MEMORY}: choose columns, or one split") from exc


def _reader(
    state: DatasetState, split: str | None, columns: list[str] | None, progress: Callable[[int], object]
) -> Any:
    pa = need()
    names = list(state.schema.names) if columns is None else columns

    def batches() -> Iterator[Any]:
        done = 0
        for table in state.rows(split, columns):
            done += table.num_rows
            progress(done)
            yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(pa.schema([state.schema.field(name) for name in names]), batches())


def _column(con: Any, found: Any) -> ColumnStats:
    types, name = need("pyarrow").types, '"' + found.name.replace('"', '""') + '"'
    nested, number = types.is_nested(found.type), _is_number(found.type)
    asked = ["count(*)", f"count(*) - count({name})"]
    asked += ["NULL"] * 3 if nested else [f"approx_count_distinct({name})", f"min({name})", f"max({name})"]
    if number:
        asked += [f"avg({name})", f"stddev_samp({name})", f"approx_quantile({name}, [0.25, 0.5, 0.75])"]
    else:
        asked += ["NULL"] * 3
    row = con.execute(f"SELECT {', '.join(asked)} FROM t").fetchone()  # noqa: S608 - quoted names
    quartiles = [float(each) for each in row[7]] if row[7] is not None else None
    return ColumnStats(
        *(found.name, str(found.type), row[0], row[1], row[2], plain(row[3]), plain(row[4])),
        *(_finite(row[5]), _finite(row[6]), quartiles),
    )


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _is_number(kind: Any) -> bool:
    types = need("pyarrow").types
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _correlations(con: Any, state: DatasetState, names: list[str]) -> list[Correlation]:
    numeric = [name for name in names if _is_number(state.schema.field(name).type)][:CORRELATED_MAX]
    pairs = [(one, other) for at, one in enumerate(numeric) for other in numeric[at + 1 :]]
    if not pairs:
        return []
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in numeric}
    asked = ", ".join(f"corr({quoted[one]}, {quoted[other]})" for one, other in pairs)
    row = con.execute(f"SELECT {asked} FROM t").fetchone()  # noqa: S608 - quoted names
    found = [
        Correlation(one, other, round(float(value), 6))
        for (one, other), value in zip(pairs, row, strict=True)
        if value is not None and math.isfinite(value)
    ]
    return sorted(found, key=lambda each: (-abs(each.coefficient), each.one, each.other))


def drift(
    before: DatasetState,
    after: DatasetState,
    split: str | None,
    columns: list[str] | None,
    threshold: float,
    progress: Callable[[int], object],
) -> Drift:
    """Compare how the values of two versions are distributed, a column at a time.

    Args:
        before: The earlier.
        after: The later.
        split: One split; all when None.
        columns: Which columns; all when None.
        threshold: Index, or change in the share of nulls, from which on a column counts as drifted.
        progress: Called with columns compared; may raise to stop.

    Raises:
        InvalidInput: One of the versions has no rows.
        BudgetExceeded: A column has more than 50 million rows.
    """
    rows = tuple(_count(state, split) for state in (before, after))
    if not all(rows):
        raise InvalidInput("both versions need rows to be compared")
    if max(rows) > ROWS_MAX:
        raise BudgetExceeded(f"a column has more than {ROWS_MAX} rows: compare one split at a time")
    left, right = before.schema, after.schema
    wanted = columns if columns is not None else list(dict.fromkeys((*left.names, *right.names)))
    found: list[ColumnDrift] = []
    left_out: list[str] = []
    for done, name in enumerate(wanted):
        progress(done)
        here = name in left.names and name in right.names and left.field(name).type == right.field(name).type
        if not here or need("pyarrow").types.is_nested(left.field(name).type):
            left_out.append(name)
            continue
        found.append(_drifted(name, _values(before, split, name), _values(after, split, name), threshold))
    found.sort(key=lambda each: (-each.psi, each.name))
    return Drift(found, [each.name for each in found if each.drifted], left_out, *rows)


def _count(state: DatasetState, split: str | None) -> int:
    return sum(each.rows for name, each in state.manifest.splits.items() if split in (None, name))


def _values(state: DatasetState, split: str | None, name: str) -> Any:
    pa = need()
    chunks = [chunk for table in state.rows(split, [name]) for chunk in table[name].chunks]
    return pa.chunked_array(chunks, type=state.schema.field(name).type)


def _drifted(name: str, before: Any, after: Any, threshold: float) -> ColumnDrift:
    nulls = [column.null_count / max(1, len(column)) for column in (before, after)]
    one, other = before.drop_null(), after.drop_null()
    if not len(one) or not len(other):
        psi = distance = 0.0
    elif _is_number(one.type):
        psi, distance = _numbers(one, other)
    else:
        psi, distance = _words(one, other)
    moved = psi >= threshold or abs(nulls[0] - nulls[1]) >= threshold
    return ColumnDrift(name, round(psi, 6), round(distance, 6), round(nulls[0], 6), round(nulls[1], 6), moved)


def _numbers(before: Any, after: Any) -> tuple[float, float]:
    np = need("numpy")
    one, other = (np.sort(column.to_numpy().astype("float64")) for column in (before, after))
    one, other = one[~np.isnan(one)], other[~np.isnan(other)]
    if not one.size or not other.size:
        return 0.0, 0.0
    every = np.concatenate((one, other))
    below = [np.searchsorted(each, every, side="right") / each.size for each in (one, other)]
    distance = float(np.max(np.abs(below[0] - below[1])))
    edges = np.unique(np.quantile(one, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [
        np.bincount(np.searchsorted(edges, each, side="left"), minlength=edges.size + 1) / each.size
        for each in (one, other)
    ]
    return _index(shares[0].tolist(), shares[1].tolist()), distance


def _words(before: Any, after: Any) -> tuple[float, float]:
    counted = []
    for column in (before, after):
        pairs = column.value_counts()
        counted.append({each["values"]: each["counts"] / len(column) for each in pairs.to_pylist()})
    one, other = counted
    kept = sorted(one, key=lambda value: (-one[value], str(value)))[:VALUES]
    shares = [[each.get(value, 0.0) for value in kept] for each in (one, other)]
    shares = [[*each, max(0.0, 1 - sum(each))] for each in shares]
    distance = 0.5 * sum(abs(one.get(value, 0.0) - other.get(value, 0.0)) for value in {*one, *other})
    return _index(*shares), distance


def _index(before: list[float], after: list[float]) -> float:
    floored = ((max(b, FLOOR), max(a, FLOOR)) for b, a in zip(before, after, strict=True) if b or a)
    return sum((a - b) * math.log(a / b) for b, a in floored)
