"""Health checks: each in a thread of its own with a hard time limit, and what their results say together."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ipfs_kit.errors import KitError

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"
UNKNOWN: Final = "unknown"
STATUSES: Final = (HEALTHY, DEGRADED, UNHEALTHY, UNKNOWN)
INTERVAL_S: Final = 60.0
TIMEOUT_S: Final = 10.0
CPU_SAMPLE_S: Final = 0.2
TEXT_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found.

    Args:
        status: ``healthy``, ``degraded``, ``unhealthy`` or ``unknown``.
        details: Measured values; what cannot be measured is left out.
        error: Why it is not healthy.
    """

    status: str
    details: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Args:
        id: Its name.
        about: What it looks at.
        interval_s: How often it is due.
        timeout_s: Longest wall time; after it the result is unhealthy.
        critical: Whether it decides over the whole.
        enabled: Whether it is run.
        degraded_at: Value from which it is degraded, where it measures one.
        unhealthy_at: Value from which it is unhealthy.
        target: What it checks, where that can be chosen.
    """

    id: str
    about: str
    interval_s: float = INTERVAL_S
    timeout_s: float = TIMEOUT_S
    critical: bool = False
    enabled: bool = True
    degraded_at: float | None = None
    unhealthy_at: float | None = None
    target: str | None = None


BUILT_IN: Final = (
    Check("system_cpu", "Share of processor time in use, percent.", 120.0, degraded_at=75.0, unhealthy_at=90.0),
    Check("system_memory", "Share of memory in use, percent.", 120.0, degraded_at=80.0, unhealthy_at=90.0),
    Check("system_disk", "Share of the store's disk in use, percent.", 120.0, degraded_at=80.0, unhealthy_at=90.0),
    Check("store", "Whether the store takes writes.", critical=True),
    Check("ledger", "Whether the newest records of the ledger can be read.", critical=True),
    Check("network_connectivity", "Whether HOST:PORT takes a connection.", enabled=False, target="127.0.0.1:80"),
)


Begun = tuple[int, threading.Thread, list[tuple[Outcome, float]]]
"""When a check began, what runs it, and its outcome with the milliseconds it took."""


class Runner:
    """Runs checks; one that hangs is given up, and not started again before it ended.

    Args:
        clock: Monotonic nanoseconds.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._running: dict[str, threading.Thread] = {}

    def run(self, checks: Iterable[tuple[Check, Callable[[], Outcome]]]) -> list[dict[str, Any]]:
        """Run checks side by side and return a result of each, as events of the stream ``health``, in order.

        The call takes no longer than the longest time limit of them.
        """
        started = [(check, self._start(check, work)) for check, work in checks]
        return [self._result(check, begun) for check, begun in started]

    def _start(self, check: Check, work: Callable[[], Outcome]) -> Begun | None:
        found: list[tuple[Outcome, float]] = []

        def measure() -> None:
            began_ns = self._clock()
            try:
                outcome = work()
            except KitError as error:
                outcome = Outcome(UNHEALTHY, error=error.message)
            except Exception as exc:  # a check is the caller's code: whatever it raises is its result
                outcome = Outcome(UNHEALTHY, error=f"{type(exc).__name__}: {exc}")
            found.append((outcome, (self._clock() - began_ns) / 1e6))

        with self._guard:
            before = self._running.get(check.id)
            if before is not None and before.is_alive():
                return None
            thread = threading.Thread(target=measure, name=f"health-{check.id[:40]}", daemon=True)
            self._running[check.id] = thread
        thread.start()
        return self._clock(), thread, found

    def _result(self, check: Check, begun: Begun | None) -> dict[str, Any]:
        if begun is None:
            return _event(check, Outcome(UNHEALTHY, error="the run before has not ended yet"), 0.0)
        at_ns, thread, found = begun
        thread.join(max(0.0, check.timeout_s - (self._clock() - at_ns) / 1e9))
        if not found:
            return _event(
                check, Outcome(UNHEALTHY, error=f"no answer within {check.timeout_s:g} s"), check.timeout_s * 1e3
            )
        return _event(check, *found[0])


def _event(check: Check, outcome: Outcome, took_ms: float) -> dict[str, Any]:
    status = outcome.status if outcome.status in STATUSES else UNKNOWN
    return {
        "check_id": check.id, "status": status, "critical": check.critical, "duration_ms": took_ms,
        "target": check.target, "error": outcome.error[:TEXT_MAX] if outcome.error else None,
        "details": outcome.details,
    }  # fmt: skip


def overall(results: Iterable[Mapping[str, Any]]) -> str:
    """The status of the whole: only a critical check makes it unhealthy, any other trouble degrades it.

    A check that could not tell counts only when it is critical; without any result nothing is known.
    """
    seen = [(str(each["status"]), bool(each.get("critical"))) for each in results]
    if (UNHEALTHY, True) in seen:
        return UNHEALTHY
    if any(status in (DEGRADED, UNHEALTHY) or (status == UNKNOWN and critical) for status, critical in seen):
        return DEGRADED
    return HEALTHY if any(status == HEALTHY for status, _ in seen) else UNKNOWN


def judged(value: float | None, check: Check, **details: Any) -> Outcome:
    """A measured value against a check's limits, each reached at it; unknown without a value."""
    if value is None:
        return Outcome(UNKNOWN, details, "this machine does not tell")
    shown = {"percent": round(value, 2), **details}
    for limit, status in ((check.unhealthy_at, UNHEALTHY), (check.degraded_at, DEGRADED)):
        if limit is not None and value >= limit:
            return Outcome(status, shown, f"{value:.1f} % in use, {limit:g} % is the limit")
    return Outcome(HEALTHY, shown)


def _proc(name: str) -> str | None:
    try:
        with open(f"/proc/{name}", encoding="ascii", errors="replace") as stream:
            return stream.read(1 << 16)
    except OSError:
        return None


def cpu_times(text: str | None) -> tuple[int, int] | None:
    """Idle and total ticks of ``/proc/stat``; None when it does not tell."""
    words = (text or "").partition("\n")[0].split()
    if len(words) < 6 or words[0] != "cpu" or not all(word.isdecimal() for word in words[1:]):
        return None
    ticks = [int(word) for word in words[1:9]]  # guest times are part of the user's
    return ticks[3] + ticks[4], sum(ticks)


def cpu(check: Check) -> Outcome:
    """Share of processor time in use over a fifth of a second."""
    before = cpu_times(_proc("stat"))
    threading.Event().wait(CPU_SAMPLE_S)
    after = cpu_times(_proc("stat"))
    if before is None or after is None or after[1] <= before[1]:
        return judged(None, check)
    return judged(100.0 * (1 - (after[0] - before[0]) / (after[1] - before[1])), check, cores=os.cpu_count())


def memory_used(text: str | None) -> tuple[float, int] | None:
    """Percent in use and bytes in all from ``/proc/meminfo``; None when it does not tell."""
    rows = dict(line.split(":", 1) for line in (text or "").splitlines() if ":" in line)
    try:
        total, free = (int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return None
    return (100.0 * (total - free) / total, total) if total > 0 else None


def memory(check: Check) -> Outcome:
    """Share of memory in use."""
    found = memory_used(_proc("meminfo"))
    return judged(None, check) if found is None else judged(found[0], check, total_bytes=found[1])


def disk(check: Check, path: str | os.PathLike[str]) -> Outcome:
    """Share of a path's disk in use, as its users see it."""
    try:
        found = os.statvfs(path)
    except OSError as exc:
        return Outcome(UNKNOWN, error=f"cannot be told: {exc.strerror}")
    used, free = found.f_blocks - found.f_bfree, found.f_bavail
    if used + free <= 0:
        return judged(None, check)
    return judged(100.0 * used / (used + free), check, free_bytes=free * found.f_frsize)


def network(check: Check) -> Outcome:
    """Whether the target takes a connection."""
    host, _, port = (check.target or "").rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        return Outcome(UNKNOWN, error="the target must be HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=check.timeout_s).close()
    except OSError as exc:
        return Outcome(UNHEALTHY, error=f"{check.target} takes no connection: {exc.strerror or exc}")
    return Outcome(HEALTHY)


def prometheus(results: Iterable[Mapping[str, Any]], counts: Mapping[str, int]) -> Iterator[str]:
    """Lines of the Prometheus text format: status, duration and count of each check, and the whole.

    Args:
        results: The newest result of each check.
        counts: Results recorded by check.
    """
    newest = list(results)
    level = {HEALTHY: 0, DEGRADED: 1, UNHEALTHY: 2, UNKNOWN: 3}

    def label(name: str) -> str:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{{check="{escaped}"}}'

    yield "# HELP health_check_status 0 healthy, 1 degraded, 2 unhealthy, 3 unknown"
    yield "# TYPE health_check_status gauge"
    yield from (f"health_check_status{label(each['check_id'])} {level[each['status']]}" for each in newest)
    yield "# HELP health_check_duration Seconds that the newest run took"
    yield "# TYPE health_check_duration gauge"
    for each in newest:
        if each.get("duration_ms") is not None:
            yield f"health_check_duration{label(each['check_id'])} {each['duration_ms'] / 1000:.6f}"
    yield "# HELP health_check_execution_count Results recorded"
    yield "# TYPE health_check_execution_count counter"
    yield from (f"health_check_execution_count{label(name)} {count}" for name, count in sorted(counts.items()))
    yield "# HELP overall_health_status 0 healthy, 1 degraded, 2 unhealthy, 3 unknown"
    yield "# TYPE overall_health_status gauge"
    yield f"overall_health_status {level[overall(newest)]}"
