"""Entries of the published journal as operations on one bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipfs_kit import CID
from ipfs_kit.errors import AlreadyExists
from ipfs_kit_py._adapter import Adapter

BUCKET = "journal"
"""The bucket that holds the published journal's file system; made when the journal is opened."""
ENTRIES_MAX = 100_000
"""Most entries of one answer."""


NO_CHANGE = ("checkpoint", "dataset")
"""Kinds of entries that change no path."""


def ensure_journal(adapter: Adapter) -> None:
    """Make the journal's bucket unless it is there."""
    if adapter.kit.engine.buckets.exists(BUCKET):
        return
    try:
        adapter.call("bucket.create", name=BUCKET, metadata={"made_by": "filesystem_journal"})
    except AlreadyExists:
        return


def remembered(adapter: Adapter, data: Any, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a pending entry keeps of its change; content becomes a block, so that an entry stays small."""
    given = dict(data) if isinstance(data, Mapping) else {} if data is None else {"content": data}
    content = given.pop("content", None)
    if content is not None:
        raw = content.encode() if isinstance(content, str) else bytes(content)
        given["content_cid"] = str(adapter.call("block.put", data=raw).value.cid)
    return {name: value for name, value in (("data", given), ("metadata", dict(metadata or {}))) if value}


def change(adapter: Adapter, kind: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``journal.apply`` for an entry as it was remembered."""
    data, kept = dict(details.get("data", {})), dict(details.get("metadata", {}))
    made: dict[str, Any] = {}
    if (block := data.pop("content_cid", None)) is not None:
        made["data"] = bytes(adapter.kit.engine.blocks.get(CID.parse(block)))
    if data.pop("is_directory", False) or data.get("type") == "directory":
        made["directory"] = True
    if kind == "rename":
        made["target"] = next((data.pop(name) for name in ("new_path", "target", "destination") if name in data), None)
    elif kind == "mount":
        made["target"] = data.pop("cid", None)
    elif kind == "truncate":
        made["size"] = int(data.pop("size", 0))
    if kind in ("create", "write", "metadata", "mount") and (labels := {**data, **kept}):
        made["metadata"] = labels
    return made


def fs_state(adapter: Adapter, transaction: str | None = None) -> dict[str, dict[str, Any]]:
    """Type, size, CID and metadata by path."""
    found: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    while True:
        page = adapter.call("journal.state", journal=BUCKET, transaction=transaction, cursor=cursor).value
        for each in page.entries:
            mount = each.metadata.get("mount") if each.kind == "symlink" else None
            kind = "mount" if mount else "directory" if each.kind == "dir" else each.kind
            found[each.path] = {
                "type": kind,
                "size": each.size,
                "cid": mount or str(each.cid),
                "metadata": each.metadata,
            }
        cursor = page.cursor
        if cursor is None:
            return found


def entry_row(entry: Any) -> dict[str, Any]:
    """An entry as published."""
    return {
        "entry_id": entry.entry_id, "operation_type": entry.operation_type, "path": entry.path, "status": entry.status,
        "transaction_id": entry.transaction_id, "timestamp": entry.time_ns / 1e9, "data": entry.details.get("data", {}),
        "metadata": entry.details.get("metadata", {}), "op": entry.op,
    }  # fmt: skip
