"""Checkpoints that were replaced are kept, thinned, and still extended: on opening, and by verification."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.errors import IntegrityError, StorageFailed
from ipfs_kit.ledger import kept


def publish(path: Path, rounds: int) -> None:
    with Kit.open(path) as kit:
        have = len(kit.bucket.list().buckets)
        for number in range(have, have + rounds):
            kit.bucket.create(f"b{number}")
            kit.ledger.checkpoint()


def sizes(path: Path, log: str = "main") -> list[int]:
    state = sqlite3.connect(path / "state.db")
    found = state.execute("SELECT size FROM ledger_checkpoints WHERE log = ? ORDER BY size", (log,)).fetchall()
    state.close()
    return [size for (size,) in found]


def test_replaced_checkpoints_are_kept_over_restarts_and_verify(tmp_path: Path) -> None:
    publish(tmp_path / "s", 3)
    publish(tmp_path / "s", 3)
    found = sizes(tmp_path / "s")
    assert len(found) >= 5
    with Kit.open(tmp_path / "s") as kit:
        assert kit.ledger.verify().ok
        assert max(found) < kit.engine.ledger.size("main")


@given(st.lists(st.integers(1, 1_000_000), min_size=1, max_size=300))
def test_what_is_kept_stays_few_and_reaches_from_the_first_to_the_newest(steps: list[int]) -> None:
    held: list[int] = []
    size = 0
    for step in steps:
        size += step
        held.insert(0, size)
        for gone in kept.surplus(held):
            held.remove(gone)
    assert len(held) <= kept.NEWEST_KEPT + size.bit_length() + 1
    assert held[0] == size
    assert held[-1] == steps[0]
    assert held == sorted(held, reverse=True)


def rewrite(path: Path) -> None:
    """Change an early record and all that vouches for it, as one who holds the files but not every old checkpoint."""
    state = sqlite3.connect(path / "state.db")
    first, payload = state.execute(
        "SELECT first_index, payload FROM batches WHERE log = 'main' AND first_index = 1"
    ).fetchone()
    forged = payload.replace(b"bucket.create", b"bucket.forget")
    assert forged != payload
    state.execute(
        "UPDATE batches SET payload = ?, checksum = ? WHERE log = 'main' AND first_index = ?",
        (forged, hashlib.sha256(forged).digest(), first),
    )
    state.execute("UPDATE ledger_logs SET size = 0, root = ? WHERE log = 'main'", (hashlib.sha256(b"").digest(),))
    state.commit()
    state.close()
    for name in sorted((path / "ledger" / "main").rglob("*"), reverse=True):
        if name.is_file():
            name.unlink()


def test_a_history_rewritten_with_its_tree_and_checkpoint_is_refused_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "s"
    publish(path, 4)
    rewrite(path)
    refused(path, "older than one signed before")


def test_a_rewritten_history_that_the_store_itself_signed_again_is_refused_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "s"
    publish(path, 4)
    rewrite(path)
    state = sqlite3.connect(path / "state.db")
    held = state.execute("SELECT log, size, note FROM ledger_checkpoints").fetchall()
    state.execute("DELETE FROM ledger_checkpoints")
    state.commit()
    with Kit.open(path) as kit:
        kit.ledger.checkpoint()
    state.execute("DELETE FROM ledger_checkpoints")
    state.executemany("INSERT INTO ledger_checkpoints(log, size, note) VALUES(?, ?, ?)", held)
    state.commit()
    state.close()
    refused(path, "does not extend its signed checkpoint")


def refused(path: Path, reason: str) -> None:
    with Kit.open(path) as kit:
        with pytest.raises(StorageFailed, match=reason):
            kit.bucket.create("more")
        with pytest.raises(IntegrityError, match="checkpoint of log main at"):
            kit.ledger.verify()


def test_a_kept_checkpoint_that_was_changed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s"
    publish(path, 4)
    (second, *_) = sizes(path)[1:]
    state = sqlite3.connect(path / "state.db")
    state.execute(
        "UPDATE ledger_checkpoints SET note = replace(note, ?, ?) WHERE size = ?", ("\n\n", "\nx\n\n", second)
    )
    state.commit()
    state.close()
    with Kit.open(path) as kit, pytest.raises(IntegrityError, match=f"checkpoint of log main at {second}"):
        kit.ledger.verify()
