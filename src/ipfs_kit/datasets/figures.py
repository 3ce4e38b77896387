"""What a part's rows are like, told beside the part, so that readers leave out parts that cannot hold what they seek."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.datasets.arrow import need
from ipfs_kit.datasets.bloom import Bloom
from ipfs_kit.errors import FormatError

FORMAT: Final = 1
TEXT_CHARS_MAX: Final = 64
"""Longer texts are no bounds: a part with one has no lower or upper bound in that column."""
FIGURES_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Column:
    """Figures of one column.

    Args:
        nulls: Cells without a value.
        low: Smallest value as JSON (times as integers of their unit); None when unknown or there is none.
        high: Largest value, likewise.
        bloom: Which values may occur; None when nobody asked for it.
    """

    nulls: int
    low: Any = None
    high: Any = None
    bloom: Bloom | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one part.

    Args:
        rows: Its rows.
        size: Its bytes.
        columns: By name; columns of lists and mappings have none.
    """

    rows: int
    size: int
    columns: Mapping[str, Column] = field(default_factory=dict)


def figures_of(table: Any, size: int, bloom: tuple[str, ...]) -> Figures:
    """Figures of rows.

    Args:
        table: The rows.
        size: Bytes of the part they became.
        bloom: Columns with a Bloom filter.
    """
    pc = need("pyarrow.compute")
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not measurable(column.type):
            continue
        bounds = pc.min_max(as_bounds(column))
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        if not (_fit(low) and _fit(high)):
            low = high = None
        filtered = Bloom.of(column.unique().to_pylist()) if name in bloom else None
        columns[name] = Column(column.null_count, low, high, filtered)
    return Figures(table.num_rows, size, columns)


def measurable(kind: Any) -> bool:
    """Whether cells of a type have an order that JSON can tell."""
    types = need("pyarrow").types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_timestamp(kind)
        or types.is_date(kind)
    )


def as_bounds(column: Any) -> Any:
    """A column or scalar as something whose bounds are JSON values: times become integers of their unit."""
    pa = need()
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date64(kind):
        return column.cast(pa.int64())
    if pa.types.is_date32(kind):
        return column.cast(pa.int32())
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    return column


def _fit(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= TEXT_CHARS_MAX
    # A NaN is unordered, and an infinity has no JSON form.
    return not isinstance(value, float) or (value == value and abs(value) != float("inf"))


def encode(figures: Figures) -> bytes:
    """Figures as bytes, the same for the same figures."""
    columns = {}
    for name, column in figures.columns.items():
        told: dict[str, Any] = {"nulls": column.nulls}
        if column.low is not None:
            told |= {"min": column.low, "max": column.high}
        if column.bloom is not None:
            told["bloom"] = column.bloom.encode()
        columns[name] = told
    whole = {"format": FORMAT, "rows": figures.rows, "bytes": figures.size, "columns": columns}
    return json.dumps(whole, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def decode(data: bytes) -> Figures:
    """The figures of bytes.

    Raises:
        FormatError: They are none.
    """
    try:
        whole = json.loads(data.decode("utf-8", "surrogatepass"))
        if whole["format"] != FORMAT:
            raise FormatError(f"figures of a part have format {whole['format']!a}: upgrade ipfs-kit-py")
        columns = {
            str(name): Column(
                int(told["nulls"]),
                told.get("min"),
                told.get("max"),
                Bloom.decode(told["bloom"]) if "bloom" in told else None,
            )
            for name, told in whole["columns"].items()
        }
        rows, size = int(whole["rows"]), int(whole["bytes"])
        if rows < 0 or size < 0:
            raise ValueError(rows)
        return Figures(rows, size, columns)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise FormatError("figures of a part do not parse; restore the dataset from an earlier version") from exc
