"""The class of the published version tracker."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ipfs_kit import Kit, Result, to_json
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._versions import history, metadata_of, state_of


class VFSVersionTracker(Adapter):
    """Takes, lists, compares and brings back versions of the folder ``vfs_root`` (by default ``~/.ipfs_kit``)."""

    def __init__(
        self,
        vfs_root: str | Path | None = None,
        ipfs_client: Any = None,
        enable_auto_versioning: bool = True,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        given = (enable_dataset_storage, enable_compute_layer, dataset_batch_size)
        super().__init__("ipfs_kit_py.vfs_version_tracker", storage_path, ipfs_client, *given, stream="versions")
        self.vfs_root = Path(os.path.expanduser(vfs_root if vfs_root is not None else "~/.ipfs_kit"))
        self.enable_auto_versioning = enable_auto_versioning
        # A path may name a person: the bucket is called by its digest.
        self.bucket = "vfs-" + hashlib.sha256(os.fsencode(os.path.realpath(self.vfs_root))).hexdigest()[:16]

    def ready(self) -> Kit:
        """The store, with the folder's bucket and the folder made when they were not there."""
        if not self.kit.engine.buckets.exists(self.bucket):
            self.call("bucket.create", name=self.bucket)
        self.vfs_root.mkdir(parents=True, exist_ok=True)
        return self.kit

    def folder_status(self) -> Result:
        """The folder against its newest version."""
        self.ready()
        return self.call("versions.folder_status", folder=str(self.vfs_root), state=self.bucket, limit=10_000)

    async def get_current_head(self) -> str | None:
        """The newest version; None before the first."""
        head = await self.thread(lambda: self.ready().bucket.info(self.bucket).head)
        return str(head) if head is not None else None

    async def set_current_head(self, version_cid: str) -> dict[str, Any]:
        """Let the newest version be another one; the folder stays as it is, and undo brings the old head back."""
        given = {"bucket": self.bucket, "target": str(version_cid), "hard": True}
        return await self.run("set_current_head", lambda: (self.ready(), self.call("versions.reset", **given))[1])

    async def scan_filesystem(self, include_buckets: bool = True, include_metadata: bool = True) -> dict[str, Any]:
        """The folder as it is now: root CID, files, bytes, what changed; with buckets, those of the store."""
        return await self.run("scan_filesystem", lambda: state_of(self, include_buckets, include_metadata))

    async def compute_filesystem_hash(self, filesystem_state: dict[str, Any]) -> str:
        """The hash of a scanned state: the CID of the folder's content."""
        return str(filesystem_state["root_cid"])

    async def has_filesystem_changed(self) -> bool:
        """Whether the folder differs from its newest version, or has none."""
        if await self.get_current_head() is None:
            return True
        return bool((await self.thread(self.folder_status)).value.count)

    async def create_version_snapshot(
        self, commit_message: str = "Automated filesystem snapshot", author: str = "VFS-Tracker", force: bool = False
    ) -> dict[str, Any]:
        """Make the folder's content a version; data: version_cid, root_cid, created, files, changed."""

        def work() -> tuple[Result, dict[str, Any]]:
            self.ready()
            given = {"folder": str(self.vfs_root), "bucket": self.bucket, "message": commit_message, "force": force}
            done = self.call("versions.snapshot", metadata=metadata_of(author), **given)
            shown = to_json(done.value)
            return done, {**shown, "version_cid": shown["commit"], "root_cid": shown["root"]}

        return await self.run("create_version_snapshot", work)

    async def get_version_history(self, limit: int = 20) -> list[dict[str, Any]]:
        """Versions, newest first, each with its parents."""
        found: list[dict[str, Any]] = await self.thread(lambda: history(self, limit))
        return found

    async def checkout_version(self, version_cid: str, force: bool = False) -> dict[str, Any]:
        """Bring a version's content back into the folder; what no version holds stops it unless forced."""
        given = {"folder": str(self.vfs_root), "state": f"{self.bucket}@{version_cid}", "force": force}
        return await self.run(
            "checkout_version", lambda: (self.ready(), self.call("versions.folder_restore", **given))[1]
        )

    async def get_filesystem_status(self) -> dict[str, Any]:
        """The folder against its newest version; data: current_head, has_changes, added, modified, deleted."""
        return await self.run("get_filesystem_status", lambda: state_of(self, False, True))
