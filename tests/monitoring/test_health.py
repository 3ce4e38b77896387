"""Health checks: hard time limits, isolation, what results say together, alerts once, settings that last."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.monitoring.health import Check, Outcome, Runner, cpu_times, judged, memory_used, overall, prometheus
from ipfs_kit_py.mcp.monitoring.health import HealthCheck, HealthCheckManager, HealthStatus


def result(status: str, critical: bool = False) -> dict[str, Any]:
    return {"check_id": "x", "status": status, "critical": critical}


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([], "unknown"),
        ([result("unknown")], "unknown"),
        ([result("healthy"), result("unknown")], "healthy"),
        ([result("healthy"), result("unknown", True)], "degraded"),
        ([result("healthy"), result("unhealthy")], "degraded"),
        ([result("healthy"), result("degraded", True)], "degraded"),
        ([result("healthy"), result("unhealthy", True)], "unhealthy"),
    ],
)
def test_only_a_critical_check_makes_the_whole_unhealthy(results: list[dict[str, Any]], expected: str) -> None:
    assert overall(results) == expected


def test_a_hanging_check_is_given_up_once_and_a_failing_one_stops_no_other() -> None:
    release = threading.Event()
    started: list[int] = []

    def hang() -> Outcome:
        started.append(1)
        release.wait(60)
        return Outcome("healthy")

    def fail() -> Outcome:
        raise RuntimeError("broken probe")

    runner = Runner(time.monotonic_ns)
    checks = [
        (Check("hang", "", timeout_s=0.05), hang),
        (Check("fail", ""), fail),
        (Check("fine", ""), lambda: Outcome("healthy")),
        (Check("odd", ""), lambda: Outcome("splendid")),
    ]
    first, second = runner.run(checks), runner.run(checks)
    release.set()
    assert [each["status"] for each in first] == ["unhealthy", "unhealthy", "healthy", "unknown"]
    assert first[0]["error"] == "no answer within 0.05 s"
    assert first[1]["error"] == "RuntimeError: broken probe"
    assert second[0]["error"] == "the run before has not ended yet"
    assert len(started) == 1
    assert first[2]["duration_ms"] < first[0]["duration_ms"] == 50


def test_values_are_judged_at_the_limit_and_unknown_when_the_machine_does_not_tell() -> None:
    check = Check("c", "", degraded_at=80, unhealthy_at=90)
    assert [judged(value, check).status for value in (79.99, 80, 89.99, 90, None)] == [
        "healthy", "degraded", "degraded", "unhealthy", "unknown",
    ]  # fmt: skip
    assert cpu_times("cpu  1 2 3 4 5 6 7 8 9 10\n") == (9, 36)
    assert cpu_times("nonsense") is None
    assert memory_used("MemTotal: 100 kB\nMemAvailable: 25 kB\n") == (75.0, 102400)
    assert memory_used(None) is None
    text = list(prometheus([{**result("degraded"), "check_id": 'a"b', "duration_ms": 5.0}], {'a"b': 3}))
    assert 'health_check_status{check="a\\"b"} 1' in text
    assert "overall_health_status 1" in text


def test_results_alerts_and_settings_last_over_restarts(tmp_path: Path) -> None:
    def report(status: str) -> tuple[list[str], list[str]]:
        with Kit.open(tmp_path / "s") as kit:
            done = kit.health.report([{"check_id": "own", "status": status, "critical": True}])
            return done.raised, done.cleared

    assert report("healthy") == ([], [])
    assert report("degraded") == (["own: degraded"], [])
    assert report("degraded") == ([], [])
    assert report("unhealthy") == (["own: unhealthy"], ["own: degraded"])
    assert report("unknown") == ([], [])
    assert report("healthy") == ([], ["own: unhealthy"])
    with Kit.open(tmp_path / "s") as kit:
        done = kit.health.run()
        assert [each.check for each in done.results] == [
            "system_cpu", "system_memory", "system_disk", "store", "ledger",
        ]  # fmt: skip
        assert [each.status for each in done.results[3:]] == ["healthy", "healthy"]
        kit.health.configure("system_cpu", enabled=False)
        kit.health.configure("network_connectivity", enabled=True, target="127.0.0.1:1", timeout_s=2)
        kit.health.configure("system_disk", degraded_at=0, unhealthy_at=100)
        with pytest.raises(InvalidInput):
            kit.health.configure("store", timeout_s=0)
        with pytest.raises(InvalidInput):
            kit.health.configure("store", degraded_at=101)
        with pytest.raises(NotFound):
            kit.health.configure("nothing")
        with pytest.raises(NotFound):
            kit.health.run(["nothing"])
        with pytest.raises(InvalidInput):
            kit.health.report([{"check_id": "own", "status": "splendid"}])
    with Kit.open(tmp_path / "s") as kit:
        assert [c.id for c in kit.health.checks().checks if not c.enabled] == ["system_cpu"]
        found = {each.check: each.status for each in kit.health.run().results}
        assert found["network_connectivity"] == "unhealthy"
        assert found["system_disk"] in ("degraded", "unhealthy")
        status = kit.health.status()
        assert "system_cpu" not in {each.check for each in status.results}
        assert 'health_check_execution_count{check="own"} 6' in status.metrics
        history = kit.health.history("own", limit=4)
        assert [each.status for each in history.results] == ["healthy", "unknown", "unhealthy", "degraded"]
        assert [each.status for each in kit.health.history("own", cursor=history.cursor).results] == [
            "degraded",
            "healthy",
        ]
        assert kit.stream.flush("health").count == 6 + 5 + 5


def test_the_published_manager_runs_records_and_tells_of_changes(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    state: dict[str, Any] = {"now": True}
    manager = HealthCheckManager(
        None, enable_dataset_storage=True, storage_path=tmp_path / "s", alert_callback=lambda *what: told.append(what)
    )
    manager.add_check(HealthCheck("a", "A", "a", "custom", "t", lambda: state["now"], critical=True))
    manager.add_check(HealthCheck("b", "B", "b", "custom", "t", lambda: {"status": HealthStatus.HEALTHY, "n": 1}))
    assert manager.get_health_summary()["overall_status"] == "unknown"
    manager.run_all_checks()
    state["now"] = False
    manager.run_check("a")
    summary = manager.get_health_summary()
    assert (summary["overall_status"], summary["checks"]["b"]["details"]) == ("unhealthy", {"n": 1})
    assert manager.run_check("absent") is None
    flushed = manager.flush_health_results_to_dataset()
    assert (flushed["success"], flushed["count"]) == (True, 3)
    manager.stop()
    manager = HealthCheckManager(storage_path=tmp_path / "s", alert_callback=lambda *what: told.append(what))
    assert [each.status.value for each in manager.get_result_history("a")] == ["unhealthy", "healthy"]
    recovered = threading.Event()

    def tell(state: str, name: str) -> None:
        told.append((state, name))
        recovered.set()

    manager.alert_callback = tell
    manager.add_check(HealthCheck("a", "A", "a", "custom", "t", lambda: True, interval=0.05))
    manager.start()
    assert recovered.wait(30)
    manager.stop()
    assert told == [("raised", "a: unhealthy"), ("cleared", "a: unhealthy")]
