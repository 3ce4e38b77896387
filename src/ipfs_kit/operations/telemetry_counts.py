"""What telemetry counts, read from a store: by SQL over its views, or from its records one by one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ipfs_kit.errors import BudgetExceeded, InvalidInput, MissingExtra
from ipfs_kit.ledger import Record, Where
from ipfs_kit.ledger.record import INTENT, LOGS
from ipfs_kit.ledger.sandbox import Limits
from ipfs_kit.ledger.streams.registry import APPEND, stream_named
from ipfs_kit.monitoring import telemetry_sql as counting
from ipfs_kit.monitoring.telemetry import GROUPS_MAX, OPERATION, Reading, Selection, Tally, tallied
from ipfs_kit.monitoring.telemetry_nodes import BANDS_MAX, BANDS_PER_DOUBLING, LOWEST_S, NodeFigures, band_of
from ipfs_kit.monitoring.telemetry_sql import CALLS, SOURCES, tallied_by_sql

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

READ_MAX = 2_000_000
"""Records that one count reads one by one."""
_LIMITS = Limits(rows=GROUPS_MAX + 1, wall_s=60.0)


def counted(engine: Engine, source: str, selection: Selection, by: str = "sql") -> list[Tally]:
    """Count the readings of a source.

    Args:
        engine: The store.
        source: One of ``SOURCES``.
        selection: What counts.
        by: ``sql``, or ``records`` to read them one by one; that is done too where the query engine is missing.
    """
    if source not in SOURCES:
        raise InvalidInput(f"{source[:40]!r} is no source of readings: they are {', '.join(SOURCES)}")
    if not engine.read_only:
        # What was acknowledged without waiting for the disk counts too.
        engine.ledger.flush()
    if by == "sql":
        try:
            return tallied_by_sql(lambda text: _rows(engine, text), source, selection)
        except MissingExtra:
            pass
    return tallied(readings(engine, source, selection), selection)


def _rows(engine: Engine, text: str) -> Iterator[Mapping[str, Any]]:
    found: Iterator[Mapping[str, Any]] = engine.sql.query(text, limits=_LIMITS).dicts()
    return found


def readings(engine: Engine, source: str, selection: Selection) -> Iterator[Reading]:
    """The readings of a source, oldest first within each log.

    Args:
        engine: The store.
        source: One of ``SOURCES``.
        selection: Calls outside its range are not read; events are, because their queues began earlier.

    Raises:
        BudgetExceeded: There are more records than one count reads.
    """
    if source == CALLS:
        since, until = selection.since_us, selection.until_us
        where = Where(
            since_ns=None if since is None else since * 1000 - 500,
            until_ns=None if until is None else until * 1000 - 500,
        )
        logs: Sequence[str] = LOGS
    else:
        where = Where(stream=frozenset({source}), operation=frozenset({APPEND}))
        logs = (stream_named(source).log,)
    read = 0
    for log in logs:
        for _, record in engine.ledger.select(log, where):
            read += 1
            if read > READ_MAX:
                raise BudgetExceeded(f"more than {READ_MAX} records: choose a shorter range, or count by SQL")
            reading = call_reading(record) if source == CALLS else event_reading(engine, source, record)
            if reading is not None:
                yield reading


def call_reading(record: Record) -> Reading | None:
    """What a record says of the call it is of; None for the announcement of one."""
    if record.phase == INTENT:
        return None
    return Reading(
        _microseconds(record), OPERATION, record.operation, record.stream, record.status, record.duration_us / 1e6
    )


def _microseconds(record: Record) -> int:
    """When it was recorded, rounded as the query engine rounds."""
    return (record.time_ns + 500) // 1000


def event_reading(engine: Engine, source: str, record: Record) -> Reading | None:
    """What the record of an event says; None once it is erased."""
    event = engine.ledger.open_record(record).args
    if not event:
        return None
    time_us = _microseconds(record)
    if source != "telemetry":
        took = event.get("duration_ms")
        return Reading(
            time_us, OPERATION, event["kind"], event.get("backend"), event.get("status", ""),
            None if took is None else took / 1000.0, event.get("subject") or None,
        )  # fmt: skip
    if (at := event.get("event_time")) is not None:
        time_us = math.floor(at * 1_000_000.0)
    return Reading(
        time_us, event["metric"], event.get("operation_type"), event.get("backend"), event.get("status"),
        event.get("value"), event.get("operation_id"),
    )  # fmt: skip


def own_figures(engine: Engine, source: str, selection: Selection, made_s: float, by: str = "sql") -> NodeFigures:
    """What this node did, in the form that several nodes' figures are put together from."""
    (total,) = counted(engine, source, selection, by) or [Tally()]
    latency, node = total.latency, engine.ledger.node
    bands: Counter[int] = Counter()
    if by == "sql":
        for row in _rows(engine, counting.bands(source, selection, BANDS_PER_DOUBLING, LOWEST_S, BANDS_MAX)):
            bands[int(row["band"])] = int(row["count"])
    else:
        for reading in readings(engine, source, selection):
            if (seconds := counting.seconds_of(reading, selection)) is not None:
                bands[band_of(seconds)] += 1
    shown = {str(band): bands[band] for band in sorted(bands)}
    return NodeFigures(node, made_s, total.settled, total.good, sum(bands.values()), latency.total, latency.high, shown)
