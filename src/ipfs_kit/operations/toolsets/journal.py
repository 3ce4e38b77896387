"""File system journals: changes with their entries as one record, transactions, checkpoints and recovery.

A journal is a bucket. Its entries are events of the stream ``journal``: one record holds the entry and the change it
tells of, so neither can be there without the other. A transaction is a session of the bucket, a checkpoint a commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.buckets import transactions
from ipfs_kit.buckets.model import Committed
from ipfs_kit.errors import InvalidInput, KitError, NotFound, RefNotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Effect, Where
from ipfs_kit.ledger.record import FSYNC, MAIN
from ipfs_kit.ledger.streams.registry import APPEND, stream_named
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, WRITE, Touch
from ipfs_kit.operations.views import iso_time

STREAM = "journal"
TYPES = ("create", "delete", "rename", "write", "truncate", "metadata", "checkpoint", "mount", "unmount", "dataset")
PENDING, COMPLETED, FAILED, ROLLED_BACK = "pending", "completed", "failed", "rolled_back"
SETTLED = (COMPLETED, FAILED, ROLLED_BACK)
SCANNED_MAX = 100_000
"""Entries read to tell how each stands: older ones are not looked at."""
KEPT = "journal.recorded and applied in one op: take it back with another change, or restore a checkpoint"

Journal = Annotated[str, Arg("the journal: a bucket", positional=True)]
Transaction = Annotated[str | None, Arg("transaction it belongs to")]
PLACES = (Touch("journal", READ | WRITE, whole=True),)
LOOKS = (Touch("journal", READ, whole=True),)


def _journal(bound: Mapping[str, Any]) -> str:
    return str(bound["journal"])


@dataclass(frozen=True, slots=True)
class Entered:
    """An entry of a journal.

    Args:
        journal: The journal.
        entry_id: Its id.
        status: How it stands.
        transaction_id: Transaction it belongs to.
        cid: CID now at the path, when it changed one.
    """

    journal: str
    entry_id: str
    status: str
    transaction_id: str | None
    cid: CID | None = None


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """A transaction.

    Args:
        journal: The journal.
        transaction_id: Its id.
        status: ``pending``, ``completed`` or ``rolled_back``.
        root: Root of the journal's state; None while the transaction is open.
    """

    journal: str
    transaction_id: str
    status: str
    root: CID | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery found and did.

    Args:
        journal: The journal.
        root: Root of the state it has now.
        checkpoint: The newest checkpoint whose every block is right; None when there is none.
        damaged: Checkpoints newer than that, each with the reason.
        fell_back: Why the state was rebuilt from the checkpoint and later entries; None when it was whole.
        lost: Paths whose present content could not be kept.
        rolled_back: Transactions that were open and are rolled back now.
        pending: Ids of entries that nothing has settled.
    """

    journal: str
    root: CID
    checkpoint: CID | None
    damaged: list[str]
    fell_back: str | None
    lost: list[str]
    rolled_back: list[str]
    pending: list[str]


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """An entry as it stands now; the outcome of its transaction decides over entries made in one."""

    entry_id: str
    operation_type: str
    path: str
    status: str
    transaction_id: str | None
    time: str
    time_ns: int
    duration_ms: float | None
    size: int | None
    details: dict[str, Any]
    op: str


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Entries, newest first; ``more`` says that there are others than those returned."""

    entries: list[EntryInfo]
    more: bool


@dataclass(frozen=True, slots=True)
class StateEntry:
    """One path of a journal's state."""

    path: str
    kind: str
    cid: CID
    size: int
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StatePage:
    """The state of a journal; pass ``cursor`` to continue, None when this was the last page."""

    root: CID
    entries: list[StateEntry]
    cursor: str | None


def _event(ctx: Context, event: dict[str, Any]) -> None:
    """Make this op the record of an entry: the change it makes is the op's effect."""
    draft = ctx.draft
    draft.args = stream_named(STREAM).check(event)
    draft.operation, draft.stream, draft.log, draft.ack = APPEND, STREAM, MAIN, FSYNC
    draft.subject = draft.actor or None


def _enter(ctx: Context, event: dict[str, Any], prepare: Callable[[], Effect]) -> Any:
    """Apply a change together with its entry; a change that fails leaves a failed entry."""
    _event(ctx, event)
    try:
        with ctx.engine.buckets.window():
            return ctx.commit(prepare)
    except KitError as error:
        if ctx.receipt is None:
            details = {**event.get("details", {}), "error": str(error.kind)}
            _event(ctx, {**event, "status": FAILED, "details": details})
        raise


def _place(journal: str, path: str, transaction: str | None) -> str:
    session = f"#{transactions.session_of(transaction)}" if transaction else ""
    return f"{journal}{session}:/{path.lstrip('/')}"


@operation("journal.apply", Mode.WRITE, "files:write", target=_journal, irreversible=KEPT, places=PLACES)
def journal_apply(
    ctx: Context,
    journal: Journal,
    kind: Annotated[str, Arg(f"the change: {', '.join(TYPES[:6])}, mount or unmount", positional=True)],
    path: Annotated[str, Arg("path in the journal", positional=True)],
    text: Annotated[str | None, Arg("content as text", content=True)] = None,
    data: Annotated[bytes | None, Arg("content as bytes", content=True)] = None,
    directory: Annotated[bool, Arg("create a folder")] = False,
    target: Annotated[str | None, Arg("new path of a rename, CID of a mount")] = None,
    size: Annotated[int | None, Arg("bytes that a truncate leaves", minimum=0)] = None,
    metadata: Annotated[dict[str, Any] | None, Arg("values kept with the file")] = None,
    transaction: Transaction = None,
    entry: Annotated[str | None, Arg("id of the pending entry that this completes")] = None,
) -> Entered:
    """Change the journal's file system and record the entry, both in one op; in a transaction it counts once committed.

    Raises:
        RefNotFound: The transaction is not open.
    """
    content = data if data is not None else (text or "").encode()
    buckets, at = ctx.engine.buckets, _place(journal, path, transaction)
    if transaction is not None and transaction not in transactions.open_transactions(buckets, journal):
        raise RefNotFound(f"journal {journal!r} has no open transaction {transaction!r}; begin one")
    work = _change(ctx, kind, at, content, directory, target, size, metadata, transaction)
    details = {"target": target} if target else {}
    event: dict[str, Any] = {
        "operation_type": kind, "path": path, "operation": "journal.apply", "backend": journal,
        "status": PENDING if transaction else COMPLETED, "entry_id": entry or ctx.draft.op_id.hex(),
        "transaction_id": transaction, "details": details,
        "size": len(content) if kind in ("create", "write") and not directory else size,
    }  # fmt: skip
    applied = _enter(ctx, event, work)
    return Entered(journal, event["entry_id"], event["status"], transaction, getattr(applied, "cid", None))


def _change(
    ctx: Context,
    kind: str,
    at: str,
    content: bytes,
    directory: bool,
    target: str | None,
    size: int | None,
    metadata: dict[str, Any] | None,
    transaction: str | None,
) -> Callable[[], Effect]:
    """What prepares the effect of one kind of change."""
    buckets = ctx.engine.buckets
    if kind in ("rename", "mount") and not target:
        raise InvalidInput(f"a {kind} needs target: {'the new path' if kind == 'rename' else 'the CID'}")
    if kind == "mount":
        CID.parse(str(target))
    table: dict[str, Callable[[], Effect]] = {
        "create": lambda: (
            buckets.mkdir(at, parents=True, exist_ok=False)
            if directory
            else buckets.put_bytes(at, content, overwrite=False, metadata=metadata)
        ),
        "write": lambda: buckets.put_bytes(at, content, metadata=metadata),
        "truncate": lambda: buckets.put_bytes(at, buckets.cat(at)[: size or 0]),
        "delete": lambda: buckets.rm(at, recursive=True),
        "rename": lambda: buckets.mv(at, _place(at.partition(":")[0].partition("#")[0], str(target), transaction)),
        "metadata": lambda: buckets.set_metadata(at, metadata=metadata or {}),
        "mount": lambda: buckets.symlink(
            at, f"/ipfs/{target}", metadata={**(metadata or {}), "mount": str(target), "directory": directory}
        ),
        "unmount": lambda: buckets.rm(at),
    }
    if kind not in table:
        raise InvalidInput(f"there is no change {kind!r}: use one of {', '.join(table)}")
    return table[kind]


@operation("journal.add", Mode.WRITE, "files:write", target=_journal, irreversible=KEPT, places=PLACES)
def journal_add(
    ctx: Context,
    journal: Journal,
    kind: Annotated[str, Arg(f"one of {', '.join(TYPES)}", positional=True)],
    path: Annotated[str, Arg("what it is about", positional=True)],
    status: Annotated[str, Arg("pending, completed, failed or rolled_back")] = PENDING,
    details: Annotated[dict[str, Any] | None, Arg("what else is to be remembered")] = None,
    transaction: Transaction = None,
    entry: Annotated[str | None, Arg("id of the entry whose state this is; a new entry when left out")] = None,
) -> Entered:
    """Record an entry, or how an earlier entry stands now, without changing the file system."""
    if kind not in TYPES or status not in (PENDING, *SETTLED):
        raise InvalidInput(f"a kind is one of {', '.join(TYPES)}; a status one of {', '.join((PENDING, *SETTLED))}")
    ctx.engine.buckets.row(journal)
    ident = entry or ctx.draft.op_id.hex()
    if entry is not None and entry not in {each.entry_id for each in standing(ctx, journal)}:
        raise NotFound(f"journal {journal!r} has no entry {entry!r}")
    _event(
        ctx,
        {
            "operation_type": kind, "path": path, "operation": "journal.add", "backend": journal, "status": status,
            "entry_id": ident, "transaction_id": transaction, "details": details or {},
        },
    )  # fmt: skip
    return Entered(journal, ident, status, transaction)


@operation("journal.begin", Mode.WRITE, "files:write", target=_journal, irreversible=KEPT, places=PLACES)
def journal_begin(ctx: Context, journal: Journal) -> TransactionInfo:
    """Begin a transaction: changes made in it are seen by it alone until it commits."""
    ident = ctx.draft.op_id.hex()
    _control(ctx, journal, ident, "begin", PENDING, lambda: transactions.begin(ctx.engine.buckets, journal, ident))
    return TransactionInfo(journal, ident, PENDING)


def _control(
    ctx: Context, journal: str, transaction: str, verb: str, status: str, prepare: Callable[[], Effect]
) -> Any:
    event: dict[str, Any] = {
        "operation_type": "transaction", "operation": verb, "backend": journal, "status": status,
        "entry_id": ctx.draft.op_id.hex(), "transaction_id": transaction,
    }  # fmt: skip
    return _enter(ctx, event, prepare)


Open = Annotated[str, Arg("the transaction, as begin returned it", positional=True)]


@operation("journal.commit", Mode.WRITE, "files:write", target=_journal, irreversible=KEPT, places=PLACES)
def journal_commit(ctx: Context, journal: Journal, transaction: Open) -> TransactionInfo:
    """Commit a transaction: all it changed is there at once, or nothing is.

    Raises:
        MergeConflict: The same paths changed outside meanwhile; the transaction stays open.
    """
    buckets = ctx.engine.buckets
    applied = _control(
        ctx, journal, transaction, "commit", COMPLETED, lambda: transactions.commit(buckets, journal, transaction)
    )
    return TransactionInfo(journal, transaction, COMPLETED, applied.cid)


@operation("journal.rollback", Mode.WRITE, "files:write", target=_journal, irreversible=KEPT, places=PLACES)
def journal_rollback(ctx: Context, journal: Journal, transaction: Open) -> TransactionInfo:
    """Roll a transaction back: nothing of it was or will be seen."""
    buckets, session = ctx.engine.buckets, transactions.session_of(transaction)
    _control(
        ctx, journal, transaction, "rollback", ROLLED_BACK, lambda: buckets.session_drop(journal, session, force=True)
    )
    return TransactionInfo(journal, transaction, ROLLED_BACK)


@operation("journal.checkpoint", Mode.WRITE, "versions:write", target=_journal, irreversible=KEPT, places=PLACES)
def journal_checkpoint(
    ctx: Context, journal: Journal, message: Annotated[str, Arg("what it is for", flag="m")] = "checkpoint"
) -> Committed:
    """Make the state a version of the bucket, which recovery can fall back to."""
    buckets = ctx.engine.buckets
    event: dict[str, Any] = {
        "operation_type": "checkpoint", "operation": "journal.checkpoint", "backend": journal, "status": COMPLETED,
        "entry_id": ctx.draft.op_id.hex(),
    }  # fmt: skip
    done: Committed = _enter(ctx, event, lambda: buckets.commit(journal, message, author=ctx.draft.actor))
    return done


@operation("journal.recover", Mode.WRITE, "versions:write", target=_journal, irreversible=KEPT, places=PLACES)
def journal_recover(ctx: Context, journal: Journal) -> Recovery:
    """Check state and checkpoints block by block, rebuild what is damaged, roll back what a crash left open.

    A whole state stays exactly as it is. A damaged one becomes the newest whole checkpoint and the entries after it,
    less what is damaged, which is named.
    """
    buckets = ctx.engine.buckets
    left = transactions.open_transactions(buckets, journal)
    event: dict[str, Any] = {
        "operation_type": "transaction", "operation": "recover", "backend": journal, "status": COMPLETED,
        "entry_id": ctx.draft.op_id.hex(), "details": {"rolled_back": left},
    }  # fmt: skip

    def prepare() -> Effect:
        found, rebuild = transactions.recover(buckets, journal)
        told = {
            "rolled_back": left,
            "fell_back": found.fell_back,
            "damaged": len(found.damaged),
            "lost": found.lost[:50],
        }
        _event(ctx, {**event, "details": {name: value for name, value in told.items() if value}})
        drops = [buckets.session_drop(journal, transactions.session_of(each), force=True) for each in left]

        def run(tx: Any) -> Any:
            outcome = rebuild(tx)
            ended = [drop(tx).effect for drop in drops]
            if ended:
                outcome.effect = [part for part in (outcome.effect, *ended) if part is not None]
            return outcome

        return run

    found = _enter(ctx, event, prepare)
    pending = [each.entry_id for each in standing(ctx, journal) if each.status == PENDING]
    return Recovery(journal, found.root, found.checkpoint, found.damaged, found.fell_back, found.lost, left, pending)


def standing(ctx: Context, journal: str) -> list[EntryInfo]:
    """Every entry of a journal as it stands now, newest first."""
    ledger = ctx.engine.ledger
    where = Where(stream=frozenset({STREAM}))
    latest: dict[str, str] = {}
    ended: dict[str, str] = {}
    found: dict[str, EntryInfo] = {}
    for seen, (index, record) in enumerate(ledger.select(MAIN, where, 0, None, newest_first=True)):
        if seen >= SCANNED_MAX:
            break
        event = ledger.open_record(record).args if record.operation == APPEND else None
        if not event or event.get("backend") != journal:
            continue
        entry, transaction = event.get("entry_id", ""), event.get("transaction_id")
        status = event.get("status", "success") if record.status == "ok" else FAILED
        if event["operation_type"] == "transaction":
            if record.status == "ok":
                _end(ended, event, transaction, status)
            continue
        latest.setdefault(entry, status)
        stands = latest[entry]
        if transaction and stands == PENDING:
            stands = ended.get(transaction, PENDING)
        # What comes first is the newest state; the oldest event of an entry tells what it is and when it was made.
        found[entry] = EntryInfo(
            entry, event["operation_type"], event.get("path", ""), stands, transaction, iso_time(record.time_ns),
            record.time_ns, event.get("duration_ms", (record.duration_us or 0) / 1000), event.get("size"),
            dict(event.get("details", {})), f"{MAIN}:{index}",
        )  # fmt: skip
    return list(found.values())


def _end(ended: dict[str, str], event: dict[str, Any], transaction: str | None, status: str) -> None:
    if event.get("operation") == "recover":
        for each in event.get("details", {}).get("rolled_back", ()):
            ended.setdefault(each, ROLLED_BACK)
    elif transaction and status != PENDING:
        ended.setdefault(transaction, status)


@operation("journal.entries", Mode.READ, "files:read", target=_journal, places=LOOKS)
def journal_entries(
    ctx: Context,
    journal: Journal,
    status: Annotated[list[str] | None, Arg("how they stand: pending, completed, failed, rolled_back")] = None,
    limit: Annotated[int, Arg("most entries to return", minimum=1, maximum=100_000, flag="n")] = 100,
) -> EntryPage:
    """List the entries of a journal as they stand now, newest first."""
    ctx.engine.buckets.row(journal)
    found = [each for each in standing(ctx, journal) if not status or each.status in status]
    return EntryPage(found[:limit], len(found) > limit)


@operation("journal.state", Mode.READ, "files:read", target=_journal, places=LOOKS)
def journal_state(
    ctx: Context,
    journal: Journal,
    transaction: Transaction = None,
    limit: Annotated[int, Arg("most paths to return", minimum=1, maximum=100_000, flag="n")] = 10_000,
    cursor: Annotated[str | None, Arg("continue after this path")] = None,
) -> StatePage:
    """Return every path of a journal's file system, or of what a transaction sees."""
    buckets = ctx.engine.buckets
    root = transactions.snapshot_of(buckets, journal, transaction).root.cid
    found: list[StateEntry] = []
    passed = cursor is None
    for stat in buckets.walk(_place(journal, "", transaction)):
        if not passed:
            passed = stat.path == cursor
            continue
        if len(found) == limit:
            return StatePage(root, found, found[-1].path)
        found.append(StateEntry(stat.path, stat.kind, stat.cid, stat.size, dict(stat.metadata)))
    return StatePage(root, found, None)
