"""The published version tracker: snapshot, status, history, checkout that restores content, across restarts."""

from __future__ import annotations

import inspect
from pathlib import Path

import anyio
import pytest

from ipfs_kit_py import vfs_version_tracker
from ipfs_kit_py.vfs_version_tracker import VFSVersionTracker


def test_a_folder_is_versioned_and_brought_back_across_restarts(tmp_path: Path) -> None:
    root = tmp_path / "vfs"
    (root / "d").mkdir(parents=True)
    (root / "a").write_text("1")
    (root / "d" / "b").write_text("b")

    async def first() -> str:
        tracker = VFSVersionTracker(vfs_root=root, storage_path=tmp_path / "s", enable_dataset_storage=True)
        assert await tracker.get_current_head() is None
        assert await tracker.has_filesystem_changed()
        done = await tracker.create_version_snapshot("one", author="someone")
        assert (done["success"], done["created"], done["files"]) == (True, True, 2)
        assert not await tracker.has_filesystem_changed()
        (root / "a").write_text("2")
        (root / "d" / "b").unlink()
        (root / "new").write_text("n")
        status = await tracker.get_filesystem_status()
        assert (status["modified"], status["deleted"], status["added"]) == (["/a"], ["/d/b"], ["/new"])
        refused = await tracker.checkout_version(done["version_cid"])
        assert (refused["success"], refused["error_type"]) == (False, "conflict")
        await tracker.create_version_snapshot("two")
        assert tracker.flush_to_dataset()["success"]
        tracker.close()
        return str(done["version_cid"])

    async def second(version: str) -> None:
        tracker = VFSVersionTracker(vfs_root=root, storage_path=tmp_path / "s")
        log = await tracker.get_version_history()
        assert [(entry["message"], entry["author"]) for entry in log] == [("two", "VFS-Tracker"), ("one", "someone")]
        assert log[0]["parents"] == [version]
        assert log[0]["version_cid"] == await tracker.get_current_head()
        restored = await tracker.checkout_version(version)
        assert restored["success"]
        assert ((root / "a").read_text(), (root / "d" / "b").read_text()) == ("1", "b")
        assert not (root / "new").exists()
        state = await tracker.scan_filesystem()
        assert await tracker.compute_filesystem_hash(state) == log[1]["root_cid"]
        assert (await tracker.set_current_head(version))["success"]
        assert await tracker.get_current_head() == version
        assert not await tracker.has_filesystem_changed()
        tracker.close()

    anyio.run(second, anyio.run(first))


def test_the_functions_of_the_module_work_on_one_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPFS_KIT_STORE", str(tmp_path / "s"))
    root = tmp_path / "vfs"
    root.mkdir()

    async def work() -> None:
        tracker = vfs_version_tracker.get_global_vfs_tracker(root)
        assert vfs_version_tracker.get_global_vfs_tracker() is tracker
        (root / "f").write_text("x")
        done = await vfs_version_tracker.auto_version_filesystem()
        assert done is not None
        assert done["created"]
        assert await vfs_version_tracker.auto_version_filesystem() is None
        assert (await vfs_version_tracker.get_vfs_status())["has_changes"] is False
        assert len(await vfs_version_tracker.get_vfs_history(limit=5)) == 1
        tracker.close()

    anyio.run(work)


def test_the_signature_is_the_published_one() -> None:
    names = list(inspect.signature(VFSVersionTracker).parameters)
    assert names[:6] == [
        "vfs_root", "ipfs_client", "enable_auto_versioning", "enable_dataset_storage", "enable_compute_layer",
        "dataset_batch_size",
    ]  # fmt: skip
