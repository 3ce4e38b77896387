"""Rows of datasets: pages, files, differences between versions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.datasets.comparing import RowChange, RowDiff
from ipfs_kit.durable import files
from ipfs_kit.errors import AlreadyExists, BudgetExceeded, InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, Touch
from ipfs_kit.operations.toolsets.dataset import Columns, SplitName, Version, Where, state_at

PAGE_BYTES: Final = 16 << 20
"""Bytes in memory after which a page of rows ends."""


@dataclass(frozen=True, slots=True)
class PartRead:
    """What became of one part while rows were sought: read, or left out and why."""

    split: str
    part: int
    rows: int
    left_out: str | None


@dataclass(frozen=True, slots=True)
class RowPage:
    """A page of rows in their order.

    Args:
        columns: Names of the columns.
        rows: The rows, one list of cells each.
        offset: Pass it for the next page; None when this was the last.
        parts: With ``explain``, the parts that were looked at.
    """

    columns: list[str]
    rows: list[list[Any]]
    offset: int | None
    parts: list[PartRead] | None


@operation(
    "dataset.rows",
    Mode.READ,
    "dataset:read",
    target=lambda b: str(b["version"]),
    places=(Touch("version", READ, whole=True),),
)
def dataset_rows(
    ctx: Context,
    version: Version,
    split: SplitName = None,
    columns: Columns = None,
    where: Where = None,
    limit: Annotated[int, Arg("rows per page", minimum=1, maximum=10_000, flag="n")] = 100,
    offset: Annotated[int, Arg("rows to pass over", minimum=0)] = 0,
    explain: Annotated[bool, Arg("tell which parts were read, and why others were not")] = False,
) -> RowPage:
    """Return rows of any version; parts whose figures exclude what is sought are not opened."""
    from ipfs_kit.datasets.arrow import plain
    from ipfs_kit.datasets.where import Condition, parse

    state = state_at(ctx, version)
    if state.schema is None:
        return RowPage([], [], None, [] if explain else None)
    condition = Condition(parse(where), state.schema)
    from ipfs_kit.datasets.state import check_columns

    check_columns(columns, state.schema)
    names = list(state.schema.names) if columns is None else columns
    found: list[list[Any]] = []
    parts: list[PartRead] = []
    passed = size = 0
    for part in state.parts(split):
        why = condition.may_hold(part.figures)
        if why is None and not condition and passed + part.figures.rows <= offset:
            why = "before the offset"
            passed += part.figures.rows
        parts.append(PartRead(part.split, part.number, part.figures.rows, why))
        for table in state.batches(part, names, condition) if why is None else ():
            ctx.check_cancelled()
            skipped = min(table.num_rows, max(0, offset - passed))
            passed += skipped
            wanted = table.slice(skipped, limit + 1 - len(found))
            size += wanted.nbytes
            if size > PAGE_BYTES and wanted.num_rows > 1:
                wanted = wanted.slice(0, max(1, wanted.num_rows * PAGE_BYTES // size))
            found += [[plain(row[name]) for name in names] for row in wanted.to_pylist()]
            if len(found) > limit or size > PAGE_BYTES:
                kept = found[:limit]
                return RowPage(names, kept, offset + len(kept), parts if explain else None)
    return RowPage(names, found, None, parts if explain else None)


@dataclass(frozen=True, slots=True)
class DatasetWritten:
    """A file that rows were written to.

    Args:
        path: Where.
        cid: CID of the version's content.
        file_format: How.
        rows: Rows in it.
        size: Its bytes.
    """

    path: str
    cid: CID
    file_format: str
    rows: int
    size: int


@operation(
    "dataset.get",
    Mode.READ,
    "dataset:read",
    target=lambda b: str(b["version"]),
    places=(Touch("version", READ, whole=True),),
)
def dataset_get(
    ctx: Context,
    version: Version,
    destination: Annotated[str, Arg("local file to write", local=True, positional=True)],
    file_format: Annotated[
        Literal["parquet", "arrow", "csv", "jsonl", "json"] | None, Arg("told by the name's end")
    ] = None,
    split: SplitName = None,
    columns: Columns = None,
    where: Where = None,
    overwrite: Annotated[bool, Arg("replace a file that exists")] = False,
) -> DatasetWritten:
    """Write rows of any version to a local file that appears whole.

    Raises:
        AlreadyExists: There is a file and overwriting was not asked for.
    """
    from ipfs_kit.datasets import exporting
    from ipfs_kit.datasets.arrow import need
    from ipfs_kit.datasets.reading import SUFFIXES
    from ipfs_kit.datasets.state import check_columns
    from ipfs_kit.datasets.where import Condition, parse

    path = os.path.abspath(os.path.expanduser(destination))
    form = file_format or SUFFIXES.get(os.path.splitext(path)[1].lower(), "")
    if form not in exporting.FORMATS:
        raise InvalidInput(f"the name does not tell a format: choose {', '.join(exporting.FORMATS)}")
    if os.path.lexists(path) and not overwrite:
        raise AlreadyExists(f"{path} exists: pass overwrite to replace it, or name another file")
    state = state_at(ctx, version)
    if state.schema is None:
        raise InvalidInput(f"{version} has no rows yet, and so no columns")
    check_columns(columns, state.schema)
    condition = Condition(parse(where), state.schema)
    names = list(state.schema.names) if columns is None else columns
    done = 0

    def tables() -> Iterator[Any]:
        nonlocal done
        for table in state.rows(split, names, condition):
            done += table.num_rows
            ctx.progress(done, unit="rows")
            yield table

    partial = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{ctx.draft.op_id.hex()}.partial")
    try:
        with open(partial, "xb", opener=_private) as out:
            schema = need().schema([state.schema.field(name) for name in names])
            rows = exporting.write(tables(), schema, out, form)
        size = os.path.getsize(partial)
        files.move(partial, path)
    except BaseException:
        if os.path.lexists(partial):
            files.remove(partial, sync=False)
        raise
    return DatasetWritten(path, state.root.cid, form, rows, size)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@operation(
    "dataset.diff",
    Mode.READ,
    "dataset:read",
    target=lambda b: f"{b['before']} -> {b['after']}",
    places=(Touch("before", READ, whole=True), Touch("after", READ, whole=True)),
)
def dataset_diff(
    ctx: Context,
    before: Annotated[str, Arg("the earlier DATASET[@ref]", positional=True)],
    after: Annotated[str, Arg("the later DATASET[@ref]", positional=True)],
    key: Annotated[list[str] | None, Arg("columns whose values name a row")] = None,
    split: SplitName = None,
    limit: Annotated[int, Arg("most rows named", minimum=0, maximum=10_000)] = 100,
) -> RowDiff:
    """Say which rows two versions do not have in common; files that both hold are not read.

    Without a key whole rows are compared, as often as they occur; with one, rows of the same key that differ are changed.

    Raises:
        InvalidInput: The key names several rows.
        BudgetExceeded: What differs does not fit 1 GB of memory.
    """
    from ipfs_kit.datasets.comparing import compare

    found = compare(
        state_at(ctx, before), state_at(ctx, after), key or [], split, limit,
        lambda rows: ctx.progress(rows, unit="rows"),
    )  # fmt: skip
    if sum(len(str(each)) for each in found.rows) > PAGE_BYTES:
        raise BudgetExceeded("the rows named are too large for one answer: lower the limit")
    return found


__all__ = ["DatasetWritten", "PartRead", "RowChange", "RowDiff", "RowPage"]
