"""The next state of a dataset: rows come in, parts are written and joined, manifest and card follow.

Invariants: a part, once written, never changes; rows stand in the order of their parts' numbers; the manifest counts what
the tree holds. Appended rows make a part of their own; ``JOINED`` parts of one level become one part of the next, so that
n appends leave O(log n) small parts and each row is written again O(log n) times (the merge rule of log-structured
storage; O'Neil et al., "The log-structured merge-tree", 1996).
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import blake2b
from io import BytesIO
from typing import Any, Final

from ipfs_kit.buckets.files import missing_parents
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.paths import Path
from ipfs_kit.buckets.tree import Step, Tree
from ipfs_kit.datasets import layout
from ipfs_kit.datasets.arrow import need
from ipfs_kit.datasets.figures import FIGURES_BYTES_MAX, figures_of
from ipfs_kit.datasets.figures import decode as decode_figures
from ipfs_kit.datasets.figures import encode as encode_figures
from ipfs_kit.datasets.layout import Manifest, Split, Tail
from ipfs_kit.datasets.state import DatasetState, Part, tree_of
from ipfs_kit.errors import FormatError, InvalidInput
from ipfs_kit.ipld.unixfs import build_bytes, build_file

PART_ROWS: Final = 1 << 20
"""Rows of a full part; it is joined no more."""
PART_BYTES: Final = 256 << 20
"""Bytes in memory after which a part is full even with fewer rows (256 MiB)."""
JOINED: Final = 16
JOINED_BYTES: Final = PART_BYTES // JOINED
"""Bytes in memory from which on a part is joined no more, so that joining never needs more than ``PART_BYTES``."""
WINDOW_ROWS: Final = 8_192
"""A full part ends behind that of its last so many rows whose digest is smallest."""
PAGE_BYTES: Final = {"min_chunk_size": 64 << 10, "max_chunk_size": 256 << 10}
"""Content-defined pages of a Parquet column: an edit changes one, an insertion none behind it."""


class Writer:
    """Builds the next state of a dataset; nothing is visible until its root is committed.

    Args:
        state: The state to build on.
        progress: Called with rows written so far; may raise to stop.
    """

    def __init__(self, state: DatasetState, progress: Callable[[int], object] = lambda rows: None) -> None:
        self._state = state
        self._space = state.space
        self._tree: Tree = tree_of(state)
        self._empty = state.space.view.empty(state.space.put)
        self._progress = progress
        self.manifest: Manifest = state.manifest
        self.schema: Any = state.schema
        self.added = 0

    # -- changing -------------------------------------------------------------------------------------------------

    def clear(self, split: str) -> None:
        """Remove all rows of a split."""
        if split in self.manifest.splits:
            for top in (layout.DATA, layout.INDEX):
                self._set((top, split.encode()), None)
            self.manifest = self.manifest.with_split(split, Split())
        if not self.manifest.rows:
            self.schema = None

    def take(self, schema: Any, *, evolve: bool) -> None:
        """Settle the schema that rows come in.

        Args:
            schema: Arrow schema of the rows.
            evolve: Whether columns that the dataset lacks are added to it.

        Raises:
            InvalidInput: The rows do not fit the dataset.
        """
        pa = need()
        names = list(schema.names)
        if len(names) > layout.COLUMNS_MAX or len(set(names)) != len(names) or not names:
            raise InvalidInput(f"a dataset has 1 to {layout.COLUMNS_MAX} columns, each with a name of its own")
        if self.schema is None:
            plain = [f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in schema]
            self.schema = pa.schema([f.with_nullable(True).with_metadata(None) for f in plain])
            return
        new = [f for f in schema if f.name not in self.schema.names]
        if new and not evolve:
            raise InvalidInput(
                f"the dataset has no column {new[0].name[:100]!a}: leave it out, or pass evolve to add the column"
            )
        for found in new:
            kind = pa.string() if pa.types.is_null(found.type) else found.type
            self.schema = self.schema.append(pa.field(found.name, kind))

    def add(self, split: str, tables: Iterable[Any]) -> None:
        """Write rows behind those of a split.

        Args:
            split: Which.
            tables: The rows, as Arrow tables.
        """
        layout.check_split(split)
        held: list[Any] = []
        rows = size = 0
        for given in tables:
            table = self._cast(given)
            while table.num_rows:
                piece = table.slice(0, PART_ROWS - rows)
                table = table.slice(piece.num_rows)
                held.append(piece)
                rows, size = rows + piece.num_rows, size + piece.nbytes
                if rows >= PART_ROWS or size >= PART_BYTES:
                    whole = self._together(held)
                    stop = cut_at(whole)
                    self._part(split, whole.slice(0, stop), full=True)
                    rest = whole.slice(stop)
                    held, rows, size = ([rest], rest.num_rows, rest.nbytes) if rest.num_rows else ([], 0, 0)
        if rows:
            self._part(split, self._together(held), full=False)
        self._join(split)

    def finish(self, card: str | None) -> Item:
        """Write manifest, schema and card; the root of the state.

        Args:
            card: The card's text; None leaves the one there is.
        """
        self._file(layout.MANIFEST, layout.encode(self.manifest))
        if self.schema is not None:
            self._file(layout.SCHEMA, self.schema.serialize().to_pybytes())
        elif self._tree.lookup(layout.SCHEMA) is not None:
            self._set(layout.SCHEMA, None)
        if card is not None:
            self._file(layout.CARD, card.encode("utf-8", "surrogateescape"))
        return self._tree.flush()

    # -- parts ----------------------------------------------------------------------------------------------------

    def _cast(self, table: Any) -> Any:
        pa = need()
        arrays = []
        for found in self.schema:
            if found.name in table.column_names:
                try:
                    arrays.append(table[found.name].cast(found.type))
                except pa.ArrowException as exc:
                    raise InvalidInput(
                        f"column {found.name} is {found.type}, and {str(exc).splitlines()[0][:200]}: nothing was stored"
                    ) from exc
            else:
                arrays.append(pa.nulls(table.num_rows, found.type))
        return pa.table(arrays, schema=self.schema)

    def _together(self, held: list[Any]) -> Any:
        # Columns may have come in between.
        return need().concat_tables([self._cast(table) for table in held])

    def _part(self, split: str, table: Any, *, full: bool) -> None:
        known = self.manifest.splits.get(split, Split())
        data = self._encoded(table)
        self._store(split, known.next, table, data)
        # What stands before a part that is joined no more is joined no more either: rows keep their order.
        joins = not full and table.nbytes < JOINED_BYTES
        tail = (*known.tail, Tail(known.next, 0, table.num_rows)) if joins else ()
        changed = Split(known.rows + table.num_rows, known.size + len(data), known.parts + 1, known.next + 1, tail)
        self.manifest = self.manifest.with_split(split, changed)
        self.added += table.num_rows
        self._progress(self.added)

    def _store(self, split: str, number: int, table: Any, data: bytes) -> None:
        space = self._space
        self._put(layout.part_path(split, number), Item.of(build_file(BytesIO(data), space.profile, space.put)))
        figures = figures_of(table, len(data), self.manifest.settings.bloom)
        self._file(layout.figures_path(split, number), encode_figures(figures))

    def _encoded(self, table: Any) -> bytes:
        parquet, settings = need("pyarrow.parquet"), self.manifest.settings
        out = BytesIO()
        parquet.write_table(
            table.combine_chunks(),
            out,
            compression=settings.compression,
            compression_level=settings.level,
            row_group_size=PART_ROWS,
            use_content_defined_chunking=PAGE_BYTES,
        )
        return out.getvalue()

    def _join(self, split: str) -> None:
        """Join the last parts as long as ``JOINED`` of one level stand at the end."""
        pa = need()
        while True:
            known = self.manifest.splits.get(split, Split())
            last = known.tail[-JOINED:]
            if len(last) < JOINED or len({each.level for each in last}) > 1:
                return
            state = self._reading()
            parts = [self._written(state, split, each.number) for each in last]
            tables = [self._cast(table) for part in parts for table in state.batches(part)]
            table, size = pa.concat_tables(tables), sum(part.figures.size for part in parts)
            for each in last:
                for path in (layout.part_path(split, each.number), layout.figures_path(split, each.number)):
                    self._set(path, None)
            if table.num_rows != sum(each.rows for each in last):
                raise FormatError(f"parts of split {split} hold other rows than dataset.json counts; restore it")
            data = self._encoded(table)
            first = last[0].number
            self._store(split, first, table, data)
            full = table.num_rows >= PART_ROWS or table.nbytes >= JOINED_BYTES
            joined = () if full else (*known.tail[:-JOINED], Tail(first, last[0].level + 1, table.num_rows))
            changed = replace(
                known, size=known.size - size + len(data), parts=known.parts - JOINED + 1, next=first + 1, tail=joined
            )
            self.manifest = self.manifest.with_split(split, changed)

    def _reading(self) -> DatasetState:
        """The state as it stands in the middle of the change, for its parts."""
        state = DatasetState(self._space, self._tree.flush())
        state.schema = self.schema
        return state

    def _written(self, state: DatasetState, split: str, number: int) -> Part:
        item = self._tree.lookup(layout.part_path(split, number))
        data = state.read(layout.figures_path(split, number), FIGURES_BYTES_MAX)
        if item is None or data is None:
            raise FormatError(f"part {number} of split {split} is missing; restore it from an earlier version")
        return Part(split, number, item, decode_figures(data))

    # -- the tree -------------------------------------------------------------------------------------------------

    def _file(self, path: Path, data: bytes) -> None:
        self._put(path, Item.of(build_bytes(data, self._space.profile, self._space.put)))

    def _put(self, path: Path, item: Item) -> None:
        self._tree.apply(missing_parents(self._tree, path, True, self._empty))
        self._set(path, item)

    def _set(self, path: Path, item: Item | None) -> None:
        self._tree.apply((Step(path, None, item),))


def cut_at(table: Any) -> int:
    """Where a full part ends: at a row that its content chooses, so that a row put in before moves no later part.

    Args:
        table: The rows gathered, at least one.

    Returns:
        Rows of the part, 1 to all of them.
    """
    window = table.slice(max(0, table.num_rows - WINDOW_ROWS))
    digests = [
        blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=8).digest() for row in window.to_pylist()
    ]
    return int(table.num_rows - window.num_rows + digests.index(min(digests)) + 1)
