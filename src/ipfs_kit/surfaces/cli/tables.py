"""How values stand in rows and columns of text."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from ipfs_kit.ipld import CID
from ipfs_kit.operations.results import to_json
from ipfs_kit.surfaces.text import safe

LAST_MIN = 8
"""Columns that the last cell of a row needs at the least."""


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> list[str]:
    """Columns aligned by their longest cell; the last column is not padded."""
    cells = [[safe(str(cell)) for cell in row] for row in ([head, *rows] if head else rows)]
    if not cells:
        return []
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    room = terminal_columns()
    if room is not None and len(widths) > 1 and sum(widths[:-1]) + 2 * (len(widths) - 1) + LAST_MIN > room:
        return _stacked(cells, room, named=bool(head))
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    if room is None:
        return lines
    last = sum(widths[:-1]) + 2 * (len(widths) - 1)
    return [part for line in lines for part in _broken(line, room, "", " " * last)]


def terminal_columns() -> int | None:
    """Columns of the terminal that standard output is; None where it is none, and lines stay as they are."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _stacked(cells: Sequence[Sequence[str]], room: int, *, named: bool) -> list[str]:
    """Rows too wide for the terminal, a cell a line, so that no cell is torn apart."""
    lines: list[str] = []
    for row in cells[1:] if named else cells:
        for number, text in enumerate(row):
            if not text:
                continue
            told = f"{cells[0][number].lower()}: {text}" if named else text
            lines += _broken(told, room, "  " if number else "", "    ")
    return lines


def _broken(text: str, room: int, first: str, others: str) -> list[str]:
    """A line in parts that fit; a word that does not, such as a CID, stays whole so that it can be copied."""
    if len(first) + len(text) < room:
        return [first + text]
    return textwrap.wrap(
        text, max(room - 1, 20), initial_indent=first, subsequent_indent=others, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def fields_of(value: Any) -> list[str]:
    """A value's fields, one a line; what is empty is left out."""
    if value is None:
        return []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        rows = [(f.name.replace("_", " "), cell(getattr(value, f.name))) for f in dataclasses.fields(value)]
        return table([row for row in rows if row[1] != ""])
    if isinstance(value, str | CID):
        return [str(value)]
    return [json.dumps(to_json(value), ensure_ascii=False, indent=2)]


def known(value: Any) -> list[str]:
    """All fields of a group of figures, one a line; what nobody measured is ``unknown``."""
    rows = [(f.name.replace("_", " "), getattr(value, f.name)) for f in dataclasses.fields(value)]
    return table([(name, "unknown" if given is None else cell(given) or "none") for name, given in rows])


def cell(value: Any) -> str:
    """One value in one cell."""
    if value is None or value == () or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(cell(item) for item in value)
    if dataclasses.is_dataclass(value) or isinstance(value, dict):
        return json.dumps(to_json(value), ensure_ascii=False)
    return str(value)


def figure(value: float | None) -> str:
    """A figure of six digits, or ``unknown``."""
    return "unknown" if value is None else f"{value:.6g}"
