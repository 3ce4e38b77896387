"""Group commit: effects and records in one transaction, acknowledgements, failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_kit import Store, notes, noting, open_store

from ipfs_kit.durable import FileLock, Tx, faults
from ipfs_kit.errors import (
    BudgetExceeded,
    Conflict,
    Denied,
    InternalError,
    InvalidInput,
    LockTimeout,
    OpNotFound,
    ReadOnly,
    Stale,
    StorageFailed,
)
from ipfs_kit.ledger import Outcome, Ticket
from ipfs_kit.ledger.record import RECORD_BYTES_MAX


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


def test_an_effect_and_its_record_are_one_transaction(store: Store) -> None:
    seen: list[int] = []

    def effect(tx: Tx) -> Outcome:
        outcome: Outcome = noting("a")(tx)
        outcome.on_commit = seen.append
        return outcome

    store.record(3)
    receipt = store.ledger.submit(store.draft(), effect).result(10)
    assert (receipt.index, receipt.value, receipt.ack) == (3, "a", "fsync")
    assert notes(store) == [("a", 3)]
    assert seen == [3]
    opened = store.ledger.open_record(store.ledger.record_at("main", 3))
    assert (opened.effect, opened.target) == (["note", "a"], "docs:/secret-name.txt")
    assert store.ledger.record_cid("main", 3) == receipt.record_cid
    assert store.ledger.find(receipt.op_id) == [("main", 3)]


@pytest.mark.parametrize(
    ("error", "raised", "status"),
    [
        (Conflict("no"), Conflict, "error"),
        (Denied("no"), Denied, "denied"),
        (ZeroDivisionError("oops"), InternalError, "error"),
    ],
)
def test_a_raising_effect_is_rolled_back_alone_and_recorded(
    store: Store, error: Exception, raised: type[Exception], status: str
) -> None:
    def broken(tx: Tx) -> Outcome:
        noting("lost")(tx)
        raise error

    tickets = [store.ledger.submit(store.draft(), effect) for effect in (noting("a"), broken, noting("b"))]
    assert tickets[0].result(10).value == "a"
    with pytest.raises(raised):
        tickets[1].result(10)
    assert tickets[2].result(10).value == "b"
    assert [value for value, _ in notes(store)] == ["a", "b"]
    assert [record.status for _, record in store.ledger.read("main", 0, 9)] == ["ok", status, "ok"]


def test_stale_work_leaves_no_record_and_may_be_submitted_again(store: Store) -> None:
    def stale(tx: Tx) -> Outcome:
        noting("lost")(tx)
        raise Stale("moved")

    draft = store.draft()
    with pytest.raises(Stale):
        store.ledger.submit(draft, stale).result(10)
    assert store.ledger.size() == 0
    assert store.ledger.submit(draft, noting("kept")).result(10).index == 0


def test_an_oversized_effect_is_undone_recorded_and_reported(store: Store) -> None:
    aborted: list[bool] = []

    def effect(tx: Tx) -> Outcome:
        noting("lost")(tx)
        return Outcome(effect=b"x" * RECORD_BYTES_MAX, on_abort=lambda: aborted.append(True))

    with pytest.raises(BudgetExceeded):
        store.ledger.submit(store.draft(), effect).result(10)
    assert aborted == [True]
    assert notes(store) == []
    assert store.ledger.record_at("main", 0).error_kind == "budget_exceeded"
    with pytest.raises(BudgetExceeded):
        store.ledger.submit(store.draft(effect=b"x" * RECORD_BYTES_MAX))


def test_an_op_about_an_erased_subject_is_recorded_without_personal_fields(store: Store) -> None:
    other = store.keys.subject_for("bob")
    store.keys.destroy(other)
    with pytest.raises(Exception, match="destroyed"):
        store.ledger.submit(store.draft(subject=other), noting("lost")).result(10)
    record = store.ledger.record_at("main", 0)
    assert (record.subject, record.target, record.args, record.error_kind) == (None, None, None, "expired")


def test_buffered_reads_are_acknowledged_at_once_and_committed_soon(store: Store) -> None:
    ticket = store.ledger.submit(store.draft(log="bulk", ack="buffered"))
    receipt = ticket.receipt()
    assert (receipt.index, receipt.ack, receipt.log) == (None, "buffered", "bulk")
    found, cursor = store.ledger.tail("bulk", 0, timeout_s=10)
    assert [index for index, _ in found] == [0]
    assert cursor == 1
    assert store.ledger.record_cid("bulk", 0) == receipt.record_cid


def test_a_just_buffered_op_is_found(store: Store) -> None:
    receipt = store.ledger.submit(store.draft(log="bulk", ack="buffered")).receipt()
    assert store.ledger.find(receipt.op_id) == [("bulk", 0)]
    with pytest.raises(OpNotFound):
        store.ledger.find(b"\0" * 16)


def test_a_batch_gets_consecutive_indices(store: Store) -> None:
    store.record(2)
    drafts = [store.draft() for _ in range(2_500)]
    receipt = store.ledger.submit_many(drafts).result(30)
    assert (receipt.first_index, len(receipt)) == (2, 2_500)
    assert store.ledger.record_cid("main", 2 + 2_400) == receipt.record_cids[2_400]
    assert store.ledger.find(drafts[1_700].op_id) == [("main", 1_702)]
    assert store.ledger.verify().ok
    with pytest.raises(InvalidInput):
        store.ledger.submit_many([store.draft(), store.draft(log="bulk")])


def test_tickets_call_back_and_wake_every_waiter(store: Store) -> None:
    gate, seen = threading.Event(), []

    def slow(tx: Tx) -> Outcome:
        gate.wait(10)
        return Outcome(value=7)

    def called(ticket: Ticket) -> None:
        seen.append(ticket.result().value)

    def failing(ticket: Ticket) -> None:
        raise RuntimeError("a listener's own defect")

    ticket = store.ledger.submit(store.draft(), slow)
    ticket.add_done_callback(failing)
    ticket.add_done_callback(called)
    waiters = [threading.Thread(target=lambda: seen.append(ticket.result(10).value)) for _ in range(5)]
    for waiter in waiters:
        waiter.start()
    with pytest.raises(Exception, match="not recorded within"):
        ticket.result(0.01)
    gate.set()
    for waiter in waiters:
        waiter.join(10)
    store.ledger.flush()
    ticket.add_done_callback(called)
    assert seen == [7] * 7


def test_a_time_leads_to_the_last_op_before_it(tmp_path: Path) -> None:
    clock = iter(range(10, 10_000, 10))
    store = open_store(tmp_path / "store", now_ns=lambda: next(clock))
    for _ in range(5):
        store.ledger.submit(store.draft(op_id=bytes(16))).result(10)
    times = [record.time_ns for _, record in store.ledger.read("main", 0, 5)]
    assert [store.ledger.index_at_time(time_ns) for time_ns in times] == [0, 1, 2, 3, 4]
    assert store.ledger.index_at_time(times[0] - 1) is None
    assert store.ledger.index_at_time(times[3] - 1) == 2
    store.close()


def test_a_failed_sync_fails_every_ticket_and_stops_recording(store: Store) -> None:
    faults.hook = lambda operation, path: None
    store.close()
    store = open_store(store.path)
    aborted: list[bool] = []

    def effect(tx: Tx) -> Outcome:
        return Outcome(on_abort=lambda: aborted.append(True))

    def fail(operation: str, path: str) -> None:
        if operation == "sqlite-sync":
            raise OSError(5, "the disk is gone")

    try:
        store.record(1)
        faults.hook = fail
        with pytest.raises(StorageFailed):
            store.ledger.submit(store.draft(), effect).result(10)
        assert aborted == [True]
        with pytest.raises(StorageFailed):
            store.ledger.submit(store.draft())
    finally:
        faults.hook = None
        store.close()
    store = open_store(store.path)
    assert store.ledger.size() in (1, 2)
    assert store.ledger.verify().ok
    store.close()


def test_blocks_that_cannot_be_synced_stop_the_record_that_names_them(tmp_path: Path) -> None:
    def broken() -> None:
        raise OSError(5, "the disk is gone")

    store = open_store(tmp_path / "store", sync_blocks=broken)
    with pytest.raises(StorageFailed):
        store.ledger.submit(store.draft(), noting("lost")).result(10)
    store.close()
    store = open_store(tmp_path / "store")
    assert (store.ledger.size(), notes(store)) == (0, [])
    store.close()


def test_a_lock_held_too_long_fails_the_call_and_keeps_buffered_records(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", lock_timeout_s=0.05)
    store.record(1)
    lock = FileLock(tmp_path / "store" / "state.db.lock")
    with lock.acquire(5):
        store.ledger.submit(store.draft(log="bulk", ack="buffered"))
        with pytest.raises(LockTimeout):
            store.ledger.submit(store.draft()).result(10)
    lock.close()
    assert store.ledger.tail("bulk", 0, timeout_s=10)[1] == 1
    store.close()


def test_a_read_only_ledger_records_nothing_but_reads_and_verifies(store: Store) -> None:
    store.record(3)
    store.close()
    reader = open_store(store.path, read_only=True)
    with pytest.raises(ReadOnly):
        reader.ledger.submit(store.draft())
    assert reader.ledger.checkpoint().size == 3
    assert reader.ledger.prove("main", 1).size == 3
    assert reader.ledger.verify().ok
    reader.close()
    store.ledger, store.state, store.keys = reader.ledger, reader.state, reader.keys


def test_a_closed_ledger_says_so(store: Store) -> None:
    store.ledger.close()
    with pytest.raises(StorageFailed, match="open the store again"):
        store.ledger.submit(store.draft())


def test_acknowledged_records_that_vanish_stop_appends(store: Store) -> None:
    store.record(3)
    store.ledger.publish()
    with store.state.transaction() as tx:
        tx.execute("DELETE FROM batches WHERE first_index = (SELECT max(first_index) FROM batches)")
    with pytest.raises(Exception, match="run ledger verify"):
        store.ledger.submit(store.draft()).result(10)
    assert not store.ledger.verify().ok
