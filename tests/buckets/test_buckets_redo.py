"""Every operation that declares an undo: done, undone, redone, undone again, the store as it must be each time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import Conflict
from ipfs_kit.operations.catalogue import CATALOGUE


def commit(kit: Kit, message: str) -> Any:
    return kit.versions.commit("B", message=message).commit


def start(kit: Kit, folder: Path) -> dict[str, Any]:
    """Two branches, a tag, files, pins, and things outside to bring in."""
    kit.bucket.create("B")
    kit.files.write("B:/d/one", text="1")
    kit.files.write("B:/e/two", text="2")
    first = commit(kit, "first")
    kit.versions.tag_create("B", "v1")
    kit.versions.branch_create("B", "dev")
    kit.versions.checkout("B", "dev")
    kit.files.write("B:/d/dev", text="dev")
    dev = commit(kit, "dev")
    kit.versions.checkout("B", "main")
    kit.versions.branch_create("B", "idle", at="dev")
    kit.files.write("B:/d/one", text="changed")
    second = commit(kit, "second")
    kit.files.mkdir("B:/empty")
    commit(kit, "third")
    local = folder / "local"
    (local / "sub").mkdir(parents=True)
    (local / "sub" / "file").write_bytes(b"from outside")
    (local / "dot").write_bytes(b".")
    kit.car.export(str(kit.files.stat("B:/d").cid), str(folder / "some.car"))
    kit.pin.add(str(kit.files.stat("B:/e").cid), name="kept")
    kit.pin.add(str(kit.files.stat("B:/d/one").cid), kind="direct")
    kit.bucket.create("other")
    kit.versions.protect("B", "release-*")
    kit.versions.rule_set("B", "none", paths=["/nowhere"], deny=True)
    kit.stream.append("alerts", events=[{"rule": "r", "state": "raised"}])
    kit.ledger.publication_create("alerts")
    kit.stream.append("alerts", events=[{"rule": "r", "state": "cleared"}])
    kit.metadata.add(records=[{"cid": str(first), "tags": ["old"], "access_count": 3, "properties": {"k": "v"}}])
    kit.bucket.export("B", str(folder / "B.car"), since=["main"])
    kit.dataset.create("data")
    kit.dataset.append("data", rows=[{"id": 1}])
    (folder / "rows.jsonl").write_text('{"id": 3}\n{"id": 4}\n')
    with Kit.open(folder / "elsewhere") as far:
        far.bucket.create("far")
        far.files.write("far:/f", text="far")
        far.versions.commit("far", message="far")
        far.bucket.export("far", str(folder / "far.car"))
    return {
        "bundle": str(folder / "far.car"),
        "since": str(folder / "B.car"),
        "first": first,
        "second": second,
        "dev": dev,
        "local": str(local),
        "rows": str(folder / "rows.jsonl"),
        "car": str(folder / "some.car"),
    }


def seen(kit: Kit) -> dict[str, Any]:
    """All that an undoable operation may change."""
    b = kit.engine.buckets
    found: dict[str, Any] = {"pins": sorted((str(p.cid), p.kind, p.name or "") for p in kit.pin.list().pins)}
    # When a record was stated last is no part of what it says: an undo states it again.
    found["metadata"] = [record | {"indexed_at": None} for record in kit.metadata.query().records]
    for info in kit.bucket.list().buckets:
        root = b.root_item(info.name)
        status = b.status(info.name)
        found[info.name] = (
            root.binary,
            root.meta,
            status.branch,
            status.head,
            [(ref.name, ref.cid) for ref in kit.versions.branch_list(info.name).refs],
            [(ref.name, ref.cid) for ref in kit.versions.tag_list(info.name).refs],
            b.settings(info.name).encode(),
        )
    return found


Do = Callable[[Kit, dict[str, Any]], tuple[str, dict[str, Any]]]
CASES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "bucket.create": lambda s: {"name": "fresh"},
    "bucket.delete": lambda s: {"name": "B", "force": True},
    "bucket.import": lambda s: {"path": s["bundle"]},
    "bucket.import of what came since": lambda s: {"path": s["since"], "prefix": "theirs/"},
    "bucket.set_quota": lambda s: {"name": "B", "size_bytes": 10**9, "entries": 1000},
    "car.import": lambda s: {"path": s["car"]},
    "dataset.append": lambda s: {"dataset": "data", "rows": [{"id": 2}]},
    "dataset.create": lambda s: {"dataset": "more"},
    "dataset.put": lambda s: {"source": s["rows"], "dataset": "data"},
    "files.append": lambda s: {"path": "B:/d/one", "text": "more"},
    "files.cp": lambda s: {"source": "B:/d", "destination": "B:/copy"},
    "files.edit": lambda s: {"path": "B:/d/one", "old": "ang", "new": "ung"},
    "files.mkdir": lambda s: {"path": "B:/x/y", "parents": True},
    "files.mv": lambda s: {"source": "B:/d", "destination": "B:/e/inner"},
    "files.put": lambda s: {"source": s["local"], "path": "B:/d"},
    "files.rm": lambda s: {"path": "B:/d", "recursive": True},
    "files.rmdir": lambda s: {"path": "B:/empty"},
    "files.set_metadata": lambda s: {"path": "B:/d/one", "tags": {"colour": "blue"}},
    "files.write": lambda s: {"path": "B:/d/one", "text": "other"},
    "ledger.publication_create": lambda s: {"log": "main"},
    "metadata.add": lambda s: {"records": [{"cid": str(s["first"]), "tags": ["new"]}, {"cid": str(s["dev"])}]},
    "metadata.delete": lambda s: {"cid": str(s["first"])},
    "metadata.publish": lambda s: {},
    "metadata.touch": lambda s: {"cid": str(s["first"]), "access": "pin"},
    "pin.add": lambda s: {"path": str(s["first"])},
    "pin.rm": lambda s: {"pin": "kept"},
    "store.add": lambda s: {"path": s["local"]},
    "versions.branch_create": lambda s: {"bucket": "B", "name": "extra"},
    "versions.branch_delete": lambda s: {"bucket": "B", "name": "idle"},
    "versions.checkout": lambda s: {"bucket": "B", "target": "dev"},
    "versions.cherry_pick": lambda s: {"bucket": "B", "commit": str(s["dev"])},
    "versions.commit": lambda s: {"bucket": "B", "message": "uncommitted"},
    "versions.merge": lambda s: {"bucket": "B", "source": "dev"},
    "versions.protect": lambda s: {"bucket": "B", "branch": "idle", "merges_only": True},
    "versions.rebase": lambda s: {"bucket": "B", "onto": "dev"},
    "versions.reset": lambda s: {"bucket": "B", "target": str(s["first"])},
    "versions.reset --hard": lambda s: {"bucket": "B", "target": str(s["first"]), "hard": True},
    "versions.rule_delete": lambda s: {"bucket": "B", "name": "none"},
    "versions.rule_set": lambda s: {"bucket": "B", "name": "small", "max_bytes": 10**6},
    "versions.unprotect": lambda s: {"bucket": "B", "branch": "release-*"},
    "versions.snapshot": lambda s: {"folder": s["local"], "bucket": "B"},
    "versions.restore": lambda s: {"path": "B:/d/one", "source": str(s["first"])},
    "versions.revert": lambda s: {"bucket": "B", "commit": str(s["second"])},
    "versions.tag_create": lambda s: {"bucket": "B", "name": "v2"},
    "versions.tag_delete": lambda s: {"bucket": "B", "name": "v1"},
    # Variants of the above that take another way through undo.
    "files.mv between buckets": lambda s: {"source": "B:/d", "destination": "other:/d"},
    "dataset.put in place of all": lambda s: {"source": s["rows"], "dataset": "data", "mode": "replace"},
    "files.put of a file": lambda s: {"source": s["local"] + "/dot", "path": "B:/dot"},
    "files.write of a new file": lambda s: {"path": "B:/n/e/w", "text": "new"},
    "versions.checkout of a commit": lambda s: {"bucket": "B", "target": str(s["first"])},
    "bucket.delete of an empty one": lambda s: {"name": "other"},
    "store.add without a pin": lambda s: {"path": s["local"], "pin": False},
    "car.import without pins": lambda s: {"path": s["car"], "pin": False},
    "pin.add that renames": lambda s: {"path": str(s["first"]), "name": "kept", "replace": True},
    "pin.add of a pin that is there": lambda s: {"path": "@direct"},
    "ledger.publication_create again": lambda s: {"stream": "alerts"},
    "pin.rm by CID": lambda s: {"pin": "@direct"},
}
NO_CHANGE = {"store.add without a pin", "car.import without pins"}


def test_every_undoable_operation_has_a_case() -> None:
    undoable = {op.name for op in CATALOGUE.values() if op.undo} - {"versions.undo"}
    assert undoable == {name for name in CASES if " " not in name}


@pytest.fixture(scope="module")
def kit_and_start(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("redo")
    with Kit.open(folder / "store") as kit:
        yield kit, start(kit, folder)


@pytest.mark.parametrize("name", CASES)
def test_done_undone_redone_and_undone_again(kit_and_start: tuple[Kit, dict[str, Any]], name: str) -> None:
    kit, made = kit_and_start
    given = CASES[name](made)
    if "@direct" in given.values():
        given = {
            key: str(kit.files.stat("B:/d/one").cid) if value == "@direct" else value for key, value in given.items()
        }
    staged = kit.call("files.write", path="B:/staged", text="s").op_id if name == "versions.commit" else None
    before = seen(kit)
    op = kit.call(name.partition(" ")[0], **given).op_id
    after = seen(kit)
    assert (after != before) == (name not in NO_CHANGE)
    for expected in (before, after, before, after, before):
        op = kit.call("versions.undo", op=str(op)).op_id
        assert seen(kit) == expected
    if staged:
        kit.versions.undo(str(staged))


def test_a_bucket_brought_back_and_changed_is_not_dropped_again(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("B")
        kit.files.write("B:/a", text="1")
        dropped = kit.call("bucket.delete", name="B", force=True)
        back = kit.call("versions.undo", op=dropped.op_id)
        with pytest.raises(Conflict, match="taken back by op"):
            kit.versions.undo(str(dropped.op_id))
        kit.files.write("B:/b", text="2")
        with pytest.raises(Conflict, match="changed since"):
            kit.versions.undo(str(back.op_id))
        assert kit.files.read("B:/b").read() == b"2"


def test_a_state_between_deletion_and_return_has_no_bucket(tmp_path: Path) -> None:
    from ipfs_kit.errors import BucketNotFound

    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("B")
        kit.files.write("B:/a", text="1")
        dropped = kit.call("bucket.delete", name="B", force=True)
        back = kit.call("versions.undo", op=dropped.op_id)
        with pytest.raises(BucketNotFound):
            kit.files.read(f"B@op:{dropped.index}:/a")
        assert kit.files.read(f"B@op:{back.index}:/a").read() == b"1"
        assert kit.files.read(f"B@op:{dropped.index - 1}:/a").read() == b"1"
