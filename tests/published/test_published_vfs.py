"""The published VFS: every verb works, persists, fails with a typed error and is recorded."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest

from ipfs_kit_py import vfs_manager
from ipfs_kit_py.mcp.ai.utils import check_dependencies, initialize_all_components, setup_logging
from ipfs_kit_py.vfs_manager import VFSManager


def test_every_verb_works_and_survives_a_reopening(tmp_path: Path) -> None:
    async def work() -> None:
        vfs = VFSManager(storage_path=tmp_path / "s")
        do = vfs.execute_vfs_operation
        assert (await do("write", path="/a/x.bin", content=b"\x00\x01"))["success"]
        assert (await vfs.create_folder("/a", "empty"))["success"]
        assert [item["name"] for item in (await vfs.list_files("/a"))["items"]] == ["empty", "x.bin"]
        assert (await do("info", path="/a/x.bin"))["size"] == 2
        assert (await do("copy", source_path="/a/x.bin", target_path="/y.bin"))["success"]
        assert (await vfs.rename_item("/y.bin", "z.bin"))["success"]
        assert (await vfs.move_item("/z.bin", "/a/z.bin"))["success"]
        assert (await do("rmdir", path="/a/empty"))["success"]
        assert (await vfs.delete_item("/a/z.bin"))["success"]
        await vfs.cleanup()
        again = VFSManager(storage_path=tmp_path / "s")
        assert (await again.execute_vfs_operation("cat", path="/a/x.bin"))["content"] == b"\x00\x01"
        assert [item["name"] for item in (await again.list_files("/a"))["items"]] == ["x.bin"]
        await again.cleanup()

    anyio.run(work)


@pytest.mark.parametrize(
    ("verb", "arguments", "kind"),
    [
        ("cat", {"path": "/none"}, "path_not_found"),
        ("rmdir", {"path": "/d"}, "not_empty"),
        ("rm", {"path": "/d"}, "not_empty"),
        ("write", {"path": "../x", "content": b""}, "invalid_path"),
        ("write", {"path": "/x"}, "invalid_input"),
        ("fly", {}, "invalid_input"),
    ],
)
def test_failures_are_typed_and_recorded(tmp_path: Path, verb: str, arguments: dict[str, object], kind: str) -> None:
    vfs = VFSManager(storage_path=tmp_path / "s")

    async def work() -> dict[str, object]:
        await vfs.execute_vfs_operation("write", path="/d/f", content="x")
        return await vfs.execute_vfs_operation(verb, **arguments)

    answer = anyio.run(work)
    assert (answer["success"], answer["error_type"]) == (False, kind)
    assert vfs.kit.ledger.show(answer["correlation_id"]).error_kind == kind
    vfs.close()


def test_journal_and_statistics_come_from_the_ledger(tmp_path: Path) -> None:
    async def work() -> None:
        vfs = VFSManager(storage_path=tmp_path / "s")
        assert (await vfs.get_vfs_statistics())["error_rate"] == "unknown"
        await vfs.execute_vfs_operation("write", path="/f", content="x")
        await vfs.execute_vfs_operation("cat", path="/none")
        found = await vfs.get_vfs_statistics()
        assert found["by_operation"] == {"files.write": 1, "files.read": 1}
        assert (found["failed"], found["files"], found["total_size"]) == (1, 1, 1)
        journal = await vfs.get_vfs_journal(search_query="files.read", limit=5)
        assert [(row["path"], row["status"]) for row in journal["entries"]] == [("/none", "error")]
        await vfs.cleanup()

    anyio.run(work)


def test_global_manager_works_without_an_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPFS_KIT_STORE", str(tmp_path / "s"))
    assert vfs_manager.execute_vfs_operation_sync("write", path="/f", content="hi")["success"]
    assert vfs_manager.get_vfs_statistics_sync()["files"] == 1
    assert vfs_manager.get_global_vfs_manager() is vfs_manager.get_global_vfs_manager()
    anyio.run(vfs_manager.cleanup_global_vfs_manager)


def test_dependency_check_covers_the_published_names_and_imports_nothing() -> None:
    found = check_dependencies()
    published = "ipfs_datasets_py ipfs_accelerate_py torch transformers langchain llama_index anyio pyarrow duckdb"
    assert set(published.split()) <= set(found)
    assert all(isinstance(value, bool) for value in found.values())
    assert found["anyio"] is True


def test_what_a_later_part_brings_is_refused_with_a_typed_error() -> None:
    from ipfs_kit.errors import Unsupported

    with pytest.raises(Unsupported, match="models part"):
        initialize_all_components()


def test_setting_up_logging_changes_the_published_logger_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    published, root = logging.getLogger("ipfs_kit_py"), logging.getLogger()
    before = (root.level, list(root.handlers))
    monkeypatch.setattr(published, "handlers", [])  # what other tests say to this logger is not to be lost
    level = published.level
    try:
        assert setup_logging({"level": "WARNING"}) is published
        assert published.level == logging.WARNING
        assert len(published.handlers) == 1
        assert setup_logging().level == logging.INFO
        assert len(published.handlers) == 1
    finally:
        published.setLevel(level)
    assert (root.level, list(root.handlers)) == before
