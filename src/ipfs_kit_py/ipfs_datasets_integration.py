"""Datasets of files: store, load, version, provenance; the same CID with or without a daemon."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._datasets_manager import STREAM, IPFSDatasetsManager
from ipfs_kit_py._file_datasets import FileDatasets

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "DatasetIPFSBackend",
    "IPFSDatasetsManager",
    "get_ipfs_datasets_manager",
    "reset_manager",
]


class DatasetIPFSBackend(FileDatasets):
    """Stores files and folders under their CIDs.

    Args:
        base_path: The store's directory; the default store when left out.
        enable_distributed: Kept as an attribute: results say ``distributed: False`` until a node is connected.
    """

    def __init__(
        self,
        ipfs_client: Any = None,
        base_path: str | Path | None = None,
        enable_distributed: bool = True,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        super().__init__(__name__, base_path or storage_path, ipfs_client, stream=STREAM)
        self.base_path, self.enable_distributed = self.storage_path, enable_distributed

    def store_dataset(self, dataset_path: str | Path, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Store a file or folder; data: local_path, metadata, distributed, cid."""
        return self._store(dataset_path, metadata)

    def load_dataset(self, identifier: str, target_path: str | Path | None = None) -> dict[str, Any]:
        """Write the content of a CID, ID or ID@VERSION to a local path, a new temporary one when none is given."""
        return self._load(identifier, target_path)

    def version_dataset(self, dataset_id: str, version: str, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Keep the present content under a name that never changes."""
        return self._version(dataset_id, version, metadata=metadata)


_manager: list[IPFSDatasetsManager] = []
_guard = threading.Lock()


def get_ipfs_datasets_manager(ipfs_client: Any = None, enable: bool = True) -> IPFSDatasetsManager:
    """The process's one manager."""
    with _guard:
        if not _manager:
            _manager.append(IPFSDatasetsManager(ipfs_client, enable))
        return _manager[0]


def reset_manager() -> None:
    """Close and forget the process's manager."""
    with _guard:
        while _manager:
            _manager.pop().close()
