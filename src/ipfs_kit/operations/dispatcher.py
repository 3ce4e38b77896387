"""The one dispatcher: authorise, run, record (decisions 8-11)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ipfs_kit.errors import (
    Cancelled,
    Denied,
    Expired,
    InternalError,
    InvalidInput,
    KitError,
    NoSpace,
    NotFound,
    NotWitnessed,
    ReadOnly,
    Stale,
)
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ledger import Draft, Effect, Outcome, Receipt
from ipfs_kit.ledger.record import BUFFERED, FSYNC, INTENT, MAIN, new_op_id
from ipfs_kit.operations.arguments import bind, recordable
from ipfs_kit.operations.catalogue import CATALOGUE, Mode, Operation, Surface
from ipfs_kit.operations.context import Context, Progress
from ipfs_kit.operations.once import Once, undone_on_failure
from ipfs_kit.operations.principal import Principal, authorise
from ipfs_kit.operations.quoting import unquote_names
from ipfs_kit.operations.results import Result
from ipfs_kit.operations.sampling import SAMPLED
from ipfs_kit.operations.scopes import judge

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

Authorise = Callable[[Principal, Operation, "str | None"], None]

EFFECT_INLINE_BYTES = 16 * 1024
"""A larger effect is stored as a block and recorded by its CID, so that a record stays within its 32 KiB."""
COUNTING = frozenset({"ledger", "telemetry", "monitoring", "audit", "stream"})
"""Streams of operations that count calls."""
WITNESSED = "witnessed"
"""The acknowledgement of a call that enough witnesses have seen: durable, and covered by their cosignatures."""
UNRECORDED = "the disk is full: this read was answered but could not be recorded; run 'ipfs-kit gc' or free disk space"
"""The warning of an answer that the ledger had no room to record (docs/design/004-full-disk.md)."""
TEXT_RECORDED_MAX = 1000
"""Characters of a target or an error message kept in the record; the effect names paths in full."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a call comes from; built by a surface after authentication.

    Args:
        principal: The authenticated caller.
        surface: The surface.
        idempotency_key: Makes a repeated write return the first result.
        parent: Op id of the op that caused this one.
        trace: W3C trace id, 16 bytes.
        progress: Receives reports of long work.
        cancelled: Set to stop long work.
        may_wait: Whether the call may wait for the disk; without, ``MustWait`` is raised where it would.
        stream: The family the call is recorded under, when it is not the operation's own.
        ack: ``witnessed`` waits until enough witnesses have cosigned a checkpoint that covers the call.
    """

    principal: Principal
    surface: Surface
    idempotency_key: str | None = None
    parent: bytes | None = None
    trace: bytes | None = None
    progress: Callable[[Progress], None] | None = None
    cancelled: threading.Event | None = None
    may_wait: bool = True
    stream: str | None = None
    ack: str | None = None


class MustWait(Exception):
    """A call that may not wait would have to; nothing was done and nothing recorded."""


class _Call:
    """One call under way: its record and whether that has been handed to the ledger.

    Args:
        engine: The open store.
        operation: What was called.
        caller: Who calls and how.
    """

    def __init__(self, engine: Engine, operation: Operation, caller: Caller) -> None:
        self.engine, self.operation, self.caller = engine, operation, caller
        self.started_ns = time.perf_counter_ns()
        self.recorded = False
        self.full = not engine.has_room()
        self.once: Once | None = None
        now_ns = time.time_ns()
        actor = engine.actor(caller.principal)
        self.draft = Draft(
            op_id=new_op_id(now_ns, os.urandom),
            time_ns=now_ns,
            actor=actor,
            subject=actor or None,
            surface=str(caller.surface),
            operation=operation.name,
            log=operation.log,
            stream=caller.stream or operation.stream,
            ack=BUFFERED if operation.mode is Mode.READ else FSYNC,
            parent=caller.parent,
            trace=caller.trace,
        )

    def submit(self, draft: Draft, effect: Effect | None) -> Receipt:
        """Send the record, with its effect, and wait for the acknowledgement asked for."""
        draft.duration_us = (time.perf_counter_ns() - self.started_ns) // 1000
        if draft.ext:
            self.engine.sealed_names.settle(draft)
        final = draft is self.draft
        self.recorded = final
        if self.once is not None:
            if draft.phase == INTENT:
                effect = self.once.reserve
            elif effect is not None:
                effect = self.once.around(effect)
        try:
            ticket = self.engine.ledger.submit(draft, None if effect is None else _bounded(self.engine, effect))
        except Expired:
            self.recorded = False  # a sealed bucket's key was destroyed this moment
            raise
        try:
            # With an effect it is always durable, so its receipt comes from the commit.
            buffered = draft.ack == BUFFERED and effect is None
            receipt: Receipt = ticket.receipt() if buffered else ticket.result()
        except Stale:
            self.recorded = False
            raise
        return receipt

    def fail(self, error: KitError) -> None:
        """Record that the call failed, unless its record was handed over with the effect that failed."""
        error.op = None if self.engine.read_only else self.draft.op_id.hex()
        if isinstance(error, NoSpace) and self.engine.failed:
            # The file system refused before it said that it was full, as with a quota: the next opening needs room.
            self.engine.reserve.release()
        if self.recorded or self.engine.read_only or self.engine.failed:
            return
        draft, denied = self.draft, isinstance(error, Denied)
        if self.full and not denied:
            # Trying would stop the store for good; a denial is audit and is tried nevertheless.
            error.op = None
            error.add_note("this failure was not recorded: the disk is full")
            return
        draft.status = "denied" if denied else "cancelled" if isinstance(error, Cancelled) else "error"
        draft.error_kind, draft.error_message = str(error.kind), _shortened(error.message)
        if denied:
            if not self.caller.may_wait:
                raise MustWait from error
            # Denials are audit: in the main log and durable before the reply, whatever was asked for.
            draft.log, draft.ack = MAIN, FSYNC
        try:
            self.submit(draft, None)
        except KitError as refused:
            # The ledger takes no more records; what went wrong first is what the caller must hear.
            error.op = None
            error.add_note(f"this failure could not be recorded: {refused.message}")


class Dispatcher:
    """Runs operations on one engine and records each call exactly once.

    Args:
        engine: The open store.
        authorise_call: Decides whether a principal may call an operation on a target; raises ``Denied``.
    """

    def __init__(self, engine: Engine, authorise_call: Authorise = authorise) -> None:
        self._engine = engine
        self._authorise = authorise_call

    def call(self, name: str, given: Mapping[str, Any], caller: Caller) -> Result:
        """Run one operation.

        Args:
            name: Operation name, tool name or alias.
            given: Arguments by name.
            caller: Who calls and how.

        Returns:
            The handler's value with the op id, index, CIDs and ack reached.

        Raises:
            KitError: Whatever the operation raised; it is recorded too.
            MustWait: The caller may not wait and this call would.
        """
        operation = find_operation(name)
        if caller.surface != Surface.PYTHON:
            given = unquote_names(operation, given)
        if not caller.may_wait and not self._engine.has_actor(caller.principal):
            raise MustWait  # a caller's first call makes its key
        call = _Call(self._engine, operation, caller)
        try:
            if operation.places is not None:
                self._engine.sealed_names.note(call.draft, operation, given)
            bound = bind(operation.params, given)
            call.draft.args = recordable(operation.params, bound)
            target = operation.target(bound) if operation.target else None
            call.draft.target = target if target is None else _shortened(target)
            if not operation.offered_to(caller.surface):
                raise Denied(f"{operation.name} names local paths and is not offered over {caller.surface}")
            self._authorise(caller.principal, operation, target)
            if caller.principal.grants:
                judge(self._engine, caller.principal, operation, bound)
            if self._engine.read_only and operation.mode is Mode.WRITE:
                raise ReadOnly(f"the store is open for reading only: {operation.name} needs it opened for writing")
            if operation.mode is Mode.WRITE and self._engine.freeze and operation.name != "ledger.unfreeze":
                raise self._engine.freeze.refusal()
            _check_ack(self._engine, operation, caller.ack)
            if call.full and operation.mode is Mode.WRITE and not operation.destructive:
                raise self._engine.reserve.refusal()
            if caller.idempotency_key is not None and operation.mode is Mode.WRITE:
                secret = self._engine.sealed_names.readable(call.draft)
                call.once = Once(
                    self._engine,
                    call.draft.actor,
                    secret,
                    operation.name,
                    caller.idempotency_key,
                    call.draft.op_id,
                    bound,
                )
                return self._witnessed(caller, call.once.run(lambda: self._run(call, bound)))
            return self._witnessed(caller, self._run(call, bound))
        except KitError as error:
            call.fail(error)
            raise
        except (KeyboardInterrupt, SystemExit):
            call.fail(Cancelled(f"{operation.name} was interrupted"))
            raise
        except Exception as exc:
            defect = InternalError(
                f"{operation.name} failed unexpectedly ({type(exc).__name__}: {exc}); please report this"
            )
            call.fail(defect)
            raise defect from exc

    def _witnessed(self, caller: Caller, result: Result) -> Result:
        """The result once it is acknowledged as asked."""
        if caller.ack != WITNESSED:
            return result
        try:
            self._engine.ledger.witnesses.require()
        except NotWitnessed as exc:
            exc.details |= {"op": result.op_id, "log": result.log, "index": result.index, "durable": True}
            raise
        return replace(result, ack=WITNESSED)

    def _run(self, call: _Call, bound: Mapping[str, Any]) -> Result:
        caller = call.caller
        ctx = Context(
            self._engine,
            call.operation,
            caller.principal,
            caller.surface,
            call.draft,
            call.submit,
            caller.progress,
            caller.cancelled,
        )
        if call.draft.stream in COUNTING and not self._engine.read_only and not call.full:
            self._engine.sampling.settle()  # what is asked of the ledger holds what was left out until now
        value = call.operation.handler(ctx, **bound)
        receipt = ctx.receipt
        if receipt is None and self._engine.read_only:
            return Result(value, None, call.draft.log, None, None, cid_of(value), "none")
        if receipt is None and call.full and call.operation.mode is Mode.READ:
            return Result(value, None, call.draft.log, None, None, cid_of(value), "none", warning=UNRECORDED)
        sampled = receipt is None and call.operation.mode is Mode.READ and ctx.intent is None
        if sampled and self._engine.sampling.leaves_out(call.draft):
            return Result(value, None, call.draft.log, None, None, cid_of(value), SAMPLED)
        if receipt is None:
            call.draft.after = call.draft.after or _public_version(call.operation, value)
            effect: Effect | None = (lambda tx: Outcome(value)) if call.once else None
            receipt = call.submit(call.draft, effect)
        op_id = call.draft.op_id.hex()
        return Result(
            value,
            op_id,
            receipt.log,
            receipt.index,
            receipt.record_cid,
            cid_of(value) or receipt.record_cid,
            receipt.ack,
        )


def _check_ack(engine: Engine, operation: Operation, ack: str | None) -> None:
    """Refuse an acknowledgement that cannot be given, before anything is done."""
    if ack in (None, FSYNC):
        return
    if ack != WITNESSED:
        raise InvalidInput(f"ack is {FSYNC} or {WITNESSED}, not {ack!r}")
    if operation.mode is not Mode.WRITE:
        raise InvalidInput(f"{operation.name} changes nothing: ack={WITNESSED} is for operations that do")
    if not engine.ledger.witnesses.known():
        raise InvalidInput("the store has no witnesses: name one with 'ipfs-kit ledger witness-add'")


def find_operation(name: str) -> Operation:
    """Look an operation up by name, tool name or alias.

    Raises:
        NotFound: There is none.
    """
    try:
        return CATALOGUE[name]
    except KeyError as exc:
        raise NotFound(f"there is no operation {name!r}: system.operations lists all") from exc


def _shortened(text: str) -> str:
    """Text that leaves room for the rest of the record, however hostile the argument it came from."""
    return text if len(text) <= TEXT_RECORDED_MAX else f"{text[:TEXT_RECORDED_MAX]}\u2026"


def cid_of(value: Any) -> CID | None:
    """The CID of the object a result is about, if it is about one."""
    for candidate in (value, getattr(value, "cid", None), getattr(value, "commit", None)):
        if isinstance(candidate, CID):
            return candidate
    return None


def _public_version(operation: Operation, value: Any) -> CID | None:
    """Reads record no CIDs in plaintext: what a person looked at is personal (decision 18)."""
    return None if operation.mode is Mode.READ else cid_of(value)


def _bounded(engine: Engine, effect: Effect) -> Effect:
    """The same effect, its description moved to a block when it is large."""

    def apply(tx: Any) -> Outcome:
        outcome = effect(tx)
        with undone_on_failure(outcome):
            if outcome.effect is not None and len(data := dag_cbor.encode(outcome.effect)) > EFFECT_INLINE_BYTES:
                cid = CID.of(data, DAG_CBOR)
                engine.blocks.put(cid, data, verify=False)
                engine.blocks.sync()  # the record must not name a block that is not durable
                outcome.effect = cid
        if outcome.target is not None:
            outcome.target = _shortened(outcome.target)
        return outcome

    return apply
