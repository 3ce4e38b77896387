"""Datasets: rows in and out beside plain Parquet files, small appends, searches, differences, what an edit stores again."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, timed
from ipfs_kit import Kit

SEED = 17


def run(bench: Bench) -> None:
    import pyarrow.parquet as pq

    rows = bench.size(2_000_000, 20_000)
    with bench.folder("datasets") as folder, Kit.open(folder / "store") as kit:
        table = _table(rows)
        source = folder / "in.parquet"
        pq.write_table(table, source)
        given = f"{rows:,} rows of 4 columns, seed {SEED}"
        kit.dataset.create("big")
        plain = timed(lambda: pq.write_table(pq.read_table(source), folder / "copy.parquet", compression="zstd"))
        taken = timed(lambda: kit.dataset.put(str(source), "big"))
        _rate(bench, "datasets: put", rows, taken, given, "pyarrow reads and writes the file", plain)
        read = timed(lambda: pq.read_table(source))
        streamed = timed(lambda: sum(each.num_rows for each in kit.dataset_batches("big", batch_rows=65_536)))
        _rate(bench, "datasets: read in batches", rows, streamed, given, "pyarrow reads the file", read)
        mixed = timed(lambda: sum(each.num_rows for each in kit.dataset_batches("big", shuffle=1)))
        bench.figure(
            "datasets: read shuffled", [mixed], value=rows / mixed, unit="rows/s", given=given, statistic="one run"
        )
        _edited(bench, kit, table, folder, given)
        _appends(bench, kit, rows, given)


def _rate(bench: Bench, name: str, rows: int, seconds: float, given: str, peer: str, peer_s: float) -> None:
    bench.figure(
        name, [seconds], value=rows / seconds, unit="rows/s", given=given, statistic="one run", peer=peer,
        peer_value=rows / peer_s, peer_raw=[peer_s],
    )  # fmt: skip


def _edited(bench: Bench, kit: Kit, table: Any, folder: Path, given: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    middle = table.num_rows // 2
    row = pa.table({"id": [-1], "v": [0.5], "u": ["x"], "d": [1]})  # an id of its own: the difference goes by it
    pq.write_table(pa.concat_tables([table.slice(0, middle), row, table.slice(middle)]), folder / "e.parquet")
    before = kit.engine.blocks.size_bytes()
    seconds = timed(lambda: kit.dataset.put(str(folder / "e.parquet"), "big", mode="replace"))
    grown = (kit.engine.blocks.size_bytes() - before) / kit.dataset.info("big").size * 100
    bench.figure(
        "datasets: stored again for one row put into the middle", [seconds], value=grown, unit="% of the files",
        given=given, statistic="one run",
    )  # fmt: skip


def _appends(bench: Bench, kit: Kit, rows: int, given: str) -> None:
    first = kit.dataset.info("big").commit
    seconds = [
        timed(lambda number=number: kit.dataset.append("big", rows=[{"id": rows + number, "v": 0.5, "u": "x", "d": 1}]))
        for number in range(bench.size(300, 20))
    ]
    given = f"one row each, behind {given}"
    bench.figure("datasets: append, p50", seconds, value=statistics.median(seconds) * 1e3, unit="ms", given=given)
    found = [timed(lambda: kit.dataset.rows("big", where=f"id = {rows + 5}")) for _ in range(20)]
    bench.figure(
        "datasets: one row by a condition", found, value=statistics.median(found) * 1e3, unit="ms", given=given
    )
    differ = [timed(lambda: kit.dataset.diff(f"big@{first}", "big", key=["id"])) for _ in range(5)]
    bench.figure(
        "datasets: difference to before the appends",
        differ,
        value=statistics.median(differ) * 1e3,
        unit="ms",
        given=given,
    )
    asked = [timed(lambda: kit.dataset.sql("SELECT d, avg(v) FROM big GROUP BY d")) for _ in range(5)]
    bench.figure("datasets: SQL group-by", asked, value=min(asked) * 1e3, unit="ms", statistic="best of 5", given=given)


def _table(rows: int) -> Any:
    import pyarrow as pa

    draw = random.Random(SEED)
    return pa.table(
        {
            "id": pa.array(range(rows)),
            "v": [draw.random() for _ in range(rows)],
            "u": [f"user {draw.randrange(10**7)}" for _ in range(rows)],
            "d": [draw.randrange(1_000) for _ in range(rows)],
        }
    )
