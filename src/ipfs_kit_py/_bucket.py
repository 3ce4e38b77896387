"""Buckets under their published names."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any

from ipfs_kit import Result, to_json
from ipfs_kit_py._adapter import Adapter


class BucketType(Enum):
    """What a bucket is for."""

    GENERAL = "general"
    DATASET = "dataset"
    KNOWLEDGE = "knowledge"
    MEDIA = "media"
    ARCHIVE = "archive"
    TEMP = "temp"


class VFSStructureType(Enum):
    """Views kept beside the file tree."""

    UNIXFS = "unixfs"
    GRAPH = "graph"
    VECTOR = "vector"
    HYBRID = "hybrid"


def info_of(bucket: Any) -> dict[str, Any]:
    """A bucket's facts under their published names."""
    shown = dict(to_json(bucket))
    return {
        "bucket_name": shown["name"],
        "bucket_type": shown["type"],
        "vfs_structure": shown["structure"],
        "root_cid": shown["root"],
        "cid": shown["root"],
        **shown,
    }


def described(result: Result) -> tuple[Result, dict[str, Any]]:
    """A result about a bucket with its published data."""
    return result, info_of(result.value)


def export(adapter: Adapter, bucket: str) -> tuple[Result, dict[str, Any]]:
    """Commit a bucket and write that version below ``exports/`` of the store; each export is a new file."""
    root = str(adapter.call("versions.commit", bucket=bucket, message="export").value.root)
    folder = adapter.storage_path / "exports"
    folder.mkdir(exist_ok=True)
    target = folder / f"{bucket}-{root}-{time.time_ns()}.car"
    result = adapter.call("car.export", path=root, output=str(target))
    shown = {"car_path": str(target), "bucket_name": bucket, "root_cid": root, "indexes": [], **to_json(result.value)}
    return result, shown
