"""Versions of a folder in the published words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_kit import Result, to_json

if TYPE_CHECKING:
    from ipfs_kit_py._version_tracker import VFSVersionTracker

_WORDS = {"added": "added", "removed": "deleted", "modified": "modified", "type_changed": "modified"}


def metadata_of(author: str) -> dict[str, Any]:
    """What a version remembers of who took it, beside the authenticated caller."""
    return {"author": author} if author else {}


def state_of(tracker: VFSVersionTracker, buckets: bool, metadata: bool) -> tuple[Result, dict[str, Any]]:
    """The folder as it is: its root CID and how it differs from the newest version.

    Args:
        tracker: The tracker.
        buckets: Also name the buckets of the store.
        metadata: Also tell files, bytes and problems.
    """
    found = tracker.folder_status()
    status = to_json(found.value)
    head = tracker.kit.engine.buckets.info(tracker.bucket).head
    sorted_out: dict[str, list[str]] = {"added": [], "modified": [], "deleted": []}
    for change in status["changes"]:
        if (word := _WORDS.get(change["change"])) is not None:
            sorted_out[word].append(change["path"])
    data: dict[str, Any] = {
        "vfs_root": str(tracker.vfs_root),
        "root_cid": status["root"],
        "current_head": str(head) if head is not None else None,
        "has_changes": head is None or status["count"] > 0,
        "truncated": status["truncated"],
        **sorted_out,
    }
    if metadata:
        data |= {name: status[name] for name in ("files", "size", "problems_count", "problems")}
    if buckets:
        data["buckets"] = [info.name for info in tracker.kit.bucket.list().buckets]
    return found, data


def history(tracker: VFSVersionTracker, limit: int) -> list[dict[str, Any]]:
    """Versions, newest first."""
    tracker.ready()
    page = tracker.call("versions.log", state=tracker.bucket, limit=limit).value
    return [
        {
            "version_cid": str(entry.cid),
            "root_cid": str(entry.root),
            "parents": [str(parent) for parent in entry.parents],
            "timestamp": entry.time,
            "message": entry.message,
            "author": (entry.metadata or {}).get("author", entry.author),
        }
        for entry in page.commits
    ]
