"""Health: checks run, their results recorded in the stream ``health``, an alert once for each change."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.ledger import Where
from ipfs_kit.ledger.record import BULK, MAIN
from ipfs_kit.ledger.streams.registry import APPEND, stream_named
from ipfs_kit.monitoring import health
from ipfs_kit.monitoring.health import BUILT_IN, Check, Outcome, Runner, overall
from ipfs_kit.operations.alerting import alert_book
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.stream import append_beside, stream_query
from ipfs_kit.operations.views import iso_time

STREAM = "health"
RULES = (health.DEGRADED, health.UNHEALTHY)
RESULTS_MAX = 200
LOOKED_MAX = 20_000
"""Newest results looked at for the present state."""
CONFIGURED_MAX = 10_000
KEPT = "results and alerts stay recorded; an alert clears when its check recovers"
HERE = Everywhere("tells of the whole store and machine")
_RUNNER = Runner(time.monotonic_ns)

Names = Annotated[list[str] | None, Arg("the checks; all that are enabled when left out", positional=True)]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A result of a check.

    Args:
        check: The check.
        status: ``healthy``, ``degraded``, ``unhealthy`` or ``unknown``.
        critical: Whether the check decides over the whole.
        time: When it was recorded; None right after the run.
        duration_ms: How long it took.
        target: What was checked.
        error: Why it is not healthy.
        details: Measured values.
    """

    check: str
    status: str
    critical: bool
    time: str | None
    duration_ms: float | None
    target: str | None
    error: str | None
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the store does.

    Args:
        status: The whole: unhealthy by a critical check only.
        results: A result of each check.
        raised: ``CHECK: STATUS`` of each alert raised by this call.
        cleared: The same of those cleared.
    """

    status: str
    results: list[CheckResult]
    raised: list[str]
    cleared: list[str]


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """The newest result of each check, the whole, and the same as Prometheus text."""

    status: str
    results: list[CheckResult]
    metrics: str


@dataclass(frozen=True, slots=True)
class HealthHistory:
    """Results, newest first; pass ``cursor`` to continue, None when this was the last page."""

    results: list[CheckResult]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class CheckList:
    """The checks with the settings in force."""

    checks: list[Check]


@operation("health.run", Mode.WRITE, "health:write", irreversible=KEPT, places=HERE, aliases=("get_system_health",))
def health_run(ctx: Context, checks: Names = None) -> HealthReport:
    """Run health checks side by side, record a result of each, and an alert for each change.

    The call takes no longer than the longest time limit of the checks.

    Raises:
        NotFound: There is no such check.
    """
    settings = _settings(ctx)
    if unknown := sorted(set(checks or ()) - settings.keys()):
        raise NotFound(f"there is no check {unknown[0][:60]!r}: they are {', '.join(settings)}")
    chosen = [each for each in settings.values() if (each.id in checks if checks else each.enabled)]
    if not chosen:
        raise InvalidInput("every check is off: turn one on with 'ipfs-kit health configure'")
    return _record(ctx, _RUNNER.run([(check, _work(ctx, check)) for check in chosen]))


def _work(ctx: Context, check: Check) -> Callable[[], Outcome]:
    engine = ctx.engine
    table: dict[str, Callable[[], Outcome]] = {
        "system_cpu": partial(health.cpu, check),
        "system_memory": partial(health.memory, check),
        "system_disk": partial(health.disk, check, engine.path),
        "store": lambda: _store(ctx),
        "ledger": lambda: _ledger(ctx),
        "network_connectivity": partial(health.network, check),
    }
    return table[check.id]


def _store(ctx: Context) -> Outcome:
    engine = ctx.engine
    if engine.failed:
        return Outcome(health.UNHEALTHY, error="the store stopped after a failed write: open it again")
    if not engine.has_room():
        return Outcome(health.UNHEALTHY, error="the disk is full: run 'ipfs-kit gc' or free disk space")
    return Outcome(health.HEALTHY, {"format": engine.format})


def _ledger(ctx: Context) -> Outcome:
    sizes = {}
    for log in (MAIN, BULK):
        sizes[f"{log}_records"] = size = ctx.engine.ledger.size(log)
        if size:
            ctx.engine.ledger.record_at(log, size - 1)
    return Outcome(health.HEALTHY, sizes)


@operation("health.report", Mode.WRITE, "health:write", irreversible=KEPT, places=HERE)
def health_report(
    ctx: Context,
    results: Annotated[
        list[dict[str, Any]], Arg("results of checks of your own: fields of the stream health", positional=True)
    ],
) -> HealthReport:
    """Record results of checks that a program ran itself, and an alert for each change.

    Raises:
        InvalidInput: A result has no check_id, or no status of the four.
    """
    if not 0 < len(results) <= RESULTS_MAX:
        raise InvalidInput(f"give 1 to {RESULTS_MAX} results, not {len(results)}")
    for each in results:
        if each.get("status") not in health.STATUSES:
            raise InvalidInput(f"the status of a result is one of {', '.join(health.STATUSES)}")
    return _record(ctx, results)


def _record(ctx: Context, events: list[dict[str, Any]]) -> HealthReport:
    family = stream_named(STREAM)
    append_beside(ctx, family, [family.check(event) for event in events])
    book, changed = alert_book(ctx), dict[str, list[str]](raised=[], cleared=[])
    for event in events:
        for rule in RULES:
            name, firing = str(event["check_id"]), event["status"] == rule
            if event["status"] == health.UNKNOWN:
                continue  # what could not be told neither raises nor clears
            grave = rule == health.UNHEALTHY
            severity = "critical" if grave and event.get("critical") else "error" if grave else "warning"
            message = f"{name} is {event['status']}: {event.get('error') or 'no reason given'}"[:1000]
            told: dict[str, Any] = {
                "severity": severity,
                "source": STREAM,
                "message": message if firing else f"{name} is not {rule}",
            }
            change = book.update(rule, name, firing, **told)
            if change is not None:
                changed[change].append(f"{name}: {rule}")
    return HealthReport(overall(events), [_result(each, None) for each in events], **changed)


def _result(event: dict[str, Any], at: str | None) -> CheckResult:
    return CheckResult(
        str(event["check_id"]), str(event["status"]), bool(event.get("critical")), at, event.get("duration_ms"),
        event.get("target"), event.get("error"), dict(event.get("details") or {}),
    )  # fmt: skip


@operation("health.status", Mode.READ, "health:read", places=HERE)
def health_status(ctx: Context) -> HealthStatus:
    """Return the newest result of each check and the status of the whole, without running anything."""
    ledger, newest, counts = ctx.engine.ledger, dict[str, tuple[dict[str, Any], str]](), Counter[str]()
    where = Where(stream=frozenset({STREAM}))
    for seen, (_, record) in enumerate(ledger.select(BULK, where, 0, None, newest_first=True)):
        if seen >= LOOKED_MAX:
            break
        event = ledger.open_record(record).args if record.operation == APPEND else None
        if event:
            newest.setdefault(str(event["check_id"]), (event, iso_time(record.time_ns)))
            counts[str(event["check_id"])] += 1
    off = {check.id for check in _settings(ctx).values() if not check.enabled}
    shown = [newest[name] for name in sorted(newest) if name not in off]
    events = [event for event, _ in shown]
    text = "\n".join(health.prometheus(events, counts)) + "\n"
    return HealthStatus(overall(events), [_result(event, at) for event, at in shown], text)


@operation("health.history", Mode.READ, "health:read", places=HERE)
def health_history(
    ctx: Context,
    check: Annotated[str | None, Arg("the check; all when left out", positional=True)] = None,
    status: Annotated[list[str] | None, Arg(f"only these: {', '.join(health.STATUSES)}")] = None,
    since: Annotated[float | None, Arg("recorded at or after, seconds since 1970")] = None,
    until: Annotated[float | None, Arg("recorded before, seconds since 1970")] = None,
    limit: Annotated[int, Arg("most results to return", minimum=1, maximum=10_000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> HealthHistory:
    """Return recorded results, newest first."""
    match: dict[str, Any] = {"check_id": check} if check else {}
    if status:
        match["status"] = status
    page = stream_query(ctx, STREAM, since, until, None, match, None, False, limit, cursor)
    return HealthHistory([_result(row.event, row.time) for row in page.rows if row.event], page.cursor)


@operation("health.checks", Mode.READ, "health:read", places=HERE)
def health_checks(ctx: Context) -> CheckList:
    """List the built-in checks with the settings in force."""
    return CheckList(list(_settings(ctx).values()))


@operation(
    "health.configure",
    Mode.WRITE,
    "health:admin",
    idempotent=True,
    irreversible="configure again with the settings before, which the record of the last call names",
    places=HERE,
)
def health_configure(
    ctx: Context,
    check: Annotated[str, Arg("the check", positional=True)],
    enabled: Annotated[bool | None, Arg("whether it is run")] = None,
    critical: Annotated[bool | None, Arg("whether it decides over the whole")] = None,
    interval_s: Annotated[float | None, Arg("how often it is due, seconds")] = None,
    timeout_s: Annotated[float | None, Arg("longest time it may take, seconds")] = None,
    degraded_at: Annotated[float | None, Arg("percent from which it is degraded")] = None,
    unhealthy_at: Annotated[float | None, Arg("percent from which it is unhealthy")] = None,
    target: Annotated[str | None, Arg("HOST:PORT of network_connectivity")] = None,
) -> Check:
    """Change settings of a check, what is left out stays; return all of them. They are kept in the op's own record.

    Raises:
        NotFound: There is no such check.
    """
    settings = _settings(ctx)
    if check not in settings:
        raise NotFound(f"there is no check {check[:60]!r}: they are {', '.join(settings)}")
    given = {
        "enabled": enabled, "critical": critical, "interval_s": interval_s, "timeout_s": timeout_s,
        "degraded_at": degraded_at, "unhealthy_at": unhealthy_at, "target": target,
    }  # fmt: skip
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    for name, low, high in (
        ("interval_s", 1, 1e7), ("timeout_s", 0.01, 600), ("degraded_at", 0, 100), ("unhealthy_at", 0, 100),
    ):  # fmt: skip
        if name in changes and not low <= changes[name] <= high:
            raise InvalidInput(f"{name} of a check is {low:g} to {high:g}, not {changes[name]}")
    made = dataclasses.replace(settings[check], **changes)
    ctx.draft.ext = {"health_check": {**{name: getattr(made, name) for name in given}, "id": check}}
    return made


def _settings(ctx: Context) -> dict[str, Check]:
    """Checks by name, as the newest record about each leaves them."""
    found: dict[str, Check] = {}
    ledger, where = ctx.engine.ledger, Where(operation=frozenset({"health.configure"}), status=frozenset({"ok"}))
    declared = {check.id: check for check in BUILT_IN}
    for seen, (_, record) in enumerate(ledger.select(MAIN, where, 0, None, newest_first=True)):
        if seen >= CONFIGURED_MAX or found.keys() == declared.keys():
            break
        kept = (record.ext or {}).get("health_check") if isinstance(record.ext, dict) else None
        if isinstance(kept, dict) and kept.get("id") in declared and kept["id"] not in found:
            found[kept["id"]] = Check(about=declared[kept["id"]].about, **kept)
    return {name: found.get(name, check) for name, check in declared.items()}
