"""Records as Arrow tables of the published columns, and as bytes of files: Parquet and JSON lines."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.search.metadata.fields import FIELDS, Kind, time_ms
from ipfs_kit.search.metadata.table import need_pyarrow, plain_schema

if TYPE_CHECKING:
    import pyarrow as pa

_PART: Final = 10_000
"""Records of one row group."""


def table_of(records: Sequence[Mapping[str, Any]], columns: Sequence[str] = tuple(FIELDS)) -> pa.Table:
    """Records, as questions return them, as an Arrow table.

    Args:
        records: The records; each has the columns.
        columns: Which fields.
    """
    pa = need_pyarrow()
    schema = pa.schema([plain_schema().field(name) for name in columns])
    arrays = [pa.array([_value(name, record[name]) for record in records], schema.field(name).type) for name in columns]
    return pa.Table.from_arrays(arrays, schema=schema)


def _value(name: str, value: Any) -> Any:
    if FIELDS[name] is Kind.TIME and value is not None:
        return time_ms(name, value)
    return list(value.items()) if name == "properties" else value


def as_parquet(records: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Apache Parquet, a row group at a time."""
    need_pyarrow()
    from pyarrow import parquet

    out = _Emptied()
    left = iter(records)
    with parquet.ParquetWriter(out, table_of([]).schema, compression="zstd") as writer:
        while part := list(islice(left, _PART)):
            writer.write_table(table_of(part))
            yield out.taken()
    yield out.taken()


def as_jsonl(records: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """One JSON object a line."""
    for record in records:
        yield json.dumps(record, ensure_ascii=False).encode() + b"\n"


WRITERS: Final[Mapping[str, Callable[[Iterable[Mapping[str, Any]]], Iterator[bytes]]]] = MappingProxyType(
    {"parquet": as_parquet, "jsonl": as_jsonl}
)


class _Emptied(io.RawIOBase):
    """A file that is emptied while it is written, and still tells the place in the whole."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._parts.append(bytes(data))
        self._size += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """Bytes taken in all."""
        return self._size

    def taken(self) -> bytes:
        """What came since the last time."""
        data, self._parts = b"".join(self._parts), []
        return data
