"""``/metrics``: what Prometheus reads, how many series, and what a scrape costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from ipfs_kit import Kit
from ipfs_kit.monitoring.prometheus import SERIES_MAX, Figures
from ipfs_kit.monitoring.telemetry import Reading
from ipfs_kit.surfaces.http.app import build_app
from ipfs_kit.surfaces.http.auth import owner_token

TOKEN = "metrics-token-0123456789"


def scraped(kit: Kit) -> dict[str, list[Any]]:
    from starlette.testclient import TestClient

    client = TestClient(build_app(kit, owner_token(TOKEN)), base_url="http://127.0.0.1")
    assert client.get("/metrics").status_code == 401
    reply = client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parsed(reply.text)


def parsed(text: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in found, "a family stands once"
        found[family.name] = list(family.samples)
    return found


def test_every_published_family_parses_and_tells_the_truth_after_a_restart(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("docs")
        for number in range(7):
            kit.files.write(f"docs:/{number}", text="x")
        events: list[dict[str, Any]] = [
            {
                "metric": "operation",
                "operation_id": f"o{n}",
                "operation_type": 'a"d\\d\n',
                "backend": "s3",
                "status": "pending",
            }
            for n in range(4)
        ]
        events.append({**events[0], "status": "completed", "value": 0.25})
        events.append({"metric": "backend_health", "backend": "s3", "status": "degraded"})
        kit.stream.append("telemetry", events=events)
        kit.health.report([{"check_id": "own", "status": "degraded", "duration_ms": 12.0}])
    with Kit.open(tmp_path / "s") as kit:
        found = scraped(kit)
        # The share of processor time needs a tick of the system's clock (10 ms) between two scrapes; without one it is
        # unknown.
        again = next(one for _ in range(1000) if (one := parsed(kit.telemetry.prometheus().text))["system_cpu_usage"])

    def value(name: str, **labels: str) -> float:
        (sample,) = [each for each in found[name] if labels.items() <= each.labels.items()]
        return float(sample.value)

    for stat in ("count", "mean", "median", "p95", "p99", "min", "max", "success_rate", "error_rate"):
        assert f"ipfs_kit_operation_{stat}" in found
    assert value("ipfs_kit_operation_count", operation_type="files.write", backend="files") == 7
    assert value("ipfs_kit_operation_success_rate", operation_type="files.write") == 1
    assert value("ipfs_kit_operations_per_minute", operation_type="files.write") == 1.4
    assert value("ipfs_kit_operation_median", operation_type='a"d\\d\n') == 0.25
    assert value("ipfs_kit_queue_size", backend="s3") == 3
    assert value("ipfs_kit_backend_health", backend="s3") == 0.5
    assert value("ipfs_kit_backend_response_time_seconds", backend="s3") == 0.25
    assert value("ipfs_kit_operations_by_status", status="completed") == 1
    assert value("health_check_status", check="own") == 1
    assert value("health_check_duration", check="own") == 0.012
    assert found["health_check_execution_count"][0].value == 1
    assert value("overall_health_status") == 1
    assert value("ipfs_kit_buckets") == 1
    assert 0 <= value("system_memory_usage") <= 100
    assert 0 <= value("system_disk_usage") <= 100
    assert value("backend_operations", backend="files", operation="files.write", status="ok") == 7
    assert value("search_operations") == 0
    for name in ("api_requests", "api_request_duration", "backend_operation_duration", "backend_stored_bytes"):
        assert name in found
    assert again["api_requests"][0].labels == {"surface": "http", "operation": "telemetry.prometheus", "status": "ok"}
    assert 0 <= again["system_cpu_usage"][0].value <= 100


def test_made_up_names_make_no_more_series_than_the_cap() -> None:
    figures = Figures()
    for number in range(5 * SERIES_MAX):
        name = f"made-up-{number}"
        figures.call(Reading(1, "operation", name, name, name, 0.1), "http")
        figures.measured(Reading(1, "operation", name, name, "pending", None, name))
        figures.measured(Reading(1, "backend_health", None, name, "online", None))
        figures.measured(Reading(1, "queue_size", None, name, None, 1.0))
        figures.checked({"check_id": name, "status": "healthy", "duration_ms": 1.0})
    found = parsed("\n".join(figures.lines(1)) + "\n")
    for name, samples in found.items():
        assert len(samples) <= 2 * (SERIES_MAX + 1), name
    assert sum(each.value for each in found["health_check_execution_count"]) == 5 * SERIES_MAX


def test_a_scrape_reads_only_what_came_since_the_last(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("telemetry", events=[{"metric": "m", "value": 1.0}] * 3_000)
        kit.telemetry.prometheus()
        scrape = kit.engine.scrape
        seen = scrape.read
        assert seen >= 3_000
        kit.telemetry.prometheus()
        assert scrape.read - seen <= 3


def test_a_call_over_http_is_recorded_under_the_trace_it_came_with(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with Kit.open(tmp_path / "s") as kit:
        client = TestClient(build_app(kit, owner_token(TOKEN)), base_url="http://127.0.0.1")
        head = {"authorization": f"Bearer {TOKEN}"}
        for given in (f"00-{trace}-00f067aa0ba902b7-01", "nonsense", None):
            headers = head if given is None else {**head, "traceparent": given}
            assert client.post("/api/v1/bucket.list", headers=headers, json={}).status_code == 200
    with Kit.open(tmp_path / "s") as kit:
        found = kit.ledger.sql("SELECT trace FROM ops WHERE operation = 'bucket.list' ORDER BY idx").rows
    assert found == [[trace], [None], [None]]
