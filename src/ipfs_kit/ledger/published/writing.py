"""Making a publication: sealed files, the tiles that vouch for them, a checkpoint of just that tree, and a manifest.

What one holds is a function of the sealed records in its scope. A new one starts from the directory of the one before and
writes only what came since: files sealed later, their tiles, the right edge of the tree.
"""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import StateDB
from ipfs_kit.errors import IntegrityError, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ledger._segment_reading import translated
from ipfs_kit.ledger._segment_rows import Segment, segment_name
from ipfs_kit.ledger.columns import INDEX, RAW, need_pyarrow
from ipfs_kit.ledger.layout import CHECKPOINT, SEGMENTS, TILE_WIDTH, full_tiles, levels, partial_width, tile_path
from ipfs_kit.ledger.published.folder import Folder, Get, Tree
from ipfs_kit.ledger.published.layout import MANIFEST, SEGMENT, Counts, Publication, Scope, signed_line
from ipfs_kit.ledger.record import decode
from ipfs_kit.ledger.segments import to_parquet

if TYPE_CHECKING:
    import pyarrow as pa

    from ipfs_kit.ledger.ledger import Ledger

_FILES_MAX: Final = 1 << 20
"""Files listed of one log of our own publication."""
_BATCH_BYTES: Final = 8 << 20
Progress = Callable[[int], None]
"""Told of bytes written; raises to cancel."""


@dataclass(frozen=True, slots=True)
class Built:
    """A publication that was made, or found unchanged.

    Args:
        root: Its directory.
        publication: Its manifest.
        new_blocks: Blocks that the store did not have.
        new_bytes: Their bytes.
    """

    root: CID
    publication: Publication
    new_blocks: int
    new_bytes: int


class Blocks:
    """Collects blocks and stores them many at a time, counting those that were new.

    Args:
        put_many: Stores blocks and returns how many were new.
        progress: Told of bytes.
    """

    def __init__(self, put_many: Callable[[Iterable[tuple[CID, bytes]]], int], progress: Progress) -> None:
        self._put_many = put_many
        self._progress = progress
        self._held: list[tuple[CID, bytes]] = []
        self._size = 0
        self.new = 0
        self.bytes = 0

    def put(self, cid: CID, data: bytes) -> None:
        """Take a block."""
        self._held.append((cid, data))
        self._size += len(data)
        if self._size >= _BATCH_BYTES:
            self.finish()

    def finish(self) -> None:
        """Store what is held."""
        self.new += self._put_many(self._held)
        self.bytes += self._size
        self._held, self._size = [], 0
        self._progress(self.bytes)


class Writer:
    """Makes publications of one store. The caller keeps others from sealing and expiring meanwhile.

    Args:
        ledger: The ledger.
        state: ``state.db``.
        get: Reads blocks.
    """

    def __init__(self, ledger: Ledger, state: StateDB, get: Get) -> None:
        self._ledger = ledger
        self._state = state
        self._get = get

    def build(self, scope: Scope, before: CID | None, blocks: Blocks) -> Built:
        """Make the publication of what is sealed now.

        Args:
            scope: What to publish.
            before: The publication before; its directory must be complete.
            blocks: Takes the blocks.

        Returns:
            The new one; the one before when nothing in its scope changed.

        Raises:
            NotFound: Nothing in the scope is sealed.
            IntegrityError: Files, tiles or checkpoint contradict each other.
        """
        need_pyarrow()
        past = None if before is None else read_manifest(Tree(self._get, before))
        folder = Folder(self._get, before)
        held: dict[str, Counts] = {}
        changed = False
        for log in scope.logs:
            known = past.logs.get(log, Counts(0, 0, 0)) if past is not None else Counts(0, 0, 0)
            part = _LogPart(self._ledger, self._state, scope, log, folder, known, blocks)
            names = Tree(self._get, before).names(f"{log}/{SEGMENTS}", _FILES_MAX) if before is not None else []
            counts = part.extend(names)
            changed = changed or part.changed
            if counts.size:
                held[log] = counts
        if not held:
            raise NotFound(
                f"nothing of {scope.text} is sealed: nothing was recorded in it yet, or, with --due, nothing is due"
            )
        if before is not None and past is not None and not changed:
            return Built(before, past, 0, 0)
        made = Publication(self._ledger.node, scope, held, before)
        folder.write(MANIFEST, made.encode(), blocks.put)
        root, _ = folder.flush(blocks.put)
        blocks.finish()
        return Built(root, made, blocks.new, blocks.bytes)


def read_manifest(tree: Tree) -> Publication:
    """The manifest of a publication.

    Raises:
        IntegrityError: There is none.
    """
    data = tree.read(MANIFEST, 1 << 16)
    if data is None:
        raise IntegrityError(f"{tree.root} is no publication: it holds no {MANIFEST}")
    return Publication.decode(data)


class _LogPart:
    """One log's part of a publication being made."""

    def __init__(
        self, ledger: Ledger, state: StateDB, scope: Scope, log: str, folder: Folder, past: Counts, blocks: Blocks
    ) -> None:
        self._ledger = ledger
        self._state = state
        self._scope = scope
        self._log = log
        self._folder = folder
        self._past = past
        self._blocks = blocks
        self._tiles: set[int] = set()
        self._added: set[str] = set()
        self.changed = False

    def extend(self, names: list[str]) -> Counts:
        """Bring the part up to what is sealed.

        Args:
            names: Files of this log in the publication before.

        Returns:
            What it holds now.
        """
        registered = self._ledger.segments.registered(self._log)
        expired = self._expired()
        size, records, files = self._past.size, self._past.records, self._past.files
        for name, rows in expired.items():
            if name in names:
                self._folder.remove(f"{self._log}/{SEGMENTS}/{name}")
                records, files, self.changed = records - rows, files - 1, True
        if self._scope.stream is None:
            sealed = self._ledger.state(self._log).sealed_upto
        else:
            sealed = max((stop for _, stop in self._edges(0, 1 << 62, self._scope.stream)), default=0)
        size = max(size, sealed)
        for segment in registered:
            if segment.stop > self._past.size and (added := self._add(segment)):
                size, records, files = max(size, segment.stop), records + added, files + 1
        if size > self._past.size:
            self.changed = True
            self._trees(size)
        held = Counts(size, records, files)
        if self.changed:
            line = signed_line(self._scope, held, (set(names) - set(expired)) | self._added)
            note = self._ledger.sign_at(self._log, size, (line,))
            self._folder.write(f"{self._log}/{CHECKPOINT}", note.encode(), self._blocks.put)
        return held

    # -- files -------------------------------------------------------------------------------------------------------

    def _expired(self) -> dict[str, int]:
        """Files that expired, with their records, of whatever a publication of this scope may hold."""
        where, values = ("", ()) if self._scope.stream is None else (" AND family = ?", (self._scope.stream,))
        rows = self._state.query(
            f"SELECT name, count FROM ledger_expired WHERE log = ?{where}",  # noqa: S608 - our own text
            (self._log, *values),
        )
        return dict(rows)

    def _add(self, segment: Segment) -> int:
        """Put a sealed file into the publication; how many records of it."""
        stream = self._scope.stream
        if stream is not None and segment.family not in ("", stream):
            return 0
        path = os.path.join(self._ledger.segments.directory(self._log), segment.name)
        if stream is None or segment.family == stream:
            with open(path, "rb") as file:
                data = file.read()
            if sha256(data).digest() != segment.sha256:
                raise IntegrityError(f"{path} is not what was sealed: run 'ipfs-kit ledger verify'", path=path)
            name, rows = segment.name, segment.rows
            if stream is not None:
                self._tiles.update(_tiles_of(_indices(path)))
        else:
            table = rows_of_stream(path, stream)
            if not table.num_rows:
                return 0
            data = to_parquet(table)
            name, rows = segment_name(segment.first_index, segment.stop - 1, sha256(data).digest()), table.num_rows
            self._tiles.update(_tiles_of(table[INDEX]))
        self._folder.write(f"{self._log}/{SEGMENTS}/{name}", data, self._blocks.put)
        self._added.add(name)
        self.changed = True
        return rows

    # -- the tree ----------------------------------------------------------------------------------------------------

    def _edges(self, start: int, stop: int, family: str | None) -> Iterator[tuple[int, int]]:
        """First index and end of the spans that end in ``(start, stop]``, of files kept and expired."""
        where = "" if family is None else " AND family = ?"
        values = () if family is None else (family,)
        for table in ("ledger_segments", "ledger_expired"):
            yield from self._state.query(
                f"SELECT DISTINCT first_index, stop FROM {table} WHERE log = ? AND stop > ? AND stop <= ?{where}",  # noqa: S608 - our own text
                (self._log, start, stop, *values),
            )

    def _trees(self, size: int) -> None:
        """Write the tiles that a tree of ``size`` leaves needs and the one before did not have."""
        old = self._past.size
        for name in _partials(old):
            self._folder.remove(f"{self._log}/{name.rpartition('/')[0]}")
        for level in range(1, levels(size)):
            for index in range(full_tiles(level, old), full_tiles(level, size)):
                self._tile(level, index, TILE_WIDTH)
        if self._scope.stream is None:
            self._tiles.update(range(full_tiles(0, old), full_tiles(0, size)))
        else:
            # Every size that was ever published ends a span: with its last tile anyone can see that this tree extends it.
            self._tiles.update(stop // TILE_WIDTH for _, stop in self._edges(old, size, None))
            if old:
                self._tiles.add(old // TILE_WIDTH)
        for index in sorted(self._tiles):
            if index < full_tiles(0, size):
                self._tile(0, index, TILE_WIDTH)
        for level in range(levels(size)):
            if width := partial_width(level, size):
                self._tile(level, full_tiles(level, size), width)

    def _tile(self, level: int, index: int, width: int) -> None:
        files = self._ledger.tile_files(self._log)
        data = b"".join(files.hashes(level, index, width))
        self._folder.write(f"{self._log}/{tile_path(level, index, width)}", data, self._blocks.put)


def _partials(size: int) -> list[str]:
    return [
        tile_path(level, full_tiles(level, size), width)
        for level in range(levels(size))
        if (width := partial_width(level, size))
    ]


def _indices(path: str) -> pa.ChunkedArray:
    import pyarrow.parquet as pq

    with translated(path), pq.ParquetFile(path) as file:
        return file.read(columns=[INDEX], use_threads=False)[INDEX]


def _tiles_of(indices: Any) -> set[int]:
    import pyarrow.compute as pc

    return set(pc.unique(pc.shift_right(indices, 8)).to_pylist())


def rows_of_stream(path: str, stream: str) -> pa.Table:
    """The records of one stream in a sealed file of several, reading only the row groups that may hold one."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: list[Any] = []
    with translated(path), pq.ParquetFile(path) as file:
        column = file.schema_arrow.get_field_index("stream")
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            bounds = file.metadata.row_group(group).column(column).statistics
            raw = file.metadata.row_group(group).column(file.metadata.num_columns - 1).statistics
            kept_raw = raw is None or raw.null_count < rows
            outside = bounds is not None and bounds.has_min_max and not bounds.min <= stream <= bounds.max
            absent = bounds is not None and bounds.null_count == rows
            if (outside or absent) and not kept_raw:
                continue
            table = file.read_row_group(group, use_threads=False)
            mask = pc.fill_null(pc.equal(table["stream"].cast(pa.string()), stream), False)
            if kept_raw:
                of_it = [data is not None and decode(data).stream == stream for data in table[RAW].to_pylist()]
                mask = pc.or_(mask, pa.array(of_it, pa.bool_()))
            found.append(table.filter(mask))
        return pa.concat_tables(found).combine_chunks() if found else file.schema_arrow.empty_table()


def published_names(tree: Tree, log: str, limit: int) -> list[str]:
    """Names of the Parquet files of a log in a publication.

    Args:
        tree: The publication.
        log: ``main`` or ``bulk``.
        limit: Most files.

    Raises:
        IntegrityError: A name is not that of a segment.
    """
    names = tree.names(f"{log}/{SEGMENTS}", limit)
    for name in names:
        match = SEGMENT.match(name)
        if match is None or int(match[1]) > int(match[2]):
            raise IntegrityError(f"{log}/{SEGMENTS}/{name[:120]!a} is no file of a publication")
    return sorted(names)
