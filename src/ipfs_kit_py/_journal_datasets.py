"""Datasets kept in the published journal: stored, versioned, and the logs of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipfs_kit import KitError
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._journal import BUCKET, ENTRIES_MAX
from ipfs_kit_py._journal_words import dataset_id
from ipfs_kit_py._shape import shape


class JournalDatasets(Adapter):
    """What a journal does with datasets; each step is an entry of kind ``dataset``."""

    def store_dataset(self, dataset_path: str | Path, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
        """Put a local file or folder into the journal's bucket; data: local_path, metadata, distributed, cid."""
        place = f"/datasets/{dataset_id(dataset_path)}"
        try:
            done = self.call("files.put", source=str(dataset_path), path=f"{BUCKET}:{place}")
            self._enter(place, {"step": "store", "dataset_id": dataset_id(dataset_path), "metadata": metadata or {}})
        except KitError as error:
            return shape("store_dataset", error=error)
        data = {"local_path": str(dataset_path), "metadata": metadata or {}, "distributed": False}
        return shape("store_dataset", {**data, "cid": str(done.value.cid)}, done.op_id)

    def version_dataset(
        self,
        dataset_id: str,
        version: str,
        parent_version: str | None = None,
        transformations: Sequence[Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Name the dataset's present content as a version; data: version, metadata."""
        given = {"parent_version": parent_version, "transformations": list(transformations or ())}
        try:
            cid = str(self.call("files.stat", path=f"{BUCKET}:/datasets/{dataset_id}").value.cid)
            told = {"step": "version", "dataset_id": dataset_id, "version": version, "cid": cid, **given}
            entered = self._enter(f"/datasets/{dataset_id}", {**told, "metadata": metadata or {}})
        except KitError as error:
            return shape("version_dataset", error=error)
        return shape("version_dataset", {"version": version, "cid": cid, "metadata": metadata or {}}, entered)

    def get_dataset_event_log(self) -> list[dict[str, Any]]:
        """What was done with datasets, oldest first: operation, path, success."""
        return [
            {"operation": each.details.get("step"), "path": each.path, "success": each.status == "completed"}
            for each in self._dataset_entries()
        ]

    def get_dataset_provenance_log(self) -> list[dict[str, Any]]:
        """Versions, oldest first: dataset_id, version, parent_version, transformations."""
        wanted = ("dataset_id", "version", "parent_version", "transformations")
        return [
            {name: each.details.get(name) for name in wanted}
            for each in self._dataset_entries()
            if each.details.get("step") == "version"
        ]

    def _enter(self, path: str, details: dict[str, Any]) -> str | None:
        given = {"kind": "dataset", "path": path, "status": "completed", "details": details}
        return self.call("journal.add", journal=BUCKET, **given).op_id

    def _dataset_entries(self) -> list[Any]:
        found = self.call("journal.entries", journal=BUCKET, limit=ENTRIES_MAX).value.entries
        return [each for each in reversed(found) if each.operation_type == "dataset"]
