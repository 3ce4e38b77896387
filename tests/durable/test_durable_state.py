"""The state file: one writer, durable commits, poison, formats, reading without writing, crash at every call."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ipfs_kit.durable import _format
from ipfs_kit.durable import state as module
from ipfs_kit.durable.state import Schema, StateDB
from ipfs_kit.errors import (
    Conflict,
    FormatError,
    InternalError,
    LockTimeout,
    ReadOnly,
    StorageFailed,
    StoreNotFound,
    Unsupported,
)
from ipfs_kit.testing.faults import Recorder, fork_until_call, injected

T = Schema("t", 1, ("CREATE TABLE t (a INTEGER PRIMARY KEY, b)",))


def add(db: StateDB, *values: int) -> None:
    with db.transaction() as tx:
        tx.executemany("INSERT INTO t VALUES (?, 0)", [(value,) for value in values])


def values(db: StateDB) -> list[int]:
    return [row[0] for row in db.query("SELECT a FROM t ORDER BY a")]


def test_what_is_committed_is_read_back_and_an_exception_rolls_back(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", [T], now=lambda: 42) as db:
        add(db, 1, 2)
        with pytest.raises(RuntimeError), db.transaction() as tx:
            assert tx.began_ns == 42
            tx.execute("INSERT INTO t VALUES (3, 0)")
            raise RuntimeError
        assert values(db) == [1, 2]
    with StateDB.open(tmp_path / "state.db", [T]) as db:
        assert values(db) == [1, 2]
    assert not (tmp_path / "state.db-wal").exists()


def test_a_savepoint_rolls_back_alone(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", [T]) as db, db.transaction() as tx:
        tx.execute("INSERT INTO t VALUES (1, 0)")
        with tx.savepoint():
            tx.execute("INSERT INTO t VALUES (2, 0)")
            with pytest.raises(Conflict), tx.savepoint():
                tx.execute("INSERT INTO t VALUES (3, 0)")
                tx.execute("INSERT INTO t VALUES (1, 0)")
        assert tx.execute("SELECT a FROM t") == [(1,), (2,)]


def test_a_transaction_inside_a_transaction_is_a_defect_and_named(tmp_path: Path) -> None:
    with (
        StateDB.open(tmp_path / "state.db", [T]) as db,
        db.transaction(),
        pytest.raises(InternalError, match="savepoint"),
    ):
        db.transaction().__enter__()


def test_wrong_sql_is_our_error_and_poisons_nothing(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", [T]) as db:
        with pytest.raises(InternalError, match="no such table"):
            db.query("SELECT * FROM nowhere")
        with pytest.raises(InternalError), db.transaction() as tx:
            tx.execute("INSERT INTO nowhere VALUES (1)")
        with pytest.raises(InternalError):
            db.query("DELETE FROM t WHERE nonsense")
        add(db, 1)


def test_queries_cannot_write(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", [T]) as db:
        with pytest.raises(ReadOnly):
            db.query("INSERT INTO t VALUES (1, 0)")
        assert values(db) == []


def test_a_snapshot_keeps_one_state_while_others_commit(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", [T]) as db:
        add(db, 1)
        with db.snapshot() as snapshot:
            assert snapshot.query("SELECT a FROM t") == [(1,)]
            add(db, 2)
            assert list(snapshot.iterate("SELECT a FROM t")) == [(1,)]
        assert values(db) == [1, 2]


def test_the_token_changes_with_each_commit_and_only_then(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", [T]) as db:
        first = db.changed()
        assert db.changed() == first
        add(db, 1)
        second = db.changed()
        assert second != first
        db.query("SELECT * FROM t")
        assert db.changed() == second


def test_opening_twice_shares_until_the_last_close(tmp_path: Path) -> None:
    first = StateDB.open(tmp_path / "state.db", [T])
    second = StateDB.open(tmp_path / "." / "state.db", [Schema("u", 1, ("CREATE TABLE u (x)",))])
    assert first is second
    first.close()
    add(second, 1)
    second.close()
    with pytest.raises(StorageFailed, match="closed"):
        second.query("SELECT 1")


def test_formats_newer_than_this_build_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    with StateDB.open(path, [Schema("ledger", 3, T.statements)]):
        pass
    for read_only in (False, True):
        with pytest.raises(Unsupported, match="'ledger' have format 3"):
            StateDB.open(path, [Schema("ledger", 2, T.statements)], read_only=read_only)
    monkeypatch.setattr(_format, "FORMAT_VERSION", 0)
    for read_only in (False, True):
        with pytest.raises(Unsupported, match="has format 1"):
            StateDB.open(path, [], read_only=read_only)
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(FormatError, match="not a state file"):
        StateDB.open(tmp_path / "other.db", [])


def test_an_older_schema_is_migrated_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with StateDB.open(path, [T]) as db:
        add(db, 1)
    steps = {1: ("ALTER TABLE t ADD COLUMN c DEFAULT 5",), 2: ("UPDATE t SET c = c + 1",)}
    with StateDB.open(path, [Schema("t", 3, (), steps)]) as db:
        assert db.query("SELECT c FROM t") == [(6,)]
    with pytest.raises(Unsupported, match="no way from format 3"):
        StateDB.open(path, [Schema("t", 4, (), steps)])


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_read_only_writes_nothing_with_and_without_a_log(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with pytest.raises(StoreNotFound):
        StateDB.open(path, [T], read_only=True)
    with StateDB.open(path, [T]) as db:
        add(db, 1)
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path, copy, ignore=lambda *_: ["copy"])
    for directory in (tmp_path, copy):
        before = files(directory) if directory == copy else {p.name: b"" for p in directory.iterdir() if p.is_file()}
        with StateDB.open(directory / "state.db", [T], read_only=True) as db:
            assert values(db) == [1]
            with pytest.raises(ReadOnly), db.transaction():
                raise AssertionError("a read-only transaction")
        after = files(directory) if directory == copy else {p.name: b"" for p in directory.iterdir() if p.is_file()}
        assert after == before


def test_a_reader_without_locks_follows_a_writer_that_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with StateDB.open(path, [T]) as db:
        add(db, 0)
    with StateDB.open(path, [T], read_only=True) as reader:
        assert values(reader) == [0]
        for number in (1, 2):
            with StateDB.open(path, [T]) as db:
                add(db, number)
                assert values(reader) == list(range(number + 1))
            assert values(reader) == list(range(number + 1))


def work(path: str, results: multiprocessing.Queue[str]) -> None:
    try:
        with StateDB.open(path, [T]) as db:
            for _ in range(50):
                with db.transaction() as tx:
                    number = tx.execute("SELECT count(*) FROM t")[0][0]
                    tx.execute("INSERT INTO t VALUES (?, 0)", (number,))
        results.put("")
    except BaseException as exc:
        results.put(repr(exc))


def test_processes_and_threads_write_one_after_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    children = [context.Process(target=work, args=(path, results)) for _ in range(3)]
    for child in children:
        child.start()
    assert [results.get(timeout=60) for _ in children] == [""] * 3
    for child in children:
        child.join(30)
    with StateDB.open(path, [T]) as db:
        threads = [threading.Thread(target=work, args=(path, results)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [results.get(timeout=60) for _ in threads] == [""] * 3
        assert values(db) == list(range(300))


def test_a_wait_beyond_the_limit_names_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with StateDB.open(path, [T], lock_timeout_s=0.05) as db, db._lock.acquire():
        other = module.FileLock(db.path + ".lock")
        with pytest.raises(LockTimeout, match=rf"process {os.getpid()} \("):
            other.acquire(0.05)
        other.close()


def test_an_io_error_poisons_until_reopened(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with injected(Recorder()):
        db = StateDB.open(path, [T])
        add(db, 1)
        refused = Recorder(fail_at=1, match=lambda op, name: op == "sqlite-sync")
        with injected(refused), pytest.raises(StorageFailed):
            add(db, 2)
        with pytest.raises(StorageFailed, match="reopen"):
            add(db, 3)
        with pytest.raises(StorageFailed, match="reopen"):
            db.query("SELECT 1")
        fresh = StateDB.open(path, [T])
        assert fresh is not db
        db.close()
        assert values(fresh) in ([1], [1, 2])
        add(fresh, 4)
        fresh.close()


def test_a_fork_in_the_middle_of_use_leaves_parent_and_child_sound(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with StateDB.open(path, [T]) as db:
        add(db, 1)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(StorageFailed, match="forked"):
                    db.query("SELECT 1")
                with StateDB.open(path, [T]) as mine:
                    add(mine, 2)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        add(db, 3)
        assert values(db) == [1, 2, 3]


def test_the_log_stays_bounded_while_a_reader_comes_and_goes(tmp_path: Path) -> None:
    with StateDB.open(tmp_path / "state.db", [Schema("b", 1, ("CREATE TABLE b (x)",))]) as db:
        for _ in range(60):
            with db.transaction() as tx:
                tx.execute("INSERT INTO b VALUES (zeroblob(1000000))")
            db.query("SELECT count(*) FROM b")
        assert os.path.getsize(db.path + "-wal") < 40_000_000


def commits(path: Path, tell: Callable[[str], None]) -> None:
    for start in (0, 3):
        with StateDB.open(path / "state.db", [T]) as db:
            for number in range(start, start + 3):
                add(db, number)
                tell(str(number))


@pytest.mark.slow
def test_killed_at_every_call_every_acknowledged_commit_is_there(tmp_path: Path) -> None:
    for number in range(1, 300):
        directory = tmp_path / str(number)
        directory.mkdir()
        end = fork_until_call(lambda tell, directory=directory: commits(directory, tell), number)
        told = [int(line) for line in end.output.split()]
        with StateDB.open(directory / "state.db", [T]) as db:
            found = values(db)
            assert found in (told, [*told, len(told)])
            add(db, 99)
        if not end.killed:
            assert end.code == 0
            assert told == list(range(6))
            return
    raise AssertionError("more durable calls than expected")


def test_space_that_is_free_goes_back_to_the_file_system_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipfs_kit.durable._tx.SPARE_PAGES", 16)
    monkeypatch.setattr("ipfs_kit.durable._tx.GIVEN_BACK_MAX", 200)
    path = tmp_path / "state.db"
    db = StateDB.open(path, [T])
    with db.transaction() as tx:
        tx.executemany("INSERT INTO t VALUES (?, ?)", [(n, os.urandom(3_000)) for n in range(1_000)])
    kept = db.query("SELECT a, b FROM t WHERE a % 10 = 3")
    with db.transaction() as tx:
        tx.execute("DELETE FROM t WHERE a % 10 <> 3")
        assert tx.give_back() == 200  # no more at once, whoever waits for the lock
    given = 200
    while True:
        with db.transaction() as tx:
            back = tx.give_back()
        given += back
        if not back:
            break
    assert given >= 600
    assert db.query("SELECT a, b FROM t ORDER BY a") == kept
    free, pages = (db.query(f"PRAGMA {name}")[0][0] for name in ("freelist_count", "page_count"))
    assert 16 <= free < 3 * (pages - free)
    db.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    assert path.stat().st_size < 2_000_000
    again = StateDB.open(path, [T])
    assert again.query("SELECT a, b FROM t ORDER BY a") == kept
    again.close()


def test_a_file_made_before_space_could_be_given_back_stays_usable(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    StateDB.open(path, [T]).close()
    connection = sqlite3.connect(path)
    for step in ("PRAGMA journal_mode = DELETE", "PRAGMA auto_vacuum = NONE", "VACUUM", "PRAGMA journal_mode = WAL"):
        connection.execute(step).fetchall()
    assert connection.execute("PRAGMA auto_vacuum").fetchall() == [(0,)]
    connection.close()
    db = StateDB.open(path, [T])
    with db.transaction() as tx:
        tx.executemany("INSERT INTO t VALUES (?, ?)", [(n, bytes(4_000)) for n in range(5_000)])
    with db.transaction() as tx:
        tx.execute("DELETE FROM t WHERE a > 0")
        assert tx.give_back() == 0
    assert values(db) == [0]
    db.close()
