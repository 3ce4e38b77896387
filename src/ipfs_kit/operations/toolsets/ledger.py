"""The record of everything: follow, query, prove, verify."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from time import time_ns
from typing import Annotated, Any, Literal
from uuid import UUID

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import IntegrityError, InvalidInput, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ledger.record import INTENT, OUTCOME
from ipfs_kit.ledger.sandbox import Limits
from ipfs_kit.ledger.segments import SealPolicy
from ipfs_kit.ledger.sql import Result
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere

Log = Annotated[Literal["main", "bulk"], Arg("main: changes, denials and audit; bulk: reads and measurements")]
AllNodes = Annotated[bool, Arg("also the records of imported publications; the column node tells whose")]
Op = Annotated[str, Arg("an op: its index in the main log, LOG:INDEX, or its id", positional=True)]


@dataclass(frozen=True, slots=True)
class OpInfo:
    """One recorded operation, personal fields opened where the key is held.

    Args:
        op: ``LOG:INDEX``.
        op_id: Its id as hex.
        cid: CID of the record.
        time: UTC, ISO 8601 with nanoseconds.
        operation: What was called.
        surface: By which surface.
        actor: Surrogate of the caller.
        actor_name: The caller's name; None once its key is destroyed.
        status: ``ok``, ``error``, ``denied``, ``cancelled`` or ``unknown``.
        error_kind: Stable code when it failed.
        target: What it was about.
        args: Its arguments, secrets masked.
        effect: What it changed, losslessly.
        before: CID before.
        after: CID after.
        duration_us: Time to the commit, microseconds.
        parent: Op that caused it.
        phase: ``whole``, or ``intent`` and ``outcome`` of an operation that acts outside the store.
        stream: The family it belongs to.
        error: What went wrong, when it failed.
        trace: W3C trace id, hex.
    """

    op: str
    op_id: str
    cid: CID
    time: str
    operation: str
    surface: str
    actor: str
    actor_name: str | None
    status: str
    error_kind: str | None
    target: str | None
    args: Any
    effect: Any
    before: CID | None
    after: CID | None
    duration_us: int
    parent: str | None
    phase: str
    stream: str
    error: str | None
    trace: str | None


@dataclass(frozen=True, slots=True)
class OpPage:
    """A page of ops, oldest first; ``cursor`` continues from where it ended.

    An intent whose outcome is on the same page has no row of its own, so a page may hold fewer ops than records it covers.
    """

    ops: list[OpInfo]
    cursor: str


@dataclass(frozen=True, slots=True)
class SqlResult:
    """Rows of a query.

    Args:
        columns: Column names.
        rows: Values, one list a row.
        row_count: Rows returned.
        truncated: Whether a row or byte limit cut the result.
        elapsed_ms: Wall time of the query.
    """

    columns: list[str]
    rows: list[list[Any]]
    row_count: int
    truncated: bool
    elapsed_ms: float


@operation(
    "ledger.tail", Mode.READ, "ledger:read", aliases=("get_logs",), places=Everywhere("shows records of all callers")
)
def ledger_tail(
    ctx: Context,
    log: Log = "main",
    limit: Annotated[int, Arg("most ops to return", minimum=1, maximum=10_000, flag="n")] = 20,
    cursor: Annotated[str | None, Arg("continue after this cursor; without it, the newest ops are returned")] = None,
) -> OpPage:
    """Return the newest ops of a log, or those after a cursor."""
    size = ctx.engine.ledger.size(log)
    start = max(0, size - limit) if cursor is None else _index(cursor)
    records = list(ctx.engine.ledger.read(log, start, min(size, start + limit)))
    done = {record.op_id for _, record in records if record.phase == OUTCOME}
    ops = [
        ctx.engine.views.op(log, index, record)
        for index, record in records
        if record.phase != INTENT or record.op_id not in done
    ]
    return OpPage(ops, str(start + len(records)))


@operation("ledger.show", Mode.READ, "ledger:read", places=Everywhere("shows any record"))
def ledger_show(ctx: Context, op: Op) -> OpInfo:
    """Return one op with its arguments and effect."""
    log, index = ctx.engine.find_op(op)
    return ctx.engine.views.op(log, index, ctx.engine.ledger.record_at(log, index))


@operation("ledger.sql", Mode.READ, "ledger:sql", places=Everywhere("queries records of all callers"))
def ledger_sql(
    ctx: Context,
    query: Annotated[str, Arg("one SELECT over the view ops", positional=True)],
    params: Annotated[dict[str, Any] | None, Arg("values of $NAME in the query, by name", flag="p")] = None,
    limit: Annotated[int, Arg("most rows returned", minimum=1, maximum=1_000_000)] = 10_000,
    timeout: Annotated[int, Arg("seconds before the query is killed", minimum=1, maximum=600)] = 30,
    all_nodes: AllNodes = False,
) -> SqlResult:
    """Query all recorded operations with SQL, in a sandboxed process that can read nothing else."""
    limits = Limits(rows=limit, wall_s=float(timeout))
    return sql_result(
        ctx.engine.sql.query(query, params=params, limits=limits, all_nodes=all_nodes, check=ctx.check_cancelled)
    )


def sql_result(found: Result) -> SqlResult:
    """The rows of a query as JSON types."""
    rows = [[_cell(cell) for cell in row] for row in found.rows]
    return SqlResult(list(found.columns), rows, found.row_count, found.truncated, round(found.elapsed_s * 1000, 3))


def _cell(value: Any) -> Any:
    """A value of a query as JSON types: times as ISO 8601, decimals as text so that no digit is lost."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta | UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_cell(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _cell(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class ProofInfo:
    """A self-contained proof that an op is in the log.

    Args:
        op: ``LOG:INDEX``.
        cid: CID of the op record.
        size: Size of the tree the proof is against.
        proof: The proof as text: record and C2SP tlog-proof; ``ledger.check_proof`` and the stand-alone verifier check it.
    """

    op: str
    cid: CID
    size: int
    proof: str


@operation("ledger.prove", Mode.READ, "ledger:read", places=Everywhere("shows any record"))
def ledger_prove(ctx: Context, op: Op) -> ProofInfo:
    """Return a proof, checkable without this store, that an op is in the log; publishes a checkpoint if needed."""
    log, index = ctx.engine.find_op(op)
    proof = ctx.engine.ledger.prove(log, index)
    return ProofInfo(f"{log}:{index}", proof.record_cid, proof.size, proof.text)


@dataclass(frozen=True, slots=True)
class ProofCheck:
    """What a verified proof shows.

    Args:
        op: ``LOG:INDEX``.
        cid: CID of the proven record.
        origin: The log that signed.
        size: Size of the tree.
    """

    op: str
    cid: CID
    origin: str
    size: int


@operation("ledger.check_proof", Mode.READ, "ledger:read", places=Everywhere("reads the log's key"))
def ledger_check_proof(
    ctx: Context,
    proof: Annotated[str, Arg("text of the proof", positional=True, content=True)],
    vkey: Annotated[str | None, Arg("verifier key; this store's own when left out")] = None,
) -> ProofCheck:
    """Check a proof with the independent verifier."""
    shown = ctx.engine.ledger.check_proof(proof, vkey)
    return ProofCheck(shown.op, shown.record_cid, shown.origin, shown.size)


@dataclass(frozen=True, slots=True)
class LedgerReport:
    """What the independent verifier found.

    Args:
        ok: Whether everything holds.
        records: Records checked, both logs.
        findings: Each fault: where it is, what is wrong, how to mend it.
    """

    ok: bool
    records: int
    findings: list[str]


@operation("ledger.verify", Mode.READ, "ledger:read", places=Everywhere("reads the whole ledger"))
def ledger_verify(
    ctx: Context,
    against: Annotated[str | None, Arg("text of an older signed checkpoint this log must extend", content=True)] = None,
) -> LedgerReport:
    """Check every byte of the ledger: records, leaves, tiles, checkpoints, segments; writes nothing.

    Raises:
        IntegrityError: Something does not hold; the message names each fault.
    """
    if against is not None:
        against = against.rstrip("\n") + "\n"  # a shell's $(cat FILE) takes the newline that ends a signed note
    report = ctx.engine.upkeep.verify_ledger(against, progress=lambda done, total: ctx.progress(done, total, "records"))
    if not report.ok:
        raise IntegrityError(
            "the ledger does not verify:\n" + "\n".join(report.findings[:50]), findings=report.findings
        )
    return report


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """The signed size and root of a log.

    Args:
        log: Which log.
        size: Records covered.
        root: Root hash, hex.
        text: The signed note (C2SP tlog-checkpoint).
    """

    log: str
    size: int
    root: str
    text: str


@operation("ledger.checkpoint", Mode.READ, "ledger:read", places=Everywhere("publishes the whole log"))
def ledger_checkpoint(ctx: Context, log: Log = "main") -> CheckpointInfo:
    """Publish what is recorded so far and return the signed checkpoint; keep it to detect any later rewriting."""
    found = ctx.engine.ledger.checkpoint(log)
    return CheckpointInfo(log, found.size, found.root.hex(), found.text)


@dataclass(frozen=True, slots=True)
class VkeyInfo:
    """What a stranger needs to verify a log.

    Args:
        log: Which log.
        origin: Its origin line.
        vkey: Its verifier key (C2SP signed-note form).
    """

    log: str
    origin: str
    vkey: str


@operation("ledger.vkey", Mode.READ, "ledger:read", places=Everywhere("reads the log's key"), quick=True)
def ledger_vkey(ctx: Context, log: Log = "main") -> VkeyInfo:
    """Return the origin and verifier key of a log."""
    return VkeyInfo(log, ctx.engine.ledger.origin(log), ctx.engine.ledger.vkey(log))


@dataclass(frozen=True, slots=True)
class SealInfo:
    """What sealing moved.

    Args:
        segments: Parquet files written.
        records: Records they hold.
    """

    segments: int
    records: int


@operation(
    "ledger.seal",
    Mode.WRITE,
    "ledger:admin",
    idempotent=True,
    external=True,
    irreversible="records only move into an immutable segment",
    places=Everywhere("moves the whole log"),
)
def ledger_seal(ctx: Context, log: Log = "main") -> SealInfo:
    """Move all published records of a log into compressed Parquet segments."""
    ctx.announce({"log": log})
    ctx.engine.ledger.publish()
    sealed = ctx.engine.ledger.segments.seal(log, SealPolicy(age_s=0), time_ns())
    return SealInfo(len(sealed), sum(segment.rows for segment in sealed))


def _index(text: str) -> int:
    if not text.isdecimal():
        raise InvalidInput("a cursor is the number a page returned")
    return int(text)


def parse_op(text: str) -> tuple[str, int] | bytes:
    """Read an op reference: ``INDEX``, ``LOG:INDEX`` or a 32-digit hex id.

    Raises:
        NotFound: It has none of these forms.
    """
    log, _, rest = text.rpartition(":")
    if rest.isdecimal() and len(rest) < 20 and log in {"", "main", "bulk"}:
        return log or "main", int(rest)
    try:
        op_id = bytes.fromhex(text)
    except ValueError:
        op_id = b""
    if len(op_id) != 16:
        raise NotFound(f"{text!r} is not an op: give its index, LOG:INDEX or its 32-digit id (see ledger tail)")
    return op_id
