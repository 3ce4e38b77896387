"""Telemetry: known workloads counted exactly, by SQL and from records alike, after restarts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput
from ipfs_kit.monitoring.telemetry import METRICS, Selection, Tally, aggregated, quantile, tallied
from ipfs_kit.monitoring.telemetry_nodes import NodeFigures, band_of, newest_of_each, together
from ipfs_kit.operations.telemetry_counts import counted

START = 1_700_000_000.0


def operation(number: int, at: float, status: str, value: float | None = None, **more: Any) -> dict[str, Any]:
    return {
        "metric": "operation", "operation_type": "add", "backend": "ipfs", "operation_id": f"op{number}",
        "status": status, "event_time": START + at, "value": value, **more,
    }  # fmt: skip


def workload() -> list[dict[str, Any]]:
    """100 operations a second apart: 90 succeed in 10 to 900 ms, 10 fail, 5 are retried, 3 never end."""
    events = []
    for number in range(100):
        events.append(operation(number, number, "pending"))
        if number % 20 == 7:
            events.append(operation(number, number + 0.1, "retrying"))
        good = number % 10 != 0
        events.append(operation(number, number + 0.5, "completed" if good else "failed", (number + 1) / 100))
    events += [operation(1000 + number, 100, "processing", backend="s3") for number in range(3)]
    events.append({"metric": "backend_health", "backend": "s3", "status": "online", "event_time": START + 1})
    events.append({"metric": "backend_health", "backend": "s3", "status": "offline", "event_time": START + 101})
    events.append({"metric": "operation_latency", "operation_type": "get", "value": 2.0, "event_time": START + 102})
    return events


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("telemetry") / "store"
    with Kit.open(path) as kit:
        kit.stream.append("telemetry", events=workload())
        for number in range(3):
            kit.stream.append(
                "wal", events=[{"kind": "pin", "subject": f"w{number}", "status": "pending", "backend": "local"}]
            )
        kit.stream.append(
            "wal",
            events=[{"kind": "pin", "subject": "w0", "status": "completed", "backend": "local", "duration_ms": 8.0}],
        )
        kit.bucket.create("docs")
        for number in range(20):
            kit.files.write(f"docs:/{number}", text="x")
        for _ in range(5):
            with pytest.raises(InvalidInput):
                kit.files.write("docs:/../x", text="x")
    return path


def by_metric(kit: Kit, **arguments: Any) -> dict[str, Any]:
    return {each.metric: each for each in kit.telemetry.metrics(**arguments).figures}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sql", "records"])
def test_every_metric_of_a_known_workload_is_exact_after_a_restart(store: Path, how: str) -> None:
    times = [(number + 1) / 100 for number in range(100)]
    with Kit.open(store) as kit:
        found = by_metric(kit, source="telemetry", backends=["ipfs"], counted_by=how)
        assert found["operation_count"].value == 100
        latency = found["operation_latency"]
        assert latency.value == pytest.approx(sum(times) / 100)
        assert (latency.minimum, latency.maximum) == (0.01, 1.0)
        assert latency.median == pytest.approx(quantile(times, 0.5))
        assert latency.percentile_95 == pytest.approx(0.9505)
        assert latency.percentile_99 == pytest.approx(0.9901)
        assert (found["success_rate"].value, found["error_rate"].value) == (0.9, 0.1)
        assert found["throughput"].value == pytest.approx(100 / (99.5 / 60))
        assert (found["queue_size"].value, found["retry_count"].value) == (0, 5)
        assert found["backend_health"].value is None
        remote = by_metric(kit, source="telemetry", backends=["s3"], counted_by=how)
        assert (remote["operation_count"].value, remote["queue_size"].value) == (0, 3)
        assert (remote["queue_size"].maximum, remote["retry_count"].value) == (3, 0)
        assert (remote["backend_health"].value, remote["backend_health"].average) == (0, 0.5)
        assert remote["operation_latency"].value is remote["success_rate"].value is None
        some = by_metric(kit, source="telemetry", since=START + 10, until=START + 20, counted_by=how)
        assert (some["operation_count"].value, some["throughput"].value) == (10, 60)
        failed = by_metric(kit, source="telemetry", statuses=["failed"], metrics=["operation_count"], counted_by=how)
        assert failed["operation_count"].value == 10
        queued = by_metric(kit, source="wal", counted_by=how)
        assert (queued["queue_size"].value, queued["queue_size"].maximum) == (2, 3)
        assert queued["operation_latency"].value == 0.008
        with pytest.raises(InvalidInput, match="no status"):
            kit.telemetry.metrics(metrics=["queue_size"], statuses=["ok"])


@pytest.mark.parametrize("how", ["sql", "records"])
def test_recorded_calls_count_without_being_measured(store: Path, how: str) -> None:
    with Kit.open(store) as kit:
        found = by_metric(kit, operation_types=["files.write"], counted_by=how)
        assert (found["operation_count"].value, found["success_rate"].value) == (25, 0.8)
        assert found["operation_latency"].count == 25
        assert found["operation_latency"].minimum > 0
        assert found["queue_size"].value is found["retry_count"].value is found["backend_health"].value is None
        kinds = kit.telemetry.metrics(metrics=["operation_count"], backends=["files"], by=["status"], counted_by=how)
        assert {each.status: each.value for each in kinds.figures} == {"ok": 20, "error": 5}


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        ("sum", 50.5), ("average", 0.505), ("minimum", 0.01), ("maximum", 1.0), ("percentile_95", 0.9505),
        ("percentile_99", 0.9901), ("count", 100), ("rate", 60),
    ],
)  # fmt: skip
def test_every_aggregation(store: Path, aggregation: Any, expected: float) -> None:
    with Kit.open(store) as kit:
        for how in ("sql", "records"):
            found = kit.telemetry.metrics(
                metrics=["operation_latency"], source="telemetry", backends=["ipfs"], since=START, until=START + 100,
                aggregation=aggregation, counted_by=how,
            )  # fmt: skip
            assert found.figures[0].value == pytest.approx(expected)


def plain(tallies: list[Tally]) -> list[Any]:
    return comparable(tallies, lambda value: value)


def comparable(tallies: list[Tally], of: Callable[[float], Any] = pytest.approx) -> list[Any]:
    shown = []
    for each in sorted(tallies, key=lambda tally: (str(tally.key), tally.part or 0)):
        parts = [each.latency, each.retries, each.health, each.queue]
        # The last value is that of one log: of calls, which lie in two, nothing asks for it.
        figures = [
            (v.count, v.total, v.low, v.high, *v.quantiles, v.last if v is not each.latency else None) for v in parts
        ]
        shown.append((each.key, each.part, each.first_us, each.last_us, each.settled, each.good, each.states))
        shown += [tuple(None if x is None else of(x) for x in row) for row in figures]
    return shown


@pytest.mark.slow
def test_sql_and_records_agree_on_every_grouping(store: Path) -> None:
    with Kit.open(store) as kit:
        size = START + 1000
        for source in ("calls", "telemetry", "wal"):
            until = None if source != "calls" else kit.engine.clock() // 1000
            for selection in (
                Selection(until_us=until),
                Selection(until_us=until, by=("operation_type", "backend", "status")),
                Selection(until_us=until, by=("backend",), step_us=10_000_000),
                Selection(since_us=int((START + 15.2) * 1e6), until_us=until or int(size * 1e6), step_us=5_000_000),
                Selection(until_us=until, statuses=("ok", "failed"), by=("operation_type",)),
                Selection(until_us=until, operation_types=("it's",)),
            ):
                one, other = (counted(kit.engine, source, selection, how) for how in ("sql", "records"))
                assert plain(one) == comparable(other), (source, selection)


@pytest.mark.slow
def test_history_has_every_part_and_holds_what_lasts(store: Path) -> None:
    with Kit.open(store) as kit:
        for how in ("sql", "records"):
            common: dict[str, Any] = {"source": "telemetry", "since": START, "until": START + 120, "interval_s": 10}
            (count,) = kit.telemetry.history("operation_count", **common, counted_by=how).series
            assert [point.value for point in count.points] == [10] * 10 + [0, 0]
            (queue,) = kit.telemetry.history("queue_size", **common, counted_by=how).series
            assert [point.value for point in queue.points] == [0] * 10 + [3, 3]
            (latency,) = kit.telemetry.history("operation_latency", **common, counted_by=how).series
            assert [point.value is None for point in latency.points] == [False] * 11 + [True]
            (health,) = kit.telemetry.history("backend_health", by=["backend"], **common, counted_by=how).series
            assert [point.value for point in health.points] == [1] * 10 + [0, 0]
        with pytest.raises(InvalidInput, match="longer interval"):
            kit.telemetry.history("throughput", **{**common, "interval_s": 0.001})


def test_realtime_sees_the_newest_calls_only(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.files.read("docs:/1")
        for how in ("sql", "records"):
            found = kit.telemetry.realtime(operation_types=["files.read", "files.write"], window_s=900, counted_by=how)
            assert (found.operations, found.by_status) == (26, {"error": 5, "ok": 21})
            assert found.per_minute == pytest.approx(26 / 15)
            assert [(each.operation_type, each.count) for each in found.groups] == [
                ("files.write", 25),
                ("files.read", 1),
            ]


@pytest.mark.slow
def test_a_picture_and_a_report_show_the_true_figures_offline(store: Path) -> None:
    with Kit.open(store) as kit:
        png = kit.telemetry.plot("operation_latency", source="telemetry", by=["backend"]).read()
        svg = kit.telemetry.plot("queue_size", image="svg", source="telemetry").read()
        html = kit.telemetry.report(source="telemetry", since=START, until=START + 120).read().decode()
    assert png.startswith(b"\x89PNG")
    assert b"<svg" in svg
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", html)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    figures = {
        row[0]: row[1] for row in rows if len(row) == 3 and row[2] in ("operations", "share", "retries", "seconds")
    }
    assert (figures["Operations"], figures["Success rate"], figures["Retries"]) == ("100", "0.9", "5")
    times = [(number + 1) / 100 for number in range(100)] + [2.0]
    assert float(figures["Latency"]) == pytest.approx(sum(times) / 101, rel=1e-5)
    table = html.partition("Operations over time</h2>")[2].partition("</table>")[0]
    counts = [int(value) for value in re.findall(r'<td>2023-[^<]*</td><td class="n">(\d+)</td>', table)]
    assert (len(counts), sum(counts)) == (24, 100), "the parts of time add up to the whole"
    assert "unknown" in html


@pytest.mark.slow
def test_several_nodes_add_up_and_each_counts_once(store: Path, tmp_path: Path) -> None:
    with Kit.open(tmp_path / "other") as kit:
        kit.stream.append("telemetry", events=[operation(n, n, "completed", 4.0) for n in range(100)])
        theirs = kit.call("telemetry.cross_node", source="telemetry").value.nodes
    with Kit.open(store) as kit:
        given = [
            dict(zip(NodeFigures.__slots__, (getattr(each, n) for n in NodeFigures.__slots__), strict=True))
            for each in theirs
        ]  # type: ignore[attr-defined]
        for how in ("sql", "records"):
            found = kit.telemetry.cross_node([*given, *given], source="telemetry", counted_by=how)
            assert len(found.nodes) == 2
            assert (found.total.operations, found.total.succeeded, found.total.measured) == (200, 190, 201)
            assert found.success_rate == 0.95
            assert found.average_s == pytest.approx((50.5 + 2 + 400) / 201)
            assert found.percentile_95_s == pytest.approx(4.0, rel=0.045)
            assert sum(found.total.bands.values()) == 201
        with pytest.raises(InvalidInput, match="contradict"):
            kit.telemetry.cross_node([{**given[0], "succeeded": 1000}])
        with pytest.raises(InvalidInput, match="need bands"):
            kit.telemetry.cross_node([{**given[0], "bands": None}])


@given(st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
@settings(max_examples=50, deadline=None)
def test_a_quantile_told_from_bands_is_near_the_true_one(times: list[float], q: float) -> None:
    bands: dict[str, int] = {}
    for seconds in times:
        bands[str(band_of(seconds))] = bands.get(str(band_of(seconds)), 0) + 1
    node = NodeFigures("n", 0, len(times), 0, len(times), sum(times), max(times), bands)
    true = sorted(times)[max(1, math.ceil(q * len(times))) - 1]
    assert newest_of_each([node, node]) == [node]
    assert together([node, node]).latency(q) == pytest.approx(true, rel=0.0443 + 1e-9)


def test_nothing_recorded_is_unknown_and_not_zero() -> None:
    (nothing,) = tallied([], Selection()) or [Tally()]
    figures = {metric: aggregated(metric, nothing, None, None) for metric in METRICS}
    assert figures == {**dict.fromkeys(METRICS), "operation_count": 0}
