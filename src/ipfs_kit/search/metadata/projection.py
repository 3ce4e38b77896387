"""The queryable index: segments of Arrow files that follow the statements in ``state.db``.

It lies in ``cache/metadata`` and may be removed at any time. Rows are written into segments and never changed there; a newer
row of the same CID takes the place of an older one. What changed since the files were written is kept in memory, in segments
of the same kind, and goes to a file when it has grown. Segments are joined so that each is several times as large as those
after it, up to a bound; so a change costs a logarithm of the index, whatever its size, and memory for joining is bounded.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from ipfs_kit.durable import Lease, StateDB, make_dirs, replace, sweep_temporaries
from ipfs_kit.errors import IntegrityError, LockTimeout, NoSpace, ReadOnly
from ipfs_kit.ipld import CID
from ipfs_kit.search.metadata.segment import ROWS_SUFFIX, WORDS_SUFFIX, Segment
from ipfs_kit.search.metadata.statements import (
    Statement,
    are_kept,
    changed_since,
    every,
    far_behind,
    fold,
    last_op,
    statements_of,
)
from ipfs_kit.search.metadata.table import Row, batch_of, joined, need_pyarrow

LAYOUT: Final = 1
"""Changes with the files, and with what a row holds; another layout is built anew."""
MANIFEST: Final = "current.json"
TAIL_ROWS: Final = 4_096
"""Rows in memory that make a file."""
SEGMENT_ROWS: Final = 262_144
"""Rows of the largest segments; joining holds a few times as much in memory."""
SEGMENT_BYTES: Final = 512 << 20
GROWTH: Final = 4
"""A segment is joined with those after it until it is so many times as large."""
CHUNK_ROWS: Final = 16_384
"""Rows made into one batch when everything is read again."""
READ_ONLY_ROWS: Final = 100_000
"""Rows that are brought forward in memory when nothing may be written."""

Progress = Callable[[int], object]
Segments = tuple[Segment, ...]
"""Oldest first."""


class Projection:
    """The index of one store as this process sees it; usable from any thread.

    Args:
        store: The store's directory.
        state: Its state file.
        mark: Names the operation of an index in the main log, so that files of another history are told apart.
        read_only: Whether nothing may be written, also not to the cache.
        lock_timeout_s: Longest wait for another process that writes the files.
    """

    def __init__(
        self,
        store: str | os.PathLike[str],
        state: StateDB,
        mark: Callable[[int], str],
        read_only: bool,
        lock_timeout_s: float,
    ) -> None:
        self.folder = os.path.join(os.fspath(store), "cache", "metadata")
        self._state = state
        self._mark = mark
        self._read_only = read_only
        self._timeout_s = lock_timeout_s
        self._guard = threading.RLock()
        self._segments: Segments | None = None
        self._seen = -1
        self._generation = 0
        self._known = ""
        self._shared: tuple[str, ...] = ()

    def segments(self, progress: Progress | None = None) -> Segments:
        """The index of what is committed now; together its live rows hold each CID once.

        Args:
            progress: Called with rows read when everything is read again; may raise to stop.

        Raises:
            MissingExtra: pyarrow is not installed.
            ReadOnly: The files are far behind, and nothing may be written.
        """
        need_pyarrow()
        if not are_kept(self._state):
            return ()
        with self._guard:
            if self._segments is None:
                self._load(progress)
            if not self._read_only and far_behind(self._state, self._seen, SEGMENT_ROWS):
                # Another process stated so much that reading everything anew takes less memory.
                with self._lease():
                    self._catch_up(progress)
            self._follow()
            if not self._read_only and self._unwritten() >= TAIL_ROWS:
                self._flush()
            return self._segments or ()

    @property
    def seen(self) -> int:
        """Index of the last operation that the index holds; -1 for none."""
        return self._seen

    def rebuild(self, progress: Progress | None = None) -> Segments:
        """Discard the files and read every statement again."""
        need_pyarrow()
        self._refuse_read_only()
        with self._guard, self._lease():
            self._read_manifest()  # another process may have written since
            self._build(progress)
        return self.segments(progress)

    def purge(self, *, keep: bool) -> tuple[Segments, list[int]]:
        """Write what is in memory, and every segment anew that holds rows which no longer count.

        Args:
            keep: Keep the files until the next purge, even when newer ones take their place: others were told their names.

        Returns:
            Segments of files whose every row counts, and the bytes of each file of rows.
        """
        self._refuse_read_only()
        self.segments()
        with self._guard, self._lease():
            self._catch_up()
            segments = self._segments or ()
            if any(each.name is None or not each.pure for each in segments):
                self._write(_tiers(segments), purge=True)
            made = self._segments or ()
            wanted = tuple(str(each.name) for each in made) if keep else ()
            if self._shared != wanted:
                self._shared = wanted
                self._publish(made)
            return made, [os.path.getsize(os.path.join(self.folder, f"{each.name}{ROWS_SUFFIX}")) for each in made]

    # -- following -----------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Take in memory what was committed since."""
        upto = last_op(self._state)
        if upto <= self._seen:
            return
        for cids in changed_since(self._state, self._seen, upto):
            rows = [_row(cid, statements_of(self._state, CID(cid))) for cid in cids]
            self._add(Segment(*batch_of(rows)))
            if self._read_only and self._unwritten() > READ_ONLY_ROWS:
                self._segments, self._seen = None, -1
                raise ReadOnly(
                    "the metadata index is far behind, and the store is open for reading only: ask it once without --read-only"
                )
        self._seen = upto

    def _add(self, newest: Segment) -> None:
        segments = [each.outdated_by(newest) for each in self._segments or ()]
        # What is in memory is joined by itself; files are joined when the next one is written.
        run = [newest]
        while segments and segments[-1].name is None and segments[-1].rows <= GROWTH * sum(each.rows for each in run):
            run.insert(0, segments.pop())
        first = not segments
        self._segments = (*segments, newest if len(run) == 1 else _join(run, drop_deleted=first))

    def _unwritten(self) -> int:
        return sum(each.rows for each in self._segments or () if each.name is None)

    # -- files ---------------------------------------------------------------------------------------------------

    def _load(self, progress: Progress | None) -> None:
        if self._read_manifest():
            return
        if self._read_only:
            self._segments, self._seen = (), -1
            return
        with self._lease():
            if not self._read_manifest():
                self._build(progress)

    def _read_manifest(self) -> bool:
        """Open the files as they are; False when there are none of this store's history."""
        text = self._manifest_text()
        try:
            told: Any = json.loads(text)
            seen, generation = int(told["seen"]), int(told["generation"])
            if told["layout"] != LAYOUT or seen > last_op(self._state):
                return False
            if seen >= 0 and told["mark"] != self._mark(seen):
                return False
            known = {each.name: each for each in self._segments or () if each.name}
            shared = tuple(str(name) for name in told["shared"])
            segments: list[Segment] = []
            for name, digests in told["segments"]:
                opened = known.get(name) or Segment.open(self.folder, name, digests)
                segments = [*(each.outdated_by(opened) for each in segments), opened]
        except (ValueError, TypeError, KeyError, RecursionError, IntegrityError):
            return False
        self._segments, self._seen, self._generation = tuple(segments), seen, generation
        self._known, self._shared = text, shared
        return True

    def _manifest_text(self) -> str:
        """The manifest as it lies there; empty when there is none."""
        try:
            with open(os.path.join(self.folder, MANIFEST), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""

    def _catch_up(self, progress: Progress | None = None) -> None:
        """Under the lease: take over what another process wrote meanwhile."""
        if self._manifest_text() != self._known and not self._read_manifest():
            self._seen = -1
        if self._seen < 0 or far_behind(self._state, self._seen, SEGMENT_ROWS):
            self._build(progress)
        self._follow()

    def _build(self, progress: Progress | None) -> None:
        """Under the lease: read every statement and write new files."""
        upto = last_op(self._state)
        self._shared = ()
        self._sweep(())
        made: list[Segment] = []
        waiting: list[Segment] = []
        done = 0
        for rows in _chunks(every(self._state)):
            chunk = Segment(*batch_of(rows))
            if waiting and not _fits([*waiting, chunk]):
                made.append(self._saved(_join(waiting, drop_deleted=True), len(made)))
                waiting = []
            waiting.append(chunk)
            done += len(rows)
            if progress is not None:
                progress(done)
        if waiting:
            made.append(self._saved(_join(waiting, drop_deleted=True), len(made)))
        self._seen = upto
        self._publish(made)

    def _flush(self) -> None:
        """Write what is in memory; when another process writes just now and little waits, later."""
        try:
            with self._lease(self._timeout_s if self._unwritten() > GROWTH * TAIL_ROWS else 0.0):
                self._catch_up()
                if self._unwritten() >= TAIL_ROWS:
                    self._write(_tiers(self._segments or ()), purge=False)
        except (LockTimeout, NoSpace):
            return  # nothing is lost: it is in memory, and in state.db

    def _write(self, groups: Sequence[Sequence[Segment]], *, purge: bool) -> None:
        """Under the lease: make each group one segment of files, oldest first.

        Args:
            groups: Neighbouring segments each.
            purge: Leave no row that does not count.
        """
        self._sweep({each.name for group in groups for each in group})
        made: list[Segment] = []
        for group in groups:
            only = group[0] if len(group) == 1 and group[0].name is not None else None
            if only is not None and (only.pure if purge else not _wasteful(only)):
                made.append(only)
            else:
                # What says that a record was deleted is needed as long as an older segment may hold the record.
                segment = _join(group, drop_deleted=purge or not made)
                if segment.rows:
                    made.append(self._saved(segment, len(made)))
        self._publish(made)

    def _saved(self, segment: Segment, number: int) -> Segment:
        name = f"{self._generation + 1:08d}-{number:04d}"
        segment.write(self.folder, name)
        return Segment.open(self.folder, name, segment.digests)

    def _publish(self, made: Sequence[Segment]) -> None:
        """Under the lease: let files take the place of those before."""
        told = {
            "layout": LAYOUT,
            "generation": self._generation + 1,
            "seen": self._seen,
            "mark": self._mark(self._seen) if self._seen >= 0 else "",
            "segments": [(each.name, each.digests) for each in made],
            "shared": self._shared,
        }
        text = json.dumps(told)
        replace(os.path.join(self.folder, MANIFEST), text.encode(), mode=0o600)
        self._known = text
        self._generation += 1
        self._segments = tuple(made)
        self._sweep({each.name for each in made})

    def _sweep(self, keep: Collection[str | None]) -> None:
        """Under the lease: remove files that belong to no segment; who has them mapped keeps them."""
        sweep_temporaries(self.folder)
        keep = {*keep, *self._shared}
        names = {
            name.partition(".")[0] for name in os.listdir(self.folder) if name.endswith((ROWS_SUFFIX, WORDS_SUFFIX))
        }
        for name in sorted(names.difference(each for each in keep if each)):
            Segment.discard(self.folder, name)

    @contextmanager
    def _lease(self, timeout_s: float | None = None) -> Iterator[None]:
        make_dirs(self.folder, 0o700)
        lease = Lease(self.folder, "metadata")
        lease.acquire(self._timeout_s if timeout_s is None else timeout_s)
        try:
            yield
        finally:
            lease.release()

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise ReadOnly("the store is open for reading only: the metadata index stays as it is")


def _row(cid: bytes, statements: Sequence[Statement]) -> Row:
    found = fold(statements)
    return Row(cid, None, 0, "") if found is None else Row(cid, *found)


def _chunks(groups: Iterable[list[Statement]]) -> Iterator[list[Row]]:
    """The records of all CIDs, some at a time; deleted ones are passed over."""
    rows: list[Row] = []
    for statements in groups:
        row = _row(statements[0].cid, statements)
        if row.kept is not None:
            rows.append(row)
        if len(rows) == CHUNK_ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


def _join(group: Sequence[Segment], *, drop_deleted: bool) -> Segment:
    import numpy as np

    wanted = [np.flatnonzero(each.live if drop_deleted else each.current) for each in group]
    if len(group) == 1 and len(wanted[0]) == group[0].rows:
        return group[0]
    parts = [(each.batch, each.words, rows) for each, rows in zip(group, wanted, strict=True)]
    return Segment(*joined(parts))


def _tiers(segments: Segments) -> list[list[Segment]]:
    """Which segments are joined when those in memory are written: the newest, as long as the next is not much larger."""
    run: list[Segment] = []
    rest = list(segments)
    while rest:
        rows, each = _size(run), rest[-1]
        if each.name is not None and (each.rows > GROWTH * rows or not _fits([each, *run])):
            break
        run.insert(0, rest.pop())
    return [*([each] for each in rest), run]


def _fits(group: Sequence[Segment]) -> bool:
    return _size(group) <= SEGMENT_ROWS and sum(each.batch.nbytes for each in group) <= SEGMENT_BYTES


def _size(group: Sequence[Segment]) -> int:
    return sum(each.rows for each in group)


def _wasteful(segment: Segment) -> bool:
    """Whether fewer than half of its rows count."""
    return int(segment.current.sum()) * 2 < segment.rows
