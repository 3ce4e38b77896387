"""Telemetry: eight metrics counted from recorded operations, over any range and any part of the history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from ipfs_kit.errors import InvalidInput
from ipfs_kit.monitoring.telemetry import (
    GROUPS_MAX,
    HEALTH,
    KEYS,
    METRICS,
    QUEUE,
    UNITS,
    USUAL,
    Selection,
    Tally,
    aggregated,
    filled,
    span_minutes,
    values_of,
)
from ipfs_kit.monitoring.telemetry_nodes import NODES_MAX, NodeFigures, newest_of_each, node_figures, together
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.telemetry_counts import counted, own_figures
from ipfs_kit.operations.views import iso_time

SHOWN = Everywhere("counts operations of all callers")
PARTS = 60
"""Parts of time when none are asked for."""
PARTS_MAX = 10_000

Metric = Literal[
    "operation_count", "operation_latency", "success_rate", "error_rate", "backend_health", "throughput", "queue_size",
    "retry_count",
]  # fmt: skip
Aggregation = Annotated[
    Literal["sum", "average", "minimum", "maximum", "percentile_95", "percentile_99", "count", "rate"] | None,
    Arg("one figure of all values; the usual one of each metric when left out"),
]
Source = Annotated[
    Literal["calls", "telemetry", "wal", "replication", "lifecycle"],
    Arg("recorded calls, measured events, or steps of queued work"),
]
OperationTypes = Annotated[list[str] | None, Arg("operations, for example files.write")]
Backends = Annotated[list[str] | None, Arg("backends; of recorded calls their family, for example files")]
Statuses = Annotated[list[str] | None, Arg("how operations ended, for example ok or error")]
Since = Annotated[float | None, Arg("at or after, seconds since 1970")]
Until = Annotated[float | None, Arg("before, seconds since 1970")]
By = Annotated[list[str] | None, Arg("what figures are grouped by: operation_type, backend, status")]
CountedBy = Annotated[Literal["sql", "records"], Arg("by SQL, or from the records one by one")]
Interval = Annotated[float | None, Arg("seconds of one part of time; about 60 parts when left out")]


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """Figures of one metric of one group; None where it was not measured.

    Args:
        metric: The metric.
        unit: Its unit.
        operation_type: Of which operation, when grouped so.
        backend: Of which backend.
        status: Of which status.
        value: The figure asked for.
        count: How many values there are.
        total: Their sum.
        average: Their mean.
        minimum: The smallest.
        maximum: The largest.
        median: The median.
        percentile_95: The 95th percentile, interpolated.
        percentile_99: The 99th percentile.
        rate: Values a minute.
    """

    metric: str
    unit: str
    operation_type: str | None
    backend: str | None
    status: str | None
    value: float | None
    count: int
    total: float | None
    average: float | None
    minimum: float | None
    maximum: float | None
    median: float | None
    percentile_95: float | None
    percentile_99: float | None
    rate: float | None


@dataclass(frozen=True, slots=True)
class TelemetryMetrics:
    """Metrics of a range.

    Args:
        source: Where the readings came from.
        aggregation: What ``value`` is; None means the usual figure of each metric.
        minutes: Time over which rates are counted: between the bounds given, else between the first and last reading.
        figures: By metric and group, the groups with most operations first.
        left_out: Successful reads of the range that sampling left out of these figures, by operation; empty when every call
            was recorded, None for other sources.
    """

    source: str
    aggregation: str | None
    minutes: float | None
    figures: list[MetricFigures]
    left_out: dict[str, int] | None


@operation("telemetry.metrics", Mode.READ, "telemetry:read", places=SHOWN, aliases=("get_metrics",))
def telemetry_metrics(
    ctx: Context,
    metrics: Annotated[list[str] | None, Arg("the metrics; all when left out")] = None,
    source: Source = "calls",
    operation_types: OperationTypes = None,
    backends: Backends = None,
    statuses: Statuses = None,
    since: Since = None,
    until: Until = None,
    aggregation: Aggregation = None,
    by: By = None,
    counted_by: CountedBy = "sql",
) -> TelemetryMetrics:
    """Count metrics of recorded operations: how many, how fast, how many failed, how many wait.

    Every record of the range counts; of reads that are sampled (`stream configure --sample-reads`) it says how many have none.
    """
    asked = list(metrics) if metrics else list(METRICS)
    chosen = selected(operation_types, backends, statuses, since, until, by)
    if metrics and QUEUE in metrics and not chosen.queues:
        raise InvalidInput("a queue has no status: leave the status out for queue_size")
    tallies = counted(ctx.engine, source, replace(chosen, lengths=QUEUE in asked), counted_by)
    if not tallies and not chosen.by:
        tallies = [Tally()]
    tallies.sort(key=lambda each: (-each.settled, *map(str, each.key)))
    minutes = span_minutes(tallies, chosen)
    figures = [
        figures_of(metric, each, chosen.by, aggregation, minutes)
        for metric in asked
        for each in tallies
        if not chosen.by or values_of(metric, each).count
    ]
    return TelemetryMetrics(source, aggregation, minutes, figures, _left_out(ctx, source, chosen))


def _left_out(ctx: Context, source: str, chosen: Selection) -> dict[str, int] | None:
    if source != "calls":
        return None
    since, until = (None if each is None else each * 1000 for each in (chosen.since_us, chosen.until_us))
    found = ctx.engine.sampling.counted(since, until)
    wanted = chosen.operation_types
    return {name: count for name, count in sorted(found.items()) if wanted is None or name in wanted}


def figures_of(
    metric: str, tally: Tally, by: Sequence[str], aggregation: str | None, minutes: float | None
) -> MetricFigures:
    """The figures of a metric of one group."""
    values, named = values_of(metric, tally), dict(zip(by, tally.key, strict=True))
    median, percentile_95, percentile_99 = values.quantiles
    return MetricFigures(
        metric=metric, unit=UNITS[metric],
        operation_type=named.get("operation_type"), backend=named.get("backend"), status=named.get("status"),
        value=aggregated(metric, tally, aggregation, minutes), count=values.count,
        total=values.total if values.count else None, average=aggregated(metric, tally, "average", minutes),
        minimum=values.low, maximum=values.high, median=median, percentile_95=percentile_95,
        percentile_99=percentile_99, rate=aggregated(metric, tally, "rate", minutes),
    )  # fmt: skip


def selected(
    operation_types: Sequence[str] | None,
    backends: Sequence[str] | None,
    statuses: Sequence[str] | None,
    since: float | None,
    until: float | None,
    by: Sequence[str] | None = None,
) -> Selection:
    """A selection from the arguments of a call."""
    for given in (since, until):
        if given is not None and not (math.isfinite(given) and 0 <= given < 9e9):
            raise InvalidInput("a time is a number of seconds since 1970")
    first, last = (None if each is None else math.floor(each * 1_000_000.0) for each in (since, until))
    if first is not None and last is not None and last <= first:
        raise InvalidInput("until lies after since")
    return Selection(operation_types, backends, statuses, first, last, tuple(dict.fromkeys(by or ())))


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """A metric in one part of time.

    Args:
        start: When the part begins, UTC, ISO 8601.
        start_s: The same in seconds since 1970.
        value: The figure asked for; None where it was not measured.
        count: Values it is made of.
    """

    start: str
    start_s: float
    value: float | None
    count: int


@dataclass(frozen=True, slots=True)
class HistorySeries:
    """A metric of one group over time, oldest part first; parts without readings are there too."""

    operation_type: str | None
    backend: str | None
    status: str | None
    points: list[HistoryPoint]


@dataclass(frozen=True, slots=True)
class TelemetryHistory:
    """A metric over time.

    Args:
        metric: The metric.
        unit: Its unit.
        source: Where the readings came from.
        aggregation: What each value is.
        interval_s: Seconds of one part.
        series: One for each group.
    """

    metric: str
    unit: str
    source: str
    aggregation: str
    interval_s: float
    series: list[HistorySeries]


@operation("telemetry.history", Mode.READ, "telemetry:read", places=SHOWN)
def telemetry_history(
    ctx: Context,
    metric: Annotated[Metric, Arg("the metric", positional=True)],
    source: Source = "calls",
    operation_types: OperationTypes = None,
    backends: Backends = None,
    statuses: Statuses = None,
    since: Since = None,
    until: Until = None,
    interval_s: Interval = None,
    aggregation: Aggregation = None,
    by: By = None,
    counted_by: CountedBy = "sql",
) -> TelemetryHistory:
    """Count a metric over time, in equal parts."""
    chosen = selected(operation_types, backends, statuses, since, until, by)
    if metric == QUEUE and not chosen.queues:
        raise InvalidInput("a queue has no status: leave the status out for queue_size")
    parted = stepped(ctx, source, chosen, interval_s, counted_by)
    parted = replace(parted, lengths=metric == QUEUE)
    return history_of(metric, source, counted(ctx.engine, source, parted, counted_by), parted, aggregation)


def stepped(ctx: Context, source: str, chosen: Selection, interval_s: float | None, counted_by: str) -> Selection:
    """The same selection, parted in time.

    Raises:
        InvalidInput: The parts are too short.
    """
    if interval_s is not None and not (math.isfinite(interval_s) and interval_s >= 0.001):
        raise InvalidInput("interval_s is a number of seconds, 0.001 at least")
    first, last = chosen.since_us, chosen.until_us
    if interval_s is None and (first is None or last is None):
        tallies = counted(ctx.engine, source, replace(chosen, by=(), lengths=False), counted_by)
        first = (
            min((each.first_us for each in tallies if each.first_us is not None), default=0) if first is None else first
        )
        newest = max((each.last_us for each in tallies if each.last_us is not None), default=first)
        last = newest + 1 if last is None else last
    step = _pleasant((last or 0) - (first or 0)) if interval_s is None else round(interval_s * 1e6)
    return replace(chosen, step_us=step)


def _pleasant(span_us: int) -> int:
    """A length of parts that people count in, so that a span has about ``PARTS``."""
    for seconds in (0.1, 1, 5, 15, 60, 300, 900, 3_600, 10_800, 21_600, 43_200):
        if span_us <= seconds * 1e6 * PARTS:
            return int(seconds * 1e6)
    days = -(-span_us // (86_400_000_000 * PARTS))
    return days * 86_400_000_000


def history_of(
    metric: str, source: str, tallies: Sequence[Tally], parted: Selection, aggregation: str | None
) -> TelemetryHistory:
    """A metric over time from what was counted in parts."""
    step = parted.step_us or 1
    known = [each.part for each in tallies if each.part is not None]
    first = min(known, default=0) if parted.since_us is None else parted.since_us // step
    last = max(known, default=-1) if parted.until_us is None else (parted.until_us - 1) // step
    groups: dict[tuple[str | None, ...], dict[int, Tally]] = {}
    for each in tallies:
        if each.part is not None and (values_of(metric, each).count or metric not in (QUEUE, HEALTH)):
            groups.setdefault(each.key, {})[each.part] = each
    if not groups and not parted.by:
        groups[()] = {}
    if last - first >= PARTS_MAX or (last - first + 1) * len(groups) > GROUPS_MAX * 10:
        raise InvalidInput(
            f"{last - first + 1} parts of {len(groups)} groups: give a longer interval_s or a shorter range"
        )
    busiest = sorted(groups, key=lambda key: (-sum(each.settled for each in groups[key].values()), *map(str, key)))
    series = []
    for key in busiest:
        named = dict(zip(parted.by, key, strict=True))
        points = [
            HistoryPoint(
                iso_time((each.part or 0) * step * 1000), (each.part or 0) * step / 1e6,
                aggregated(metric, each, aggregation, step / 60e6), values_of(metric, each).count,
            )
            for each in filled(metric, groups[key], first, last, key)
        ]  # fmt: skip
        series.append(HistorySeries(named.get(KEYS[0]), named.get(KEYS[1]), named.get(KEYS[2]), points))
    return TelemetryHistory(metric, UNITS[metric], source, aggregation or USUAL[metric], step / 1e6, series)


@dataclass(frozen=True, slots=True)
class RealTime:
    """How things go now; None where it was not measured.

    Args:
        time: As of when, UTC, ISO 8601.
        window_s: Seconds looked at.
        source: Where the readings came from.
        operations: Operations that ended.
        per_minute: The same a minute.
        success_rate: Share that succeeded.
        error_rate: Share that did not.
        latency: Seconds: average, median, 95th and 99th percentile, maximum.
        queue_size: Operations begun and not ended.
        retries: Retries.
        by_status: Operations by how they ended.
        groups: Figures of ``operation_latency`` by operation and backend, the busiest first.
    """

    time: str
    window_s: float
    source: str
    operations: int
    per_minute: float | None
    success_rate: float | None
    error_rate: float | None
    latency: dict[str, float | None]
    queue_size: float | None
    retries: float | None
    by_status: dict[str, int]
    groups: list[MetricFigures]


@operation("telemetry.realtime", Mode.READ, "telemetry:read", places=SHOWN)
def telemetry_realtime(
    ctx: Context,
    window_s: Annotated[float, Arg("seconds looked at")] = 300.0,
    source: Source = "calls",
    operation_types: OperationTypes = None,
    backends: Backends = None,
    groups: Annotated[int, Arg("most groups shown", minimum=0, maximum=1_000, flag="n")] = 20,
    counted_by: CountedBy = "sql",
) -> RealTime:
    """Tell how things go now: a window that ends at this call."""
    if not (math.isfinite(window_s) and 0.001 <= window_s <= 1e9):
        raise InvalidInput("window_s is a number of seconds, 0.001 at least")
    now = ctx.draft.time_ns / 1e9
    whole = selected(operation_types, backends, None, max(0.0, now - window_s), now)
    (total,) = counted(ctx.engine, source, whole, counted_by) or [Tally()]
    parts = counted(ctx.engine, source, replace(whole, by=KEYS), counted_by)
    minutes, statuses, kinds = window_s / 60, dict[str, int](), dict[tuple[str | None, ...], int]()
    for each in parts:
        if each.settled:
            statuses[str(each.key[2])] = statuses.get(str(each.key[2]), 0) + each.settled
            kinds[each.key[:2]] = kinds.get(each.key[:2], 0) + each.settled
    listed: list[MetricFigures] = []
    if groups and kinds:
        timed = counted(ctx.engine, source, replace(whole, by=KEYS[:2], lengths=False), counted_by)
        timed.sort(key=lambda each: (-each.settled, *map(str, each.key)))
        listed = [figures_of("operation_latency", each, KEYS[:2], None, minutes) for each in timed[:groups]]
    figures: dict[str, float | None] = {name: aggregated(name, total, None, minutes) for name in METRICS}
    times = total.latency
    latency = {
        "average": figures["operation_latency"], "median": times.quantiles[0], "percentile_95": times.quantiles[1],
        "percentile_99": times.quantiles[2], "maximum": times.high,
    }  # fmt: skip
    return RealTime(
        iso_time(ctx.draft.time_ns), window_s, source, total.settled, figures["throughput"], figures["success_rate"],
        figures["error_rate"], latency, figures[QUEUE], figures["retry_count"], dict(sorted(statuses.items())), listed,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CrossNode:
    """Several nodes side by side and together.

    Args:
        source: Where the readings came from.
        nodes: Each node once, by its newest figures; the first call's own are among them.
        total: All together.
        success_rate: Share of all operations that succeeded; None without any.
        average_s: Mean time.
        percentile_95_s: 95th percentile of the times, within 4.5 %.
        percentile_99_s: 99th percentile, within 4.5 %.
    """

    source: str
    nodes: list[NodeFigures]
    total: NodeFigures
    success_rate: float | None
    average_s: float | None
    percentile_95_s: float | None
    percentile_99_s: float | None


@operation("telemetry.cross_node", Mode.READ, "telemetry:read", places=SHOWN)
def telemetry_cross_node(
    ctx: Context,
    nodes: Annotated[
        list[dict[str, Any]] | None, Arg("figures of other nodes: what 'nodes' of their answers holds", positional=True)
    ] = None,
    source: Source = "calls",
    since: Since = None,
    until: Until = None,
    counted_by: CountedBy = "sql",
) -> CrossNode:
    """Put this node's figures together with those that other nodes gave.

    Ask each node, pass the answers to one. A node that stands in several answers counts once.
    """
    if nodes and len(nodes) > NODES_MAX:
        raise InvalidInput(f"give the figures of {NODES_MAX} nodes at most")
    others = [node_figures(each) for each in nodes or ()]
    now = ctx.draft.time_ns / 1e9  # one end for all that is counted, whatever is recorded meanwhile
    own = own_figures(
        ctx.engine,
        source,
        selected(None, None, None, since, now if until is None else until),
        ctx.draft.time_ns / 1e9,
        counted_by,
    )
    listed = newest_of_each([*others, own])
    total = together(listed)
    return CrossNode(
        source, listed, total, total.succeeded / total.operations if total.operations else None,
        total.seconds / total.measured if total.measured else None, total.latency(0.95), total.latency(0.99),
    )  # fmt: skip
