"""Versions end to end, on a real store: branches, merges with named conflicts, revert, checkout, undo, ``as_of``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import Engine

from ipfs_kit.errors import Conflict, KitError, MergeConflict, PathNotFound, RefConflict, RefNotFound


class Bench:
    """A bucket ``b`` and short words for what is done to it."""

    def __init__(self, engine: Engine, kind: str) -> None:
        self.engine = engine
        self.buckets = engine.buckets
        self.run(lambda: self.buckets.create("b", kind=kind))

    def run(self, prepare: Callable[[], Any]) -> Any:
        return self.engine.run(prepare)

    def put(self, path: str, data: bytes, session: str = "b") -> int:
        self.run(lambda: self.buckets.put_bytes(f"{session}:{path}", data))
        return self.engine.index

    def commit(self, message: str = "m", session: str = "b") -> Any:
        return self.run(lambda: self.buckets.commit(session, message))

    def branch(self, name: str) -> None:
        """Make a branch here and a session of the same name on it."""
        self.run(lambda: self.buckets.branch_create("b", name))
        self.run(lambda: self.buckets.session_create("b", name, branch=name))

    def merge(self, source: str, **options: Any) -> Any:
        return self.run(lambda: self.buckets.merge("b", source, **options))

    def tree(self, ref: str = "b") -> dict[str, bytes]:
        """Every file of a state."""
        found = self.buckets.walk(f"{ref}:/")
        return {stat.path: self.buckets.cat(f"{ref}:{stat.path}") for stat in found if stat.kind == "file"}


@pytest.fixture(params=["open", "sealed"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    engine = Engine(tmp_path / "store")
    yield Bench(engine, request.param)
    engine.close()


def test_a_commit_is_read_back_by_branch_tag_and_cid(bench: Bench) -> None:
    bench.put("/d/f", b"one")
    first = bench.commit("first")
    bench.run(lambda: bench.buckets.tag_create("b", "v1"))
    bench.put("/d/f", b"two")
    assert bench.tree() == {"/d/f": b"two"}
    for ref in ("b@main", "b@v1", f"b@{first.commit}"):
        assert bench.tree(ref) == {"/d/f": b"one"}
    second = bench.commit("second")
    assert bench.tree("b@main") == {"/d/f": b"two"}
    assert bench.tree("b@v1") == {"/d/f": b"one"}
    log = bench.buckets.log("b")
    assert [(entry.cid, entry.message) for entry in log] == [(second.commit, "second"), (first.commit, "first")]
    assert log[0].parents == (first.commit,)
    assert bench.buckets.status("b").clean


def test_a_message_is_nowhere_in_the_store_in_clear(bench: Bench, tmp_path: Path) -> None:
    bench.put("/f", b"x")
    bench.commit("xyzzy-told-by-nobody")
    bench.engine.blocks.sync()
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert b"xyzzy-told-by-nobody" not in path.read_bytes(), path


def test_diff_and_status_name_exactly_what_changed(bench: Bench) -> None:
    bench.put("/keep", b"k")
    bench.put("/edit", b"1")
    bench.put("/drop", b"d")
    bench.commit()
    bench.put("/edit", b"2")
    bench.put("/new/f", b"n")
    bench.run(lambda: bench.buckets.rm("b:/drop"))
    wanted = {"/drop": "removed", "/edit": "modified", "/new": "added", "/new/f": "added"}
    status = bench.buckets.status("b")
    assert {change.path: change.change for change in status.changes} == wanted
    changes, more = bench.buckets.diff("b@main", "b")
    assert {change.path: change.change for change in changes} == wanted
    assert not more
    assert bench.buckets.diff("b@main", "b", limit=1)[1]


def test_branches_that_changed_apart_merge_into_a_commit_with_two_parents(bench: Bench) -> None:
    bench.put("/a", b"0")
    bench.put("/d/b", b"0")
    bench.commit("base")
    bench.branch("other")
    bench.put("/d/b", b"theirs", "b#other")
    theirs = bench.commit("theirs", "b#other")
    bench.put("/a", b"ours")
    ours = bench.commit("ours")
    merged = bench.merge("other")
    assert bench.tree() == bench.tree("b@main") == {"/a": b"ours", "/d/b": b"theirs"}
    assert bench.buckets.log("b")[0].parents == (ours.commit, theirs.commit)
    assert {entry.message for entry in bench.buckets.log("b")} >= {"base", "ours", "theirs"}
    assert not bench.merge("other").created
    # The branch merged in only follows.
    followed = bench.run(lambda: bench.buckets.merge("b#other", "main"))
    assert followed.commit == merged.commit


def test_conflicts_are_named_and_stop_the_whole_merge(bench: Bench) -> None:
    for path in ("/both", "/gone", "/dir/f", "/free"):
        bench.put(path, b"0")
    bench.commit()
    bench.branch("other")
    bench.put("/both", b"theirs", "b#other")
    bench.put("/gone", b"theirs", "b#other")
    bench.put("/free", b"theirs", "b#other")
    bench.put("/new", b"theirs", "b#other")
    bench.run(lambda: bench.buckets.rm("b#other:/dir", recursive=True))
    bench.put("/dir", b"now a file", "b#other")
    bench.commit("theirs", "b#other")
    bench.put("/both", b"ours")
    bench.put("/new", b"ours")
    bench.put("/dir/f", b"ours")
    bench.run(lambda: bench.buckets.rm("b:/gone"))
    bench.commit("ours")
    before = bench.tree(), bench.tree("b@main")
    with pytest.raises(MergeConflict) as caught:
        bench.merge("other")
    assert {each["path"]: each["kind"] for each in caught.value.details["conflicts"]} == {
        "/both": "both_modified",
        "/gone": "modify_delete",
        "/dir": "type_change",
        "/new": "both_added",
    }
    assert (bench.tree(), bench.tree("b@main")) == before
    bench.merge("other", strategy="theirs")
    assert bench.tree() == {
        "/both": b"theirs",
        "/gone": b"theirs",
        "/dir": b"now a file",
        "/new": b"theirs",
        "/free": b"theirs",
    }


def test_uncommitted_changes_stop_a_merge(bench: Bench) -> None:
    bench.put("/a", b"0")
    bench.commit()
    bench.branch("other")
    bench.put("/b", b"1", "b#other")
    bench.commit("theirs", "b#other")
    bench.put("/a", b"dirty")
    with pytest.raises(Conflict):
        bench.merge("other")
    assert bench.tree() == {"/a": b"dirty"}


def test_a_revert_takes_back_one_commit_and_keeps_later_ones(bench: Bench) -> None:
    bench.put("/a", b"0")
    bench.commit()
    bench.put("/a", b"bad")
    bad = bench.commit("bad")
    bench.put("/b", b"later")
    bench.commit("later")
    bench.run(lambda: bench.buckets.revert("b", str(bad.commit)))
    assert bench.tree("b@main") == {"/a": b"0", "/b": b"later"}
    assert not bench.run(lambda: bench.buckets.revert("b", str(bad.commit))).created


def test_a_revert_of_what_later_commits_changed_names_the_path(bench: Bench) -> None:
    bench.put("/a", b"0")
    bench.commit()
    bench.put("/a", b"bad")
    bad = bench.commit()
    bench.put("/a", b"built upon")
    bench.commit()
    with pytest.raises(MergeConflict) as caught:
        bench.run(lambda: bench.buckets.revert("b", str(bad.commit)))
    assert caught.value.details["paths"] == ["/a"]
    assert bench.tree() == {"/a": b"built upon"}


def test_reverting_the_first_commit_leaves_an_empty_bucket_with_its_history(bench: Bench) -> None:
    bench.put("/a", b"0")
    first = bench.commit()
    bench.run(lambda: bench.buckets.revert("b", str(first.commit)))
    assert bench.tree() == {}
    assert bench.tree(f"b@{first.commit}") == {"/a": b"0"}
    assert len(bench.buckets.log("b")) == 2


def test_checkout_restores_contents_and_refuses_to_lose_changes(bench: Bench) -> None:
    bench.put("/a", b"1")
    first = bench.commit()
    bench.put("/a", b"2")
    bench.put("/b", b"2")
    bench.commit()
    bench.put("/b", b"dirty")
    with pytest.raises(Conflict):
        bench.run(lambda: bench.buckets.checkout("b", str(first.commit)))
    assert bench.tree() == {"/a": b"2", "/b": b"dirty"}
    bench.run(lambda: bench.buckets.checkout("b", str(first.commit), force=True))
    assert bench.tree() == {"/a": b"1"}
    assert bench.tree("b@main") == {"/a": b"2", "/b": b"2"}


def test_a_commit_on_a_branch_that_moved_is_a_conflict_until_merged(bench: Bench) -> None:
    bench.put("/a", b"0")
    bench.commit()
    bench.run(lambda: bench.buckets.session_create("b", "two"))
    bench.put("/mine", b"1")
    bench.commit("mine")
    bench.put("/yours", b"2", "b#two")
    with pytest.raises(RefConflict):
        bench.commit("yours", "b#two")
    assert bench.tree("b@main") == {"/a": b"0", "/mine": b"1"}


def test_every_state_ever_is_read_at_its_op(bench: Bench) -> None:
    seen: list[tuple[int, dict[str, bytes], bytes | None]] = []
    for number in range(4):
        index = bench.put("/f", b"%d" % number)
        if number % 2:
            bench.commit()
            index = bench.engine.index
        committed = b"%d" % (number if number % 2 else number - 1) if number else None
        seen.append((index, bench.tree(), committed))
    for index, tree, committed in seen:
        assert bench.tree(f"b@op:{index}") == tree
        if committed is not None:
            assert bench.tree(f"b@main@op:{index}") == {"/f": committed}
    with pytest.raises(KitError):
        bench.tree("b@op:0@op:1")


def test_undo_of_each_op_in_turn_leads_back_to_the_first_root(bench: Bench) -> None:
    bench.put("/d/f", b"0")
    bench.put("/g", b"0")
    bench.commit()
    root = bench.buckets.root("b")
    ops = [bench.put("/d/f", b"1"), bench.put("/new/deep/x", b"1")]
    bench.run(lambda: bench.buckets.mv("b:/g", "b:/d/g"))
    ops.append(bench.engine.index)
    bench.run(lambda: bench.buckets.rm("b:/d", recursive=True))
    ops.append(bench.engine.index)
    for op in reversed(ops):
        bench.run(lambda op=op: bench.buckets.undo(op))
    assert bench.buckets.root("b") == root
    assert bench.tree() == {"/d/f": b"0", "/g": b"0"}


def test_undo_keeps_what_others_did_elsewhere_and_refuses_what_they_built_upon(bench: Bench) -> None:
    bench.put("/a", b"0")
    bench.put("/b", b"0")
    first, second = bench.put("/a", b"1"), bench.put("/b", b"1")
    bench.run(lambda: bench.buckets.undo(first))
    assert bench.tree() == {"/a": b"0", "/b": b"1"}
    bench.put("/b", b"2")
    with pytest.raises(MergeConflict) as caught:
        bench.run(lambda: bench.buckets.undo(second))
    assert caught.value.details["paths"] == ["/b"]
    assert bench.tree() == {"/a": b"0", "/b": b"2"}


def test_undo_of_a_commit_moves_the_branch_back_and_keeps_the_work(bench: Bench) -> None:
    bench.put("/a", b"0")
    first = bench.commit()
    bench.put("/a", b"1")
    bench.commit()
    bench.run(lambda: bench.buckets.undo(bench.engine.index))
    assert bench.tree("b@main") == {"/a": b"0"}
    assert bench.tree() == {"/a": b"1"}
    assert bench.buckets.info("b").head == first.commit
    assert not bench.buckets.status("b").clean


def test_a_deleted_branch_is_gone_and_can_be_made_again(bench: Bench) -> None:
    bench.put("/a", b"0")
    commit = bench.commit()
    bench.run(lambda: bench.buckets.branch_create("b", "x"))
    bench.run(lambda: bench.buckets.branch_delete("b", "x"))
    with pytest.raises(RefNotFound):
        bench.tree("b@x")
    bench.run(lambda: bench.buckets.branch_create("b", "x", at=str(commit.commit)))
    assert bench.tree("b@x") == {"/a": b"0"}
    assert [ref.name for ref in bench.buckets.branches("b").refs] == ["heads/main", "heads/x"]


def test_history_survives_a_reopened_store(tmp_path: Path) -> None:
    bench = Bench(Engine(tmp_path / "store"), "open")
    bench.put("/a", b"1")
    first = bench.commit("first")
    bench.put("/a", b"2")
    bench.engine.abandon()
    engine = Engine(tmp_path / "store")
    try:
        assert engine.buckets.cat("b:/a") == b"2"
        assert engine.buckets.cat("b@main:/a") == b"1"
        assert [entry.message for entry in engine.buckets.log("b")] == ["first"]
        assert engine.buckets.log("b")[0].cid == first.commit
        with pytest.raises(PathNotFound):
            engine.buckets.cat("b@main:/nothing")
    finally:
        engine.close()
