"""Idempotency keys (decision 10): the same key and request give the first call's result, exactly once.

The dispatcher calls ``lookup`` before it works, then ``store`` inside the effect's own transaction. Two processes that
race both work, but the transactions are serial: the second one's ``store`` finds the first one's row and raises
``Replay``, which rolls its effect back and hands over the first result. An effect outside ``state.db`` is guarded by a
lease instead: ``reserve`` before it, ``store`` with its outcome, ``wait`` for whoever comes second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import StateDB, Tx
from ipfs_kit.errors import Conflict, IdempotencyMismatch, Timeout

KEEP_NS: Final = 24 * 3600 * 1_000_000_000
"""How long a key answers at least."""
LEASE_NS: Final = 10 * 60 * 1_000_000_000
"""How long an unfinished external effect keeps others waiting before it counts as abandoned."""
_POLL_S: Final = 0.02
_PRUNE_ROWS: Final = 100

_SELECT: Final = (
    "SELECT request_hash, op_id, done, result, expires_ns FROM idempotency "
    "WHERE principal = ? AND operation = ? AND key = ?"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What is known under a key.

    Args:
        op_id: The op that first used it.
        done: False while that op's external effect is still under way.
        result: What it returned, as stored.
        expires_ns: When the key is forgotten, or the lease runs out.
    """

    op_id: bytes
    done: bool
    result: bytes | None
    expires_ns: int


class Replay(Conflict):
    """Another call with this key committed first; ``stored`` holds its result."""

    def __init__(self, stored: Stored) -> None:
        super().__init__("another call with the same idempotency key committed first", op_id=stored.op_id.hex())
        self.stored = stored


def lookup(state: StateDB, principal: str, operation: str, key: str, request_hash: bytes, now_ns: int) -> Stored | None:
    """What an earlier call with this key left, or None when the key is free.

    Raises:
        IdempotencyMismatch: The key was used with another request.
    """
    return _match(state.query(_SELECT, (principal, operation, key)), key, request_hash, now_ns)


def reserve(
    tx: Tx,
    principal: str,
    operation: str,
    key: str,
    request_hash: bytes,
    op_id: bytes,
    now_ns: int,
    lease_ns: int = LEASE_NS,
) -> None:
    """Claim a key for an effect outside ``state.db``, in the transaction of its intent.

    Raises:
        Replay: The key is taken, by a finished call or one under way (``stored.done``).
        IdempotencyMismatch: It was used with another request.
    """
    _take(tx, principal, operation, key, request_hash, op_id, now_ns)
    _write(tx, principal, operation, key, request_hash, op_id, 0, None, now_ns, now_ns + lease_ns)


def store(
    tx: Tx,
    principal: str,
    operation: str,
    key: str,
    request_hash: bytes,
    op_id: bytes,
    result: bytes | None,
    now_ns: int,
    keep_ns: int = KEEP_NS,
) -> None:
    """Keep a call's result under its key, in the effect's own transaction.

    Args:
        tx: The effect's transaction.
        principal: Surrogate id of the caller.
        operation: Catalogue name.
        key: The client's key.
        request_hash: Keyed or salted hash of the request.
        op_id: The op.
        result: The encoded result, sealed when personal.
        now_ns: Wall clock.
        keep_ns: How long the key answers.

    Raises:
        Replay: Another call committed first.
        IdempotencyMismatch: The key was used with another request.
    """
    _take(tx, principal, operation, key, request_hash, op_id, now_ns)
    _write(tx, principal, operation, key, request_hash, op_id, 1, result, now_ns, now_ns + max(keep_ns, KEEP_NS))


def release(tx: Tx, principal: str, operation: str, key: str, op_id: bytes) -> None:
    """Free a reserved key whose external effect certainly did not happen."""
    tx.execute(
        "DELETE FROM idempotency WHERE principal = ? AND operation = ? AND key = ? AND op_id = ? AND done = 0",
        (principal, operation, key, op_id),
    )


def wait(
    state: StateDB,
    principal: str,
    operation: str,
    key: str,
    request_hash: bytes,
    now_ns: Callable[[], int],
    timeout_s: float,
) -> Stored | None:
    """Wait while another call's external effect under this key is under way.

    Returns:
        Its result, or None when the key became free.

    Raises:
        Timeout: Still under way after ``timeout_s`` seconds.
        IdempotencyMismatch: The key was used with another request.
    """
    pause = threading.Event()
    for _ in range(max(1, int(timeout_s / _POLL_S))):
        stored = lookup(state, principal, operation, key, request_hash, now_ns())
        if stored is None or stored.done:
            return stored
        pause.wait(_POLL_S)
    raise Timeout(f"another call with idempotency key {key!r} is still running after {timeout_s:g} s: ask again later")


def prune(tx: Tx, now_ns: int) -> int:
    """Forget up to a hundred expired keys; called now and then so that the table stays small.

    Returns:
        How many were forgotten.
    """
    expired = tx.execute(
        "SELECT principal, operation, key FROM idempotency WHERE expires_ns < ? LIMIT ?", (now_ns, _PRUNE_ROWS)
    )
    tx.executemany("DELETE FROM idempotency WHERE principal = ? AND operation = ? AND key = ?", expired)
    return len(expired)


def _match(
    rows: list[tuple[bytes, bytes, int, bytes | None, int]], key: str, request_hash: bytes, now_ns: int
) -> Stored | None:
    if not rows or rows[0][4] < now_ns:
        return None
    known_hash, op_id, done, result, expires_ns = rows[0]
    if known_hash != request_hash:
        raise IdempotencyMismatch(
            f"idempotency key {key!r} was used with another request: use a fresh key", key=key, op_id=op_id.hex()
        )
    return Stored(op_id, bool(done), result, expires_ns)


def _take(tx: Tx, principal: str, operation: str, key: str, request_hash: bytes, op_id: bytes, now_ns: int) -> None:
    stored = _match(tx.execute(_SELECT, (principal, operation, key)), key, request_hash, now_ns)
    if stored is not None and not (stored.op_id == op_id and not stored.done):
        raise Replay(stored)


def _write(
    tx: Tx,
    principal: str,
    operation: str,
    key: str,
    request_hash: bytes,
    op_id: bytes,
    done: int,
    result: bytes | None,
    now_ns: int,
    expires_ns: int,
) -> None:
    tx.execute(
        "INSERT OR REPLACE INTO idempotency(principal, operation, key, request_hash, op_id, done, result, created_ns, "
        "expires_ns) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (principal, operation, key, request_hash, op_id, done, result, now_ns, expires_ns),
    )
