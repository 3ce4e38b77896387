"""Figures for Prometheus, kept up as records come, so that a scrape costs what came since the last one.

Series are capped: whatever names callers make up, a family has at most ``SERIES_MAX`` of them and one called ``other``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from ipfs_kit.monitoring import health
from ipfs_kit.monitoring.telemetry import (
    BAD,
    GOOD,
    LATENCY,
    OPEN,
    OPERATION,
    QUEUE,
    Reading,
    health_of,
    quantile,
)

PREFIX: Final = "ipfs_kit"
SERIES_MAX: Final = 200
WINDOW_US: Final = 300_000_000
SLOT_US: Final = 10_000_000
KEPT: Final = 256
"""Newest times kept of one series, of which its percentiles are told."""
OPEN_MAX: Final = 100_000
LABEL_MAX: Final = 120
OTHER: Final = "other"
API: Final = ("http", "mcp")

Labels = tuple[tuple[str, str], ...]
Sample = tuple[Labels, float | None]


class _Series:
    """One operation of one backend: totals since the start, counts and times of the window."""

    __slots__ = ("seconds", "slots", "statuses", "timed", "times")

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.seconds = 0.0
        self.timed = 0
        self.times: deque[tuple[int, float]] = deque(maxlen=KEPT)
        self.slots: deque[list[int]] = deque()  # [slot, ended, succeeded]

    def add(self, reading: Reading) -> None:
        if reading.status in GOOD or reading.status in BAD:
            self.statuses[str(reading.status)] += 1
            slot = reading.time_us // SLOT_US
            if not self.slots or slot > self.slots[-1][0]:
                self.slots.append([slot, 0, 0])
            # A clock that went back counts into the newest slot.
            self.slots[-1][1] += 1
            self.slots[-1][2] += reading.status in GOOD
            while len(self.slots) > WINDOW_US // SLOT_US + 1:
                self.slots.popleft()
        if reading.value is not None and reading.status not in OPEN:
            self.times.append((reading.time_us, reading.value))
            self.seconds += reading.value
            self.timed += 1

    def window(self, now_us: int) -> tuple[int, int]:
        """Operations that ended within the window, and those of them that succeeded."""
        first = (now_us - WINDOW_US) // SLOT_US + 1
        kept = [each for each in self.slots if each[0] >= first]
        return sum(each[1] for each in kept), sum(each[2] for each in kept)

    def recent(self, now_us: int) -> list[float]:
        """Times of the window in rising order."""
        return sorted(value for at, value in self.times if at >= now_us - WINDOW_US)


class Figures:
    """Figures of what was recorded since they were begun.

    Args:
        series_max: Most series of a family.
    """

    def __init__(self, series_max: int = SERIES_MAX) -> None:
        self._max = series_max
        self._series: dict[tuple[str, str], _Series] = {}
        self._api: dict[tuple[str, str, str], list[float]] = {}
        self._search = [0.0, 0.0]
        self._open: dict[str, str] = {}
        self._queues: Counter[str] = Counter()
        self._gauges: dict[str, float] = {}
        self._health: dict[str, float] = {}
        self._checks: dict[str, dict[str, Any]] = {}
        self._runs: Counter[str] = Counter()

    def call(self, reading: Reading, surface: str) -> None:
        """Take a recorded call."""
        self._of(reading).add(reading)
        if surface in API:
            name = (surface, str(reading.operation_type), str(reading.status))
            kept = self._api.setdefault(name if self._room(self._api, name) else (surface, OTHER, OTHER), [0.0, 0.0])
            kept[0] += 1
            kept[1] += reading.value or 0.0
        if reading.backend == "search":
            self._search[0] += 1
            self._search[1] += reading.value or 0.0

    def measured(self, reading: Reading) -> None:
        """Take a measured event or a step of queued work."""
        backend = self._label(self._queues, reading.backend)
        if reading.metric in (OPERATION, LATENCY):
            self._of(reading).add(reading)
            if reading.metric == OPERATION and reading.operation_id is not None:
                self._stands(reading.operation_id, reading.status in OPEN, backend)
        elif reading.metric == QUEUE and reading.value is not None:
            self._gauges[self._label(self._gauges, reading.backend)] = reading.value
        elif (level := health_of(reading)) is not None:
            self._health[self._label(self._health, reading.backend)] = level

    def checked(self, event: Mapping[str, Any]) -> None:
        """Take the result of a health check."""
        name = self._label(self._checks, str(event["check_id"]))
        self._checks[name] = {**event, "check_id": name}
        self._runs[name] += 1

    def _stands(self, operation: str, waits: bool, backend: str) -> None:
        before = self._open.pop(operation, None)
        if before is not None:
            self._queues[before] -= 1
        if waits and len(self._open) < OPEN_MAX:
            self._open[operation] = backend
            self._queues[backend] += 1
        elif backend not in self._queues:
            self._queues[backend] = 0

    def _room(self, family: Mapping[Any, Any], name: Any) -> bool:
        return name in family or len(family) < self._max

    def _label(self, family: Mapping[str, Any], name: str | None) -> str:
        text = _short(name)
        return text if self._room(family, text) else OTHER

    def _of(self, reading: Reading) -> _Series:
        name = (_short(reading.operation_type), _short(reading.backend))
        if not self._room(self._series, name):
            name = (OTHER, OTHER)
        return self._series.setdefault(name, _Series())

    def lines(self, now_us: int) -> Iterator[str]:
        """Lines of the text format."""
        yield from self._of_operations(now_us)
        yield from self._of_backends(now_us)
        yield from self._of_surfaces()
        yield from health.prometheus([self._checks[name] for name in sorted(self._checks)], self._runs)

    def _of_operations(self, now_us: int) -> Iterator[str]:
        rows = [((("operation_type", kind), ("backend", backend)), each) for (kind, backend), each in self._sorted()]
        times = {labels: each.recent(now_us) for labels, each in rows}
        windows = {labels: each.window(now_us) for labels, each in rows}
        name = f"{PREFIX}_operation"
        told = "of the newest times of the last 5 minutes, seconds"
        yield from family(f"{name}_count", "Operations that ended in the last 5 minutes", "gauge",
                          [(labels, ended) for labels, (ended, _) in windows.items()])  # fmt: skip
        for stat, tell in (
            ("mean", lambda ordered: sum(ordered) / len(ordered)),
            ("median", lambda ordered: quantile(ordered, 0.5)),
            ("p95", lambda ordered: quantile(ordered, 0.95)),
            ("p99", lambda ordered: quantile(ordered, 0.99)),
            ("min", lambda ordered: ordered[0]),
            ("max", lambda ordered: ordered[-1]),
        ):
            samples = [(labels, tell(ordered)) for labels, ordered in times.items() if ordered]
            yield from family(f"{name}_{stat}", f"{stat} {told}", "gauge", samples)
        shares = [(labels, good / ended) for labels, (ended, good) in windows.items() if ended]
        yield from family(f"{name}_success_rate", "Share that succeeded in the last 5 minutes", "gauge", shares)
        failed = [(labels, 1 - share) for labels, share in shares]
        yield from family(f"{name}_error_rate", "Share that failed in the last 5 minutes", "gauge", failed)
        rates = [(labels, ended / (WINDOW_US / 60e6)) for labels, (ended, _) in windows.items()]
        yield from family(f"{PREFIX}_operations_per_minute", "Operations a minute over 5 minutes", "gauge", rates)
        statuses: Counter[str] = Counter()
        for _, each in rows:
            statuses.update(each.statuses)
        counts: list[Sample] = [((("status", status),), count) for status, count in sorted(statuses.items())]
        yield from family(f"{PREFIX}_operations_by_status", "Operations since the start", "counter", counts)

    def _of_backends(self, now_us: int) -> Iterator[str]:
        lengths = {**self._queues, **self._gauges}
        yield from family(f"{PREFIX}_queue_size", "Operations begun and not ended", "gauge", _by_backend(lengths))
        told = "1 online, 0.5 degraded, 0 offline"
        yield from family(f"{PREFIX}_backend_health", told, "gauge", _by_backend(self._health))
        times: dict[str, list[float]] = {}
        totals: dict[str, list[float]] = {}
        operations: list[Sample] = []
        for (kind, backend), each in self._sorted():
            times.setdefault(backend, []).extend(each.recent(now_us))
            kept = totals.setdefault(backend, [0.0, 0.0])
            kept[0] += each.timed
            kept[1] += each.seconds
            operations += [
                ((("backend", backend), ("operation", kind), ("status", status)), count)
                for status, count in sorted(each.statuses.items())
            ]
        means = {backend: sum(found) / len(found) for backend, found in times.items() if found}
        told = "Mean time of the last 5 minutes"
        yield from family(f"{PREFIX}_backend_response_time_seconds", told, "gauge", _by_backend(means))
        yield from family("backend_operations_total", "Operations since the start", "counter", operations)
        took = [((("backend", name),), two[0], two[1]) for name, two in totals.items()]
        yield from summary("backend_operation_duration", "Seconds since the start", took)

    def _of_surfaces(self) -> Iterator[str]:
        calls: list[Sample] = []
        times: dict[str, list[float]] = {}
        for (surface, name, status), (count, seconds) in sorted(self._api.items()):
            calls.append(((("surface", surface), ("operation", name), ("status", status)), count))
            kept = times.setdefault(surface, [0.0, 0.0])
            kept[0] += count
            kept[1] += seconds
        yield from family("api_requests_total", "Calls over HTTP and MCP since the start", "counter", calls)
        rows = [((("surface", surface),), two[0], two[1]) for surface, two in times.items()]
        yield from summary("api_request_duration", "Seconds of calls over HTTP and MCP", rows)
        yield from family("search_operations_total", "Searches since the start", "counter", [((), self._search[0])])
        yield from summary("search_operation_duration", "Seconds of searches", [((), self._search[0], self._search[1])])

    def _sorted(self) -> list[tuple[tuple[str, str], _Series]]:
        return sorted(self._series.items(), key=lambda each: each[0])


def family(name: str, told: str, kind: str, samples: Iterable[Sample]) -> Iterator[str]:
    """Lines of one family; a value of None was not measured and is left out."""
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        if value is not None:
            yield (
                f"{name}{_labels(labels)} {value:.9g}"
                if isinstance(value, float)
                else f"{name}{_labels(labels)} {value}"
            )


def summary(name: str, told: str, rows: Iterable[tuple[Labels, float, float]]) -> Iterator[str]:
    """Lines of a family that counts and adds up times.

    Args:
        name: Its name.
        told: What it is.
        rows: Labels, count and sum.
    """
    yield f"# HELP {name} {told}"
    yield f"# TYPE {name} summary"
    for labels, count, total in rows:
        yield f"{name}_count{_labels(labels)} {count:.17g}"
        yield f"{name}_sum{_labels(labels)} {total:.9g}"


def _by_backend(values: Mapping[str, float]) -> list[Sample]:
    return [((("backend", name),), values[name]) for name in sorted(values)]


def _short(name: str | None) -> str:
    return "" if name is None else name[:LABEL_MAX]


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    shown = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{shown}}}"


def _escaped(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
