"""A received CAR of a bucket, judged block by block before anything of it is stored.

The file itself is the quarantine: a first pass checks every block against its address and notes where it lies; then the
histories and trees its refs name are followed through the file, and only when all of that holds does a second pass
store what was followed. Indexes of folders are made again from their entries and must come out the same, so a forged
one cannot pass. Bounds are those of ``ipld.budgets`` and the ones below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import apsw

from ipfs_kit.buckets import commits
from ipfs_kit.buckets.attrs import check_attrs
from ipfs_kit.buckets.bundle import Manifest, decode_manifest
from ipfs_kit.buckets.index import FORMAT as INDEX_FORMAT
from ipfs_kit.buckets.index import LEVELS_MAX, RUN_MAX, Item, unpack_item
from ipfs_kit.buckets.paths import DEPTH_MAX, check_component
from ipfs_kit.buckets.space import profile_of
from ipfs_kit.buckets.tree import View
from ipfs_kit.durable import rebuildable
from ipfs_kit.errors import BlockNotFound, BudgetExceeded, FormatError, IntegrityError, InvalidInput
from ipfs_kit.ipld import car, dag_cbor
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_PB, RAW
from ipfs_kit.ipld.unixfs import Directory, Kind, entry_of
from ipfs_kit.ipld.walk import walk

BLOCKS_MAX: Final = 50_000_000
"""Blocks of one CAR."""
FILES_MAX: Final = 1 << 40
"""Files a tree may claim: a few folders that link each other can claim 2^60."""
FOLDER_ENTRIES_MAX: Final = 4_000_000
"""Entries of one folder: its entries are held at once, about 500 bytes each."""
NODES_BASE: Final = 64
NODES_PER_ENTRY: Final = 16
"""Nodes read of one UnixFS folder for each entry: shards that link each other could be walked for ever."""
_BATCH: Final = 1_000
Get = Callable[[CID], bytes]
Progress = Callable[[int, str], object]


class Shelf:
    """Where each block of a CAR lies, and which were followed; a file of the cache, removed when it is closed.

    Args:
        path: The file; its folder exists.
        source: The CAR, open for reading at any offset.
    """

    def __init__(self, path: str, source: BinaryIO) -> None:
        rebuildable.discard(path)
        self._path = path
        self._source = source
        self._db: apsw.Connection = rebuildable.connect(path)
        self._db.pragma("synchronous", "OFF")
        self._db.execute(
            "CREATE TABLE blocks(cid BLOB PRIMARY KEY, start INTEGER NOT NULL, size INTEGER NOT NULL, followed INTEGER "
            "NOT NULL DEFAULT 0) WITHOUT ROWID"
        )
        self._db.execute("CREATE TABLE marks(key BLOB PRIMARY KEY) WITHOUT ROWID")
        self.blocks = 0
        self.size = 0

    def fill(self, progress: Progress) -> list[CID]:
        """Check every block against its address; returns the CAR's roots.

        Raises:
            IntegrityError: A block is not what its address says.
            BudgetExceeded: A size or count is beyond its bound.
        """
        self._source.seek(0)
        reader = car.read_car(self._source)
        rows: list[tuple[bytes, int, int]] = []
        for cid, data in reader:
            self.blocks += 1
            self.size += len(data)
            if self.blocks > BLOCKS_MAX:
                raise BudgetExceeded(f"the CAR holds more than {BLOCKS_MAX} blocks")
            rows.append((cid.binary, reader.offset - len(data), len(data)))
            if len(rows) == _BATCH:
                self._add(rows)
                progress(self.size, "checking blocks")
        self._add(rows)
        return reader.roots

    def _add(self, rows: list[tuple[bytes, int, int]]) -> None:
        with rebuildable.errors_of(self._path), self._db:
            self._db.executemany("INSERT OR IGNORE INTO blocks(cid, start, size) VALUES(?,?,?)", rows)
        rows.clear()

    def get(self, cid: CID) -> bytes | None:
        """A block, checked again; None when the CAR does not hold it."""
        with rebuildable.errors_of(self._path):
            row = self._db.execute("SELECT start, size, followed FROM blocks WHERE cid=?", (cid.binary,)).fetchone()
        if row is None:
            return None
        self._source.seek(row[0])
        data = self._source.read(row[1])
        cid.check(data)
        if not row[2]:
            self._db.execute("UPDATE blocks SET followed=1 WHERE cid=?", (cid.binary,))
        return data

    def mark(self, key: bytes) -> bool:
        """Note that something was checked; whether it had not been before."""
        with rebuildable.errors_of(self._path):
            self._db.execute("INSERT OR IGNORE INTO marks(key) VALUES(?)", (key,))
        return bool(self._db.changes())

    def marked(self, key: bytes) -> bool:
        """Whether something was checked before."""
        with rebuildable.errors_of(self._path):
            return self._db.execute("SELECT 1 FROM marks WHERE key=?", (key,)).fetchone() is not None

    def followed(self) -> Iterator[tuple[CID, bytes]]:
        """Every block that was followed, in the order of the file, each checked once more."""
        after = -1
        while True:
            with rebuildable.errors_of(self._path):
                rows = list(
                    self._db.execute(
                        "SELECT start, size, cid FROM blocks WHERE followed=1 AND start>? ORDER BY start LIMIT ?",
                        (after, _BATCH),
                    )
                )
            for start, size, binary in rows:
                self._source.seek(start)
                data = self._source.read(size)
                cid = CID(binary)
                cid.check(data)
                yield cid, data
            if len(rows) < _BATCH:
                return
            after = rows[-1][0]

    def index(self) -> None:
        """Make the second pass cheap."""
        with rebuildable.errors_of(self._path), self._db:
            self._db.execute("CREATE INDEX IF NOT EXISTS blocks_by_start ON blocks(followed, start)")

    def close(self) -> None:
        """Remove the file."""
        self._db.close()
        rebuildable.discard(self._path)


class Checker:
    """Follows what a manifest names through a CAR.

    Args:
        shelf: The CAR's blocks.
        manifest: What it says it holds.
        stored: Reads blocks of the store, for a CAR that holds only what came since; None when it must be whole.
        progress: Told of commits followed.
    """

    def __init__(self, shelf: Shelf, manifest: Manifest, stored: Get | None, progress: Progress) -> None:
        self._shelf = shelf
        self._manifest = manifest
        self._stored = stored
        self._progress = progress
        self._view = View(profile_of(manifest.profile), self.get, lambda cid, data: None)
        self.commits = 0

    def get(self, cid: CID) -> bytes:
        """A block of the CAR, or of the store where that is allowed.

        Raises:
            BlockNotFound: It is in neither.
        """
        data = self._shelf.get(cid)
        if data is not None:
            return data
        if self._stored is None:
            raise BlockNotFound(f"the CAR lacks block {cid}: it is cut off, or holds only what came since some commit")
        return self._stored(cid)

    def run(self) -> None:
        """Check every commit and tree the refs name; nothing is stored.

        Raises:
            BlockNotFound: Something is missing.
            FormatError: Something does not have the form it must have.
            IntegrityError: Something is not what its address says.
            BudgetExceeded: Something is larger or deeper than allowed.
        """
        since = frozenset(self._manifest.since)
        known: set[bytes] = set()
        for cid, _ in commits.walk(self._stored, since) if self._stored is not None else ():
            known.add(cid.binary)
        heads = [head for _, head in self._manifest.refs]
        frontier = commits.History(self.get)
        stack = list(dict.fromkeys(heads))
        while stack:
            cid = stack.pop()
            if cid.binary in known or not self._shelf.mark(cid.binary):
                continue
            commit = frontier.commit(cid)
            if commit.bucket != self._manifest.uid or commit.profile != self._manifest.profile:
                raise FormatError(f"commit {cid} is of another bucket than the manifest says")
            for parent in commit.parents:
                frontier.parent(parent, commit)
            stack.extend(commit.parents)
            self._tree(commit)
            self.commits += 1
            self._progress(self.commits, "following commits")

    # -- trees ----------------------------------------------------------------------------------------------------

    def _tree(self, commit: commits.Commit) -> None:
        root = Item(commit.root.binary, Kind.DIR, 0, 0, meta=commit.meta)
        found = entry_of(commit.root, self.get)
        if found.kind is not Kind.DIR:
            raise FormatError("a commit's root is no folder")
        if commit.ext.keys() - {"tsize"} or commit.ext.get("tsize", found.tsize) != found.tsize:
            raise FormatError("a commit tells another size of its root than it has")
        self._folder(root, 0)
        totals = self._view.index.totals(commit.meta) if commit.meta is not None else None
        if totals is not None and (totals.files > FILES_MAX or totals.size_bytes > DEFAULT.logical_bytes):
            raise BudgetExceeded("a tree claims more files or bytes than any bucket may hold")

    def _folder(self, item: Item, depth: int) -> None:
        """Check a folder after all below it; recursion is bounded by the depth of paths."""
        if depth > DEPTH_MAX:
            raise BudgetExceeded(f"the tree is more than {DEPTH_MAX} folders deep")
        if item.meta is None:
            raise FormatError("a folder in the CAR has no index")
        key = item.binary + item.meta.binary
        if self._shelf.marked(key):
            return
        entries = dict(self._rows(item.meta))
        linked = 0
        nodes = _Bounded(self.get, NODES_BASE + NODES_PER_ENTRY * len(entries))
        for _, link in Directory(self._view.profile, nodes, item.cid).iterate(None):
            child = entries.get(link.name)
            if child is None or child.binary != link.cid.binary or child.tsize != link.tsize:
                raise IntegrityError(f"the index of a folder does not agree with its UnixFS node at {link.name[:80]!a}")
            linked += 1
        if linked != len(entries):
            raise IntegrityError("the index of a folder names what its UnixFS node does not")
        for child in entries.values():
            if child.is_dir:
                self._folder(child, depth + 1)
                if entry_of(child.cid, self.get).kind is not Kind.DIR:
                    raise IntegrityError("an index calls something a folder that is none")
            else:
                self._file(child)
        # The same entries make the same index: a forged count, order or shape comes out as another address.
        if self._view.index.update(None, entries.items(), lambda cid, data: None) != item.meta:
            raise IntegrityError("the index of a folder is not the one that its entries make")
        self._shelf.mark(key)

    def _file(self, item: Item) -> None:
        found = entry_of(item.cid, self.get)
        if (found.kind, found.size) != (item.kind, item.size):
            raise IntegrityError("an index tells another kind or size than the file it names has")
        if item.cid.codec != RAW and self._shelf.mark(item.binary):
            for visit in walk([item.cid], self.get):
                if visit.cid.codec not in (RAW, DAG_PB):
                    raise FormatError("a file in the CAR links what no file links")

    def _rows(self, root: CID) -> Iterator[tuple[bytes, Item]]:
        """Names and entries of an index, each node parsed as what a stranger wrote."""
        stack: list[tuple[CID, int | None]] = [(root, None)]
        last = b""
        count = 0
        while stack:
            cid, level = stack.pop()
            node = _node(self.get(cid), level)
            rows = node[1]
            if not rows and level is not None:
                # Without this a few nodes that link each other could be walked for ever.
                raise FormatError("a node of an index holds nothing")
            if node[0] > 0:
                stack.extend((row[1], node[0] - 1) for row in reversed(rows))
                continue
            for row in rows:
                name = check_component(row[0])
                if name <= last:
                    raise FormatError("names of a folder are out of order")
                last = name
                count += 1
                if count > FOLDER_ENTRIES_MAX:
                    raise BudgetExceeded(f"a folder holds more than {FOLDER_ENTRIES_MAX} entries")
                yield name, _item(row[1:])


class _Bounded:
    """A block source that gives so many blocks and no more."""

    def __init__(self, get: Get, most: int) -> None:
        self._get = get
        self._left = most

    def __call__(self, cid: CID) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise BudgetExceeded("a UnixFS folder takes more nodes than its entries can need")
        return self._get(cid)


def _node(data: bytes, level: int | None) -> tuple[int, list[Any]]:
    try:
        value: Any = dag_cbor.decode(data)
    except InvalidInput as exc:
        raise FormatError("a node of an index is not dag-cbor") from exc
    if not isinstance(value, list) or len(value) != 3 or value[0] != INDEX_FORMAT:
        raise FormatError("a block is no node of an index")
    found, rows = value[1], value[2]
    if type(found) is not int or not 0 <= found < LEVELS_MAX or (level is not None and found != level):
        raise FormatError("a node of an index has a level that does not fit")
    if not isinstance(rows, list) or len(rows) > RUN_MAX:
        raise FormatError("a node of an index has too many rows")
    width = 8 if found == 0 else 5
    for row in rows:
        if not isinstance(row, list) or len(row) != width or type(row[0]) is not bytes:
            raise FormatError("a row of an index has the wrong form")
        if found > 0 and not isinstance(row[1], CID):
            raise FormatError("a node of an index links no node")
    return found, rows


def _item(row: list[Any]) -> Item:
    kind, binary, size, tsize, mtime_ns, attrs, meta = row
    numbers = (kind, size, tsize)
    if any(type(each) is not int or each < 0 for each in numbers) or type(binary) is not bytes:
        raise FormatError("a row of an index has a field of the wrong form")
    if mtime_ns is not None and type(mtime_ns) is not int:
        raise FormatError("a time in an index is no number")
    if attrs is not None and (not isinstance(attrs, dict) or check_attrs(attrs) != attrs):
        raise FormatError("attributes in an index have the wrong form")
    below = meta is None or (
        isinstance(meta, list)
        and len(meta) == 3
        and isinstance(meta[0], CID)
        and all(type(each) is int and each >= 0 for each in meta[1:])
    )
    if not below:
        raise FormatError("a folder in an index names no index of its own")
    CID(binary)
    return unpack_item(row)


def read_manifest(shelf: Shelf, roots: list[CID], expected: CID | None) -> tuple[CID, Manifest]:
    """The manifest of a CAR.

    Raises:
        FormatError: It holds no bucket.
        IntegrityError: It is another one than expected.
    """
    if len(roots) != 1:
        raise FormatError("a CAR of a bucket has one root; use car.import for other CARs")
    if expected is not None and roots[0] != expected:
        raise IntegrityError(f"the CAR's root is {roots[0]}, not {expected}: it is another export, or was changed")
    data = shelf.get(roots[0])
    if data is None:
        raise FormatError("the CAR lacks its own manifest: it is cut off")
    return roots[0], decode_manifest(data)
