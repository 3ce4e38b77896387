"""The 26 fields of a metadata record: which there are, what they may hold, and how they are stored and shown.

A record is kept as a mapping of the fields that have a value, with integers for times (milliseconds since 1970) and text for
properties, so that equal records have equal bytes (dag-cbor). Lists are sets: sorted, each element once.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput
from ipfs_kit.ipld import CID, codecs, dag_cbor

INDEX_VERSION: Final = "1"
"""Form of the records: value of the field ``index_version``."""
RECORD_BYTES_MAX: Final = 32 * 1024
"""Encoded bytes of one record."""
ITEMS_MAX: Final = 1_000
"""Elements of a list, and properties."""
NUMBER_MAX: Final = (1 << 63) - 1
_MILLISECONDS_FROM: Final = 100_000_000_000
"""Numbers from here on are milliseconds since 1970; as seconds this lies in the year 5138."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_MIN: Final = -62_135_596_800_000
_TIME_MAX: Final = 253_402_300_799_999
"""Years 1 to 9999, in milliseconds."""


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    NUMBER = "number"
    BOOL = "bool"
    TIME = "time"
    LIST = "list"
    MAP = "map"


FIELDS: Final[Mapping[str, Kind]] = {
    "cid": Kind.TEXT,
    "cid_version": Kind.NUMBER,
    "multihash_type": Kind.TEXT,
    "size_bytes": Kind.NUMBER,
    "blocks": Kind.NUMBER,
    "links": Kind.NUMBER,
    "mime_type": Kind.TEXT,
    "local": Kind.BOOL,
    "pinned": Kind.BOOL,
    "pin_types": Kind.LIST,
    "replication": Kind.NUMBER,
    "created_at": Kind.TIME,
    "last_accessed": Kind.TIME,
    "access_count": Kind.NUMBER,
    "path": Kind.TEXT,
    "filename": Kind.TEXT,
    "extension": Kind.TEXT,
    "tags": Kind.LIST,
    "metadata": Kind.MAP,
    "properties": Kind.MAP,
    "embedding_available": Kind.BOOL,
    "embedding_type": Kind.TEXT,
    "embedding_dimensions": Kind.NUMBER,
    "indexed_at": Kind.TIME,
    "index_version": Kind.TEXT,
    "indexer_node_id": Kind.TEXT,
}
METADATA_KEYS: Final = ("title", "description", "creator", "source", "license")
SET_BY_INDEX: Final = frozenset(
    {"cid", "cid_version", "multihash_type", "indexed_at", "index_version", "indexer_node_id"}
)
"""Follow from the CID, or from who stated the record and when; values given for them are not kept."""
GIVEN: Final = tuple(name for name in FIELDS if name not in SET_BY_INDEX)
SEARCHED: Final = (
    "path", "filename", "mime_type", "tags", "properties", *(f"metadata.{key}" for key in METADATA_KEYS),
)  # fmt: skip
"""Fields that text search looks into."""

Kept = dict[str, Any]
"""A record as kept: fields that have a value."""


def check_record(record: Mapping[str, Any]) -> tuple[CID, Kept]:
    """Check a record that a caller gives.

    Args:
        record: Values by field; None stands for no value. ``cid`` is required. ``filename`` and ``extension`` follow
            from ``path`` where they are left out.

    Returns:
        Its CID and the record as kept.

    Raises:
        InvalidInput: A field is unknown or its value is not of its kind; the message names it.
        BudgetExceeded: It is too large.
    """
    if not isinstance(record, Mapping):
        raise InvalidInput("a record is an object: values by field, with 'cid'")
    unknown = sorted(str(name)[:100] for name in record if name not in FIELDS)
    if unknown:
        raise InvalidInput(
            f"there is no field {', '.join(unknown[:5])}: put what has no field of its own into 'properties'; "
            f"fields are {', '.join(FIELDS)}"
        )
    if record.get("cid") is None:
        raise InvalidInput("a record needs the field 'cid'")
    cid = check_cid(record["cid"])
    kept: Kept = {}
    for name in GIVEN:
        value = record.get(name)
        if value is not None and (checked := _check(name, FIELDS[name], value)) not in ([], {}):
            kept[name] = checked
    if "path" in kept:
        filename = posixpath.basename(kept["path"].rstrip("/"))
        if filename:
            kept.setdefault("filename", filename)
    if "filename" in kept and "extension" not in kept:
        extension = posixpath.splitext(kept["filename"])[1].lstrip(".").lower()
        if extension:
            kept["extension"] = extension
    encode_record(kept)
    return cid, kept


def check_cid(value: Any) -> CID:
    """The CID that a caller names.

    Raises:
        InvalidInput: It is none.
    """
    if isinstance(value, CID):
        return value
    if not isinstance(value, str):
        raise InvalidInput("a CID is text")
    return CID.parse(value)


def encode_record(kept: Kept) -> bytes:
    """A record's bytes.

    Raises:
        BudgetExceeded: They are too many.
    """
    data = dag_cbor.encode(kept)
    if len(data) > RECORD_BYTES_MAX:
        raise BudgetExceeded(f"a record has at most {RECORD_BYTES_MAX} bytes: this one has {len(data)}")
    return data


def decode_record(data: bytes) -> Kept:
    """Read a record's bytes that this store wrote."""
    kept: Kept = dag_cbor.decode(data)
    return kept


def decode_foreign(cid: CID, data: bytes) -> Kept:
    """Read a record's bytes that another node gives: exactly those that this build would write.

    Raises:
        FormatError: They are not.
    """
    try:
        found = dag_cbor.decode(data)
        _, kept = check_record({**found, "cid": cid} if isinstance(found, dict) else found)
        same = encode_record(kept) == data
    except (InvalidInput, FormatError, ValueError, TypeError, RecursionError) as exc:
        raise FormatError(f"the record of {cid} does not parse: {exc}") from exc
    if not same:
        raise FormatError(f"the record of {cid} is not in its one form")
    return kept


def shown(cid: CID, kept: Kept, *, indexed_ms: int, node: str) -> dict[str, Any]:
    """A record with all 26 fields, as people and programs see it: times as ISO 8601, absent values None.

    Args:
        cid: The CID.
        kept: The record.
        indexed_ms: When it was last stated, milliseconds since 1970.
        node: By which node.
    """
    derived = {
        "cid": str(cid), "cid_version": cid.version, "multihash_type": hash_name(cid), "indexed_at": indexed_ms,
        "index_version": INDEX_VERSION, "indexer_node_id": node,
    }  # fmt: skip
    return {name: show_value(name, derived[name] if name in derived else kept.get(name)) for name in FIELDS}


def show_value(name: str, value: Any) -> Any:
    """One kept value as people see it."""
    kind = FIELDS[name]
    if kind is Kind.TIME:
        return None if value is None else iso_ms(value)
    if name == "metadata":
        return {key: (value or {}).get(key) for key in METADATA_KEYS}
    if kind is Kind.MAP:
        return dict(value or {})
    return list(value or ()) if kind is Kind.LIST else value


def hash_name(cid: CID) -> str:
    """Name of a CID's hash function."""
    return codecs.hash_name(cid.hash_code)


def iso_ms(value: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC."""
    moment = _EPOCH + timedelta(milliseconds=value)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{value % 1000:03d}Z" if moment.year >= 1000 else moment.isoformat()


def time_ms(name: str, value: Any) -> int:
    """A time that a caller gives, in milliseconds since 1970.

    Args:
        name: The field, for the message.
        value: ISO 8601 text (UTC unless it says otherwise), a ``datetime``, or a number: seconds since 1970, or
            milliseconds from 100,000,000,000 on.

    Raises:
        InvalidInput: It is no time.
    """
    wanted = f"{name} must be a time: ISO 8601 text, or seconds since 1970"
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as exc:
            raise InvalidInput(wanted) from exc
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        found = (moment - _EPOCH) // timedelta(milliseconds=1)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 63:
        found = int(value) if abs(value) >= _MILLISECONDS_FROM else round(value * 1000)
    else:
        raise InvalidInput(wanted)
    if not _TIME_MIN <= found <= _TIME_MAX:
        raise InvalidInput(f"{name} lies outside of the years 1 to 9999")
    return found


def _check(name: str, kind: Kind, value: Any) -> Any:
    if kind is Kind.TEXT:
        return _text(name, value)
    if kind is Kind.TIME:
        return time_ms(name, value)
    if kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise InvalidInput(f"{name} must be true or false")
        return value
    if kind is Kind.NUMBER:
        return _number(name, value)
    if kind is Kind.LIST:
        return _list(name, value)
    return _map(name, value)


def _number(name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= NUMBER_MAX:
        raise InvalidInput(f"{name} must be a whole number from 0 to {NUMBER_MAX}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be text")
    if len(value) > RECORD_BYTES_MAX:
        raise BudgetExceeded(f"{name} is longer than a record of {RECORD_BYTES_MAX} bytes")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise InvalidInput(f"{name} must be text without lone surrogates") from exc
    return value


def _list(name: str, value: Any) -> list[str]:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise InvalidInput(f"{name} must be a list of texts")
    items = list(value)
    if len(items) > ITEMS_MAX:
        raise BudgetExceeded(f"{name} has more than {ITEMS_MAX} elements")
    return sorted({_text(name, item) for item in items})


def _map(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidInput(f"{name} must be an object with text keys")
    if len(value) > ITEMS_MAX:
        raise BudgetExceeded(f"{name} has more than {ITEMS_MAX} entries")
    if name == "metadata":
        other = sorted(key[:100] for key in value if key not in METADATA_KEYS)
        if other:
            raise InvalidInput(
                f"metadata has {', '.join(METADATA_KEYS)}, not {', '.join(other[:5])}: put that into 'properties'"
            )
        return {key: _text(f"{name}.{key}", item) for key, item in value.items() if item is not None}
    found = {}
    for key, item in value.items():
        if item is not None:
            found[_text(f"key of {name}", key)] = property_text(f"{name}.{key}", item)
    return found


def property_text(name: str, value: Any) -> str:
    """A property's value as text: texts stay, everything else is its JSON.

    Raises:
        InvalidInput: It has none.
    """
    if isinstance(value, str):
        return _text(name, value)
    try:
        text = json.dumps(value, ensure_ascii=False, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidInput(
            f"{name} has no JSON form: give text, a number, true, false, or lists and objects of them"
        ) from exc
    return _text(name, text)
