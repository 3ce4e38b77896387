"""Words of the published health checks, and how they are those of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ipfs_kit.monitoring.health import Check, Outcome


class HealthStatus(Enum):
    """How a check went."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass
class HealthCheck:
    """A check; its function returns a status, a bool, a mapping with ``status``, or a status and details."""

    id: str
    name: str
    description: str
    check_type: str
    target: str
    check_function: Callable[..., Any]
    interval: float = 60
    timeout: float = 10
    critical: bool = False
    enabled: bool = True
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class HealthCheckResult:
    """A result of a check."""

    check_id: str
    status: HealthStatus
    timestamp: float
    details: dict[str, Any]
    duration_ms: float
    error: str | None = None


def outcome(found: Any) -> Outcome:
    """What a check function returned, as the engine's own result."""
    if isinstance(found, bool):
        return Outcome("healthy" if found else "unhealthy")
    if isinstance(found, tuple) and len(found) == 2:
        return Outcome(outcome(found[0]).status, dict(found[1]))
    if isinstance(found, dict):
        rest = {name: value for name, value in found.items() if name not in ("status", "error")}
        return Outcome(outcome(found.get("status", "unknown")).status, rest, found.get("error"))
    return Outcome(str(found.value if isinstance(found, Enum) else found))


def published(event: dict[str, Any], at: float) -> HealthCheckResult:
    """A recorded result as published."""
    took = float(event.get("duration_ms") or 0.0)
    details = dict(event.get("details") or {})
    return HealthCheckResult(event["check_id"], HealthStatus(event["status"]), at, details, took, event.get("error"))


def engine_check(check: HealthCheck) -> Check:
    """A published check as the engine's."""
    return Check(
        check.id, check.description, float(check.interval), float(check.timeout), check.critical, check.enabled,
        target=check.target,
    )  # fmt: skip


def work(check: HealthCheck) -> Callable[[], Outcome]:
    """What runs a published check."""
    return lambda: outcome(check.check_function())
