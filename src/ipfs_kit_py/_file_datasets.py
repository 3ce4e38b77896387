"""Files and folders kept as datasets: content in one bucket, each version a pin and a small record beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipfs_kit import KitError
from ipfs_kit.errors import AlreadyExists, Conflict
from ipfs_kit_py._dataset_records import BUCKET, RECORDS, DatasetRecords
from ipfs_kit_py._journal_words import dataset_id as named
from ipfs_kit_py._shape import shape


class FileDatasets(DatasetRecords):
    """What the published dataset classes share."""

    def is_available(self) -> bool:
        """Whether datasets can be stored here: always, by the embedded store."""
        return True

    def _store(
        self,
        path: str | Path,
        metadata: dict[str, Any] | None,
        *,
        dataset_id: str | None = None,
        expected: str | None = None,
    ) -> dict[str, Any]:
        local = os.path.abspath(os.path.expanduser(path))
        name = dataset_id or named(local)
        try:
            self._ensure()
            if expected is not None and expected != str(self.call("store.add", path=local, only_hash=True).value.cid):
                raise Conflict(f"{local} does not have the CID {expected}: nothing was stored")
            done = self.call("files.put", source=local, path=f"{BUCKET}:/{name}")
            given = {"dataset_id": name, "metadata": dict(metadata or {})}
            self.call("versions.commit", bucket=BUCKET, message=f"store {name}", metadata=given)
            self._write(f"{RECORDS}/{name}.json", given | {"cid": str(done.value.cid)})
        except KitError as error:
            return shape("store_dataset", {"local_path": local, "metadata": metadata or {}}, error=error)
        data = {"local_path": local, "metadata": metadata or {}, "distributed": False, "cid": str(done.value.cid)}
        return shape("store_dataset", data | {"dataset_id": name}, done.op_id)

    def _load(self, identifier: str, target_path: str | Path | None) -> dict[str, Any]:
        target = str(target_path) if target_path is not None else None
        try:
            cid = self._cid_of(identifier)
            if target is None:
                target = os.path.join(tempfile.mkdtemp(prefix="ipfs-kit-"), identifier.partition("@")[0])
            done = self.call("store.get", path=str(cid), destination=target)
        except KitError as error:
            return shape("load_dataset", {"path": None}, error=error)
        return shape("load_dataset", {"path": target, "cid": str(cid)}, done.op_id)

    def _version(
        self,
        dataset_id: str,
        version: str,
        parent_version: str | None = None,
        transformations: Sequence[Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        told = {
            "dataset_id": dataset_id, "version": version, "parent_version": parent_version,
            "transformations": list(transformations or ()), "metadata": dict(metadata or {}),
        }  # fmt: skip
        try:
            place = f"{RECORDS}/{dataset_id}/{version}.json"
            if self._read(place) is not None:
                raise AlreadyExists(f"{dataset_id} has a version {version}, and versions do not change: choose another")
            told["cid"] = str(self._cid_of(dataset_id))
            self.call("pin.add", path=told["cid"], name=f"datasets/{dataset_id}@{version}", replace=True)
            done = self._write(place, told)
        except KitError as error:
            return shape("version_dataset", {"version": version, "metadata": metadata or {}}, error=error)
        return shape("version_dataset", told, done)

    def get_metadata(self, identifier: str) -> dict[str, Any] | None:
        """What was said of a dataset (ID), or of a version (ID@VERSION) of it; None when there is none."""
        dataset, _, version = identifier.partition("@")
        try:
            found = self._read(f"{RECORDS}/{dataset}/{version}.json" if version else f"{RECORDS}/{dataset}.json")
        except KitError:
            return None
        return None if found is None else {**found["metadata"], "cid": found["cid"], "dataset_id": found["dataset_id"]}
