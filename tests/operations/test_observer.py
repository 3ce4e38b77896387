"""Watched folders: every change is told once, whoever made it, also when nobody was watching or a process was killed."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.buckets.ignore import Rules
from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.monitoring.observer.snapshot import Comparison, Snapshot

Told = list[tuple[str | None, str | None, str | None]]


def told(found: object) -> Told:
    return sorted((one.change, one.origin, one.path) for one in found.changes)  # type: ignore[attr-defined]


def test_what_changed_while_nobody_watched_is_told_once_with_its_origin(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "d").mkdir(parents=True)
    (folder / "a").write_text("one")
    (folder / "d" / "b").write_text("two")
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/from-store", text="inside")
        made = kit.observer.watch(str(folder), bucket="b:/")
        assert (made.files, made.folders, made.size) == (2, 1, 6)
    (folder / "a").write_text("eno")  # the same size, within the same tick of the clock
    (folder / "new").write_text("x")
    (folder / "link").symlink_to("/etc")
    (folder / "d" / "b").unlink()
    (folder / "d").rmdir()
    with Kit.open(tmp_path / "s") as kit:
        kit.files.get("b:/from-store", str(folder / "from-store"))
        found = kit.observer.scan()
        assert told(found) == [
            ("added", "inside", "from-store"), ("added", "outside", "link"), ("added", "outside", "new"),
            ("deleted", "outside", "d"), ("deleted", "outside", "d/b"), ("modified", "outside", "a"),
        ]  # fmt: skip
        assert (found.added, found.modified, found.deleted, found.inside) == (3, 1, 2, 1)
        assert kit.observer.scan().changes == []
    with Kit.open(tmp_path / "s") as kit:
        page = kit.observer.changes()
        assert told(page) == told(found)
        (inside,) = kit.observer.changes(str(folder), origin="inside").changes
        assert (inside.size, inside.details["kind"]) == (6, "file")
        assert kit.ledger.show(inside.made_by or "").operation == "files.get"
        assert [one.details["kind"] for one in page.changes if one.path == "link"] == ["symlink"]
        assert len(kit.observer.changes(limit=4).changes) == 4
        sql = kit.ledger.sql("SELECT change, count(*) FROM vfs_observer WHERE change IS NOT NULL GROUP BY 1 ORDER BY 1")
        assert [tuple(row) for row in sql.rows] == [("added", 3), ("deleted", 2), ("modified", 1)]


def test_folders_that_are_missing_hostile_or_ignored(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / b"caf\xe9".decode("utf-8", "surrogateescape")).write_text("x")
    with Kit.open(folder / "store") as kit:  # the store itself stands in the watched folder
        with pytest.raises(NotFound, match="no folder"):
            kit.observer.watch(str(tmp_path / "nowhere"))
        with pytest.raises(NotFound, match="not watched"):
            kit.observer.scan(str(folder))
        kit.observer.watch(str(folder), ignore=["*.tmp", "build/"])
        assert kit.observer.scan().changes == []
        (folder / "x.tmp").write_text("x")
        (folder / "build").mkdir()
        (folder / "build" / "y").write_text("y")
        os.mkfifo(folder / "pipe")
        (folder / b"n\xff".decode("utf-8", "surrogateescape")).write_text("x")
        found = kit.observer.scan()
        assert told(found) == [("added", "outside", "n\\xff"), ("added", "outside", "pipe")]
        assert found.changes[0].details["path_hex"] == "6eff"
        with pytest.raises(InvalidInput, match="below the folder"):
            kit.observer.scan(str(folder), only=["../../etc"])
        with pytest.raises(InvalidInput, match="name it"):
            kit.observer.scan(only=["x"])
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "f").write_text("x")
        (folder / "other").write_text("x")
        below = kit.observer.scan(str(folder), only=["deep/er/f", "x.tmp"])
        assert [one.path for one in below.changes] == ["deep", "deep/er", "deep/er/f"]
        assert [one.path for one in kit.observer.scan().changes] == ["other"]
        folder.rename(tmp_path / "moved")
    with Kit.open(tmp_path / "moved" / "store") as kit:
        with pytest.raises(NotFound, match="not there"):
            kit.observer.scan(str(folder))
        every = kit.observer.scan()
        assert (every.deleted, every.problems) == (0, [(str(folder), "the folder is not there")])
        assert [place.present for place in kit.observer.watched().places] == [False]
        kit.observer.unwatch(str(folder))
        assert kit.observer.watched().places == []


def test_a_lost_cache_begins_anew_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with Kit.open(tmp_path / "s") as kit:
        kit.observer.watch(str(folder))
    for file in (tmp_path / "s" / "cache" / "observer").glob("*.db"):
        file.write_bytes(b"no database at all" * 100)
    (folder / "x").write_text("x")
    with Kit.open(tmp_path / "s") as kit:
        found = kit.observer.scan()
        assert (found.begun, found.changes) == ([str(folder)], [])
        (folder / "y").write_text("y")
        assert told(kit.observer.scan()) == [("added", "outside", "y")]


def test_an_erased_person_leaves_no_folder_behind(tmp_path: Path) -> None:
    folder = tmp_path / "canary-4711"
    folder.mkdir()
    (folder / "canary-4712").write_text("x")
    with Kit.open(tmp_path / "s") as kit:
        kit.observer.watch(str(folder))
        (folder / "canary-4713").write_text("x")
        kit.observer.scan()
        (one,) = kit.observer.changes().changes
        kit.ledger.erase(kit.ledger.show(one.op or "").actor)
        assert kit.observer.watched().places == []
        assert [(one.place, one.path, one.change) for one in kit.observer.changes().changes] == [(None, None, None)]
    held = b"".join(path.read_bytes() for path in (tmp_path / "s").rglob("*") if path.is_file())
    assert b"canary-471" not in held


CRASH = """
import os, signal, sys
from ipfs_kit import Kit
from ipfs_kit.monitoring.observer import snapshot
note = snapshot.Snapshot.note
def crash(self, **values):
    if values.get("compared_ns"):
        os.kill(os.getpid(), signal.SIGKILL)  # after the events are recorded, before the snapshot moves
    note(self, **values)
snapshot.Snapshot.note = crash
with Kit.open(sys.argv[1]) as kit:
    kit.observer.scan()
"""


def test_a_process_killed_after_recording_records_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with Kit.open(tmp_path / "s") as kit:
        kit.observer.watch(str(folder))
    for name in ("a", "b"):
        (folder / name).write_text(name)
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path / "s")], check=False)
    assert done.returncode == -signal.SIGKILL
    (folder / "c").write_text("c")
    with Kit.open(tmp_path / "s") as kit:
        assert told(kit.observer.changes()) == [("added", "outside", "a"), ("added", "outside", "b")]
        kit.observer.scan()
        assert [one.path for one in kit.observer.changes().changes] == ["c", "b", "a"]
        assert kit.store.verify().ok


def test_a_storm_is_recorded_up_to_a_bound_and_the_rest_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipfs_kit.operations.toolsets.observer.EVENTS_MAX", 5)
    folder = tmp_path / "out"
    folder.mkdir()
    with Kit.open(tmp_path / "s") as kit:
        kit.observer.watch(str(folder))
        for number in range(12):
            (folder / f"{number:02}").write_text("x")
        found = kit.observer.scan()
        assert (found.added, len(found.changes)) == (12, 5)
        newest = kit.observer.changes(limit=1).changes[0]
        assert (newest.change, newest.details) == ("more", {"added": 7, "modified": 0, "deleted": 0})
        assert kit.observer.scan().changes == []


FIGURE = "vfs_journal"


def test_figures_are_measured_or_unknown_and_advice_names_its_figure(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        empty = kit.observer.figures()
        assert (empty.cache_performance.hit_rate, empty.access_patterns.read_ms_mean) == (None, None)
        assert (empty.vector_index_status, empty.knowledge_base_status) == (None, None)
        assert {one.topic for one in empty.recommendations} <= {"cpu", "memory", "disk"}
        entries = [("cache_hit", None)] * 3 + [("cache_miss", None)] + [("read", 30.0), ("read", 10.0), ("write", 4.0)]
        kind = {"cache_hit": "cache_operations", "cache_miss": "cache_operations"}
        kit.stream.append(
            FIGURE,
            events=[
                {
                    "operation_type": kind.get(verb, "file_operations"),
                    "operation": verb,
                    "backend": "s3",
                    "path": "/hot",
                }
                | ({} if took is None else {"duration_ms": took})
                for verb, took in entries
            ],
        )
    with Kit.open(tmp_path / "s") as kit:
        figures = kit.observer.figures()
        assert (figures.cache_performance.hits, figures.cache_performance.hit_rate) == (3, 0.75)
        access = figures.access_patterns
        assert (access.reads, access.writes, access.read_ms_mean, access.write_ms_mean) == (2, 1, 20.0, 4.0)
        assert (access.hot[0].path, access.hot[0].count, access.bytes_read) == ("/hot", 3, None)
        advice = {one.topic: (one.figure, one.value, one.threshold) for one in figures.recommendations}
        assert advice["cache"] == ("hit_rate", 0.75, 0.8)
        assert advice["latency"] == ("read_ms_mean", 20.0, 10.0)
        with pytest.raises(InvalidInput):
            kit.observer.figures(hours=0)


class Reader(threading.Thread):
    """Lines of a process as they come, so that waiting for one has an end."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self.process, self.lines = process, queue.Queue[str]()
        self.start()

    def run(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)


@pytest.mark.slow
def test_the_command_tells_outside_edits_as_they_happen_and_ends_cleanly(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles", reason="pip install 'ipfs-kit-py[watch]'")
    folder = tmp_path / "out"
    folder.mkdir()
    with Kit.open(tmp_path / "s") as kit:
        kit.observer.watch(str(folder), ignore=["*.tmp"])
    (folder / "before").write_text("x")
    command = [sys.executable, "-m", "ipfs_kit", "--store", str(tmp_path / "s"), "--json", "observe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = Reader(process).lines
        assert json.loads(lines.get(timeout=60))["path"] == "before"  # from now on the system is listened to
        (folder / "x.tmp").write_text("x")
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "f").write_text("x")
        seen: set[str] = set()
        deadline = time.monotonic() + 60
        while "deep/er/f" not in seen and time.monotonic() < deadline:
            seen.add(json.loads(lines.get(timeout=60))["path"])
        assert seen == {"deep", "deep/er", "deep/er/f"}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    with Kit.open(tmp_path / "s") as kit:
        assert kit.observer.scan().changes == []
        assert len(kit.observer.changes().changes) == 4
        assert kit.store.verify().ok


NAMES = st.sampled_from(["a", "b", "d", "d/x", "d/y", "d/e", "d/e/z"])
STEPS = st.lists(st.tuples(st.sampled_from(["write", "mkdir", "remove", "link", "same"]), NAMES), max_size=12)


def tree(folder: Path) -> dict[str, tuple[str, object]]:
    found: dict[str, tuple[str, object]] = {}
    for path in sorted(folder.rglob("*")):
        kind = "symlink" if path.is_symlink() else "dir" if path.is_dir() else "file"
        content: object = path.readlink() if kind == "symlink" else path.read_bytes() if kind == "file" else None
        found[str(path.relative_to(folder))] = (kind, content)
    return found


def act(folder: Path, verb: str, name: str, number: int) -> None:
    path = folder / name
    if not path.parent.is_dir() or path.parent.is_symlink():
        return
    if verb == "remove" and path.is_dir() and not path.is_symlink():
        for below in sorted(path.rglob("*"), reverse=True):
            below.rmdir() if below.is_dir() and not below.is_symlink() else below.unlink()
        path.rmdir()
    elif verb == "remove":
        path.unlink(missing_ok=True)
    elif verb == "mkdir" and not os.path.lexists(path):
        path.mkdir()
    elif verb == "link" and not os.path.lexists(path):
        path.symlink_to(f"to-{number % 2}")
    elif verb == "write" and not path.is_dir() and not path.is_symlink():
        path.write_text(f"{number:04}"[-4:])
    elif verb == "same" and path.is_file() and not path.is_symlink():
        path.write_bytes(path.read_bytes())


@settings(max_examples=60, deadline=None)
@given(rounds=st.lists(STEPS, min_size=1, max_size=4))
def test_differences_of_two_comparisons_are_those_of_the_trees(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, str]]]
) -> None:
    base = tmp_path_factory.mktemp("tree")
    folder = base / "out"
    folder.mkdir()
    number = 0
    before: dict[str, tuple[str, object]] = {}
    for steps in rounds:
        for verb, name in steps:
            number += 1
            act(folder, verb, name, number)
        after = tree(folder)
        with Snapshot(str(base / "s.db")) as snapshot, snapshot.transaction():
            found = list(
                snapshot.compare(os.fsencode(folder), now_ns=time.time_ns(), rules=Rules(), met=Comparison(), check=id)
            )
        gone = {one.path.decode() for one in found if one.change == "deleted"}
        new = {one.path.decode() for one in found if one.change == "added"}
        changed = {one.path.decode() for one in found if one.change == "modified"}
        kinds = {name for name in before.keys() & after.keys() if before[name][0] != after[name][0]}
        assert gone == (before.keys() - after.keys()) | kinds
        assert new == (after.keys() - before.keys()) | kinds
        assert {name for name in before.keys() & after.keys() - kinds if before[name] != after[name]} <= changed
        assert changed <= before.keys() & after.keys()
        before = after
