"""``verify`` derives state.db from the records: a row changed behind the ledger's back is named, an honest store passes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.operations.replay_kit import STEPS, change, faults_of, make_store, rows

from ipfs_kit import Kit
from ipfs_kit.operations.replay import replay

TABLES = ("buckets", "sessions", "effects", "snapshots", "ref_effects", "refs", "pins", "revivals")
CHANGED = 4_000_000_000_000
"""Added to numbers: more than the hour that a row's time may differ from its record's."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("replay") / "store"
    make_store(path)
    return path


def columns_of(path: Path, table: str) -> list[tuple[str, bool]]:
    return [(row[1], bool(row[5])) for row in rows(path, f"PRAGMA table_info({table})")]


def other(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, int):
        return value + CHANGED
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1]) if value else b"x"
    return value + "x"


def copy_of(made: Path, at: Path) -> Path:
    shutil.copytree(made, at)
    return at


def test_an_untouched_store_is_derived_completely(made: Path) -> None:
    assert faults_of(made) == []
    with Kit.open(made, read_only=True) as kit:
        report = replay(kit.engine, time.time_ns())
        assert (report.mismatches, report.more) == ([], 0)
        assert report.ops == kit.engine.ledger.size("main") > len(STEPS)
        total = sum(rows(made, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES)
        assert report.rows >= total


def named(kit: Kit, table: str) -> bool:
    found = replay(kit.engine, time.time_ns()).mismatches
    return any(one.where.startswith((f"state.db, {table} ", f"state.db, {table.rstrip('s')}")) for one in found)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_of_every_row_changed_alone_is_named(made: Path, tmp_path: Path, table: str) -> None:
    store = copy_of(made, tmp_path / "store")
    keep = (store / "state.db").read_bytes()
    missed = []
    for number, row in enumerate(rows(store, f"SELECT * FROM {table}")):
        for (column, _), value in zip(columns_of(store, table), row, strict=True):
            wrong = other(value)
            if wrong is None:
                continue
            (store / "state.db").write_bytes(keep)
            key = " AND ".join(f"{name} IS ?" for name, _ in columns_of(store, table))
            try:
                assert change(store, f"UPDATE {table} SET {column}=? WHERE {key}", (wrong, *row)) == 1
            except Exception as exc:  # a constraint already forbids it
                if "UNIQUE" not in str(exc):
                    raise
                continue
            with Kit.open(store, create=False, read_only=True) as kit:
                if not named(kit, table):
                    missed.append((number, column))
    assert missed == []


@pytest.mark.parametrize("table", TABLES)
def test_every_row_taken_away_is_named(made: Path, tmp_path: Path, table: str) -> None:
    store = copy_of(made, tmp_path / "store")
    keep = (store / "state.db").read_bytes()
    key = " AND ".join(f"{name} IS ?" for name, _ in columns_of(store, table))
    missed = []
    for number, row in enumerate(rows(store, f"SELECT * FROM {table}")):
        (store / "state.db").write_bytes(keep)
        assert change(store, f"DELETE FROM {table} WHERE {key}", row) == 1
        with Kit.open(store, create=False, read_only=True) as kit:
            if not named(kit, table):
                missed.append((number, row))
    if table == "snapshots":
        # Later snapshots save time only: the steps say the same.
        missed = [(number, row) for number, row in missed if row[1] == 0]
    assert missed == []


@pytest.mark.parametrize(
    ("table", "sql"),
    [
        ("pins", "INSERT INTO pins(cid, kind, name, added_ns) SELECT cid, 'recursive', 'mine', 1 FROM pins LIMIT 1"),
        (
            "refs",
            "INSERT INTO refs SELECT bucket, 'heads/mine', generation, live, value FROM refs WHERE live=1 LIMIT 1",
        ),
        ("sessions", "INSERT INTO sessions(bucket, name, created_op) VALUES(1, 'mine', 1)"),
        (
            "buckets",
            """INSERT INTO buckets(uid, name, type, structure, kind, profile, metadata, created_ns, created_op)
            SELECT 'abcdef', 'mine', type, structure, kind, profile, metadata, 1, 1 FROM buckets WHERE id=1""",
        ),
        ("effects", "INSERT INTO effects SELECT session, 1+max(seq), op_index, time_ns, payload, head FROM effects"),
        (
            "ref_effects",
            "INSERT INTO ref_effects SELECT 2, bucket, ref, time_ns, before, after FROM ref_effects LIMIT 1",
        ),
        (
            "snapshots",
            "INSERT INTO snapshots SELECT session, 1, op_index, time_ns, root, head FROM snapshots WHERE seq=0",
        ),
        (
            "revivals",
            "INSERT INTO revivals SELECT 3, bucket, session, dropped_op, time_ns FROM revivals WHERE session=0 LIMIT 1",
        ),
        ("snapshots", "INSERT INTO snapshots SELECT 99, seq, op_index, time_ns, root, head FROM snapshots LIMIT 1"),
    ],
)
def test_a_row_put_in_by_hand_fails_verification_and_is_named(made: Path, tmp_path: Path, table: str, sql: str) -> None:
    store = copy_of(made, tmp_path / "store")
    change(store, "DELETE FROM snapshots WHERE seq=1") if "session, 1," in sql else None
    assert change(store, sql) >= 1
    found = faults_of(store)
    assert any(fault[0].startswith(f"state.db, {table}") and fault[2] for fault in found), found


@pytest.mark.slow
def test_writers_at_work_are_no_fault(tmp_path: Path) -> None:
    store = tmp_path / "store"
    stop = threading.Event()
    with Kit.open(store) as kit:
        kit.bucket.create("b")
        kit.files.write("b:/first.txt", text="first")
        kit.versions.commit("b", message="first")

        def write(who: int) -> None:
            number = 0
            while not stop.is_set():
                kit.files.write(f"b:/{who}/{number % 7}.txt", text=str(number))
                if number % 10 == 9:
                    kit.versions.tag_create("b", f"t{who}-{number}")
                number += 1

        writers = [threading.Thread(target=write, args=(who,)) for who in range(2)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(5):
                assert kit.store.verify().ok
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert kit.store.verify().ok


def test_what_an_erased_subject_did_is_unknown_and_no_fault(made: Path, tmp_path: Path) -> None:
    store = copy_of(made, tmp_path / "store")
    with Kit.open(store) as kit:
        for subject, _ in kit.engine.keys.subjects():
            kit.engine.keys.destroy(subject)
            report = replay(kit.engine, time.time_ns())
        assert report.mismatches == []
        assert report.unknown > 10


def test_a_sealed_log_is_replayed_as_well(made: Path, tmp_path: Path) -> None:
    store = copy_of(made, tmp_path / "store")
    with Kit.open(store) as kit:
        kit.engine.ledger.flush()
        kit.call_with("ledger.seal", {})
    assert faults_of(store) == []
    change(store, "UPDATE pins SET kind='direct' WHERE name='keep'")
    assert any("pins id=" in fault[0] for fault in faults_of(store))


def test_the_command_ends_with_the_status_of_damage(made: Path, tmp_path: Path) -> None:
    store = copy_of(made, tmp_path / "store")
    change(store, "UPDATE buckets SET name='renamed' WHERE name='b'")
    done = subprocess.run(
        [sys.executable, "-m", "ipfs_kit", "--store", str(store), "verify"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 7
    assert "buckets id=1" in done.stderr
    assert "op 0 says 'b'" in done.stderr
