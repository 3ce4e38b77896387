"""Group commit: one thread per process drains both logs' queues into one ``state.db`` transaction (decisions 1, 11).

Life of a submission: ``submit`` queues it; the committer takes everything queued, makes blocks durable, opens the state
transaction, runs each effect in a savepoint, encodes its record, writes one row per log, commits, and only then settles
the tickets. A raising effect is rolled back alone and its op recorded with the error. When the transaction does not
commit, every effect is told and every ticket raises.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.durable import StateDB, Tx
from ipfs_kit.errors import (
    Cancelled,
    Denied,
    IntegrityError,
    InternalError,
    KitError,
    LockTimeout,
    NoSpace,
    Stale,
    StorageFailed,
    Timeout,
)
from ipfs_kit.ledger import batches
from ipfs_kit.ledger.idempotency import Replay
from ipfs_kit.ledger.receipts import BatchReceipt, Outcome, Receipt, Ticket, complete
from ipfs_kit.ledger.record import FSYNC, Draft, encode, keys_of

if TYPE_CHECKING:
    from ipfs_kit.ledger.receipts import Effect

_log = logging.getLogger(__name__)

GATHER_S: Final = 0.025
"""How long buffered records may wait for company; with the transaction itself this stays within the stated 50 ms."""
QUEUED_MAX: Final = 65_536
"""Submissions waiting; more make ``submit`` wait, so that memory stays bounded when the disk cannot follow."""
BATCH_ITEMS_MAX: Final = 8_192
"""Submissions in one transaction, which bounds how long other processes wait for their turn."""
BATCH_BYTES_MAX: Final = 32 << 20
"""Encoded bytes in one transaction, for the same reason."""
ROW_RECORDS_MAX: Final = 1_024
"""Records of one row, so that reading one record never drags in megabytes."""
BACKPRESSURE_S: Final = 60.0
COMPANY_S: Final = 0.000_05
"""One look whether more company arrives; taken only while fewer submissions wait than came together lately."""
COMPANY_LOOKS_MAX: Final = 40
"""Looks before one transaction, however steadily the queue grows: with the timer's slack about 4 ms."""
_UNRECORDED: Final = (Stale, Replay)
"""Raised by effects that are prepared again or answered by an earlier call: one user intention is one record."""


class Item:
    """One submission on its way: a draft with its effect, or records encoded by the caller.

    Args:
        ticket: Settled after the commit; None when it was settled at submission.
        log: ``main`` or ``bulk``.
        draft: The draft of an effect; None when ``records`` are given.
        effect: Runs inside the transaction.
        records: Encoded records.
        op_ids: Their op ids.
        times: Their recorded times.
        many: The ticket gets a ``BatchReceipt``.
    """

    __slots__ = ("draft", "effect", "log", "many", "offset", "op_ids", "outcome", "records", "ticket", "times")

    def __init__(
        self,
        ticket: Ticket | None,
        log: str,
        draft: Draft | None,
        effect: Effect | None,
        records: list[bytes],
        op_ids: list[bytes],
        times: list[int],
        many: bool = False,
    ) -> None:
        self.ticket = ticket
        self.log = log
        self.draft = draft
        self.effect = effect
        self.records = records
        self.op_ids = op_ids
        self.times = times
        self.many = many
        self.offset = 0
        self.outcome: Any = None
        """What the effect returned, or the error it ended with."""


class _Pending:
    """The records of one log gathered by one transaction."""

    __slots__ = ("first_index", "op_ids", "records", "times")

    def __init__(self, first_index: int) -> None:
        self.first_index = first_index
        self.records: list[bytes] = []
        self.op_ids: list[bytes] = []
        self.times: list[int] = []


class _Stop:
    """Queued to end the thread."""


class _Barrier:
    """Queued to learn that everything before it was committed."""

    __slots__ = ("ticket",)

    def __init__(self) -> None:
        self.ticket = Ticket()


_Queued = Item | _Stop | _Barrier | None


class Committer:
    """Owns the commit thread of one process; started by the first submission.

    Args:
        state: ``state.db``.
        node: Surrogate id of the store.
        subject_key: The key of a subject, or None.
        sync_blocks: Makes every block put so far durable; cheap when there is nothing to do.
        now_ns: Wall clock.
        committed: Called after each commit, to let publishing know; quick.
    """

    def __init__(
        self,
        state: StateDB,
        node: str,
        subject_key: Callable[[str], bytes | None],
        sync_blocks: Callable[[], None],
        now_ns: Callable[[], int],
        committed: Callable[[], None],
    ) -> None:
        self._state = state
        self._node = node
        self._subject_key = subject_key
        self._sync_blocks = sync_blocks
        self._now_ns = now_ns
        self._committed = committed
        # None on the queue wakes the thread for buffered records, which wait in their own deque.
        self._queue: SimpleQueue[_Queued] = SimpleQueue()
        self._buffered: deque[Item] = deque()
        self._armed = False
        # How many submissions came together lately, slowly forgotten: callers that were acknowledged together come
        # back together, and one transaction for all of them costs little more than one for the first.
        self._usual = 0
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._room = threading.Condition()
        self._pause = threading.Event()  # never set: waiting for it is a pause
        self._waiting = 0
        self._closed = False
        self._dead: KitError | None = None
        self._pid = os.getpid()

    @property
    def dead(self) -> KitError | None:
        """The error after which nothing can be recorded any more."""
        return self._dead

    def put(self, item: Item, buffered: bool) -> None:
        """Queue a submission; waits only when far too many are queued.

        Raises:
            StorageFailed: The ledger is closed, failed, or belongs to the process this one was forked from.
            Timeout: The queue stayed full.
        """
        if self._dead is not None or self._closed or self._thread is None or self._pid != os.getpid():
            self._check()
        if self._queue.qsize() + len(self._buffered) >= QUEUED_MAX:
            self._wait_for_room()
        if buffered:
            self._buffered.append(item)
            if not self._armed:
                self._armed = True
                self._queue.put(None)
        else:
            self._queue.put(item)

    def flush(self, timeout_s: float | None = None) -> None:
        """Return once everything submitted before is committed.

        Raises:
            StorageFailed: It could not be committed.
        """
        if self._thread is None:
            if self._dead is not None:
                raise self._dead
            return
        self._check()
        barrier = _Barrier()
        self._queue.put(barrier)
        barrier.ticket.result(timeout_s)

    def stop(self, error: KitError) -> None:
        """Record nothing more, because something is wrong with what was recorded (decision 16)."""
        self._dead = self._dead or error

    def close(self) -> None:
        """Commit what is queued and end the thread."""
        with self._guard:
            self._closed = True
            thread = self._thread
        if thread is not None and self._pid == os.getpid():
            self._queue.put(_Stop())
            thread.join()
            # A submission that passed its check just before the close must not wait for ever.
            late, barriers, _ = self._drain()
            closed = StorageFailed("the ledger was closed before this was recorded: open the store again")
            self._fail(late, closed)
            complete([(barrier.ticket, None, closed) for barrier in barriers])

    def _check(self) -> None:
        if self._dead is not None:
            kind = NoSpace if isinstance(self._dead, NoSpace) else StorageFailed
            raise kind(f"the ledger stopped recording ({self._dead.message}): reopen the store") from self._dead
        if self._pid != os.getpid():
            raise StorageFailed("this ledger was opened before the process was forked: open the store again")
        with self._guard:
            if self._closed:
                raise StorageFailed("the ledger is closed: open the store again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ipfs-kit-committer", daemon=True)
                self._thread.start()

    def _wait_for_room(self) -> None:
        with self._room:
            self._waiting += 1
            try:
                roomy = self._room.wait_for(
                    lambda: self._dead is not None or self._queue.qsize() + len(self._buffered) < QUEUED_MAX,
                    BACKPRESSURE_S,
                )
            finally:
                self._waiting -= 1
        if self._dead is not None:
            self._check()
        if not roomy:
            raise Timeout(f"the ledger's queue stayed full for {BACKPRESSURE_S:g} s: submit less, or check the disk")

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        stopping = False
        while not stopping:
            items, barriers, stopping = self._gather()
            if stopping:
                # Submissions that raced with close() are behind the stop mark.
                more, behind, _ = self._drain()
                items += more
                barriers += behind
            for batch in _split(items):
                self._commit(batch)
            if barriers:
                complete([(barrier.ticket, None, self._dead) for barrier in barriers])
            if self._waiting:
                with self._room:
                    self._room.notify_all()

    def _gather(self) -> tuple[list[Item], list[_Barrier], bool]:
        """Wait for work: a plain submission, barrier or stop starts at once, buffered records after ``GATHER_S``."""
        deadline: float | None = None
        first: _Queued = None
        while first is None:
            try:
                first = self._queue.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            if first is None and deadline is None:
                deadline = time.monotonic() + GATHER_S
        if type(first) is Item:
            self._await_company()
        gathered = self._drain(first)
        self._usual = max(len(gathered[0]), self._usual * 7 // 8)
        return gathered

    def _await_company(self) -> None:
        """Let a group of callers finish submitting; a lone caller is never made to wait."""
        before = -1
        for _ in range(COMPANY_LOOKS_MAX):
            waiting = self._queue.qsize()
            if waiting + 1 >= self._usual or waiting == before:
                return
            before = waiting
            self._pause.wait(COMPANY_S)

    def _drain(self, first: _Queued = None) -> tuple[list[Item], list[_Barrier], bool]:
        queued = [first]
        queued += [self._queue.get_nowait() for _ in range(self._queue.qsize())]
        # Disarmed before the deque is emptied: whoever appends later wakes the thread again.
        self._armed = False
        items = [self._buffered.popleft() for _ in range(len(self._buffered))]
        items += [entry for entry in queued if type(entry) is Item]
        barriers = [entry for entry in queued if type(entry) is _Barrier]
        return items, barriers, any(type(entry) is _Stop for entry in queued)

    def _commit(self, items: list[Item]) -> None:
        if self._dead is not None:
            self._fail(items, self._dead)
            return
        pending: dict[str, _Pending] = {}
        try:
            self._sync_blocks()
            with self._state.transaction() as tx:
                pending = self._apply(tx, items)
        except LockTimeout as exc:
            # Nothing is lost but patience: callers may try again, and buffered records stay queued.
            self._fail([item for item in items if item.ticket is not None], exc)
            self._buffered.extendleft(reversed([item for item in items if item.ticket is None]))
            if self._buffered and not self._armed:
                self._armed = True
                self._queue.put(None)
            return
        except Exception as exc:
            self._die(items, exc)
            return
        self._settle(items, pending)
        self._committed()

    def _apply(self, tx: Tx, items: list[Item]) -> dict[str, _Pending]:
        pending: dict[str, _Pending] = {}
        for item in items:
            into = pending.get(item.log)
            if into is None:
                into = pending[item.log] = _Pending(self._next_index(tx, item.log))
            if item.effect is not None:
                self._run_effect(tx, item, into)
            item.offset = len(into.records)
            into.records += item.records
            into.op_ids += item.op_ids
            into.times += item.times
        for log, into in pending.items():
            if into.records:
                for at in range(0, len(into.records), ROW_RECORDS_MAX):
                    part = slice(at, at + ROW_RECORDS_MAX)
                    batches.insert(
                        tx, log, into.first_index + at, into.records[part], into.op_ids[part], into.times[part]
                    )
                tx.execute(
                    "UPDATE ledger_logs SET next_index = ? WHERE log = ?", (into.first_index + len(into.records), log)
                )
        return pending

    def _next_index(self, tx: Tx, log: str) -> int:
        state = batches.log_state_in(tx, log)
        last = tx.execute(
            "SELECT first_index + count FROM batches WHERE log = ? ORDER BY first_index DESC LIMIT 1", (log,)
        )
        end = last[0][0] if last else state.sealed_upto
        if end != state.next_index or state.size > state.next_index:
            raise IntegrityError(
                f"log {log} ends at {end} but {max(state.next_index, state.size)} records were acknowledged: "
                "nothing is appended; run ledger verify",
                log=log,
            )
        return state.next_index

    def _run_effect(self, tx: Tx, item: Item, into: _Pending) -> None:
        draft, effect = item.draft, item.effect
        assert draft is not None
        assert effect is not None
        tx.op_index = into.first_index + len(into.records)
        error: KitError
        try:
            with tx.savepoint():
                outcome = item.outcome = effect(tx)
                now_ns = self._now_ns()
                key, naming_key = keys_of(self._subject_key, draft)
                record = encode(
                    draft,
                    key,
                    node=self._node,
                    time_ns=now_ns,
                    naming_key=naming_key,
                    ack=FSYNC,
                    target=outcome.target,
                    effect=outcome.effect,
                    before=outcome.before,
                    after=outcome.after,
                )
                item.records, item.op_ids, item.times = [record], [draft.op_id], [now_ns]
                return
        except _UNRECORDED as exc:
            self._undone(item, exc)
            return
        except KitError as exc:
            error = exc
        except Exception as exc:
            error = InternalError(
                f"{draft.operation} failed unexpectedly ({type(exc).__name__}: {exc}); please report this"
            )
            error.__cause__ = exc
        if self._state.failed:
            raise error
        self._undone(item, error)
        now_ns = self._now_ns()
        item.records, item.op_ids, item.times = [self._error_record(draft, error, now_ns)], [draft.op_id], [now_ns]

    def _undone(self, item: Item, error: KitError) -> None:
        """Note an error in place of the outcome and tell an effect that had already returned."""
        outcome, item.outcome = item.outcome, error
        item.records, item.op_ids, item.times = [], [], []
        if isinstance(outcome, Outcome):
            _call_abort(outcome)

    def _error_record(self, draft: Draft, error: KitError, now_ns: int) -> bytes:
        status = "denied" if isinstance(error, Denied) else "cancelled" if isinstance(error, Cancelled) else "error"
        try:
            key, naming_key = keys_of(self._subject_key, draft)
            return encode(
                draft,
                key,
                node=self._node,
                time_ns=now_ns,
                naming_key=naming_key,
                ack=FSYNC,
                status=status,
                error=error,
            )
        except KitError:
            # What made the record impossible (size, type, destroyed key) is left out; that it failed is still recorded.
            bare = replace(
                draft,
                subject=None,
                target=None,
                args=None,
                effect=None,
                error_kind=error.kind.value,
                error_message=None,
                ext={},
            )
            return encode(bare, None, node=self._node, time_ns=now_ns, ack=FSYNC, status=status)

    def _settle(self, items: list[Item], pending: dict[str, _Pending]) -> None:
        finished: list[tuple[Ticket, Any, BaseException | None]] = []
        for item in items:
            outcome = item.outcome
            index = pending[item.log].first_index + item.offset
            if isinstance(outcome, Outcome) and outcome.on_commit is not None:
                _call_commit(outcome.on_commit, index)
            ticket = item.ticket
            if ticket is None:
                continue
            if isinstance(outcome, KitError):
                finished.append((ticket, None, outcome))
            elif item.many:
                finished.append((ticket, BatchReceipt(item.log, index, item.op_ids, item.records, FSYNC), None))
            else:
                value = outcome.value if outcome is not None else None
                finished.append((ticket, Receipt(item.log, index, item.op_ids[0], item.records[0], FSYNC, value), None))
        complete(finished)

    def _fail(self, items: list[Item], error: KitError) -> None:
        for item in items:
            if isinstance(item.outcome, Outcome):
                _call_abort(item.outcome)
        complete([(item.ticket, None, error) for item in items if item.ticket is not None])

    def _die(self, items: list[Item], error: Exception) -> None:
        """Stop for good: what a failed sync left on the disk is unknown, so nothing may be appended after it."""
        if isinstance(error, KitError):
            dead = error if isinstance(error, (StorageFailed, IntegrityError)) else StorageFailed(error.message)
        else:
            dead = StorageFailed(f"recording failed ({type(error).__name__}: {error}): reopen the store")
        if dead is not error:
            dead.__cause__ = error
        self._dead = dead
        if not isinstance(dead, IntegrityError):
            # A contradiction in what was recorded stops recording, but it must still be readable to be verified.
            self._state.poison(dead.message)
        lost = sum(len(item.records) for item in items if item.ticket is None)
        _log.error("the ledger stopped recording: %s (%d buffered records not kept)", dead.message, lost)
        self._fail(items, dead)


def _split(items: list[Item]) -> list[list[Item]]:
    """Cut what was drained into transactions of bounded size, in order."""
    found: list[list[Item]] = []
    size = 0
    for item in items:
        weight = sum(map(len, item.records))
        if not found or len(found[-1]) == BATCH_ITEMS_MAX or size + weight > BATCH_BYTES_MAX:
            found.append([])
            size = 0
        found[-1].append(item)
        size += weight
    return found


def _call_commit(callback: Callable[[int], None], index: int) -> None:
    try:
        callback(index)
    except Exception:
        # The transaction is durable whatever a listener does; the committer must go on.
        _log.exception("a commit callback failed")


def _call_abort(outcome: Outcome) -> None:
    if outcome.on_abort is None:
        return
    try:
        outcome.on_abort()
    except Exception:
        # One listener's defect must not keep the others from being told.
        _log.exception("an abort callback failed")
