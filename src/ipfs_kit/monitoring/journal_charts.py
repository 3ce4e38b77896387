"""What the seven pictures of a journal show: labels and values, counted from its entries and state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ipfs_kit.errors import InvalidInput
from ipfs_kit.monitoring.journal_monitor import Entry
from ipfs_kit.monitoring.plots import Chart, Series

PLOTS: Final = (
    "entry_types",
    "entry_statuses",
    "journal_growth",
    "tier_distribution",
    "operation_times",
    "error_rate",
    "tier_storage_usage",
)
"""Names of the pictures."""
BUCKETS: Final = 24
"""Equal parts that a range of time is cut into."""
_DRAWN: Final = {
    "entry_types": ("Entries by type", "bar", "type", "entries"),
    "entry_statuses": ("Entries by status", "pie", "", ""),
    "journal_growth": ("Growth of the journal", "line", "time (UTC)", "entries so far"),
    "tier_distribution": ("Files by tier", "bar", "tier", "files"),
    "operation_times": ("Mean time of an operation", "bar", "type", "milliseconds"),
    "error_rate": ("Share of settled entries that failed", "line", "time (UTC)", "share"),
    "tier_storage_usage": ("Bytes by tier", "bar", "tier", "bytes"),
}
"""Title, kind and labels by picture."""


def data(
    entries: Iterable[Entry], sizes_by_tier: Mapping[str, Iterable[int]], since_ns: int, until_ns: int
) -> dict[str, dict[str, Any]]:
    """Labels and values of each picture.

    Args:
        entries: Entries as they stand, in any order.
        sizes_by_tier: Sizes in bytes of the files in each tier.
        since_ns: Entries before are left out.
        until_ns: Entries at or after are left out.

    Returns:
        By name of the picture: ``labels`` and ``values``, equally many; a part of time without settled entries has the
        error rate None.
    """
    seen = [each for each in entries if since_ns <= each.time_ns < until_ns]
    span = max(1, until_ns - since_ns)
    parts: list[list[Entry]] = [[] for _ in range(BUCKETS)]
    for each in seen:
        parts[(each.time_ns - since_ns) * BUCKETS // span].append(each)
    starts = [(since_ns + span * part // BUCKETS) / 1e9 for part in range(BUCKETS)]
    times: dict[str, list[float]] = {}
    for each in seen:
        if each.duration_ms is not None:
            times.setdefault(each.operation_type, []).append(each.duration_ms)
    grown = 0
    growth = []
    for part in parts:
        grown += len(part)
        growth.append(grown)
    tiers = {tier: list(sizes) for tier, sizes in sizes_by_tier.items()}
    return {
        "entry_types": _counted(Counter(each.operation_type for each in seen)),
        "entry_statuses": _counted(Counter(each.status for each in seen)),
        "journal_growth": {"labels": [*starts[1:], until_ns / 1e9], "values": growth},
        "tier_distribution": {"labels": sorted(tiers), "values": [len(tiers[tier]) for tier in sorted(tiers)]},
        "operation_times": {
            "labels": sorted(times),
            "values": [sum(times[kind]) / len(times[kind]) for kind in sorted(times)],
        },
        "error_rate": {"labels": starts, "values": [_error_rate(part) for part in parts]},
        "tier_storage_usage": {"labels": sorted(tiers), "values": [sum(tiers[tier]) for tier in sorted(tiers)]},
    }


def _counted(found: Mapping[str, int]) -> dict[str, Any]:
    return {"labels": sorted(found), "values": [found[name] for name in sorted(found)]}


def _error_rate(part: Iterable[Entry]) -> float | None:
    settled = [each.status for each in part if each.status in ("completed", "failed")]
    return settled.count("failed") / len(settled) if settled else None


def chart(name: str, found: Mapping[str, Any]) -> Chart:
    """One of the pictures of ``data``.

    Args:
        name: One of ``PLOTS``.
        found: Its ``labels`` and ``values``.

    Raises:
        InvalidInput: No such picture, or no labels and values.
    """
    if name not in _DRAWN:
        raise InvalidInput(f"{name[:40]!r} is no picture of a journal: they are {', '.join(PLOTS)}")
    if not isinstance(found.get("labels"), list) or not isinstance(found.get("values"), list):
        raise InvalidInput(
            f"the figures of {name} have no labels and values: collect them with collect_operation_stats"
        )
    title, kind, x_label, y_label = _DRAWN[name]
    shown = Series(title, found["labels"], found["values"])
    return Chart(title, kind, x_label, y_label, [shown], times=kind == "line")
