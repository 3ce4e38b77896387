"""The class of the published VFS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipfs_kit.errors import Unsupported
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._vfs import run_verb
from ipfs_kit_py._vfs_views import UNKNOWN, journal, prepare, statistics


class VFSManager(Adapter):
    """ls, cat, write, mkdir, rmdir, rm, info, rename, move and copy over the bucket ``vfs`` of one store."""

    def __init__(
        self,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | Path | None = None,
        ipfs_client: Any = None,
    ) -> None:
        super().__init__(
            "ipfs_kit_py.vfs_manager",
            storage_path,
            ipfs_client,
            enable_dataset_storage,
            enable_compute_layer,
            dataset_batch_size,
            stream="vfs",
        )

    async def initialize(self) -> dict[str, Any]:
        """Open the store and make the bucket when it is not there."""
        return await self.run("initialize", lambda: prepare(self))

    async def execute_vfs_operation(self, operation: str, **kwargs: Any) -> dict[str, Any]:
        """Run one verb with its published arguments; a failure is typed and recorded."""
        return await self.run(operation, lambda: run_verb(self, operation, kwargs))

    async def list_files(self, path: str = "/") -> dict[str, Any]:
        """List a folder; data: path, items."""
        return await self.execute_vfs_operation("ls", path=path)

    async def create_folder(self, path: str, name: str) -> dict[str, Any]:
        """Create a folder inside another."""
        return await self.execute_vfs_operation("mkdir", path=f"{path.rstrip('/')}/{name}")

    async def delete_item(self, path: str) -> dict[str, Any]:
        """Remove a file, or a folder with all it holds; versions and undo keep it."""
        return await self.execute_vfs_operation("rm", path=path, recursive=True)

    async def rename_item(self, old_path: str, new_name: str) -> dict[str, Any]:
        """Give a file or folder another name in the same folder."""
        target = f"{old_path.rstrip('/').rpartition('/')[0]}/{new_name}"
        return await self.execute_vfs_operation("rename", old_path=old_path, new_path=target)

    async def move_item(self, source_path: str, target_path: str) -> dict[str, Any]:
        """Move a file or folder."""
        return await self.execute_vfs_operation("move", source_path=source_path, target_path=target_path)

    async def get_vfs_statistics(self) -> dict[str, Any]:
        """Figures measured from the ledger; what is not measured is ``unknown``."""
        return await self.run("get_vfs_statistics", lambda: statistics(self))

    get_performance_metrics = get_vfs_statistics

    async def get_cache_statistics(self) -> dict[str, Any]:
        """Cache figures; ``unknown``, because this build measures none."""
        return await self.run(
            "get_cache_statistics", lambda: (self.call("store.info"), {"hit_rate": UNKNOWN, "entries": UNKNOWN})
        )

    async def get_index_status(self) -> dict[str, Any]:
        """Indexes over the contents; none exist before the search part."""
        return await self.run(
            "get_index_status", lambda: (self.call("store.info"), {"indexes": [], "status": "absent"})
        )

    async def get_vfs_journal(
        self, backend_filter: str | None = None, search_query: str | None = None, limit: int = 100
    ) -> dict[str, Any]:
        """Recorded operations on the VFS, newest first; data: entries, total."""
        return await self.run("get_vfs_journal", lambda: journal(self, backend_filter, search_query, limit))

    def get_pin_index_zero_copy_sync(
        self, limit: int | None = None, filters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The pin index as Arrow: fails, typed and recorded, until the search part is there."""
        return self.answer("get_pin_index_zero_copy", lambda: self._absent("vfs.get_pin_index_zero_copy"))

    def get_metrics_zero_copy_sync(self, metric_types: list[str] | None = None) -> dict[str, Any]:
        """Metrics as Arrow: fails, typed and recorded, until the monitoring part is there."""
        return self.answer("get_metrics_zero_copy", lambda: self._absent("vfs.get_metrics_zero_copy"))

    async def get_pin_index_zero_copy(
        self, limit: int | None = None, filters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As ``get_pin_index_zero_copy_sync``."""
        answer: dict[str, Any] = await self.thread(lambda: self.get_pin_index_zero_copy_sync(limit, filters))
        return answer

    async def get_metrics_zero_copy(self, metric_types: list[str] | None = None) -> dict[str, Any]:
        """As ``get_metrics_zero_copy_sync``."""
        answer: dict[str, Any] = await self.thread(lambda: self.get_metrics_zero_copy_sync(metric_types))
        return answer

    def _absent(self, name: str) -> Any:
        error = Unsupported("Arrow views come with the search and monitoring parts; use pin.list or the statistics")
        return self.refuse(name, {}, error)

    async def cleanup(self) -> None:
        """Seal if asked for, and release the store."""
        await self.thread(self.close) if self.compute_layer is None else self.close()
