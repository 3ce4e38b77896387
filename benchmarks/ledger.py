"""Recording, proving and querying: throughput of acks, cost per op, proofs and SQL at a million records."""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
import time
from collections import deque
from pathlib import Path

from benchmarks.harness import Bench, each, fdatasync_seconds, per_call, percentile, timed
from ipfs_kit import Kit
from ipfs_kit.ledger import Draft
from ipfs_kit.ledger.record import BULK, FSYNC, MAIN, new_op_id
from ipfs_kit.ledger.segments import SealPolicy
from ipfs_kit.operations.catalogue import CATALOGUE
from ipfs_kit.operations.context import Context

OUTSTANDING = 64
BATCH = 1_000
OPERATIONS = ("files.write", "files.read", "files.stat", "files.list", "versions.commit", "store.add")
GROUP_BY = (
    "SELECT operation, status, count(*) AS n, avg(duration_ms) FROM ops GROUP BY operation, status ORDER BY n DESC"
)


def run(bench: Bench) -> None:
    with bench.folder("ledger") as folder:
        disk = fdatasync_seconds(folder, bench.size(400, 50))
        bench.figure("the disk's fdatasync of one page", disk, unit="s", given="4 KiB appended each time", warmup="5")
        with Kit.open(folder / "rates") as kit:
            _rates(bench, kit)
            _recording(bench, kit)
        _million(bench, folder / "million")


def draft(kit: Kit, number: int, log: str = MAIN, ack: str = FSYNC) -> Draft:
    """A record as the dispatcher makes it: arguments and target sealed under the caller's key."""
    actor = kit.engine.actor(kit.principal)
    now = time.time_ns()
    return Draft(
        op_id=new_op_id(now, os.urandom), time_ns=now, actor=actor, subject=actor, surface="python",
        operation=OPERATIONS[number % len(OPERATIONS)], log=log, stream="files", ack=ack, duration_us=100 + number % 900,
        target=f"notes:/folder/{number % 100}/file.txt", args={"path": f"notes:/folder/{number % 100}/file.txt"},
    )  # fmt: skip


def _rates(bench: Bench, kit: Kit) -> None:
    count = bench.size(60_000, 3_000)
    given = "records with sealed target and arguments, main log, ack fsync"
    submit = kit.engine.ledger.submit

    def tickets(_: int) -> None:
        waiting: deque[object] = deque()
        for number in range(count):
            if len(waiting) == OUTSTANDING:
                waiting.popleft().result()
            waiting.append(submit(draft(kit, number)))
        for ticket in waiting:
            ticket.result()

    def threads(_: int) -> None:
        def work(first: int) -> None:
            for number in range(first, count, OUTSTANDING):
                submit(draft(kit, number)).result()

        running = [threading.Thread(target=work, args=(first,)) for first in range(OUTSTANDING)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def batches(_: int) -> None:
        waiting: deque[object] = deque()
        for first in range(0, count, BATCH):
            if len(waiting) == 4:
                waiting.popleft().result()
            waiting.append(kit.engine.ledger.submit_many([draft(kit, n) for n in range(first, first + BATCH)]))
        for ticket in waiting:
            ticket.result()

    for name, work, target in (
        (f"{OUTSTANDING} outstanding tickets", tickets, 20_000), (f"{OUTSTANDING} plain threads", threads, 10_000),
        (f"batches of {BATCH}, 4 outstanding", batches, 50_000),
    ):  # fmt: skip
        raw = each(work, 3, 1)
        bench.figure(
            name, raw, unit="ops/s", value=count / statistics.median(raw), given=f"{count} {given}", warmup="one round",
            at_least=target,
        )  # fmt: skip


def _recording(bench: Bench, kit: Kit) -> None:
    kit.bucket.create("notes")
    kit.files.write("notes:/a.txt", text="hello")
    operation = CATALOGUE["files.stat"]
    ctx = Context(kit.engine, operation, kit.principal, kit.surface, draft(kit, 0), lambda *_: None)
    whole, alone = [], []
    calls = bench.size(4_000, 400)
    for _ in range(7):
        # Turn about, so that a change of load meets both.
        alone += per_call(lambda: operation.handler(ctx, path="notes:/a.txt"), calls, 1)
        whole += per_call(lambda: kit.call("files.stat", path="notes:/a.txt"), calls, 1)
    added = [(one - other) * 1e6 for one, other in zip(whole, alone, strict=True)]
    bench.figure(
        "recording adds to a buffered op", added, unit="us", raw_unit="us", warmup="one round each",
        given=f"files.stat through the dispatcher less its handler alone ({statistics.median(alone) * 1e6:.1f} us), "
        f"{calls} calls a round, in turns", at_most=30,
    )  # fmt: skip


def _million(bench: Bench, path: Path) -> None:
    count = bench.size(1_000_000, 20_000)
    with Kit.open(path) as kit:
        ledger = kit.engine.ledger
        for first in range(0, count, 20_000):
            ledger.submit_many([draft(kit, number) for number in range(first, first + 20_000)]).result()
        publishing = timed(ledger.publish)
        bench.figure("sign and publish after the fill", [publishing], unit="s", given=f"{count} records")
        _proofs(bench, kit, count)
        seconds = timed(lambda: ledger.segments.seal(MAIN, SealPolicy(age_s=0), time.time_ns()))
        bench.figure("sealing", [seconds], unit="records/s", value=count / seconds, given=f"{count} records to Parquet")
        _sql(bench, kit, count)
        seconds = timed(ledger.verify)
        data = os.urandom(1 << 20)
        hashing = min(timed(lambda: hashlib.sha256(data)) for _ in range(20))
        bench.figure(
            "ledger verify", [seconds], unit="records/s", value=count / seconds,
            given=f"{count} records: record to CID to leaf to root, segments re-read; SHA-256 runs at {1 / hashing:.0f} MiB/s here",
        )  # fmt: skip


def _proofs(bench: Bench, kit: Kit, count: int) -> None:
    sizes: list[int] = []

    def prove(number: int) -> None:
        index = int.from_bytes(hashlib.sha256(number.to_bytes(4, "big")).digest()[:8], "big") % count
        sizes.append(len(kit.engine.ledger.prove(MAIN, index).text.encode()))

    raw = each(prove, bench.size(2_000, 200), 20)
    given = f"random ops of {count}"
    bench.figure(
        "inclusion proof", [s * 1e3 for s in raw], unit="ms", raw_unit="ms", given=given, warmup="20", at_most=1
    )
    bench.figure(
        "  its size", [float(s) for s in sizes], unit="bytes", raw_unit="bytes", given=given, statistic="largest",
        value=max(sizes), at_most=1228.8,
    )  # fmt: skip
    bench.figure(
        "  99th percentile", [s * 1e3 for s in raw], unit="ms", raw_unit="ms", given=given, statistic="p99",
        value=percentile(raw, 0.99) * 1e3,
    )  # fmt: skip


def _sql(bench: Bench, kit: Kit, count: int) -> None:
    sql = kit.engine.sql
    cold = timed(lambda: sql.query(GROUP_BY))
    bench.figure(
        "SQL group-by, cold sandbox",
        [cold * 1e3],
        unit="ms",
        raw_unit="ms",
        given=f"{count} ops, engine imports included",
    )
    raw = []
    for _ in range(bench.size(9, 2)):
        _wait_warm(sql)
        raw.append(timed(lambda: sql.query(GROUP_BY)) * 1e3)
    bench.figure(
        "SQL group-by, warm sandbox", raw, unit="ms", raw_unit="ms", given=f"{count} ops, sealed; a fresh child a query",
        warmup="the next child has loaded its engine", at_most=300,
    )  # fmt: skip


def _wait_warm(sql: object) -> None:
    """Wait until the idle child has said that it is ready, as it is when queries do not come back to back."""
    sandbox = sql._sandbox
    end = time.monotonic() + 30
    while not (sandbox._idle and sandbox._has_words(sandbox._idle[0])):
        assert time.monotonic() < end, "the sandbox's child did not get ready in 30 s"
        time.sleep(0.01)


__all__ = ["BULK", "draft", "run"]
