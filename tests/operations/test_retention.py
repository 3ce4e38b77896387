"""Retention as a user sees it: limits set, records sealed apart, expired on record, held when they must stay."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit, KitError
from ipfs_kit.durable import faults
from ipfs_kit.errors import Denied, Expired, Held, InvalidInput
from ipfs_kit.operations import maintenance
from ipfs_kit.operations.batching import Batcher
from ipfs_kit.operations.principal import Principal

DAY = 86_400 * 10**9


def line(n: int) -> dict[str, Any]:
    return {"message": f"line {n}", "level": "info", "details": {"n": n}}


def login(n: int) -> dict[str, Any]:
    return {"event_type": "authentication", "action": "login", "user_id": "ann", "details": {"n": n}}


def filled(path: Path) -> Kit:
    """Three sealed spans, each with a file of log lines and one of all else."""
    kit = Kit.open(path)
    for span in range(3):
        kit.stream.append("logs", events=[line(span * 10 + n) for n in range(10)], ack="fsync")
        kit.stream.append("audit", events=[login(span)])
        kit.ledger.seal(log="main")
        kit.ledger.seal(log="bulk")
    return kit


def lines(kit: Kit) -> list[int]:
    rows = kit.stream.query("logs", oldest_first=True, limit=1000).rows
    return [row.event["details"]["n"] for row in rows if row.event]


def test_settings_are_in_force_at_once_and_after_a_restart(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        made = kit.stream.configure("audit", keep_s=3600.0, batch_age_s=60.0)
        assert (made.before["keep_s"], made.keep_s, made.batch_age_s, made.batch_rows) == (None, 3600.0, 60.0, 100)
        effect = kit.ledger.tail(limit=1).ops[0].effect
        assert (effect["before"]["keep_s"], effect["after"]["keep_s"]) == (None, 3600.0)
    with Kit.open(tmp_path / "s") as kit:
        assert {s.name: s.keep_s for s in kit.stream.list().streams}["audit"] == 3600.0
        assert kit.stream.configure("audit", keep_s=0).keep_s is None
        assert kit.stream.configure("telemetry", keep_bytes=10**9, zstd_level=1).zstd_level == 1
        with pytest.raises(InvalidInput, match="kept for ever"):
            kit.stream.configure("ledger", keep_ops=1)
        assert kit.ledger.verify().ok


def test_a_narrowed_caller_cannot_change_limits_or_holds(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        agent = Principal("agent", frozenset({"*@a"}))
        for name, given in (
            ("stream.configure", {"stream": "audit", "keep_ops": 1}), ("ledger.expire", {}),
            ("ledger.hold_release", {"hold": 1}), ("ledger.hold_add", {"reason": "r"}),
        ):  # fmt: skip
            with pytest.raises(Denied):
                kit.call_with(name, given, principal=agent)


@pytest.mark.slow
def test_what_expired_is_on_record_and_everything_else_stays_readable(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with filled(store) as kit:
        first = kit.stream.query("logs", oldest_first=True).rows[0].op
        proof = kit.ledger.prove(first).proof
        batch = kit.stream.flush("logs").cid
        assert {s.family for s in kit.engine.ledger.segments.registered("bulk")} == {"", "logs"}
        kit.stream.configure("logs", keep_s=0, keep_ops=20)
        would = kit.ledger.expire(dry_run=True)
        assert (would.records, [f.why for f in would.files], lines(kit)) == (10, ["ops"], list(range(30)))
        done = kit.ledger.expire("logs")
        assert (done.records, done.files, done.more) == (10, would.files, False)
        assert kit.ledger.expire().files == []
    with Kit.open(store) as kit:
        assert lines(kit) == list(range(10, 30))
        with pytest.raises(Expired, match="its proof still verifies"):
            kit.ledger.show(first)
        assert kit.ledger.check_proof(proof).op == first
        assert kit.ledger.prove(first).op == first
        assert [row.kept for row in kit.stream.load(str(batch)).rows].count(False) == 10
        assert kit.ledger.sql("SELECT count(*) FROM logs").rows == [[20]]
        assert kit.ledger.sql("SELECT count(record_cid) FROM records WHERE stream = 'logs'").rows == [[20]]
        assert [row.event["details"]["n"] for row in kit.stream.query("audit").rows if row.event] == [2, 1, 0]
        assert kit.ledger.verify().ok
        assert kit.call("store.verify").value.ok
        op = next(op for op in kit.ledger.tail(limit=100).ops if op.operation == "ledger.expire" and op.effect)
        assert op.effect["expired"][0][3] == "logs"


def test_a_hold_blocks_expiry_by_name_until_it_is_released(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with filled(store) as kit:
        kit.stream.configure("logs", keep_s=0, keep_ops=1)
        hold = kit.ledger.hold_add("case 12/7", stream="logs")
        with pytest.raises(Held, match=r"hold 1: case 12/7"):
            kit.ledger.expire()
    with Kit.open(store) as kit:
        assert [h.reason for h in kit.ledger.hold_list().holds] == ["case 12/7"]
        assert [f.hold for f in kit.ledger.expire(dry_run=True).held] == [hold.id, hold.id]
        kit.ledger.hold_release(hold.id)
        assert kit.ledger.expire().records == 20
        assert kit.ledger.verify().ok
        with pytest.raises(KitError, match="no hold number 1"):
            kit.ledger.hold_release(hold.id)


def _remove_file(kit: Kit, store: Path) -> None:
    segment = next(s for s in kit.engine.ledger.segments.registered("bulk") if s.family == "logs")
    (store / "ledger/bulk/segments" / segment.name).unlink()


def _remove_row(kit: Kit, store: Path) -> None:
    _remove_file(kit, store)
    with kit.engine.state.transaction() as tx:
        tx.execute("DELETE FROM ledger_segments WHERE first_index = 0 AND family = 'logs'")


def _forge_expiry(kit: Kit, store: Path) -> None:
    with kit.engine.state.transaction() as tx:
        tx.execute(
            "INSERT INTO ledger_expired SELECT log, first_index, family, stop, count, name, size, sha256, manifest, 'age', 1 "
            "FROM ledger_segments WHERE first_index = 0 AND family = 'logs'"
        )
    _remove_row(kit, store)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("time_max", 1),
        ("time_min", 1),
        ("family", "audit"),
        ("stop", 500),
        ("count", 9),
        ("size", 1),
        ("op_id_max", b"\xff" * 16),
    ],
)
def test_a_changed_row_of_a_segment_is_a_fault(tmp_path: Path, column: str, value: Any) -> None:
    with filled(tmp_path / "s") as kit:
        with kit.engine.state.transaction() as tx:
            where = "log = 'bulk' AND family = 'logs' AND first_index = 0"
            tx.execute(f"UPDATE ledger_segments SET {column} = ? WHERE {where}", (value,))
        with pytest.raises(KitError, match="does not say what state"):
            kit.ledger.verify()


def test_a_changed_or_removed_row_of_an_expiry_is_a_fault(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as kit:
        kit.stream.configure("logs", keep_s=0, keep_ops=10)
        kit.ledger.expire()
        for change in (
            "UPDATE ledger_expired SET why = 'age' WHERE first_index = 0",
            "DELETE FROM ledger_expired WHERE first_index = 0",
        ):
            with kit.engine.state.transaction() as tx:
                tx.execute(change)
            with pytest.raises(KitError, match="expired"):
                kit.ledger.verify()


@pytest.mark.parametrize("damage", [_remove_file, _remove_row, _forge_expiry])
def test_what_is_missing_without_an_expiry_on_record_is_a_fault(tmp_path: Path, damage: Any) -> None:
    store = tmp_path / "s"
    with filled(store) as kit:
        assert kit.ledger.verify().ok
        damage(kit, store)
    with Kit.open(store) as kit, pytest.raises(KitError) as caught:
        kit.ledger.verify()
    assert "segments" in caught.value.message or "expired" in caught.value.message


def test_a_crash_before_the_files_are_removed_is_no_fault_and_swept_later(tmp_path: Path, monkeypatch: Any) -> None:
    store = tmp_path / "s"
    with filled(store) as kit:
        kit.stream.configure("logs", keep_s=0, keep_ops=10)
        monkeypatch.setattr(type(kit.engine.ledger.segments), "sweep", lambda *_: 0)
        assert kit.ledger.expire().records == 20
        monkeypatch.undo()
        folder = store / "ledger/bulk/segments"
        left = {path.name for path in folder.iterdir()}
        assert left > kit.engine.ledger.segments.files("bulk")
    with Kit.open(store) as kit:
        assert kit.ledger.verify().ok
        assert lines(kit) == list(range(20, 30))
        kit.ledger.seal(log="bulk")
        assert {path.name for path in folder.iterdir()} == kit.engine.ledger.segments.files("bulk")


def test_waiting_records_become_a_batch_when_they_are_old_enough(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.append("audit", events=[login(n) for n in range(3)])
        batcher = Batcher(kit.engine)
        now = time.time_ns()
        assert batcher.run(now) == []
        kit.stream.configure("audit", batch_age_s=60.0)
        assert batcher.run(now + 61 * 10**9) == ["audit"]
        assert kit.stream.batches("audit").batches[0].count == 3
        assert batcher.run(now + DAY) == []
    with Kit.open(tmp_path / "s") as kit:
        batcher = Batcher(kit.engine)
        assert batcher.run(now + DAY) == []
        kit.stream.append("audit", events=[login(4)])
        assert batcher.run(now + DAY) == ["audit"]
        assert kit.stream.batches("audit").batches[0].count == 1


def until(condition: Any, seconds: float = 30.0) -> None:
    """Wait for a condition, asked again and again."""
    pause, end = threading.Event(), time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.05)


@pytest.mark.slow
def test_a_running_process_batches_and_lets_expire_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "s"
    with filled(store) as kit:
        kit.stream.configure("logs", keep_s=0, keep_ops=10, batch_age_s=1.0)
    monkeypatch.setattr(maintenance, "INTERVAL_S", 0.05)
    monkeypatch.setattr(maintenance, "EXPIRY_FIRST_S", 0.0)
    with Kit.open(store) as kit:
        until(lambda: len(lines(kit)) == 10)
        until(lambda: kit.stream.batches("logs").batches)
        assert kit.ledger.verify().ok
        op = next(op for op in kit.ledger.tail(limit=50).ops if op.operation == "ledger.expire")
        assert op.surface == "system"


def test_tails_are_sealed_sooner_where_a_stream_keeps_its_records_for_less(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        assert maintenance.seal_policy(kit.engine.state).age_s == 7 * 86_400
        kit.stream.configure("logs", keep_s=86_400.0)
        assert maintenance.seal_policy(kit.engine.state).age_s == 21_600
        kit.stream.configure("logs", keep_s=60.0)
        assert maintenance.seal_policy(kit.engine.state).age_s == 3_600


@pytest.mark.slow
def test_a_failure_at_any_durable_step_of_an_expiry_is_no_fault_and_is_made_good(tmp_path: Path) -> None:
    with filled(tmp_path / "s") as kit:
        kit.stream.configure("logs", keep_s=0, keep_ops=10)
    step, finished = 0, False
    while not finished:
        step += 1
        assert step < 100
        copy = shutil.copytree(tmp_path / "s", tmp_path / f"copy{step}")
        (copy / "keys").chmod(0o700)
        calls = [0]

        def hook(operation: str, path: str, calls: list[int] = calls, step: int = step) -> None:
            calls[0] += 1
            if calls[0] == step:
                raise OSError(5, "injected")

        faults.hook = lambda *_: None  # so that the state file is opened with the seam
        with contextlib.suppress(KitError, OSError), Kit.open(copy) as kit:
            faults.hook = hook
            try:
                kit.ledger.expire()
                finished = True
            finally:
                faults.hook = None
        with Kit.open(copy) as kit:
            assert kit.ledger.verify().ok, step
            assert lines(kit) in (list(range(30)), list(range(20, 30)))
            kit.ledger.expire()
            assert lines(kit) == list(range(20, 30))
            kit.ledger.seal(log="bulk")
            assert kit.ledger.verify().ok
            folder = copy / "ledger/bulk/segments"
            assert {path.name for path in folder.iterdir()} == kit.engine.ledger.segments.files("bulk")
        shutil.rmtree(copy)
    assert step > 20
