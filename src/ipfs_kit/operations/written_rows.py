"""Rows of a journal written to a local file, in the formats that people open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Literal

from ipfs_kit.durable import files
from ipfs_kit.monitoring.row_files import WRITERS
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.context import Context

ROWS_MAX = 1_000_000
"""Rows of one file; how many more there are is not counted."""

FileFormat = Annotated[Literal["json", "jsonl", "csv", "parquet"], Arg("how the file is written")]
Destination = Annotated[str, Arg("local file to write", local=True, positional=True)]
Overwrite = Annotated[bool, Arg("replace a file that exists")]


@dataclass(frozen=True, slots=True)
class WrittenRows:
    """A file that was written.

    Args:
        path: Where.
        file_format: How.
        rows: Rows in it.
        size: Its bytes.
        truncated: Rows beyond were left out.
    """

    path: str
    file_format: str
    rows: int
    size: int
    truncated: bool


def write_rows(
    ctx: Context, row_type: type[Any], found: Iterator[Any], destination: str, file_format: str, overwrite: bool
) -> WrittenRows:
    """Write rows to a local file that appears whole, readable by its owner alone.

    Args:
        ctx: The call, told of progress.
        row_type: Dataclass of the rows; its fields are the columns.
        found: The rows.
        destination: Where.
        file_format: ``json``, ``jsonl``, ``csv`` or ``parquet``.
        overwrite: Replace a file that exists.

    Raises:
        AlreadyExists: There is a file and overwriting was not asked for.
    """
    counted = 0

    def rows() -> Iterator[Any]:
        nonlocal counted
        for row in islice(found, ROWS_MAX):
            counted += 1
            if counted % 1_000 == 0:
                ctx.progress(counted, None, "rows")
            yield row

    path = os.path.abspath(os.path.expanduser(destination))
    data = b"".join(WRITERS[file_format](row_type, rows()))
    if overwrite:
        files.replace(path, data, mode=0o600)
    else:
        files.create_exclusive(path, data, mode=0o600)
    return WrittenRows(path, file_format, counted, len(data), next(found, None) is not None)
