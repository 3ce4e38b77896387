"""Records as spans and metrics of OpenTelemetry, in the OTLP protobuf encoding (OTLP specification 1.x).

One record is one span. Its ids follow from the record alone, so that what is sent twice is the same span twice. No personal
field leaves: neither targets nor arguments nor error texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import MissingExtra
from ipfs_kit.ledger import Record

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

MEDIA_TYPE: Final = "application/x-protobuf"
TRACES_PATH: Final = "/v1/traces"
METRICS_PATH: Final = "/v1/metrics"
SCOPE: Final = "ipfs_kit.ledger"
BOUNDS_S: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the duration histogram's buckets, inclusive, seconds."""
SERIES_MAX: Final = 2_000
"""Series of one metric in one request, the SDK specification's limit; what goes beyond is one series that says so."""
OVERFLOW: Final = "otel.metric.overflow"

Series = tuple[str, str, str]
"""Operation, status, surface."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A record with where it stands.

    Args:
        log: Its log.
        index: Its index there.
        record: The record.
    """

    log: str
    index: int
    record: Record


def trace_id(record: Record) -> bytes:
    """16 bytes: the caller's trace where it gave one, else derived from the op that began it."""
    if record.trace is not None and len(record.trace) == 16 and any(record.trace):
        return record.trace
    return hashlib.sha256(b"trace" + (record.parent or record.op_id)).digest()[:16]


def span_id(op_id: bytes) -> bytes:
    """8 bytes that name the span of an op."""
    return hashlib.sha256(b"span" + op_id).digest()[:8]


def _require() -> None:
    try:
        import opentelemetry.proto.common.v1.common_pb2  # noqa: F401 - looks whether it is there
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            "sending to OpenTelemetry needs opentelemetry-proto: pip install 'ipfs-kit-py[otel]'",
            package="opentelemetry-proto",
        ) from exc


def traces_request(rows: Sequence[Sent], node: str, version: str) -> bytes:
    """Records as the body of one request for spans.

    Args:
        rows: The records.
        node: Surrogate id of the store.
        version: This program's version.

    Raises:
        MissingExtra: The messages' package is not installed.
    """
    _require()
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

    def span(row: Sent) -> Span:
        record = row.record
        served = record.surface in ("mcp", "http")
        known = {
            "ipfs_kit.op_id": record.op_id.hex(), "ipfs_kit.op": f"{row.log}:{row.index}", "ipfs_kit.stream": record.stream,
            "ipfs_kit.surface": record.surface, "ipfs_kit.status": record.status, "ipfs_kit.actor": record.actor,
            "ipfs_kit.ack": record.ack, "ipfs_kit.bytes_in": record.bytes_in or None,
            "ipfs_kit.bytes_out": record.bytes_out or None, "error.type": record.error_kind,
        }  # fmt: skip
        failed = record.status != "ok"
        return Span(
            trace_id=trace_id(record),
            span_id=span_id(record.op_id),
            parent_span_id=b"" if record.parent is None else span_id(record.parent),
            name=record.operation,
            kind=Span.SPAN_KIND_SERVER if served else Span.SPAN_KIND_INTERNAL,
            start_time_unix_nano=record.time_ns - record.duration_us * 1000,
            end_time_unix_nano=record.time_ns,
            attributes=_attributes(known),
            status=Status(code=Status.STATUS_CODE_ERROR, message=record.error_kind or record.status)
            if failed
            else None,
        )

    scope = ScopeSpans(scope=InstrumentationScope(name=SCOPE, version=version), spans=[span(row) for row in rows])
    return bytes(
        ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=_resource(node, version), scope_spans=[scope])]
        ).SerializeToString()
    )


def metrics_request(rows: Sequence[Sent], node: str, version: str, operations: Iterable[str]) -> bytes:
    """Records counted as the body of one request for metrics, with delta temporality: these records, and no others.

    Args:
        rows: The records; at least one.
        node: Surrogate id of the store.
        version: This program's version.
        operations: Names that get series of their own; any other name, which programs may choose, is ``other``.

    Raises:
        MissingExtra: The messages' package is not installed.
    """
    _require()
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        AGGREGATION_TEMPORALITY_DELTA,
        Histogram,
        HistogramDataPoint,
        Metric,
        NumberDataPoint,
        ResourceMetrics,
        ScopeMetrics,
        Sum,
    )

    known = frozenset(operations)
    start = min(row.record.time_ns - row.record.duration_us * 1000 for row in rows)
    stop = max(row.record.time_ns for row in rows)
    counted: list[NumberDataPoint] = []
    timed: list[HistogramDataPoint] = []
    for series, seconds in _grouped(rows, known).items():
        labels = _attributes(_labels(series))
        counted.append(
            NumberDataPoint(attributes=labels, as_int=len(seconds), start_time_unix_nano=start, time_unix_nano=stop)
        )
        buckets = [0] * (len(BOUNDS_S) + 1)
        for value in seconds:
            buckets[next((place for place, bound in enumerate(BOUNDS_S) if value <= bound), len(BOUNDS_S))] += 1
        timed.append(
            HistogramDataPoint(
                attributes=labels, count=len(seconds), sum=sum(seconds), min=min(seconds), max=max(seconds),
                bucket_counts=buckets, explicit_bounds=BOUNDS_S,
                start_time_unix_nano=start, time_unix_nano=stop,
            )
        )  # fmt: skip
    delta = AGGREGATION_TEMPORALITY_DELTA
    metrics = [
        Metric(
            name="ipfs_kit.operations", unit="{operation}", description="Recorded operations.",
            sum=Sum(data_points=counted, aggregation_temporality=delta, is_monotonic=True),
        ),
        Metric(
            name="ipfs_kit.operation.duration", unit="s", description="How long recorded operations took.",
            histogram=Histogram(data_points=timed, aggregation_temporality=delta),
        ),
    ]  # fmt: skip
    scope = ScopeMetrics(scope=InstrumentationScope(name=SCOPE, version=version), metrics=metrics)
    return bytes(
        ExportMetricsServiceRequest(
            resource_metrics=[ResourceMetrics(resource=_resource(node, version), scope_metrics=[scope])]
        ).SerializeToString()
    )


def rejected(answer: bytes, kind: str) -> tuple[int, str]:
    """How many spans or data points a receiver did not take, and why.

    Args:
        answer: Body of its answer with status 200.
        kind: ``spans`` or ``metrics``.
    """
    _require()
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        if kind == "spans":
            spans = ExportTraceServiceResponse.FromString(answer).partial_success
            return spans.rejected_spans, spans.error_message
        points = ExportMetricsServiceResponse.FromString(answer).partial_success
        return points.rejected_data_points, points.error_message
    except DecodeError:
        return 0, "the answer is none that OTLP knows"


def _grouped(rows: Sequence[Sent], known: frozenset[str]) -> dict[Series | None, list[float]]:
    """Seconds by series; those beyond the limit under None."""
    found: dict[Series | None, list[float]] = {}
    for row in rows:
        record = row.record
        name = record.operation if record.operation in known else "other"
        series: Series | None = (name, record.status, record.surface)
        if series not in found and len(found) >= SERIES_MAX - 1:
            series = None
        found.setdefault(series, []).append(record.duration_us / 1e6)
    return found


def _labels(series: Series | None) -> dict[str, Any]:
    if series is None:
        return {OVERFLOW: True}
    return dict(zip(("ipfs_kit.operation", "ipfs_kit.status", "ipfs_kit.surface"), series, strict=True))


def _resource(node: str, version: str) -> Resource:
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    return Resource(
        attributes=_attributes({"service.name": "ipfs_kit", "service.version": version, "service.instance.id": node})
    )


def _attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

    def value(given: Any) -> AnyValue:
        if isinstance(given, bool):
            return AnyValue(bool_value=given)
        return AnyValue(int_value=given) if isinstance(given, int) else AnyValue(string_value=str(given))

    return [KeyValue(key=name, value=value(given)) for name, given in values.items() if given is not None]
