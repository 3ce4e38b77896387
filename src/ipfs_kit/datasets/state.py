"""One state of a dataset, as it is read: manifest, schema, parts, rows."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from io import BufferedReader
from typing import Any, Final, NamedTuple

from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.paths import Path
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.tree import Tree
from ipfs_kit.datasets import layout
from ipfs_kit.datasets.arrow import need, parsing
from ipfs_kit.datasets.figures import FIGURES_BYTES_MAX, Figures
from ipfs_kit.datasets.figures import decode as decode_figures
from ipfs_kit.datasets.layout import Manifest
from ipfs_kit.datasets.where import Condition
from ipfs_kit.errors import FormatError, InvalidInput, NotFound
from ipfs_kit.ipld.unixfs import Kind, open_file

BATCH_ROWS: Final = 65_536
"""Rows of one batch while parts are read."""
GROUP_BYTES_MAX: Final = 2 << 30
"""A part whose row group claims more uncompressed bytes is refused before it is read (2 GiB)."""


class Part(NamedTuple):
    """One part of a split.

    Args:
        split: The split.
        number: Its number.
        item: The file.
        figures: What its rows are like.
    """

    split: str
    number: int
    item: Item
    figures: Figures


class DatasetState:
    """A state of a dataset; it stays what it is whatever is written meanwhile.

    Args:
        space: The bucket.
        root: Root of the state.
    """

    def __init__(self, space: Space, root: Item) -> None:
        self.space = space
        self.root = root

    @cached_property
    def manifest(self) -> Manifest:
        """What it holds; an empty manifest before the first rows.

        Raises:
            FormatError: It does not parse.
        """
        data = self.read(layout.MANIFEST, layout.MANIFEST_BYTES_MAX)
        if data is None:
            told = self.space.row.metadata.get("dataset")
            return Manifest(settings=layout.Settings.of(told if isinstance(told, dict) else {}))
        return layout.decode(data)

    @cached_property
    def schema(self) -> Any:
        """Its Arrow schema; None before the first rows.

        Raises:
            FormatError: It does not parse.
        """
        data = self.read(layout.SCHEMA, layout.MANIFEST_BYTES_MAX)
        if data is None:
            return None
        with parsing("schema.arrow"):
            return need("pyarrow.ipc").read_schema(need().py_buffer(data))

    def read(self, path: Path, limit: int) -> bytes | None:
        """A small file of the state; None when it is absent.

        Raises:
            FormatError: It is larger than such files are, or no file.
        """
        item = self.space.view.lookup(self.root, path)
        if item is None:
            return None
        if item.kind is not Kind.FILE or item.size > limit:
            raise FormatError(f"{path[-1].decode(errors='replace')} is no such file of a dataset; restore it")
        with open_file(item.cid, self.space.get) as reader:
            return bytes(reader.read(item.size))

    def parts(self, split: str | None = None) -> Iterator[Part]:
        """The parts of a split, or of all, in the order of their rows.

        Raises:
            NotFound: There is no such split.
            FormatError: A part has no figures, or the manifest counts others.
        """
        if split is not None and split not in self.manifest.splits:
            known = ", ".join(self.manifest.splits) or "none yet"
            raise NotFound(f"there is no split {split[:80]!a}: there are {known}")
        for name in self.manifest.splits if split is None else (split,):
            folder = self.space.view.lookup(self.root, (layout.DATA, name.encode()))
            count = 0
            for found, item in self.space.view.children(folder) if folder is not None else ():
                if item.kind is not Kind.FILE or not found.endswith(b".parquet") or not found[:-8].isdigit():
                    raise FormatError(f"data/{name} holds something that is no part of the dataset; remove it")
                number = int(found[:-8])
                data = self.read(layout.figures_path(name, number), FIGURES_BYTES_MAX)
                if data is None:
                    raise FormatError(f"part {number} of split {name} has no figures; restore index/{name}")
                yield Part(name, number, item, decode_figures(data))
                count += 1
            if count != self.manifest.splits[name].parts:
                raise FormatError(f"split {name} has {count} parts and dataset.json counts others; restore it")

    def batches(
        self, part: Part, columns: list[str] | None = None, condition: Condition | None = None
    ) -> Iterator[Any]:
        """Rows of a part as Arrow tables in the dataset's schema.

        Args:
            part: One of ``parts``.
            columns: Which columns, in which order; all when None.
            condition: Only rows that meet it.
        """
        pa, parquet = need(), need("pyarrow.parquet")
        wanted = list(self.schema.names) if columns is None else columns
        needed = list(dict.fromkeys((*wanted, *(condition.columns if condition else ()))))
        with parsing(f"part {part.number} of split {part.split}"), open_file(part.item.cid, self.space.get) as reader:
            file = parquet.ParquetFile(pa.PythonFile(BufferedReader(reader, 1 << 20), mode="r"))
            for group in range(file.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > GROUP_BYTES_MAX:
                    raise FormatError(f"part {part.number} claims more than {GROUP_BYTES_MAX} bytes in one row group")
            here = [name for name in needed if name in file.schema_arrow.names]
            for batch in file.iter_batches(BATCH_ROWS, columns=here):
                table = self._conformed(pa.Table.from_batches([batch]), needed)
                if condition:
                    table = condition.filtered(table)
                if table.num_rows:
                    yield table.select(wanted)

    def _conformed(self, table: Any, names: list[str]) -> Any:
        """A table with exactly these columns: those that came to the dataset later are null in older parts."""
        pa = need()
        arrays = []
        for name in names:
            kind = self.schema.field(name).type
            arrays.append(table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind))
        return pa.table(arrays, schema=pa.schema([self.schema.field(name) for name in names]))

    def rows(
        self,
        split: str | None,
        columns: list[str] | None = None,
        condition: Condition | None = None,
        left_out: Callable[[Part, str], object] | None = None,
    ) -> Iterator[Any]:
        """Rows of a split, or of all, as Arrow tables; parts that cannot hold what is sought are not opened.

        Args:
            split: Which; all when None.
            columns: Which columns; all when None.
            condition: Only rows that meet it.
            left_out: Told of each part that was not opened, and why.

        Raises:
            InvalidInput: There is no such column.
        """
        if self.schema is None:
            return
        check_columns(columns, self.schema)
        for part in self.parts(split):
            why = condition.may_hold(part.figures) if condition else None
            if why is None:
                yield from self.batches(part, columns, condition)
            elif left_out is not None:
                left_out(part, why)


def check_columns(columns: list[str] | None, schema: Any) -> None:
    """Refuse columns that a schema does not have."""
    names = schema.names if schema is not None else []
    unknown = [name for name in columns or () if name not in names]
    if unknown:
        raise InvalidInput(f"there is no column {unknown[0][:100]!a}; there are {', '.join(names[:20]) or 'none yet'}")


def tree_of(state: DatasetState) -> Tree:
    """The state as a tree to change."""
    return Tree(state.space.view, state.space.put, state.root)
