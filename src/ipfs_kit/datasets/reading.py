"""Files that people have, as rows: Parquet, Arrow, CSV, JSON lines, JSON, text, and folders of them."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.datasets.arrow import need, parsing
from ipfs_kit.errors import BudgetExceeded, InvalidInput, NotFound

FORMATS: Final = ("parquet", "arrow", "csv", "tsv", "jsonl", "json", "text")
SUFFIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".csv": "csv", ".tsv": "tsv",
        ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".txt": "text",
    }
)  # fmt: skip
SPLIT_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "train": "train", "training": "train", "test": "test", "testing": "test", "validation": "validation",
        "valid": "validation", "val": "validation", "dev": "validation",
    }
)  # fmt: skip
BLOCK_BYTES: Final = 16 << 20
"""Bytes of CSV or JSON lines from which types are inferred, and that are parsed at once."""
JSON_BYTES_MAX: Final = 256 << 20
"""A JSON array is parsed whole: longer ones belong into JSON lines."""
FILES_MAX: Final = 100_000
TEXT_ROWS: Final = 65_536
LINE_BYTES_MAX: Final = 64 << 20
_TYPES: Final = (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "bool", "string",
    "date32", "timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A file to read, and the split its rows belong to.

    Args:
        path: On this machine.
        split: Where its rows go.
        file_format: One of ``FORMATS``.
    """

    path: str
    split: str
    file_format: str


@dataclass(frozen=True, slots=True)
class Options:
    """How files are read.

    Args:
        types: Arrow type by column, for columns whose type is not what the first rows suggest.
        delimiter: Between the fields of a CSV file.
    """

    types: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None

    def schema(self) -> Any:
        """The types as an Arrow schema.

        Raises:
            InvalidInput: A type is not known.
        """
        pa = need()
        unknown = [kind for kind in self.types.values() if kind not in _TYPES]
        if unknown:
            raise InvalidInput(f"{str(unknown[0])[:60]!a} is no type: choose one of {', '.join(_TYPES)}")
        named = {"bool": "bool_", "float32": "float32", "float64": "float64"}
        fields = []
        for name, kind in self.types.items():
            if kind.startswith("timestamp"):
                fields.append((name, pa.timestamp(kind[10:-1])))
            else:
                fields.append((name, getattr(pa, named.get(kind, kind))()))
        return pa.schema(fields)


def sources(path: str, file_format: str | None, split: str | None) -> list[Source]:
    """What a file or folder holds that can be read, in the order of names.

    Args:
        path: A file, or a folder: its files belong to the split that their folder or the start of their name says.
        file_format: One of ``FORMATS``; told by the end of each name when None.
        split: All rows go there; ``train`` when neither this nor a name says.

    Raises:
        NotFound: There is nothing to read.
        InvalidInput: A format cannot be told.
    """
    if not os.path.isdir(path):
        if not os.path.isfile(path):
            raise NotFound(f"there is no file or folder {path}")
        return [Source(path, split or "train", file_format or _format_of(path, required=True))]
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            form = None if name.startswith(".") else _format_of(name, required=False)
            if form is None or (file_format is not None and form != file_format):
                continue
            here = os.path.join(folder, name)
            if os.path.islink(here):
                continue  # a link could lead anywhere, and its target is imported by naming it
            found.append(Source(here, split or _split_of(os.path.relpath(here, path)), form))
            if len(found) > FILES_MAX:
                raise BudgetExceeded(f"{path} holds more than {FILES_MAX} files: import its folders one by one")
    forms = {each.file_format for each in found}
    if not found:
        raise NotFound(f"{path} holds no file whose name ends in {', '.join(SUFFIXES)}")
    if len(forms) > 1:
        raise InvalidInput(f"{path} holds files of several formats ({', '.join(sorted(forms))}): choose one of them")
    return found


def _format_of(name: str, *, required: bool) -> str:
    found = SUFFIXES.get(os.path.splitext(name)[1].lower())
    if found is None and required:
        raise InvalidInput(f"the name {os.path.basename(name)!a} does not tell the format: {', '.join(FORMATS)}")
    return found  # type: ignore[return-value]  # None only where it may be left out


def _split_of(relative: str) -> str:
    *folders, name = relative.split(os.sep)
    for word in (*reversed(folders), name.split("-")[0].split(".")[0].split("_")[0]):
        if word.lower() in SPLIT_WORDS:
            return SPLIT_WORDS[word.lower()]
    return "train"


def tables(source: Source, options: Options) -> Iterator[Any]:
    """The rows of a file as Arrow tables, a bounded part at a time.

    Raises:
        InvalidInput: It does not parse.
    """
    with parsing(os.path.basename(source.path), given=True):
        yield from _READERS[source.file_format](source, options)


def _parquet(source: Source, _: Options) -> Iterator[Any]:
    pa, parquet = need(), need("pyarrow.parquet")
    with parquet.ParquetFile(source.path) as file:
        empty = True
        for batch in file.iter_batches(TEXT_ROWS):
            empty = False
            yield pa.Table.from_batches([batch])
        if empty:
            yield file.schema_arrow.empty_table()


def _arrow(source: Source, _: Options) -> Iterator[Any]:
    pa, ipc = need(), need("pyarrow.ipc")
    with pa.memory_map(source.path) as mapped:
        magic = mapped.read(6)
        mapped.seek(0)
        if magic == b"ARROW1":
            reader = ipc.open_file(mapped)
            for number in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(number)])
        else:
            for batch in ipc.open_stream(mapped):
                yield pa.Table.from_batches([batch])


def _csv(source: Source, options: Options) -> Iterator[Any]:
    pa, csv = need(), need("pyarrow.csv")
    delimiter = options.delimiter or ("\t" if source.file_format == "tsv" else ",")
    if len(delimiter) != 1:
        raise InvalidInput("a delimiter is one character")
    schema = options.schema()
    reader = csv.open_csv(
        source.path,
        read_options=csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types={f.name: f.type for f in schema}),
    )
    with reader:
        yield from _advised(pa, reader)


def _advised(pa: Any, reader: Any) -> Iterator[Any]:
    """Batches of a reader that settles types by the first block; says what to do when a later one differs."""
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except pa.ArrowInvalid as exc:
            text = str(exc).splitlines()[0][:300]
            raise InvalidInput(f"{text}; name the column's type, for example types price=float64") from exc
        yield pa.Table.from_batches([batch])


def _jsonl(source: Source, options: Options) -> Iterator[Any]:
    pa, reading = need(), need("pyarrow.json")
    schema = options.schema()
    parse = reading.ParseOptions(explicit_schema=schema if len(schema) else None)
    if os.path.getsize(source.path) == 0:
        return
    with reading.open_json(
        source.path, read_options=reading.ReadOptions(block_size=BLOCK_BYTES), parse_options=parse
    ) as reader:
        yield from _advised(pa, reader)


def _json(source: Source, _: Options) -> Iterator[Any]:
    if os.path.getsize(source.path) > JSON_BYTES_MAX:
        raise BudgetExceeded(f"{source.path} is over {JSON_BYTES_MAX >> 20} MiB: write it as JSON lines instead")
    with open(source.path, "rb") as stream:
        try:
            rows = json.load(stream)
        except (ValueError, RecursionError) as exc:
            raise InvalidInput(f"{os.path.basename(source.path)} is no JSON: {exc}") from exc
    if isinstance(rows, list):
        yield table_of(rows)
    else:
        raise InvalidInput(f"{os.path.basename(source.path)} holds no array of objects")


def _text(source: Source, _: Options) -> Iterator[Any]:
    pa = need()
    schema = pa.schema([("text", pa.string())])
    with open(source.path, "rb") as stream:
        lines: Iterator[bytes] = iter(lambda: stream.readline(LINE_BYTES_MAX), b"")
        while part := list(islice(lines, TEXT_ROWS)):
            yield pa.table([[line.decode("utf-8").rstrip("\r\n") for line in part]], schema=schema)


_READERS: Final[Mapping[str, Callable[[Source, Options], Iterator[Any]]]] = MappingProxyType(
    {
        "parquet": _parquet, "arrow": _arrow, "csv": _csv, "tsv": _csv, "jsonl": _jsonl, "json": _json, "text": _text,
    }
)  # fmt: skip


def table_of(rows: list[Any], schema: Any = None) -> Any:
    """Rows given as mappings, as an Arrow table.

    Args:
        rows: The rows; a column that a row lacks is null.
        schema: Types of the columns that it names; others are inferred from all rows.

    Raises:
        InvalidInput: A row is no mapping, or values of a column do not fit together.
    """
    pa = need()
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(name, str) for name in row):
            raise InvalidInput(f"row {number} is no object with named values")
        names.update(dict.fromkeys(row))
    arrays = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        known = schema.field(name).type if schema is not None and name in schema.names else None
        try:
            arrays[name] = _cells(pa, cells, known)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
            told = f", which is {known}" if known is not None else ""
            raise InvalidInput(f"values do not fit column {name[:100]!a}{told}: {str(exc)[:200]}") from exc
    return pa.table(arrays)


def _cells(pa: Any, cells: list[Any], known: Any) -> Any:
    if known is None:
        return pa.array(cells)
    texts = any(isinstance(cell, str) for cell in cells)
    if texts and not (pa.types.is_string(known) or pa.types.is_large_string(known) or pa.types.is_nested(known)):
        return pa.array(cells).cast(known)  # times and numbers come as text from JSON
    return pa.array(cells, type=known)
