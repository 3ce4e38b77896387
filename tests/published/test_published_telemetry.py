"""``WALTelemetry`` under its published names: a known workload told truly after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipfs_kit.errors import InvalidInput
from ipfs_kit_py.wal_telemetry import TelemetryAggregation, TelemetryMetricType, WALTelemetry


@pytest.mark.slow
def test_a_workload_is_told_truly_after_a_restart(tmp_path: Path) -> None:
    telemetry = WALTelemetry(storage_path=tmp_path / "s", retention_days=7, enable_dataset_storage=True)
    for number in range(10):
        telemetry.record_operation_start(f"o{number}", "add", "ipfs")
    telemetry.record_operation_status_change("o0", "processing")
    telemetry.record_operation_status_change("o0", "retrying")
    for number in range(8):
        telemetry.record_operation_end(f"o{number}", "failed" if number < 2 else "completed", {"size": number})
    telemetry.record_operation_status_change("o8", "completed")
    telemetry.record_operation_end("never begun here", "completed")
    telemetry.record_operation_latency("get", "s3", 1.5)
    telemetry.record_backend_status_change("s3", "online", "offline")
    assert telemetry.flush_metrics_to_dataset()["count"] == 24
    telemetry.close()

    telemetry = WALTelemetry(storage_path=tmp_path / "s", sampling_interval=900)
    found = telemetry.get_metrics()
    assert set(found) == {each.value for each in TelemetryMetricType}
    assert found["operation_count"]["value"] == 10
    assert found["success_rate"]["value"] == 0.8
    assert found["queue_size"]["value"] == 1
    assert found["retry_count"]["value"] == 1
    assert found["operation_latency"]["count"] == 10, "nine that began here and one measured elsewhere"
    assert found["backend_health"]["value"] == 0
    (slowest,) = telemetry.get_metrics(
        TelemetryMetricType.OPERATION_LATENCY, backend="s3", aggregation=TelemetryAggregation.MAXIMUM
    ).values()
    assert slowest["value"] == 1.5
    (failed,) = telemetry.get_metrics("operation_count", "add", "ipfs", "failed").values()
    assert failed["value"] == 2
    now = telemetry.get_real_time_metrics()
    assert (now["operations"], now["by_status"]) == (10, {"completed": 8, "failed": 2})
    assert sum(part["operation_count"] for part in telemetry.get_metrics_history()) == 10
    picture = telemetry.visualize_metrics("throughput", tmp_path / "t.png")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidInput):
        telemetry.visualize_metrics("throughput", tmp_path / "t.gif")
    report = Path(telemetry.create_performance_report(tmp_path / "r.html")).read_text(encoding="utf-8")
    assert "Success rate" in report
    assert telemetry.kit.stream.list().streams
    kept = {each.name: each.keep_s for each in telemetry.kit.stream.list().streams}
    assert kept["telemetry"] == 7 * 86_400
    telemetry.close()
