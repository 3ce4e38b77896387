"""The virtual file system as agents see it: the published class over one store, every call one recorded operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipfs_kit_py import _vfs_manager
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "VFSManager"]


class VFSManager(_vfs_manager.VFSManager):
    """ls, cat, write, mkdir, rmdir, rm, info, rename, move and copy; the calls belong to the stream ``mcp_vfs``.

    Args:
        enable_dataset_storage: Gather calls into batches with a CID.
        enable_compute_layer: Run work on a pool of its own.
        ipfs_client: A Kit whose store is used; anything else is kept as an attribute.
        dataset_batch_size: Calls that make a batch.
        storage_path: The store's directory; the default store when left out.
    """

    def __init__(
        self,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        ipfs_client: Any = None,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        super().__init__(
            enable_dataset_storage,
            enable_compute_layer,
            dataset_batch_size,
            storage_path=storage_path,
            ipfs_client=ipfs_client,
        )
        self.stream = "mcp_vfs"

    def cleanup(self) -> None:  # type: ignore[override]
        """Seal if asked for, and release the store."""
        self.close()
