"""Journals watched: figures, crossed thresholds, and an alert once for each change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.buckets import transactions
from ipfs_kit.errors import InvalidInput
from ipfs_kit.ledger import Draft, Where
from ipfs_kit.ledger.record import FSYNC, MAIN, new_op_id
from ipfs_kit.ledger.streams.registry import APPEND, stream_named
from ipfs_kit.monitoring.journal_monitor import RULES, THRESHOLDS, Figures, Issue, figures, issues
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, Touch
from ipfs_kit.operations.toolsets.journal import Journal, standing

ALERTS = "alerts"
SOURCE = "journal"
LOOKED_MAX = 100_000
"""Alerts looked at for the present state of five rules."""


@dataclass(frozen=True, slots=True)
class JournalHealth:
    """How a journal does.

    Args:
        journal: The journal.
        status: ``healthy``, ``warning`` or ``critical``.
        figures: What was measured.
        issues: Thresholds crossed.
        raised: Rules whose alert was raised by this call.
        cleared: Rules whose alert was cleared by this call.
    """

    journal: str
    status: str
    figures: Figures
    issues: list[Issue]
    raised: list[str]
    cleared: list[str]


@operation(
    "journal.check",
    Mode.WRITE,
    "files:read",
    target=lambda bound: str(bound["journal"]),
    irreversible="alerts stay recorded; one clears when its figure recovers",
    places=(Touch("journal", READ, whole=True),),
)
def journal_check(
    ctx: Context,
    journal: Journal,
    thresholds: Annotated[dict[str, Any] | None, Arg("limits by name, in place of the usual ones")] = None,
) -> JournalHealth:
    """Measure a journal and record an alert for each threshold newly crossed or recovered from."""
    limits = dict(THRESHOLDS)
    for name, value in (thresholds or {}).items():
        if name not in limits or isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(f"{name[:60]!r} is no threshold with a number: they are {', '.join(limits)}")
        limits[name] = float(value)
    open_now = transactions.open_transactions(ctx.engine.buckets, journal)
    # A transaction's id is the op id that began it, whose first 48 bits are its time in milliseconds.
    begun = [int(each[:12], 16) * 1_000_000 for each in open_now]
    found = figures(standing(ctx, journal), begun, ctx.draft.time_ns)
    crossed = {issue.type: issue for issue in issues(found, limits)}
    active = _active(ctx, journal)
    raised = [rule for rule in crossed if rule not in active]
    cleared = [rule for rule in RULES if rule in active and rule not in crossed]
    _record(ctx, journal, [crossed[rule] for rule in raised], cleared)
    status = "healthy"
    if crossed:
        status = "critical" if any(issue.severity == "critical" for issue in crossed.values()) else "warning"
    return JournalHealth(journal, status, found, list(crossed.values()), raised, cleared)


def _active(ctx: Context, journal: str) -> set[str]:
    """Rules whose newest alert for this journal was raised and not cleared."""
    ledger, states = ctx.engine.ledger, dict[str, str]()
    where = Where(stream=frozenset({ALERTS}))
    for seen, (_, record) in enumerate(ledger.select(MAIN, where, 0, None, newest_first=True)):
        if seen >= LOOKED_MAX or len(states) == len(RULES):
            break
        event = ledger.open_record(record).args if record.operation == APPEND else None
        if event and event.get("source") == SOURCE and event.get("key") == journal:
            states.setdefault(event["rule"], event["state"])
    return {rule for rule, state in states.items() if state == "raised"}


def _record(ctx: Context, journal: str, raised: list[Issue], cleared: list[str]) -> None:
    events: list[dict[str, Any]] = [
        {
            "rule": issue.type, "state": "raised", "severity": issue.severity, "source": SOURCE, "key": journal,
            "value": issue.value, "threshold": issue.threshold, "message": issue.message,
        }
        for issue in raised
    ]  # fmt: skip
    events += [
        {"rule": rule, "state": "cleared", "severity": "info", "source": SOURCE, "key": journal} for rule in cleared
    ]
    if not events:
        return
    draft = ctx.draft
    drafts = [
        Draft(
            op_id=new_op_id(draft.time_ns, ctx.engine.random), time_ns=draft.time_ns, actor=draft.actor,
            surface=draft.surface, operation=APPEND, log=MAIN, stream=ALERTS, ack=FSYNC, parent=draft.op_id,
            trace=draft.trace, args=stream_named(ALERTS).check(event),
        )
        for event in events
    ]  # fmt: skip
    ctx.engine.ledger.submit_many(drafts).result()
