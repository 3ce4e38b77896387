"""SQLite files that can be made again from the store: safe against a crash of the process, discarded when damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from ipfs_kit.durable import _sqlite
from ipfs_kit.durable.files import PathLike, remove
from ipfs_kit.errors import IntegrityError

WAIT_S = 30.0
"""Longest wait for another process that writes the file."""


@contextmanager
def errors_of(path: str) -> Iterator[None]:
    """Turn errors of SQLite into ours."""
    try:
        yield
    except apsw.Error as exc:
        raise _sqlite.translate(exc, path) from exc


def connect(path: str) -> apsw.Connection:
    """Open a file, making it when absent: WAL, ``synchronous=NORMAL``, deleted content overwritten.

    Args:
        path: The file; its folder exists.
    """
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(path, flags=flags)
    connection.set_busy_timeout(int(WAIT_S * 1000))
    connection.pragma("journal_mode", "WAL")
    connection.pragma("synchronous", "NORMAL")
    connection.pragma("secure_delete", True)
    connection.pragma("temp_store", "MEMORY")
    return connection


def open_tables(path: str, layout: int, tables: str) -> apsw.Connection:
    """Connect to a file of known tables, made anew when it is absent, damaged or of another layout.

    Args:
        path: The file; its folder exists.
        layout: Number of the layout, greater than 0; another number in the file discards it.
        tables: SQL that makes the tables.

    Raises:
        IntegrityError: It cannot be made anew either.
    """
    for attempt in range(2):
        connection = None
        try:
            connection = connect(path)
            version = connection.pragma("user_version")
            if version == layout:
                return connection
            if version == 0 and not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall():
                with connection:
                    connection.execute(tables)
                    connection.pragma("user_version", layout)
                return connection
            damage: BaseException | None = None
        except (apsw.CorruptError, apsw.NotADBError) as exc:
            damage = exc
        except apsw.Error as exc:
            raise _sqlite.translate(exc, path) from exc
        if connection is not None:
            connection.close()
        discard(path)
        if attempt:
            raise IntegrityError(f"{path} cannot be made anew: check the disk") from damage
    raise AssertionError("both attempts end above")


def discard(path: PathLike) -> None:
    """Remove a file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        remove(f"{path}{suffix}", sync=False)
