"""Alerts of a watched journal, and figures that other systems report."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._journal import BUCKET
from ipfs_kit_py._journal_words import word

ALERTS_MAX = 10_000
"""Most alerts of one answer."""


class JournalAlerts(Adapter):
    """What a monitor reads from the stream ``alerts`` and adds to ``fs_monitor``."""

    @cached_property
    def _cleared(self) -> dict[str | None, float]:
        return {}

    def track_transaction(self, transaction_id: str, status: Any, data: dict[str, Any] | None = None) -> bool:
        """Record how a transaction of another system stands."""
        event = {"metric": "transaction", "operation_id": transaction_id, "status": word(status), "details": data or {}}
        self.call("stream.append", stream="fs_monitor", events=[event])
        return True

    def track_operation(self, operation_type: Any, duration: float) -> bool:
        """Record how long an operation took, in seconds."""
        event = {
            "metric": "operation.duration",
            "value": float(duration),
            "unit": "s",
            "operation_type": word(operation_type),
        }
        self.call("stream.append", stream="fs_monitor", events=[event])
        return True

    def get_alerts(self, count: int | None = None, severity: str | None = None) -> list[dict[str, Any]]:
        """Alerts of the journal, newest first, of one severity if asked."""
        match = {"source": "journal", "key": BUCKET} | ({"severity": severity} if severity else {})
        rows = self.call("stream.query", stream="alerts", match=match, limit=ALERTS_MAX).value.rows
        seen = max(self._cleared.get(None, 0.0), self._cleared.get(severity, 0.0))
        found = [
            {**row.event, "type": row.event["rule"], "severity": row.event.get("severity", "warning"), "op": row.op}
            for row in rows
            if row.time_ns / 1e9 > max(seen, self._cleared.get(row.event.get("severity", "warning"), 0.0))
        ]
        return found if count is None else found[:count]

    def clear_alerts(self, severity: str | None = None) -> int:
        """Show alerts up to now no more; they stay recorded. Returns how many."""
        gone = len(self.get_alerts(severity=severity))
        self._cleared[severity] = time.time_ns() / 1e9
        return gone
