"""The one dispatcher: authorise, run, record (decisions 8-11)."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ipfs_kit.errors import Cancelled, Denied, InternalError, InvalidInput, KitError, NotFound, Stale
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ledger import Draft, Effect, Outcome, Receipt
from ipfs_kit.ledger.record import Ack, Status, new_op_id
from ipfs_kit.operations.arguments import bind, recordable
from ipfs_kit.operations.catalogue import CATALOGUE, Mode, Operation, Surface
from ipfs_kit.operations.context import Context, Progress
from ipfs_kit.operations.principal import Principal, authorise
from ipfs_kit.operations.results import Result, to_json

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

Authorise = Callable[[Principal, Operation, "str | None"], None]

IDEMPOTENCY_KEY_CHARS_MAX = 255
"""Longest client key, the bound HTTP drafts use for Idempotency-Key."""


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
    """

    principal: Principal
    surface: Surface
    idempotency_key: str | None = None
    parent: bytes | None = None
    trace: bytes | None = None
    progress: Callable[[Progress], None] | None = None
    cancelled: threading.Event | None = None


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
        """
        operation = self._find(name)
        draft = self._draft(operation, caller)
        started_ns = time.perf_counter_ns()
        try:
            bound = bind(operation.params, given)
            draft.args = recordable(operation.params, bound)
            draft.target = operation.target(bound) if operation.target else None
            if not operation.offered_to(caller.surface):
                raise Denied(f"{operation.name} names local paths and is not offered over {caller.surface}")
            self._authorise(caller.principal, operation, draft.target)
            if caller.idempotency_key is not None and operation.mode is Mode.WRITE:
                return self._once(operation, bound, draft, caller, started_ns)
            return self._run(operation, bound, draft, caller, started_ns, None)
        except KitError as error:
            self._record_failure(draft, error, started_ns)
            raise
        except (KeyboardInterrupt, SystemExit):
            self._record_failure(draft, Cancelled(f"{operation.name} was interrupted"), started_ns)
            raise
        except Exception as exc:
            error = InternalError(f"{operation.name} failed unexpectedly ({type(exc).__name__}: {exc}); please report this")
            self._record_failure(draft, error, started_ns)
            raise error from exc

    def _find(self, name: str) -> Operation:
        try:
            return CATALOGUE[name]
        except KeyError as exc:
            raise NotFound(f"there is no operation {name!r}: system.operations lists all") from exc

    def _draft(self, operation: Operation, caller: Caller) -> Draft:
        return Draft(
            log=operation.log,
            op_id=new_op_id(time.time_ns(), os.urandom(10)),
            time_ns=time.time_ns(),
            actor=self._engine.actor(caller.principal),
            surface=str(caller.surface),
            operation=operation.name,
            stream="ops",
            ack=Ack.BUFFERED if operation.mode is Mode.READ else Ack.FSYNC,
            parent=caller.parent,
            trace=caller.trace,
        )

    def _run(
        self,
        operation: Operation,
        bound: Mapping[str, Any],
        draft: Draft,
        caller: Caller,
        started_ns: int,
        wrap: Callable[[Effect], Effect] | None,
    ) -> Result:
        if self._engine.read_only and operation.mode is Mode.WRITE:
            self._engine.refuse_write(operation.name)

        def submit(sent: Draft, effect: Effect | None) -> Receipt:
            sent.duration_us = (time.perf_counter_ns() - started_ns) // 1000
            sent.recorded = True
            try:
                return self._engine.ledger.submit(sent, wrap(effect) if wrap and effect else effect).result()
            except Stale:
                sent.recorded = False
                raise

        ctx = Context(self._engine, operation, caller.principal, caller.surface, draft, submit, caller.progress, caller.cancelled)
        value = operation.handler(ctx, **bound)
        receipt = ctx.receipt
        if receipt is None and not self._engine.read_only:
            outcome = draft if ctx.intent is None else draft.as_outcome()
            outcome.after = outcome.after or _cid_of(value)
            receipt = self._finish(outcome, started_ns, wrap, value)
        return self._result(operation, draft, receipt, value)

    def _finish(self, draft: Draft, started_ns: int, wrap: Callable[[Effect], Effect] | None, value: Any) -> Receipt:
        draft.duration_us = (time.perf_counter_ns() - started_ns) // 1000
        draft.recorded = True
        if wrap is not None:
            return self._engine.ledger.submit(draft, wrap(lambda tx: Outcome(value))).result()
        ticket = self._engine.ledger.submit(draft)
        return ticket.receipt() if draft.ack is Ack.BUFFERED else ticket.result()

    def _result(self, operation: Operation, draft: Draft, receipt: Receipt | None, value: Any) -> Result:
        if receipt is None:
            return Result(value, None, draft.log, None, None, _cid_of(value), "none")
        cid = _cid_of(value) or receipt.record_cid
        return Result(value, draft.op_id.hex(), receipt.log, receipt.index, receipt.record_cid, cid, str(receipt.ack))

    def _record_failure(self, draft: Draft, error: KitError, started_ns: int) -> None:
        if draft.recorded or self._engine.read_only or self._engine.failed:
            return
        denied = isinstance(error, Denied)
        draft.status = Status.DENIED if denied else Status.CANCELLED if isinstance(error, Cancelled) else Status.ERROR
        draft.error_kind, draft.error_message = str(error.kind), error.message
        draft.duration_us = (time.perf_counter_ns() - started_ns) // 1000
        if denied:
            # Denials are audit: in the main log and durable before the reply, whatever was asked for.
            draft.log, draft.ack = "main", Ack.FSYNC
        ticket = self._engine.ledger.submit(draft)
        if draft.ack is Ack.FSYNC:
            ticket.result()

    def _once(self, operation: Operation, bound: Mapping[str, Any], draft: Draft, caller: Caller, started_ns: int) -> Result:
        key = caller.idempotency_key or ""
        if not 0 < len(key) <= IDEMPOTENCY_KEY_CHARS_MAX:
            raise InvalidInput(f"an idempotency key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters")
        digest = hashlib.sha256(dag_cbor.encode(_request(bound))).digest()
        with self._engine.idempotency.claim(draft.actor, operation.name, key, digest, draft.op_id) as claim:
            if claim.replay is not None:
                earlier = claim.replay
                draft.recorded = True
                return Result(
                    dag_cbor.decode(earlier.result), earlier.op_id.hex(), operation.log, earlier.index, earlier.record_cid,
                    earlier.record_cid, "fsync", replayed=True,
                )  # fmt: skip

            def wrap(effect: Effect) -> Effect:
                def apply(tx: Any) -> Outcome:
                    outcome = effect(tx)
                    claim.store(tx, dag_cbor.encode(_storable(to_json(outcome.value))))
                    return outcome

                return apply

            return self._run(operation, bound, draft, caller, started_ns, wrap)


def _cid_of(value: Any) -> CID | None:
    found = value if isinstance(value, CID) else getattr(value, "cid", None)
    return found if isinstance(found, CID) else None


def _request(bound: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _storable(value if isinstance(value, bytes | CID) else to_json(value)) for name, value in bound.items()}


def _storable(value: Any) -> Any:
    """JSON values as dag-cbor: the only difference is that floats must be finite."""
    return value
