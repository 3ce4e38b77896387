"""Export of the record for other tools."""

from __future__ import annotations

import os
from itertools import chain
from typing import Annotated, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import InvalidInput
from ipfs_kit.ledger import Where, exporting
from ipfs_kit.ledger.columns import need_pyarrow
from ipfs_kit.ledger.record import LOGS
from ipfs_kit.ledger.streams.registry import stream_named
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.ledger import AllNodes


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What was exported.

    Args:
        path: The file.
        rows: Ops in it.
        open: Of them ops without an outcome.
        size: Bytes of the file.
    """

    path: str
    rows: int
    open: int
    size: int


@operation("ledger.export", Mode.READ, "ledger:sql", places=Everywhere("reads records of all callers"))
def ledger_export(
    ctx: Context,
    output: Annotated[str, Arg("file to write; it must not exist yet", local=True, positional=True)],
    stream: Annotated[str | None, Arg("only ops of this stream")] = None,
    log: Annotated[Literal["main", "bulk"] | None, Arg("only this log; both when left out")] = None,
    since: Annotated[float | None, Arg("recorded at or after, seconds since 1970")] = None,
    until: Annotated[float | None, Arg("recorded before, seconds since 1970")] = None,
    compression: Annotated[Literal["snappy", "zstd", "gzip", "none"], Arg("compression of the columns")] = "snappy",
    all_nodes: AllNodes = False,
) -> ExportInfo:
    """Write recorded operations to a Parquet file that DuckDB, pandas, Spark and others read: the columns of view ops.

    Personal fields are in clear as far as this store's keys open them.

    Raises:
        MissingExtra: pyarrow is not installed.
    """
    need_pyarrow()
    engine = ctx.engine
    where = Where(
        stream=None if stream is None else frozenset({stream_named(stream).name}),
        since_ns=None if since is None else int(since * 1e9),
        until_ns=None if until is None else int(until * 1e9),
    )
    logs = LOGS if log is None else (log,)
    found = exporting.own_records(engine.state, engine.ledger.segments, logs, where)
    if all_nodes:
        found = chain(found, exporting.imported_records(engine.state, str(engine.path), logs, where))
    try:
        out = open(output, "xb")  # noqa: SIM115 - closed by the with below; only opening is translated
    except OSError as exc:
        raise InvalidInput(f"cannot write {output}: {exc.strerror}; name a new file in a folder you may write") from exc
    try:
        with out:
            done = exporting.write(out, found, engine.keys, compression, lambda rows: ctx.progress(rows, unit="ops"))
    except BaseException:
        os.unlink(output)
        raise
    return ExportInfo(output, done.rows, done.open, os.path.getsize(output))
