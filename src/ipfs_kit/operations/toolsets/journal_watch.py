"""Journals watched: figures, crossed thresholds, and an alert once for each change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.buckets import transactions
from ipfs_kit.errors import InvalidInput
from ipfs_kit.monitoring.alerts import RAISED
from ipfs_kit.monitoring.journal_monitor import RULES, THRESHOLDS, Figures, Issue, figures, issues
from ipfs_kit.operations.alerting import alert_book
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, Touch
from ipfs_kit.operations.toolsets.journal import Journal, standing

SOURCE = "journal"


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
    book, raised, cleared = alert_book(ctx), list[str](), list[str]()
    for rule in RULES:
        issue = crossed.get(rule)
        told: dict[str, Any] = {} if issue is None else {
            "severity": issue.severity, "value": issue.value, "threshold": issue.threshold, "message": issue.message
        }  # fmt: skip
        change = book.update(rule, journal, issue is not None, source=SOURCE, **told)
        if change is not None:
            (raised if change == RAISED else cleared).append(rule)
    status = "healthy"
    if crossed:
        status = "critical" if any(issue.severity == "critical" for issue in crossed.values()) else "warning"
    return JournalHealth(journal, status, found, list(crossed.values()), raised, cleared)
