"""Writes with an idempotency key: the same key and request give the first result (decision 10)."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ipfs_kit.durable import Tx
from ipfs_kit.errors import Expired, InvalidInput
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.keys.sealing import seal, unseal
from ipfs_kit.ledger import Effect, Outcome, idempotency
from ipfs_kit.ledger.idempotency import Replay, Stored
from ipfs_kit.operations.results import Result, to_json

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

KEY_CHARS_MAX = 255
"""Longest client key, the bound drafts of the HTTP Idempotency-Key header use."""
WAIT_S = 60.0
"""How long a duplicate waits for the first call's external effect."""


@contextmanager
def undone_on_failure(outcome: Outcome) -> Iterator[None]:
    """Take back what an applied effect left in memory when the rest of its transaction step fails.

    The rows are rolled back with the savepoint; the ledger never sees the outcome, so nobody else would tell its owner.

    Args:
        outcome: What the effect returned.
    """
    try:
        yield
    except BaseException:
        if outcome.on_abort is not None:
            outcome.on_abort()
        raise


class Once:
    """One keyed call.

    Args:
        engine: The open store.
        actor: Surrogate of the caller, part of the key's namespace.
        secret: Id of the key that seals what is kept, the caller's and those of sealed buckets it names.
        operation: Operation name, part of the namespace too.
        key: The client's key.
        op_id: This call's op id.
        bound: Its arguments; only a keyed hash of them is kept.
    """

    def __init__(
        self,
        engine: Engine,
        actor: str,
        secret: str | None,
        operation: str,
        key: str,
        op_id: bytes,
        bound: Mapping[str, Any],
    ) -> None:
        if not 0 < len(key) <= KEY_CHARS_MAX:
            raise InvalidInput(f"an idempotency key has 1 to {KEY_CHARS_MAX} characters")
        found = engine.keys.subject_key(secret or actor)
        if found is None:
            raise Expired("the key of the caller or the sealed bucket was destroyed: no result can be kept under it")
        self._engine, self._secret, self._op_id = engine, found, op_id
        request = {name: value if isinstance(value, bytes | CID) else to_json(value) for name, value in bound.items()}
        self._slot = (actor, operation, key, hmac.digest(found, dag_cbor.encode(request), "sha256"))

    def run(self, work: Callable[[], Result]) -> Result:
        """Return the earlier result, or do the work and keep its result.

        Args:
            work: Runs the operation; its submissions pass through ``around``.
        """
        earlier = idempotency.lookup(self._engine.state, *self._slot, time.time_ns())
        if earlier is not None and not earlier.done:
            earlier = idempotency.wait(self._engine.state, *self._slot, time.time_ns, WAIT_S)
        if earlier is not None:
            return self._replayed(earlier)
        try:
            return work()
        except Replay as replay:
            stored = replay.stored
            if not stored.done:
                waited = idempotency.wait(self._engine.state, *self._slot, time.time_ns, WAIT_S)
                stored = stored if waited is None else waited
            return self._replayed(stored)

    def around(self, effect: Effect) -> Effect:
        """The effect, keeping its result under the key in the same transaction."""

        def apply(tx: Tx) -> Outcome:
            outcome = effect(tx)
            with undone_on_failure(outcome):
                result = seal(self._secret, self._op_id, "result", dag_cbor.encode(to_json(outcome.value)))
                idempotency.store(tx, *self._slot, self._op_id, result, time.time_ns())
            return outcome

        return apply

    def reserve(self, tx: Tx) -> Outcome:
        """Claim the key for an effect outside ``state.db``, with its intent."""
        idempotency.reserve(tx, *self._slot, self._op_id, time.time_ns())
        return Outcome()

    def _replayed(self, stored: Stored) -> Result:
        value = None
        if stored.result is not None:
            value = dag_cbor.decode(unseal(self._secret, stored.op_id, "result", stored.result))
        log, index = self._engine.find_op(stored.op_id.hex())
        record = self._engine.ledger.record_cid(log, index)
        return Result(value, stored.op_id.hex(), log, index, record, record, "fsync", replayed=True)
