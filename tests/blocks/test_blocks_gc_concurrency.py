"""The proof beside writers: processes keep re-using garbage while a collector runs in a loop; nothing in use is lost."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipfs_kit.blocks.check import verify
from ipfs_kit.blocks.gc import Collector, full_check
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.durable.state import Schema, StateDB
from ipfs_kit.errors import LockTimeout
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, RAW

ROOTS = Schema("test-roots", 1, ("CREATE TABLE roots(id INTEGER PRIMARY KEY, cid BLOB, worker INTEGER)",))


def roots_in(state: StateDB) -> list[CID]:
    return [CID(row[0]) for row in state.query("SELECT cid FROM roots")]


def build(store: PackStore, rng: random.Random) -> CID:
    """A small DAG out of few possible blocks, so that nearly every block was garbage a moment ago."""

    def keep(data: bytes, codec: int) -> CID:
        cid = CID.of(data, codec)
        # Half the writers look before they put, as an importer does that skips what is there.
        if rng.random() < 0.5 or not store.has(cid):
            store.put(cid, data)
        return cid

    leaves = [keep(b"leaf %d" % rng.randrange(12) * 100, RAW) for _ in range(3)]
    middles = [keep(dag_cbor.encode(sorted(rng.sample(leaves, 2), key=bytes)), DAG_CBOR) for _ in range(2)]
    return keep(dag_cbor.encode([rng.randrange(3), middles]), DAG_CBOR)


def writer(path: str, number: int, seconds: float) -> None:
    """Commit and drop roots until time is up; the last ones stay."""
    rng = random.Random(number)
    state = StateDB.open(f"{path}/state.db", [ROOTS])
    store = PackStore.open(path, state)
    end = time.monotonic() + seconds
    commits = 0
    while time.monotonic() < end:
        with store.window():
            cids = [build(store, rng) for _ in range(rng.randrange(1, 4))]
            store.sync()
            with state.transaction() as tx:
                store.retain(tx, cids)
                tx.execute("DELETE FROM roots WHERE worker=?", (number,))
                tx.executemany("INSERT INTO roots(cid, worker) VALUES(?,?)", [(cid.binary, number) for cid in cids])
        commits += 1
        for cid in cids:
            walk(store, cid)
    store.close()
    state.close()
    print(commits)


def walk(store: PackStore, root: CID) -> int:
    """Read everything below a root; raises when a block is missing."""
    stack, count = [root], 0
    while stack:
        cid = stack.pop()
        data = store.get(cid)
        count += 1
        stack += dag_cbor.decode_links(data) if cid.codec == DAG_CBOR else []
    return count


def collector(path: str, seconds: float) -> None:
    """Collect again and again until time is up."""
    state = StateDB.open(f"{path}/state.db", [ROOTS])
    store = PackStore.open(path, state)
    gc = Collector(store, state, lambda: roots_in(state))
    end = time.monotonic() + seconds
    removed = kept = 0
    while time.monotonic() < end:
        try:
            report = gc.collect(time.time_ns(), wait_s=0.05)
        except LockTimeout:
            continue
        removed, kept = removed + report.removed, kept + report.kept
    store.close()
    state.close()
    print(removed, kept)


@pytest.mark.slow
def test_no_block_in_use_is_ever_lost_beside_three_writers_and_two_collectors(tmp_path: Path) -> None:
    state = StateDB.open(tmp_path / "state.db", [ROOTS])
    store = PackStore.open(tmp_path, state)
    seconds = "6"
    here = [sys.executable, __file__]
    jobs = [[*here, "writer", str(tmp_path), str(number), seconds] for number in range(3)]
    jobs += [[*here, "collector", str(tmp_path), seconds] for _ in range(2)]
    children = [subprocess.Popen(job, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for job in jobs]
    # A third collector is killed and started again all the while.
    rng = random.Random(1)
    while children[0].poll() is None:
        victim = subprocess.Popen([*here, "collector", str(tmp_path), "60"])
        with contextlib.suppress(subprocess.TimeoutExpired):
            victim.wait(timeout=0.4 + rng.random() * 0.4)
        victim.kill()
        victim.wait(timeout=30)
    answers = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * 5, "\n".join(error for _, error in answers)
    commits = [int(out) for out, _ in answers[:3]]
    removed = sum(int(out.split()[0]) for out, _ in answers[3:])
    assert min(commits) > 5
    assert removed > 20
    for cid in roots_in(state):
        walk(store, cid)
    assert verify(store).findings == []
    Collector(store, state, lambda: roots_in(state)).collect(1)
    Collector(store, state, lambda: roots_in(state)).collect(2)
    assert full_check(store, roots_in(state)) == set()
    for cid in roots_in(state):
        walk(store, cid)
    assert verify(store).findings == []
    store.close()
    state.close()


if __name__ == "__main__":
    if sys.argv[1] == "writer":
        writer(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    else:
        collector(sys.argv[2], float(sys.argv[3]))
