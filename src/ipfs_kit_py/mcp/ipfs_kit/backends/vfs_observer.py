"""Figures of the virtual file system under their published names: measured, or ``unknown``."""

from __future__ import annotations

from typing import Any

from ipfs_kit.monitoring.vfs_rows import KIND_OF
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS, Adapter
from ipfs_kit_py._vfs_entries import PAGE, shown, told

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "VFSObservabilityManager"]


class VFSObservabilityManager(Adapter):
    """Records operations on virtual file systems, and tells figures of caches, indexes, access and this machine.

    Args:
        enable_dataset_storage: Gather entries into batches with a CID.
        enable_compute_layer: Run work on a pool of its own.
        ipfs_client: A Kit whose store is used; anything else is kept as an attribute.
        dataset_batch_size: Entries that make a batch.
        storage_path: The store's directory; the default store when left out.
    """

    def __init__(
        self,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        ipfs_client: Any = None,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | None = None,
    ) -> None:
        options = (ipfs_client, enable_dataset_storage, enable_compute_layer, dataset_batch_size)
        super().__init__(__name__, storage_path, *options, stream="vfs_journal")

    def log_vfs_operation(
        self,
        backend: str,
        operation: str,
        path: str,
        success: bool = True,
        duration_ms: float = 0.0,
        details: str | dict[str, Any] = "",
        status: str | None = None,
        **extra: Any,
    ) -> str | None:
        """Record one operation in the VFS journal and return its op id; 0 ms means that nobody measured."""
        rest = dict(details) if isinstance(details, dict) else {"text": details} if details else {}
        event: dict[str, Any] = {
            "backend": backend, "operation": operation, "path": path, "details": {**rest, **extra},
            "operation_type": KIND_OF.get(operation, "other"), "status": status or ("success" if success else "error"),
        }  # fmt: skip
        if duration_ms:
            event["duration_ms"] = float(duration_ms)
        made = self.call("stream.append", stream="vfs_journal", events=[event])
        return made.value.op_ids[0] if made.value.op_ids else None

    async def get_vfs_journal(
        self, backend_filter: str | None = None, search_query: str | None = None
    ) -> dict[str, Any]:
        """Entries and this store's own file operations, newest first, up to 10,000; data: entries, total, more."""

        def work() -> Any:
            found = self.call("vfs_journal.query", backend=backend_filter, text=search_query, limit=PAGE)
            rows = [shown(row) for row in found.value.rows]
            return found, {"entries": rows, "total": len(rows), "more": found.value.cursor is not None}

        return await self.run("get_vfs_journal", work)

    async def get_vfs_statistics(self) -> dict[str, Any]:
        """All groups of figures, and those of each backend."""

        def work() -> Any:
            found = self.call("observer.figures")
            backends = self.call("vfs_journal.statistics").value
            groups = {**told(found.value), "backends": {one.backend: told(one) for one in backends.backends}}
            return found, groups

        return await self.run("get_vfs_statistics", work)

    async def get_cache_statistics(self) -> dict[str, Any]:
        """Cache hits and misses that were recorded; a rate without any is ``unknown``."""
        return await self._group("get_cache_statistics", "cache_performance")

    async def get_vector_index_statistics(self) -> dict[str, Any]:
        """Vector indexes, ``unknown`` where there are none, and the full-text indexes."""
        return await self._group("get_vector_index_statistics", "vector_index_status", "text_index_status")

    async def get_knowledge_base_statistics(self) -> dict[str, Any]:
        """The knowledge graph; ``unknown`` where there is none."""
        return await self._group("get_knowledge_base_statistics", "knowledge_base_status")

    async def _group(self, name: str, *groups: str) -> dict[str, Any]:
        def work() -> Any:
            found = self.call("observer.figures")
            figures = told(found.value)
            return found, figures[groups[0]] if isinstance(figures[groups[0]], dict) else {
                group: figures[group] for group in groups
            }

        return await self.run(name, work)
