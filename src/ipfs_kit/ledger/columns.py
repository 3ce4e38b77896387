"""Op records as columns and back, byte for byte (decision 14; ``docs/format/segments.md``).

One column per record field, in the record's order, after ``index``. Ciphertext stays ciphertext. A record that does not
come back from its columns as the same bytes keeps them in ``raw`` and has null in all other columns but ``index``.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import cbrrr

from ipfs_kit.errors import FormatError, InvalidInput, KitError, MissingExtra
from ipfs_kit.ipld import CID, dag_cbor, dag_json
from ipfs_kit.keys.sealing import unseal
from ipfs_kit.ledger.record import CID_PREFIX, DOMAINS, FIELDS, NAMING_FIELDS, RECORD_BYTES_MAX, naming_key_id

if TYPE_CHECKING:
    import pyarrow as pa

INDEX: Final = "index"
RAW: Final = "raw"
STORED_NAMES: Final = (INDEX, *FIELDS, RAW)
DICTIONARY_NAMES: Final = ("node", "actor", "surface", "operation", "stream", "subject", "status", "error_kind", "ack")
"""Few distinct values: stored and read as dictionaries."""
_TEXT: Final = frozenset(DICTIONARY_NAMES)
_INTEGERS: Final = {
    "schema": "int16",
    "phase": "int8",
    "duration_us": "int64",
    "bytes_in": "int64",
    "bytes_out": "int64",
}
_BEFORE, _AFTER, _EXT, _OP_ID = (FIELDS.index(name) for name in ("before", "after", "ext", "op_id"))
_CHUNK: Final = 2048
_INT64: Final = range(-(1 << 63), 1 << 63)
_RANGES: Final = {"schema": range(1 << 15), "phase": range(1 << 7), "time_ns": _INT64} | dict.fromkeys(
    ("duration_us", "bytes_in", "bytes_out"), _INT64
)


class _Link(bytes):
    """A binary CID on its way through the encoder, without the cost of checking it again."""

    __slots__ = ()


def need_pyarrow() -> ModuleType:
    """Import pyarrow.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as exc:
        raise MissingExtra(
            "sealing and reading segments needs pyarrow: pip install pyarrow", package="pyarrow"
        ) from exc
    module: ModuleType = pa
    return module


def schema() -> pa.Schema:
    """The Arrow schema of a segment."""
    pa = need_pyarrow()
    types: dict[str, Any] = {name: pa.string() for name in DICTIONARY_NAMES}
    types |= {name: getattr(pa, kind)() for name, kind in _INTEGERS.items()}
    types |= {"op_id": pa.binary(16), "time_ns": pa.timestamp("ns", tz="UTC")}
    fields = [pa.field(INDEX, pa.int64(), nullable=False)]
    fields += [pa.field(name, types.get(name, pa.binary())) for name in (*FIELDS, RAW)]
    return pa.schema(fields)


def to_table(records: Sequence[bytes], first_index: int, *, verify: bool = True) -> pa.Table:
    """Put encoded records into columns.

    Args:
        records: Encoded records in log order.
        first_index: Log index of the first.
        verify: Prove for each record that it comes back as the same bytes; False only for a table that is queried and
            thrown away.
    """
    pa = need_pyarrow()
    if len(records) > _CHUNK:
        # In pieces, because many thousand live lists make the collector of cyclic garbage the main cost.
        pieces = range(0, len(records), _CHUNK)
        return pa.concat_tables(
            [to_table(records[at : at + _CHUNK], first_index + at, verify=verify) for at in pieces]
        ).combine_chunks()
    rows = [_row(data) for data in records]
    try:
        table = _table(rows, [None] * len(rows), first_index)
        # The library turns some foreign values into the column's type; comparing the bytes finds each of them.
        if not verify or from_table(table) == list(records):
            return table
    except (pa.ArrowException, FormatError, OverflowError, TypeError, ValueError):
        pass  # some record holds what its column cannot: find out which, one by one
    kept: list[bytes | None] = [None] * len(rows)
    for at, row in enumerate(rows):
        if row[0] is None or not all(map(_fits, FIELDS, row)) or _encode_row(row) != records[at]:
            rows[at], kept[at] = _EMPTY, records[at]
    return _table(rows, kept, first_index)


def _table(rows: Sequence[Sequence[Any]], raw: Sequence[bytes | None], first_index: int) -> pa.Table:
    pa = need_pyarrow()
    shape = schema()
    columns = list(zip(*rows, strict=True)) or [()] * len(FIELDS)
    arrays = [pa.array(range(first_index, first_index + len(rows)), pa.int64())]
    for name, values in zip(FIELDS, columns, strict=True):
        arrays.append(_array(pa, values, shape.field(name).type))
    arrays.append(pa.array(raw, pa.binary()))
    return pa.Table.from_arrays(arrays, schema=shape)


def _array(pa: ModuleType, values: Iterable[Any], kind: Any) -> Any:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


_EMPTY: Final[Sequence[Any]] = (None,) * len(FIELDS)


def _row(data: bytes) -> Sequence[Any]:
    """One record as stored values; the empty row when the columns cannot hold it."""
    if len(data) > RECORD_BYTES_MAX:
        return _EMPTY
    try:
        # ``_Link`` marks links, so that they are never confused with byte strings.
        row: Any = cbrrr.decode_dag_cbor(data, False, _Link)
    except (ValueError, OverflowError, MemoryError):
        return _EMPTY
    if type(row) is not list or len(row) != len(FIELDS) or type(row[_OP_ID]) is not bytes or len(row[_OP_ID]) != 16:
        return _EMPTY
    if type(row[_EXT]) is not dict:
        return _EMPTY
    try:
        if row[_BEFORE] is not None:
            row[_BEFORE] = _pack_links(row[_BEFORE])
        if row[_AFTER] is not None:
            row[_AFTER] = _pack_links(row[_AFTER])
        row[_EXT] = cbrrr.encode_dag_cbor(row[_EXT], False, _Link) if row[_EXT] else None
    except (TypeError, ValueError):
        return _EMPTY
    return row


def _fits(name: str, value: Any) -> bool:
    kind = type(value)
    if name in _RANGES:
        return kind is int and value in _RANGES[name]
    if value is None:
        return True
    return kind is (str if name in _TEXT else bytes)


def _pack_links(value: Any) -> bytes:
    """A CID as its binary, a list of CIDs as dag-cbor; the first byte tells: 0x01 or 0x12, or 0x80 and more."""
    if type(value) is _Link:
        return bytes(value)
    if type(value) is not list or not all(type(item) is _Link for item in value):
        raise TypeError("no CID and no list of CIDs")
    encoded: bytes = cbrrr.encode_dag_cbor(value, False, _Link)
    return encoded


def _unpack_links(value: bytes | None) -> Any:
    if value is None:
        return None
    return _Link(value) if value[:1] < b"\x80" else cbrrr.decode_dag_cbor(value, False, _Link)


def _encode_row(row: Sequence[Any]) -> bytes:
    fields = list(row)
    if fields[_BEFORE] is not None:
        fields[_BEFORE] = _unpack_links(fields[_BEFORE])
    if fields[_AFTER] is not None:
        fields[_AFTER] = _unpack_links(fields[_AFTER])
    fields[_EXT] = {} if fields[_EXT] is None else cbrrr.decode_dag_cbor(fields[_EXT], False, _Link)
    return cbrrr.encode_dag_cbor(fields, False, _Link)


def from_table(table: pa.Table) -> list[bytes]:
    """Rebuild the encoded records of a table with the columns of ``schema``, in row order.

    Raises:
        FormatError: A value that no record has.
    """
    if not table.num_rows:
        return []
    if table.num_rows > _CHUNK:
        records = []
        for at in range(0, table.num_rows, _CHUNK):
            records += from_table(table.slice(at, _CHUNK))
        return records
    try:
        columns = [_values(table.column(name)) for name in FIELDS]
        raw = table.column(RAW)
        links = table.column("before").null_count + table.column("after").null_count < 2 * table.num_rows
        columns[_BEFORE] = list(map(_unpack_links, columns[_BEFORE])) if links else columns[_BEFORE]
        columns[_AFTER] = list(map(_unpack_links, columns[_AFTER])) if links else columns[_AFTER]
        empty: dict[str, Any] = {}
        columns[_EXT] = [empty if e is None else cbrrr.decode_dag_cbor(e, False, _Link) for e in columns[_EXT]]
        encode = cbrrr.encode_dag_cbor
        records = [encode(list(row), False, _Link) for row in zip(*columns, strict=True)]
    except (ValueError, TypeError, OverflowError) as exc:
        raise FormatError(f"a segment holds a row that is no op record: {exc}; run ledger verify") from exc
    if raw.null_count != table.num_rows:
        records = [kept if kept is not None else made for kept, made in zip(raw.to_pylist(), records, strict=True)]
    return records


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python values; whole numbers and missing columns without a step per value."""
    if column.null_count == len(column):
        return [None] * len(column)
    found: list[Any] = []
    for chunk in column.chunks:
        found += _chunk_values(chunk)
    return found


def _chunk_values(chunk: Any) -> list[Any]:
    import pyarrow as pa

    kind = chunk.type
    if pa.types.is_dictionary(kind):
        names = [*chunk.dictionary.to_pylist(), None]
        indices = chunk.indices.fill_null(len(names) - 1) if chunk.indices.null_count else chunk.indices
        return list(map(names.__getitem__, _numbers(indices)))
    if pa.types.is_timestamp(kind):
        chunk = chunk.cast(pa.int64())
        kind = chunk.type
    if pa.types.is_integer(kind) and not chunk.null_count:
        return _numbers(chunk)
    if pa.types.is_binary(kind) or (pa.types.is_fixed_size_binary(kind) and not chunk.null_count):
        return _blobs(chunk)
    if pa.types.is_string(kind):
        return _chunk_values(chunk.dictionary_encode())
    values: list[Any] = chunk.to_pylist()
    return values


_CODES: Final = {"int8": "b", "int16": "h", "int32": "i", "int64": "q"}


def _numbers(array: Any) -> list[int]:
    code = _CODES.get(str(array.type))
    if code is None:
        values: list[int] = array.to_pylist()
        return values
    data: Any = memoryview(array.buffers()[1]).cast("B")
    width = array.type.bit_width // 8
    found: list[int] = data[array.offset * width : (array.offset + len(array)) * width].cast(code).tolist()
    return found


def _blobs(array: Any) -> list[bytes | None]:
    buffers = array.buffers()
    data = buffers[-1].to_pybytes() if buffers[-1] is not None else b""
    if len(buffers) == 2:
        width = array.type.byte_width
        start = array.offset * width
        return [data[at : at + width] for at in range(start, start + len(array) * width, width)]
    offsets = memoryview(buffers[1]).cast("B").cast("i")[array.offset : array.offset + len(array) + 1].tolist()
    if not array.null_count:
        return [data[a:b] for a, b in pairwise(offsets)]
    valid = _numbers(array.is_valid().cast("int8"))
    return [data[a:b] if v else None for a, b, v in zip(offsets, offsets[1:], valid, strict=False)]


def record_cids(table: pa.Table) -> list[bytes]:
    """The 36-byte binary CID of every row's record: what the log holds at its index."""
    return [CID_PREFIX + sha256(data).digest() for data in from_table(table)]


# -- values for people: used where a query asks for them --------------------------------------------------------------


def unseal_text(
    subject: str | None, key: bytes | None, op_id: bytes | None, name: str, data: bytes | None
) -> str | None:
    """A personal field as text; None where it is absent, erased or not this reader's.

    Args:
        subject: Whose key seals it, from ``sealed_under``; None when it is plaintext.
        key: That key, when the reader holds it.
        op_id: The operation.
        name: The field.
        data: The stored bytes.
    """
    if data is None or op_id is None or (subject is not None and key is None):
        return None
    if subject is not None and key is not None:
        try:
            data = unseal(key, op_id, name, data)
        except KitError:
            return None
    return json_text(data) if name in ("args", "effect") else data.decode("utf-8", "backslashreplace")


def sealed_under(name: str, subject: str | None, ext: bytes | None) -> str | None:
    """Whose keys together seal a field, as ``KeyRing.subject_key`` takes it.

    Args:
        name: The field.
        subject: The record's subject; None when it is plaintext.
        ext: The record's ``ext`` as stored.
    """
    if subject is None or name not in NAMING_FIELDS or ext is None or DOMAINS.encode() not in ext:
        return subject
    try:
        return naming_key_id(subject, dag_cbor.decode(ext))
    except (FormatError, InvalidInput, AttributeError):
        return ""  # no record of ours: nothing opens it


def json_text(data: bytes | None) -> str | None:
    """dag-cbor bytes as dag-json text; None where they are absent or no dag-cbor."""
    return None if data is None else _or_none(lambda: dag_json.encode(dag_cbor.decode(data)).decode())


def cid_text(data: bytes | None) -> str | None:
    """What ``before``, ``after`` or a record's CID column holds, as CID texts joined by spaces."""
    if data is None:
        return None
    if data[:1] < b"\x80":
        return _or_none(lambda: str(CID(data)))
    return _or_none(lambda: " ".join(map(str, dag_cbor.decode(data))))


def _or_none(make: Callable[[], str]) -> str | None:
    try:
        return make()
    except (FormatError, InvalidInput):
        return None
