"""The figures of ``telemetry`` counted by SQL over the ledger's views, so that no reading enters this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ipfs_kit.errors import BudgetExceeded, InvalidInput
from ipfs_kit.monitoring.telemetry import (
    BAD,
    GOOD,
    GROUPS_MAX,
    HEALTH,
    LATENCY,
    LEVELS,
    OPEN,
    OPERATION,
    QUANTILES,
    QUEUE,
    RETRIES,
    RETRYING,
    Reading,
    Selection,
    Tally,
    Values,
)

Query = Callable[[str], Iterable[Mapping[str, Any]]]
CALLS: Final = "calls"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS: Final = """SELECT epoch_us("time") AS at_us, idx AS n, 'operation' AS metric, kind AS operation_type, backend,
    status, duration_ms / 1000.0 AS value, nullif(subject, '') AS operation_id FROM {view}
    WHERE kind IS NOT NULL"""
_READINGS: Final = {
    CALLS: """SELECT epoch_us("time") AS at_us, idx AS n, 'operation' AS metric, operation AS operation_type,
    stream AS backend, status, duration_ms / 1000.0 AS value, CAST(NULL AS VARCHAR) AS operation_id
    FROM ops WHERE status <> 'open'""",
    "telemetry": """SELECT coalesce(CAST(floor(event_time * 1000000.0) AS BIGINT), epoch_us("time")) AS at_us, idx AS n,
    metric, operation_type, backend, status, value, operation_id FROM telemetry WHERE metric IS NOT NULL""",
    "wal": _STEPS.format(view="wal"),
    "replication": _STEPS.format(view="replication"),
    "lifecycle": _STEPS.format(view="lifecycle"),
}
SOURCES: Final = tuple(_READINGS)
"""Where readings come from: recorded calls, measured events, steps of queued work."""
_ENDED: Final = ", ".join(f"'{status}'" for status in (*GOOD, *BAD))
_SETTLED: Final = f"metric IN ('{OPERATION}', '{LATENCY}') AND status IN ({_ENDED})"
_TIMED: Final = f"(metric IN ('{OPERATION}', '{LATENCY}') AND (status IS NULL OR status IN ({_ENDED})))"


def tallied_by_sql(query: Query, source: str, selection: Selection) -> list[Tally]:
    """Count readings with SQL.

    Args:
        query: Runs one SELECT and returns its rows.
        source: One of ``SOURCES``.
        selection: What counts.

    Raises:
        BudgetExceeded: More groups than one answer holds.
    """
    found: dict[tuple[Any, ...], Tally] = {}

    def tally(row: Mapping[str, Any]) -> Tally:
        key = tuple(row[name] for name in selection.by)
        place = (key, row["part"])
        if place not in found:
            if len(found) >= GROUPS_MAX:
                raise BudgetExceeded(f"the answer has more than {GROUPS_MAX} groups: filter, or count longer parts")
            found[place] = Tally(key, row["part"])
        return found[place]

    for row in query(counting(source, selection)):
        each = tally(row)
        each.first_us, each.last_us, each.states = row["first_us"], row["last_us"], row["states"]
        each.settled, each.good = row["settled"], row["good"]
        each.latency, each.retries, each.health = (_values(row, name) for name in ("latency", "retries", "health"))
    if source != CALLS and selection.queues:
        rows = list(query(measured_queue(source, selection))) or query(running_queue(source, selection))
        for row in rows:
            tally(row).queue = _values(row, "queue")
    return list(found.values())


def counting(source: str, selection: Selection) -> str:
    """The SELECT that counts everything but queues."""
    settled = _SETTLED
    levels = " ".join(f"WHEN '{name}' THEN {level}" for name, level in LEVELS.items())
    measured = {
        "latency": f"CASE WHEN {_TIMED} THEN value END",
        "retries": f"CASE WHEN metric = '{OPERATION}' AND status = '{RETRYING}' THEN 1.0"
        f" WHEN metric = '{RETRIES}' THEN value END",
        "health": f"CASE WHEN metric = '{HEALTH}' THEN coalesce(value, CASE status {levels} END) END",
    }
    shown = [
        *selection.by, f"{_part(selection)} AS part", "min(at_us) AS first_us", "max(at_us) AS last_us",
        f"count(*) FILTER (WHERE {settled}) AS settled",
        f"count(*) FILTER (WHERE ({settled}) AND status IN {_set(GOOD)}) AS good",
        f"count(*) FILTER (WHERE metric = '{OPERATION}' AND operation_id IS NOT NULL) AS states",
        *(_figures(value, name) for name, value in measured.items()),
    ]  # fmt: skip
    where = _where(selection, time=True, statuses=True)
    return (
        f"SELECT {', '.join(shown)} FROM ({_readings(source, selection)}) AS r{where} "  # noqa: S608 - literals are quoted
        f"GROUP BY {', '.join([*selection.by, 'part'])} LIMIT {GROUPS_MAX + 1}"
    )


def measured_queue(source: str, selection: Selection) -> str:
    """The SELECT over lengths of queues that were measured as such."""
    inner = f"SELECT at_us, n, {_keys(selection)}value AS v FROM ({_readings(source, selection)}) AS r"  # noqa: S608
    return _queue(inner + _where(selection, f"metric = '{QUEUE}' AND value IS NOT NULL"), selection)


def running_queue(source: str, selection: Selection) -> str:
    """The SELECT over lengths of queues that follow from how operations stood."""
    where = _where(selection, f"metric = '{OPERATION}' AND operation_id IS NOT NULL")
    by = f"PARTITION BY {', '.join(selection.by)} " if selection.by else ""
    return _queue(
        f"SELECT at_us, n, {_keys(selection)}sum(delta) OVER ({by}ORDER BY n ROWS UNBOUNDED PRECEDING) AS v FROM "  # noqa: S608
        "(SELECT *, waits - coalesce(lag(waits) OVER (PARTITION BY operation_id ORDER BY n), 0) AS delta FROM "
        f"(SELECT *, CASE WHEN status IN {_set(OPEN)} THEN 1 ELSE 0 END AS waits "
        f"FROM ({_readings(source, selection)}) AS r{where}) AS w) AS d",
        selection,
    )


def _queue(inner: str, selection: Selection) -> str:
    """Figures of lengths; before the range only the last one counts, as the range's first."""
    keys, since, order = _keys(selection), selection.since_us, "n"
    if since is not None:
        inner = (
            "SELECT * FROM (SELECT *, row_number() OVER "  # noqa: S608 - our own names
            f"(PARTITION BY {keys}early ORDER BY n DESC) AS back FROM (SELECT greatest(at_us, {since}) AS at_us, n, {keys}v, "
            f"at_us < {since} AS early FROM ({inner}) AS i) AS j) AS k WHERE NOT early OR back = 1"
        )
        order = "CASE WHEN early THEN -1 ELSE n END"
    return (
        f"SELECT {keys}{_part(selection)} AS part, {_figures('v', 'queue', order)} FROM ({inner}) AS q "  # noqa: S608
        f"GROUP BY {', '.join([*selection.by, 'part'])} LIMIT {GROUPS_MAX + 1}"
    )


def _readings(source: str, selection: Selection) -> str:
    if source not in _READINGS:
        raise InvalidInput(f"{source[:40]!r} is no source of readings: they are {', '.join(SOURCES)}")
    text = _READINGS[source]
    if source == CALLS:
        # Said once more on the stored column, so that row groups outside the range are skipped.
        for bound, compare in ((selection.since_us, ">="), (selection.until_us, "<")):
            if bound is not None:
                text += f" AND \"time\" {compare} TIMESTAMPTZ '{_EPOCH + timedelta(microseconds=bound)}'"
    return text


def _where(selection: Selection, also: str = "", *, time: bool = False, statuses: bool = False) -> str:
    terms = [also] if also else []
    for name, wanted in (("operation_type", selection.operation_types), ("backend", selection.backends)):
        if wanted is not None:
            terms.append(f"{name} IN {_set(wanted)}")
    if statuses and selection.statuses is not None:
        terms.append(f"status IN {_set(selection.statuses)}")
    if time and selection.since_us is not None:
        terms.append(f"at_us >= {selection.since_us}")
    if selection.until_us is not None:
        terms.append(f"at_us < {selection.until_us}")
    return f" WHERE {' AND '.join(f'({term})' for term in terms)}" if terms else ""


def _set(values: Sequence[str]) -> str:
    if any("\0" in value for value in values):
        raise InvalidInput("a name holds no NUL character")
    quoted = ["'" + value.replace("'", "''") + "'" for value in values]
    return f"({', '.join(quoted) or 'NULL'})"


def _keys(selection: Selection) -> str:
    return "".join(f"{name}, " for name in selection.by)


def _part(selection: Selection) -> str:
    return "CAST(NULL AS BIGINT)" if selection.step_us is None else f"at_us // {selection.step_us}"


def _figures(value: str, name: str, order: str = "n") -> str:
    quantiles = ", ".join(map(str, QUANTILES))
    return (
        f"count({value}) AS {name}_n, sum({value}) AS {name}_sum, min({value}) AS {name}_min, "
        f"max({value}) AS {name}_max, quantile_cont(CAST({value} AS DOUBLE), [{quantiles}]) AS {name}_q, "
        f"arg_max({value}, {order}) AS {name}_last"
    )


def _values(row: Mapping[str, Any], name: str) -> Values:
    count = int(row[f"{name}_n"] or 0)
    if not count:
        return Values()
    found = [float(row[f"{name}_{part}"]) for part in ("sum", "min", "max", "last")]
    return Values(count, found[0], found[1], found[2], [float(each) for each in row[f"{name}_q"]], found[3])


def bands(source: str, selection: Selection, per_doubling: int, lowest_s: float, rows_max: int) -> str:
    """The SELECT that counts times by band: ``floor(log2(seconds) * per_doubling)``."""
    band = f"CAST(floor(log2(greatest(value, {lowest_s:.9f})) * {per_doubling}) AS BIGINT)"
    where = _where(selection, f"{_TIMED} AND value IS NOT NULL", time=True, statuses=True)
    return (
        f"SELECT {band} AS band, count(*) AS count FROM ({_readings(source, selection)}) AS r{where} "  # noqa: S608
        f"GROUP BY band ORDER BY band LIMIT {rows_max}"
    )


def seconds_of(reading: Reading, selection: Selection) -> float | None:
    """The time a reading tells of when it is selected; what ``bands`` counts, of one reading."""
    told = reading.metric in (OPERATION, LATENCY) and (reading.status is None or reading.status in (*GOOD, *BAD))
    within = (selection.since_us is None or reading.time_us >= selection.since_us) and (
        selection.until_us is None or reading.time_us < selection.until_us
    )
    wanted = (
        (selection.operation_types, reading.operation_type),
        (selection.backends, reading.backend),
        (selection.statuses, reading.status),
    )
    if not (told and within and all(names is None or name in names for names, name in wanted)):
        return None
    return reading.value
