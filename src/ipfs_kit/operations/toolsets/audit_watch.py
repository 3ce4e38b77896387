"""The audit trail watched: rules whose alerts fire once and clear, and detectors of what was not usual."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ledger import Where
from ipfs_kit.ledger.record import MAIN
from ipfs_kit.monitoring.alerts import CLEARED, RAISED
from ipfs_kit.monitoring.audit_rows import AuditRow, Chosen
from ipfs_kit.monitoring.audit_rules import RULES, Rule, judge
from ipfs_kit.monitoring.detectors import DETECTORS, Hit, detect
from ipfs_kit.operations.alerting import alert_book
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere, Nowhere
from ipfs_kit.operations.toolsets.audit import (
    COUNTED_MAX,
    SCANNED_MAX,
    SHOWN,
    STREAM,
    Since,
    Until,
    audit_row,
    gathered,
    span,
    trail,
)

SOURCE = "audit"
DAY_NS = 86_400 * 1_000_000_000
RULE_SET, CHECK = "audit.rule_set", "audit.check_alerts"
RULE, CHECKED = "audit_rule", "audit_checked"
"""Open fields of the records of both: no person's, so that no erasure changes what is watched."""
WINDOW_S_MAX = 86_400.0


@dataclass(frozen=True, slots=True)
class RuleList:
    """The rules as they are set."""

    rules: list[Rule]


@operation("audit.rules", Mode.READ, "audit:read", places=Nowhere("how rules are set"))
def audit_rules(ctx: Context) -> RuleList:
    """List the rules of the audit trail as they are set."""
    return RuleList(list(_rules(ctx).values()))


def _rules(ctx: Context) -> dict[str, Rule]:
    found = dict(RULES)
    where = Where(operation=frozenset({RULE_SET}), status=frozenset({"ok"}))
    for _, record in ctx.engine.ledger.select(MAIN, where):
        changed = record.ext.get(RULE)
        if isinstance(changed, dict) and (name := changed.get("rule")) in found:
            found[name] = replace(found[name], **{key: value for key, value in changed.items() if key != "rule"})
    return found


@dataclass(frozen=True, slots=True)
class RuleChange:
    """A rule as it is set now, and as it was before."""

    rule: Rule
    before: Rule


@operation(
    RULE_SET,
    Mode.WRITE,
    "audit:admin",
    idempotent=True,
    irreversible="set it again as it was before, which the result names",
    places=Everywhere("sets what is watched for all callers"),
)
def audit_rule_set(
    ctx: Context,
    rule: Annotated[Literal["failed_logins", "denials", "key_revocation", "new_ip"], Arg("the rule", positional=True)],
    enabled: Annotated[bool | None, Arg("whether it is judged")] = None,
    threshold: Annotated[int | None, Arg("rows from which on it holds", minimum=1, maximum=1_000_000)] = None,
    window_s: Annotated[float | None, Arg("rows of so many seconds count together, a day at most")] = None,
    severity: Annotated[Literal["info", "warning", "error", "critical"] | None, Arg("of its alert")] = None,
) -> RuleChange:
    """Change how a rule is set, what is left out stays."""
    if window_s is not None and not (math.isfinite(window_s) and 1 <= window_s <= WINDOW_S_MAX):
        raise InvalidInput(f"window_s is 1 to {WINDOW_S_MAX:.0f} seconds")
    given: dict[str, Any] = {
        "enabled": enabled, "threshold": threshold, "window_s": window_s, "severity": severity
    }  # fmt: skip
    changes = {name: value for name, value in given.items() if value is not None}
    before = _rules(ctx)[rule]
    ctx.draft.ext[RULE] = {"rule": rule, **changes}
    return RuleChange(replace(before, **changes), before)


@dataclass(frozen=True, slots=True)
class AlertChange:
    """An alert that this call raised or cleared.

    Args:
        rule: The rule.
        key: What it is about.
        state: ``raised`` or ``cleared``.
        severity: Of the alert.
        value: Rows within the rule's window.
        threshold: From how many rows on the rule holds.
        message: One sentence for a person.
        ops: The ops behind it.
    """

    rule: str
    key: str
    state: str
    severity: str
    value: int | None
    threshold: int | None
    message: str
    ops: list[str]


@dataclass(frozen=True, slots=True)
class AlertCheck:
    """What a check of the rules changed.

    Args:
        judged: Audit rows looked at.
        changes: Alerts raised and cleared by this call.
        active: Rule and key of every alert that stands raised now.
    """

    judged: int
    changes: list[AlertChange]
    active: list[list[str]]


@operation(
    CHECK,
    Mode.WRITE,
    "audit:write",
    irreversible="alerts stay recorded; one clears when its rule holds no more",
    places=SHOWN,
)
def audit_check_alerts(ctx: Context) -> AlertCheck:
    """Judge the rules over what was recorded since the last check; each alert is raised once, and cleared when over.

    What crossed a threshold and was over again between two checks is raised by the first and cleared by the next.
    """
    ledger, now = ctx.engine.ledger, ctx.draft.time_ns
    rules, size = _rules(ctx), ledger.size(MAIN)
    new_from, since = _last_check(ctx, now)
    since -= int(max(rule.window_s for rule in rules.values()) * 1e9)
    # The newest count when there are more than can be judged.
    found = list(zip(range(SCANNED_MAX), trail(ctx, (since, None), 0, size, newest_first=True), strict=False))
    rows = [audit_row(ctx, index, record) for _, (index, record) in reversed(found)]
    start = rows[0].index if rows else size
    firings = {
        (each.rule, each.key): each for each in judge(rules.values(), rows, new_from, now, _known(ctx, rows, start))
    }
    book, changes = alert_book(ctx), list[AlertChange]()
    before = set(book.active(SOURCE))
    for (name, key), firing in firings.items():
        rule = rules[name]
        told: dict[str, Any] = {
            "severity": rule.severity, "value": firing.value, "threshold": rule.threshold, "message": firing.message,
            "ops": firing.ops,
        }  # fmt: skip
        if (firing.holds or (name, key) not in before) and (
            book.update(name, key, True, source=SOURCE, **told) == RAISED
        ):
            changes.append(AlertChange(name, key, RAISED, **told))
    for name, key in sorted(before):
        held = firings.get((name, key))
        over = held is None or not held.holds
        if over and book.update(name, key, False, source=SOURCE, message="over") == CLEARED:
            changes.append(AlertChange(name, key, CLEARED, "info", None, None, "over", []))
    ctx.draft.ext[CHECKED] = size
    return AlertCheck(len(rows), changes, [[name, key] for name, key in book.active(SOURCE)])


def _last_check(ctx: Context, now_ns: int) -> tuple[int, int]:
    """Up to which index the last check looked, and when that was; a day back when there was none."""
    where = Where(operation=frozenset({CHECK}), status=frozenset({"ok"}))
    for _, record in ctx.engine.ledger.select(MAIN, where, newest_first=True):
        upto = record.ext.get(CHECKED)
        if isinstance(upto, int):
            return upto, min(now_ns, record.time_ns)
    return 0, now_ns - DAY_NS


def _known(ctx: Context, rows: list[AuditRow], start: int) -> set[tuple[str, str]]:
    """User and address of the sign-ins before an index, of those who signed in after it."""
    users = {row.user_id for row in rows if row.signed_in and row.user_id and row.ip_address}
    subjects = {found for user in users if (found := ctx.engine.keys.find_subject(user)) is not None}
    if not subjects:
        return set()
    where = Where(stream=frozenset({STREAM}), subject=frozenset(subjects))
    pairs: set[tuple[str, str]] = set()
    for seen, (index, record) in enumerate(ctx.engine.ledger.select(MAIN, where, 0, start, newest_first=True)):
        if seen == SCANNED_MAX:
            break
        row = audit_row(ctx, index, record)
        if row.signed_in and row.user_id and row.ip_address:
            pairs.add((row.user_id, row.ip_address))
    return pairs


@dataclass(frozen=True, slots=True)
class Detection:
    """What detectors found.

    Args:
        hits: What was not usual, oldest first.
        learned: Rows that showed what is usual.
        judged: Rows that were judged.
    """

    hits: list[Hit]
    learned: int
    judged: int


@operation("audit.detect", Mode.READ, "audit:read", places=SHOWN)
def audit_detect(
    ctx: Context,
    detectors: Annotated[list[str] | None, Arg("rate, novelty, sequence; all when left out")] = None,
    since: Since = None,
    until: Until = None,
    learn_s: Annotated[float, Arg("seconds before since that show what is usual")] = 30 * 86_400.0,
) -> Detection:
    """Judge the audit trail since a time, a day when left out, against what was usual before it.

    Each hit names its baseline, its threshold, the value found and the ops behind it.
    """
    names = list(DETECTORS) if detectors is None else detectors
    if unknown := sorted(set(names) - set(DETECTORS)):
        raise InvalidInput(f"{unknown[0][:60]!r} is no detector: they are {', '.join(DETECTORS)}")
    if not (math.isfinite(learn_s) and learn_s > 0):
        raise InvalidInput("learn_s is a number of seconds")
    begun, ended = span(since, until)
    begun = ctx.draft.time_ns - DAY_NS if begun is None else begun
    rows = _newest(gathered(ctx, Chosen(), (begun, ended)))
    before = _newest(gathered(ctx, Chosen(), (begun - int(learn_s * 1e9), begun)))
    return Detection(detect(names, before, rows), len(before), len(rows))


def _newest(rows: Iterator[AuditRow]) -> list[AuditRow]:
    """The newest rows, oldest first."""
    return [row for _, row in zip(range(COUNTED_MAX // 4), rows, strict=False)][::-1]
