"""Frozen record types of the streams: what one event of each family says.

An event becomes the arguments of one op record (``docs/format/streams.md``); its fields become the columns of the
stream's SQL view. Fields are added at the end and never renamed: records outlive the code that wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Details = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """Something that matters to security.

    Args:
        event_type: ``authentication``, ``authorization``, ``user``, ``role``, ``api_key``, ``oauth``, ``data``, ``system``,
            ``backend`` or ``admin``.
        action: What was done.
        severity: ``info``, ``warning``, ``error`` or ``critical``.
        user_id: The person it is about: the event is sealed under this person's key.
        ip_address: Where from.
        resource_id: On what.
        resource_type: On what kind of thing.
        status: How it ended, for example ``success`` or ``failure``.
        request_id: The request it belongs to.
        event_time: When it happened, as the caller says, seconds since 1970; the record has its own time.
        details: Anything else.
    """

    event_type: str
    action: str
    severity: str = "info"
    user_id: str | None = None
    ip_address: str | None = None
    resource_id: str | None = None
    resource_type: str | None = None
    status: str | None = None
    request_id: str | None = None
    event_time: float | None = None
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One structured log line.

    Args:
        level: ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL``.
        message: Its text, secrets redacted.
        component: Which part wrote it.
        logger: Name of the logger.
        source: File or place it came from.
        line: Line in that file.
        event_time: When it was written, seconds since 1970.
        exception: Traceback, secrets redacted.
        details: Structured fields.
    """

    level: str
    message: str
    component: str = ""
    logger: str = ""
    source: str | None = None
    line: int | None = None
    event_time: float | None = None
    exception: str | None = None
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value, or a change of state, of the telemetry.

    Args:
        metric: What was measured.
        value: The value; None for a change of state.
        unit: Its unit.
        operation_type: The operation measured.
        backend: The backend measured.
        status: State reached.
        operation_id: The operation it belongs to.
        event_time: When, seconds since 1970.
        details: Labels and anything else.
    """

    metric: str
    value: float | None = None
    unit: str = ""
    operation_type: str | None = None
    backend: str | None = None
    status: str | None = None
    operation_id: str | None = None
    event_time: float | None = None
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HealthResult:
    """One result of a health check.

    Args:
        check_id: The check.
        status: ``healthy``, ``degraded``, ``unhealthy`` or ``unknown``.
        critical: Whether the check decides over the whole.
        duration_ms: How long it took.
        target: What was checked.
        error: Why it failed.
        details: Measured values.
    """

    check_id: str
    status: str
    critical: bool = False
    duration_ms: float | None = None
    target: str | None = None
    error: str | None = None
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert raised or cleared.

    Args:
        rule: The rule, unique within its source.
        state: ``raised`` or ``cleared``.
        severity: ``info``, ``warning``, ``error`` or ``critical``.
        source: ``audit``, ``health``, ``journal`` or another part with rules.
        key: What it is about when a rule watches many things.
        value: Value that crossed the threshold.
        threshold: The threshold.
        message: One sentence for a person.
        ops: Ops behind it, ``LOG:INDEX`` each.
        details: Anything else.
    """

    rule: str
    state: str
    severity: str = "warning"
    source: str = ""
    key: str = ""
    value: float | None = None
    threshold: float | None = None
    message: str = ""
    ops: list[str] = field(default_factory=list)
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry of a file system journal.

    Args:
        operation_type: Kind of change, for example ``create``.
        path: What it is about.
        operation: Verb within the kind.
        backend: Where.
        status: ``pending``, ``completed``, ``failed``, ``rolled_back`` or ``success``.
        entry_id: Id by which the entry's later states name it.
        transaction_id: Transaction it belongs to.
        duration_ms: How long it took.
        size: Bytes concerned.
        details: Anything else.
    """

    operation_type: str
    path: str = ""
    operation: str = ""
    backend: str = ""
    status: str = "success"
    entry_id: str | None = None
    transaction_id: str | None = None
    duration_ms: float | None = None
    size: int | None = None
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """One observed change of a file.

    Args:
        path: Path that changed.
        change: ``added``, ``modified`` or ``deleted``.
        origin: ``inside`` (by an operation of this store) or ``outside``.
        place: Checked-out folder or mount.
        bucket: Bucket it belongs to.
        size: Bytes after the change.
        op: Op that made it, when it came from inside.
        details: Anything else.
    """

    path: str
    change: str
    origin: str = "outside"
    place: str = ""
    bucket: str | None = None
    size: int | None = None
    op: str | None = None
    details: Details = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of work that later parts report: replication, lifecycle, training and the like.

    Args:
        kind: What happened.
        subject: What it is about.
        status: How it stands.
        backend: Where.
        duration_ms: How long it took.
        size: Bytes concerned.
        details: Anything else.
    """

    kind: str
    subject: str = ""
    status: str = ""
    backend: str | None = None
    duration_ms: float | None = None
    size: int | None = None
    details: Details = field(default_factory=dict)
