"""Undo: three-way, all or nothing, refs by compare-and-swap."""

from __future__ import annotations

import pytest
from engine import Engine

from ipfs_kit.errors import KitError, MergeConflict, OpNotFound, RefConflict


@pytest.fixture
def kit(tmp_path):
    engine = Engine(tmp_path / "store")
    engine.run(lambda: engine.buckets.create("B"))
    yield engine
    engine.close()


def op(kit, prepare):
    kit.run(prepare)
    return kit.index


def test_edits_undone_in_reverse_give_the_first_root_again(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/d/a", b"1"))
    kit.run(lambda: b.put_bytes("B:/d/b", b"2"))
    root = b.root("B")
    done = [
        op(kit, lambda: b.put_bytes("B:/d/a", b"changed")),
        op(kit, lambda: b.rm("B:/d/b")),
        op(kit, lambda: b.mv("B:/d", "B:/moved")),
        op(kit, lambda: b.cp("B:/moved", "B:/copy")),
        op(kit, lambda: b.rm("B:/moved", recursive=True)),
        op(kit, lambda: b.mkdir("B:/x/y/z", parents=True)),
    ]
    for index in reversed(done):
        kit.run(lambda index=index: b.undo(index))
    assert b.root("B") == root


def test_an_older_edit_is_undone_beside_later_ones(kit):
    b = kit.buckets
    index = op(kit, lambda: b.put_bytes("B:/d/a", b"1"))
    kit.run(lambda: b.put_bytes("B:/d/b", b"2"))
    with pytest.raises(MergeConflict):
        kit.run(lambda: b.undo(index))  # it made the folder that the later one needs
    change = op(kit, lambda: b.put_bytes("B:/d/a", b"3"))
    kit.run(lambda: b.put_bytes("B:/d/b", b"4"))
    kit.run(lambda: b.undo(change))
    assert (b.cat("B:/d/a"), b.cat("B:/d/b")) == (b"1", b"4")


def test_a_conflict_stops_all_of_it(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a", b"1"))
    index = op(kit, lambda: b.put_bytes("B:/a", b"2"))
    kit.run(lambda: b.put_bytes("B:/a", b"3"))
    root = b.root("B")
    with pytest.raises(MergeConflict) as caught:
        kit.run(lambda: b.undo(index))
    assert caught.value.details["paths"] == ["/a"]
    assert b.root("B") == root


def test_commits_and_branches_are_undone_by_compare_and_swap(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a", b"1"))
    first = kit.run(lambda: b.commit("B", "one")).commit
    kit.run(lambda: b.put_bytes("B:/a", b"2"))
    second = op(kit, lambda: b.commit("B", "two"))
    branch = op(kit, lambda: b.branch_create("B", "dev"))
    kit.run(lambda: b.undo(second))
    status = b.status("B")
    assert status.head == first
    assert [change.path for change in status.changes] == ["/a"]
    kit.run(lambda: b.undo(branch))
    assert [ref.name for ref in b.branches("B").refs] == ["heads/main"]
    kit.run(lambda: b.commit("B", "two again"))
    with pytest.raises(RefConflict):
        kit.run(lambda: b.undo(second))


def test_an_undo_can_be_undone_and_reads_cannot(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a", b"1"))
    index = op(kit, lambda: b.put_bytes("B:/a", b"2"))
    undone = op(kit, lambda: b.undo(index))
    assert b.cat("B:/a") == b"1"
    kit.run(lambda: b.undo(undone))
    assert b.cat("B:/a") == b"2"
    with pytest.raises(OpNotFound):
        kit.run(lambda: b.undo(10_000))
    with pytest.raises(KitError):
        kit.run(lambda: b.undo(0))
