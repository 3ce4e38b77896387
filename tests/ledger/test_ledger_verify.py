"""Tampering is found and named, crash leftovers are not faults, nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from ledger_kit import Store, open_store

from ipfs_kit.durable import faults
from ipfs_kit.errors import IntegrityError
from ipfs_kit.ledger import check, merkle
from ipfs_kit.ledger.batches import frame
from ipfs_kit.ledger.checkpoint import parse


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    opened.record(300, batch=100)
    opened.record(20, "bulk", batch=20)
    opened.ledger.flush()
    yield opened
    opened.close()


def files_of(store: Store) -> list[Path]:
    return sorted(path for path in (store.path / "ledger").rglob("*") if path.is_file())


def image(store: Store) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in files_of(store)}


def test_an_honest_ledger_verifies_and_nothing_is_written(store: Store) -> None:
    before = image(store)
    report = store.ledger.verify()
    assert report.findings == []
    assert report.records == 320
    assert image(store) == before


def test_a_flipped_bit_in_any_file_is_found_and_named(store: Store) -> None:
    for path in files_of(store):
        good = path.read_bytes()
        for at in {0, len(good) // 2, len(good) - 1}:
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            findings = store.ledger.verify().findings
            assert any(path.name in finding for finding in findings), (path, at, findings)
        path.write_bytes(good)
    assert store.ledger.verify().ok


def test_every_bit_of_the_checkpoint_counts(store: Store) -> None:
    path = store.path / "ledger/main/checkpoint"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises((IntegrityError, UnicodeDecodeError)):
            check.read_note(path.read_bytes().decode(), store.ledger.vkey())
    path.write_bytes(good)


def test_cut_lengthened_removed_and_foreign_files_are_found(store: Store) -> None:
    for path in files_of(store):
        good = path.read_bytes()
        for bad in (good[:-1], good + b"\n", b""):
            path.write_bytes(bad)
            assert any(path.name in finding for finding in store.ledger.verify().findings), (path, len(bad))
        path.unlink()
        assert any(path.name in finding for finding in store.ledger.verify().findings), path
        path.write_bytes(good)
    for name in (
        "main/notes.txt",
        "main/tile/0/1",
        "main/tile/0/000.p/300",
        "main/tile/3/000",
        "stray",
        "bulk/segments/x",
    ):
        foreign = store.path / "ledger" / name
        foreign.parent.mkdir(parents=True, exist_ok=True)
        foreign.write_bytes(b"x")
        assert any(foreign.name in finding for finding in store.ledger.verify().findings), name
        foreign.unlink()
    link = store.path / "ledger/main/link"
    link.symlink_to("checkpoint")
    assert not store.ledger.verify().ok
    link.unlink()
    assert store.ledger.verify().ok


def change_batch(store: Store, records: list[bytes], first: int) -> None:
    payload = frame(records)
    ids = [record[4:20] for record in records]
    with store.state.transaction() as tx:
        tx.execute(
            "UPDATE batches SET payload = ?, checksum = ?, op_id_min = ?, op_id_max = ? "
            "WHERE log = 'main' AND first_index = ?",
            (payload, sha256(payload).digest(), min(ids), max(ids), first),
        )


def test_a_changed_record_reordering_and_a_replaced_suffix_are_found(store: Store) -> None:
    records = [store.ledger.encoded_at("main", index) for index in range(100, 200)]
    change_batch(store, [*records[:7], records[8], records[7], *records[9:]], 100)
    assert any("entry 107" in finding for finding in store.ledger.verify().findings)
    change_batch(store, [*records[:99], store.ledger.encoded_at("main", 0)], 100)
    assert any("entry 199" in finding for finding in store.ledger.verify().findings)
    change_batch(store, records, 100)
    assert store.ledger.verify().ok
    with store.state.transaction() as tx:
        tx.execute("UPDATE batches SET payload = zeroblob(length(payload)) WHERE log = 'main' AND first_index = 100")
    assert any("batch at 100" in finding and "checksum" in finding for finding in store.ledger.verify().findings)


def test_a_truncated_log_is_found_even_with_its_counters_turned_back(store: Store) -> None:
    with store.state.transaction() as tx:
        tx.execute("DELETE FROM batches WHERE log = 'main' AND first_index = 200")
    assert any("200 to 299 are missing" in finding for finding in store.ledger.verify().findings)
    root = merkle.root(store.ledger._publisher.files["main"].nodes(300), 200)
    with store.state.transaction() as tx:
        tx.execute("UPDATE ledger_logs SET next_index = 200, size = 200, root = ? WHERE log = 'main'", (root,))
    assert any("truncated" in finding for finding in store.ledger.verify().findings)


def test_an_older_state_file_under_newer_files_is_found(store: Store, tmp_path: Path) -> None:
    store.close()
    shutil.copy(store.path / "state.db", tmp_path / "old.db")
    newer = open_store(store.path)
    newer.record(5)
    newer.close()
    shutil.copy(tmp_path / "old.db", store.path / "state.db")
    rolled_back = open_store(store.path)
    assert any("truncated or restored" in finding for finding in rolled_back.ledger.verify().findings)
    with pytest.raises(IntegrityError):
        rolled_back.ledger.publish()
    rolled_back.close()


def test_a_rewritten_store_is_caught_by_an_older_checkpoint(store: Store, tmp_path: Path) -> None:
    kept = store.ledger.checkpoint().text
    store.record(3)
    store.ledger.publish()
    assert store.ledger.verify([kept]).ok
    fork = open_store(tmp_path / "fork")
    shutil.rmtree(tmp_path / "fork" / "keys")
    fork.close()
    shutil.copytree(store.path / "keys", tmp_path / "fork" / "keys")
    shutil.rmtree(tmp_path / "fork" / "ledger", ignore_errors=True)
    forged = open_store(tmp_path / "fork")
    forged.record(400, batch=200)
    forged.ledger.publish()
    assert forged.ledger.verify().ok
    assert any("older checkpoint" in finding for finding in forged.ledger.verify([kept]).findings)
    assert not forged.ledger.verify(["other.example/log\n1\nx\n\nx\n"]).ok
    forged.close()


@pytest.mark.parametrize("step", range(1, 40))
def test_a_publication_cut_anywhere_leaves_a_ledger_that_verifies(tmp_path: Path, step: int) -> None:
    store = open_store(tmp_path / "store")
    store.record(250, batch=50)
    store.ledger.publish()
    store.record(10, batch=10)
    left = step

    def fail(operation: str, path: str) -> None:
        nonlocal left
        left -= 1
        if left == 0 and not operation.startswith("sqlite") and "state.db" not in path:
            raise OSError(28, "no space")

    faults.hook = fail
    try:
        store.ledger.publish()
    except Exception as exc:  # the injected failure, whatever it became
        assert "no space" in str(exc)  # noqa: PT017 - some steps fail, others are past the end
    finally:
        faults.hook = None
    assert store.ledger.verify().findings == []
    assert store.ledger.checkpoint().size == 260
    assert store.ledger.verify().findings == []
    store.close()


def test_a_signed_note_parses_with_witness_lines(store: Store) -> None:
    text = store.ledger.checkpoint().text + "\u2014 witness.example mJirIkljAAECAwQFBgc=\n"
    parsed = parse(text)
    assert [line.name for line in parsed.signatures] == [store.ledger.origin(), "witness.example"]
    assert check.read_note(text, store.ledger.vkey()).size == 300


def test_segments_belong_to_the_ledger(store: Store) -> None:
    pytest.importorskip("pyarrow")
    from ipfs_kit.ledger.segments import SealPolicy

    made = store.ledger.segments.seal("main", SealPolicy(rows=100, age_s=0), 2**62)
    assert (made[0].first_index, made[-1].stop) == (0, 300)
    store.record(5)
    store.ledger.publish()
    report = store.ledger.verify()
    assert report.findings == []
    assert report.records == 325
    assert store.ledger.prove("main", 42).record is not None
    assert os.path.exists(store.ledger.segments.directory("main"))
    path = next(path for path in files_of(store) if path.suffix == ".parquet")
    good = path.read_bytes()
    path.write_bytes(good[:-9] + bytes([good[-9] ^ 1]) + good[-8:])
    assert any(path.name in finding for finding in store.ledger.verify().findings)


@pytest.mark.parametrize("column", ["time_min", "time_max", "op_id_min", "op_id_max"])
def test_a_changed_span_of_a_batch_is_found(store: Store, column: str) -> None:
    change = f"{column} + 1" if column.startswith("time") else "zeroblob(16)"
    with store.state.transaction() as tx:
        tx.execute(f"UPDATE batches SET {column} = {change} WHERE log = 'main' AND first_index = 100")
    assert any("batch at 100" in finding and "its" in finding for finding in store.ledger.verify().findings)
