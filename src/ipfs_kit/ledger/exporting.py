"""Export of records as plain Parquet: one row an op, columns and types that any reader of the format knows.

Rows are written as they are read, so memory is bounded by a row group and the intents that wait for their outcome.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import Any, BinaryIO, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import StateDB
from ipfs_kit.ipld import CID, dag_json
from ipfs_kit.ledger._segment_reading import translated
from ipfs_kit.ledger.columns import DICTIONARY_NAMES, from_table, need_pyarrow, unseal_text
from ipfs_kit.ledger.layout import SEGMENTS
from ipfs_kit.ledger.published import tables
from ipfs_kit.ledger.record import (
    INTENT,
    NAMING_FIELDS,
    OUTCOME,
    SEALED_FIELDS,
    Record,
    decode,
    naming_key_id,
    record_cid_bytes,
)
from ipfs_kit.ledger.segments import Segments
from ipfs_kit.ledger.select import Where, select
from ipfs_kit.ledger.sql import OPS_COLUMNS, Keys

ROWS: Final = 16_384
"""Rows of a row group: what is held in memory, about 16 MiB of usual records."""
INTENTS_MAX: Final = 100_000
"""Intents held for their outcome; the oldest are written as open ops beyond it."""
_KEYS_MAX: Final = 10_000
_INT64: Final = range(-(1 << 63), 1 << 63)
_TYPES: Final = {
    "VARCHAR": "string", "BIGINT": "int64", "DOUBLE": "float64",
}  # fmt: skip
Found = tuple[bool, str, int, bytes]
"""Whether the record is this store's own, its log, its index, its bytes."""
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Args:
        rows: Ops.
        open: Of them intents whose outcome is not recorded.
    """

    rows: int
    open: int


def own_records(state: StateDB, segments: Segments, logs: Iterable[str], where: Where) -> Iterator[Found]:
    """This store's records that meet a condition, log by log in order."""
    for log in logs:
        for index, data in select(state, segments, log, where):
            yield True, log, index, data


def imported_records(state: StateDB, store: str, logs: Iterable[str], where: Where) -> Iterator[Found]:
    """Records of imported publications that meet a condition, publication by publication."""
    import pyarrow.parquet as pq

    wanted = set(logs)
    for imported in tables.listed(state):
        for log, names in sorted(tables.files(state, imported.id).items()):
            for name in sorted(names) if log in wanted else ():
                path = os.path.join(store, "imported", imported.id, log, SEGMENTS, name)
                with translated(path), pq.ParquetFile(path, read_dictionary=list(DICTIONARY_NAMES)) as file:
                    for group in range(file.metadata.num_row_groups):
                        table = file.read_row_group(group, use_threads=False)
                        for index, data in zip(table["index"].to_pylist(), from_table(table), strict=True):
                            if _meets(decode(data), where):
                                yield False, log, index, data


def _meets(record: Record, where: Where) -> bool:
    return all(getattr(record, name) in wanted for name, wanted in where.wanted()) and where.within(
        record.time_ns, record.time_ns
    )


def write(
    target: BinaryIO, found: Iterable[Found], keys: Keys, compression: str, tick: Callable[[int], None]
) -> Exported:
    """Write records as one Parquet file.

    Args:
        target: Where.
        found: The records.
        keys: What the caller may open; records of other nodes are never opened.
        compression: ``snappy``, ``zstd``, ``gzip`` or ``none``.
        tick: Told of rows written; raises to cancel.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    pa = need_pyarrow()
    import pyarrow.parquet as pq

    shape = pa.schema([(name, _type(pa, kind)) for name, kind in OPS_COLUMNS.items()])
    done = still_open = 0
    held: list[Row] = []

    def flush() -> None:
        if held:
            writer.write_table(pa.Table.from_pylist(held, schema=shape))
            held.clear()
        tick(done)

    with pq.ParquetWriter(target, shape, compression=compression, version="2.6", write_statistics=True) as writer:
        for row, is_open in _folded(_rows(found, keys)):
            held.append(row)
            done += 1
            still_open += is_open
            if len(held) >= ROWS:
                flush()
        flush()
    return Exported(done, still_open)


def _type(pa: Any, kind: str) -> Any:
    return pa.timestamp("us", tz="UTC") if kind.startswith("TIMESTAMP") else getattr(pa, _TYPES[kind])()


def _rows(found: Iterable[Found], keys: Keys) -> Iterator[tuple[int, Row]]:
    known: dict[str, tuple[bytes | None, str | None]] = {}

    def opened_by(surrogate: str) -> tuple[bytes | None, str | None]:
        if surrogate not in known:
            if len(known) >= _KEYS_MAX:
                known.clear()
            known[surrogate] = keys.subject_key(surrogate), keys.subject_name(surrogate)
        return known[surrogate]

    for own, log, index, data in found:
        record = decode(data)
        name = opened_by(record.actor)[1] if own else None
        row = _row(record, log, index, data, name)
        # Only our own records are opened by our keys, whatever subject another node's record names.
        subject = record.subject if own or record.subject is None else ""
        naming = naming_key_id(subject, record.ext) if own else subject
        for field in SEALED_FIELDS:
            under = naming if field in NAMING_FIELDS else subject
            key = opened_by(under)[0] if own and under is not None else None
            row[field] = unseal_text(under, key, record.op_id, field, getattr(record, field))
        yield record.phase, row


def _row(record: Record, log: str, index: int, data: bytes, name: str | None) -> Row:
    """A record as a row, its sealed fields left out."""
    row: Row = {
        column: value if not isinstance(value, int) or value in _INT64 else None
        for column in OPS_COLUMNS
        if (value := getattr(record, column, None)) is not None
    }
    row |= {
        "log": log,
        "idx": index,
        "time": record.time_ns // 1000 if record.time_ns in _INT64 else None,
        "op_id": record.op_id.hex(),
        "record_cid": str(CID(record_cid_bytes(sha256(data).digest()))),
        "actor_name": name,
        "duration_ms": record.duration_us / 1000.0,
        "before": _cids(record.before),
        "after": _cids(record.after),
        "parent": None if record.parent is None else record.parent.hex(),
        "trace": None if record.trace is None else record.trace.hex(),
        "ext": dag_json.encode(record.ext).decode() if record.ext else None,
    }
    return row


def _cids(value: CID | list[CID] | None) -> str | None:
    if value is None:
        return None
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _folded(rows: Iterable[tuple[int, Row]]) -> Iterator[tuple[Row, bool]]:
    """An intent and its outcome as one row, as in the view ``ops``; an intent without one is open."""
    waiting: dict[tuple[Any, Any], Row] = {}
    for phase, row in rows:
        at = row["node"], row["op_id"]
        if phase == INTENT:
            waiting[at] = row
            if len(waiting) > INTENTS_MAX:
                yield waiting.pop(next(iter(waiting))) | {"status": "open"}, True
        elif phase == OUTCOME and at in waiting:
            intent = waiting.pop(at)
            yield intent | {name: value for name, value in row.items() if value is not None}, False
        else:
            yield row, False
    for row in waiting.values():
        yield row | {"status": "open"}, True
