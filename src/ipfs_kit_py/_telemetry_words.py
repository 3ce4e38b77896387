"""The published vocabulary of telemetry."""

from __future__ import annotations

from enum import Enum
from typing import Any


class TelemetryMetricType(Enum):
    """What is measured."""

    OPERATION_COUNT = "operation_count"
    OPERATION_LATENCY = "operation_latency"
    SUCCESS_RATE = "success_rate"
    ERROR_RATE = "error_rate"
    BACKEND_HEALTH = "backend_health"
    THROUGHPUT = "throughput"
    QUEUE_SIZE = "queue_size"
    RETRY_COUNT = "retry_count"


class TelemetryAggregation(Enum):
    """One figure of many values."""

    SUM = "sum"
    AVERAGE = "average"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    PERCENTILE_95 = "percentile_95"
    PERCENTILE_99 = "percentile_99"
    COUNT = "count"
    RATE = "rate"


def word(value: Any) -> str | None:
    """The text of a published enum's member, or the text itself."""
    return None if value is None else str(getattr(value, "value", value))


def words(value: Any) -> list[str] | None:
    """The same as a list, for a filter."""
    text = word(value)
    return None if text is None else [text]


def bounds(time_range: Any) -> dict[str, float]:
    """A published range, ``(start, end)`` in seconds or datetimes, as arguments; None leaves an end open."""
    if time_range is None:
        return {}
    found = {}
    for name, at in zip(("since", "until"), time_range, strict=True):
        if at is not None:
            found[name] = float(at.timestamp() if hasattr(at, "timestamp") else at)
    return found
