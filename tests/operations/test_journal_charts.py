"""The pictures of a journal show what its entries say, no more and no less."""

from __future__ import annotations

from dataclasses import dataclass

from ipfs_kit.monitoring.journal_charts import BUCKETS, PLOTS, data

HOUR = 3_600 * 10**9


@dataclass
class Made:
    operation_type: str
    status: str
    time_ns: int
    duration_ms: float | None = None


def test_every_picture_shows_the_true_values() -> None:
    entries = [
        Made("write", "completed", 0, 2.0),
        Made("write", "failed", 1, 4.0),
        Made("create", "completed", 5 * HOUR, 1.0),
        Made("create", "rolled_back", 23 * HOUR),
        Made("delete", "completed", 24 * HOUR),
        Made("delete", "completed", -1),
    ]
    shown = data(entries, {"local": [10, 20], "remote": []}, 0, 24 * HOUR)
    assert tuple(shown) == PLOTS
    assert all(len(each["labels"]) == len(each["values"]) for each in shown.values())
    assert shown["entry_types"] == {"labels": ["create", "write"], "values": [2, 2]}
    assert shown["entry_statuses"] == {"labels": ["completed", "failed", "rolled_back"], "values": [2, 1, 1]}
    assert shown["journal_growth"]["values"] == [2] * 5 + [3] * 18 + [4]
    assert shown["journal_growth"]["labels"] == [hour * 3600.0 for hour in range(1, BUCKETS + 1)]
    assert shown["operation_times"] == {"labels": ["create", "write"], "values": [1.0, 3.0]}
    assert shown["error_rate"]["values"] == [0.5, None, None, None, None, 0.0, *[None] * 18]
    assert shown["tier_distribution"] == {"labels": ["local", "remote"], "values": [2, 0]}
    assert shown["tier_storage_usage"] == {"labels": ["local", "remote"], "values": [30, 0]}


def test_an_empty_journal_has_pictures_too() -> None:
    shown = data([], {}, 0, 0)
    assert shown["journal_growth"]["values"] == [0] * BUCKETS
    assert shown["entry_types"] == {"labels": [], "values": []}
