"""Rows of the VFS journal: what programs entered and what this store's own files went through, in one vocabulary."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "file_operations": ("create", "read", "write", "delete", "move", "copy"),
        "directory_operations": ("mkdir", "rmdir", "list", "scan"),
        "metadata_operations": ("stat", "chmod", "chown", "touch"),
        "cache_operations": ("cache_hit", "cache_miss", "cache_write", "cache_evict"),
        "sync_operations": ("sync_start", "sync_complete", "sync_error"),
        "search_operations": ("search", "index", "query"),
    }
)
"""Kinds of operation and the operations of each."""
KIND_OF: Final = MappingProxyType({name: kind for kind, names in CATEGORIES.items() for name in names})
CALLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "files.put": "create", "files.get": "read", "files.read": "read", "files.write": "write", "files.append": "write",
        "files.edit": "write", "files.rm": "delete", "files.mv": "move", "files.cp": "copy", "files.mkdir": "mkdir",
        "files.rmdir": "rmdir", "files.list": "list", "files.stat": "stat", "files.set_metadata": "touch",
        "versions.restore": "write", "search.query": "search", "search.index": "index",
    }
)  # fmt: skip
"""Recorded operations on files, as the journal calls them."""
EMBEDDED: Final = "embedded"
"""Backend of what the store's own files went through."""
OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class VfsRow:
    """One line of the journal.

    Args:
        op: ``LOG:INDEX``.
        op_id: Its id as hex.
        time: When it was recorded, UTC, ISO 8601.
        time_ns: The same in nanoseconds since 1970.
        source: ``entry`` that a program made, or ``call`` of this store.
        backend: Where; ``embedded`` for calls. None once erased.
        operation_type: Kind of operation, for example ``file_operations``.
        operation: The operation, for example ``write``; ``recorded`` under its own name in ``details`` for calls.
        path: What it was about.
        status: How it ended: ``success``, ``error``, ``denied``, or what the entry says.
        duration_ms: How long it took; None where nobody measured.
        size: Bytes concerned, where known.
        details: Anything else.
        erased: Sealed fields exist that nobody can read.
    """

    op: str
    op_id: str
    time: str
    time_ns: int
    source: str
    backend: str | None
    operation_type: str | None
    operation: str | None
    path: str | None
    status: str | None
    duration_ms: float | None
    size: int | None
    details: dict[str, Any]
    erased: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Conditions on rows; None admits all.

    Args:
        backend: The backend.
        operation_type: The kind of operation.
        operation: The operation.
        status: How it ended.
        text: What backend, operation, path, status or a detail must contain, without regard to case.
    """

    backend: str | None = None
    operation_type: str | None = None
    operation: str | None = None
    status: Collection[str] | None = None
    text: str | None = None

    def holds(self, row: VfsRow) -> bool:
        """Whether a row meets all conditions."""
        for name in ("backend", "operation_type", "operation"):
            asked = getattr(self, name)
            if asked is not None and getattr(row, name) != asked:
                return False
        if self.status is not None and row.status not in self.status:
            return False
        if self.text is None:
            return True
        shown = (
            row.backend,
            row.operation_type,
            row.operation,
            row.path,
            row.status,
            repr(row.details) if row.details else "",
        )
        return self.text.casefold() in "\n".join(part or "" for part in shown).casefold()


@dataclass(frozen=True, slots=True)
class BackendFigures:
    """What the journal holds of one backend.

    Args:
        backend: The backend.
        operations: Rows.
        succeeded: Those that ended well: ``success``, ``ok`` or ``completed``.
        failed: Those that ended in an error or were refused.
        open: All others, for example ``pending``.
        error_rate: Failed by those that ended; None when none ended.
        by_type: Rows by kind of operation.
        by_operation: Rows by operation.
        duration_ms_mean: Mean of the durations that were measured; None when none was.
        measured: Rows with a duration.
        bytes: Sum of the sizes that are known; None when none is.
        first: Time of the oldest row.
        last: Time of the newest.
    """

    backend: str
    operations: int
    succeeded: int
    failed: int
    open: int
    error_rate: float | None
    by_type: dict[str, int]
    by_operation: dict[str, int]
    duration_ms_mean: float | None
    measured: int
    bytes: int | None
    first: str
    last: str


GOOD: Final = frozenset({"success", "ok", "completed"})
BAD: Final = frozenset({"error", "failed", "failure", "denied", "cancelled"})


def figures(rows: Iterable[VfsRow]) -> list[BackendFigures]:
    """Figures by backend, by name of the backend; erased rows count as ``unknown``."""
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row.backend or "unknown"
        if name not in sums:
            sums[name] = {"n": 0, "good": 0, "bad": 0, "types": {}, "verbs": {}, "ms": 0.0, "timed": 0, "bytes": None,
                          "first": row, "last": row}  # fmt: skip
        at = sums[name]
        at["n"] += 1
        at["good"] += row.status in GOOD
        at["bad"] += row.status in BAD
        for field, value in (("types", row.operation_type), ("verbs", row.operation)):
            at[field][value or "unknown"] = at[field].get(value or "unknown", 0) + 1
        if row.duration_ms is not None:
            at["ms"] += row.duration_ms
            at["timed"] += 1
        if row.size is not None:
            at["bytes"] = (at["bytes"] or 0) + row.size
        at["first"] = min(at["first"], row, key=lambda one: one.time_ns)
        at["last"] = max(at["last"], row, key=lambda one: one.time_ns)
    return [
        BackendFigures(
            name, at["n"], at["good"], at["bad"], at["n"] - at["good"] - at["bad"],
            at["bad"] / (at["good"] + at["bad"]) if at["good"] + at["bad"] else None,
            dict(sorted(at["types"].items())), dict(sorted(at["verbs"].items())),
            at["ms"] / at["timed"] if at["timed"] else None, at["timed"], at["bytes"],
            at["first"].time, at["last"].time,
        )
        for name, at in sorted(sums.items())
    ]  # fmt: skip
