"""Effects of more than one layer put together for one record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ipfs_kit.blocks.pins import PinChange
from ipfs_kit.durable import Tx
from ipfs_kit.errors import BlockNotFound, Conflict, Denied, Expired, InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.operations.catalogue import CATALOGUE

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine
    from ipfs_kit.operations.principal import Principal

PinStep = Callable[[Tx], PinChange]
"""Adds or removes one pin inside the transaction."""


def add_pin(step: PinStep) -> Callable[[Tx], dict[str, Any]]:
    """A step that adds a pin, described losslessly for the record."""
    return lambda tx: _described("add", step(tx))


def remove_pin(step: PinStep) -> Callable[[Tx], dict[str, Any]]:
    """A step that removes a pin, described losslessly for the record."""
    return lambda tx: _described("remove", step(tx))


def _described(what: str, change: PinChange) -> dict[str, Any]:
    before = change.before if what == "add" else None
    return {
        "change": what if change.changed else "none",
        "cid": change.pin.cid,
        "kind": str(change.pin.kind),
        "name": change.pin.name,
        "id": change.pin.id,
        "added_ns": change.pin.added_ns,
        "before": None if before is None else {"cid": before.cid, "kind": str(before.kind), "name": before.name},
    }


def pins_effect(
    steps: Sequence[Callable[[Tx], dict[str, Any]]], value: Any, *, before: CID | None = None, after: CID | None = None
) -> Effect:
    """Changes of pins as one effect; its record says losslessly what each changed.

    Args:
        steps: From ``add_pin`` and ``remove_pin``, applied in order.
        value: The operation's result.
        before: CID before.
        after: CID after.
    """

    def apply(tx: Tx) -> Outcome:
        return Outcome(value, effect={"pins": [step(tx) for step in steps]}, before=before, after=after)

    return apply


def _inverted(engine: Engine, done: dict[str, Any]) -> list[Callable[[Tx], dict[str, Any]]]:
    """Steps that take one described change of pins back."""
    now_ns = time.time_ns()
    target = done["name"] or done["cid"]
    if done["change"] == "add":
        steps = [remove_pin(engine.pins.remove(target, now_ns=now_ns))]
        if (was := done["before"]) is not None:
            steps.append(add_pin(engine.pins.add(was["cid"], was["kind"], was["name"], now_ns=now_ns)))
        return steps
    if done["change"] == "remove":
        return [add_pin(engine.pins.add(done["cid"], done["kind"], done["name"], now_ns=now_ns))]
    return []


def metadata_undone(engine: Engine, changes: Sequence[Any], value: Any) -> Effect:
    """The effect that takes changes of metadata records back.

    Args:
        engine: The open store.
        changes: As the op recorded them.
        value: The operation's result.
    """
    from ipfs_kit.search.metadata.statements import Writer

    def apply(tx: Tx) -> Outcome:
        writer = Writer(tx, engine.ledger.node, time.time_ns())
        writer.restore(changes)
        return Outcome(value, effect={"metadata": writer.changes})

    return apply


def with_value(effect: Effect, value: Callable[[Any], Any]) -> Effect:
    """The same effect with its result mapped."""

    def apply(tx: Tx) -> Outcome:
        outcome = effect(tx)
        outcome.value = value(outcome.value)
        return outcome

    return apply


def undo_effect(engine: Engine, op: str, principal: Principal, *, override: bool = False) -> Effect:
    """The effect that takes an earlier op back.

    Args:
        engine: The open store.
        op: Its index in the main log, or its id.
        principal: Who undoes: a change of settings is undone only by those who may make it.
        override: Also where that moves a protected branch back.

    Raises:
        OpNotFound: There is no such op.
        InvalidInput: The op changed nothing, failed, or cannot be undone; the message says why.
        MergeConflict: Something changed since at the same place.
        Denied: It set what only others may set.
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
    try:
        effect = engine.views.effect(opened.effect)
    except BlockNotFound as exc:
        raise Expired(f"the effect of {log}:{index} was collected as garbage; it cannot be undone any more") from exc
    if _sets(effect) and not principal.may_somewhere(SETTINGS_SCOPE):
        # Whether a narrowed scope holds at its bucket has been judged already, by what the op touched.
        raise Denied(
            f"{log}:{index} changed settings, which needs the scope {SETTINGS_SCOPE!r}: ask the store's owner for it",
            scope=SETTINGS_SCOPE,
        )
    # An undo that restored pins or metadata is itself undone through them.
    if operation.undo != "inverse" and not (isinstance(effect, dict) and ("pins" in effect or "metadata" in effect)):
        return engine.buckets.undo(index, override=override)
    if effect is None:
        raise Conflict(f"the effect of {log}:{index} was erased with its subject's key; it cannot be undone")
    if "metadata" in effect:
        return metadata_undone(engine, effect["metadata"], {"undone": f"{log}:{index}"})
    steps = [step for done in reversed(effect["pins"]) for step in _inverted(engine, done)]
    return pins_effect(steps, {"undone": f"{log}:{index}"})


SETTINGS_SCOPE = "bucket:admin"


def _sets(effect: Any) -> bool:
    """Whether an effect, or an undo of one, changed settings of a bucket."""
    return isinstance(effect, list) and bool(effect) and effect[0] == "settings"
