"""The journal of the virtual file system under its published names; every entry is one op of ``vfs_journal``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ipfs_kit import to_json
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS, Adapter
from ipfs_kit_py._vfs_entries import HOUR_S, PAGE, export, shown, timeline

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "VFSJournalManager"]


class VFSJournalManager(Adapter):
    """Records operations on virtual file systems, and finds, counts and exports them after a restart.

    Args:
        log_dir: The store's directory; the default store when left out.
        enable_dataset_storage: Gather entries into batches with a CID.
        enable_compute_layer: Run work on a pool of its own.
        ipfs_client: A Kit whose store is used; anything else is kept as an attribute.
        dataset_batch_size: Entries that make a batch.
    """

    def __init__(
        self,
        log_dir: str | Path | None = None,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        ipfs_client: Any = None,
        dataset_batch_size: int = 100,
    ) -> None:
        options = (ipfs_client, enable_dataset_storage, enable_compute_layer, dataset_batch_size)
        super().__init__(__name__, log_dir, *options, stream="vfs_journal")
        self._cleared: dict[str | None, float] = {}

    def add_journal_entry(
        self,
        backend: str,
        operation_type: str,
        operation: str,
        path: str,
        status: str = "success",
        details: dict[str, Any] | None = None,
    ) -> str | None:
        """Record one operation and return its op id; ``duration_ms`` and ``size`` of the details have their own field."""
        rest = dict(details or {})
        event = {"backend": backend, "operation_type": operation_type, "operation": operation, "path": path}
        for name in ("duration_ms", "size"):
            if isinstance(rest.get(name), int | float):
                event[name] = rest.pop(name)
        made = self.call("stream.append", stream="vfs_journal", events=[{**event, "status": status, "details": rest}])
        return made.value.op_ids[0] if made.value.op_ids else None

    def get_journal_entries(
        self,
        backend: str | None = None,
        operation_type: str | None = None,
        status: str | None = None,
        search_term: str | None = None,
        limit: int | None = 100,
        hours: float | None = None,
    ) -> list[dict[str, Any]]:
        """Entries newest first that meet every condition, of the whole history; all when ``limit`` is None."""
        asked: dict[str, Any] = {"backend": backend, "operation_type": operation_type, "text": search_term}
        asked |= {"status": status and [status], "since": self._since(backend, hours), "calls": False}
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = self.call("vfs_journal.query", **asked, limit=size, cursor=cursor).value
            found += [shown(row) for row in page.rows if self._kept(row)]
            cursor = page.cursor
            if cursor is None:
                break
        return found

    def get_backend_statistics(self) -> dict[str, dict[str, Any]]:
        """Figures by backend: operations, succeeded, failed, error rate, by kind and operation, mean duration or None."""
        found: dict[str, dict[str, Any]] = {}
        for backend in (None, *filter(None, self._cleared)):
            found.pop(backend or "", None)
            asked = {"backend": backend, "since": self._since(backend, None), "calls": False}
            found |= {one.backend: to_json(one) for one in self.call("vfs_journal.statistics", **asked).value.backends}
        return found

    def get_operation_timeline(self, backend: str | None = None, hours: float = 24) -> list[dict[str, Any]]:
        """Entries counted by hour, oldest hour first; an hour without entries is there with 0."""
        asked: dict[str, Any] = {"bucket_s": HOUR_S, "calls": False, "since": self._since(backend, hours)}
        made = self.call("vfs_journal.timeline", backend=backend, **asked).value
        hidden = [] if backend else [(name, mark) for name, mark in self._cleared.items() if name]
        gone = [self.call("vfs_journal.timeline", backend=name, until=mark, **asked).value for name, mark in hidden]
        return timeline(made.parts, [part for each in gone for part in each.parts])

    def clear_journal(self, backend: str | None = None) -> int:
        """Begin this object's view anew; what was recorded stays, and another object shows it. How many went from view."""
        hidden = len(self.get_journal_entries(backend=backend, limit=None))
        self._cleared[backend] = time.time_ns() / 1e9
        return hidden

    def export_journal(
        self,
        backend: str | None = None,
        format: str = "json",  # noqa: A002 - published name
        hours: float | None = None,
    ) -> str:
        """The entries as text, newest first: a JSON array or CSV with a head line."""
        return export(self.get_journal_entries(backend=backend, limit=None, hours=hours), format)

    def _since(self, backend: str | None, hours: float | None) -> float | None:
        marks = [self._cleared.get(None), self._cleared.get(backend)]
        marks.append(None if hours is None else time.time_ns() / 1e9 - hours * HOUR_S)
        return max((mark for mark in marks if mark is not None), default=None)

    def _kept(self, row: Any) -> bool:
        return bool(row.time_ns / 1e9 >= self._cleared.get(row.backend, 0.0))
