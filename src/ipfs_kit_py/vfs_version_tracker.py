"""Versions of a folder: each is a commit of the folder's own bucket, with the CID of its content."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from ipfs_kit import KitError
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._version_tracker import VFSVersionTracker

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "VFSVersionTracker",
    "auto_version_filesystem",
    "get_global_vfs_tracker",
    "get_vfs_history",
    "get_vfs_status",
]


_global: list[VFSVersionTracker] = []
_guard = threading.Lock()


def get_global_vfs_tracker(
    vfs_root: str | Path | None = None, ipfs_client: Any = None, enable_auto_versioning: bool = True
) -> VFSVersionTracker:
    """The process's one tracker; another folder replaces it."""
    with _guard:
        if not _global or (vfs_root is not None and _global[0].vfs_root != Path(os.path.expanduser(vfs_root))):
            _global[:] = [VFSVersionTracker(vfs_root, ipfs_client, enable_auto_versioning)]
        return _global[0]


async def auto_version_filesystem(
    commit_message: str = "Automated versioning", force: bool = False
) -> dict[str, Any] | None:
    """A version of the process's folder when it changed; None when it did not, or automatic versions are off."""
    tracker = get_global_vfs_tracker()
    try:
        wanted = tracker.enable_auto_versioning and (force or await tracker.has_filesystem_changed())
    except KitError:
        wanted = True  # the snapshot itself says what is wrong
    return await tracker.create_version_snapshot(commit_message, force=force) if wanted else None


async def get_vfs_status() -> dict[str, Any]:
    """The process's folder against its newest version."""
    return await get_global_vfs_tracker().get_filesystem_status()


async def get_vfs_history(limit: int = 20) -> list[dict[str, Any]]:
    """Versions of the process's folder, newest first."""
    return await get_global_vfs_tracker().get_version_history(limit)
