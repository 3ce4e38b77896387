"""Which rows differ between two versions: parts that both hold are not read, the rest is joined by DuckDB."""

# pyarrow and duckdb ship no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.datasets.arrow import need, plain
from ipfs_kit.datasets.state import DatasetState, Part
from ipfs_kit.errors import BudgetExceeded, InvalidInput

MEMORY: Final = "1GB"


@dataclass(frozen=True, slots=True)
class RowChange:
    """One row that differs.

    Args:
        change: ``added``, ``removed`` or ``changed``.
        before: The row as it was; None when it was added.
        after: The row as it is; None when it was removed.
    """

    change: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class RowDiff:
    """How two versions differ.

    Args:
        added: Rows that only the later has; with a key, rows whose key only the later has.
        removed: Rows that only the earlier has, likewise.
        changed: Rows with the same key and other values; 0 without a key.
        rows: The first of them.
        columns_added: Columns that only the later has.
        columns_removed: Columns that only the earlier has.
        columns_changed: Columns whose type differs.
        parts_shared: Parts that both hold, which were not read.
        parts_read: Parts that were.
    """

    added: int
    removed: int
    changed: int
    rows: list[RowChange]
    columns_added: list[str]
    columns_removed: list[str]
    columns_changed: list[str]
    parts_shared: int
    parts_read: int


def compare(
    before: DatasetState,
    after: DatasetState,
    key: list[str],
    split: str | None,
    limit: int,
    progress: Callable[[int], object],
) -> RowDiff:
    """Compare the rows of two states.

    Args:
        before: The earlier.
        after: The later.
        key: Columns whose values name a row; without any, whole rows are compared, as often as they occur.
        split: One split; all when None.
        limit: Most rows named.
        progress: Called with rows read; may raise to stop.

    Raises:
        InvalidInput: A key column is missing, or its values name several rows.
        BudgetExceeded: What differs needs more than 1 GB of memory.
    """
    left_schema, right_schema = before.schema, after.schema
    left_names = list(left_schema.names) if left_schema is not None else []
    right_names = list(right_schema.names) if right_schema is not None else []
    both = [name for name in left_names if name in right_names]
    missing = [name for name in key if name not in both]
    if missing and left_names and right_names:
        raise InvalidInput(f"the key column {missing[0][:100]!a} is not in both versions")
    retyped = [name for name in both if left_schema.field(name).type != right_schema.field(name).type]
    same = left_names == right_names and not retyped
    left, right = _parts(before, split), _parts(after, split)
    shared: Counter[bytes] = Counter()
    if same:
        shared = Counter(part.item.binary for part in left) & Counter(part.item.binary for part in right)
    columns = both or left_names or right_names
    left, right = _without(left, shared), _without(right, shared)
    if left or right:
        counts, rows = _joined(before, left, after, right, columns, key, limit, progress)
    else:
        counts, rows = (0, 0, 0), []
    return RowDiff(
        *counts, rows, [name for name in right_names if name not in left_names],
        [name for name in left_names if name not in right_names], retyped, shared.total(), len(left) + len(right),
    )  # fmt: skip


def _parts(state: DatasetState, split: str | None) -> list[Part]:
    if split is not None and split not in state.manifest.splits:
        return []
    return list(state.parts(split))


def _without(parts: list[Part], shared: Counter[bytes]) -> list[Part]:
    left, kept = Counter(shared), []
    for part in parts:
        if left[part.item.binary] > 0:
            left[part.item.binary] -= 1
        else:
            kept.append(part)
    return kept


def _joined(
    before: DatasetState,
    left: list[Part],
    after: DatasetState,
    right: list[Part],
    columns: list[str],
    key: list[str],
    limit: int,
    progress: Callable[[int], object],
) -> tuple[tuple[int, int, int], list[RowChange]]:
    duckdb = need("duckdb")
    config = {"enable_external_access": "false", "memory_limit": MEMORY, "threads": "2"}
    with duckdb.connect(":memory:", config=config) as con:
        done = [0]
        try:
            for name, state, parts in (("l", before, left), ("r", after, right)):
                con.register("given", _reader(state, parts, columns, done, progress))
                con.execute(f"CREATE TABLE {name} AS SELECT * FROM given")  # noqa: S608 - l or r
                con.unregister("given")
            return _by_key(con, columns, key, limit) if key else _whole(con, columns, limit)
        except duckdb.OutOfMemoryException as exc:
            raise BudgetExceeded(f"the rows that differ need more than {MEMORY}: compare one split at a time") from exc


def _reader(
    state: DatasetState, parts: list[Part], columns: list[str], done: list[int], progress: Callable[[int], object]
) -> Any:
    pa = need()
    names = [name for name in columns if state.schema is not None and name in state.schema.names]
    schema = pa.schema([state.schema.field(name) for name in names]) if names else None
    if schema is None:
        return pa.table({name: pa.nulls(0, pa.string()) for name in columns})

    def batches() -> Iterator[Any]:
        for part in parts:
            for table in state.batches(part, names):
                done[0] += table.num_rows
                progress(done[0])
                yield from table.to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _whole(con: Any, columns: list[str], limit: int) -> tuple[tuple[int, int, int], list[RowChange]]:
    rows: list[RowChange] = []
    counts = []
    for change, one, other in (("removed", "l", "r"), ("added", "r", "l")):
        con.execute(f"CREATE TABLE {change} AS (SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other})")  # noqa: S608
        counts.append(int(con.execute(f"SELECT count(*) FROM {change}").fetchone()[0]))  # noqa: S608
        found = con.execute(f"SELECT * FROM {change} LIMIT ?", [max(0, limit - len(rows))]).fetchall()  # noqa: S608
        for cells in found:
            row = dict(zip(columns, map(plain, cells), strict=True))
            rows.append(RowChange(change, row, None) if change == "removed" else RowChange(change, None, row))
    return (counts[1], counts[0], 0), rows


def _by_key(con: Any, columns: list[str], key: list[str], limit: int) -> tuple[tuple[int, int, int], list[RowChange]]:
    keys = ", ".join(_quoted(name) for name in key)
    for side in ("l", "r"):
        twice = con.execute(f"SELECT {keys} FROM {side} GROUP BY ALL HAVING count(*) > 1 LIMIT 1").fetchone()  # noqa: S608
        if twice is not None:
            raise InvalidInput(f"{keys} is no key: {plain(list(twice))} names several rows")
    on = " AND ".join(f"l.{_quoted(name)} IS NOT DISTINCT FROM r.{_quoted(name)}" for name in key)
    differs = " OR ".join(f"l.{_quoted(name)} IS DISTINCT FROM r.{_quoted(name)}" for name in columns)
    con.execute(
        "CREATE TABLE d AS SELECT CASE WHEN l.here IS NULL THEN 'added' WHEN r.here IS NULL THEN 'removed' ELSE 'changed' "  # noqa: S608 - quoted names
        "END AS change, l AS b, r AS a FROM (SELECT *, true AS here FROM l) l FULL JOIN (SELECT *, true AS here FROM r) r "
        f"ON {on} WHERE l.here IS NULL OR r.here IS NULL OR {differs}"
    )
    counts = dict(con.execute("SELECT change, count(*) FROM d GROUP BY 1").fetchall())
    rows = []
    for change, b, a in con.execute("SELECT change, b, a FROM d ORDER BY change LIMIT ?", [limit]).fetchall():
        old = None if change == "added" else {name: plain(b[name]) for name in columns}
        new = None if change == "removed" else {name: plain(a[name]) for name in columns}
        rows.append(RowChange(change, old, new))
    return (counts.get("added", 0), counts.get("removed", 0), counts.get("changed", 0)), rows
