"""The published questions to telemetry, answered by the engine's counts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ipfs_kit import InvalidInput, to_json
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._telemetry_words import bounds, word, words

SOURCE = "telemetry"


class TelemetryFigures(Adapter):
    """Figures of the stream ``telemetry``."""

    sampling_interval: float = 60

    def get_metrics(
        self,
        metric_type: Any = None,
        operation_type: Any = None,
        backend: Any = None,
        status: Any = None,
        time_range: Any = None,
        aggregation: Any = None,
    ) -> dict[str, Any]:
        """Figures by metric: of all together under ``value``, and of each operation and backend under ``groups``."""
        metrics = words(metric_type)
        given: dict[str, Any] = {
            "source": SOURCE, "operation_types": words(operation_type), "backends": words(backend),
            "statuses": words(status), "aggregation": word(aggregation), "metrics": metrics, **bounds(time_range),
        }  # fmt: skip
        total = self.call("telemetry.metrics", **given).value
        groups = self.call("telemetry.metrics", **given, by=["operation_type", "backend"]).value
        shown = {each.metric: {**to_json(each), "groups": []} for each in total.figures}
        for each in groups.figures:
            shown[each.metric]["groups"].append(to_json(each))
        return shown

    def visualize_metrics(
        self,
        metric_type: Any,
        output_path: str | Path,
        operation_type: Any = None,
        backend: Any = None,
        status: Any = None,
        time_range: Any = None,
        width: float = 12,
        height: float = 8,
    ) -> str:
        """Draw a metric over time into a file, PNG or SVG by its ending; needs ``ipfs-kit-py[plots]``."""
        path = Path(output_path).expanduser()
        image = path.suffix.removeprefix(".").lower() or "png"
        if image not in ("png", "svg"):
            raise InvalidInput(f"a picture ends in .png or .svg, not {path.suffix}")
        drawn = self.call(
            "telemetry.plot", metric=word(metric_type), image=image, source=SOURCE, operation_types=words(operation_type),
            backends=words(backend), statuses=words(status), width_in=float(width), height_in=float(height),
            **bounds(time_range),
        ).value  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn.read())
        return str(path)

    def get_real_time_metrics(self) -> dict[str, Any]:
        """Figures of the last ``sampling_interval`` seconds."""
        found: dict[str, Any] = to_json(
            self.call("telemetry.realtime", source=SOURCE, window_s=float(self.sampling_interval)).value
        )
        return {**found, "timestamp": time.time_ns() / 1e9}

    def get_metrics_history(self, start_time: Any = None, end_time: Any = None) -> list[dict[str, Any]]:
        """Every metric over time: one entry for each part, oldest first."""
        parts: dict[float, dict[str, Any]] = {}
        given = bounds((start_time, end_time))
        for metric in (
            "operation_count",
            "operation_latency",
            "success_rate",
            "error_rate",
            "throughput",
            "queue_size",
        ):
            for series in self.call("telemetry.history", metric=metric, source=SOURCE, **given).value.series:
                for point in series.points:
                    parts.setdefault(point.start_s, {"timestamp": point.start_s})[metric] = point.value
        return [parts[start] for start in sorted(parts)]

    def create_performance_report(self, output_path: str | Path, time_range: Any = None) -> str:
        """Write one HTML page with all metrics, which opens without a network."""
        path = Path(output_path).expanduser()
        if path.suffix.lower() not in (".html", ".htm"):
            path = path / "performance_report.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.call("telemetry.report", source=SOURCE, **bounds(time_range)).value.read())
        return str(path)

    def flush_metrics_to_dataset(self) -> dict[str, Any]:
        """Gather what was measured since the last batch and name it by CID; a failure when storage is off."""
        return self.flush_to_dataset()
