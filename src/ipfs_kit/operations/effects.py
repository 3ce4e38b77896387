"""Effects of more than one layer put together for one record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ipfs_kit.durable import Tx
from ipfs_kit.errors import Conflict, InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.operations.catalogue import CATALOGUE

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

PinChange = Callable[[Tx], dict[str, Any]]
"""Changes pins inside the transaction and returns what changed, dag-cbor types."""


def pin_effect(change: PinChange, value: Any, *, before: CID | None = None, after: CID | None = None) -> Effect:
    """One change of pins as an effect with a given result."""
    return pins_effect([change], value, before=before, after=after)


def pins_effect(changes: Sequence[PinChange], value: Any, *, before: CID | None = None, after: CID | None = None) -> Effect:
    """Changes of pins as one effect; its record says losslessly what each changed.

    Args:
        changes: Applied in order.
        value: The operation's result.
        before: CID before.
        after: CID after.
    """

    def apply(tx: Tx) -> Outcome:
        return Outcome(value, effect={"pins": [change(tx) for change in changes]}, before=before, after=after)

    return apply


def with_value(effect: Effect, value: Callable[[Any], Any]) -> Effect:
    """The same effect with its result mapped."""

    def apply(tx: Tx) -> Outcome:
        outcome = effect(tx)
        outcome.value = value(outcome.value)
        return outcome

    return apply


def undo_effect(engine: Engine, op: str) -> Effect:
    """The effect that takes an earlier op back.

    Args:
        engine: The open store.
        op: Its index in the main log, or its id.

    Raises:
        OpNotFound: There is no such op.
        InvalidInput: The op changed nothing, failed, or cannot be undone; the message says why.
        MergeConflict: Something changed since at the same place.
    """
    log, index = engine.find_op(op)
    opened = engine.ledger.open_record(engine.ledger.record_at(log, index))
    record = opened.record
    operation = CATALOGUE.get(record.operation)
    if log != "main" or operation is None:
        raise InvalidInput(f"{log}:{index} ({record.operation}) changed nothing; there is nothing to undo")
    if record.status != "ok":
        raise InvalidInput(f"{log}:{index} ({record.operation}) ended with {record.status} and changed nothing")
    if operation.irreversible:
        raise InvalidInput(f"{record.operation} cannot be undone: {operation.irreversible}")
    if operation.undo != "inverse":
        return engine.buckets.undo(index)
    effect = engine.views.effect(opened.effect)
    if effect is None:
        raise Conflict(f"the effect of {log}:{index} was erased with its subject's key; it cannot be undone")
    changes = [engine.pins.invert(change) for change in reversed(effect["pins"])]
    return pins_effect(changes, {"undone": f"{log}:{index}"})
