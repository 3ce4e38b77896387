"""Figures of columns agree with what other tools compute, and drift is seen where it was put in."""

from __future__ import annotations

import random
import statistics
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput


@pytest.fixture
def kit(tmp_path: Path) -> Any:
    draw = random.Random(11)
    rows = [
        {"n": n, "twice": 2 * n + 1, "noise": draw.gauss(0, 1), "word": draw.choice("aab"), "gap": None if n % 4 else n}
        for n in range(4_000)
    ]
    moved = [
        dict(row, noise=row["noise"] + 1.5, word=draw.choice("abb"), gap=0 if not row["n"] else None) for row in rows
    ]
    with Kit.open(tmp_path / "store") as opened:
        for name, given in (("before", rows), ("same", random.Random(2).sample(rows, 2_000)), ("moved", moved)):
            opened.dataset.create(name)
            opened.dataset.append(name, rows=given)
        opened.rows = rows
        yield opened


def test_columns_are_described_as_python_describes_them(kit: Any) -> None:
    found = kit.dataset.profile("before")
    by_name = {column.name: column for column in found.columns}
    noise = [row["noise"] for row in kit.rows]
    assert by_name["noise"].mean == pytest.approx(statistics.mean(noise))
    assert by_name["noise"].deviation == pytest.approx(statistics.stdev(noise))
    assert by_name["noise"].quartiles == pytest.approx(statistics.quantiles(noise, n=4), abs=0.1)
    assert (by_name["n"].low, by_name["n"].high, by_name["gap"].nulls, found.rows) == (0, 3_999, 3_000, 4_000)
    assert (by_name["word"].distinct, by_name["word"].mean) == (2, None)
    first = found.correlations[0]
    assert first.coefficient == pytest.approx(1)
    pairs = {(each.one, each.other): each.coefficient for each in found.correlations}
    assert pairs["n", "noise"] == pytest.approx(statistics.correlation([r["n"] for r in kit.rows], noise), abs=1e-5)


def test_drift_is_seen_where_it_is_and_nowhere_else(kit: Any) -> None:
    assert kit.dataset.drift("before", "same").drifted == []
    found = kit.dataset.drift("before", "moved")
    assert set(found.drifted) == {"noise", "word", "gap"}
    by_name = {column.name: column for column in found.columns}
    assert by_name["n"].psi == by_name["n"].distance == 0
    assert by_name["noise"].distance > 0.5
    assert (by_name["gap"].nulls_before, by_name["gap"].nulls_after) == (0.75, 0.99975)
    share = sum(row["word"] == "a" for row in kit.rows) / 4_000
    assert by_name["word"].distance == pytest.approx(abs(share - 1 / 3), abs=0.03)


def test_what_cannot_be_compared_is_named(kit: Any) -> None:
    kit.dataset.create("other")
    kit.dataset.append("other", rows=[{"n": "text", "list": [1], "noise": 0.5}])
    found = kit.dataset.drift("before", "other")
    assert {"n", "list", "twice", "word", "gap"} == set(found.left_out)
    kit.dataset.create("empty")
    for bad in ({"before": "empty", "after": "before"}, {"before": "before", "after": "same", "threshold": 0.0}):
        with pytest.raises(InvalidInput):
            kit.dataset.drift(**bad)
    assert kit.dataset.profile("empty").columns == []
    with pytest.raises(InvalidInput, match="no column"):
        kit.dataset.profile("before", columns=["z"])
