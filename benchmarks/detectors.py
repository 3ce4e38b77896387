"""Precision and recall of the detectors on seeded synthetic audit trails with labelled attacks."""

from __future__ import annotations

import time

from benchmarks.harness import Bench
from ipfs_kit.testing.attack_log import Score, attack_log, score


def run(bench: Bench) -> None:
    seeds = range(100, 100 + bench.size(20, 3))
    scores: dict[str, list[Score]] = {}
    seconds, rows = [], 0
    for seed in seeds:
        log = attack_log(seed)
        rows = len(log.before) + len(log.rows)
        start = time.perf_counter()
        for name, one in score(log).items():
            scores.setdefault(name, []).append(one)
        seconds.append(time.perf_counter() - start)
    given = f"{len(seeds)} trails of 14 + 3 days, 18 attacks of nine kinds each, seeds from {seeds.start}"
    for name, found in scores.items():
        hits, true_hits = sum(each.hits for each in found), sum(each.true_hits for each in found)
        attacks, caught = sum(each.attacks for each in found), sum(each.found for each in found)
        total = Score(hits, true_hits, attacks, caught)
        bench.figure(
            f"detector {name}: precision", [each.precision for each in found], value=total.precision,
            unit="of hits", statistic=f"{true_hits} of {hits}", raw_unit="share", given=given, at_least=0.9,
        )  # fmt: skip
        bench.figure(
            f"detector {name}: recall", [each.recall for each in found], value=total.recall,
            unit="of attacks", statistic=f"{caught} of {attacks}", raw_unit="share", given=given,
            at_least=0.95 if name == "all" else None,
        )  # fmt: skip
    bench.figure("all detectors", seconds, unit="s", given=f"{rows} rows")
