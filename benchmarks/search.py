"""Full text: passages read in a second, questions over many passages, and one edited file among many."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

from benchmarks.harness import Bench
from ipfs_kit import Kit

SEED = 13


def run(bench: Bench) -> None:
    files, per_file = bench.size(10_000, 200), 10
    chance = random.Random(SEED)
    words = [f"w{number}" for number in range(30_000)]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    with bench.folder("search") as folder:
        tree = folder / "tree"
        write_tree(tree, files, per_file, chance, words, weights)
        with Kit.open(folder / "store") as kit:
            kit.bucket.create("docs")
            kit.files.put(str(tree), "docs:/")
            start = time.perf_counter()
            holds = kit.search.index("docs").holds
            whole = time.perf_counter() - start
            given = f"{files:,} files, {holds.passages:,} passages, words by Zipf, seed {SEED}"
            bench.figure(
                "search: parse and index",
                [whole],
                value=holds.passages / whole,
                unit="passages/s",
                given=given,
                at_least=1_000,
            )
            questions(bench, kit, chance, words, weights, given)
            edits = []
            for number in range(bench.size(20, 3)):
                kit.files.write(f"docs:/{number % 100:02}/{number}.txt", text="one changed file")
                start = time.perf_counter()
                kit.search.index("docs")
                edits.append(time.perf_counter() - start)
            bench.figure(
                "search: one edited file", edits, value=1000 * statistics.median(edits), unit="ms", given=given,
                peer="reading everything", peer_value=1000 * whole, peer_raw=[whole], ratio_at_most=0.01,
            )  # fmt: skip


def write_tree(
    tree: Path, files: int, per_file: int, chance: random.Random, words: list[str], weights: list[float]
) -> None:
    """Text files of paragraphs whose words follow Zipf's law."""
    for number in range(files):
        path = tree / f"{number % 100:02}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = iter(chance.choices(words, weights, k=per_file * 180))
        path.write_text("\n\n".join(" ".join(next(drawn) for _ in range(180)) for _ in range(per_file)), "utf-8")


def questions(
    bench: Bench, kit: Kit, chance: random.Random, words: list[str], weights: list[float], given: str
) -> None:
    """Questions of two frequent and two rare words, as people mix them."""
    taken = []
    for _ in range(bench.size(200, 5)):
        text = " ".join([*chance.choices(words[20:], weights[20:], k=2), *chance.choices(words[1_000:], k=2)])
        start = time.perf_counter()
        kit.search.query(text, path="docs")
        taken.append(time.perf_counter() - start)
    p95 = statistics.quantiles(taken, n=20)[-1]
    bench.figure(
        "search: a question of four words", taken, value=1000 * p95, unit="ms", statistic="p95", given=given, at_most=30
    )
