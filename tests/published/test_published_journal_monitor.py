"""The published journal monitor: alerts once, cleared on recovery, filters, callback, figures that are the journal's."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit.errors import InvalidInput
from ipfs_kit.monitoring.journal_charts import PLOTS
from ipfs_kit_py._journal_stats import JournalStats
from ipfs_kit_py.filesystem_journal import FilesystemJournal, FilesystemJournalManager
from ipfs_kit_py.fs_journal_monitor import JournalHealthMonitor, JournalVisualization


def test_alerts_come_once_with_callback_and_clear_on_recovery(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    journal = FilesystemJournal(tmp_path, max_journal_size=10_000, checkpoint_interval=3600)
    manager = FilesystemJournalManager(journal)
    monitor = JournalHealthMonitor(journal, check_interval=0, alert_callback=told.append)
    monitor.set_threshold("journal_size_warning", 5)
    with pytest.raises(InvalidInput):
        monitor.set_threshold("nothing", 1)
    for at in range(8):
        manager.write_file(f"/{at}", "x")
    for _ in range(3):
        manager.delete("/absent")
    first, second = monitor.get_health_status(), monitor.get_health_status()
    assert (first["status"], second["status"]) == ("critical", "critical")
    assert [issue["type"] for issue in second["issues"]] == ["journal_size", "error_rate"]
    assert first["stats"]["by_status"] == {"completed": 8, "failed": 3}
    assert sorted(alert["type"] for alert in told) == ["error_rate", "journal_size"]
    assert [alert["type"] for alert in monitor.get_alerts(severity="critical")] == ["error_rate"]
    journal.create_checkpoint()
    monitor.stop()
    monitor = JournalHealthMonitor(journal, check_interval=0, alert_callback=told.append)
    monitor.collect_stats()
    assert [(alert["type"], alert["state"]) for alert in told[2:]] == [("journal_size", "cleared")]
    assert len(monitor.get_alerts()) == 3
    assert monitor.clear_alerts("critical") == 1
    assert len(monitor.get_alerts()) == 2
    monitor.clear_alerts()
    assert monitor.get_alerts() == []
    monitor.stop()
    journal.close()


def test_a_running_monitor_checks_by_itself_and_its_figures_make_batches(tmp_path: Path) -> None:
    seen = threading.Event()
    journal = FilesystemJournal(tmp_path)
    journal.begin_transaction()
    monitor = JournalHealthMonitor(
        journal, check_interval=0.05, alert_callback=lambda alert: seen.set(), enable_dataset_storage=True
    )
    monitor.set_threshold("transaction_time_warning", 0)
    assert seen.wait(20)
    monitor.track_operation("write", 0.5)
    monitor.track_transaction("t", "committed", {"n": 1})
    flushed = monitor.flush_to_dataset()
    assert flushed["success"]
    assert monitor.dataset_manager is not None
    metrics = {row["event"]["metric"] for row in monitor.dataset_manager.load(flushed["cid"])}
    assert {"operation.duration", "transaction"} <= metrics | {"journal.entries"}
    monitor.stop()
    journal.rollback_transaction()
    journal.close()


def test_figures_for_pictures_are_the_journals_and_load_as_saved(tmp_path: Path) -> None:
    journal = FilesystemJournal(tmp_path / "store")
    manager = FilesystemJournalManager(journal)
    manager.create_file("/a", b"12345")
    manager.write_file("/b", b"123")
    manager.delete("/absent")
    stats = JournalStats(journal, output_dir=tmp_path / "out")
    found = stats.collect_operation_stats()
    assert found["entry_types"] == {"labels": ["create", "delete", "write"], "values": [1, 1, 1]}
    assert found["entry_statuses"] == {"labels": ["completed", "failed"], "values": [2, 1]}
    assert found["tier_storage_usage"] == {"labels": ["local"], "values": [8]}
    assert found["journal_growth"]["values"][-1] == 3
    assert stats.load_stats(stats.save_stats(found)) == found
    stats.close()
    journal.close()


@pytest.mark.slow
def test_the_dashboard_after_a_restart_shows_the_journals_numbers_and_names_nothing_outside(tmp_path: Path) -> None:
    journal = FilesystemJournal(tmp_path / "store")
    manager = FilesystemJournalManager(journal)
    for at in range(7):
        manager.write_file(f"/{at}", b"x" * 11)
    for _ in range(3):
        manager.delete("/absent")
    journal.close()
    pictures = JournalVisualization(output_dir=tmp_path / "out", storage_path=tmp_path / "store")
    made = pictures.create_dashboard()
    text = Path(made.pop("html_report")).read_text(encoding="utf-8")
    assert sorted(made) == sorted(PLOTS)
    assert all(Path(path).read_bytes()[:4] == b"\x89PNG" for path in made.values())
    assert text.count("<img ") == 7
    assert not re.search(r"https?:|<script|<link|src=\"(?!data:)", text)
    for row in ('write</td><td class="n">7', 'delete</td><td class="n">3', 'failed</td><td class="n">3'):
        assert f"<td>{row}</td>" in text
    assert '<td>local</td><td class="n">77</td>' in text
    stats = pictures.collect_operation_stats()
    assert stats["error_rate"]["values"][-1] == 0.3
    svg = Path(pictures.plot_error_rate(stats, tmp_path / "rate.svg"))
    assert svg.read_bytes().startswith(b"<?xml")
    with pytest.raises(InvalidInput):
        pictures.plot_entry_types({})
    pictures.close()
