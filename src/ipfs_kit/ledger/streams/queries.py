"""Questions people ask of the ledger, as named SQL with parameters (``docs/reference/queries.md``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import InvalidInput, NotFound

Kind = Literal["text", "time", "number", "op"]
_TEXT_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a named query.

    Args:
        name: Written ``$name`` in the SQL.
        kind: ``text``; ``time``, seconds since 1970 or ISO 8601, UTC where no zone is said; ``number``; ``op``, an op as
            elsewhere.
        about: What it chooses.
        default: Its value when left out; None is none, which most queries take as all.
        required: Whether it must be given.
    """

    name: str
    kind: Kind
    about: str
    default: float | str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A documented query.

    Args:
        name: What it is called by.
        about: What its rows say, in one sentence.
        sql: One SELECT over the views of the ledger.
        parameters: What may be given.
    """

    name: str
    about: str
    sql: str
    parameters: tuple[Parameter, ...]

    def bind(self, given: Mapping[str, Any], op: Callable[[str], tuple[str, int]]) -> dict[str, Any]:
        """The values of all parameters, checked.

        Args:
            given: Values by name.
            op: Finds log and index of an op.

        Raises:
            InvalidInput: One is unknown, missing or not of its kind.
        """
        known = [each.name for each in self.parameters]
        if unknown := sorted(set(given) - set(known)):
            raise InvalidInput(f"{self.name} has no parameter {unknown[0][:80]!r}: it has {', '.join(known)}")
        values: dict[str, Any] = {}
        for each in self.parameters:
            value = given.get(each.name)
            if value is None:
                if each.required:
                    raise InvalidInput(f"{self.name} needs {each.name}: {each.about}")
                values[each.name] = each.default
            else:
                values[each.name] = _checked(each, value, op)
        return values


def _checked(parameter: Parameter, value: Any, op: Callable[[str], tuple[str, int]]) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInput(f"{parameter.name} is one value, not {type(value).__name__}")
    text = str(value)
    if len(text) > _TEXT_MAX:
        raise InvalidInput(f"{parameter.name} is longer than {_TEXT_MAX} characters")
    if parameter.kind == "op":
        log, index = op(text)
        return f"{log}:{index}"
    if parameter.kind == "number":
        try:
            return float(value)
        except (ValueError, OverflowError) as exc:
            raise InvalidInput(f"{parameter.name} is a number, not {text[:80]!r}") from exc
    return _time(parameter.name, value) if parameter.kind == "time" else text


def _time(name: str, value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value, UTC)
        # A moment without a zone is read as UTC, like every time the ledger shows.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidInput(
            f"{name} is a time such as 2026-11-24T12:30:00Z or seconds since 1970, not {str(value)[:80]!r}"
        ) from exc


_SINCE: Final = Parameter("since", "time", "recorded at or after")
_UNTIL: Final = Parameter("until", "time", "recorded before")
_WHEN: Final = (
    "($since IS NULL OR time >= CAST($since AS TIMESTAMPTZ)) AND ($until IS NULL OR time < CAST($until AS TIMESTAMPTZ))"
)
_FAILED: Final = "status IN ('error', 'denied', 'unknown')"
_TOP: Final = Parameter("top", "number", "most rows", 50)
_LIMIT: Final = "LIMIT CAST($top AS BIGINT)"
_OBJECT: Final = Parameter(
    "object", "text", "a path such as docs:/a, which means what is below it too, or any other target", required=True
)
_IS_OBJECT: Final = (
    "(target = $object OR starts_with(target, rtrim($object, '/') || '/') OR (NOT contains($object, '/') AND "
    "starts_with(target, rtrim($object, ':') || ':')))"
)
_PLACE: Final = "log || ':' || idx AS op"


def _query(name: str, about: str, sql: str, *parameters: Parameter) -> NamedQuery:
    return NamedQuery(name, about, sql, parameters)


_ALL: Final = (
    _query(
        "error_rate_by_tool",
        "Calls, failures and their share by operation, the most failing first.",
        f"""
        SELECT operation, count(*) AS calls, count(*) FILTER (status = 'error') AS errors,
               count(*) FILTER (status = 'denied') AS denials, count(*) FILTER (status = 'cancelled') AS cancelled,
               count(*) FILTER ({_FAILED}) / count(*) AS error_rate, max(time) FILTER ({_FAILED}) AS last_failure
        FROM ops WHERE status <> 'open' AND {_WHEN}
        GROUP BY operation ORDER BY error_rate DESC, calls DESC, operation
        """,
        _SINCE, _UNTIL,
    ),
    _query(
        "sampled_reads",
        "Successful reads by operation: recorded, left out by sampling but counted, and both together.",
        f"""
        SELECT operation, sum(kept) AS recorded, sum(gone) AS left_out, sum(kept) + sum(gone) AS reads FROM (
            SELECT operation, 1 AS kept, 0 AS gone FROM ops
            WHERE log = 'bulk' AND status = 'ok' AND operation <> 'ledger.reads_left_out' AND {_WHEN}
            UNION ALL
            SELECT json_extract_string(args, '$.operation'), 0, CAST(json_extract_string(args, '$.left_out') AS BIGINT)
            FROM ops WHERE operation = 'ledger.reads_left_out' AND {_WHEN}
        ) GROUP BY operation ORDER BY left_out DESC, operation
        """,
        _SINCE, _UNTIL,
    ),
    _query(
        "error_rate_by_node",
        "Calls, failures and their share by node, the most failing first; ask with all_nodes for imported nodes too.",
        f"""
        SELECT node, count(*) AS calls, count(*) FILTER (status = 'error') AS errors,
               count(*) FILTER (status = 'denied') AS denials,
               count(*) FILTER ({_FAILED}) / count(*) AS error_rate, max(time) FILTER ({_FAILED}) AS last_failure
        FROM ops WHERE status <> 'open' AND {_WHEN}
        GROUP BY node ORDER BY error_rate DESC, calls DESC, node
        """,
        _SINCE, _UNTIL,
    ),
    _query(
        "nodes",
        "What there is of each node: ops, the oldest and newest, by log; ask with all_nodes for imported nodes too.",
        f"""
        SELECT node, log, count(*) AS ops, min(time) AS oldest, max(time) AS newest
        FROM ops WHERE node IS NOT NULL AND {_WHEN} GROUP BY node, log ORDER BY node, log
        """,
        _SINCE, _UNTIL,
    ),
    _query(
        "slowest_operations",
        "Durations by operation, the slowest 95th percentile first.",
        f"""
        SELECT operation, count(*) AS calls, quantile_cont(duration_ms, 0.5) AS p50_ms,
               quantile_cont(duration_ms, 0.95) AS p95_ms, quantile_cont(duration_ms, 0.99) AS p99_ms,
               max(duration_ms) AS max_ms, sum(duration_ms) / 1000 AS total_s
        FROM ops WHERE status <> 'open' AND {_WHEN}
        GROUP BY operation ORDER BY p95_ms DESC, operation
        """,
        _SINCE, _UNTIL,
    ),
    _query(
        "slowest_calls",
        "Single calls that took longest.",
        f"""
        WITH slow AS (
            SELECT log, idx FROM ops
            WHERE status <> 'open' AND ($operation IS NULL OR operation = $operation) AND {_WHEN}
            ORDER BY duration_ms DESC {_LIMIT}
        )
        SELECT {_PLACE}, time, operation, duration_ms, status, actor_name, surface, target
        FROM ops SEMI JOIN slow USING (log, idx) ORDER BY duration_ms DESC
        """,
        Parameter("operation", "text", "only this operation"), _SINCE, _UNTIL, _TOP,
    ),
    _query(
        "who_touched",
        "Who did what to an object, or below it, how often, and when first and last.",
        f"""
        SELECT coalesce(actor_name, actor) AS who, operation, count(*) AS calls,
               count(*) FILTER ({_FAILED}) AS failures, min(time) AS first, max(time) AS last
        FROM ops WHERE {_WHEN} AND {_IS_OBJECT}
        GROUP BY ALL ORDER BY last DESC, operation
        """,
        _OBJECT, _SINCE, _UNTIL,
    ),
    _query(
        "object_timeline",
        "Everything done to an object, or below it, in order.",
        f"""
        SELECT {_PLACE}, time, operation, status, coalesce(actor_name, actor) AS who, target, before, after
        FROM ops WHERE {_WHEN} AND {_IS_OBJECT} ORDER BY time, idx {_LIMIT}
        """,
        _OBJECT, _SINCE, _UNTIL, Parameter("top", "number", "most rows", 1000),
    ),
    _query(
        "changed_between",
        "What succeeded in changing something after one op, up to and including another.",
        f"""
        SELECT {_PLACE}, time, operation, coalesce(actor_name, actor) AS who, target, before, after
        FROM ops
        WHERE log = 'main' AND status = 'ok' AND split_part($first, ':', 1) = 'main'
          AND idx > CAST(split_part($first, ':', 2) AS BIGINT)
          AND ($last IS NULL OR idx <= CAST(split_part($last, ':', 2) AS BIGINT))
          AND before IS DISTINCT FROM after
        ORDER BY idx {_LIMIT}
        """,
        Parameter("first", "op", "the op after which to begin", required=True),
        Parameter("last", "op", "the last op; the newest when left out"),
        Parameter("top", "number", "most rows", 1000),
    ),
    _query(
        "co_occurring_failures",
        "Pairs of failures that fall into the same stretch of time, the most overlapping first.",
        f"""
        WITH failed AS (
            SELECT DISTINCT operation || ': ' || coalesce(error_kind, status) AS failure,
                   time_bucket(to_seconds(CAST($window_s AS BIGINT)), time) AS stretch
            FROM ops WHERE {_FAILED} AND {_WHEN}
        ), often AS (SELECT failure, count(*) AS stretches FROM failed GROUP BY 1)
        SELECT a.failure AS failure, b.failure AS other, count(*) AS together,
               any_value(x.stretches) AS stretches, any_value(y.stretches) AS other_stretches,
               count(*) / (any_value(x.stretches) + any_value(y.stretches) - count(*)) AS overlap
        FROM failed a JOIN failed b ON a.stretch = b.stretch AND a.failure < b.failure
        JOIN often x ON x.failure = a.failure JOIN often y ON y.failure = b.failure
        GROUP BY 1, 2 ORDER BY together DESC, overlap DESC, 1, 2 {_LIMIT}
        """,
        Parameter("window_s", "number", "length of a stretch in whole seconds", 60), _SINCE, _UNTIL, _TOP,
    ),
    _query(
        "denials",
        "Calls that were refused, the newest first.",
        f"""
        SELECT {_PLACE}, time, operation, coalesce(actor_name, actor) AS who, surface, target, error_message
        FROM ops WHERE status = 'denied' AND {_WHEN} ORDER BY time DESC {_LIMIT}
        """,
        _SINCE, _UNTIL, _TOP,
    ),
    _query(
        "activity_by_hour",
        "Calls and failures by hour and stream.",
        f"""
        SELECT time_bucket(INTERVAL 1 HOUR, time) AS hour, stream, count(*) AS calls,
               count(*) FILTER ({_FAILED}) AS failures, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out
        FROM ops WHERE {_WHEN} GROUP BY ALL ORDER BY hour, stream
        """,
        _SINCE, _UNTIL,
    ),
    _query(
        "by_actor",
        "What one caller did, by operation.",
        f"""
        SELECT operation, count(*) AS calls, count(*) FILTER ({_FAILED}) AS failures, min(time) AS first,
               max(time) AS last
        FROM ops WHERE {_WHEN} AND (actor = $actor OR actor_name = $actor)
        GROUP BY operation ORDER BY calls DESC, operation
        """,
        Parameter("actor", "text", "a caller's name or surrogate id", required=True), _SINCE, _UNTIL,
    ),
    _query(
        "by_trace",
        "Everything that carries one trace id, in order, over all streams and surfaces.",
        f"""
        SELECT {_PLACE}, time, surface, stream, operation, status, duration_ms, coalesce(actor_name, actor) AS who, target
        FROM ops WHERE trace = lower($trace) ORDER BY time, idx {_LIMIT}
        """,
        Parameter("trace", "text", "a W3C trace id, 32 hex digits", required=True),
        Parameter("top", "number", "most rows", 1000),
    ),
    _query(
        "around",
        "What happened shortly before and after an op, in both logs.",
        f"""
        WITH middle AS (
            SELECT time FROM ops
            WHERE log = split_part($op, ':', 1) AND idx = CAST(split_part($op, ':', 2) AS BIGINT)
        )
        SELECT {_PLACE}, time, surface, stream, operation, status, coalesce(actor_name, actor) AS who, target
        FROM ops
        WHERE time BETWEEN (SELECT time FROM middle) - to_seconds($seconds)
                       AND (SELECT time FROM middle) + to_seconds($seconds)
        ORDER BY time, idx {_LIMIT}
        """,
        Parameter("op", "op", "the op in the middle", required=True),
        Parameter("seconds", "number", "how far to look to either side", 5),
        Parameter("top", "number", "most rows", 1000),
    ),
    _query(
        "causes",
        "The op that caused an op, what caused that, and so on to the first.",
        f"""
        WITH RECURSIVE chain AS (
            SELECT 0 AS step, op_id, parent FROM ops
            WHERE log = split_part($op, ':', 1) AND idx = CAST(split_part($op, ':', 2) AS BIGINT)
            UNION ALL
            SELECT chain.step + 1, ops.op_id, ops.parent FROM ops JOIN chain ON ops.op_id = chain.parent
            WHERE chain.step < 100
        )
        SELECT step, {_PLACE}, time, surface, operation, status, coalesce(actor_name, actor) AS who, target
        FROM chain JOIN ops USING (op_id) ORDER BY step
        """,
        Parameter("op", "op", "the op to explain", required=True),
    ),
    _query(
        "caused_by",
        "Everything that an op caused, directly or through others.",
        f"""
        WITH RECURSIVE chain AS (
            SELECT 0 AS step, op_id FROM ops
            WHERE log = split_part($op, ':', 1) AND idx = CAST(split_part($op, ':', 2) AS BIGINT)
            UNION ALL
            SELECT chain.step + 1, ops.op_id FROM ops JOIN chain ON ops.parent = chain.op_id WHERE chain.step < 100
        )
        SELECT step, {_PLACE}, time, surface, operation, status, coalesce(actor_name, actor) AS who, target
        FROM chain JOIN ops USING (op_id) WHERE step > 0 ORDER BY step, time, idx {_LIMIT}
        """,
        Parameter("op", "op", "the op whose consequences are wanted", required=True),
        Parameter("top", "number", "most rows", 1000),
    ),
)  # fmt: skip

QUERIES: Final[Mapping[str, NamedQuery]] = {query.name: query for query in _ALL}


def query_named(name: str) -> NamedQuery:
    """A named query.

    Raises:
        NotFound: There is none of this name.
    """
    found = QUERIES.get(name)
    if found is None:
        raise NotFound(f"there is no query {name[:80]!r}: there are {', '.join(QUERIES)}")
    return found
