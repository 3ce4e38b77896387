"""Rows, each a dataclass, as bytes of a file: JSON, JSON lines, CSV and Parquet."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so is a formula to a spreadsheet (OWASP, CSV injection)."""
_PART: Final = 5_000


def as_json(row_type: type[Any], rows: Iterable[Any]) -> Iterator[bytes]:
    """One JSON array."""
    before = b"[\n"
    for row in rows:
        yield before + _json(row_type, row)
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def as_jsonl(row_type: type[Any], rows: Iterable[Any]) -> Iterator[bytes]:
    """One JSON object a line."""
    for row in rows:
        yield _json(row_type, row) + b"\n"


def as_csv(row_type: type[Any], rows: Iterable[Any]) -> Iterator[bytes]:
    """RFC 4180 with a header; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = columns(row_type)
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in names])
        if text.tell() > 1 << 16:
            yield _taken(text)
    yield _taken(text)


def as_parquet(row_type: type[Any], rows: Iterable[Any]) -> Iterator[bytes]:
    """Apache Parquet; mappings are JSON text."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    types = {each.name: str(each.type).partition(" |")[0] for each in dataclasses.fields(row_type)}
    schema = pa.schema([(name, kinds.get(kind, pa.string())) for name, kind in types.items()])
    out = io.BytesIO()
    left = iter(rows)
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        while part := list(islice(left, _PART)):
            taken = [[_plain(getattr(row, name)) for row in part] for name in types]
            writer.write_table(pa.table(taken, schema=schema))
    yield out.getvalue()


Writer = Callable[[type[Any], Iterable[Any]], Iterator[bytes]]
WRITERS: Final[Mapping[str, Writer]] = MappingProxyType(
    {"json": as_json, "jsonl": as_jsonl, "csv": as_csv, "parquet": as_parquet}
)


def columns(row_type: type[Any]) -> tuple[str, ...]:
    """Names of a row's fields in order, which are the columns of its files."""
    return tuple(each.name for each in dataclasses.fields(row_type))


def _json(row_type: type[Any], row: Any) -> bytes:
    shown = {name: getattr(row, name) for name in columns(row_type)}
    return json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        value = json.dumps(value, sort_keys=True, ensure_ascii=False) if value else ""
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return value


def _taken(text: io.StringIO) -> bytes:
    data = text.getvalue().encode("utf-8", "replace")
    text.seek(0)
    text.truncate()
    return data
