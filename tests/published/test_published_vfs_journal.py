"""VFSJournalManager and the journal's operations: what was entered is found, counted and exported alike."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet
import pytest

from ipfs_kit import InvalidInput, Kit
from ipfs_kit_py.mcp.ipfs_kit.backends.vfs_journal import VFSJournalManager


def enter(manager: VFSJournalManager) -> None:
    manager.add_journal_entry(
        "s3", "file_operations", "write", "/a", details={"duration_ms": 4.0, "size": 10, "k": "Q"}
    )
    manager.add_journal_entry("s3", "file_operations", "read", "/a", details={"duration_ms": 2.0})
    manager.add_journal_entry("local", "directory_operations", "mkdir", "/d", "error", {"why": "no room"})
    manager.add_journal_entry("local", "cache_operations", "cache_hit", "/a")


def test_entries_are_found_counted_and_exported_alike_after_a_restart(tmp_path: Path) -> None:
    first = VFSJournalManager(tmp_path / "s")
    enter(first)
    first.close()
    manager = VFSJournalManager(tmp_path / "s")
    found = manager.get_journal_entries()
    assert [(each["backend"], each["operation"], each["success"]) for each in found] == [
        ("local", "cache_hit", True), ("local", "mkdir", False), ("s3", "read", True), ("s3", "write", True),
    ]  # fmt: skip
    assert (found[3]["duration_ms"], found[3]["size"], found[3]["details"]) == (4.0, 10, {"k": "Q"})
    assert manager.get_journal_entries(limit=2) == found[:2]
    assert manager.get_journal_entries(backend="s3") == found[2:]
    assert manager.get_journal_entries(operation_type="cache_operations") == found[:1]
    assert (
        manager.get_journal_entries(status="error") == manager.get_journal_entries(search_term="NO ROOM") == found[1:2]
    )
    assert manager.get_journal_entries(hours=1) == found
    figures = manager.get_backend_statistics()
    assert {name: each["operations"] for name, each in figures.items()} == {"local": 2, "s3": 2}
    assert figures["s3"]["duration_ms_mean"] == 3.0
    assert figures["local"]["duration_ms_mean"] is None
    assert (figures["local"]["error_rate"], figures["s3"]["error_rate"]) == (0.5, 0.0)
    line = manager.get_operation_timeline()
    assert sum(part["count"] for part in line) == len(found) == sum(each["operations"] for each in figures.values())
    assert sum(part["failed"] for part in line) == 1
    assert json.loads(manager.export_journal()) == found
    rows = list(csv.DictReader(io.StringIO(manager.export_journal(format="csv"))))
    assert [row["op_id"] for row in rows] == [each["op_id"] for each in found]
    assert json.loads(rows[3]["details"]) == {"k": "Q"}
    with pytest.raises(InvalidInput, match="json and csv"):
        manager.export_journal(format="xml")
    manager.close()


def test_clearing_hides_from_this_object_and_loses_nothing(tmp_path: Path) -> None:
    manager = VFSJournalManager(tmp_path / "s")
    enter(manager)
    assert manager.clear_journal("s3") == 2
    manager.add_journal_entry("s3", "file_operations", "delete", "/a")
    assert [each["operation"] for each in manager.get_journal_entries()] == ["delete", "cache_hit", "mkdir"]
    assert {name: each["operations"] for name, each in manager.get_backend_statistics().items()} == {
        "local": 2,
        "s3": 1,
    }
    assert sum(part["count"] for part in manager.get_operation_timeline()) == 3
    assert manager.clear_journal() == 3
    assert manager.get_journal_entries() == []
    assert manager.get_backend_statistics() == {}
    manager.close()
    with Kit.open(tmp_path / "s") as kit:
        assert kit.vfs_journal.statistics().operations == 5


def test_rotation_into_batches_and_segments_loses_nothing(tmp_path: Path) -> None:
    manager = VFSJournalManager(tmp_path / "s", enable_dataset_storage=True, dataset_batch_size=10)
    ids = [manager.add_journal_entry("b", "file_operations", "write", f"/{n}") for n in range(35)]
    assert len(set(ids)) == 35
    assert manager.flush_to_dataset()["success"]
    manager.kit.call("ledger.seal")
    ids += [manager.add_journal_entry("b", "file_operations", "write", f"/{n}") for n in range(35, 40)]
    manager.close()
    again = VFSJournalManager(tmp_path / "s")
    assert [each["op_id"] for each in again.get_journal_entries(limit=None)] == ids[::-1]
    assert again.get_backend_statistics()["b"]["operations"] == 40
    again.close()


def test_own_file_operations_stand_in_the_journal_as_the_ledger_has_them(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/f", text="one")
        kit.files.read("b:/f")
        kit.files.mv("b:/f", "b:/g")
        with pytest.raises(Exception, match="nothing is at"):
            kit.files.read("b:/f")
        kit.files.rm("b:/g")
        kit.stream.append(
            "vfs_journal", events=[{"operation_type": "file_operations", "operation": "write", "backend": "s3"}]
        )
    with Kit.open(tmp_path / "s") as kit:
        page = kit.vfs_journal.query()
        assert [(row.source, row.backend, row.operation, row.status) for row in page.rows] == [
            ("entry", "s3", "write", "success"), ("call", "embedded", "delete", "success"),
            ("call", "embedded", "read", "error"), ("call", "embedded", "move", "success"),
            ("call", "embedded", "read", "success"), ("call", "embedded", "write", "success"),
        ]  # fmt: skip
        sql = kit.ledger.sql("SELECT op_id FROM ops WHERE operation LIKE 'files.%' ORDER BY time DESC").rows
        assert [row.op_id for row in page.rows[1:]] == [row[0] for row in sql]
        paged, cursor = [], None
        while True:
            part = kit.vfs_journal.query(limit=1, cursor=cursor)
            paged += part.rows
            cursor = part.cursor
            if cursor is None:
                break
        assert paged == page.rows
        assert [row.operation for row in kit.vfs_journal.query(backend="embedded", status=["error"]).rows] == ["read"]
        assert sum(one.operations for one in kit.vfs_journal.statistics().backends) == 6
        assert kit.vfs_journal.timeline().total == 6
        for name in ("json", "jsonl", "csv", "parquet"):
            made = kit.vfs_journal.export(str(tmp_path / name), file_format=name)
            assert (made.rows, made.size) == (6, (tmp_path / name).stat().st_size)
        assert pyarrow.parquet.read_table(tmp_path / "parquet")["op_id"].to_pylist() == [row.op_id for row in page.rows]
        with pytest.raises(InvalidInput, match="cursor"):
            kit.vfs_journal.query(cursor="main:x")


def test_an_erased_person_leaves_no_path_in_the_journal(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append(
            "vfs_journal", events=[{"operation_type": "file_operations", "operation": "write", "path": "/me"}]
        )
        (row,) = kit.vfs_journal.query(calls=False).rows
        subject = kit.ledger.show(row.op).actor
        kit.ledger.erase(subject)
        (row,) = kit.vfs_journal.query(calls=False).rows
        assert (row.erased, row.path, row.backend, row.operation) == (True, None, None, None)
        assert kit.vfs_journal.statistics(calls=False).backends[0].backend == "unknown"
