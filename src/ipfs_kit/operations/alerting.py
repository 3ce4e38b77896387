"""The book of alerts as an operation writes in it: recorded under the call, once over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit.durable import Tx
from ipfs_kit.ledger import Draft, Outcome, Where, idempotency
from ipfs_kit.ledger.idempotency import Replay
from ipfs_kit.ledger.record import FSYNC, MAIN, new_op_id
from ipfs_kit.ledger.streams.registry import APPEND, stream_named
from ipfs_kit.monitoring.alerts import AlertBook, AlertStates
from ipfs_kit.operations.context import Context

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

ALERTS = "alerts"
_REQUEST = b"alert"


def alert_states(engine: Engine) -> AlertStates:
    """How every rule stands by the recorded alerts of a store."""

    def latest(position: int) -> tuple[int, Iterable[tuple[str, Mapping[str, Any]]]]:
        stop = engine.ledger.size(MAIN)
        where = Where(stream=frozenset({ALERTS}), operation=frozenset({APPEND}), status=frozenset({"ok"}))
        found = []
        for index, record in engine.ledger.select(MAIN, where, position, stop):
            event = engine.ledger.open_record(record).args
            if isinstance(event, dict) and "rule" in event and "state" in event:
                found.append((f"{MAIN}:{index}", event))
        return stop, found

    return AlertStates(latest)


def alert_book(ctx: Context) -> AlertBook:
    """The book of alerts of the store, whose records name this call as their parent.

    Args:
        ctx: The call.
    """
    engine = ctx.engine

    def append(event: dict[str, Any], key: str) -> str | None:
        at = ctx.draft
        draft = Draft(
            op_id=new_op_id(at.time_ns, engine.random), time_ns=at.time_ns, actor=at.actor, surface=at.surface,
            operation=APPEND, log=MAIN, stream=ALERTS, ack=FSYNC, parent=at.op_id, trace=at.trace,
            args=stream_named(ALERTS).check(event),
        )  # fmt: skip

        def effect(tx: Tx) -> Outcome:
            idempotency.store(tx, ALERTS, APPEND, key, _REQUEST, draft.op_id, None, at.time_ns)
            return Outcome()

        try:
            receipt = engine.ledger.submit(draft, effect).result()
        except Replay:
            return None
        return f"{MAIN}:{receipt.index}"

    return AlertBook(append, engine.alert_states)
