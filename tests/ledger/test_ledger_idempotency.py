"""The same key and request give the first result, exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_kit import Store, notes, noting, open_store

from ipfs_kit.durable import Tx
from ipfs_kit.errors import IdempotencyMismatch, Timeout
from ipfs_kit.ledger import Outcome, idempotency

SLOT = ("alice", "files.put", "key-1", b"hash")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    yield opened
    opened.close()


def keyed(op_id: bytes, value: str, now_ns: int = 1) -> object:
    def effect(tx: Tx) -> Outcome:
        outcome: Outcome = noting(value)(tx)
        idempotency.store(tx, *SLOT, op_id, value.encode(), now_ns)
        return outcome

    return effect


def test_racing_calls_commit_once_and_the_loser_gets_the_first_result(store: Store) -> None:
    tickets = []
    for value in ("first", "second"):
        draft = store.draft()
        tickets.append(store.ledger.submit(draft, keyed(draft.op_id, value)))  # type: ignore[arg-type]
    first = tickets[0].result(10)
    with pytest.raises(idempotency.Replay) as caught:
        tickets[1].result(10)
    assert caught.value.stored.result == b"first"
    assert caught.value.stored.op_id == first.op_id
    assert [value for value, _ in notes(store)] == ["first"]
    assert store.ledger.size() == 1
    stored = idempotency.lookup(store.state, *SLOT, 2)
    assert stored is not None
    assert stored.done


def test_another_request_under_the_same_key_is_refused(store: Store) -> None:
    store.ledger.submit(store.draft(), keyed(b"o" * 16, "a")).result(10)  # type: ignore[arg-type]
    with pytest.raises(IdempotencyMismatch):
        idempotency.lookup(store.state, "alice", "files.put", "key-1", b"other", 2)
    assert idempotency.lookup(store.state, "bob", "files.put", "key-1", b"other", 2) is None


def test_a_key_is_forgotten_no_sooner_than_a_day(store: Store) -> None:
    store.ledger.submit(store.draft(), keyed(b"o" * 16, "a", now_ns=5)).result(10)  # type: ignore[arg-type]
    assert idempotency.lookup(store.state, *SLOT, 5 + idempotency.KEEP_NS) is not None
    assert idempotency.lookup(store.state, *SLOT, 6 + idempotency.KEEP_NS) is None
    with store.state.transaction() as tx:
        assert idempotency.prune(tx, 5 + idempotency.KEEP_NS) == 0
        assert idempotency.prune(tx, 6 + idempotency.KEEP_NS) == 1


def test_a_duplicate_waits_for_an_external_effect(store: Store) -> None:
    with store.state.transaction() as tx:
        idempotency.reserve(tx, *SLOT, b"o" * 16, time.time_ns())
    with store.state.transaction() as tx, pytest.raises(idempotency.Replay) as caught:
        idempotency.reserve(tx, *SLOT, b"p" * 16, time.time_ns())
    assert not caught.value.stored.done
    with pytest.raises(Timeout):
        idempotency.wait(store.state, *SLOT, time.time_ns, 0.05)
    found: list[idempotency.Stored | None] = []
    waiter = threading.Thread(target=lambda: found.append(idempotency.wait(store.state, *SLOT, time.time_ns, 10)))
    waiter.start()
    with store.state.transaction() as tx:
        idempotency.store(tx, *SLOT, b"o" * 16, b"done", time.time_ns())
    waiter.join(10)
    assert found[0] is not None
    assert found[0].result == b"done"


def test_a_key_whose_effect_did_not_happen_is_free_again(store: Store) -> None:
    with store.state.transaction() as tx:
        idempotency.reserve(tx, *SLOT, b"o" * 16, time.time_ns())
        idempotency.release(tx, *SLOT[:3], b"o" * 16)
    assert idempotency.wait(store.state, *SLOT, time.time_ns, 1) is None
