"""What the pictures of a journal show, collected, saved and loaded again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ipfs_kit.monitoring.journal_charts import data
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._journal import BUCKET, ENTRIES_MAX, ensure_journal, fs_state


class JournalStats(Adapter):
    """Figures for pictures of a journal.

    Args:
        journal: A ``FilesystemJournal``: its store is shown; the default store when left out.
        backend: Kept as an attribute, like ``monitor``.
        output_dir: Where files go when no path is given.
    """

    def __init__(
        self,
        journal: Any = None,
        backend: Any = None,
        monitor: Any = None,
        output_dir: str | Path = "~/.ipfs_kit/journal_visualizations",
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        super().__init__(__name__, storage_path if journal is None else journal.storage_path, stream="fs_monitor")
        self.journal, self.backend, self.monitor = journal, backend, monitor
        self.output_dir = Path(output_dir).expanduser()
        ensure_journal(self)

    def collect_operation_stats(self, timeframe_hours: float = 24) -> dict[str, Any]:
        """Labels and values of each picture, from the entries of the last hours and the state as it is."""
        now_ns = time.time_ns()
        since_ns = now_ns - int(timeframe_hours * 3600 * 1e9)
        entries = self.call("journal.entries", journal=BUCKET, limit=ENTRIES_MAX).value.entries
        sizes = [row["size"] for row in fs_state(self).values() if row["type"] == "file"]
        shown = data(entries, {"local": sizes}, since_ns, now_ns)
        return {"timestamp": now_ns / 1e9, "timeframe_hours": timeframe_hours, **shown}

    def save_stats(self, stats: dict[str, Any], filename: str | None = None) -> str:
        """Write collected figures as JSON and return the path."""
        path = self.output_dir / (filename or f"journal-{int(stats['timestamp'])}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stats, indent=1), encoding="utf-8")
        return str(path)

    def load_stats(self, filepath: str | Path) -> dict[str, Any]:
        """Read figures that were saved."""
        return dict(json.loads(Path(filepath).read_text(encoding="utf-8")))
