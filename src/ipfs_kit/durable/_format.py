"""What a state file says about itself: whose it is, its format, and each layer's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

import apsw

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import FormatError, Unsupported

APPLICATION_ID: Final = 0x49504B54
"""``IPKT``: how ``file(1)`` and we recognise a state file."""
FORMAT_VERSION: Final = 1
"""Stored as ``user_version``; an older build refuses a newer file by name."""


@dataclass(frozen=True)
class Schema:
    """The tables one layer declares.

    Args:
        name: The layer, unique in a store.
        version: Its format number, from 1.
        statements: Creates the tables of ``version`` in an empty file.
        migrations: For each older version, the statements that lead to the next one.
    """

    name: str
    version: int
    statements: tuple[str, ...]
    migrations: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def check_header(application: list[tuple[Any, ...]], version: list[tuple[Any, ...]], path: str) -> None:
    """Refuse a file that is not ours or that a newer build wrote.

    Raises:
        FormatError: It is not ours.
        Unsupported: Its format is newer than this build.
    """
    if application[0][0] != APPLICATION_ID:
        raise FormatError(f"{path} is not a state file of ipfs-kit (application id {application[0][0]:#x})", path=path)
    if version[0][0] > FORMAT_VERSION:
        raise Unsupported(
            f"{path} has format {version[0][0]}, written by a newer ipfs-kit; this one reads up to {FORMAT_VERSION}: "
            "upgrade with 'pip install -U ipfs-kit-py'",
            path=path,
            found=version[0][0],
            supported=FORMAT_VERSION,
        )


def initialise(connection: apsw.Connection, path: str) -> None:
    """Check the header of a file, writing it first when the file is new; the caller holds the lock."""
    application = connection.execute("PRAGMA application_id").fetchall()
    if application[0][0] == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()[0][0] == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL").fetchall()  # only an empty file can be told
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}").fetchall()
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}").fetchall()
        connection.execute(
            "CREATE TABLE kit_schema (name TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT, WITHOUT ROWID"
        )
        connection.execute("COMMIT")
        application = connection.execute("PRAGMA application_id").fetchall()
    check_header(application, connection.execute("PRAGMA user_version").fetchall(), path)
    if connection.execute("PRAGMA journal_mode").fetchall()[0][0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL").fetchall()


def check_version(schema: Schema, stored: int, path: str) -> None:
    """Refuse tables that a newer build wrote.

    Raises:
        Unsupported: Their format is newer than this build.
    """
    if stored > schema.version:
        raise Unsupported(
            f"{path}: the tables of '{schema.name}' have format {stored}, written by a newer ipfs-kit; this one reads "
            f"up to {schema.version}: upgrade with 'pip install -U ipfs-kit-py'",
            path=path,
            schema=schema.name,
            found=stored,
            supported=schema.version,
        )
