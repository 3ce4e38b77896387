"""Named queries over the ledger."""

from __future__ import annotations

import textwrap
from typing import Annotated, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.ledger.sandbox import Limits
from ipfs_kit.ledger.streams.queries import QUERIES, query_named
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere, Nowhere
from ipfs_kit.operations.toolsets.ledger import AllNodes, SqlResult, sql_result


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """A parameter of a named query.

    Args:
        name: What it is given by.
        kind: ``text``, ``time`` (ISO 8601 or seconds since 1970), ``number`` or ``op``.
        about: What it chooses.
        default: Its value when left out.
        required: Whether it must be given.
    """

    name: str
    kind: str
    about: str
    default: float | str | None
    required: bool


@dataclass(frozen=True, slots=True)
class QueryInfo:
    """A named query.

    Args:
        name: What it is called by.
        about: What its rows say.
        parameters: What may be given.
        sql: Its text, to start from.
    """

    name: str
    about: str
    parameters: list[QueryParameter]
    sql: str


@dataclass(frozen=True, slots=True)
class QueryList:
    """The named queries."""

    queries: list[QueryInfo]


@operation("ledger.queries", Mode.READ, "ledger:read", places=Nowhere("says what can be asked"))
def ledger_queries(_ctx: Context) -> QueryList:
    """List the named queries with their parameters and SQL."""
    return QueryList(
        [
            QueryInfo(
                query.name,
                query.about,
                [QueryParameter(p.name, p.kind, p.about, p.default, p.required) for p in query.parameters],
                textwrap.dedent(query.sql).strip(),
            )
            for query in QUERIES.values()
        ]
    )


@operation("ledger.query", Mode.READ, "ledger:sql", places=Everywhere("queries records of all callers"))
def ledger_query(
    ctx: Context,
    name: Annotated[str, Arg("a name that ledger.queries lists, such as error_rate_by_tool", positional=True)],
    params: Annotated[dict[str, Any] | None, Arg("values of its parameters by name", flag="p")] = None,
    limit: Annotated[int, Arg("most rows returned", minimum=1, maximum=1_000_000)] = 10_000,
    timeout: Annotated[int, Arg("seconds before the query is killed", minimum=1, maximum=600)] = 30,
    all_nodes: AllNodes = False,
) -> SqlResult:
    """Run a named query, such as error_rate_by_tool, who_touched or changed_between."""
    query = query_named(name)
    values = query.bind(params or {}, ctx.engine.find_op)
    limits = Limits(rows=limit, wall_s=float(timeout))
    return sql_result(
        ctx.engine.sql.query(query.sql, params=values, limits=limits, all_nodes=all_nodes, check=ctx.check_cancelled)
    )
