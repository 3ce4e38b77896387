"""Whole-bucket listings, put together from bounded pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ipfs_kit import InvalidInput, Result
from ipfs_kit_py._adapter import Adapter

PAGE = 10_000
"""Entries asked for at a time, the most ``files.list`` gives."""
LISTED_MAX = 1_000_000
"""Most entries one listing visits; a larger bucket is listed folder by folder."""


def files_below(adapter: Adapter, bucket: str, prefix: str = "") -> tuple[Result, dict[str, Any]]:
    """Every file of a bucket whose path starts with a prefix.

    Args:
        adapter: The open store.
        bucket: The bucket.
        prefix: Start of the path, with or without a leading slash.

    Raises:
        InvalidInput: The listing would visit more than a million entries.
    """
    wanted = "/" + prefix.lstrip("/")
    folders, found, seen = [wanted.rpartition("/")[0] or "/"], [], 0
    first: Result | None = None
    while folders:
        folder, cursor = folders.pop(), None
        while True:
            result = adapter.call("files.list", path=f"{bucket}:{folder}", cursor=cursor, limit=PAGE)
            first = first or result
            for entry in result.value.entries:
                if entry.kind == "dir" and (entry.path.startswith(wanted) or wanted.startswith(f"{entry.path}/")):
                    folders.append(entry.path)
                elif entry.kind != "dir" and entry.path.startswith(wanted):
                    found.append(_row(entry))
            seen += len(result.value.entries)
            if seen > LISTED_MAX:
                raise InvalidInput(f"{bucket} has more than {LISTED_MAX} entries below {wanted}: give a longer prefix")
            cursor = result.value.cursor
            if cursor is None:
                break
    assert first is not None
    found.sort(key=lambda row: str(row["file_path"]))
    return first, {"files": found, "file_count": len(found), "total_size": sum(row["size"] for row in found)}


def _row(entry: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "file_path": entry.path.lstrip("/"),
        "size": entry.size,
        "cid": str(entry.cid),
        "modified": iso(entry.mtime_ns),
        "metadata": dict(entry.tags),
    }


def iso(time_ns: int | None) -> str | None:
    """Nanoseconds since 1970 as ISO 8601 in UTC, to the microsecond."""
    return None if time_ns is None else datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat()


def last_modified(adapter: Adapter, bucket: str) -> str | None:
    """Newest modification time of any file of a bucket."""
    rows = files_below(adapter, bucket)[1]["files"]
    return max((row["modified"] for row in rows if row["modified"]), default=None)
