"""The catalogue of a store's buckets: true counts and sizes, search, metrics that add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipfs_kit import KitError, to_json
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS, Adapter
from ipfs_kit_py._shape import shape

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "EnhancedBucketIndex", "format_size"]


def format_size(size_bytes: float) -> str:
    """Bytes as people read them, in powers of 1024."""
    size, units = float(size_bytes), ["B", "KB", "MB", "GB", "TB", "PB"]
    while abs(size) >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "B" else f"{size:.2f} {units[0]}"


class EnhancedBucketIndex(Adapter):
    """Buckets as they stand: every answer is computed from the store, so that there is nothing to fall behind.

    Args:
        index_dir: The store's directory; that of the manager, else the default one, when left out.
        bucket_vfs_manager: A manager whose store is used when no directory is given.
    """

    def __init__(
        self,
        index_dir: str | Path | None = None,
        bucket_vfs_manager: Any = None,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        given = index_dir or storage_path
        super().__init__(
            __name__,
            given if given or bucket_vfs_manager is None else bucket_vfs_manager.storage_path,
            None,
            enable_dataset_storage,
            enable_compute_layer,
            dataset_batch_size,
            stream="bucket",
        )
        self.index_dir, self.bucket_vfs_manager = self.storage_path, bucket_vfs_manager

    @property
    def bucket_index(self) -> dict[str, dict[str, Any]]:
        """Every bucket by name."""
        return {each["name"]: each for each in self._found()}

    def _found(self, **given: Any) -> list[dict[str, Any]]:
        return [_row(each) for each in to_json(self.call("bucket.catalogue", **given).value)["buckets"]]

    def update_from_bucket_manager(self) -> dict[str, Any]:
        """Read the buckets again; data: buckets."""
        return self.refresh_index()

    def refresh_index(self) -> dict[str, Any]:
        """Read the buckets again; data: buckets."""
        try:
            done = self.call("bucket.catalogue")
        except KitError as error:
            return shape("refresh_index", error=error)
        return shape("refresh_index", {"buckets": len(done.value.buckets)}, done.op_id)

    def list_buckets(self, detailed: bool = False) -> list[Any]:
        """Names of the buckets, or all that is known of each."""
        return self._found() if detailed else [each["name"] for each in self._found(days=0)]

    def get_bucket_info(self, bucket_name: str) -> dict[str, Any] | None:
        """What is known of a bucket; None when there is none."""
        found = self._found(text=bucket_name, within="name")
        return next((each for each in found if each["name"] == bucket_name), None)

    def search_buckets(self, query: str, search_type: str = "all") -> list[dict[str, Any]]:
        """Buckets whose name, type, structure or metadata (or all of them) holds a text."""
        return self._found(text=query, within=search_type)

    def get_bucket_types(self) -> dict[str, int]:
        """How many buckets there are of each type."""
        return {name: each.buckets for name, each in self.call("bucket.catalogue", days=0).value.by_type.items()}

    def get_comprehensive_metrics(self) -> dict[str, Any]:
        """Sums over all buckets, by type and structure, the largest ones, and growth over a week."""
        done = to_json(self.call("bucket.catalogue", days=7).value)
        rows = [_row(each) for each in done["buckets"]]
        grown = [each["size_grown"] for each in rows]
        return {
            "total_buckets": len(rows), "total_files": done["files"], "total_size_bytes": done["size"],
            "total_size_human": format_size(done["size"]), "by_type": done["by_type"], "by_structure": done["by_structure"],
            "largest_buckets": sorted(rows, key=lambda each: -(each["size_bytes"] or 0))[:10],
            "size_growth_7_days": None if None in grown else sum(grown), "unreadable_buckets": done["unreadable"],
        }  # fmt: skip


def _row(each: dict[str, Any]) -> dict[str, Any]:
    return {**each, "file_count": each["files"], "size_bytes": each["size"]}
