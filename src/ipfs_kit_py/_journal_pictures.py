"""Pictures of a journal as files, and a dashboard that opens without a network."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ipfs_kit.monitoring.html_report import Section, page
from ipfs_kit.monitoring.journal_charts import PLOTS, chart
from ipfs_kit.monitoring.plots import FORMATS, render
from ipfs_kit_py._journal_stats import JournalStats


class JournalVisualization(JournalStats):
    """Draws what ``collect_operation_stats`` found; every method returns the path of the file it wrote.

    A file's ending chooses its format: ``.png`` or ``.svg``. Drawing needs ``ipfs-kit-py[plots]``.
    """

    def _plot(self, name: str, stats: dict[str, Any], output_path: str | Path | None) -> str:
        path = Path(output_path).expanduser() if output_path else self.output_dir / f"{name}.png"
        kind = path.suffix.removeprefix(".").lower()
        drawn = render(chart(name, stats.get(name, {})), kind if kind in FORMATS else "png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn)
        return str(path)

    def plot_entry_types(self, stats: dict[str, Any], output_path: str | Path | None = None) -> str:
        """Draw entries by type."""
        return self._plot("entry_types", stats, output_path)

    def plot_entry_statuses(self, stats: dict[str, Any], output_path: str | Path | None = None) -> str:
        """Draw entries by status."""
        return self._plot("entry_statuses", stats, output_path)

    def plot_journal_growth(self, stats: dict[str, Any], output_path: str | Path | None = None) -> str:
        """Draw how many entries there were at each time."""
        return self._plot("journal_growth", stats, output_path)

    def plot_tier_distribution(self, stats: dict[str, Any], output_path: str | Path | None = None) -> str:
        """Draw files by tier."""
        return self._plot("tier_distribution", stats, output_path)

    def plot_operation_times(self, stats: dict[str, Any], output_path: str | Path | None = None) -> str:
        """Draw the mean time of each type of operation."""
        return self._plot("operation_times", stats, output_path)

    def plot_error_rate(self, stats: dict[str, Any], output_path: str | Path | None = None) -> str:
        """Draw the share of settled entries that failed, with gaps where none settled."""
        return self._plot("error_rate", stats, output_path)

    def plot_tier_storage_usage(self, stats: dict[str, Any], output_path: str | Path | None = None) -> str:
        """Draw bytes by tier."""
        return self._plot("tier_storage_usage", stats, output_path)

    def create_dashboard(
        self,
        stats: dict[str, Any] | None = None,
        timeframe_hours: float = 24,
        output_dir: str | Path | None = None,
    ) -> dict[str, str]:
        """Draw every picture and write ``dashboard.html`` with all of them and their numbers within it.

        Returns:
            Paths by name of the picture, that of the page under ``html_report``.
        """
        shown = self.collect_operation_stats(timeframe_hours) if stats is None else stats
        folder = Path(output_dir).expanduser() if output_dir else self.output_dir
        paths = {name: self._plot(name, shown, folder / f"{name}.png") for name in PLOTS}
        when = datetime.fromtimestamp(float(shown["timestamp"]), UTC)
        hours = f"{float(shown['timeframe_hours']):g}"
        sections = [Section("What this is", f"The journal's last {hours} hours, as of {when:%Y-%m-%d %H:%M:%S} UTC.")]
        for name in PLOTS:
            drawn = chart(name, shown[name])
            labels, values = shown[name]["labels"], shown[name]["values"]
            if drawn.times:
                labels = [f"{datetime.fromtimestamp(float(at), UTC):%Y-%m-%d %H:%M}" for at in labels]
            columns = (drawn.x_label or "status", drawn.y_label or "entries")
            sections.append(Section(drawn.title, "", columns, list(zip(labels, values, strict=True)), drawn))
        target = folder / "dashboard.html"
        target.write_text(page("Journal", sections), encoding="utf-8")
        return {**paths, "html_report": str(target)}
