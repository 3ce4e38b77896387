"""The metadata index: a million records stated, made into the index, and asked by every kind of filter."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.harness import Bench
from ipfs_kit import Kit
from ipfs_kit.ipld import CID

SEED = 14
BATCH = 5_000
TYPES = ("text/csv", "application/json", "image/png", "application/x-parquet", "text/markdown")
WORDS = ("weather", "station", "report", "rain", "wind", "model", "image", "daily", "survey", "north", "coast", "city")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "number, a range": ("size_bytes > 1000000", "size_bytes < 1001000"),
    "number, half of all": ("size_bytes > 500000000",),
    "number, in": ("blocks in [3, 17, 4000]",),
    "time": ("created_at >= 2023-11-14T22:00:00", "created_at < 2023-11-15T02:00:00"),
    "truth": ("pinned == true", "local == false"),
    "text, equal, few values": ("mime_type == image/png",),
    "text, equal, all different": ("filename == f123456.png",),
    "text, in": ('filename in ["f1.csv", "f77.json", "f999.md"]',),
    "text, starts with": ("path starts_with /data/77/",),
    "text, ends with": ("path ends_with 00.csv",),
    "text, contains": ("path contains 99/f12345",),
    "text, contains, few values": ("mime_type contains parquet",),
    "text, contains, everywhere": ("path contains data",),
    "text, contains, in a tenth": ("path contains 7/f",),
    "no value": ("embedding_type is_null false",),
    "list, element": ("tags contains t77",),
    "list, in": ('tags in ["t1", "t2", "t999"]',),
    "list, whole": ('tags == ["all", "t5"]',),
    "list, beginning": ("tags starts_with t99",),
    "map, title equal": ('metadata.title == "rain daily coast 5"',),
    "map, title contains": ("metadata.title contains coast 4321",),
    "map, creator": ("metadata.creator == team-7",),
    "property, text": ("properties.task == classification",),
    "property, number": ("properties.rows >= 99900",),
    "property, key": ("properties contains license_key",),
    "five at once": (
        "mime_type == text/csv", "size_bytes > 900000000", "tags contains t7", "properties.rows > 50000", "pinned == false",
    ),
}  # fmt: skip
"""A name for the kind, and its filters."""


def run(bench: Bench) -> None:
    records = bench.size(1_000_000, 5_000)
    given = f"{records:,} records of 16 fields, seed {SEED}"
    with bench.folder("metadata") as folder, Kit.open(folder / "store") as kit:
        taken = []
        for start in range(0, records, BATCH):
            rows = [record(number) for number in range(start, min(start + BATCH, records))]
            began = time.perf_counter()
            kit.metadata.add(records=rows)
            taken.append(time.perf_counter() - began)
        bench.figure(
            "metadata: add, in batches of 5,000", taken, value=records / sum(taken), unit="records/s", given=given
        )
        began = time.perf_counter()
        kit.metadata.rebuild()
        whole = time.perf_counter() - began
        bench.figure("metadata: make the index anew", [whole], value=records / whole, unit="records/s", given=given)
        questions(bench, kit, given)
        beside_duckdb(bench, kit, given)
        searches(bench, kit, given)
        changes(bench, kit, records, given)


def record(number: int) -> dict[str, Any]:
    """One record; the same number gives the same."""
    chance = random.Random(SEED * 1_000_003 + number)
    kind = number % len(TYPES)
    suffix = ("csv", "json", "png", "parquet", "md")[kind]
    return {
        "cid": str(CID.of(b"record %d" % number)),
        "size_bytes": chance.randrange(1_000_000_000),
        "blocks": chance.randrange(5_000),
        "mime_type": TYPES[kind],
        "local": number % 3 == 0,
        "pinned": number % 7 == 0,
        "created_at": 1_700_000_000 + number % 31_536_000,
        "path": f"/data/{number % 100}/f{number}.{suffix}",
        "tags": ["all", f"t{number % 1_000}"],
        "metadata": {
            "title": f"{chance.choice(WORDS)} {chance.choice(WORDS)} {chance.choice(WORDS)} {number}",
            "description": " ".join(chance.choices(WORDS, k=8)),
            "creator": f"team-{number % 50}",
        },
        "properties": {
            "rows": chance.randrange(100_000), "task": chance.choice(("classification", "translation", "detection")),
        },
    }  # fmt: skip


def questions(bench: Bench, kit: Kit, given: str) -> None:
    """A page of a hundred, and the count of all, for each kind of filter: the slowest kind is what counts."""
    kit.metadata.count()
    for name, ask in (
        ("a page of 100", lambda filters: kit.metadata.query(filters=filters, limit=100)),
        ("count all", lambda filters: kit.metadata.count(filters=filters)),
    ):
        medians: dict[str, float] = {}
        raw: list[float] = []
        for kind, filters in QUESTIONS.items():
            taken = []
            for _ in range(bench.size(15, 2)):
                began = time.perf_counter()
                ask(list(filters))
                taken.append(time.perf_counter() - began)
            medians[kind] = statistics.median(taken)
            raw += taken
        slowest = sorted(medians, key=lambda kind: medians[kind], reverse=True)
        bench.note(f"{name}: " + ", ".join(f"{kind} {1000 * medians[kind]:.1f} ms" for kind in slowest))
        bench.figure(
            f"metadata: {name}, slowest of {len(medians)} kinds of filter", raw, value=1000 * medians[slowest[0]], unit="ms",
            statistic="median of the slowest kind", given=given, at_most=20,
        )  # fmt: skip


def beside_duckdb(bench: Bench, kit: Kit, given: str) -> None:
    """The same count by DuckDB over the same mapped files, in this process."""
    filters = ["mime_type == text/csv", "size_bytes > 900000000", "tags contains t7", "pinned == false"]
    sql = (
        "SELECT count(*) FROM records WHERE mime_type = 'text/csv' AND size_bytes > 900000000 "
        "AND list_contains(tags, 't7') AND NOT pinned"
    )
    files = kit.metadata.share().files
    records = pa.concat_tables(
        [pa.ipc.open_file(pa.memory_map(path)).read_all() for path in files]
    ).unify_dictionaries()
    ours, theirs = [], []
    with duckdb.connect() as database:
        database.register("records", records.select(["mime_type", "size_bytes", "tags", "pinned"]))
        for _ in range(bench.size(15, 2)):
            began = time.perf_counter()
            found = kit.metadata.count(filters=filters).records
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            row = database.execute(sql).fetchone()
            theirs.append(time.perf_counter() - began)
            if row is None or row[0] != found:
                raise SystemExit(f"DuckDB counts {row}, the index {found}")
    bench.figure(
        "metadata: count by four filters", ours, value=1000 * statistics.median(ours), unit="ms", given=given,
        peer="DuckDB over the same files", peer_value=1000 * statistics.median(theirs), peer_raw=theirs,
    )  # fmt: skip


def searches(bench: Bench, kit: Kit, given: str) -> None:
    """Words in text fields: frequent ones, parts of words, and single numbers."""
    taken = []
    for text in ("coast wind", "urve", "f7654", "team 77", "classif rain", "f123456"):
        for _ in range(bench.size(10, 2)):
            began = time.perf_counter()
            kit.metadata.search(text, limit=20)
            taken.append(time.perf_counter() - began)
    bench.figure("metadata: text search", taken, value=1000 * statistics.median(taken), unit="ms", given=given)


def changes(bench: Bench, kit: Kit, records: int, given: str) -> None:
    """A question right after a change: what it costs that the index follows."""
    taken = []
    for number in range(bench.size(200, 5)):
        kit.metadata.add(records=[{**record(number % records), "tags": ["changed"]}])
        began = time.perf_counter()
        kit.metadata.count(filters=["tags contains changed"])
        taken.append(time.perf_counter() - began)
    bench.figure(
        "metadata: a question right after a change",
        taken,
        value=1000 * statistics.median(taken),
        unit="ms",
        given=given,
    )
