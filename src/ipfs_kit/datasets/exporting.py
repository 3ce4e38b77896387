"""Rows as files that other programs read, written a part at a time."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from ipfs_kit.datasets.arrow import need, plain

FORMATS: Final = ("parquet", "arrow", "csv", "jsonl", "json")


def write(tables: Iterable[Any], schema: Any, out: BinaryIO, file_format: str) -> int:
    """Write rows to a stream; how many there were.

    Args:
        tables: Arrow tables in the schema.
        schema: Their schema.
        out: A binary stream.
        file_format: One of ``FORMATS``.
    """
    return _WRITERS[file_format](tables, schema, out)


def _through(writer: Any, tables: Iterable[Any]) -> int:
    rows = 0
    with writer:
        for table in tables:
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _parquet(tables: Iterable[Any], schema: Any, out: BinaryIO) -> int:
    return _through(need("pyarrow.parquet").ParquetWriter(out, schema, compression="zstd"), tables)


def _arrow(tables: Iterable[Any], schema: Any, out: BinaryIO) -> int:
    return _through(need("pyarrow.ipc").new_file(out, schema), tables)


def _csv(tables: Iterable[Any], schema: Any, out: BinaryIO) -> int:
    """Cells stand as they are, so that what is read back is what was written; lists and mappings are JSON text."""
    pa, csv = need(), need("pyarrow.csv")
    nested = [pa.types.is_nested(each.type) for each in schema]
    flat = pa.schema([each.with_type(pa.string()) if deep else each for each, deep in zip(schema, nested, strict=True)])

    def flattened(table: Any) -> Any:
        columns = [
            pa.array([None if cell is None else json.dumps(plain(cell)) for cell in column.to_pylist()], pa.string())
            if deep
            else column
            for column, deep in zip(table.columns, nested, strict=True)
        ]
        return pa.table(columns, schema=flat)

    return _through(csv.CSVWriter(out, flat), (flattened(table) for table in tables))


def _lines(tables: Iterable[Any], out: BinaryIO, before: bytes, between: bytes, after: bytes) -> int:
    rows = 0
    out.write(before)
    for table in tables:
        for row in table.to_pylist():
            text = json.dumps({name: _cell(cell) for name, cell in row.items()}, ensure_ascii=False)
            out.write((between if rows else b"") + text.encode("utf-8", "surrogatepass"))
            rows += 1
    out.write(after if rows or before else b"")
    return rows


def _cell(cell: Any) -> Any:
    import base64

    return base64.b64encode(cell).decode() if isinstance(cell, bytes) else plain(cell)


_WRITERS: Final[Mapping[str, Callable[[Iterable[Any], Any, BinaryIO], int]]] = MappingProxyType(
    {
        "parquet": _parquet,
        "arrow": _arrow,
        "csv": _csv,
        "jsonl": lambda tables, schema, out: _lines(tables, out, b"", b"\n", b"\n"),
        "json": lambda tables, schema, out: _lines(tables, out, b"[\n", b",\n", b"\n]\n"),
    }
)
