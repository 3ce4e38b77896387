"""Which commits of a bucket touched which paths: a file of the cache, brought forward by the commits it does not know.

A commit is filed under a key for each path that differs from its first parent and for each folder above it; a folder
that came or went as a whole is filed once, under a key of its own that stands for all below. So the history of a path
is read from a few sorted runs, whatever else the bucket's commits did. Keys are hashes and candidates are checked
against the trees, so a collision costs a look and no more. What a commit reaches is told by chains: runs of commits,
each the first parent of the next, joined by edges where histories part or meet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from heapq import merge as merge_sorted
from typing import Any, Final, NamedTuple

import apsw

from ipfs_kit.buckets import commits, diff
from ipfs_kit.buckets.commits import Commit, Get
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.paths import Path
from ipfs_kit.buckets.tree import View
from ipfs_kit.durable import rebuildable
from ipfs_kit.errors import IntegrityError
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Kind

FORMAT: Final = 1
"""Changes with the tables and with what a commit is filed under; another format is built anew."""
KEYS_MAX: Final = 20_000
"""Keys of one commit; one that touches more is filed under a key that every path looks at."""
BATCH: Final = 500
"""Commits in one transaction: what a crash makes again."""
_PAGE: Final = 256
_WIDE: Final = 0
_TABLES: Final = """
CREATE TABLE about(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE commits(id INTEGER PRIMARY KEY, cid BLOB NOT NULL UNIQUE, ord INTEGER NOT NULL, chain INTEGER NOT NULL,
    pos INTEGER NOT NULL);
CREATE TABLE chains(id INTEGER PRIMARY KEY, length INTEGER NOT NULL);
CREATE TABLE edges(chain INTEGER NOT NULL, pos INTEGER NOT NULL, to_chain INTEGER NOT NULL, to_pos INTEGER NOT NULL,
    PRIMARY KEY(chain, pos, to_chain, to_pos)) WITHOUT ROWID;
CREATE TABLE touched(key INTEGER NOT NULL, ord INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(key, ord, id))
    WITHOUT ROWID;
"""


class Known(NamedTuple):
    """A commit as filed."""

    order_ns: int
    id: int
    cid: CID
    chain: int
    pos: int


class PathIndex:
    """The file of one bucket; use :meth:`open`. Callers hold the bucket's lease while they write.

    Args:
        path: The file.
        connection: Open, with the tables of this format.
    """

    def __init__(self, path: str, connection: apsw.Connection) -> None:
        self._path = path
        self._db = connection

    @classmethod
    def open_whole(cls, path: str) -> PathIndex | None:
        """Open a file that is there, without the lease; None when it is not, or is just being made."""
        if not os.path.exists(path):
            return None
        with rebuildable.errors_of(path):
            connection = rebuildable.connect(path)
            if connection.pragma("user_version") == FORMAT:
                return cls(path, connection)
            connection.close()
        return None

    @classmethod
    def open(cls, path: str) -> PathIndex:
        """Open a file, making it when absent; one of another format is made anew."""
        with rebuildable.errors_of(path):
            connection = rebuildable.connect(path)
            if connection.pragma("user_version") not in (0, FORMAT):
                connection.close()
                rebuildable.discard(path)
                connection = rebuildable.connect(path)
            if connection.pragma("user_version") == 0:
                with connection:
                    connection.execute(_TABLES)
                    connection.pragma("user_version", FORMAT)
        return cls(path, connection)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # -- bringing forward -----------------------------------------------------------------------------------------

    def known(self, cid: CID) -> Known | None:
        """A commit as filed; None when it is not."""
        rows = self._rows("SELECT ord, id, chain, pos FROM commits WHERE cid=?", (cid.binary,))
        return Known(rows[0][0], rows[0][1], cid, rows[0][2], rows[0][3]) if rows else None

    def bring_to(self, head: CID, get: Get, view: View, empty: Item, progress: Callable[[int], object]) -> None:
        """File every commit that a head reaches and that is not filed yet, parents first.

        Args:
            head: The commit.
            get: Bytes of a block.
            view: Reads the trees.
            empty: Root of an empty bucket.
            progress: Called with commits filed; may raise to stop, and what was filed stays.
        """
        missing = self._missing(head, get)
        done = 0
        for start in range(0, len(missing), BATCH):
            with rebuildable.errors_of(self._path), self._db:
                for _, binary in missing[start : start + BATCH]:
                    self._file(CID(binary), get, view, empty)
                    done += 1
            progress(done)

    def _missing(self, head: CID, get: Get) -> list[tuple[int, bytes]]:
        history = commits.History(get)
        found: dict[bytes, int] = {}
        stack = [head]
        while stack:
            cid = stack.pop()
            if cid.binary in found or self.known(cid) is not None:
                continue
            commit = history.commit(cid)
            found[cid.binary] = commit.order_ns
            stack.extend(commit.parents)
        # ``order`` rises along every edge, so sorted by it every parent comes before its children.
        return sorted((order, binary) for binary, order in found.items())

    def _file(self, cid: CID, get: Get, view: View, empty: Item) -> None:
        commit = commits.load(get, cid)
        parents = [known for parent in commit.parents if (known := self.known(parent)) is not None]
        chain, pos = self._place(parents[0] if parents else None)
        self._db.execute(
            "INSERT INTO commits(cid, ord, chain, pos) VALUES(?,?,?,?)", (cid.binary, commit.order_ns, chain, pos)
        )
        ident = self._db.last_insert_rowid()
        for parent in parents:
            if parent.chain != chain:
                self._db.execute(
                    "INSERT OR IGNORE INTO edges(chain, pos, to_chain, to_pos) VALUES(?,?,?,?)",
                    (chain, pos, parent.chain, parent.pos),
                )
        before = root_of(commits.load(get, commit.parents[0])) if commit.parents else empty
        rows = [(key, commit.order_ns, ident) for key in _keys(diff.diff(view, before, root_of(commit), expand=False))]
        self._db.executemany("INSERT OR IGNORE INTO touched(key, ord, id) VALUES(?,?,?)", rows)

    def _place(self, parent: Known | None) -> tuple[int, int]:
        """Chain and position of a commit after its first parent."""
        if parent is not None:
            length = self._db.execute("SELECT length FROM chains WHERE id=?", (parent.chain,)).get
            if length == parent.pos + 1:
                self._db.execute("UPDATE chains SET length=? WHERE id=?", (length + 1, parent.chain))
                return parent.chain, parent.pos + 1
        self._db.execute("INSERT INTO chains(length) VALUES(1)")
        return self._db.last_insert_rowid(), 0

    # -- reading --------------------------------------------------------------------------------------------------

    def reach(self, head: Known) -> dict[int, int]:
        """What a commit reaches: for each chain the last position; costs the points where histories part or meet."""
        reached: dict[int, int] = {}
        stack = [(head.chain, head.pos)]
        while stack:
            chain, pos = stack.pop()
            before = reached.get(chain, -1)
            if pos <= before:
                continue
            reached[chain] = pos
            stack += self._rows(
                "SELECT to_chain, to_pos FROM edges WHERE chain=? AND pos>? AND pos<=?", (chain, before, pos)
            )
        return reached

    def candidates(self, path: Path, after: Known | None) -> Iterator[Known]:
        """Commits that may have touched a path, newest first, from behind one of them; each once."""
        keys = [_at(path), _WIDE, *(_whole(path[:depth]) for depth in range(1, len(path)))]
        last = -1
        for known in merge_sorted(
            *(self._run(key, after) for key in keys), key=lambda each: (-each.order_ns, -each.id)
        ):
            if known.id != last:
                last = known.id
                yield known

    def _run(self, key: int, after: Known | None) -> Iterator[Known]:
        bound = (after.order_ns, after.id) if after is not None else ((1 << 63) - 1, (1 << 63) - 1)
        while True:
            rows = self._rows(
                "SELECT touched.ord, touched.id, cid, chain, pos FROM touched JOIN commits ON commits.id=touched.id "
                "WHERE key=? AND (touched.ord, touched.id)<(?,?) ORDER BY touched.ord DESC, touched.id DESC LIMIT ?",
                (key, *bound, _PAGE),
            )
            for order, ident, cid, chain, pos in rows:
                yield Known(order, ident, CID(cid), chain, pos)
            if len(rows) < _PAGE:
                return
            bound = (rows[-1][0], rows[-1][1])

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with rebuildable.errors_of(self._path):
            return list(self._db.execute(sql, values))


def is_sound(path: str) -> bool:
    """Whether a file's own structure holds."""
    try:
        with rebuildable.errors_of(path):
            connection = rebuildable.connect(path)
            try:
                return list(connection.execute("PRAGMA quick_check(1)")) == [("ok",)]
            finally:
                connection.close()
    except IntegrityError:
        return False


def root_of(commit: Commit) -> Item:
    """The root a commit names."""
    return Item(commit.root.binary, Kind.DIR, 0, 0, meta=commit.meta)


def _keys(changes: Iterable[diff.Change]) -> set[int]:
    found: set[int] = set()
    for change in changes:
        if not change.parts:
            continue
        # The folders above are nearly always there already: the walk names them again and again.
        for depth in range(len(change.parts), -1, -1):
            key = _at(change.parts[:depth])
            if key in found:
                break
            found.add(key)
        before, after = change.before, change.after
        if (before is not None and before.is_dir) != (after is not None and after.is_dir):
            found.add(_whole(change.parts))
        if len(found) > KEYS_MAX:
            return {_WIDE}
    return found


def _at(path: Path) -> int:
    return _hashed(b"at", path)


def _whole(path: Path) -> int:
    return _hashed(b"whole", path)


def _hashed(what: bytes, path: Path) -> int:
    digest = hashlib.sha256(b"\0".join((what, *path))).digest()
    return int.from_bytes(digest[:8], "big", signed=True) | 1
