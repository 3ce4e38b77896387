"""The published journal: everything survives a restart, transactions are whole, failures are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfs_kit.errors import Conflict
from ipfs_kit_py.filesystem_journal import (
    FilesystemJournal,
    FilesystemJournalManager,
    JournalEntryStatus,
    JournalOperationType,
)

CID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"


def test_entries_completed_right_after_a_checkpoint_are_there_after_a_restart(tmp_path: Path) -> None:
    journal = FilesystemJournal(tmp_path)
    one = journal.add_journal_entry(JournalOperationType.CREATE, "/a", data={"content": b"a" * 50_000, "k": 1})
    assert journal.get_fs_state() == {}
    assert [row["entry_id"] for row in journal.get_pending_journal_entries()] == [one]
    assert journal.update_entry_status(one, JournalEntryStatus.COMPLETED)
    assert journal.create_checkpoint()
    journal.add_journal_entry("create", "/d", data={"is_directory": True}, status="completed")
    two = journal.add_journal_entry("write", "/d/b", data={"content": "later"})
    journal.close()
    journal = FilesystemJournal(tmp_path)
    assert journal.last_recovery is not None
    assert journal.last_recovery["success"]
    assert journal.last_recovery["pending"] == [two]
    found = journal.get_fs_state()
    assert {path: row["type"] for path, row in found.items()} == {"/a": "file", "/d": "directory"}
    assert (found["/a"]["size"], found["/a"]["metadata"]) == (50_000, {"k": 1})
    assert journal.update_entry_status(two, "completed")
    assert not journal.update_entry_status(two, "completed")
    assert "/d/b" in journal.get_fs_state()
    journal.close()


def test_a_manager_in_transactions(tmp_path: Path) -> None:
    journal = FilesystemJournal(tmp_path)
    manager = FilesystemJournalManager(journal)
    assert manager.create_file("/f", b"one", {"k": "v"})["success"]
    refused = manager.create_file("/f", b"again")
    assert (refused["success"], refused["error_type"]) == (False, "already_exists")
    before = journal.get_fs_state()
    journal.begin_transaction()
    with pytest.raises(Conflict):
        journal.begin_transaction()
    for done in (
        manager.create_directory("/d", {"owner": "x"}),
        manager.rename("/f", "/d/g"),
        manager.mount("/m", CID),
        manager.write_file("/w", "w"),
        manager.update_metadata("/w", {"n": 1}),
    ):
        assert done["success"], done
    assert journal.rollback_transaction()
    assert journal.get_fs_state() == before
    journal.begin_transaction()
    assert manager.mount("/m", CID)["success"]
    assert manager.delete("/f")["success"]
    assert journal.commit_transaction()
    assert not journal.commit_transaction()
    journal.close()
    journal = FilesystemJournal(tmp_path)
    found = journal.get_fs_state()
    assert {path: (row["type"], row["cid"]) for path, row in found.items()} == {"/m": ("mount", CID)}
    manager = FilesystemJournalManager(journal)
    assert manager.unmount("/m")["success"]
    stats = manager.get_journal_stats()
    assert stats["entries_by_status"] == {"completed": 4, "failed": 1, "rolled_back": 6}
    journal.close()


def test_checkpoints_come_by_themselves_after_so_many_entries(tmp_path: Path) -> None:
    journal = FilesystemJournal(tmp_path, max_journal_size=3, checkpoint_interval=3600)
    manager = FilesystemJournalManager(journal)
    for at in range(7):
        manager.write_file(f"/{at}", "x")
    assert manager.get_journal_stats()["entries_by_type"] == {"write": 7, "checkpoint": 2}
    journal.close()


def test_datasets_are_stored_versioned_and_their_logs_survive(tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    source.write_text("a,b\n1,2\n")
    journal = FilesystemJournal(tmp_path / "store")
    stored = journal.store_dataset(source, {"k": 1})
    assert (stored["success"], stored["distributed"], stored["local_path"]) == (True, False, str(source))
    assert journal.version_dataset("data.csv", "1")["success"]
    assert journal.version_dataset("data.csv", "2", "1", ["dedup"])["cid"] == stored["cid"]
    assert not journal.version_dataset("absent", "1")["success"]
    journal.close()
    journal = FilesystemJournal(tmp_path / "store")
    assert [row["operation"] for row in journal.get_dataset_event_log()] == ["store", "version", "version"]
    assert journal.get_dataset_provenance_log()[-1] == {
        "dataset_id": "data.csv",
        "version": "2",
        "parent_version": "1",
        "transformations": ["dedup"],
    }
    journal.close()


def test_with_datasets_on_a_flush_names_exactly_the_entries(tmp_path: Path) -> None:
    journal = FilesystemJournal(tmp_path, enable_ipfs_datasets=True, auto_recovery=False)
    for at in range(3):
        journal.add_journal_entry("write", f"/{at}", data={"content": "x"}, status="completed")
    flushed = journal.flush_to_dataset()
    assert (flushed["success"], flushed["count"]) == (True, 3)
    assert journal.dataset_manager is not None
    assert [row["event"]["path"] for row in journal.dataset_manager.load(flushed["cid"])] == ["/0", "/1", "/2"]
    journal.close()
