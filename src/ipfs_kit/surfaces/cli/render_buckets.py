"""What the command line shows of the catalogue of buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ipfs_kit.surfaces.cli.tables import table
from ipfs_kit.surfaces.text import human_size


def _grown(count: int | None, shown: Callable[[int], str]) -> str:
    if count is None:
        return "unknown"
    return f"-{shown(-count)}" if count < 0 else f"+{shown(count)}"


def _catalogue(value: Any) -> list[str]:
    rows = [
        (
            *(b.name, b.type, b.structure, b.kind),
            "key destroyed" if b.files is None else str(b.files),
            "" if b.size is None else human_size(b.size),
            *(_grown(b.files_grown, str), _grown(b.size_grown, human_size)),
        )
        for b in value.buckets
    ]
    head = ("NAME", "TYPE", "STRUCTURE", "KIND", "FILES", "SIZE", "FILES GROWN", "SIZE GROWN")
    total = f"{len(value.buckets)} buckets, {value.files} files, {human_size(value.size)}"
    return [*table(rows, head), total] if rows else ["no bucket holds that"]


BUCKETS: Final[dict[str, Callable[[Any], list[str]]]] = {"bucket.catalogue": _catalogue}
"""Shapes results of operations for people, by name."""
