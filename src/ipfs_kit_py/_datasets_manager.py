"""The published manager of datasets, with its events and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipfs_kit_py._file_datasets import FileDatasets

STREAM = "dataset"
EVENTS_MAX = 1_000
STEPS = {"files.put": "store", "store.get": "load", "pin.add": "version"}
"""Published word of each step, by the operation that does it."""


class IPFSDatasetsManager(FileDatasets):
    """Datasets with their events and provenance.

    Args:
        ipfs_client: A Kit whose store is used; the default store otherwise.
        enable: Off refuses every call and says so.
    """

    def __init__(self, ipfs_client: Any = None, enable: bool = True, *, storage_path: str | Path | None = None) -> None:
        super().__init__("ipfs_kit_py.ipfs_datasets_integration", storage_path, ipfs_client, stream=STREAM)
        self.enable = enable

    def is_available(self) -> bool:
        """Whether datasets are on."""
        return self.enable

    def store(self, path: str | Path, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Store a file or folder; data: local_path, metadata, distributed, cid."""
        return self._store(path, metadata) if self.enable else self._off()

    def load(self, identifier: str, target_path: str | Path | None = None) -> dict[str, Any]:
        """Write the content of a CID, ID or ID@VERSION to a local path; data: path."""
        return self._load(identifier, target_path) if self.enable else self._off()

    def version(
        self,
        dataset_id: str,
        version: str,
        parent_version: str | None = None,
        transformations: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """Keep the present content under a name, with what it was made from and how; data: version, metadata."""
        return self._version(dataset_id, version, parent_version, transformations) if self.enable else self._off()

    def get_event_log(self) -> list[dict[str, Any]]:
        """The newest steps, oldest first: operation, path, success."""
        rows = self.call("stream.query", stream=STREAM, limit=EVENTS_MAX).value.rows
        return [
            {"operation": STEPS[row.operation], "path": _path_of(row.event), "success": row.status == "ok"}
            for row in reversed(rows)
            if row.operation in STEPS
        ]

    def get_provenance_log(self) -> list[dict[str, Any]]:
        """Versions, oldest first: dataset_id, version, parent_version, transformations."""
        wanted = ("dataset_id", "version", "parent_version", "transformations")
        return [{name: each.get(name) for name in wanted} for each in self._records()]

    @staticmethod
    def _off() -> dict[str, Any]:
        return {"success": False, "error": "datasets are off: pass enable=True"}


def _path_of(event: Any) -> str | None:
    return event.get("source") or event.get("path") if event else None
