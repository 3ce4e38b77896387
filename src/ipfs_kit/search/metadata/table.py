"""Records as Arrow: the columns, rows made into a batch, batches joined, and the words of each row.

In a batch the rows are sorted by ``_key``, a hash of the CID, so that a CID is found by bisection. Texts of few distinct
values, the elements of lists, the keys and values of properties are dictionaries: a question is asked of each distinct value
once. Values of properties stand a second time as numbers, so that they are read as such once and not by every question.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ipfs_kit.errors import MissingExtra
from ipfs_kit.ipld import CID
from ipfs_kit.search.metadata.fields import (
    FIELDS,
    INDEX_VERSION,
    METADATA_KEYS,
    SEARCHED,
    SET_BY_INDEX,
    Kept,
    Kind,
    hash_name,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KEY: Final = "_key"
LIVE: Final = "_live"
NUMBERS: Final = "_property_numbers"
"""The values of properties as numbers; NaN where one is none."""
CODED: Final = frozenset(
    {"multihash_type", "mime_type", "extension", "embedding_type", "index_version", "indexer_node_id"}
)
CODED_METADATA: Final = frozenset({"creator", "source", "license"})
WORD: Final = re.compile(r"\w+")
WORD_CHARS_MAX: Final = 100
"""Longer words are found by their beginning alone."""
_NUMBER: Final = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
_PATHS: Final = tuple(name.partition(".")[::2] for name in SEARCHED)


class Row(NamedTuple):
    """A CID with its record; ``kept`` is None where the record was deleted."""

    cid: bytes
    kept: Kept | None
    version: int
    node: str


class Words(NamedTuple):
    """Which rows of a batch hold which word: rows of ``tokens[i]`` are ``rows[offsets[i]:offsets[i + 1]]``."""

    tokens: pa.StringArray
    offsets: np.ndarray
    rows: np.ndarray


def need_pyarrow() -> ModuleType:
    """Import pyarrow, its compute functions with it.

    Raises:
        MissingExtra: It, or numpy, is not installed.
    """
    try:
        import numpy  # noqa: F401 - Arrow's arrays are read through it
        import pyarrow as pa
        import pyarrow.compute
    except ImportError as exc:
        raise MissingExtra(
            "questions to the metadata index need pyarrow: pip install pyarrow numpy", package=exc.name or "pyarrow"
        ) from exc
    module: ModuleType = pa
    return module


def key_of(cid: bytes) -> int:
    """The number a CID is sorted by."""
    return int.from_bytes(blake2b(cid, digest_size=8).digest())


@lru_cache(maxsize=1)
def plain_schema() -> pa.Schema:
    """Columns as they are before values are coded."""
    pa = need_pyarrow()
    text = pa.string()
    kinds = {
        Kind.TEXT: text,
        Kind.NUMBER: pa.int64(),
        Kind.BOOL: pa.bool_(),
        Kind.TIME: pa.timestamp("ms", tz="UTC"),
        Kind.LIST: pa.list_(text),
    }
    maps = {"metadata": pa.struct([(key, text) for key in METADATA_KEYS]), "properties": pa.map_(text, text)}
    fields = [(name, maps[name] if kind is Kind.MAP else kinds[kind]) for name, kind in FIELDS.items()]
    return pa.schema([*fields, (KEY, pa.uint64()), (LIVE, pa.bool_())])


def batch_of(rows: Sequence[Row]) -> tuple[pa.RecordBatch, Words]:
    """Rows as a batch, sorted, with their words; each CID stands once.

    Args:
        rows: The rows, in any order.
    """
    pa = need_pyarrow()
    ordered = sorted((key_of(row.cid), row) for row in rows)
    pairs: list[tuple[str, int]] = []
    for number, (_, row) in enumerate(ordered):
        if row.kept is not None:
            pairs += [(word, number) for word in words_of(row.kept)]
    columns = _columns([row for _, row in ordered], [key for key, _ in ordered])
    schema = plain_schema()
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    tokens = pa.array([word for word, _ in pairs], pa.string())
    import numpy as np

    places = np.fromiter((number for _, number in pairs), np.int32, len(pairs))
    return coded(pa.RecordBatch.from_arrays(arrays, schema=schema)), gathered(tokens, places)


def _columns(rows: Sequence[Row], keys: Sequence[int]) -> dict[str, list[Any]]:
    """The values of each column; a deleted record has but its CID."""
    kept = [row.kept or {} for row in rows]
    stated = [row.kept is not None for row in rows]
    cids = [CID(row.cid) for row in rows]
    columns = {name: [record.get(name, ()) for record in kept] for name, kind in FIELDS.items() if kind is Kind.LIST}
    columns |= {
        name: [record.get(name) for record in kept]
        for name, kind in FIELDS.items()
        if kind not in (Kind.LIST, Kind.MAP) and name not in SET_BY_INDEX
    }
    return columns | {
        "metadata": [record.get("metadata", {}) for record in kept],
        "properties": [sorted(record["properties"].items()) if "properties" in record else () for record in kept],
        "cid": [str(cid) for cid in cids],
        "cid_version": [cid.version if live else None for cid, live in zip(cids, stated, strict=True)],
        "multihash_type": [hash_name(cid) if live else None for cid, live in zip(cids, stated, strict=True)],
        "indexed_at": [row.version // 1_000_000 if live else None for row, live in zip(rows, stated, strict=True)],
        "index_version": [INDEX_VERSION if live else None for live in stated],
        "indexer_node_id": [row.node if live else None for row, live in zip(rows, stated, strict=True)],
        KEY: list(keys),
        LIVE: stated,
    }


def words_of(kept: Kept) -> set[str]:
    """The words of a record that text search finds it by, without regard to case."""
    texts: list[str] = []
    for field, key in _PATHS:
        value = kept.get(field)
        if value is None:
            continue
        if key:
            value = value.get(key)
        if isinstance(value, str):
            texts.append(value)
        elif value is not None:
            texts += value.values() if isinstance(value, dict) else value
    # No word goes from one text into the next: they are parted by what is in none.
    found = set(WORD.findall("\n".join(texts).casefold()))
    return {word[:WORD_CHARS_MAX] for word in found} if max(map(len, found), default=0) > WORD_CHARS_MAX else found


def gathered(tokens: pa.StringArray, rows: np.ndarray) -> Words:
    """Words with the rows they stand in, the words sorted.

    Args:
        tokens: The word of each pair.
        rows: The row of each pair.
    """
    pa = need_pyarrow()
    import numpy as np
    import pyarrow.compute as pc

    packed = tokens.dictionary_encode()
    order = pc.sort_indices(packed.dictionary).to_numpy()
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    codes = rank[packed.indices.to_numpy()] if len(tokens) else np.empty(0, np.int32)
    places = np.lexsort((rows, codes))
    counts = np.bincount(codes, minlength=len(order)) if len(order) else np.empty(0, np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return Words(packed.dictionary.take(pa.array(order)), offsets, rows[places])


def coded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same batch with dictionaries where they pay, and the numbers among properties beside them."""
    pa = need_pyarrow()
    arrays, names = [], []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        names.append(name)
        if name in CODED:
            arrays.append(column.dictionary_encode())
        elif pa.types.is_list(column.type):
            arrays.append(_list_of(column.offsets, column.values.dictionary_encode()))
        elif name == "properties":
            keys, items = column.keys.dictionary_encode(), column.items.dictionary_encode()
            arrays.append(pa.MapArray.from_arrays(column.offsets, keys, items))
        elif name == "metadata":
            arrays.append(
                _struct(column, lambda key, child: child.dictionary_encode() if key in CODED_METADATA else child)
            )
        else:
            arrays.append(column)
    return pa.RecordBatch.from_arrays([*arrays, _numbers(arrays[names.index("properties")])], names=[*names, NUMBERS])


def _numbers(properties: pa.MapArray) -> pa.ListArray:
    pa = need_pyarrow()
    import numpy as np
    import pyarrow.compute as pc

    distinct, codes = properties.items.dictionary, properties.items.indices.to_numpy()
    digits = pc.match_substring_regex(distinct, _NUMBER)
    values = np.full(len(distinct), np.nan)
    if len(distinct):
        values[digits.to_numpy(zero_copy_only=False)] = pc.utf8_trim_whitespace(distinct.filter(digits)).cast(
            pa.float64()
        )
    return _list_of(properties.offsets, pa.array(values[codes], pa.float64(), from_pandas=False))


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A coded batch without dictionaries; it starts at the beginning of its buffers, as ``take`` leaves it."""
    pa = need_pyarrow()
    schema = plain_schema()
    arrays = []
    for field in schema:
        column = batch.column(field.name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        elif pa.types.is_list(column.type):
            column = _list_of(column.offsets, column.values.dictionary_decode())
        elif field.name == "properties":
            keys, items = column.keys.dictionary_decode(), column.items.dictionary_decode()
            column = pa.MapArray.from_arrays(column.offsets, keys, items)
        elif field.name == "metadata":
            column = _struct(
                column, lambda _, child: child.dictionary_decode() if pa.types.is_dictionary(child.type) else child
            )
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _list_of(offsets: pa.Array, values: pa.Array) -> pa.Array:
    return need_pyarrow().ListArray.from_arrays(offsets, values)


def _struct(column: pa.StructArray, change: Any) -> pa.StructArray:
    children = [change(key, column.field(number)) for number, key in enumerate(METADATA_KEYS)]
    return need_pyarrow().StructArray.from_arrays(children, names=list(METADATA_KEYS))


def joined(parts: Iterable[tuple[pa.RecordBatch, Words, np.ndarray]]) -> tuple[pa.RecordBatch, Words]:
    """Some rows of several batches as one batch; no CID may be chosen twice.

    Args:
        parts: Batch, its words, and numbers of the rows wanted, ascending.
    """
    pa = need_pyarrow()
    import numpy as np
    import pyarrow.compute as pc

    taken, tokens, rows, base = [], [], [], 0
    for batch, words, wanted in parts:
        taken.append(plain(batch.take(pa.array(wanted))))
        place = np.full(batch.num_rows, -1, np.int64)
        place[wanted] = np.arange(base, base + len(wanted))
        moved = place[words.rows]
        here = np.flatnonzero(moved >= 0)
        owners = np.repeat(np.arange(len(words.tokens)), np.diff(words.offsets))
        tokens.append(words.tokens.take(pa.array(owners[here])))
        rows.append(moved[here])
        base += len(wanted)
    table = pa.Table.from_batches(taken, plain_schema()).combine_chunks()
    order = pc.sort_indices(table, [(KEY, "ascending"), ("cid", "ascending")])
    whole = table.take(order).combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], plain_schema())]
    rank = np.empty(base, np.int64)
    rank[order.to_numpy()] = np.arange(base)
    every = pa.concat_arrays(tokens) if tokens else pa.array([], pa.string())
    numbers = rank[np.concatenate(rows)] if base else np.empty(0, np.int64)
    return coded(whole[0]), gathered(every, numbers.astype(np.int32))
