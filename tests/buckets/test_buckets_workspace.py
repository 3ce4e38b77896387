"""Sessions: shared between stores, replayed after a crash, snapshotted, expired, kept by garbage collection roots."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from engine import SECOND, Engine

from ipfs_kit.buckets.workspace import SNAPSHOT_EVERY
from ipfs_kit.errors import Conflict, Expired, RefConflict, Stale
from ipfs_kit.ledger import Outcome

WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engine import Engine
engine = Engine(Path(sys.argv[2]))
for n in range(20):
    engine.run(lambda: engine.buckets.put_bytes(f"B:/{sys.argv[3]}/{n}", sys.argv[3].encode()))
engine.abandon()
"""


@pytest.fixture
def kit(tmp_path):
    engine = Engine(tmp_path / "store")
    engine.run(lambda: engine.buckets.create("B"))
    yield engine
    engine.close()


def test_several_processes_share_one_session(kit):
    here = str(Path(__file__).parent)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, here, str(kit.directory), name]) for name in ("one", "two")
    ]
    for n in range(20):
        kit.run(lambda n=n: kit.buckets.put_bytes(f"B:/me/{n}", b"me"))
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert {found.path for found in kit.buckets.walk("B:/") if found.kind == "file"} == {
        f"/{name}/{n}" for name in ("one", "two", "me") for n in range(20)
    }
    assert list(kit.buckets.verify()) == []


def test_an_effect_that_fails_leaves_memory_and_rows_as_they_were(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a", b"1"))

    def failing():
        effect = b.put_bytes("B:/b", b"2")

        def run(tx):
            effect(tx)
            raise Conflict("after the effect")

        return run

    with pytest.raises(Conflict):
        kit.run(failing)
    kit.run(lambda: b.put_bytes("B:/c", b"3"))
    assert [entry.name for entry in b.ls("B:/").entries] == ["a", "c"]
    assert isinstance(Outcome().value, type(None))


def test_opening_replays_at_most_the_effects_since_the_last_snapshot(kit, tmp_path):
    b = kit.buckets
    for n in range(SNAPSHOT_EVERY + 20):
        kit.run(lambda n=n: b.put_bytes(f"B:/f{n}", b"x"))
    root = b.root("B")
    rows = kit.state.query("SELECT max(seq) FROM snapshots")[0][0]
    assert rows >= SNAPSHOT_EVERY
    again = Engine(tmp_path / "store", kit.clock)
    again.buckets = type(b)(again.state, again.blocks, again.keys, again.clock)
    assert again.buckets.root("B") == root
    again.close()


def test_a_folder_changed_between_preparation_and_effect_is_merged_again(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/x/a", b"1"))
    kit.run(lambda: b.put_bytes("B:/y/b", b"2"))
    item = b.item_with_space("B:/y")[0]
    stale = b.put_entry("B:/x", item)
    kit.run(lambda: b.put_bytes("B:/x/late", b"3"))
    with pytest.raises(Stale):
        kit.run(lambda: stale)
    kit.run(lambda: b.put_entry("B:/x", item))
    assert [entry.name for entry in b.ls("B:/x").entries] == ["a", "b", "late"]


def test_commits_of_two_sessions_on_one_branch_conflict_until_merged(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a", b"1"))
    kit.run(lambda: b.commit("B", "one"))
    kit.run(lambda: b.session_create("B", "work"))
    kit.run(lambda: b.put_bytes("B#work:/w", b"2"))
    kit.run(lambda: b.commit("B#work", "two"))
    kit.run(lambda: b.put_bytes("B:/m", b"3"))
    assert not b.exists_at("B:/w")
    with pytest.raises(RefConflict):
        kit.run(lambda: b.commit("B", "three"))


def test_roots_keep_every_readable_state_complete(kit):
    b = kit.buckets
    for n in range(5):
        kit.run(lambda n=n: b.put_bytes("B:/d/f", b"%d" % n))
    kit.run(lambda: b.commit("B", "m"))
    kit.run(lambda: b.rm("B:/d", recursive=True))
    held = set()
    stack = list(b.roots(kit.clock()))
    from ipfs_kit.ipld.links import links

    while stack:
        cid = stack.pop()
        if cid not in held:
            held.add(cid)
            stack.extend(links(cid, kit.blocks.get(cid)))
    assert b.stat("B@main:/d/f").cid in held


def test_history_outside_the_horizon_expires_and_the_present_stays(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a", b"1"))
    old = kit.index
    kit.run(lambda: b.put_bytes("B:/a", b"2"))
    b.checkpoint()
    kit.clock.now_ns += 31 * 86_400 * SECOND
    kit.run(lambda: b.put_bytes("B:/b", b"3"))
    assert b.expire(kit.clock()) == 2
    with pytest.raises(Expired):
        b.cat(f"B@op:{old}:/a")
    assert (b.cat("B:/a"), b.cat("B:/b")) == (b"2", b"3")
    assert list(b.verify()) == []


def test_verify_names_a_missing_block(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/a", b"here"))
    kit.run(lambda: b.commit("B", "m"))
    cid = b.stat("B:/a").cid
    get = kit.blocks.get

    def without(wanted):
        if wanted == cid:
            from ipfs_kit.errors import BlockNotFound

            raise BlockNotFound(f"block {wanted} is not in the store")
        return get(wanted)

    kit.blocks.get = without
    findings = list(b.verify())
    del kit.blocks.get
    assert findings
    assert all(str(cid) in finding.fault for finding in findings)
