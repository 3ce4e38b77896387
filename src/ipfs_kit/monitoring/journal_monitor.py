"""Figures of a file system journal and the issues they show: pure functions of its entries and the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

THRESHOLDS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "journal_size_warning": 1000.0,
        "journal_growth_rate_warning": 50.0,
        "checkpoint_age_warning": 3600.0,
        "error_rate_warning": 0.10,
        "transaction_time_warning": 30.0,
    }
)
"""Entries since the checkpoint, entries a minute, seconds, share of failed entries, seconds."""
RULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "journal_size": "journal_size_warning",
        "growth_rate": "journal_growth_rate_warning",
        "checkpoint_age": "checkpoint_age_warning",
        "error_rate": "error_rate_warning",
        "long_transaction": "transaction_time_warning",
    }
)
"""Threshold by issue type."""
GROWTH_WINDOW_S: Final = 300.0
"""Entries of the last five minutes tell the growth."""
RECENT_S: Final = 3_600.0
"""Entries of the last hour tell the error rate, so that a journal that works again recovers."""
ERRORS_MIN: Final = 10
"""Fewer settled entries tell no rate."""


class Entry(Protocol):
    """What is read of an entry as it stands."""

    @property
    def operation_type(self) -> str:
        """Its kind."""

    @property
    def status(self) -> str:
        """How it stands."""

    @property
    def time_ns(self) -> int:
        """When it was made."""

    @property
    def duration_ms(self) -> float | None:
        """How long it took."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a journal shows at one time.

    Args:
        entries: Entries seen.
        since_checkpoint: Entries made after the newest checkpoint.
        growth_per_min: Entries a minute over the last five minutes.
        checkpoint_age_s: Seconds since the newest checkpoint, or since the first entry when there is none.
        error_rate: Share of the last hour's settled entries that failed; None when too few were settled.
        longest_transaction_s: Age of the oldest open transaction; None when none is open.
        by_type: Entries by kind.
        by_status: Entries by how they stand.
        mean_ms: Mean time taken by kind, milliseconds.
    """

    entries: int
    since_checkpoint: int
    growth_per_min: float
    checkpoint_age_s: float | None
    error_rate: float | None
    longest_transaction_s: float | None
    by_type: dict[str, int] = field(default_factory=dict)
    by_status: dict[str, int] = field(default_factory=dict)
    mean_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Issue:
    """A threshold that is crossed.

    Args:
        type: ``journal_size``, ``growth_rate``, ``checkpoint_age``, ``error_rate`` or ``long_transaction``.
        severity: ``warning`` or ``critical``.
        value: The figure.
        threshold: What it crossed.
        message: One sentence for a person.
    """

    type: str
    severity: str
    value: float
    threshold: float
    message: str


def figures(entries: Iterable[Entry], begun_ns: Iterable[int], now_ns: int) -> Figures:
    """The figures of a journal.

    Args:
        entries: Its entries as they stand, in any order.
        begun_ns: When each open transaction began.
        now_ns: The time.
    """
    seen = list(entries)
    made = [each for each in seen if each.operation_type != "checkpoint"]
    checkpoints = [each.time_ns for each in seen if each.operation_type == "checkpoint" and each.status == "completed"]
    mark = max(checkpoints, default=None)
    since = [each for each in made if mark is None or each.time_ns > mark]
    # Nothing waits for a checkpoint while nothing was entered since the last one.
    oldest = None if not since else mark if mark is not None else min(each.time_ns for each in since)
    recent = [each for each in made if (now_ns - each.time_ns) / 1e9 < GROWTH_WINDOW_S]
    settled = [
        each.status
        for each in made
        if each.status in ("completed", "failed") and (now_ns - each.time_ns) / 1e9 < RECENT_S
    ]
    begun = min(begun_ns, default=None)
    times: dict[str, list[float]] = {}
    for each in made:
        if each.duration_ms is not None:
            times.setdefault(each.operation_type, []).append(each.duration_ms)
    return Figures(
        entries=len(seen),
        since_checkpoint=len(since),
        growth_per_min=len(recent) * 60 / GROWTH_WINDOW_S,
        checkpoint_age_s=None if oldest is None else (now_ns - oldest) / 1e9,
        error_rate=settled.count("failed") / len(settled) if len(settled) >= ERRORS_MIN else None,
        longest_transaction_s=None if begun is None else (now_ns - begun) / 1e9,
        by_type=dict(Counter(each.operation_type for each in seen)),
        by_status=dict(Counter(each.status for each in seen)),
        mean_ms={kind: sum(values) / len(values) for kind, values in times.items()},
    )


def issues(found: Figures, thresholds: Mapping[str, float] = THRESHOLDS) -> list[Issue]:
    """The thresholds that figures cross, each above its limit, not at it."""
    judged = (
        ("journal_size", float(found.since_checkpoint), "{:.0f} entries since the checkpoint: make one"),
        ("growth_rate", found.growth_per_min, "the journal grows by {:.1f} entries a minute"),
        ("checkpoint_age", found.checkpoint_age_s, "entries wait {:.0f} s for a checkpoint: make one"),
        ("error_rate", found.error_rate, "a share of {:.2f} of the entries failed: look at the failed ones"),
        ("long_transaction", found.longest_transaction_s, "a transaction is open for {:.0f} s: commit or roll it back"),
    )
    crossed = []
    for rule, value, message in judged:
        limit = thresholds[RULES[rule]]
        if value is not None and value > limit:
            severity = "critical" if rule == "error_rate" else "warning"
            crossed.append(Issue(rule, severity, value, limit, message.format(value)))
    return crossed
