"""Several processes on one ledger, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ledger_kit import notes, open_store

WRITER = """
import sys, threading
sys.path.insert(0, {here!r})
from pathlib import Path
from ledger_kit import open_store, noting
store = open_store(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    receipt = store.ledger.submit(store.draft(), noting(sys.argv[3] + str(number))).result(60)
    store.ledger.submit(store.draft(log="bulk", ack="buffered"))
    if len(sys.argv) > 4:
        print(receipt.index, receipt.op_id.hex(), flush=True)
store.close()
"""


def start(path: Path, count: int, name: str, *more: str) -> subprocess.Popen[str]:
    script = WRITER.format(here=str(Path(__file__).parent))
    command = [sys.executable, "-c", script, str(path), str(count), name, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "src"})


def run_together(path: Path, processes: int, count: int) -> None:
    open_store(path).close()
    running = [start(path, count, f"p{number}-") for number in range(processes)]
    for process in running:
        process.communicate(timeout=1_500)
        assert process.returncode == 0
    store = open_store(path)
    total = processes * count
    assert [index for index, _ in store.ledger.read("main", 0, total + 1)] == list(range(total))
    assert store.ledger.size("bulk") == total
    assert len({record.op_id for _, record in store.ledger.read("main", 0, total)}) == total
    assert [op for _, op in notes(store)] == list(range(total))
    assert len({value for value, _ in notes(store)}) == total
    assert store.ledger.verify().findings == []
    assert store.ledger.checkpoint().size == total
    store.close()


@pytest.mark.slow
def test_eight_processes_write_one_gapless_log(tmp_path: Path) -> None:
    run_together(tmp_path / "store", 8, 200)


def test_two_processes_write_one_gapless_log(tmp_path: Path) -> None:
    run_together(tmp_path / "store", 2, 40)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_sixty_four_processes_write_one_gapless_log(tmp_path: Path) -> None:
    began = time.monotonic()
    run_together(tmp_path / "store", 64, 1000)
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"64 processes x 1000 ops with effects and 1000 buffered each: gap-free and verified in {seconds:.0f} s, starting the "
        "processes, reading back and verifying included; nothing in it is random\n"
    )


@pytest.mark.parametrize(
    "after", [1, 7, pytest.param(60, marks=pytest.mark.slow), pytest.param(400, marks=pytest.mark.slow)]
)
def test_every_acknowledged_op_survives_a_kill(tmp_path: Path, after: int) -> None:
    path = tmp_path / "store"
    open_store(path).close()
    process = start(path, 1_000_000, "k", "report")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    acked = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate(timeout=30)
    acked += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    store = open_store(path)
    assert store.ledger.verify().findings == []
    for line in acked:
        index, op_id = line.split()
        assert store.ledger.record_at("main", int(index)).op_id.hex() == op_id
    size = store.ledger.size()
    assert size in (len(acked), len(acked) + 1)
    # Every record has its effect and every effect its record.
    assert [op for _, op in notes(store)] == list(range(size))
    store.record(1)
    assert store.ledger.checkpoint().size == size + 1
    assert store.ledger.verify().findings == []
    store.close()


def test_a_forked_child_is_told_to_open_its_own(tmp_path: Path) -> None:
    script = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from ledger_kit import open_store
from ipfs_kit.errors import StorageFailed
store = open_store(Path(sys.argv[1]))
store.record(1)
draft = store.draft()
pid = os.fork()
if pid == 0:
    try:
        store.ledger.submit(draft)
    except StorageFailed:
        os._exit(7)
    os._exit(0)
_, status = os.waitpid(pid, 0)
store.record(1)
store.close()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "store")],
        timeout=60,
        env={**os.environ, "PYTHONPATH": "src"},
        check=False,
    )
    assert done.returncode == 7
