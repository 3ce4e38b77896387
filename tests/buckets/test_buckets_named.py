"""Every CID that an answer names is in the store with all below it, before any commit or snapshot."""

from __future__ import annotations

import pytest
from engine import Engine

from ipfs_kit.ipld.walk import blocks as walk_blocks


@pytest.fixture
def kit(tmp_path):
    engine = Engine(tmp_path / "store")
    engine.run(lambda: engine.buckets.create("B"))
    yield engine
    engine.close()


def whole(kit, *cids):
    """How many blocks the graphs have, read from the store alone and not through the bucket."""
    return [sum(1 for _ in walk_blocks([cid], kit.blocks.get)) for cid in cids]


def test_folders_with_uncommitted_changes_resolve_by_the_cid_that_a_read_names(kit):
    b = kit.buckets
    for number in range(3):
        kit.run(lambda number=number: b.put_bytes(f"B:/a/b/{number}", b"x"))
        assert whole(kit, b.stat("B:/").cid) == [4]
        assert whole(kit, *(each.cid for each in b.ls("B:/").entries)) == [3]
    kit.run(lambda: b.put_bytes("B:/a/b/0", b"more"))
    assert whole(kit, b.root("B"), b.status("B").root, b.info("B").root) == [5, 5, 5]
    kit.run(lambda: b.put_bytes("B:/a/b/1", b"other"))
    assert whole(kit, *(each.cid for each in b.walk("B:/"))) == [5, 4, 1, 1, 1]
    changes = b.status("B").changes
    assert whole(kit, *(each.after for each in changes)) == [5, 4, 1, 1, 1]


def test_mutations_name_folders_that_resolve_also_when_they_changed_nothing(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a/b/0", b"x"))
    there = kit.run(lambda: b.mkdir("B:/a/b", exist_ok=True))
    assert whole(kit, there.cid, there.before) == [2, 2]
    kit.run(lambda: b.put_bytes("B:/a/b/1", b"y"))
    moved = kit.run(lambda: b.mv("B:/a", "B:/z"))
    assert whole(kit, moved.cid) == [4]
    kit.run(lambda: b.put_bytes("B:/z/b/2", b"z"))
    same = kit.run(lambda: b.put_entry("B:/z", b.item_with_space("B:/z")[0]))
    assert whole(kit, same.cid) == [5]
    kit.run(lambda: b.put_bytes("B:/z/b/3", b"zz"))
    removed = kit.run(lambda: b.rm("B:/z", recursive=True))
    assert whole(kit, removed.before) == [6]
