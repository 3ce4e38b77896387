"""Rules over the audit trail: so many rows of a kind about one thing within a span of time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ipfs_kit.monitoring.audit_rows import AuditRow

OPS_MAX: Final = 100
"""Ops named behind one alert."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Args:
        rule: Its name.
        about: What it watches, in words.
        enabled: Whether it is judged.
        threshold: It holds from this many rows on.
        window_s: Rows of so many seconds count together.
        severity: Of its alert.
    """

    rule: str
    about: str
    enabled: bool
    threshold: int
    window_s: float
    severity: str


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        rule.rule: rule
        for rule in (
            Rule("failed_logins", "failed sign-ins of one user", True, 5, 300.0, "error"),
            Rule("denials", "permissions and calls refused to one caller", True, 3, 60.0, "warning"),
            Rule("key_revocation", "an API key revoked", True, 1, 300.0, "warning"),
            Rule("new_ip", "a user signed in from an address not seen before", True, 1, 3600.0, "warning"),
        )
    }
)
"""The rules and how they are set until somebody sets them."""


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule that holds, or held for a while since it was judged last.

    Args:
        rule: The rule.
        key: What it is about.
        value: Most rows within its window.
        message: One sentence for a person.
        ops: The ops behind it, oldest first, at most a hundred.
        holds: Whether it holds now.
    """

    rule: str
    key: str
    value: int
    message: str
    ops: list[str]
    holds: bool


Pairs = Collection[tuple[str, str]]


def judge(rules: Iterable[Rule], rows: Iterable[AuditRow], new_from: int, now_ns: int, known: Pairs) -> list[Firing]:
    """Which rules hold now, or held at a row that is new.

    Args:
        rules: The rules, as they are set.
        rows: Rows of the time to look at, in the order of the log.
        new_from: Index from which on rows were not judged before.
        now_ns: The time.
        known: User and address of the sign-ins before these rows.
    """
    seen = list(rows)
    found: list[Firing] = []
    for rule in rules:
        if rule.enabled:
            about = _new_addresses(seen, known) if rule.rule == "new_ip" else _ABOUT[rule.rule]
            by_key: dict[str, list[AuditRow]] = {}
            for row in seen:
                key = about(row)
                if key is not None:
                    by_key.setdefault(key, []).append(row)
            found += [
                firing for key, of in by_key.items() if (firing := _judged(rule, key, of, new_from, now_ns)) is not None
            ]
    return found


def _judged(rule: Rule, key: str, rows: list[AuditRow], new_from: int, now_ns: int) -> Firing | None:
    window_ns = int(rule.window_s * 1e9)
    first, best, fresh = 0, list[AuditRow](), False
    for at, row in enumerate(rows):
        while rows[first].time_ns <= row.time_ns - window_ns:
            first += 1
        if at - first + 1 >= rule.threshold and row.index >= new_from:
            fresh = True
            if at - first + 1 >= len(best):
                best = rows[first : at + 1]
    present = [row for row in rows if now_ns - window_ns < row.time_ns]
    holds = len(present) >= rule.threshold
    if not fresh and not holds:
        return None
    if len(present) >= len(best):
        best = present
    message = _MESSAGES[rule.rule].format(key=key, value=len(best), window=rule.window_s)
    return Firing(rule.rule, key, len(best), message, [row.op for row in best[-OPS_MAX:]], holds)


def _failed_login(row: AuditRow) -> str | None:
    return row.who if row.failed_login else None


def _refused(row: AuditRow) -> str | None:
    return row.who if row.refused else None


def _revoked(row: AuditRow) -> str | None:
    return (row.resource_id or row.who) if row.event_type == "api_key" and "revo" in (row.action or "") else None


def _new_addresses(rows: Iterable[AuditRow], known: Pairs) -> Callable[[AuditRow], str | None]:
    """Names the sign-ins that were the first from an address by a user who had signed in from another."""
    pairs, users, new = set(known), {user for user, _ in known}, dict[str, str]()
    for row in rows:
        if row.signed_in and row.user_id and row.ip_address:
            pair = (row.user_id, row.ip_address)
            if pair not in pairs and row.user_id in users:
                new[row.op] = f"{row.user_id} {row.ip_address}"
            pairs.add(pair)
            users.add(row.user_id)
    return lambda row: new.get(row.op)


_ABOUT: Final[Mapping[str, Callable[[AuditRow], str | None]]] = MappingProxyType(
    {"failed_logins": _failed_login, "denials": _refused, "key_revocation": _revoked}
)
_MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "failed_logins": "{value} failed sign-ins of {key} within {window:.0f} s",
        "denials": "{value} refusals to {key} within {window:.0f} s",
        "key_revocation": "API key {key} was revoked",
        "new_ip": "first sign-in from this address: {key}",
    }
)
