"""Which checks a manager has, and the results recorded of them."""

from __future__ import annotations

from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py.mcp.monitoring._health_words import HealthCheck, HealthCheckResult, published


class HealthChecks(Adapter):
    """Checks by id, and their results."""

    _checks: dict[str, HealthCheck]
    _results: dict[str, HealthCheckResult]

    def add_check(self, check: HealthCheck) -> bool:
        """Add a check, or replace the one of its id."""
        self._checks[check.id] = check
        return True

    def remove_check(self, check_id: str) -> bool:
        """Remove a check; its results stay recorded."""
        return self._checks.pop(check_id, None) is not None

    def get_check(self, check_id: str) -> HealthCheck | None:
        """One check."""
        return self._checks.get(check_id)

    def get_checks(self) -> dict[str, HealthCheck]:
        """All checks by id."""
        return dict(self._checks)

    def get_result(self, check_id: str) -> HealthCheckResult | None:
        """The newest result of a check, also from before a restart."""
        return self._results.get(check_id) or next(iter(self.get_result_history(check_id, 1)), None)

    def get_results(self) -> dict[str, HealthCheckResult]:
        """The newest result of each check."""
        return {name: found for name in self._checks if (found := self.get_result(name)) is not None}

    def get_result_history(self, check_id: str, limit: int = 10) -> list[HealthCheckResult]:
        """Recorded results of a check, newest first."""
        rows = self.call("stream.query", stream="health", match={"check_id": check_id}, limit=limit).value.rows
        return [published(row.event, row.time_ns / 1e9) for row in rows]
