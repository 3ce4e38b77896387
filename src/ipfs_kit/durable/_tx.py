"""What a caller holds inside a transaction or a snapshot of the state file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import apsw

from ipfs_kit.durable import _sqlite

if TYPE_CHECKING:
    from ipfs_kit.durable.state import StateDB

SPARE_PAGES: Final = 2_048
"""Free pages (8 MiB) that stay in the file, so that it does not shrink and grow by turns."""
GIVEN_BACK_MAX: Final = 8_192
"""Pages given back in one transaction (32 MiB), which bounds how long others wait for it."""

Params = Sequence[Any] | Mapping[str, Any]


class Tx:
    """An open write transaction; valid until the ``with`` block that gave it ends."""

    __slots__ = ("_connection", "_db", "_depth", "began_ns", "op_index")

    def __init__(self, db: StateDB, connection: apsw.Connection, began_ns: int) -> None:
        self._db = db
        self._connection = connection
        self._depth = 0
        self.began_ns = began_ns
        """Wall-clock time of BEGIN in nanoseconds, from the clock the store was opened with."""
        self.op_index: int | None = None
        """Index that the operation whose effect is running will have in its log; set by the ledger's committer."""

    def execute(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return all its rows.

        Raises:
            Conflict: A constraint forbids it.
            StorageFailed: An I/O error; the whole store object is now dead.
        """
        if self._db.failed:
            raise self._db.failure()
        try:
            return self._connection.execute(sql, params).fetchall()
        except apsw.Error as exc:
            raise self._db.fail(exc) from exc

    def give_back(self) -> int:
        """Return free pages at the end of the file to the file system, a bounded number, keeping some for what comes next.

        Pages in use at the end are moved forward for it, so it waits until three quarters of the file are free: what is moved
        stays a fraction of what was freed.

        Files made before this was possible stay as large as they were at most.

        Returns:
            Pages given back.
        """
        free = int(self.execute("PRAGMA freelist_count")[0][0])
        used = int(self.execute("PRAGMA page_count")[0][0]) - free
        if free < max(2 * SPARE_PAGES, 3 * used):
            return 0
        self.execute(f"PRAGMA incremental_vacuum({min(free - SPARE_PAGES, GIVEN_BACK_MAX)})")
        return free - int(self.execute("PRAGMA freelist_count")[0][0])

    def executemany(self, sql: str, rows: Iterable[Params]) -> None:
        """Run one statement for each row of parameters.

        Raises:
            Conflict: A constraint forbids it.
            StorageFailed: An I/O error; the whole store object is now dead.
        """
        if self._db.failed:
            raise self._db.failure()
        try:
            self._connection.executemany(sql, rows).fetchall()
        except apsw.Error as exc:
            raise self._db.fail(exc) from exc

    @contextmanager
    def savepoint(self) -> Iterator[Tx]:
        """Group statements so that an exception rolls back these alone, then propagates."""
        name = f"s{self._depth}"
        self.execute(f"SAVEPOINT {name}")
        self._depth += 1
        try:
            yield self
        except BaseException:
            self._depth -= 1
            # After an I/O error SQLite has rolled back everything; the poison already stops the commit.
            if not self._db.failed:
                self.execute(f"ROLLBACK TO {name}")
                self.execute(f"RELEASE {name}")
            raise
        self._depth -= 1
        self.execute(f"RELEASE {name}")


class Snapshot:
    """Several queries over one state; see ``StateDB.snapshot``."""

    __slots__ = ("_connection", "_path")

    def __init__(self, connection: apsw.Connection, path: str) -> None:
        self._connection = connection
        self._path = path

    def query(self, sql: str, params: Params = ()) -> list[tuple[Any, ...]]:
        """Return all rows of one statement."""
        try:
            return self._connection.execute(sql, params).fetchall()
        except apsw.Error as exc:
            raise _sqlite.translate(exc, self._path) from exc

    def iterate(self, sql: str, params: Params = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one statement without holding them all."""
        try:
            yield from self._connection.execute(sql, params)
        except apsw.Error as exc:
            raise _sqlite.translate(exc, self._path) from exc
