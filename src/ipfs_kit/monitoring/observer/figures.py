"""Figures of a virtual file system and what they advise; what nobody measured is None."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipfs_kit.monitoring.vfs_rows import BAD, VfsRow

HOT_MAX: Final = 10
PATHS_MAX: Final = 50_000
"""Different paths counted singly; when there are more, the rarest so far are forgotten."""
SAMPLE_MAX: Final = 100_000
"""Newest durations kept for the percentile."""
READS: Final = frozenset({"read", "list", "stat", "scan", "search", "query"})
WRITES: Final = frozenset({"create", "write", "delete", "move", "copy", "mkdir", "rmdir", "chmod", "chown", "touch"})


@dataclass(frozen=True, slots=True)
class CachePerformance:
    """What the journal's cache operations tell.

    Args:
        hits: Recorded hits.
        misses: Recorded misses.
        hit_rate: Hits by both, 0 to 1; None when neither was recorded.
        writes: Recorded cache writes.
        evictions: Recorded evictions.
    """

    hits: int
    misses: int
    hit_rate: float | None
    writes: int
    evictions: int


@dataclass(frozen=True, slots=True)
class HotPath:
    """A path and how often it was read or written."""

    path: str
    count: int


@dataclass(frozen=True, slots=True)
class AccessPatterns:
    """Who reads and writes how.

    Args:
        reads: Operations that read.
        writes: Operations that change.
        others: All others.
        failed: Those among all that failed.
        read_ms_mean: Mean of the reads' measured durations; None when none was measured.
        read_ms_p95: 95th percentile of the newest 100,000 of them.
        write_ms_mean: Mean of the writes' measured durations.
        bytes_read: Bytes of reads that are known; None when none is.
        bytes_written: Bytes of writes that are known.
        hot: The paths met most, with their counts.
        by_hour: Operations by hour of the day, UTC, 0 to 23; hours without any are left out.
    """

    reads: int
    writes: int
    others: int
    failed: int
    read_ms_mean: float | None
    read_ms_p95: float | None
    write_ms_mean: float | None
    bytes_read: int | None
    bytes_written: int | None
    hot: list[HotPath]
    by_hour: dict[str, int]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What a figure advises.

    Args:
        topic: ``cache``, ``latency``, ``memory``, ``cpu`` or ``disk``.
        figure: The figure that triggered it.
        value: Its value.
        threshold: The limit it passed.
        unit: Of both.
        advice: What to do.
    """

    topic: str
    figure: str
    value: float
    threshold: float
    unit: str
    advice: str


def patterns(rows: Iterable[VfsRow]) -> tuple[CachePerformance, AccessPatterns]:
    """Cache and access figures of rows of the journal, newest first."""
    cache: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    hours: Counter[str] = Counter()
    moved: Counter[str] = Counter()
    spent: dict[str, tuple[float, int]] = {}
    sample: list[float] = []
    for row in rows:
        verb = row.operation or ""
        if row.operation_type == "cache_operations":
            cache[verb] += 1
            continue
        kind = "reads" if verb in READS else "writes" if verb in WRITES else "others"
        kinds[kind] += 1
        kinds["failed"] += row.status in BAD
        hours[row.time[11:13]] += 1
        if row.size is not None:
            moved[kind] += row.size
        if row.path and kind != "others":
            paths[row.path] += 1
            if len(paths) > 2 * PATHS_MAX:
                paths = Counter(dict(paths.most_common(PATHS_MAX)))
        if row.duration_ms is not None:
            total, count = spent.get(kind, (0.0, 0))
            spent[kind] = (total + row.duration_ms, count + 1)
            if kind == "reads" and len(sample) < SAMPLE_MAX:
                sample.append(row.duration_ms)
    asked = cache["cache_hit"] + cache["cache_miss"]
    hit_rate = cache["cache_hit"] / asked if asked else None
    sample.sort()
    means = {kind: total / count for kind, (total, count) in spent.items()}
    return (
        CachePerformance(
            cache["cache_hit"], cache["cache_miss"], hit_rate, cache["cache_write"], cache["cache_evict"]
        ),
        AccessPatterns(
            kinds["reads"], kinds["writes"], kinds["others"], kinds["failed"], means.get("reads"),
            sample[min(len(sample) - 1, len(sample) * 95 // 100)] if sample else None, means.get("writes"),
            moved.get("reads"), moved.get("writes"), [HotPath(*each) for each in paths.most_common(HOT_MAX)],
            dict(sorted(hours.items())),
        ),
    )  # fmt: skip


_ADVICE: Final = (
    ("cache", "hit_rate", "<", 0.8, "of 1", "the cache misses often: enlarge it, or warm it with the hot paths"),
    ("latency", "read_ms_mean", ">", 10.0, "ms", "reads are slow: look at the slowest with 'ipfs-kit ledger query slowest_calls'"),
    ("memory", "memory_percent", ">", 85.0, "%", "memory is scarce: end what needs it, or run less side by side"),
    ("cpu", "cpu_percent", ">", 70.0, "%", "the processor is busy: move bulk work to quieter hours"),
    ("disk", "disk_percent", ">", 90.0, "%", "the disk is nearly full: run 'ipfs-kit gc', or give it room"),
)  # fmt: skip
"""Topic, figure, comparison, limit, unit, advice."""


def recommendations(figures: dict[str, float | None]) -> list[Recommendation]:
    """What figures advise, each with the figure that triggered it; a figure nobody measured advises nothing.

    Args:
        figures: ``hit_rate``, ``read_ms_mean``, ``memory_percent``, ``cpu_percent`` and ``disk_percent``.
    """
    found = []
    for topic, name, sign, limit, unit, advice in _ADVICE:
        value = figures.get(name)
        if value is not None and (value < limit if sign == "<" else value > limit):
            found.append(Recommendation(topic, name, value, limit, unit, advice))
    return found
