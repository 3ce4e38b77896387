"""Audit rows as bytes of a file: JSON, JSON lines, CSV and Parquet."""

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

from ipfs_kit.monitoring.audit_rows import AuditRow

COLUMNS: Final = tuple(each.name for each in dataclasses.fields(AuditRow))
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A cell that begins so is a formula to a spreadsheet (OWASP, CSV injection)."""
_PART: Final = 5_000


def as_json(rows: Iterable[AuditRow]) -> Iterator[bytes]:
    """One JSON array."""
    before = b"[\n"
    for row in rows:
        yield before + _json(row)
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def as_jsonl(rows: Iterable[AuditRow]) -> Iterator[bytes]:
    """One JSON object a line."""
    for row in rows:
        yield _json(row) + b"\n"


def as_csv(rows: Iterable[AuditRow]) -> Iterator[bytes]:
    """RFC 4180 with a header; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(name, getattr(row, name)) for name in COLUMNS])
        if text.tell() > 1 << 16:
            yield _taken(text)
    yield _taken(text)


def as_parquet(rows: Iterable[AuditRow]) -> Iterator[bytes]:
    """Apache Parquet; details are JSON text."""
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"time_ns": pa.int64(), "event_time": pa.float64(), "erased": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    out = io.BytesIO()
    left = iter(rows)
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        while part := list(islice(left, _PART)):
            columns = [
                [json.dumps(row.details, sort_keys=True) if name == "details" else getattr(row, name) for row in part]
                for name in COLUMNS
            ]
            writer.write_table(pa.table(columns, schema=schema))
    yield out.getvalue()


WRITERS: Final[Mapping[str, Callable[[Iterable[AuditRow]], Iterator[bytes]]]] = MappingProxyType(
    {"json": as_json, "jsonl": as_jsonl, "csv": as_csv, "parquet": as_parquet}
)


def _json(row: AuditRow) -> bytes:
    return json.dumps({name: getattr(row, name) for name in COLUMNS}, ensure_ascii=False).encode("utf-8", "replace")


def _cell(name: str, value: Any) -> Any:
    if name == "details":
        value = json.dumps(value, sort_keys=True, ensure_ascii=False) if value else ""
    if isinstance(value, str) and value.startswith(FORMULA):
        return "'" + value
    return value


def _taken(text: io.StringIO) -> bytes:
    data = text.getvalue().encode("utf-8", "replace")
    text.seek(0)
    text.truncate()
    return data
