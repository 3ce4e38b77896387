"""Health checks of a program, each at its own interval, recorded in the stream ``health`` with alerts on change."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipfs_kit import KitError
from ipfs_kit.monitoring.health import Runner, overall
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py.mcp.monitoring._health_checks import HealthChecks
from ipfs_kit_py.mcp.monitoring._health_words import (
    HealthCheck,
    HealthCheckResult,
    HealthStatus,
    engine_check,
    published,
    work,
)

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "HealthCheck", "HealthCheckManager", "HealthCheckResult", "HealthStatus"]


class HealthCheckManager(HealthChecks):
    """Runs checks and records their results; alerts are events of the stream ``alerts`` with source ``health``."""

    def __init__(
        self,
        monitoring_manager: Any = None,
        backend_registry: Any = None,
        enable_dataset_storage: bool = False,
        ipfs_client: Any = None,
        *,
        storage_path: str | Path | None = None,
        alert_callback: Callable[[str, str], object] | None = None,
    ) -> None:
        super().__init__(__name__, storage_path, ipfs_client, enable_dataset_storage, stream="health")
        self.monitoring_manager, self.backend_registry = monitoring_manager, backend_registry
        self.alert_callback = alert_callback
        self._checks, self._results = {}, {}
        self._runner, self._stop = Runner(time.monotonic_ns), threading.Event()
        self._thread: threading.Thread | None = None

    def run_check(self, check_id: str) -> HealthCheckResult | None:
        """Run one check now."""
        return self._run([self._checks[check_id]]).get(check_id) if check_id in self._checks else None

    def run_all_checks(self) -> dict[str, HealthCheckResult]:
        """Run every enabled check now, side by side."""
        return self._run([check for check in self._checks.values() if check.enabled])

    def _run(self, checks: list[HealthCheck]) -> dict[str, HealthCheckResult]:
        if not checks:
            return {}
        events = self._runner.run([(engine_check(each), work(each)) for each in checks])
        done = self.call("health.report", results=events).value
        at = time.time_ns() / 1e9
        made = {event["check_id"]: published(event, at) for event in events}
        self._results |= made
        if self.alert_callback is not None:
            for state, name in [*(("raised", n) for n in done.raised), *(("cleared", n) for n in done.cleared)]:
                self.alert_callback(state, name)
        return made

    def get_health_summary(self) -> dict[str, Any]:
        """``overall_status``, and status, details and error of each check."""
        found = self.get_results()
        told = [{"status": r.status.value, "critical": self._checks[name].critical} for name, r in found.items()]
        checks = {name: {"status": r.status.value, "details": r.details, "error": r.error} for name, r in found.items()}
        return {"overall_status": overall(told), "checks": checks, "timestamp": time.time_ns() / 1e9}

    def start(self, initial_delay: float = 0) -> None:
        """Run each enabled check at its own interval, in a thread, until ``stop``."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._loop, args=(initial_delay,), name="health-checks", daemon=True)
        self._thread.start()

    def _loop(self, delay: float) -> None:
        due: dict[str, float] = {}
        while not self._stop.wait(delay):
            now = time.monotonic()
            ready = [each for each in self.get_checks().values() if each.enabled and due.get(each.id, 0.0) <= now]
            due |= {each.id: now + each.interval for each in ready}
            try:
                self._run(ready)
            except KitError as error:  # the next run tries again
                logging.getLogger(__name__).warning("health was not recorded: %s", error)
            delay = max(0.01, min([1.0, *(due[name] - time.monotonic() for name in due if name in self._checks)]))

    def stop(self) -> None:
        """End the runs and release the store."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.close()

    def flush_health_results_to_dataset(self) -> dict[str, Any]:
        """Gather the results recorded since the last batch; a failure when dataset storage is off."""
        return self.flush_to_dataset()


def get_instance(monitoring_manager: Any = None, backend_registry: Any = None) -> HealthCheckManager:
    """A manager on the default store."""
    return HealthCheckManager(monitoring_manager, backend_registry)
