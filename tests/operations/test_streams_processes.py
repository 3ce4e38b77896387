"""Streams across processes and over operations with two records; the SQL view against the query."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_kit import Kit, to_json
from ipfs_kit.errors import InvalidInput

FLUSHER = """
import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1]) as kit:
    for at in range(20):
        kit.stream.append("audit", events=[{"event_type": "data", "action": sys.argv[2], "details": {"at": at}}])
        kit.stream.flush("audit")
"""


def test_two_processes_that_append_and_flush_take_each_event_once(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    Kit.open(path).close()
    running = [subprocess.Popen([sys.executable, "-c", FLUSHER, path, name]) for name in ("one", "two")]
    assert [each.wait(60) for each in running] == [0, 0]
    with Kit.open(path) as kit:
        batches = kit.stream.batches("audit", limit=1000).batches
        rows = [row for batch in batches for row in kit.stream.load(str(batch.cid)).rows]
        assert len({row.op_id for row in rows}) == len(rows) == 40
        assert sum(batch.count for batch in batches) == 40
        assert kit.ledger.verify().ok


def test_an_operation_with_an_intent_and_an_outcome_is_one_record_of_a_batch(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        before = kit.engine.ledger.size("main")
        kit.call_with("store.gc", {}, stream="vfs")
        assert kit.engine.ledger.size("main") == before + 2
        batch = kit.stream.flush("vfs")
        (row,) = kit.stream.load(str(batch.cid)).rows
        assert (batch.count, row.operation, row.status) == (1, "store.gc", "ok")
        assert [each.op_id for each in kit.stream.query("vfs").rows] == [row.op_id]


@pytest.mark.slow
def test_a_view_in_sql_has_the_rows_of_the_query_before_and_after_sealing(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        for at in range(30):
            kit.stream.append(
                "health", events=[{"check_id": f"c{at % 3}", "status": "healthy", "duration_ms": at / 2}], ack="fsync"
            )
        batch = str(kit.stream.flush("health").cid)
        loaded = to_json(kit.stream.load(batch).rows)
        kit.engine.ledger.flush("bulk")
        for sealed in (False, True):
            if sealed:
                kit.ledger.seal()
            asked = [
                [row.op_id, row.event["check_id"], row.event.get("duration_ms")]
                for row in kit.stream.query("health", oldest_first=True, limit=100).rows
            ]
            shown = kit.ledger.sql("SELECT op_id, check_id, duration_ms FROM health ORDER BY idx").rows
            assert shown == asked
            assert to_json(kit.stream.load(batch).rows) == loaded


def test_a_note_is_one_op_of_its_name_and_cannot_pass_for_an_operation(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        done = kit.call("stream.note", name="mcp.daemon.start", arguments={"token": "x", "n": 1})
        shown = kit.ledger.show(str(done.op_id))
        assert (shown.operation, shown.args, shown.status) == ("mcp.daemon.start", {"token": "***", "n": 1}, "ok")
        for name in ("files.write", "audit.append", "nonsense", "mcp", "elsewhere.x"):
            with pytest.raises(InvalidInput, match=name):
                kit.call("stream.note", name=name)
