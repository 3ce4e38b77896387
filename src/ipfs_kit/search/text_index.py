"""A full-text index of one state of one bucket: SQLite FTS5, a function of the state's root, brought forward by diffs.

Content is parsed once, however many paths hold it and however often they move. Passages are rows of ``words`` with even
row ids, names and labels of files rows with odd ones; BM25 ranks both. An index that was cut short in the middle of a
change is compared with the whole tree the next time, which parses nothing again that it knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

import apsw

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.paths import Path, bytes_of, is_within
from ipfs_kit.durable import rebuildable
from ipfs_kit.errors import BlockNotFound, IntegrityError
from ipfs_kit.ipld.unixfs import Kind
from ipfs_kit.search import passages
from ipfs_kit.search.match import Match

FORMAT: Final = 1
"""Changes with the tables and with anything that parses differently; another format is built anew."""
BATCH: Final = 1_000
"""Changed files in one transaction."""
SCANNED_MAX: Final = 20_000
"""Rows ranked for one question; a question that matches more is answered from the best of these."""
LABEL_CHARS_MAX: Final = 4_000
_TOKENIZER: Final = "porter unicode61 remove_diacritics 2"
_WEIGHTS: Final = "8.0, 4.0, 1.0"
"""Of names, labels and titles, text."""
_TABLES: Final = f"""
CREATE TABLE about(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE contents(id INTEGER PRIMARY KEY, cid BLOB NOT NULL, format TEXT NOT NULL, users INTEGER NOT NULL,
    outcome TEXT NOT NULL, title TEXT NOT NULL, UNIQUE(cid, format));
CREATE TABLE files(id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, cid BLOB NOT NULL, content INTEGER,
    size INTEGER NOT NULL, mtime_ns INTEGER, type TEXT, labels TEXT NOT NULL);
CREATE INDEX contents_unused ON contents(id) WHERE users = 0;
CREATE INDEX files_by_content ON files(content);
CREATE TABLE passages(id INTEGER PRIMARY KEY, content INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
    heading TEXT NOT NULL);
CREATE INDEX passages_by_content ON passages(content);
CREATE VIRTUAL TABLE words USING fts5(name, label, text, tokenize='{_TOKENIZER}');
CREATE VIRTUAL TABLE terms USING fts5vocab(words, row);
INSERT INTO words(words, rank) VALUES('secure-delete', 1);
"""


class Source(Protocol):
    """Where states are read from."""

    def changes(self, old: Item, new: Item) -> Iterator[tuple[Path, Item | None, Item | None]]:
        """Every path that differs: with its entry before and after."""

    def walk(self, root: Item) -> Iterator[tuple[Path, Item]]:
        """Everything below a root, in byte order of paths."""

    def read(self, item: Item, limit: int) -> bytes:
        """The first bytes of a file."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an index holds.

    Args:
        files: Files and links.
        contents: Different contents among them.
        passages: Passages that can be found.
        outcomes: Contents by how reading them ended: ``indexed``, ``cut``, ``binary``, ``empty``, ``damaged``.
        size_bytes: Bytes of the index.
    """

    files: int
    contents: int
    passages: int
    outcomes: Mapping[str, int]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """One row that matches.

    Args:
        path: Path of the file.
        cid: Binary CID of the file.
        size: Its bytes.
        type: Its media type where known.
        start: First byte of the passage; None when the name or a label matched.
        stop: One past its last byte.
        heading: What the passage stands under, or the title.
        snippet: Some words around the match, matches between U+0002 and U+0003.
        score: BM25, larger is better.
    """

    path: Path
    cid: bytes
    size: int
    type: str | None
    start: int | None
    stop: int | None
    heading: str
    snippet: str
    score: float


@dataclass(frozen=True, slots=True)
class Filters:
    """Which files count.

    Args:
        below: Only this path and what is below it; the empty tuple means all.
        suffix: Only names that end so, without regard to case.
        type: Only this media type; ``text/*`` takes every text type.
        labels: Only files that carry all of these tags.
        names: Whether names and labels are found, too.
    """

    below: Path = ()
    suffix: str | None = None
    type: str | None = None
    labels: Mapping[str, str] | None = None
    names: bool = True

    def holds(self, path: Path, type_: str | None, tags: Mapping[str, Any]) -> bool:
        """Whether a file counts."""
        if not is_within(path, self.below):
            return False
        if self.suffix is not None and not path[-1].lower().endswith(bytes_of(self.suffix.lower())):
            return False
        if self.type is not None and not _type_holds(self.type, type_):
            return False
        return all(str(tags.get(key)) == value for key, value in (self.labels or {}).items())


def _type_holds(wanted: str, type_: str | None) -> bool:
    if type_ is None:
        return False
    return type_.startswith(wanted[:-1]) if wanted.endswith("/*") else type_ == wanted


class TextIndex:
    """An index file; open it with ``TextIndex.open`` and close it.

    Args:
        path: The file.
        connection: The connection to it.
    """

    def __init__(self, path: str, connection: apsw.Connection) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def open(cls, path: str) -> TextIndex:
        """Open an index, empty when the file is absent, damaged or of another format."""
        return cls(path, rebuildable.open_tables(path, FORMAT, _TABLES))

    def close(self) -> None:
        """Give the file back; what was deleted leaves the write-ahead log, too."""
        with rebuildable.errors_of(self.path):
            self._db.close()

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        return self._db.execute(sql, values).fetchall()

    # -- what it holds -------------------------------------------------------------------------------------------

    @property
    def root(self) -> str | None:
        """What names the root it is an index of; None when it is none, or in the middle of a change."""
        with rebuildable.errors_of(self.path):
            rows = self._rows("SELECT value FROM about WHERE name = 'root'")
        return None if not rows or rows[0][0] is None else str(rows[0][0])

    def counts(self) -> Counts:
        """How much it holds."""
        with rebuildable.errors_of(self.path):
            (files,) = self._rows("SELECT count(*) FROM files")[0]
            (found,) = self._rows("SELECT count(*) FROM passages")[0]
            outcomes = dict(self._rows("SELECT outcome, count(*) FROM contents GROUP BY outcome ORDER BY outcome"))
            size = sum(os.path.getsize(self.path + end) for end in ("", "-wal") if os.path.exists(self.path + end))
        return Counts(files, sum(outcomes.values()), found, outcomes, size)

    def copy_to(self, other: TextIndex) -> None:
        """Make another index equal to this one."""
        with rebuildable.errors_of(other.path), other._db.backup("main", self._db, "main") as copying:
            while not copying.done:
                copying.step(2_000)

    # -- bringing it forward -------------------------------------------------------------------------------------

    def bring_to(
        self, source: Source, old: Item | None, new: Item, stored: str, progress: Callable[[int], None]
    ) -> int:
        """Make it the index of a state.

        Args:
            source: Reads states.
            old: The root it is an index of; None when it is none.
            new: The root wanted.
            stored: What ``root`` shall give afterwards.
            progress: Called with files looked at; may raise to stop, and the next call goes on from there.

        Returns:
            How many files were looked at.
        """
        fresh = self._is_empty()
        with rebuildable.errors_of(self.path):
            try:
                changes = source.changes(old, new) if old is not None else self._against(source, new)
                done = self._apply(source, changes, stored, progress)
            except BlockNotFound:
                if old is None:
                    raise
                # The old state's blocks were collected: compare with the whole tree instead.
                done = self._apply(source, self._against(source, new), stored, progress)
            if fresh and done:
                self._db.execute("INSERT INTO words(words) VALUES('optimize')")
        return done

    def _is_empty(self) -> bool:
        with rebuildable.errors_of(self.path):
            return not self._rows("SELECT 1 FROM files LIMIT 1")

    def _apply(
        self,
        source: Source,
        changes: Iterable[tuple[Path, Item | None, Item | None]],
        stored: str,
        progress: Callable[[int], None],
    ) -> int:
        done = 0
        batch: list[tuple[Path, Item | None]] = []
        for parts, before, after in changes:
            if any(item is not None and not item.is_dir for item in (before, after)):
                batch.append((parts, None if after is None or after.is_dir else after))
            if len(batch) == BATCH:
                self._write(source, batch, None)
                done += len(batch)
                batch = []
                progress(done)
        self._write(source, batch, stored)
        return done + len(batch)

    def _write(self, source: Source, batch: list[tuple[Path, Item | None]], stored: str | None) -> None:
        """One transaction; between two of them the index is of no state, and says so."""
        with self._db:
            for parts, item in batch:
                if item is None:
                    self._forget(_key(parts))
                else:
                    self._learn(source, parts, item)
            if stored is not None:
                self._drop_unused()
            self._db.execute(
                "INSERT OR REPLACE INTO about(name, value) VALUES('root', ?)",
                (stored,),
            )

    def _against(self, source: Source, root: Item) -> Iterator[tuple[Path, Item | None, Item | None]]:
        """What differs between the index, whatever it holds, and a tree: both come in the same order and are merged."""
        held = self._held()
        row = next(held, None)
        for parts, item in source.walk(root):
            if item.is_dir:
                continue
            key = _key(parts)
            while row is not None and row[0] < key:
                yield tuple(row[0].split(b"\0")), _GONE, None
                row = next(held, None)
            if row is not None and row[0] == key:
                known, row = row[1:], next(held, None)
                if known == _facts(item):
                    continue
            yield parts, None, item
        while row is not None:
            yield tuple(row[0].split(b"\0")), _GONE, None
            row = next(held, None)

    def _held(self) -> Iterator[tuple[Any, ...]]:
        """Every file in the index by path, read in pages, so that rows already passed may change."""
        after = b""
        while True:
            page = self._rows(
                "SELECT path, cid, size, mtime_ns, type, labels FROM files WHERE path > ? ORDER BY path LIMIT ?",
                (after, BATCH),
            )
            if not page:
                return
            yield from page
            after = page[-1][0]

    def _forget(self, path: bytes) -> None:
        for ident, content in self._rows("DELETE FROM files WHERE path = ? RETURNING id, content", (path,)):
            self._db.execute("DELETE FROM words WHERE rowid = ?", (ident * 2 + 1,))
            self._db.execute("UPDATE contents SET users = users - 1 WHERE id = ?", (content,))

    def _drop_unused(self) -> None:
        """Remove contents that no path holds any more: last, since what left one path may have come to another."""
        for (content,) in self._rows("SELECT id FROM contents WHERE users = 0"):
            for (passage,) in self._rows("SELECT id FROM passages WHERE content = ?", (content,)):
                self._db.execute("DELETE FROM words WHERE rowid = ?", (passage * 2,))
            self._db.execute("DELETE FROM passages WHERE content = ?", (content,))
            self._db.execute("DELETE FROM contents WHERE id = ?", (content,))

    def _learn(self, source: Source, parts: Path, item: Item) -> None:
        cid, size, mtime_ns, type_, labels = _facts(item)
        path = _key(parts)
        content, title = None, ""
        if item.kind is Kind.FILE:
            content, title = self._content(source, parts[-1], item, type_)
        self._forget(path)
        rows = self._rows(
            "INSERT INTO files(path, cid, content, size, mtime_ns, type, labels) VALUES(?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (path, cid, content, size, mtime_ns, type_, labels),
        )
        label = "\n".join(part for part in (title, type_ or "", _words(labels)) if part)
        self._db.execute(
            "INSERT INTO words(rowid, name, label, text) VALUES(?, ?, ?, '')",
            (rows[0][0] * 2 + 1, passages.shown(path.replace(b"\0", b"/")), label[:LABEL_CHARS_MAX]),
        )

    def _content(self, source: Source, name: bytes, item: Item, type_: str | None) -> tuple[int, str]:
        form = passages.format_of(name, type_)
        known = self._rows(
            "UPDATE contents SET users = users + 1 WHERE cid = ? AND format = ? RETURNING id, title",
            (item.binary, form),
        )
        if known:
            return known[0][0], known[0][1]
        try:
            parsed = passages.parse(form, source.read(item, passages.READ_BYTES_MAX), item.size)
        except (BlockNotFound, IntegrityError):
            # The file cannot be read now; its name is still found, and verify names what is wrong.
            parsed = passages.Parsed(passages.DAMAGED, "", [])
        rows = self._rows(
            "INSERT INTO contents(cid, format, users, outcome, title) VALUES(?, ?, 1, ?, ?) RETURNING id",
            (item.binary, form, parsed.outcome, parsed.title),
        )
        content = int(rows[0][0])
        for passage in parsed.passages:
            made = self._rows(
                "INSERT INTO passages(content, start, stop, heading) VALUES(?, ?, ?, ?) RETURNING id",
                (content, passage.start, passage.stop, passage.heading),
            )
            self._db.execute(
                "INSERT INTO words(rowid, name, label, text) VALUES(?, '', ?, ?)",
                (made[0][0] * 2, passage.heading, passage.text),
            )
        return content, parsed.title

    # -- finding -------------------------------------------------------------------------------------------------

    def find(self, match: Match, filters: Filters, limit: int) -> tuple[list[Found], bool]:
        """The best rows for a query.

        Args:
            match: The query.
            filters: Which files count.
            limit: Most rows, 1 or more.

        Returns:
            Best first, rows of equal score by path and position, so that equal states answer equally; and whether so
            much matched that better rows may have been passed over.
        """
        with rebuildable.errors_of(self.path):
            self._db.execute("BEGIN")
            try:
                found, more = self._ranked(match, filters, limit)
                return self._shown(match, found[:limit]), more
            finally:
                self._db.execute("COMMIT")

    def _ranked(self, match: Match, filters: Filters, limit: int) -> tuple[list[_Placed], bool]:
        window = max(200, 4 * limit)
        while True:
            ranked = self._rows(
                f"SELECT rowid, -bm25(words, {_WEIGHTS}) AS score FROM words WHERE words MATCH ? "  # noqa: S608
                "ORDER BY score DESC LIMIT ?",
                (match.fts, window),
            )
            found = sorted(self._placed(ranked, filters), key=lambda row: (-round(row[0], 9), row[1], row[2]))
            whole = len(ranked) < window
            # Beyond the last score ranked there may be equal ones that belong before these.
            if whole or sum(row[0] > ranked[-1][1] for row in found) >= limit:
                return found, False
            if window == SCANNED_MAX:
                return found, True
            window = min(SCANNED_MAX, window * 8)

    def _placed(self, ranked: Iterable[tuple[Any, ...]], filters: Filters) -> Iterator[_Placed]:
        """Matching rows with each path that holds them: score, path, position, row id, facts."""
        for rowid, score in ranked:
            if rowid % 2:
                if not filters.names:
                    continue
                rows = self._rows(
                    "SELECT f.path, f.cid, f.size, f.type, f.labels, NULL, NULL, coalesce(c.title, '') FROM files f "
                    "LEFT JOIN contents c ON c.id = f.content WHERE f.id = ?",
                    (rowid // 2,),
                )
            else:
                rows = self._rows(
                    "SELECT f.path, f.cid, f.size, f.type, f.labels, p.start, p.stop, p.heading FROM passages p "
                    "JOIN files f ON f.content = p.content WHERE p.id = ? ORDER BY f.path LIMIT 100",
                    (rowid // 2,),
                )
            for path, cid, size, type_, labels, *where in rows:
                parts = tuple(path.split(b"\0"))
                if filters.holds(parts, type_, json.loads(labels).get("tags", {})):
                    yield score, parts, -1 if where[0] is None else where[0], rowid, (cid, size, type_, *where)

    def _shown(self, match: Match, chosen: list[_Placed]) -> list[Found]:
        made = []
        snippets: dict[int, str] = {}
        for score, path, _, rowid, (cid, size, type_, start, stop, heading) in chosen:
            if rowid not in snippets:
                rows = self._rows(
                    "SELECT snippet(words, -1, char(2), char(3), '…', 28) FROM words WHERE words MATCH ? AND rowid = ?",
                    (match.fts, rowid),
                )
                snippets[rowid] = rows[0][0] if rows else ""
            made.append(Found(path, cid, size, type_, start, stop, heading, snippets[rowid], score))
        return made

    def frequencies(self, match: Match) -> dict[str, int]:
        """In how many rows each word of a query occurs, by its stem."""
        with rebuildable.errors_of(self.path):
            name, *options = _TOKENIZER.split()
            stems = self._db.fts5_tokenizer(name, options)
            why = apsw.FTS5_TOKENIZE_QUERY
            found: dict[str, int] = {}
            for term in match.wanted:
                text = term.encode("utf-8", "replace")
                for word in stems(text, why, None, include_offsets=False, include_colocated=False):
                    rows = self._rows("SELECT doc FROM terms WHERE term = ?", (word,))
                    found[str(word)] = rows[0][0] if rows else 0
            return found


_GONE: Final = Item(b"", Kind.FILE, 0, 0)
"""Stands before a path that is only known to have been a file."""
_Placed = tuple[float, Path, int, int, tuple[Any, ...]]


def _key(parts: Path) -> bytes:
    """A path as it is stored: joined by NUL, which no name holds, so that bytes order as trees are walked."""
    return b"\0".join(parts)


def _facts(item: Item) -> tuple[bytes, int, int | None, str | None, str]:
    attrs = item.attrs or {}
    kept = {key: attrs[key] for key in ("tags", "user") if attrs.get(key)}
    return item.binary, item.size, item.mtime_ns, attrs.get("type"), json.dumps(kept, sort_keys=True, default=str)


def _words(labels: str) -> str:
    """Keys and values of tags and user metadata as words."""

    def flat(value: Any, depth: int) -> Iterator[str]:
        if isinstance(value, dict) and depth:
            for key, inner in value.items():
                yield str(key)
                yield from flat(inner, depth - 1)
        elif isinstance(value, list) and depth:
            for inner in value:
                yield from flat(inner, depth - 1)
        elif value is not None:
            yield str(value)

    found = json.loads(labels)
    return " ".join(word for part in found.values() for word in flat(part, 8))
