"""Detectors on labelled synthetic trails: the figures promised, reproducible, nothing on quiet days."""

from __future__ import annotations

from ipfs_kit.monitoring.detectors import DETECTORS, detect
from ipfs_kit.testing.attack_log import attack_log, score


def test_precision_and_recall_hold_on_seeds_not_tuned_on() -> None:
    found = [score(attack_log(seed)) for seed in (501, 502, 503)]
    for name, least in (("rate", 0.95), ("novelty", 0.9), ("sequence", 0.4), ("all", 1.0)):
        assert sum(each[name].found for each in found) >= least * sum(each[name].attacks for each in found), name
        assert sum(each[name].true_hits for each in found) >= 0.9 * sum(each[name].hits for each in found), name


def test_a_seed_gives_the_same_trail_and_hits_and_a_quiet_time_gives_few() -> None:
    first, second = attack_log(7), attack_log(7)
    assert (first.before, first.rows) == (second.before, second.rows)
    hits = detect(DETECTORS, first.before, first.rows)
    assert hits == detect(DETECTORS, second.before, second.rows)
    rows = {row.op for row in first.rows}
    assert all(hit.ops and set(hit.ops) <= rows and hit.value >= hit.threshold > hit.baseline >= 0 for hit in hits)
    half = len(first.before) * 5 // 6
    assert len(detect(DETECTORS, first.before[:half], first.before[half:])) <= 3
    assert detect(DETECTORS, [], []) == []
