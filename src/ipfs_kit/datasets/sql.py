"""SQL over any versions of datasets: one SELECT in a process that can read their files and nothing else (decision 28).

The files of a version lie in packs, cut into blocks; the engine of the child wants files. Each part is written once to
``cache/datasets/parts`` under its CID, checked block by block on the way, and the parts used least lately go first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from ipfs_kit.datasets.arrow import need, parsing
from ipfs_kit.datasets.state import DatasetState, Part
from ipfs_kit.durable import files, make_dirs
from ipfs_kit.errors import AlreadyExists, BudgetExceeded, InvalidInput, Stale
from ipfs_kit.ipld.unixfs import open_file
from ipfs_kit.ledger.sandbox import Answer, Limits, Sandbox

TABLES_MAX: Final = 32
FILES_MAX: Final = 10_000
"""Files that one query reads."""
CACHE_BYTES: Final = 16 << 30
"""Parts kept beyond the ones in use (16 GiB)."""
ATTEMPTS: Final = 3
_PIECE: Final = 4 << 20
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class DatasetSql:
    """Runs user queries over datasets.

    Args:
        directory: The store's directory.
        sandbox: Where they run.
    """

    def __init__(self, directory: str | os.PathLike[str], sandbox: Sandbox) -> None:
        self._root = os.path.abspath(directory)
        self._folder = os.path.join(self._root, "cache", "datasets", "parts")
        self._sandbox = sandbox

    def query(
        self,
        sql: str,
        tables: Mapping[str, DatasetState],
        *,
        params: Mapping[str, Any] | None,
        limits: Limits,
        progress: Callable[[int], object],
        check: Callable[[], None],
    ) -> Answer:
        """Run one SELECT.

        Args:
            sql: The user's text.
            tables: What each table name means.
            params: Values of ``$name`` in the text.
            limits: Time, memory, rows and bytes.
            progress: Called with bytes of parts written to the cache; may raise to stop.
            check: Called while the query runs; what it raises ends it.

        Raises:
            InvalidInput: A table has no rows yet, or the text is not one SELECT.
            BudgetExceeded: There are too many tables or files, or the query needs too much memory.
        """
        if len(tables) > TABLES_MAX:
            raise BudgetExceeded(f"one query reads at most {TABLES_MAX} datasets")
        for name in tables:
            if not _NAME.fullmatch(name):
                raise InvalidInput(f"{name[:80]!a} is no table name: use small letters, digits and _")
        make_dirs(self._folder, 0o700)
        self._sandbox.prepare()
        for attempt in range(ATTEMPTS):
            request = self._request(sql, tables, params, progress)
            try:
                return self._sandbox.run(request, None, limits, check=check)
            except Stale:
                # Another query needed the room and removed a part between our look and the child's.
                if attempt == ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _request(
        self,
        sql: str,
        tables: Mapping[str, DatasetState],
        params: Mapping[str, Any] | None,
        progress: Callable[[int], object],
    ) -> dict[str, Any]:
        sources: list[dict[str, Any]] = []
        setup: list[str] = []
        relations: dict[str, list[str]] = {}
        used: set[str] = set()
        done = 0
        for at, (name, state) in enumerate(tables.items()):
            if state.schema is None or not state.manifest.rows:
                raise InvalidInput(f"dataset {state.space.name} has no rows yet, so {name} cannot be queried")
            groups: dict[tuple[str, ...], list[str]] = {}
            for part in state.parts():
                path, columns, size = self._file(state, part)
                groups.setdefault(columns, []).append(os.path.relpath(path, self._root))
                used.add(os.path.basename(path))
                done += size
                progress(done)
            if len(used) > FILES_MAX:
                raise BudgetExceeded(f"one query reads at most {FILES_MAX} files")
            views = []
            for number, found in enumerate(groups.values()):
                views.append(f"SELECT * FROM _kit_{at}_{number}")  # noqa: S608 - our own names
                sources.append({"name": f"_kit_{at}_{number}", "log": "", "files": found})
            # Parts older than a column lack it; joined by name, theirs are null.
            listed = ", ".join('"' + column.replace('"', '""') + '"' for column in state.schema.names)
            union = " UNION ALL BY NAME ".join(views)
            setup.append(f"CREATE VIEW {name} AS SELECT {listed} FROM ({union})")  # noqa: S608 - checked name
            relations[name] = list(state.schema.names)
        self._make_room(used)
        return {
            "sql": sql, "params": dict(params) if params else None, "row_filter": None, "datasets": sources,
            "root": self._root, "directories": [self._folder], "relations": relations, "computed": [], "streams": [],
            "functions": [], "setup": setup, "setup_plain": setup,
        }  # fmt: skip

    def _file(self, state: DatasetState, part: Part) -> tuple[str, tuple[str, ...], int]:
        """A part as a file of its own: where, its columns, and the bytes that had to be written for it."""
        path = os.path.join(self._folder, f"{part.item.cid}.parquet")
        written = 0
        if not os.path.exists(path) or os.path.getsize(path) != part.item.size:
            with open_file(part.item.cid, state.space.get) as reader:
                pieces = list(iter(lambda: reader.read(_PIECE), b""))
            try:
                files.create_exclusive(path, pieces, mode=0o600, sync_name=False)
            except AlreadyExists:
                files.replace(path, pieces, mode=0o600)
            written = part.item.size
        else:
            os.utime(path)
        with parsing(f"part {part.number} of split {part.split}"):
            names = need("pyarrow.parquet").read_schema(path).names
        return path, tuple(names), written

    def _make_room(self, used: set[str]) -> None:
        found: list[tuple[float, int, str]] = []
        for entry in _entries(self._folder):
            status = entry.stat()
            found.append((status.st_mtime, status.st_size, entry.name))
        size = sum(each[1] for each in found)
        for _, length, name in sorted(found):
            if size <= CACHE_BYTES:
                return
            if name not in used:
                files.remove(os.path.join(self._folder, name), sync=False)
                size -= length


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if entry.name.endswith(".parquet"))


def words_of(sql: str) -> Sequence[str]:
    """Words of a query that could be table names, each once."""
    return list(dict.fromkeys(word for word in re.findall(r"[A-Za-z_]\w*", sql.lower()) if _NAME.fullmatch(word)))
