"""Telemetry of queued work: what programs measure becomes events of the stream ``telemetry``, counted by the engine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ipfs_kit import to_json
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._telemetry_figures import TelemetryFigures
from ipfs_kit_py._telemetry_words import TelemetryAggregation, TelemetryMetricType, word

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "TelemetryAggregation", "TelemetryMetricType", "WALTelemetry"]
ENDED = ("completed", "failed")
STARTED_MAX = 100_000


class WALTelemetry(TelemetryFigures):
    """Records how operations go, and never changes them.

    Args:
        wal: Its store is used, when it has one.
        metrics_path: Kept as an attribute; a path given other than the default is the store.
        retention_days: Days after which sealed measurements may expire.
        sampling_interval: Seconds that ``get_real_time_metrics`` looks back on.
        enable_detailed_timing: Record how long each operation took.
        operation_hooks: Kept as an attribute.
    """

    def __init__(
        self,
        wal: Any = None,
        metrics_path: str | Path | None = "~/.ipfs_kit/telemetry",
        retention_days: float = 30,
        sampling_interval: float = 60,
        enable_detailed_timing: bool = True,
        operation_hooks: bool = True,
        enable_dataset_storage: bool = False,
        ipfs_client: Any = None,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        chosen = None if str(metrics_path) == "~/.ipfs_kit/telemetry" else metrics_path
        path = storage_path or getattr(wal, "storage_path", None) or chosen
        super().__init__(__name__, path, ipfs_client, enable_dataset_storage, stream="telemetry")
        self.wal, self.metrics_path, self.retention_days = wal, metrics_path, retention_days
        self.sampling_interval, self.enable_detailed_timing = sampling_interval, enable_detailed_timing
        self.operation_hooks = operation_hooks
        self._started: dict[str, tuple[float, str | None, str | None]] = {}
        if retention_days != 30:
            self.call("stream.configure", stream="telemetry", keep_s=float(retention_days) * 86_400)

    def _record(self, metric: str, **event: Any) -> None:
        told = {name: value for name, value in event.items() if value is not None}
        self.call("stream.append", stream="telemetry", events=[{"metric": metric, **told}])

    def record_operation_start(self, operation_id: str, operation_type: Any, backend: Any) -> None:
        """Record that an operation began."""
        known = (time.monotonic(), word(operation_type), word(backend))
        if len(self._started) < STARTED_MAX:
            self._started[operation_id] = known
        self._record(
            "operation", operation_id=operation_id, operation_type=known[1], backend=known[2], status="pending"
        )

    def record_operation_status_change(self, operation_id: str, new_status: Any) -> None:
        """Record how an operation stands; one that is completed or failed has ended."""
        if word(new_status) in ENDED:
            self.record_operation_end(operation_id, new_status)
            return
        _, kind, backend = self._started.get(operation_id, (0.0, None, None))
        status = word(new_status)
        self._record("operation", operation_id=operation_id, operation_type=kind, backend=backend, status=status)

    def record_operation_end(
        self, operation_id: str, final_status: Any, additional_data: dict[str, Any] | None = None
    ) -> None:
        """Record that an operation ended; its time is unknown when its beginning was not recorded here."""
        begun, kind, backend = self._started.pop(operation_id, (None, None, None))
        took = time.monotonic() - begun if begun is not None and self.enable_detailed_timing else None
        self._record(
            "operation", operation_id=operation_id, operation_type=kind, backend=backend, status=word(final_status),
            value=took, details=to_json(additional_data) if additional_data else None,
        )  # fmt: skip

    def record_operation_latency(self, operation_type: Any, backend: Any, latency: float) -> None:
        """Record a time that was measured elsewhere, in seconds."""
        kind, place = word(operation_type), word(backend)
        self._record("operation_latency", operation_type=kind, backend=place, value=float(latency))

    def record_backend_status_change(self, backend: Any, old_status: Any, new_status: Any) -> None:
        """Record that a backend went online, offline or between."""
        details = {"old_status": word(old_status)}
        self._record("backend_health", backend=word(backend), status=word(new_status), details=details)
