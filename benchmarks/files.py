"""Import of a tree of small files into a bucket, and its commit."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.harness import Bench, child

FOLDERS = 200


def run(bench: Bench) -> None:
    count = bench.size(20_000, 1_000)
    with bench.folder("files") as folder:
        make_tree(folder / "tree", count)
        found = [child("put", str(folder / f"store-{number}"), str(folder / "tree")) for number in range(3)]
    assert all(each["files"] == count for each in found)
    given = f"{count} files of 0.5-8 KB in {FOLDERS} folders, seed 1, page cache warm"
    bench.figure(
        "import and commit", [float(each["seconds"]) for each in found], unit="s", given=given,
        warmup="the tree was just written", at_most=6.0,
    )  # fmt: skip
    bench.figure("  of it the commit", [float(each["commit"]) for each in found], unit="s", given=given)
    peaks = [float(each["peak"]) / 1e6 for each in found]
    bench.figure("  peak memory", peaks, unit="MB", raw_unit="MB", given=given, statistic="largest", value=max(peaks))


def make_tree(root: Path, count: int) -> None:
    """The same tree on every machine."""
    numbers = random.Random(1)
    for folder in range(FOLDERS):
        (root / f"{folder:03d}").mkdir(parents=True)
    for number in range(count):
        path = root / f"{number % FOLDERS:03d}" / f"{number:06d}.bin"
        path.write_bytes(numbers.randbytes(numbers.randint(512, 8192)))
