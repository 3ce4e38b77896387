"""File system journals: transactions whole or not at all, recovery of the exact state, damage that is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.errors import KitError, MergeConflict, PathNotFound, RefNotFound


def state(kit: Kit, transaction: str | None = None) -> dict[str, Any]:
    page = kit.journal.state("j", transaction=transaction)
    return {each.path: (each.kind, str(each.cid), each.metadata) for each in page.entries}


def content(kit: Kit, path: str) -> bytes:
    return bytes(kit.files.read(f"j:{path}").read())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("j")
    return tmp_path / "store"


def test_a_transaction_is_seen_by_itself_alone_until_it_commits(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.journal.apply("j", "create", "/a", text="one")
        begun = kit.journal.begin("j").transaction_id
        kit.journal.apply("j", "write", "/a", text="two", transaction=begun)
        kit.journal.apply("j", "create", "/d/b", text="b", transaction=begun)
        kit.journal.apply("j", "rename", "/d/b", target="/d/c", transaction=begun)
        assert content(kit, "/a") == b"one"
        assert set(state(kit)) == {"/a"}
        assert set(state(kit, begun)) == {"/a", "/d", "/d/c"}
    with Kit.open(store) as kit:  # a transaction lives across processes
        assert {e.status for e in kit.journal.entries("j").entries if e.transaction_id} == {"pending"}
        kit.journal.apply("j", "create", "/outside", text="o")
        kit.journal.commit("j", begun)
        assert content(kit, "/a") == b"two"
        assert set(state(kit)) == {"/a", "/d", "/d/c", "/outside"}
    with Kit.open(store) as kit:
        assert content(kit, "/d/c") == b"b"
        assert {e.status for e in kit.journal.entries("j").entries} == {"completed"}
        assert kit.store.verify().ok
        with pytest.raises(RefNotFound):
            kit.journal.commit("j", begun)


def test_a_rolled_back_transaction_leaves_nothing_but_its_entries(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.journal.apply("j", "create", "/a", text="one")
        before = state(kit)
        begun = kit.journal.begin("j").transaction_id
        kit.journal.apply("j", "delete", "/a", transaction=begun)
        kit.journal.apply("j", "create", "/n", text="n", transaction=begun)
        kit.journal.rollback("j", begun)
        assert state(kit) == before
    with Kit.open(store) as kit:
        assert state(kit) == before
        found = {e.path: e.status for e in kit.journal.entries("j").entries if e.transaction_id == begun}
        assert found == {"/a": "rolled_back", "/n": "rolled_back"}
        with pytest.raises(RefNotFound):
            kit.journal.apply("j", "create", "/late", text="x", transaction=begun)
        assert kit.store.verify().ok


def test_a_commit_over_another_change_of_the_same_path_is_refused_and_stays_open(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.journal.apply("j", "create", "/a", text="one")
        begun = kit.journal.begin("j").transaction_id
        kit.journal.apply("j", "write", "/a", text="in", transaction=begun)
        kit.journal.apply("j", "write", "/b", text="b", transaction=begun)
        kit.journal.apply("j", "write", "/a", text="out")
        with pytest.raises(MergeConflict):
            kit.journal.commit("j", begun)
        assert content(kit, "/a") == b"out"
        assert set(state(kit)) == {"/a"}
        kit.journal.rollback("j", begun)


def test_a_change_that_fails_leaves_a_failed_entry(store: Path) -> None:
    with Kit.open(store) as kit, pytest.raises(PathNotFound):
        kit.journal.apply("j", "delete", "/absent")
    with Kit.open(store) as kit:
        (entry,) = kit.journal.entries("j").entries
        assert (entry.operation_type, entry.path, entry.status) == ("delete", "/absent", "failed")


def test_every_entry_is_one_event_of_the_stream_with_the_change_in_the_same_record(store: Path) -> None:
    with Kit.open(store) as kit:
        before = kit.call("journal.apply", kind="create", journal="j", path="/a", text="one").index
        after = kit.call("journal.apply", kind="write", journal="j", path="/a", text="two").index
        assert before is not None
        assert after == before + 1
        shown = kit.ledger.show(f"main:{after}")
        assert (shown.operation, shown.effect is not None) == ("stream.append", True)
        rows = kit.ledger.sql("SELECT path, status, operation_type FROM journal ORDER BY time").rows
        assert [tuple(row) for row in rows] == [("/a", "completed", "create"), ("/a", "completed", "write")]


def test_pending_entries_are_settled_by_later_ones(store: Path) -> None:
    with Kit.open(store) as kit:
        one = kit.journal.add("j", "write", "/w", details={"why": "later"}).entry_id
        two = kit.journal.add("j", "write", "/v").entry_id
        assert kit.journal.recover("j").pending == [two, one]
        kit.journal.add("j", "write", "/w", status="completed", entry=one)
        kit.journal.apply("j", "write", "/v", text="v", entry=two)
    with Kit.open(store) as kit:
        found = {e.entry_id: (e.status, e.details) for e in kit.journal.entries("j").entries}
        assert found == {one: ("completed", {"why": "later"}), two: ("completed", {})}


def test_many_transactions_at_once_are_each_there_whole_or_not_at_all(store: Path) -> None:
    def work(worker: int) -> None:
        for at in range(4):
            begun = kit.journal.begin("j").transaction_id
            for n in range(3):
                kit.journal.apply("j", "write", f"/w{worker}/{at}-{n}", text="y", transaction=begun)
            (kit.journal.commit if at % 2 == 0 else kit.journal.rollback)("j", begun)

    with Kit.open(store) as kit:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
        expected = {f"/w{worker}/{at}-{n}" for worker in range(6) for at in (0, 2) for n in range(3)}
        assert {path for path, row in state(kit).items() if row[0] == "file"} == expected
        assert kit.journal.recover("j").rolled_back == []
        assert kit.store.verify().ok


def test_a_sealed_bucket_keeps_a_journal_too(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.call("bucket.create", name="s", kind="sealed")
        kit.journal.apply("s", "create", "/a", text="one")
        kit.journal.checkpoint("s")
        begun = kit.journal.begin("s").transaction_id
        kit.journal.apply("s", "write", "/a", text="two", transaction=begun)
        kit.journal.commit("s", begun)
    with Kit.open(store) as kit:
        assert kit.journal.recover("s").fell_back is None
        assert bytes(kit.files.read("s:/a").read()) == b"two"
        assert kit.store.verify().ok


CHILD = """
import os, sys
from ipfs_kit import Kit
kit = Kit.open(sys.argv[1])
kit.journal.apply("j", "create", "/before", text="b")
kit.journal.checkpoint("j")
kit.journal.apply("j", "create", "/right-after", text="r")
begun = kit.journal.begin("j").transaction_id
for at in range(5):
    kit.journal.apply("j", "create", f"/in-{at}", text="x", transaction=begun)
if sys.argv[2] == "commit":
    kit.journal.commit("j", begun)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["open", "commit"])
def test_kill_9_in_a_transaction_leaves_all_of_it_or_nothing(store: Path, end: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(store), end], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait(30)
    child.stdout.close()
    child.stdin.close()
    with Kit.open(store) as kit:
        found = kit.journal.recover("j")
        assert found.fell_back is None
        assert len(found.rolled_back) == (1 if end == "open" else 0)
        inside = {f"/in-{at}" for at in range(5)} if end == "commit" else set()
        assert set(state(kit)) == {"/before", "/right-after"} | inside
        statuses = {e.status for e in kit.journal.entries("j").entries if e.transaction_id}
        assert statuses == {"completed" if end == "commit" else "rolled_back"}
        assert kit.store.verify().ok


def flip(store: Path, needle: bytes) -> None:
    """Change one byte of what lies on disk wherever it holds this text."""
    hit = 0
    for path in store.rglob("*"):
        if path.is_file() and needle in (data := path.read_bytes()):
            at = data.index(needle)
            with path.open("r+b") as file:
                file.seek(at + 3)
                file.write(bytes([data[at + 3] ^ 1]))
            hit += 1
    assert hit


def test_a_damaged_file_falls_back_to_the_checkpoint_that_is_whole_and_says_so(store: Path) -> None:
    good, bad, later = (os.urandom(3000) for _ in range(3))
    with Kit.open(store) as kit:
        kit.journal.apply("j", "create", "/f", data=good)
        first = kit.journal.checkpoint("j").commit
        kit.journal.apply("j", "write", "/f", data=bad)
        second = kit.journal.checkpoint("j").commit
        kit.journal.apply("j", "create", "/right-after", data=later)
        kit.store.verify()
    flip(store, bad[:64])
    with Kit.open(store) as kit:
        found = kit.journal.recover("j")
        assert found.checkpoint == first
        assert len(found.damaged) == 1
        assert str(second) in found.damaged[0]
        assert "/f" in (found.fell_back or "")
        assert found.lost == ["/f"]
    with Kit.open(store) as kit:
        assert content(kit, "/f") == good
        assert content(kit, "/right-after") == later
        again = kit.journal.recover("j")
        assert again.fell_back is None
        assert again.lost == []
        told = next(e for e in kit.stream.query("journal", text="fell_back").rows)
        assert told.event is not None
        assert told.event["details"]["lost"] == ["/f"]
        assert kit.journal.checkpoint("j").created


@pytest.mark.parametrize("part", ["commit", "root", "index"])
def test_a_damaged_checkpoint_is_named_and_later_checkpoints_work(store: Path, part: str) -> None:
    with Kit.open(store) as kit:
        kit.journal.apply("j", "create", "/f", text="one")
        first = kit.journal.checkpoint("j").commit
        kit.journal.apply("j", "write", "/f", text="two")
        second = kit.journal.checkpoint("j").commit
        kit.journal.apply("j", "create", "/after", text="later")
        assert second is not None
        buckets = kit.engine.buckets
        root = buckets.commit_root(buckets.workspace("j").space, second)
        cid = {"commit": second, "root": root.cid, "index": root.meta}[part]
        assert cid is not None
        raw = bytes(kit.engine.blocks.get(cid))
    flip(store, raw)
    with Kit.open(store) as kit:
        found = kit.journal.recover("j")
        assert (found.checkpoint, found.lost, len(found.damaged)) == (first, [], 1)
        assert (content(kit, "/f"), content(kit, "/after")) == (b"two", b"later")
    with Kit.open(store) as kit:
        again = kit.journal.recover("j")
        assert (again.fell_back, again.damaged) == (None, [])
        assert kit.journal.checkpoint("j").created
        assert kit.journal.recover("j").checkpoint not in (first, second)


KINDS = st.sampled_from(
    ["create", "write", "delete", "rename", "metadata", "mkdir", "checkpoint", "reopen", "tx", "abort"]
)
PATHS = st.sampled_from(["/a", "/b", "/d/a", "/d/b"])


def _attempt(kit: Kit, kind: str, path: str, other: str, at: int, transaction: str | None) -> None:
    given: dict[str, Any] = {"transaction": transaction}
    if kind in ("create", "write"):
        given["text"] = f"content {at}"
    if kind == "mkdir":
        kind, given["directory"] = "create", True
    if kind == "rename":
        given["target"] = other
    if kind == "metadata":
        given["metadata"] = {"n": at}
    kit.journal.apply("j", kind, path, **given)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(KINDS, PATHS, PATHS), max_size=14))
def test_whatever_is_done_recovery_after_a_restart_gives_the_exact_state(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    store = tmp_path_factory.mktemp("property") / "store"
    kit = Kit.open(store)
    kit.bucket.create("j")
    for at, (kind, path, other) in enumerate(steps):
        if kind == "checkpoint":
            kit.journal.checkpoint("j")
        elif kind == "reopen":
            kit.close()
            kit = Kit.open(store)
        elif kind in ("tx", "abort"):
            before = state(kit)
            begun = kit.journal.begin("j").transaction_id
            kit.journal.apply("j", "write", path, text=f"tx {at}", transaction=begun) if path not in {
                p for p, row in before.items() if row[0] == "dir"
            } else None
            within = state(kit, begun)
            (kit.journal.commit if kind == "tx" else kit.journal.rollback)("j", begun)
            assert state(kit) == (within if kind == "tx" else before)
        else:
            before = state(kit)
            try:
                _attempt(kit, kind, path, other, at, None)
            except KitError:
                assert state(kit) == before
    last, root = state(kit), kit.journal.state("j").root
    kit.close()
    with Kit.open(store) as kit:
        found = kit.journal.recover("j")
        assert (found.fell_back, found.lost, found.damaged) == (None, [], [])
        assert state(kit) == last
        assert kit.journal.state("j").root == root
