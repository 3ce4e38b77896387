"""Records of datasets kept as files: what each version holds and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ipfs_kit import CID
from ipfs_kit.errors import NotFound
from ipfs_kit_py._adapter import Adapter

BUCKET = "datasets"
RECORDS = f"{BUCKET}:/.versions"


class DatasetRecords(Adapter):
    """One JSON file for each dataset and version, beside the content and versioned with it."""

    def _cid_of(self, identifier: str) -> CID:
        """The content that a CID, ID or ID@VERSION names."""
        dataset, _, version = identifier.partition("@")
        if version:
            found = self._read(f"{RECORDS}/{dataset}/{version}.json")
            if found is None:
                raise NotFound(f"{dataset} has no version {version}")
            return CID.parse(found["cid"])
        try:
            return self.kit.engine.buckets.stat(f"{BUCKET}:/{identifier}").cid
        except (NotFound, ValueError):
            return CID.parse(identifier)

    def _names(self) -> list[str]:
        """Names of all datasets."""
        buckets = self.kit.engine.buckets
        if not buckets.exists(BUCKET) or not buckets.exists_at(RECORDS):
            return []
        paths = (each.path for each in buckets.walk(RECORDS) if each.kind == "file" and each.path.count("/") == 2)
        return [path.rpartition("/")[2].removesuffix(".json") for path in paths]

    def _records(self) -> Iterator[dict[str, Any]]:
        """Versions of all datasets, oldest first."""
        buckets = self.kit.engine.buckets
        if not buckets.exists(BUCKET) or not buckets.exists_at(RECORDS):
            return
        found = [each for each in buckets.walk(RECORDS) if each.kind == "file" and each.path.count("/") > 2]
        for each in sorted(found, key=lambda stat: (stat.mtime_ns or 0, stat.path)):
            record = self._read(f"{BUCKET}:{each.path}")
            if record is not None:
                yield record

    def _ensure(self) -> None:
        if not self.kit.engine.buckets.exists(BUCKET):
            self.call("bucket.create", name=BUCKET, metadata={"made_by": "ipfs_datasets_integration"})

    def _write(self, place: str, record: dict[str, Any]) -> str | None:
        self.call("files.write", path=place, text=json.dumps(record, sort_keys=True))
        return self.call("versions.commit", bucket=BUCKET, message=f"record {place}").op_id

    def _read(self, place: str) -> dict[str, Any] | None:
        buckets = self.kit.engine.buckets
        if not buckets.exists(BUCKET) or not buckets.exists_at(place):
            return None
        return dict(json.loads(buckets.cat(place)))
