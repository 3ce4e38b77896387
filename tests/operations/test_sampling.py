"""Reads recorded one in so many: the others are counted, figures say so, and nothing else is ever left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput, KitError

READ = """import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1]) as kit:
    for _ in range(int(sys.argv[2])):
        kit.files.stat("b:/f")
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/f", text="x")
    return tmp_path / "store"


def in_a_new_process(store: Path, reads: int) -> None:
    subprocess.run([sys.executable, "-c", READ, str(store), str(reads)], check=True, timeout=60)


def figures(kit: Kit, operation: str) -> tuple[int, int, int]:
    """Recorded, left out and all reads of an operation, as the named query says."""
    kit.engine.ledger.flush()
    rows = kit.ledger.query("sampled_reads").rows
    return next(((int(a), int(b), int(c)) for name, a, b, c in rows if name == operation), (0, 0, 0))


def recorded(kit: Kit, operation: str) -> list[Any]:
    kit.engine.ledger.flush()
    found = (record for _, record in kit.engine.ledger.read("bulk", 0, kit.engine.ledger.size("bulk")))
    return [record for record in found if record.operation == operation]


def test_without_a_setting_every_read_is_recorded(store: Path) -> None:
    with Kit.open(store) as kit:
        for _ in range(7):
            assert kit.call("files.stat", path="b:/f").ack == "buffered"
        assert figures(kit, "files.stat") == (7, 0, 7)
        assert kit.telemetry.metrics(operation_types=["files.stat"]).left_out == {}


@pytest.mark.slow
def test_one_in_ten_is_recorded_the_others_are_counted_after_restarts_and_in_other_processes(store: Path) -> None:
    with Kit.open(store) as kit:
        made = kit.call("stream.configure", stream="files", sample_reads=10)
        assert made.value.sample_reads == 10
        assert kit.ledger.show(str(made.index)).effect["after"]["sample_reads"] == 10
        acks = [kit.call("files.stat", path="b:/f").ack for _ in range(25)]
        assert [at for at, ack in enumerate(acks) if ack != "sampled"] == [0, 10, 20]
        left_out = kit.call("files.stat", path="b:/f")
        assert (left_out.op_id, left_out.index, left_out.ack, left_out.value.size) == (None, None, "sampled", 1)
        assert figures(kit, "files.stat") == (3, 23, 26)
    in_a_new_process(store, 11)
    in_a_new_process(store, 1)
    with Kit.open(store) as kit:
        assert figures(kit, "files.stat") == (6, 32, 38)
        assert [record.ext for record in recorded(kit, "files.stat")] == [{"one_in": 10}] * 6
        found = kit.telemetry.metrics(metrics=["operation_count"], operation_types=["files.stat"])
        assert (found.figures[0].count, found.left_out) == (6, {"files.stat": 32})
        assert 'reads_left_out_total{operation="files.stat"} 32' in kit.telemetry.prometheus().text
        assert kit.store.verify().ok
        kit.ledger.seal(log="bulk")
        assert figures(kit, "files.stat") == (6, 32, 38)
        assert kit.stream.configure("files", sample_reads=0).sample_reads is None
    in_a_new_process(store, 5)
    with Kit.open(store) as kit:
        assert figures(kit, "files.stat") == (11, 32, 43)


def test_writes_failures_and_denials_are_recorded_whatever_is_sampled(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.stream.configure("files", sample_reads=1_000_000)
        kit.files.stat("b:/f")
        before = kit.engine.ledger.size("main")
        for number in range(3):
            assert kit.call("files.write", path="b:/f", text=str(number)).ack == "fsync"
            with pytest.raises(KitError):
                kit.files.stat("b:/absent")
        assert kit.engine.ledger.size("main") == before + 3
        assert [record.status for record in recorded(kit, "files.stat")] == ["ok", "error", "error", "error"]


@pytest.mark.parametrize("stream", ["ledger", "audit", "stream", "logs", "telemetry"])
def test_who_looked_at_the_ledger_is_always_recorded(store: Path, stream: str) -> None:
    with Kit.open(store) as kit, pytest.raises(InvalidInput, match="always recorded"):
        kit.stream.configure(stream, sample_reads=2)


@pytest.mark.parametrize("value", [-1, 1_000_001])
def test_a_rate_out_of_range_is_refused(store: Path, value: int) -> None:
    with Kit.open(store) as kit, pytest.raises(InvalidInput, match="sample_reads"):
        kit.stream.configure("files", sample_reads=value)
