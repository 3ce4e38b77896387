"""VFSObservabilityManager and the VFS as agents see it: recorded, found after a restart, measured or unknown."""

from __future__ import annotations

from pathlib import Path

import anyio

from ipfs_kit import Kit
from ipfs_kit_py.mcp.ipfs_kit.backends.vfs_observer import VFSObservabilityManager
from ipfs_kit_py.mcp.ipfs_kit.vfs import VFSManager


def test_logged_operations_and_figures_survive_a_restart(tmp_path: Path) -> None:
    first = VFSObservabilityManager(storage_path=str(tmp_path / "s"))
    nothing = anyio.run(first.get_cache_statistics)
    assert (nothing["success"], nothing["data"]["hit_rate"]) == (True, "unknown")
    assert first.log_vfs_operation("s3", "read", "/a", duration_ms=20.0, details="slow", size_class="big")
    assert first.log_vfs_operation("s3", "cache_hit", "/a")
    assert first.log_vfs_operation("local", "write", "/b", success=False, details={"why": "full"})
    first.close()
    manager = VFSObservabilityManager(storage_path=str(tmp_path / "s"))
    rows = anyio.run(manager.get_vfs_journal)["data"]["entries"]
    assert [(row["backend"], row["operation"], row["status"]) for row in rows] == [
        ("local", "write", "error"), ("s3", "cache_hit", "success"), ("s3", "read", "success"),
    ]  # fmt: skip
    assert (rows[2]["duration_ms"], rows[2]["details"]) == (20.0, {"text": "slow", "size_class": "big"})
    assert rows[1]["duration_ms"] is None
    assert len(anyio.run(manager.get_vfs_journal, "s3")["data"]["entries"]) == 2
    assert len(anyio.run(manager.get_vfs_journal, None, "FULL")["data"]["entries"]) == 1
    figures = anyio.run(manager.get_vfs_statistics)["data"]
    published = {
        "cache_performance", "vector_index_status", "knowledge_base_status", "filesystem_metrics", "access_patterns",
        "resource_utilization", "recommendations",
    }  # fmt: skip
    assert published <= figures.keys()
    assert figures["knowledge_base_status"] == "unknown"
    assert (figures["cache_performance"]["hits"], figures["cache_performance"]["hit_rate"]) == (1, 1.0)
    assert figures["backends"]["local"]["error_rate"] == 1.0
    assert figures["backends"]["local"]["duration_ms_mean"] == "unknown"
    latency = [one for one in figures["recommendations"] if one["topic"] == "latency"]
    assert [(one["value"], one["threshold"]) for one in latency] == [(20.0, 10.0)]
    assert anyio.run(manager.get_vector_index_statistics)["data"]["vector_index_status"] == "unknown"
    assert anyio.run(manager.get_knowledge_base_statistics)["data"]["knowledge_base_status"] == "unknown"
    assert manager.flush_to_dataset()["success"] is False
    manager.close()


def test_the_vfs_of_agents_works_persists_and_records_under_its_stream(tmp_path: Path) -> None:
    async def use(manager: VFSManager) -> None:
        assert (await manager.execute_vfs_operation("write", path="/a/b.txt", content="hello"))["success"]
        assert (await manager.create_folder("/", "d"))["success"]
        assert (await manager.move_item("/a/b.txt", "/d/b.txt"))["success"]
        assert (await manager.rename_item("/d/b.txt", "c.txt"))["success"]
        gone = await manager.execute_vfs_operation("cat", path="/a/b.txt")
        assert (gone["success"], gone["error_type"]) == (False, "path_not_found")

    manager = VFSManager(enable_dataset_storage=True, storage_path=tmp_path / "s")
    anyio.run(use, manager)
    assert manager.flush_to_dataset()["success"]
    manager.cleanup()
    again = VFSManager(storage_path=tmp_path / "s")
    listed = anyio.run(again.list_files, "/d")["data"]["items"]
    assert [item["name"] for item in listed] == ["c.txt"]
    assert anyio.run(again.delete_item, "/d/c.txt")["success"]
    assert anyio.run(again.get_vfs_journal)["data"]["total"] >= 6
    again.cleanup()
    with Kit.open(tmp_path / "s") as kit:
        streams = kit.ledger.sql("SELECT DISTINCT stream FROM ops WHERE operation LIKE 'files.%'").rows
        assert [tuple(row) for row in streams] == [("mcp_vfs",)]
