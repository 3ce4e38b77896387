"""Telemetry drawn and told: a chart of a metric over time, and the sections of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ipfs_kit.monitoring.html_report import Section
from ipfs_kit.monitoring.plots import Chart, Series
from ipfs_kit.monitoring.telemetry import (
    COUNT,
    ERROR,
    HEALTH,
    LATENCY,
    METRICS,
    QUEUE,
    RETRIES,
    SUCCESS,
    THROUGHPUT,
    UNITS,
    Tally,
    aggregated,
)

TITLES: Mapping[str, str] = {
    COUNT: "Operations", LATENCY: "Latency", SUCCESS: "Success rate", ERROR: "Error rate", HEALTH: "Backend health",
    THROUGHPUT: "Throughput", QUEUE: "Queue size", RETRIES: "Retries",
}  # fmt: skip
SERIES_MAX = 8
"""Lines of one chart; what a chart cannot tell apart stands in the tables."""


@dataclass(frozen=True, slots=True)
class Line:
    """A metric over time.

    Args:
        name: Whose.
        starts_s: When each part begins, seconds since 1970.
        values: Its value; None where it was not measured.
    """

    name: str
    starts_s: Sequence[float]
    values: Sequence[float | None]


def over_time(metric: str, lines: Sequence[Line]) -> Chart:
    """The chart of a metric over time.

    Args:
        metric: The metric.
        lines: What it shows; those beyond eight are left out, and the title says so.
    """
    left = len(lines) - SERIES_MAX
    title = TITLES[metric] + (f" ({left} more groups are not shown)" if left > 0 else "")
    shown = [Series(line.name, line.starts_s, line.values) for line in lines[:SERIES_MAX]]
    return Chart(title, "line", "time, UTC", UNITS[metric], shown, True)


def sections(
    told: str, total: Tally, groups: Sequence[Tally], lines: Mapping[str, Sequence[Line]], minutes: float | None
) -> list[Section]:
    """The sections of a performance report.

    Args:
        told: What the report covers.
        total: Everything counted together.
        groups: The same by operation and backend.
        lines: Metrics over time.
        minutes: The time covered.
    """
    whole = [(TITLES[metric], aggregated(metric, total, None, minutes), UNITS[metric]) for metric in METRICS]
    times = total.latency
    whole += [
        (f"Latency, {name}", value, "seconds")
        for name, value in zip(
            ("fastest", "median", "95th percentile", "99th percentile", "slowest"),
            (times.low, *times.quantiles, times.high),
            strict=True,
        )
    ]
    busiest = sorted(groups, key=lambda each: (-each.settled, *map(str, each.key)))
    rows = [(*each.key, *_row(each)) for each in busiest if each.settled or each.latency.count]
    top = busiest[:12]
    bars = Series("operations", [" · ".join(map(str, each.key)) for each in top], [each.settled for each in top])
    parts = [
        Section("What this is", told),
        Section("All together", "", ("figure", "value", "unit"), whole),
        Section(
            "By operation and backend", "", ("operation", "backend", "ended", "succeeded", "failed", "mean s", "median s",
            "95th s", "99th s"), rows, Chart("Operations by type", "bar", "", "operations", [bars]),
        ),
    ]  # fmt: skip
    for metric, shown in lines.items():
        named = [line.name for line in shown]
        starts = sorted({start for line in shown for start in line.starts_s})
        at = [dict(zip(line.starts_s, line.values, strict=True)) for line in shown]
        fine = any(start % 1 for start in starts)
        table = [(_when(start, fine), *(values.get(start) for values in at)) for start in starts]
        parts.append(Section(f"{TITLES[metric]} over time", "", ("begins", *named), table, over_time(metric, shown)))
    return parts


def _row(tally: Tally) -> tuple[object, ...]:
    times = tally.latency
    mean = times.total / times.count if times.count else None
    return (tally.settled, tally.good, tally.settled - tally.good, mean, *times.quantiles)


def _when(seconds: float, fine: bool) -> str:
    from datetime import UTC, datetime

    shown = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S.%f}"
    return shown[:-3] if fine else shown[:-7]
