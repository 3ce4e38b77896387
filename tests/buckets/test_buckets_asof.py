"""Reads at commits, tags, ops and times."""

from __future__ import annotations

import pytest
from engine import Engine

from ipfs_kit.buckets.paths import format_time
from ipfs_kit.errors import BucketNotFound, RefNotFound


@pytest.fixture
def kit(tmp_path):
    engine = Engine(tmp_path / "store")
    engine.run(lambda: engine.buckets.create("B"))
    yield engine
    engine.close()


def test_every_kind_of_reference_reads_its_own_state(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/f", b"one"))
    first = kit.index
    time_ns = kit.clock()
    commit = kit.run(lambda: b.commit("B", "one")).commit
    committed = kit.index
    kit.run(lambda: b.tag_create("B", "v1"))
    kit.run(lambda: b.put_bytes("B:/f", b"two"))
    second = kit.index
    kit.run(lambda: b.commit("B", "two"))
    kit.run(lambda: b.session_create("B", "work"))
    kit.run(lambda: b.put_bytes("B#work:/f", b"work"))
    worked = kit.index
    kit.run(lambda: b.put_bytes("B:/f", b"three"))
    read = {
        ref: b.cat(f"{ref}:/f")
        for ref in (
            "B", "B@main", "B@v1", f"B@{commit}", f"B@op:{first}", f"B@op:{second}", f"B@main@op:{second}",
            f"B@main@op:{committed}", f"B#work@op:{worked}", "B#work", f"B@time:{format_time(time_ns)}",
        )
    }  # fmt: skip
    assert list(read.values()) == [
        b"three", b"two", b"one", b"one", b"one", b"two", b"one", b"one", b"work", b"work", b"one",
    ]  # fmt: skip


def test_states_that_never_were_are_not_found(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/f", b"one"))
    before = kit.index
    kit.run(lambda: b.commit("B", "one"))
    for ref in ("B@nothing", f"B@main@op:{before}", "B#nobody", "B@v1"):
        with pytest.raises(RefNotFound):
            b.root(ref)
    kit.run(lambda: b.create("C"))
    with pytest.raises(BucketNotFound):
        b.root(f"C@op:{before}")


def test_a_commit_of_another_bucket_is_not_read_through_this_one(kit):
    b = kit.buckets
    kit.run(lambda: b.create("C"))
    kit.run(lambda: b.put_bytes("C:/secret", b"x"))
    commit = kit.run(lambda: b.commit("C", "c")).commit
    with pytest.raises(RefNotFound):
        b.ls(f"B@{commit}:/")


def test_a_dropped_bucket_reads_at_an_op_before(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/f", b"one"))
    before = kit.index
    kit.run(lambda: b.delete("B", force=True))
    dropped = kit.index
    with pytest.raises(BucketNotFound):
        b.ls("B:/")
    assert b.cat(f"B@op:{before}:/f") == b"one"
    kit.run(lambda: b.undo(dropped))
    assert b.cat("B:/f") == b"one"
