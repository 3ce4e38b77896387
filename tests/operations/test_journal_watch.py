"""A watched journal: true figures, each alert once, cleared on recovery, also across restarts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput, PathNotFound
from ipfs_kit.monitoring.journal_monitor import THRESHOLDS, figures, issues

NOW = 10_000_000_000_000_000


@dataclass
class Made:
    operation_type: str
    status: str
    time_ns: int
    duration_ms: float | None = None


def at(seconds_ago: float, kind: str = "write", status: str = "completed", ms: float | None = None) -> Made:
    return Made(kind, status, NOW - int(seconds_ago * 1e9), ms)


def test_figures_are_those_of_a_known_journal() -> None:
    entries = [at(400, ms=1.0), at(100, ms=3.0), at(10, "create", "failed"), at(200, "checkpoint")]
    found = figures(entries, [NOW - 31 * 10**9], NOW)
    assert (found.entries, found.since_checkpoint, found.growth_per_min) == (4, 2, 2 / 5)
    assert (found.checkpoint_age_s, found.longest_transaction_s, found.error_rate) == (200.0, 31.0, None)
    assert found.by_type == {"write": 2, "create": 1, "checkpoint": 1}
    assert found.mean_ms == {"write": 2.0}


@pytest.mark.parametrize(
    ("entries", "begun", "expected"),
    [
        ([at(301)] * 1000, [], []),
        ([at(301)] * 1001, [], ["journal_size"]),
        ([at(1)] * 250, [], []),
        ([at(1)] * 251, [], ["growth_rate"]),
        ([at(3600)], [], []),
        ([at(3601)], [], ["checkpoint_age"]),
        ([at(3601), at(1, "checkpoint")], [], []),
        ([at(9)] * 9 + [at(9, status="failed")], [], []),
        ([at(9)] * 8 + [at(9, status="failed")] * 2, [], ["error_rate"]),
        ([], [NOW - 30 * 10**9], []),
        ([], [NOW - 31 * 10**9], ["long_transaction"]),
    ],
)
def test_each_threshold_is_crossed_above_it_and_not_at_it(
    entries: list[Made], begun: list[int], expected: list[str]
) -> None:
    crossed = issues(figures(entries, begun, NOW), THRESHOLDS)
    assert [issue.type for issue in crossed] == expected
    assert all((issue.severity == "critical") == (issue.type == "error_rate") for issue in crossed)


def test_each_alert_is_recorded_once_and_cleared_on_recovery_across_restarts(tmp_path: Path) -> None:
    def check() -> tuple[str, list[str], list[str]]:
        with Kit.open(tmp_path / "s") as kit:
            found = kit.journal.check("j", thresholds={"journal_size_warning": 10})
            return found.status, found.raised, found.cleared

    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("j")
        for n in range(9):
            kit.journal.apply("j", "write", f"/{n}", text="x")
    assert check() == ("healthy", [], [])
    with Kit.open(tmp_path / "s") as kit:
        for _ in range(2):
            with pytest.raises(PathNotFound):
                kit.journal.apply("j", "delete", "/absent")
    assert check() == ("critical", ["journal_size", "error_rate"], [])
    assert check() == ("critical", [], [])
    with Kit.open(tmp_path / "s") as kit:
        kit.journal.checkpoint("j")
        for n in range(11, 22):
            kit.journal.apply("j", "write", f"/{n % 5}", text=f"{n}")
        kit.journal.checkpoint("j")
    assert check() == ("healthy", [], ["journal_size", "error_rate"])
    assert check() == ("healthy", [], [])
    with Kit.open(tmp_path / "s") as kit:
        rows = kit.stream.query("alerts", oldest_first=True).rows
        told = [(row.event["rule"], row.event["state"]) for row in rows if row.event]
        assert sorted(told) == sorted(
            (rule, state) for rule in ("journal_size", "error_rate") for state in ("raised", "cleared")
        )
        with pytest.raises(InvalidInput):
            kit.journal.check("j", thresholds={"nothing": 1})
