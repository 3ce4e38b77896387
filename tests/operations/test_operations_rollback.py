"""A state.db older than what was signed is refused before anything is written to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import IntegrityError, StorageFailed


def test_an_older_state_under_a_newer_ledger_takes_no_writes_and_verify_names_it(tmp_path: Path) -> None:
    store, kept = tmp_path / "store", tmp_path / "kept.db"
    with Kit.open(store) as kit:
        kit.bucket.create("b")
    shutil.copy(store / "state.db", kept)
    with Kit.open(store) as kit:
        kit.files.write("b:/a.txt", text="newer")
    shutil.copy(kept, store / "state.db")
    with Kit.open(store) as kit:
        with pytest.raises(StorageFailed, match="older copy"):
            kit.files.write("b:/b.txt", text="on sand")
        with pytest.raises(IntegrityError, match="faults"):
            kit.store.verify()
        assert kit.engine.ledger.size("main") == 1
    with Kit.open(store, read_only=True) as kit:
        assert kit.bucket.list().buckets[0].name == "b"
