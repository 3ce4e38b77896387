"""SQL over datasets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

from ipfs_kit.buckets.model import BucketType
from ipfs_kit.buckets.paths import Ref
from ipfs_kit.errors import Denied, InvalidInput
from ipfs_kit.ledger.sandbox import Limits
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Nowhere
from ipfs_kit.operations.toolsets.dataset import state_at
from ipfs_kit.operations.toolsets.ledger import SqlResult, sql_result


@operation(
    "dataset.sql",
    Mode.READ,
    "dataset:read",
    places=Nowhere("reads only the datasets the caller may read"),
)
def dataset_sql(
    ctx: Context,
    query: Annotated[str, Arg("one SELECT", positional=True)],
    tables: Annotated[
        dict[str, Any] | None,
        Arg("what table names mean: now=sales before=sales@v1; datasets go by their own names when left out", flag="t"),
    ] = None,
    params: Annotated[dict[str, Any] | None, Arg("values of $NAME in the query, by name", flag="p")] = None,
    limit: Annotated[int, Arg("most rows returned", minimum=1, maximum=1_000_000)] = 10_000,
    timeout: Annotated[int, Arg("seconds before the query is killed", minimum=1, maximum=600)] = 60,
) -> SqlResult:
    """Query and join any versions of datasets with SQL, in a sandboxed process that can read nothing else.

    Raises:
        InvalidInput: The text is not one SELECT, or names no dataset.
        BudgetExceeded: The query needs more memory than it may use.
    """
    from ipfs_kit.datasets.sql import DatasetSql
    from ipfs_kit.ledger.sql import result_of

    named = _named(ctx, query, tables)
    states = {name: state_at(ctx, _allowed(ctx, version)) for name, version in named.items()}
    started = time.monotonic()
    answer = DatasetSql(ctx.engine.path, ctx.engine.sql.sandbox).query(
        query,
        states,
        params=params,
        limits=Limits(rows=limit, wall_s=float(timeout)),
        progress=lambda done: ctx.progress(done, unit="bytes", note="taking files out of packs"),
        check=ctx.check_cancelled,
    )
    return sql_result(result_of(answer, time.monotonic() - started))


def _named(ctx: Context, query: str, tables: Mapping[str, Any] | None) -> dict[str, str]:
    from ipfs_kit.datasets.sql import words_of

    if tables:
        return {name: str(version) for name, version in tables.items()}
    buckets = ctx.engine.buckets
    found = {
        word: word
        for word in words_of(query)
        if ctx.principal.may_at("dataset:read", word, ())
        and buckets.exists(word)
        and buckets.info(word).type is BucketType.DATASET
    }
    if not found:
        raise InvalidInput("the query names no dataset: say what its tables mean, for example tables t=sales@v1")
    return found


def _allowed(ctx: Context, version: str) -> str:
    ref = Ref.parse(version)
    if not ctx.principal.may_at("dataset:read", ref.bucket, ()):
        raise Denied(f"reading {ref.bucket} is not allowed")
    if not ref.live and not ctx.principal.may("dataset:read"):
        raise Denied("a scope that is narrowed to places queries the present state alone")
    return version
