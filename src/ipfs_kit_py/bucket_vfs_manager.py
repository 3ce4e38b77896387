"""Buckets of six types and four structures; every call is one recorded operation of the store."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ipfs_kit import NotFound, to_json
from ipfs_kit.errors import Unsupported
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS, Adapter
from ipfs_kit_py._bucket import BucketType, VFSStructureType, described, export, info_of
from ipfs_kit_py._bucket_files import BucketVFS

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "BucketType",
    "BucketVFS",
    "BucketVFSManager",
    "VFSStructureType",
    "get_global_bucket_manager",
]


class BucketVFSManager(Adapter):
    """Creates, lists, exports and deletes the buckets of one store.

    Args:
        storage_path: The store's directory; the default store when left out, never a shared temporary folder.
        ipfs_client: A Kit, anything that speaks to a node, or None.
        enable_parquet_export: Kept as an attribute for the datasets part, like ``enable_duckdb_integration``.
        enable_dataset_storage: Gather the recorded operations into a batch every ``dataset_batch_size`` calls.
        enable_compute_layer: Run calls on a pool and report the time used.
    """

    def __init__(
        self,
        storage_path: str | Path | None = None,
        ipfs_client: Any = None,
        enable_parquet_export: bool = True,
        enable_duckdb_integration: bool = True,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        dataset_batch_size: int = 100,
    ) -> None:
        super().__init__(
            __name__,
            storage_path,
            ipfs_client,
            enable_dataset_storage,
            enable_compute_layer,
            dataset_batch_size,
            stream="bucket",
        )
        self.enable_parquet_export = enable_parquet_export
        self.enable_duckdb_integration = enable_duckdb_integration

    async def create_bucket(
        self,
        bucket_name: str,
        bucket_type: BucketType | str = BucketType.GENERAL,
        vfs_structure: VFSStructureType | str = VFSStructureType.HYBRID,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Create an empty bucket; data: name, type, structure, root CID."""
        given = {"type": to_json(bucket_type), "structure": to_json(vfs_structure), "metadata": metadata}
        return await self.run("create_bucket", lambda: described(self.call("bucket.create", name=bucket_name, **given)))

    async def get_bucket(self, bucket_name: str) -> BucketVFS | None:
        """A bucket by name; None when there is none."""

        def find() -> BucketVFS | None:
            try:
                info = self.call("bucket.info", name=bucket_name).value
            except NotFound:
                return None
            return BucketVFS(
                info.name, BucketType(info.type), VFSStructureType(info.structure), self.storage_path, manager=self
            )

        found: BucketVFS | None = await self.thread(find)
        return found

    async def list_buckets(self) -> dict[str, Any]:
        """All buckets; data: buckets, total_count (a page of at most 10,000, ``truncated`` when there are more)."""

        def work() -> Any:
            result = self.call("bucket.list", limit=10_000)
            shown = [info_of(bucket) for bucket in result.value.buckets]
            return result, {"buckets": shown, "total_count": len(shown), "truncated": result.value.cursor is not None}

        return await self.run("list_buckets", work)

    async def delete_bucket(self, bucket_name: str, force: bool = False) -> dict[str, Any]:
        """Delete a bucket; one with content only with force."""
        return await self.run(
            "delete_bucket", lambda: described(self.call("bucket.delete", name=bucket_name, force=force))
        )

    async def cross_bucket_query(self, sql_query: str, bucket_filter: list[str] | None = None) -> dict[str, Any]:
        """SQL over the contents of buckets: fails, typed and recorded, until the datasets part is there."""
        given = {"query": sql_query, "buckets": bucket_filter}
        error = Unsupported("SQL over bucket contents comes with the datasets part; ledger.sql queries operations")
        return await self.run("cross_bucket_query", lambda: self.refuse("bucket.cross_bucket_query", given, error))

    async def export_bucket_to_car(self, bucket_name: str, include_indexes: bool = True) -> dict[str, Any]:
        """Write a bucket's present tree to a CAR file; data: car_path, cid, blocks, size, indexes."""
        return await self.run("export_bucket_to_car", lambda: export(self, bucket_name))


_global: dict[str, BucketVFSManager] = {}
_guard = threading.Lock()


def get_global_bucket_manager(**kwargs: Any) -> BucketVFSManager:
    """The process's one manager, made with these options at the first call; later calls ignore them."""
    with _guard:
        return _global.setdefault("manager", BucketVFSManager(**kwargs)) if not _global else _global["manager"]
