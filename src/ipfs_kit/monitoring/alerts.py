"""Alerts by rule and thing watched: each change recorded once, whoever and how many watch."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

RAISED: Final = "raised"
CLEARED: Final = "cleared"
Change = Literal["raised", "cleared"]
Append = Callable[[dict[str, Any], str], str | None]
"""Records an event of the stream ``alerts`` under a key that is good once; its op, or None when the key was used."""
Latest = Callable[[int], tuple[int, Iterable[tuple[str, Mapping[str, Any]]]]]
"""From a position: the position to continue from, and op and event of each alert between, oldest first."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest alert about one thing.

    Args:
        op: The op that recorded it.
        state: ``raised`` or ``cleared``.
    """

    op: str
    state: str


class AlertStates:
    """How each rule stands, read from the recorded alerts: forward only, so that nothing is read twice.

    Args:
        latest: Reads the alerts recorded since a position.
    """

    def __init__(self, latest: Latest) -> None:
        self._latest = latest
        self._guard = threading.Lock()
        self._position = 0
        self._known: dict[tuple[str, str, str], Standing] = {}

    def refresh(self) -> None:
        """Take in what anybody recorded meanwhile."""
        with self._guard:
            position, found = self._latest(self._position)
            for op, event in found:
                at = (str(event.get("source", "")), str(event["rule"]), str(event.get("key", "")))
                self._known[at] = Standing(op, str(event["state"]))
            self._position = position

    def standing(self, source: str, rule: str, key: str) -> Standing | None:
        """The newest alert about one thing, as of the last refresh; None when there never was one."""
        with self._guard:
            return self._known.get((source, rule, key))

    def raised(self, source: str) -> list[tuple[str, str]]:
        """Rule and key of every alert of a source that stands raised, as of the last refresh, in order."""
        with self._guard:
            return sorted(
                (rule, key)
                for (of, rule, key), standing in self._known.items()
                if of == source and standing.state == RAISED
            )


class AlertBook:
    """Records an alert when what a rule says changes, exactly once over all processes and restarts.

    The key of each record names the alert before it. Two watchers that saw the same state offer the same key, and
    only the first is recorded.

    Args:
        append: Records an event, once by its key.
        latest: Reads the recorded alerts; or states already read, to be shared by many books.
    """

    def __init__(self, append: Append, latest: Latest | AlertStates) -> None:
        self._append = append
        self._states = latest if isinstance(latest, AlertStates) else AlertStates(latest)

    def update(
        self,
        rule: str,
        key: str,
        firing: bool,
        *,
        severity: str = "warning",
        source: str = "",
        value: float | None = None,
        threshold: float | None = None,
        message: str = "",
        ops: Sequence[str] = (),
    ) -> Change | None:
        """Say how a rule stands; what changed is recorded.

        Args:
            rule: The rule, unique within its source.
            key: What it is about, when a rule watches many things.
            firing: Whether it holds now.
            severity: ``info``, ``warning``, ``error`` or ``critical``; a cleared alert is ``info``.
            source: The part with rules.
            value: The value that crossed the threshold.
            threshold: The threshold.
            message: One sentence for a person.
            ops: Ops behind it.

        Returns:
            ``raised`` or ``cleared`` when this call recorded the change; None when nothing changed, or another watcher
            recorded it first.
        """
        self._states.refresh()
        before = self._states.standing(source, rule, key)
        if firing == (before is not None and before.state == RAISED):
            return None
        change: Change = "raised" if firing else "cleared"
        event = {
            "rule": rule,
            "state": change,
            "severity": severity if firing else "info",
            "source": source,
            "key": key,
            "value": value,
            "threshold": threshold,
            "message": message,
            "ops": list(ops),
        }
        op = self._append(event, once_key(source, rule, key, before.op if before else ""))
        return change if op is not None else None

    def active(self, source: str) -> list[tuple[str, str]]:
        """Rule and key of every alert of a source that stands raised."""
        self._states.refresh()
        return self._states.raised(source)


def once_key(source: str, rule: str, key: str, before: str) -> str:
    """The key that is good for one change: of this rule about this thing, after that alert."""
    return hashlib.sha256("\0".join((source, rule, key, before)).encode("utf-8", "surrogatepass")).hexdigest()
