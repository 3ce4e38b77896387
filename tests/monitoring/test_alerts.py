"""The book of alerts: each change recorded once, over restarts, threads of one process and several processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.monitoring.alerts import AlertBook, AlertStates, once_key

WATCHER = """
import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1]) as kit:
    print("ready", flush=True)
    for order in sys.stdin:
        changed = 0
        for at in range(20):
            found = kit.journal.check(f"j{at}", thresholds={"journal_size_warning": int(order)})
            changed += len(found.raised) + len(found.cleared)
        print(changed, flush=True)
"""


class Shelf:
    """A stand-in for the stream, which refuses a key that was used."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.reads = 0

    def append(self, event: dict[str, Any], key: str) -> str | None:
        if key in self.keys:
            return None
        self.keys.add(key)
        self.events.append(event)
        return f"main:{len(self.events) - 1}"

    def latest(self, position: int) -> tuple[int, Iterable[tuple[str, Mapping[str, Any]]]]:
        found = [(f"main:{at}", self.events[at]) for at in range(position, len(self.events))]
        self.reads += len(found)
        return len(self.events), found


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.booleans()), max_size=40))
def test_however_many_books_watch_states_alternate_and_end_as_last_said(said: list[tuple[int, str, bool]]) -> None:
    shelf = Shelf()
    books = [AlertBook(shelf.append, shelf.latest) for _ in range(3)]
    for who, key, firing in said:
        books[who].update("r", key, firing, source="s")
    for key in "ab":
        states = [event["state"] for event in shelf.events if event["key"] == key]
        assert states == ["raised", "cleared"] * (len(states) // 2) + ["raised"] * (len(states) % 2)
        last = [firing for _, of, firing in said if of == key][-1:]
        assert (len(states) % 2 == 1) == (last == [True])
    # A new book, as after a restart, knows the same.
    assert AlertBook(shelf.append, shelf.latest).active("s") == books[0].active("s")


def test_who_saw_the_same_state_and_comes_second_records_nothing() -> None:
    shelf = Shelf()
    stale = AlertBook(shelf.append, lambda position: (position, []))
    assert AlertBook(shelf.append, shelf.latest).update("r", "k", True, source="s") == "raised"
    assert stale.update("r", "k", True, source="s") is None
    assert len(shelf.events) == 1


def test_states_are_read_forward_only_and_names_cannot_run_together() -> None:
    shelf = Shelf()
    book = AlertBook(shelf.append, AlertStates(shelf.latest))
    for at in range(50):
        book.update("r", "k", at % 2 == 0, source="s")
    assert len(shelf.events) == 50
    book.active("s")
    assert shelf.reads == 50
    assert len({once_key("a", "b", "c", "d"), once_key("ab", "", "c", "d"), once_key("a", "b", "", "cd")}) == 3


@pytest.mark.slow
def test_two_processes_and_a_restarted_one_raise_and_clear_each_alert_once(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with Kit.open(path) as kit:
        for at in range(20):
            kit.bucket.create(f"j{at}")
            for n in range(2):
                kit.journal.apply(f"j{at}", "write", f"/{n}", text="x")
    script = [sys.executable, "-c", WATCHER, path]
    watchers = [subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    def told(orders: str) -> int:
        for watcher in watchers:
            assert watcher.stdin is not None
            watcher.stdin.write(orders)
            watcher.stdin.flush()
        changed = 0
        for watcher in watchers:
            assert watcher.stdout is not None
            changed += sum(int(watcher.stdout.readline()) for _ in orders.splitlines())
        return changed

    for watcher in watchers:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "ready\n"
    assert told("1\n") == 20
    assert told("1\n") == 0
    assert told("100\n") == 20
    assert told("1\n") == 20
    for watcher in watchers:
        watcher.communicate()
        assert watcher.returncode == 0
    with Kit.open(path) as kit:
        assert kit.journal.check("j3", thresholds={"journal_size_warning": 1}).raised == []
        rows = kit.stream.query("alerts", oldest_first=True, limit=1000).rows
        assert len(rows) == 60
        for at in range(20):
            states = [row.event["state"] for row in rows if row.event and row.event["key"] == f"j{at}"]
            assert states == ["raised", "cleared", "raised"]
        assert kit.ledger.verify().ok
