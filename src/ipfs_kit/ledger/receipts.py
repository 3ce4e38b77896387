"""What an operation submitted to the ledger gives back: outcome, receipt and ticket."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import Tx
from ipfs_kit.errors import Timeout
from ipfs_kit.ipld import CID
from ipfs_kit.ledger.record import Versions, record_cid_bytes

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What an effect did, for its record.

    Args:
        value: The operation's result, handed to the caller in the receipt.
        effect: The lossless effect of dag-cbor types, or the CID of a block that holds it.
        before: Versions before, not personal ones.
        after: Versions after, not personal ones.
        target: What it was done to, when better known than in the draft.
        on_commit: Called with the op index once the transaction is durable; from the committer's thread, so quick.
        on_abort: Called when the transaction did not commit.
    """

    value: Any = None
    effect: Any = None
    before: Versions = None
    after: Versions = None
    target: str | None = None
    on_commit: Callable[[int], None] | None = None
    on_abort: Callable[[], None] | None = None


Effect = Callable[[Tx], Outcome]
"""Runs under the state lock, inside the batch transaction, in a savepoint."""


class Receipt:
    """Where an operation was recorded.

    Args:
        log: ``main`` or ``bulk``.
        index: Its index in the log; None while only ``buffered``.
        op_id: The op id.
        record: The encoded record.
        ack: ``fsync`` or ``buffered``.
        value: What the effect returned.
    """

    __slots__ = ("_record", "ack", "index", "log", "op_id", "value")

    def __init__(self, log: str, index: int | None, op_id: bytes, record: bytes, ack: str, value: Any = None) -> None:
        self.log = log
        self.index = index
        self.op_id = op_id
        self._record = record
        self.ack = ack
        self.value = value

    @property
    def record_cid(self) -> CID:
        """CID of the op record."""
        return CID(record_cid_bytes(sha256(self._record).digest()))

    def __repr__(self) -> str:
        return f"Receipt({self.log}:{self.index}, op {self.op_id.hex()}, {self.ack})"


class BatchReceipt:
    """Where a whole batch of operations was recorded, at consecutive indices.

    Args:
        log: ``main`` or ``bulk``.
        first_index: Index of the first; None while only ``buffered``.
        op_ids: Their op ids in order.
        records: Their encoded records in order.
        ack: ``fsync`` or ``buffered``.
    """

    __slots__ = ("_records", "ack", "first_index", "log", "op_ids")

    def __init__(
        self, log: str, first_index: int | None, op_ids: Sequence[bytes], records: Sequence[bytes], ack: str
    ) -> None:
        self.log = log
        self.first_index = first_index
        self.op_ids = op_ids
        self._records = records
        self.ack = ack

    def __len__(self) -> int:
        return len(self.op_ids)

    @property
    def record_cids(self) -> list[CID]:
        """CIDs of the op records in order."""
        return [CID(record_cid_bytes(sha256(record).digest())) for record in self._records]


# One lock for the rare moments in which a caller starts to wait; a lock per ticket would cost more than the ticket.
_guard: Final = threading.Lock()


class Ticket:
    """The pending result of a submission; thread-safe.

    A buffered ticket is complete from the start: its receipt has no index yet.
    """

    __slots__ = ("_callbacks", "_done", "_error", "_gate", "_receipt")

    def __init__(self) -> None:
        self._done = False
        self._receipt: Any = None
        self._error: BaseException | None = None
        self._gate: threading.Lock | None = None
        self._callbacks: list[Callable[[Ticket], None]] | None = None

    @property
    def done(self) -> bool:
        """Whether the result is known."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """The error it ended with, once done."""
        return self._error

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the receipt.

        Args:
            timeout_s: Longest wait in seconds; None waits as long as it takes.

        Returns:
            The ``Receipt``, or a ``BatchReceipt`` for ``submit_many``.

        Raises:
            Timeout: Not done within the limit; the operation may still be recorded.
            KitError: What the effect raised, or ``StorageFailed`` when the transaction did not commit.
        """
        if not self._done and not self._wait(timeout_s):
            raise Timeout(f"the operation was not recorded within {timeout_s:g} s; it may still be")
        if self._error is not None:
            raise self._error
        return self._receipt

    def receipt(self) -> Any:
        """The receipt of a ticket that is done, else None."""
        return self._receipt if self._done and self._error is None else None

    def add_done_callback(self, fn: Callable[[Ticket], None]) -> None:
        """Call ``fn(ticket)`` when done: at once if it is, else from the committer's thread, where it must be quick.

        An asynchronous caller passes ``lambda t: loop.call_soon_threadsafe(...)``.
        """
        if not self._done:
            with _guard:
                if not self._done:
                    if self._callbacks is None:
                        self._callbacks = []
                    self._callbacks.append(fn)
                    return
        fn(self)

    def settle(
        self, receipt: Any, error: BaseException | None = None
    ) -> tuple[threading.Lock | None, list[Callable[[Ticket], None]] | None]:
        """Note the result; the caller holds the module's guard, or nobody else has seen the ticket yet.

        Returns:
            The gate to open and the callbacks to call, if any.
        """
        self._receipt = receipt
        self._error = error
        self._done = True
        callbacks, self._callbacks = self._callbacks, None
        return self._gate, callbacks

    def _wait(self, timeout_s: float | None) -> bool:
        with _guard:
            if self._done:
                return True
            gate = self._gate
            if gate is None:
                gate = self._gate = threading.Lock()
                gate.acquire()
        if not gate.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return self._done
        gate.release()
        return True


def complete(finished: Sequence[tuple[Ticket, Any, BaseException | None]]) -> None:
    """Settle tickets and wake whoever waits for them.

    Args:
        finished: Each ticket with its receipt, or its error.
    """
    gates: list[threading.Lock] = []
    callbacks: list[tuple[Ticket, list[Callable[[Ticket], None]]]] = []
    with _guard:
        for ticket, receipt, error in finished:
            gate, waiting = ticket.settle(receipt, error)
            if gate is not None:
                gates.append(gate)
            if waiting is not None:
                callbacks.append((ticket, waiting))
    for gate in gates:
        gate.release()
    for ticket, functions in callbacks:
        for function in functions:
            try:
                function(ticket)
            except Exception:
                # A listener's defect must not take the committer with it.
                _log.exception("a ticket's callback failed")
