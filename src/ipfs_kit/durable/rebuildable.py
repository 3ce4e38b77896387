"""SQLite files that can be made again from the store: safe against a crash of the process, discarded when damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

from ipfs_kit.durable import _sqlite
from ipfs_kit.durable.files import PathLike, remove

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


def discard(path: PathLike) -> None:
    """Remove a file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        remove(f"{path}{suffix}", sync=False)
