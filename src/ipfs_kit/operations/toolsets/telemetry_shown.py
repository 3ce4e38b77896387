"""Telemetry shown: a metric as a picture, a report as one page, figures for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from ipfs_kit.ipld import CID
from ipfs_kit.ipld.codecs import RAW
from ipfs_kit.monitoring.html_report import page
from ipfs_kit.monitoring.plots import render
from ipfs_kit.monitoring.telemetry import METRICS, Selection, Tally, span_minutes
from ipfs_kit.monitoring.telemetry_page import Line, over_time, sections
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.results import Content
from ipfs_kit.operations.telemetry_counts import counted
from ipfs_kit.operations.toolsets.telemetry import (
    SHOWN,
    Aggregation,
    Backends,
    By,
    CountedBy,
    HistorySeries,
    Interval,
    Metric,
    OperationTypes,
    Since,
    Source,
    Statuses,
    TelemetryHistory,
    Until,
    history_of,
    selected,
    stepped,
    telemetry_history,
)
from ipfs_kit.operations.views import iso_time


def _content(data: bytes) -> Content:
    return Content(CID.of(data, RAW), len(data), 0, len(data), lambda: iter((data,)))


@operation("telemetry.plot", Mode.READ, "telemetry:read", places=SHOWN)
def telemetry_plot(
    ctx: Context,
    metric: Annotated[Metric, Arg("the metric", positional=True)],
    image: Annotated[Literal["png", "svg"], Arg("how the picture is written")] = "png",
    source: Source = "calls",
    operation_types: OperationTypes = None,
    backends: Backends = None,
    statuses: Statuses = None,
    since: Since = None,
    until: Until = None,
    interval_s: Interval = None,
    aggregation: Aggregation = None,
    by: By = None,
    width_in: Annotated[float, Arg("width in inches")] = 10.0,
    height_in: Annotated[float, Arg("height in inches")] = 5.0,
    counted_by: CountedBy = "sql",
) -> Content:
    """Draw a metric over time; the answer is the picture's bytes, which the command line writes to its output.

    Raises:
        MissingExtra: Matplotlib is not installed.
    """
    found = telemetry_history(
        ctx, metric, source, operation_types, backends, statuses, since, until, interval_s, aggregation, by, counted_by
    )
    return _content(render(over_time(metric, _lines(found)), image, width_in, height_in))


def _lines(found: TelemetryHistory) -> list[Line]:
    return [
        Line(_name(each), [point.start_s for point in each.points], [point.value for point in each.points])
        for each in found.series
    ]


def _name(series: HistorySeries) -> str:
    return " · ".join(each for each in (series.operation_type, series.backend, series.status) if each) or "all"


@operation("telemetry.report", Mode.READ, "telemetry:read", places=SHOWN)
def telemetry_report(
    ctx: Context,
    source: Source = "calls",
    operation_types: OperationTypes = None,
    backends: Backends = None,
    since: Since = None,
    until: Until = None,
    interval_s: Interval = None,
    counted_by: CountedBy = "sql",
) -> Content:
    """Report on performance as one HTML page that opens without a network, with tables and charts of all metrics."""
    chosen = selected(operation_types, backends, None, since, until)
    groups = counted(ctx.engine, source, replace(chosen, by=("operation_type", "backend")), counted_by)
    (total,) = counted(ctx.engine, source, chosen, counted_by) or [Tally()]
    parted = stepped(ctx, source, chosen, interval_s, counted_by)
    parts = counted(ctx.engine, source, parted, counted_by)
    lines = {metric: _lines(history_of(metric, source, parts, parted, None)) for metric in METRICS}
    told = f"{_covered(total, chosen)} Counted from {source} of the store {ctx.engine.ledger.node}."
    made = f"Made {iso_time(ctx.draft.time_ns)[:19]}Z."
    shown = sections(f"{told}\n\n{made}", total, groups, lines, span_minutes([total], chosen))
    return _content(page("Performance", shown).encode())


def _covered(total: Tally, chosen: Selection) -> str:
    first = total.first_us if chosen.since_us is None else chosen.since_us
    last = total.last_us if chosen.until_us is None else chosen.until_us
    if first is None or last is None:
        return "Nothing was recorded."
    return f"From {iso_time(first * 1000)[:19]}Z to {iso_time(last * 1000)[:19]}Z."


@dataclass(frozen=True, slots=True)
class PrometheusText:
    """Figures in the Prometheus text format 0.0.4."""

    text: str


@operation("telemetry.prometheus", Mode.READ, "telemetry:read", places=SHOWN)
def telemetry_prometheus(ctx: Context) -> PrometheusText:
    """Return the figures that ``/metrics`` shows, in the Prometheus text format."""
    return PrometheusText(ctx.engine.scrape.text())
