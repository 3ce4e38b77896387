"""Watches a journal: figures, alerts that fire once, callbacks; every check is one recorded operation."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipfs_kit import InvalidInput, KitError, to_json
from ipfs_kit.monitoring.journal_monitor import THRESHOLDS
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._journal import BUCKET, ensure_journal
from ipfs_kit_py._journal_alerts import JournalAlerts
from ipfs_kit_py._journal_pictures import JournalVisualization

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "JournalHealthMonitor", "JournalVisualization"]


class JournalHealthMonitor(JournalAlerts):
    """Checks a journal at an interval, in a thread of its own.

    Args:
        journal: A ``FilesystemJournal``: its store is watched; the default store when left out.
        backend: Kept as an attribute.
        check_interval: Seconds between checks; 0 checks on request only.
        alert_callback: Called with each alert raised or cleared, once.
        stats_dir: Kept as an attribute: what was measured lies in the stream ``fs_monitor``.
    """

    def __init__(
        self,
        journal: Any = None,
        backend: Any = None,
        check_interval: float = 60,
        alert_callback: Callable[[dict[str, Any]], object] | None = None,
        stats_dir: str | Path | None = "~/.ipfs_kit/journal_stats",
        enable_dataset_storage: bool = False,
        ipfs_client: Any = None,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        path = storage_path if journal is None else journal.storage_path
        options = (ipfs_client, enable_dataset_storage, False, dataset_batch_size)
        super().__init__(__name__, path, *options, stream="fs_monitor")
        self.journal, self.backend, self.check_interval = journal, backend, check_interval
        self.alert_callback, self.stats_dir = alert_callback, stats_dir
        self.thresholds = dict(THRESHOLDS)
        self._stop = threading.Event()
        ensure_journal(self)
        self._thread = threading.Thread(target=self._watch, name="journal-monitor", daemon=True)
        if check_interval > 0:
            self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self.check_interval):
            try:
                self.collect_stats()
            except KitError as error:  # the next check tries again
                logging.getLogger(__name__).warning("the journal was not checked: %s", error)

    def collect_stats(self) -> dict[str, Any]:
        """Measure now, record the figures and tell what changed; the published health with ``stats`` and ``issues``."""
        found = self.call("journal.check", journal=BUCKET, thresholds=self.thresholds).value
        stats = to_json(found.figures)
        numbers = {name: value for name, value in stats.items() if isinstance(value, int | float)}
        events = [{"metric": f"journal.{name}", "value": float(value)} for name, value in numbers.items()]
        self.call("stream.append", stream="fs_monitor", events=events)
        changed = {*found.raised, *found.cleared}
        if changed and self.alert_callback is not None:
            told = {each["type"]: each for each in reversed(self.get_alerts(len(changed) * 2))}
            for rule in sorted(changed):
                self.alert_callback(told.get(rule, {"type": rule, "state": "cleared"}))
        issues = [to_json(issue) for issue in found.issues]
        return {"status": found.status, "stats": stats, "issues": issues, "timestamp": time.time_ns() / 1e9}

    def get_health_status(self) -> dict[str, Any]:
        """The journal's health as it is now: status, stats, issues, thresholds and the transactions open."""
        return {**self.collect_stats(), "thresholds": dict(self.thresholds)}

    def set_threshold(self, name: str, value: float) -> bool:
        """Change a threshold of this monitor."""
        if name not in self.thresholds:
            raise InvalidInput(f"there is no threshold {name!r}: they are {', '.join(self.thresholds)}")
        self.thresholds[name] = float(value)
        return True

    def stop(self) -> None:
        """End the checks and release the store."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.close()
