"""How values stand in rows and columns of text."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from ipfs_kit.ipld import CID
from ipfs_kit.operations.results import to_json
from ipfs_kit.surfaces.text import safe


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> list[str]:
    """Columns aligned by their longest cell; the last column is not padded."""
    cells = [[safe(str(cell)) for cell in row] for row in ([head, *rows] if head else rows)]
    if not cells:
        return []
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


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
