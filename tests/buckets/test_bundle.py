"""A bucket with its history in one CAR: the same commits elsewhere, nothing before all of it is checked."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.buckets.bundle import decode_manifest
from ipfs_kit.errors import BudgetExceeded, Conflict, FormatError, KitError, NotFound, RefConflict, Unsupported
from ipfs_kit.ipld import CID, car, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_PB, RAW


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("b", metadata={"team": "red"})
        opened.files.mkdir("b:/d/e", parents=True)
        opened.files.write("b:/d/e/f", text="1", tags={"colour": "blue"})
        opened.files.write("b:/big", data=os.urandom(3 << 20))
        opened.versions.commit("b", message="one", metadata={"n": 1})
        opened.versions.tag_create("b", "v1")
        opened.versions.branch_create("b", "topic")
        opened.files.write("b:/d/e/f", text="2")
        opened.versions.commit("b", message="two")
        opened.versions.checkout("b", "topic")
        opened.files.write("b:/g", text="3")
        opened.versions.commit("b", message="three")
        opened.versions.checkout("b", "main")
        opened.versions.merge("b", "topic", message="merged")
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "other") as opened:
        yield opened


def refs(kit: Kit, bucket: str = "b") -> dict[str, Any]:
    found = [*kit.versions.branch_list(bucket).refs, *kit.versions.tag_list(bucket).refs]
    return {ref.name: ref.cid for ref in found}


def blocks_of(path: Path) -> tuple[CID, dict[CID, bytes]]:
    reader = car.read_car(path.read_bytes())
    return reader.roots[0], dict(reader)


def write(path: Path, root: CID, blocks: dict[CID, bytes]) -> Path:
    out = io.BytesIO()
    car.write_car(out, [root], blocks.items(), verify=False)
    path.write_bytes(out.getvalue())
    return path


def test_the_same_commits_trees_and_labels_come_out_elsewhere(kit: Kit, other: Kit, tmp_path: Path) -> None:
    told = kit.bucket.export("b", str(tmp_path / "b.car"))
    assert (told.commits, sorted(told.refs)) == (4, ["main", "topic", "v1"])
    done = other.bucket.import_(str(tmp_path / "b.car"), expect=told.cid)
    assert (done.created, done.commits, done.blocks) == (True, 4, told.blocks - 1)
    assert refs(other) == refs(kit)
    assert other.bucket.info("b").metadata == {"team": "red"}
    assert other.bucket.info("b").root == kit.bucket.info("b").root
    assert other.files.stat("b@v1:/d/e/f").tags == {"colour": "blue"}
    log, mine = other.versions.log("b").commits, kit.versions.log("b").commits
    assert [entry.cid for entry in log] == [entry.cid for entry in mine]
    assert {entry.message for entry in log} == {None}, "messages stay sealed under keys that are not here"
    other.files.write("b:/h", text="new here")
    assert other.versions.commit("b", message="goes on").created
    assert other.store.verify().ok
    again = other.bucket.import_(str(tmp_path / "b.car"), prefix="theirs/")
    assert (again.created, len(again.refs)) == (False, 3)


def test_what_came_since_is_small_and_needs_what_it_builds_on(kit: Kit, other: Kit, tmp_path: Path) -> None:
    whole = kit.bucket.export("b", str(tmp_path / "whole.car"))
    kit.files.write("b:/new", text="x")
    head = kit.versions.commit("b", message="later").commit
    since = [str(kit.versions.log("b").commits[1].cid)]
    part = kit.bucket.export("b", str(tmp_path / "part.car"), since=since, refs=["main"])
    assert part.commits == 1
    assert part.size < whole.size / 100
    with pytest.raises(NotFound, match="whole export"):
        other.bucket.import_(str(tmp_path / "part.car"))
    other.bucket.import_(str(tmp_path / "whole.car"), name="copy")
    done = other.bucket.import_(str(tmp_path / "part.car"))
    assert (done.bucket, done.refs) == ("copy", ["heads/main"])
    assert refs(other, "copy")["main"] == head
    assert other.versions.merge("copy", "main").commit == head
    assert other.files.read("copy:/new").read() == b"x"
    assert other.bucket.import_(str(tmp_path / "part.car")).refs == []
    assert other.store.verify().ok


def test_branches_that_went_different_ways_are_refused_by_name_or_kept_apart(
    kit: Kit, other: Kit, tmp_path: Path
) -> None:
    kit.bucket.export("b", str(tmp_path / "one.car"))
    other.bucket.import_(str(tmp_path / "one.car"))
    for each, text in ((kit, "mine"), (other, "theirs")):
        each.files.write(f"b:/{text}", text=text)
        each.versions.commit("b", message=text)
    kit.bucket.export("b", str(tmp_path / "two.car"))
    before = refs(other)
    with pytest.raises(RefConflict, match="heads/main"):
        other.bucket.import_(str(tmp_path / "two.car"))
    assert refs(other) == before
    other.bucket.import_(str(tmp_path / "two.car"), prefix="from-kit/")
    other.versions.merge("b", "from-kit/main")
    assert other.files.read("b:/mine").read() == b"mine"
    assert other.files.read("b:/theirs").read() == b"theirs"


def test_a_sealed_bucket_is_refused_and_a_deleted_one_is_not_taken_twice(kit: Kit, other: Kit, tmp_path: Path) -> None:
    kit.bucket.create("s", kind="sealed")
    kit.files.write("s:/f", text="secret")
    kit.versions.commit("s", message="m")
    with pytest.raises(Unsupported, match="sealed"):
        kit.bucket.export("s", str(tmp_path / "s.car"))
    assert not (tmp_path / "s.car").exists()
    kit.bucket.export("b", str(tmp_path / "b.car"))
    other.bucket.import_(str(tmp_path / "b.car"))
    other.bucket.delete("b", force=True)
    with pytest.raises(Conflict, match="undo that"):
        other.bucket.import_(str(tmp_path / "b.car"))


def test_every_cut_and_every_flipped_byte_is_refused_and_stores_nothing(kit: Kit, other: Kit, tmp_path: Path) -> None:
    kit.files.rm("b:/big")
    kit.versions.commit("b", message="small")
    kit.bucket.create("small")
    kit.files.write("small:/f", text="1")
    kit.versions.commit("small", message="one")
    kit.bucket.export("small", str(tmp_path / "good.car"))
    good = (tmp_path / "good.car").read_bytes()
    bad = tmp_path / "bad.car"
    before = other.store.info().blocks
    for at in range(0, len(good), 23):
        for data in (good[:at], good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]):
            bad.write_bytes(data)
            with pytest.raises(KitError):
                other.bucket.import_(str(bad))
    assert other.store.info().blocks == before
    assert other.bucket.list().buckets == []


def forged(change: Callable[[Any], None], which: Callable[[bytes], bool]) -> Callable[[CID, dict[CID, bytes]], CID]:
    """Change one dag-cbor block and every block above it, so that all addresses hold again."""

    def forge(root: CID, blocks: dict[CID, bytes]) -> CID:
        target = next(cid for cid, data in blocks.items() if cid.codec == DAG_CBOR and which(data))
        node = dag_cbor.decode(blocks[target])
        change(node)
        replaced = {target: dag_cbor.encode(node)}
        while True:
            moved = {old: CID.of(data, DAG_CBOR) for old, data in replaced.items()}
            for old, data in replaced.items():
                blocks.pop(old, None)
                blocks[moved[old]] = data
            if root in moved:
                return moved[root]
            above = {}
            for cid, data in list(blocks.items()):
                if cid.codec == DAG_CBOR and any(old.binary in data for old in moved):
                    for old, new in moved.items():
                        data = data.replace(old.binary, new.binary)
                    above[cid] = data
            assert above
            replaced = above

    return forge


def is_leaf(data: bytes) -> bool:
    node = dag_cbor.decode(data)
    return isinstance(node, list) and node[:2] == [1, 0] and bool(node[2]) and node[2][0][1] == 0


def is_commit(data: bytes) -> bool:
    node = dag_cbor.decode(data)
    return isinstance(node, dict) and "parents" in node


def is_manifest(data: bytes) -> bool:
    node = dag_cbor.decode(data)
    return isinstance(node, dict) and "refs" in node


def first_row(at: int, value: Any) -> Callable[[Any], None]:
    def change(node: Any) -> None:
        node[2][0][at] = value

    return change


def field(name: str, value: Any) -> Callable[[Any], None]:
    def change(node: Any) -> None:
        node[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "which"),
    [
        (first_row(3, 10**15), is_leaf),
        (first_row(4, 5), is_leaf),
        (first_row(0, b".."), is_leaf),
        (first_row(0, b"a/b"), is_leaf),
        (first_row(1, 1), is_leaf),
        (first_row(2, CID.of(b"elsewhere", RAW).binary), is_leaf),
        (first_row(6, {"mode": 0o4755, "evil": 1}), is_leaf),
        (first_row(6, {"tags": {"x": 1}}), is_leaf),
        (first_row(7, ["not a link", 0, 0]), is_leaf),
        (field("bucket", "another"), is_commit),
        (field("order", -5), is_commit),
        (field("root", CID.of(b"nowhere", DAG_PB)), is_commit),
        (field("meta", None), is_commit),
        (field("uid", "../../etc"), is_manifest),
        (field("name", "../x"), is_manifest),
        (field("refs", [["heads/../x", CID.of(b"x", DAG_CBOR)]]), is_manifest),
        (field("refs", []), is_manifest),
        (field("refs", [["heads/main", CID.of(b"absent", DAG_CBOR)]]), is_manifest),
        (field("profile", "unixfs-v0-2015"), is_manifest),
        (field("metadata", b"\xff"), is_manifest),
        (field("since", [CID.of(b"x", DAG_CBOR)]), is_manifest),
        (field("version", 2), is_manifest),
        (field("created_ns", -1), is_manifest),
    ],
)
def test_a_forged_car_whose_addresses_all_hold_is_refused(
    kit: Kit, other: Kit, tmp_path: Path, change: Callable[[Any], None], which: Callable[[bytes], bool]
) -> None:
    kit.bucket.create("small")
    kit.files.write("small:/f", text="1")
    kit.files.write("small:/g", text="22")
    kit.versions.commit("small", message="one")
    kit.bucket.export("small", str(tmp_path / "good.car"))
    root, blocks = blocks_of(tmp_path / "good.car")
    root = forged(change, which)(root, blocks)
    before = other.store.info().blocks
    with pytest.raises(KitError) as caught:
        other.bucket.import_(str(write(tmp_path / "bad.car", root, blocks)))
    assert caught.value.kind.value != "internal"
    assert other.store.info().blocks == before
    assert other.bucket.list().buckets == []


def test_an_index_that_could_be_walked_for_ever_is_refused_at_once(kit: Kit, other: Kit, tmp_path: Path) -> None:
    kit.bucket.create("small")
    kit.files.write("small:/f", text="1")
    kit.versions.commit("small", message="one")
    kit.bucket.export("small", str(tmp_path / "good.car"))
    root, blocks = blocks_of(tmp_path / "good.car")
    commit = next(cid for cid, data in blocks.items() if cid.codec == DAG_CBOR and is_commit(data))
    below = dag_cbor.encode([1, 0, []])
    for level in range(1, 31):
        cid = CID.of(below, DAG_CBOR)
        blocks[cid] = below
        below = dag_cbor.encode([1, level, [[b"%03d" % at, cid, 1, 1, 1] for at in range(512)]])
    blocks[CID.of(below, DAG_CBOR)] = below
    node = dag_cbor.decode(blocks.pop(commit))
    node["meta"] = CID.of(below, DAG_CBOR)
    data = dag_cbor.encode(node)
    manifest = dag_cbor.decode(blocks.pop(root))
    manifest["refs"] = [["heads/main", CID.of(data, DAG_CBOR)]]
    blocks[CID.of(data, DAG_CBOR)] = data
    told = dag_cbor.encode(manifest)
    blocks[CID.of(told, DAG_CBOR)] = told
    with pytest.raises(FormatError, match="holds nothing"):
        other.bucket.import_(str(write(tmp_path / "bomb.car", CID.of(told, DAG_CBOR), blocks)))


def test_more_refs_than_one_record_tells_are_imported_in_parts(kit: Kit, other: Kit, tmp_path: Path) -> None:
    for turn in range(120):
        kit.versions.tag_create("b", f"t{turn}")
    kit.bucket.export("b", str(tmp_path / "all.car"))
    with pytest.raises(BudgetExceeded, match="in parts"):
        other.bucket.import_(str(tmp_path / "all.car"))
    assert other.bucket.list().buckets == []
    kit.bucket.export("b", str(tmp_path / "some.car"), refs=["main", *(f"t{turn}" for turn in range(90))])
    other.bucket.import_(str(tmp_path / "some.car"))
    assert len(other.bucket.import_(str(tmp_path / "all.car")).refs) == 32
    assert refs(other) == refs(kit)
    assert other.store.verify().ok


def test_blocks_that_nothing_names_are_left_behind(kit: Kit, other: Kit, tmp_path: Path) -> None:
    kit.bucket.export("b", str(tmp_path / "b.car"))
    root, blocks = blocks_of(tmp_path / "b.car")
    stowaway = CID.of(b"stowaway", RAW)
    blocks[stowaway] = b"stowaway"
    other.bucket.import_(str(write(tmp_path / "more.car", root, blocks)))
    assert stowaway not in other.block.list().blocks
    assert decode_manifest(blocks[root]).name == "b"


CHILD = """
import os, signal, sys
from ipfs_kit import Kit
kit = Kit.open(sys.argv[1])
def stop(progress):
    if progress.note == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
kit.call_with("bucket.import", {"path": sys.argv[2]}, progress=stop)
"""


@pytest.mark.slow
@pytest.mark.parametrize("note", ["following commits", "storing blocks"])
def test_a_killed_import_leaves_nothing_to_see_and_is_run_again(kit: Kit, tmp_path: Path, note: str) -> None:
    for turn in range(300):
        kit.files.write(f"b:/f{turn}", text=str(turn))
    kit.versions.commit("b", message="many")
    kit.bucket.export("b", str(tmp_path / "b.car"))
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "other"), str(tmp_path / "b.car"), note], check=False, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL
    with Kit.open(tmp_path / "other") as other:
        assert other.bucket.list().buckets == []
        assert other.bucket.import_(str(tmp_path / "b.car")).created
        assert refs(other) == refs(kit)
        assert other.store.verify().ok
