"""Eight metrics of recorded operations: what each reading says, and the figures of many, by group and by part of time.

Readings come from the records of calls, from events of the stream ``telemetry`` and from steps of queued work. What the
engine for SQL counts (``telemetry_sql``) and what ``tallied`` counts from streamed readings are the same figures.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ipfs_kit.errors import BudgetExceeded, InvalidInput

COUNT: Final = "operation_count"
LATENCY: Final = "operation_latency"
SUCCESS: Final = "success_rate"
ERROR: Final = "error_rate"
HEALTH: Final = "backend_health"
THROUGHPUT: Final = "throughput"
QUEUE: Final = "queue_size"
RETRIES: Final = "retry_count"
UNITS: Final[Mapping[str, str]] = {
    COUNT: "operations", LATENCY: "seconds", SUCCESS: "share", ERROR: "share", HEALTH: "1 online, 0 offline",
    THROUGHPUT: "operations a minute", QUEUE: "operations", RETRIES: "retries",
}  # fmt: skip
METRICS: Final = tuple(UNITS)
AGGREGATIONS: Final = (
    "sum", "average", "minimum", "maximum", "percentile_95", "percentile_99", "count", "rate",
)  # fmt: skip
USUAL: Final[Mapping[str, str]] = {
    COUNT: "count", LATENCY: "average", SUCCESS: "average", ERROR: "average", HEALTH: "last",
    THROUGHPUT: "rate", QUEUE: "last", RETRIES: "sum",
}  # fmt: skip
"""The aggregation of a metric when none is asked for; ``last`` is the newest value."""
KEYS: Final = ("operation_type", "backend", "status")
OPERATION: Final = "operation"
"""The metric of an event that tells how an operation stands; of one that ended, the value is its seconds."""
GOOD: Final = ("ok", "completed", "success", "succeeded")
BAD: Final = ("error", "denied", "cancelled", "failed", "failure")
OPEN: Final = ("pending", "processing", "retrying")
RETRYING: Final = "retrying"
LEVELS: Final[Mapping[str, float]] = {
    "online": 1.0, "healthy": 1.0, "degraded": 0.5, "offline": 0.0, "unhealthy": 0.0,
}  # fmt: skip
QUANTILES: Final = (0.5, 0.95, 0.99)
GROUPS_MAX: Final = 10_000
"""Groups times parts of time of one answer."""
MINUTE_US: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What one record says of an operation, a backend or a queue.

    Args:
        time_us: When, microseconds since 1970.
        metric: ``operation``, ``operation_latency``, ``backend_health``, ``queue_size``, ``retry_count``, or another.
        operation_type: The operation.
        backend: Where it ran; of a recorded call the family it belongs to.
        status: How it stands.
        value: What was measured; seconds for an operation.
        operation_id: By which its readings belong together; None when each stands alone.
    """

    time_us: int
    metric: str
    operation_type: str | None
    backend: str | None
    status: str | None
    value: float | None
    operation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which readings count, and how they are grouped; None means any.

    Args:
        operation_types: Operations.
        backends: Backends.
        statuses: How operations stand; a queue is not selected by it.
        since_us: At or after.
        until_us: Before.
        by: What they are grouped by: any of ``KEYS``.
        step_us: Length of the parts of time they are counted in; None counts all together.
        lengths: Whether queues are counted, which takes a second pass.
    """

    operation_types: Sequence[str] | None = None
    backends: Sequence[str] | None = None
    statuses: Sequence[str] | None = None
    since_us: int | None = None
    until_us: int | None = None
    by: Sequence[str] = ()
    step_us: int | None = None
    lengths: bool = True

    def __post_init__(self) -> None:
        if unknown := [name for name in self.by if name not in KEYS]:
            raise InvalidInput(f"{unknown[0][:40]!r} is nothing to group by: use {', '.join(KEYS)}")

    @property
    def queues(self) -> bool:
        """Whether the length of a queue can be told: it belongs to no status."""
        return self.lengths and self.statuses is None and "status" not in self.by


@dataclass(slots=True)
class Values:
    """Figures of values; None where there were none.

    Args:
        count: How many.
        total: Their sum.
        low: The smallest.
        high: The largest.
        quantiles: Median, 95th and 99th percentile, interpolated.
        last: The newest.
    """

    count: int = 0
    total: float = 0.0
    low: float | None = None
    high: float | None = None
    quantiles: Sequence[float | None] = (None, None, None)
    last: float | None = None


@dataclass(slots=True)
class Tally:
    """What was counted of one group in one part of time.

    Args:
        key: Its values of the selection's ``by``.
        part: Number of the part since 1970; None when time is not parted.
        first_us: Time of the oldest reading.
        last_us: Time of the newest.
        settled: Operations that ended.
        good: Those that succeeded.
        states: Readings that tell how an operation stands: where there are some, no retry means none.
        latency: Seconds.
        retries: Retries.
        health: Backends: 1 online, 0.5 degraded, 0 offline.
        queue: Operations begun and not ended, after each change.
    """

    key: tuple[str | None, ...] = ()
    part: int | None = None
    first_us: int | None = None
    last_us: int | None = None
    settled: int = 0
    good: int = 0
    states: int = 0
    latency: Values = field(default_factory=Values)
    retries: Values = field(default_factory=Values)
    health: Values = field(default_factory=Values)
    queue: Values = field(default_factory=Values)


def values_of(metric: str, tally: Tally) -> Values:
    """The values of a metric in a tally.

    Raises:
        InvalidInput: There is no such metric.
    """
    known = {LATENCY: tally.latency, RETRIES: tally.retries, HEALTH: tally.health, QUEUE: tally.queue}
    if metric in known:
        return known[metric]
    if metric in (COUNT, THROUGHPUT):
        return _flags(tally.settled, tally.settled)
    if metric in (SUCCESS, ERROR):
        return _flags(tally.settled, tally.good if metric == SUCCESS else tally.settled - tally.good)
    raise InvalidInput(f"{metric[:40]!r} is no metric: they are {', '.join(METRICS)}")


def aggregated(metric: str, tally: Tally, aggregation: str | None, minutes: float | None) -> float | None:
    """One figure of a metric; None where it was not measured.

    Args:
        metric: The metric.
        tally: What was counted.
        aggregation: One of ``AGGREGATIONS``; None takes the usual one.
        minutes: Time over which a rate is counted; None when unknown.

    Raises:
        InvalidInput: There is no such metric or aggregation.
    """
    values, how = values_of(metric, tally), aggregation or USUAL[metric]
    if how not in (*AGGREGATIONS, "last"):
        raise InvalidInput(f"{how[:40]!r} is no aggregation: they are {', '.join(AGGREGATIONS)}")
    if how == "rate":
        return values.count / minutes if minutes and (values.count or metric in (COUNT, THROUGHPUT)) else None
    if not values.count:
        none_of_them = metric == COUNT or (metric == RETRIES and tally.states > 0)
        return 0.0 if how in ("sum", "count") and none_of_them else None
    return {
        "sum": values.total,
        "average": values.total / values.count,
        "minimum": values.low,
        "maximum": values.high,
        "percentile_95": values.quantiles[1],
        "percentile_99": values.quantiles[2],
        "count": float(values.count),
        "last": values.last,
    }[how]


def span_minutes(tallies: Iterable[Tally], selection: Selection) -> float | None:
    """The minutes a selection covers: between the bounds given, else from the oldest reading to the newest."""
    first, last = selection.since_us, selection.until_us
    for each in tallies:
        if selection.since_us is None and each.first_us is not None:
            first = each.first_us if first is None else min(first, each.first_us)
        if selection.until_us is None and each.last_us is not None:
            last = each.last_us if last is None else max(last, each.last_us)
    return None if first is None or last is None or last <= first else (last - first) / MINUTE_US


def _flags(count: int, ones: int) -> Values:
    """Figures of values that are 0 or 1."""
    if not count:
        return Values()
    zeros = count - ones
    low, high = float(ones == count), float(ones > 0)
    return Values(count, float(ones), low, high, [_flag_quantile(zeros, count, q) for q in QUANTILES], None)


def _flag_quantile(zeros: int, count: int, q: float) -> float:
    place = (count - 1) * q
    lower = math.floor(place)
    below, above = float(lower >= zeros), float(min(lower + 1, count - 1) >= zeros)
    return below + (above - below) * (place - lower)


def quantile(ordered: Sequence[float], q: float) -> float:
    """A quantile of values in rising order, interpolated between the two nearest.

    Args:
        ordered: The values, one at least.
        q: 0 to 1.
    """
    place = (len(ordered) - 1) * q
    lower = math.floor(place)
    upper = min(lower + 1, len(ordered) - 1)
    return ordered[lower] + (ordered[upper] - ordered[lower]) * (place - lower)


# -- counting streamed readings --------------------------------------------------------------------------------------


class _Kept:
    """Values on their way to figures, eight bytes each."""

    __slots__ = ("last", "values")

    def __init__(self) -> None:
        self.values = array("d")
        self.last: float | None = None

    def add(self, value: float, *, newest: bool = True) -> None:
        self.values.append(value)
        if newest or self.last is None:
            self.last = value

    def figures(self) -> Values:
        if not self.values:
            return Values()
        ordered = sorted(self.values)
        found = [quantile(ordered, q) for q in QUANTILES]
        return Values(len(ordered), math.fsum(ordered), ordered[0], ordered[-1], found, self.last)


class _Group:
    __slots__ = ("health", "latency", "queue", "retries", "tally")

    def __init__(self, key: tuple[str | None, ...], part: int | None) -> None:
        self.tally = Tally(key, part)
        self.latency, self.retries, self.health, self.queue = _Kept(), _Kept(), _Kept(), _Kept()

    def add(self, reading: Reading) -> None:
        tally, status, value = self.tally, reading.status, reading.value
        tally.first_us = reading.time_us if tally.first_us is None else min(tally.first_us, reading.time_us)
        tally.last_us = reading.time_us if tally.last_us is None else max(tally.last_us, reading.time_us)
        if reading.metric in (OPERATION, LATENCY):
            good, bad = status in GOOD, status in BAD
            tally.settled += good or bad
            tally.good += good
            if value is not None and (good or bad or status is None):
                self.latency.add(value)
            if reading.metric == OPERATION and reading.operation_id is not None:
                tally.states += 1
        if (retries := retries_of(reading)) is not None:
            self.retries.add(retries)
        if (health := health_of(reading)) is not None:
            self.health.add(health)

    def done(self) -> Tally:
        tally = self.tally
        tally.latency, tally.retries = self.latency.figures(), self.retries.figures()
        tally.health, tally.queue = self.health.figures(), self.queue.figures()
        return tally


def retries_of(reading: Reading) -> float | None:
    """The retries a reading tells of; None when it tells of none."""
    if reading.metric == OPERATION and reading.status == RETRYING:
        return 1.0
    return reading.value if reading.metric == RETRIES else None


def health_of(reading: Reading) -> float | None:
    """How a backend stands by a reading; None when it does not say."""
    if reading.metric != HEALTH:
        return None
    return reading.value if reading.value is not None else LEVELS.get(reading.status or "")


def tallied(readings: Iterable[Reading], selection: Selection) -> list[Tally]:
    """Count streamed readings, in the order of their records.

    Args:
        readings: All readings of a source up to the selection's end: queues need those before its beginning.
        selection: What counts.

    Raises:
        BudgetExceeded: More groups than one answer holds.
    """
    groups: dict[tuple[tuple[str | None, ...], int | None], _Group] = {}
    gauges, queue = _Queue(selection), _Queue(selection)

    def group(key: tuple[str | None, ...], time_us: int) -> _Group:
        place = (key, None if selection.step_us is None else time_us // selection.step_us)
        found = groups.get(place)
        if found is None:
            if len(groups) >= GROUPS_MAX:
                raise BudgetExceeded(f"the answer has more than {GROUPS_MAX} groups: filter, or count longer parts")
            found = groups[place] = _Group(*place)
        return found

    def chosen() -> Iterator[Reading]:
        for reading in readings:
            if selection.until_us is not None and reading.time_us >= selection.until_us:
                continue
            types, backends = selection.operation_types, selection.backends
            if types is not None and reading.operation_type not in types:
                continue
            if backends is None or reading.backend in backends:
                yield reading

    for reading in chosen():
        key = tuple(getattr(reading, name) for name in selection.by)
        if selection.queues:
            if reading.metric == QUEUE and reading.value is not None:
                gauges.measured(key, reading.time_us, reading.value)
            elif reading.metric == OPERATION and reading.operation_id is not None:
                queue.stands(key, reading)
        early = selection.since_us is not None and reading.time_us < selection.since_us
        if not early and (selection.statuses is None or reading.status in selection.statuses):
            group(key, reading.time_us).add(reading)
    for key, time_us, value, newest in (gauges if gauges.used else queue).samples():
        group(key, time_us).queue.add(value, newest=newest)
    return [each.done() for each in groups.values()]


class _Queue:
    """Lengths of queues after each change; what a range begins with is the last length before it.

    Args:
        selection: What counts.
    """

    def __init__(self, selection: Selection) -> None:
        self.used = False
        self._since = selection.since_us
        self._open: set[str] = set()
        self._length: dict[tuple[str | None, ...], float] = {}
        self._before: dict[tuple[str | None, ...], float] = {}
        self._within: list[tuple[tuple[str | None, ...], int, float]] = []

    def stands(self, key: tuple[str | None, ...], reading: Reading) -> None:
        """Take how an operation stands."""
        operation = str(reading.operation_id)
        now, before = reading.status in OPEN, operation in self._open
        (self._open.add if now else self._open.discard)(operation)
        self.measured(key, reading.time_us, self._length.get(key, 0.0) + (now - before))

    def measured(self, key: tuple[str | None, ...], time_us: int, length: float) -> None:
        """Take the length of a queue."""
        self.used = True
        self._length[key] = length
        if self._since is not None and time_us < self._since:
            self._before[key] = length
        else:
            self._within.append((key, time_us, length))

    def samples(self) -> Iterator[tuple[tuple[str | None, ...], int, float, bool]]:
        """Each length with its group and time, and whether it is newer than those before."""
        yield from ((*each, True) for each in self._within)
        yield from ((key, self._since or 0, length, False) for key, length in self._before.items())


def filled(metric: str, parts: Mapping[int, Tally], first: int, last: int, key: tuple[Any, ...]) -> Iterator[Tally]:
    """One tally for each part of time: parts without readings count nothing, and lengths and states go on.

    Args:
        metric: The metric: the newest value of a queue or backend holds until the next.
        parts: Those with readings.
        first: First part.
        last: Last part.
        key: The group.
    """
    state: float | None = None
    for part in range(first, last + 1):
        tally = parts.get(part) or Tally(key, part)
        values = values_of(metric, tally)
        if USUAL[metric] == "last":
            if values.count:
                state = values.last
            elif state is not None:
                held = Values(1, state, state, state, (state, state, state), state)
                tally = Tally(key, part, queue=held, health=held)
        yield tally
