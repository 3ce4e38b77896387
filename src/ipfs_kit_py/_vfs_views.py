"""Journal and statistics of the published VFS: views over the ledger, measured or ``unknown``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ipfs_kit import Result, to_json
from ipfs_kit.errors import BucketNotFound
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._vfs import BUCKET, JOURNAL_MAX, ensure_bucket

UNKNOWN = "unknown"


def entries(adapter: Adapter) -> tuple[Result, list[dict[str, Any]]]:
    """Newest recorded operations on the VFS bucket, newest first, from the last ops of both logs."""
    found: list[dict[str, Any]] = []
    adapter.kit.engine.ledger.flush("bulk")  # reads are acknowledged before they are in the log; the journal shows all
    for log in ("bulk", "main"):
        result = adapter.call("ledger.tail", log=log, limit=JOURNAL_MAX)
        found += [_row(op) for op in result.value.ops if _about_vfs(op)]
    found.sort(key=lambda row: str(row["timestamp"]), reverse=True)
    return result, found


def _about_vfs(op: Any) -> bool:
    return op.operation.startswith("vfs.") or (op.target or "").startswith(f"{BUCKET}:")


def _row(op: Any) -> dict[str, Any]:
    return {
        "timestamp": op.time,
        "backend": "embedded",
        "operation": op.operation,
        "path": (op.target or "").replace(f"{BUCKET}:", ""),
        "success": op.status == "ok",
        "status": op.status,
        "error_type": op.error_kind,
        "duration_ms": op.duration_us / 1000,
        "op_id": op.op_id,
    }


def journal(adapter: Adapter, backend: str | None, search: str | None, limit: int) -> tuple[Result, dict[str, Any]]:
    """A filtered page of the journal."""
    result, rows = entries(adapter)
    kept = [r for r in rows if backend in (None, r["backend"]) and (not search or search.lower() in str(r).lower())]
    return result, {"entries": kept[:limit], "total": len(kept)}


def statistics(adapter: Adapter) -> tuple[Result, dict[str, Any]]:
    """Counts, error rate and latency of the operations in the journal, and the bucket's size."""
    result, rows = entries(adapter)
    times = sorted(row["duration_ms"] for row in rows)
    failed = sum(not row["success"] for row in rows)
    try:
        bucket = to_json(adapter.call("bucket.info", name=BUCKET).value)
    except BucketNotFound:
        bucket = {"files": 0, "size_bytes": 0, "root": None}
    return result, {
        "operations": len(rows),
        "by_operation": dict(Counter(row["operation"] for row in rows)),
        "failed": failed,
        "error_rate": failed / len(rows) if rows else UNKNOWN,
        "duration_ms_mean": sum(times) / len(times) if times else UNKNOWN,
        "duration_ms_p50": times[len(times) // 2] if times else UNKNOWN,
        "duration_ms_max": times[-1] if times else UNKNOWN,
        "files": bucket["files"],
        "total_size": bucket["size_bytes"],
        "root_cid": bucket["root"],
        "cache_hit_rate": UNKNOWN,
    }


def prepare(adapter: Adapter) -> tuple[Result, dict[str, Any]]:
    """Make the bucket if needed and describe it."""
    ensure_bucket(adapter)
    result = adapter.call("bucket.info", name=BUCKET)
    return result, to_json(result.value)
