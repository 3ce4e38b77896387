"""Spans and metrics at a real receiver: every record once, with its op id, over restarts, kills and refusals."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput, KitError, MissingExtra, Unavailable
from ipfs_kit.ledger.record import INTENT, LOGS

pytest.importorskip("opentelemetry.proto", reason="pip install 'ipfs-kit-py[otel]'")
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


class Receiver:
    """What a collector does: takes OTLP over HTTP and keeps it."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[tuple[int, bytes]] = []  # given first, one a request
        self.taken = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, answer = outer.answers.pop(0) if outer.answers else (200, b"")
                if status == 200:
                    outer.take(self.path, body)
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing: pytest shows what matters."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append({each.key: each.value.string_value for each in resource.resource.attributes})
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics += [metric for scope in resource.scope_metrics for metric in scope.metrics]
        self.taken.set()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def recorded(kit: Kit) -> dict[str, Any]:
    """Op id of everything recorded so far but sendings, each with its record."""
    kit.engine.ledger.flush("bulk")
    found = {}
    for log in LOGS:
        for index in range(kit.engine.ledger.size(log)):
            record = kit.engine.ledger.record_at(log, index)
            if record.phase != INTENT and record.operation != "telemetry.otlp_send":
                found[record.op_id.hex()] = record
    return found


def work(kit: Kit) -> None:
    if "b" not in [bucket.name for bucket in kit.bucket.list().buckets]:
        kit.bucket.create("b")
    kit.files.write("b:/secret-name-4711", text="one")
    kit.files.read("b:/secret-name-4711")
    with pytest.raises(KitError):
        kit.files.read("b:/none")
    kit.stream.append("audit", events=[{"event_type": "user", "action": str(n), "user_id": "ann"} for n in range(3)])


def test_every_record_is_one_span_with_its_op_id_once_over_restarts(tmp_path: Path, receiver: Receiver) -> None:
    with Kit.open(tmp_path / "s") as kit:
        work(kit)
        first = recorded(kit)
        sent = kit.telemetry.otlp_send(receiver.url)
        assert (sent.records, sent.rejected, sent.behind) == (len(first), 0, 0)
        assert kit.telemetry.otlp_send(receiver.url).records == 0
    with Kit.open(tmp_path / "s") as kit:
        trace = bytes(range(16))
        kit.call_with("files.write", {"path": "b:/x", "text": "two"}, trace=trace)
        sent = kit.telemetry.otlp_send(receiver.url)
        every = recorded(kit)
        assert sent.records == len(every) - len(first)
        ids = [plain(span.attributes)["ipfs_kit.op_id"] for span in receiver.spans]
        assert Counter(ids) == Counter(every.keys())
        for span in receiver.spans:
            known = plain(span.attributes)
            record = every[known["ipfs_kit.op_id"]]
            assert (span.name, known["ipfs_kit.status"]) == (record.operation, record.status)
            assert span.end_time_unix_nano == record.time_ns
            assert span.end_time_unix_nano - span.start_time_unix_nano == record.duration_us * 1000
            assert (len(span.trace_id), len(span.span_id)) == (16, 8)
            assert (span.status.code == span.status.STATUS_CODE_ERROR) == (record.status != "ok")
        assert [span.trace_id for span in receiver.spans if span.name == "files.write"][-1] == trace
        by_id = {span.span_id: span for span in receiver.spans}
        assert len(by_id) == len(receiver.spans)
        children = [span for span in receiver.spans if span.parent_span_id]
        assert len(children) == 3  # the events of one call
        assert {by_id[span.parent_span_id].trace_id for span in children} == {span.trace_id for span in children}
        assert {each["service.instance.id"] for each in receiver.resources} == {kit.engine.ledger.node}
        assert not any(b"4711" in span.SerializeToString() for span in receiver.spans)
        points = [p for m in receiver.metrics if m.name == "ipfs_kit.operations" for p in m.sum.data_points]
        assert sum(point.as_int for point in points) == len(every)
        failed = [p for p in points if plain(p.attributes)["ipfs_kit.status"] == "error"]
        assert sum(point.as_int for point in failed) == 1
        timed = [
            p for m in receiver.metrics if m.name == "ipfs_kit.operation.duration" for p in m.histogram.data_points
        ]
        assert sum(sum(point.bucket_counts) for point in timed) == sum(point.count for point in timed) == len(every)
        seconds = sum(record.duration_us for record in every.values()) / 1e6
        assert sum(point.sum for point in timed) == pytest.approx(seconds)


def test_a_receiver_that_is_away_or_refuses_loses_nothing(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipfs_kit.operations.toolsets.telemetry_otlp.PAUSE_S", 0.0)
    monkeypatch.setattr("ipfs_kit.operations.toolsets.telemetry_otlp.BATCH", 2)
    with Kit.open(tmp_path / "s") as kit:
        work(kit)
        every = recorded(kit)
        receiver.answers = [(503, b""), (429, b""), (200, b"")]
        assert kit.telemetry.otlp_send(receiver.url, signals="spans", limit=2).records == 2
        receiver.answers = [(200, b""), (400, b"no")]
        with pytest.raises(Unavailable, match="status 400"):
            kit.telemetry.otlp_send(receiver.url, signals="spans")
        receiver.answers = [(503, b"")] * 4
        with pytest.raises(Unavailable, match="status 503"):
            kit.telemetry.otlp_send(receiver.url, signals="spans")
    with Kit.open(tmp_path / "s") as kit:
        partial = ExportTraceServiceResponse()
        partial.partial_success.rejected_spans, partial.partial_success.error_message = 1, "too old"
        receiver.answers = [(200, partial.SerializeToString())]
        sent = kit.telemetry.otlp_send(receiver.url, signals="spans")
        assert (sent.rejected, sent.reason) == (1, "too old")
        ids = [plain(span.attributes)["ipfs_kit.op_id"] for span in receiver.spans]
        assert Counter(ids) == Counter(every.keys())  # a refused batch was never taken, so nothing came twice
        metrics = ExportMetricsServiceResponse()
        metrics.partial_success.rejected_data_points = 2
        receiver.answers = [(200, metrics.SerializeToString())]
        assert kit.telemetry.otlp_send(f"{receiver.url}/", signals="metrics", limit=2).rejected == 2
        for hostile in ("ftp://x", "http://u@h/", "http://169.254.169.254"):
            with pytest.raises(InvalidInput):
                kit.telemetry.otlp_send(hostile)
        with pytest.raises(InvalidInput, match="header line"):
            kit.telemetry.otlp_send(receiver.url, headers={"a\r\nb": "c"})


def test_a_token_is_sent_and_not_recorded(tmp_path: Path, receiver: Receiver) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.store.info()
        kit.telemetry.otlp_send(receiver.url, headers={"authorization": "Bearer canary-8812"})
        assert {each["authorization"] for each in receiver.headers} == {"Bearer canary-8812"}
        assert {each["content-type"] for each in receiver.headers} == {"application/x-protobuf"}
        (op,) = [op for op in kit.ledger.tail().ops if op.operation == "telemetry.otlp_send"]
        assert "canary-8812" not in str(op)


def test_names_that_programs_choose_make_no_series_of_their_own(tmp_path: Path, receiver: Receiver) -> None:
    with Kit.open(tmp_path / "s") as kit:
        for number in range(50):
            kit.stream.note(f"mcp.made-up-{number}")
        kit.telemetry.otlp_send(receiver.url)
    points = [p for m in receiver.metrics if m.name == "ipfs_kit.operations" for p in m.sum.data_points]
    assert {plain(p.attributes)["ipfs_kit.operation"]: p.as_int for p in points} == {"other": 50}


def test_a_missing_package_is_named(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.common.v1.common_pb2", None)
    with Kit.open(tmp_path / "s") as kit:
        kit.store.info()
        with pytest.raises(MissingExtra, match=r"ipfs-kit-py\[otel\]"):
            kit.telemetry.otlp_send(receiver.url)


KILLED = """
import os, signal, sys
from ipfs_kit import Kit
from ipfs_kit.operations.toolsets import telemetry_otlp as sending
sending.BATCH = 3
post, seen = sending.post, []
def once(*args):
    seen.append(1)
    answer = post(*args)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # the receiver has taken it, nothing says so yet
    return answer
sending.post = once
with Kit.open(sys.argv[1]) as kit:
    kit.telemetry.otlp_send(sys.argv[2], signals="spans")
"""


def test_a_sender_killed_in_the_middle_loses_nothing_and_spans_keep_their_ids(
    tmp_path: Path, receiver: Receiver
) -> None:
    with Kit.open(tmp_path / "s") as kit:
        for _ in range(4):
            work(kit)
        every = recorded(kit)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "s"), receiver.url], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(receiver.spans) == 9
    with Kit.open(tmp_path / "s") as kit:
        kit.telemetry.otlp_send(receiver.url, signals="spans")
        ids = {plain(span.attributes)["ipfs_kit.op_id"] for span in receiver.spans}
        assert ids >= every.keys()
        assert len({span.span_id for span in receiver.spans}) == len(ids)
        assert kit.store.verify().ok


@pytest.mark.slow
def test_the_command_keeps_sending_what_is_recorded_and_not_its_own_sendings(
    tmp_path: Path, receiver: Receiver
) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("b")
    command = [sys.executable, "-m", "ipfs_kit", "--store", str(tmp_path / "s"), "telemetry", "otlp-send", receiver.url]
    with subprocess.Popen([*command, "--follow", "--every-s", "0.2"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "sent 1 records\n"
        with Kit.open(tmp_path / "s") as kit:
            kit.files.write("b:/x", text="later")
        assert process.stdout.readline() == "sent 1 records\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stdout.read() == ""
    assert [span.name for span in receiver.spans] == ["bucket.create", "files.write"]
