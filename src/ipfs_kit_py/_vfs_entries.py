"""Entries of the VFS journal in their published shape."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from ipfs_kit import InvalidInput, to_json

PAGE = 10_000
HOUR_S = 3600.0
FIELDS = ("timestamp", "backend", "operation_type", "operation", "path", "status", "duration_ms", "size", "details")


def shown(row: Any) -> dict[str, Any]:
    """A row of the journal as the published entry; fields nobody can read any more are None."""
    entry = {name: getattr(row, name) for name in FIELDS if name != "timestamp"}
    return {"timestamp": row.time, **entry, "success": row.status in ("success", "ok", "completed"), "op_id": row.op_id}


def timeline(parts: Iterable[Any], hidden: Iterable[Any]) -> list[dict[str, Any]]:
    """Parts of a timeline without what is hidden; parts that lost everything stay, with 0."""
    made = {part.start_ns: to_json(part) for part in parts}
    for part in hidden:
        left = made[part.start_ns]
        left["count"] -= part.count
        left["failed"] -= part.failed
        by = {name: count - part.by.get(name, 0) for name, count in left["by"].items()}
        left["by"] = {name: count for name, count in by.items() if count}
    return list(made.values())


def export(entries: list[dict[str, Any]], file_format: str) -> str:
    """Entries as text.

    Args:
        entries: What ``shown`` made.
        file_format: ``json`` or ``csv``.

    Raises:
        InvalidInput: Another format.
    """
    if file_format == "json":
        return json.dumps(entries, ensure_ascii=False, indent=2)
    if file_format != "csv":
        raise InvalidInput(f"there is no format {file_format[:40]!r}: they are json and csv")
    out = io.StringIO()
    writer = csv.writer(out)
    head = (*FIELDS, "success", "op_id")
    writer.writerow(head)
    for entry in entries:
        cells = [entry[name] for name in head]
        writer.writerow(json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict) else cell for cell in cells)
    return out.getvalue()


def told(value: Any) -> dict[str, Any]:
    """Figures in their published shape: what nobody measured is ``unknown``."""

    def plain(given: Any) -> Any:
        if isinstance(given, dict):
            return {name: plain(each) for name, each in given.items()}
        return "unknown" if given is None else [plain(each) for each in given] if isinstance(given, list) else given

    made: dict[str, Any] = plain(to_json(value))
    return made
