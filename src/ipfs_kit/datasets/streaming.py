"""Rows as a stream of batches for training: in order or shuffled by a seed, whole or one share of several."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from ipfs_kit.datasets.arrow import need
from ipfs_kit.datasets.state import DatasetState, Part
from ipfs_kit.datasets.where import Condition
from ipfs_kit.errors import InvalidInput

SLICE_ROWS: Final = 1_024
"""Rows that stay together when a stream is shared out."""
BUFFER_ROWS: Final = 65_536
BUFFER_ROWS_MAX: Final = 10_000_000


def batches(
    state: DatasetState,
    split: str | None = None,
    columns: list[str] | None = None,
    condition: Condition | None = None,
    *,
    batch_rows: int = SLICE_ROWS,
    shuffle: int | None = None,
    buffer_rows: int = BUFFER_ROWS,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Any]:
    """The rows of a state as Arrow tables of ``batch_rows`` rows, the last one shorter.

    Args:
        state: The version.
        split: One split; all when None.
        columns: Which columns; all when None.
        condition: Only rows that meet it.
        batch_rows: Rows of one table, 1 or more.
        shuffle: A seed: files come in random order, and rows are mixed within a buffer; None keeps their order. The same
            seed over the same version gives the same order on any machine.
        buffer_rows: Rows mixed with each other, 1 to 10 million; they are in memory at one time.
        shard: Which of how many shares, for example ``(0, 4)``: shares are disjoint and together hold every row once.

    Raises:
        InvalidInput: A number is out of bounds.
    """
    which, shares = shard
    if batch_rows < 1 or not 1 <= buffer_rows <= BUFFER_ROWS_MAX or not 0 <= which < shares:
        raise InvalidInput("batch_rows is 1 or more, buffer_rows 1 to 10,000,000, and a shard K of N has 0 <= K < N")
    parts = list(state.parts(split)) if state.schema is not None else []
    draw = Random(shuffle) if shuffle is not None else None  # noqa: S311 - an order, no secret
    if draw is not None:
        draw.shuffle(parts)
    shared = _share(_slices(state, parts, columns, condition), which, shares)
    yield from _cut(shared if draw is None else _mixed(shared, draw, buffer_rows), batch_rows)


def _slices(
    state: DatasetState, parts: list[Part], columns: list[str] | None, condition: Condition | None
) -> Iterator[Any]:
    for part in parts:
        if condition is not None and condition.may_hold(part.figures) is not None:
            continue
        for table in state.batches(part, columns, condition):
            for start in range(0, table.num_rows, SLICE_ROWS):
                yield table.slice(start, SLICE_ROWS)


def _share(slices: Iterator[Any], which: int, shares: int) -> Iterator[Any]:
    for number, piece in enumerate(slices):
        if number % shares == which:
            yield piece


def _mixed(slices: Iterator[Any], draw: Random, buffer_rows: int) -> Iterator[Any]:
    pa = need()
    held: list[Any] = []
    rows = 0
    for piece in slices:
        held.append(piece)
        rows += piece.num_rows
        if rows >= buffer_rows:
            yield _shuffled(pa.concat_tables(held), draw)
            held, rows = [], 0
    if held:
        yield _shuffled(pa.concat_tables(held), draw)


def _shuffled(table: Any, draw: Random) -> Any:
    order = list(range(table.num_rows))
    draw.shuffle(order)
    return table.take(order)


def _cut(tables: Iterator[Any], batch_rows: int) -> Iterator[Any]:
    pa = need()
    held: list[Any] = []
    rows = 0
    for given in tables:
        table = given
        while rows + table.num_rows >= batch_rows:
            piece = table.slice(0, batch_rows - rows)
            yield pa.concat_tables([*held, piece]).combine_chunks()
            table, held, rows = table.slice(piece.num_rows), [], 0
        if table.num_rows:
            held.append(table)
            rows += table.num_rows
    if held:
        yield pa.concat_tables(held).combine_chunks()
