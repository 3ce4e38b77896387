"""One ledger from a hundred thousand to ten million ops: queries, verification, disk and memory as it grows."""

from __future__ import annotations

import os
import time
from pathlib import Path

from benchmarks.harness import Bench, timed
from benchmarks.ledger import draft
from ipfs_kit import Kit
from ipfs_kit.ledger.record import MAIN
from ipfs_kit.ledger.segments import SealPolicy

BATCH = 10_000
ERROR_EVERY = 997
BY_TOOL_AND_HOUR = (
    "SELECT operation, time_bucket(INTERVAL 1 HOUR, time) AS hour, count(*), avg(duration_ms) FROM ops GROUP BY 1, 2"
)
PAGE = (
    "SELECT idx, time, operation, status FROM ops WHERE log = 'main' AND status = 'error' ORDER BY idx DESC LIMIT 100"
)


def run(bench: Bench) -> None:
    sizes = (2_000, 20_000) if bench.quick else (100_000, 1_000_000, 10_000_000)
    with bench.folder("scale") as folder, Kit.open(folder / "store") as kit:
        before = disk_bytes(folder / "store")
        have = 0
        for size in sizes:
            _fill(bench, kit, have, size)
            have = size
            _measure(bench, kit, folder / "store", size, before, last=size == sizes[-1])


def _fill(bench: Bench, kit: Kit, have: int, size: int) -> None:
    ledger = kit.engine.ledger
    seconds = []
    for first in range(have, size, BATCH):
        start = time.perf_counter()
        drafts = [draft(kit, number) for number in range(first, min(first + BATCH, size))]
        for number, one in enumerate(drafts, first):
            if number % ERROR_EVERY == 0:
                one.status, one.error_kind = "error", "not_found"
        ledger.submit_many(drafts).result()
        seconds.append(time.perf_counter() - start)
        if not (first // BATCH + 1) % 10:
            ledger.segments.seal(MAIN, SealPolicy(age_s=0), time.time_ns())
    ledger.segments.seal(MAIN, SealPolicy(age_s=0), time.time_ns())
    bench.figure(
        f"{size:,} ops: recording while it grows", seconds, unit="records/s", value=(size - have) / sum(seconds),
        statistic="mean", given=f"batches of {BATCH}, made and committed, sealing apart",
    )  # fmt: skip


def _measure(bench: Bench, kit: Kit, store: Path, size: int, before: int, *, last: bool) -> None:
    sql, name = kit.engine.sql, f"{size:,} ops"
    given = "sealed records of ~240 bytes with sealed target and arguments"
    grouped = _three(lambda: sql.query(BY_TOOL_AND_HOUR))
    bench.figure(f"{name}: group-by tool and hour", grouped, unit="ms", value=min(grouped) * 1e3, statistic="best of 3",
                 given=given, at_most=1_000 if last else None)  # fmt: skip
    paged = _three(lambda: kit.stream.query("files", status=["error"], limit=100))
    bench.figure(f"{name}: filtered page of 100, stream.query", paged, unit="ms", value=min(paged) * 1e3,
                 statistic="best of 3", given=f"1 in {ERROR_EVERY} meets it", at_most=100 if last else None)  # fmt: skip
    asked = _three(lambda: sql.query(PAGE))
    bench.figure(f"{name}: filtered page of 100, SQL", asked, unit="ms", value=min(asked) * 1e3, statistic="best of 3",
                 given="a fresh sandboxed process, engine started before")  # fmt: skip
    seconds = timed(kit.engine.ledger.verify)
    bench.figure(f"{name}: ledger verify", [seconds], unit="records/s", value=size / seconds, given="the whole log",
                 at_least=300_000 if last else None)  # fmt: skip
    used = (disk_bytes(store) - before) / size
    bench.figure(f"{name}: disk", [used], unit="bytes/op", raw_unit="bytes", value=used,
                 given="everything in the store's directory", at_most=200 if last else None)  # fmt: skip
    anonymous = rss_anon()
    bench.figure(f"{name}: anonymous memory of the process", [anonymous], unit="MiB", raw_unit="MiB", value=anonymous,
                 given="after the steps above")  # fmt: skip


def _three(work: object) -> list[float]:
    found = []
    for _ in range(3):
        time.sleep(0.6)  # the next sandbox loads its engine meanwhile, as it does between a user's queries
        found.append(timed(work))  # type: ignore[arg-type]
    return found


def rss_anon() -> float:
    """Anonymous resident memory of this process in MiB."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))


def disk_bytes(folder: Path) -> int:
    """Bytes allocated below a folder."""
    return sum(os.lstat(os.path.join(at, name)).st_blocks * 512 for at, _, names in os.walk(folder) for name in names)
