"""The Python view: one call is one record, keys make repeats safe, undo gives the state before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import Denied, IdempotencyMismatch, InvalidInput, KitError, PathNotFound, ReadOnly
from ipfs_kit.operations.principal import Principal


@pytest.fixture
def kit(tmp_path: Path) -> Any:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("docs")
        opened.files.write("docs:/a", text="one")
        opened.versions.commit("docs", message="first")
        yield opened


def sizes(kit: Kit) -> tuple[int, int]:
    kit.engine.ledger.flush()
    return kit.engine.ledger.size("main"), kit.engine.ledger.size("bulk")


def test_each_call_is_one_record_also_when_it_fails(kit: Kit) -> None:
    main, bulk = sizes(kit)
    kit.files.write("docs:/b", text="two")
    assert sizes(kit) == (main + 1, bulk)
    kit.files.read("docs:/b")
    with pytest.raises(PathNotFound) as caught:
        kit.files.read("docs:/none")
    assert sizes(kit) == (main + 1, bulk + 2)
    assert caught.value.op is not None
    assert kit.ledger.show(caught.value.op).error_kind == "path_not_found"
    with pytest.raises(InvalidInput):
        kit.call("files.write", path="docs:/b", nonsense=1)
    assert sizes(kit)[0] == main + 2


def test_denied_read_is_recorded_in_the_main_log(kit: Kit) -> None:
    eve = Principal("eve", frozenset({"files:write"}))
    with Kit.open(kit.engine.path, principal=eve) as hers, pytest.raises(Denied) as caught:
        hers.files.read("docs:/a")
    shown = kit.ledger.show(str(caught.value.op))
    assert (shown.op[:5], shown.status, shown.actor_name) == ("main:", "denied", "eve")


def test_arguments_are_sealed_at_rest_readable_here_and_content_is_left_out(kit: Kit) -> None:
    result = kit.call("files.write", path="docs:/very-private-name", text="very-private-content")
    shown = kit.ledger.show(str(result.op_id))
    assert shown.args == {"path": "docs:/very-private-name", "text": {"length": 20}}
    kit.engine.ledger.publish()
    stored = b"".join(
        p.read_bytes() for d in ("ledger", ".") for p in (kit.engine.path / d).glob("**/*" if d != "." else "state.db*")
        if p.is_file()
    )  # fmt: skip
    assert b"very-private-content" not in stored
    assert shown.op_id == result.op_id


def test_read_only_store_reads_records_nothing_and_refuses_writes(kit: Kit) -> None:
    before = sizes(kit)
    with Kit.open(kit.engine.path, read_only=True) as reader:
        assert reader.call("files.read", path="docs:/a").ack == "none"
        with pytest.raises(ReadOnly):
            reader.files.write("docs:/x", text="y")
    assert sizes(kit) == before


def test_two_handles_close_in_any_order(tmp_path: Path) -> None:
    one, two = Kit.open(tmp_path / "s"), Kit.open(tmp_path / "s")
    assert one.engine is two.engine
    one.close()
    one.close()
    two.bucket.create("docs")
    two.close()
    with Kit.open(tmp_path / "s") as again:
        assert [bucket.name for bucket in again.bucket.list().buckets] == ["docs"]
    with pytest.raises(KitError):
        two.bucket.list()


def test_sixteen_threads_lose_nothing(kit: Kit) -> None:
    main = sizes(kit)[0]

    def work(number: int) -> None:
        for turn in range(5):
            kit.files.write(f"docs:/t{number}-{turn}", text="x")
            assert kit.files.read(f"docs:/t{number}-{turn}").read() == b"x"

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(kit.files.list("docs:/").entries) == 81
    assert sizes(kit)[0] == main + 80


def test_key_gives_the_first_result_also_to_a_concurrent_duplicate_and_after_restart(kit: Kit) -> None:
    barrier = threading.Barrier(8)
    call = {"path": "docs:/log", "text": "x"}

    def append(_: int) -> str:
        barrier.wait()
        return str(kit.call_with("files.append", call, idempotency_key="k").op_id)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(append, range(8)))) == 1
    assert kit.files.read("docs:/log").read() == b"x"
    path = kit.engine.path
    kit.close()
    with Kit.open(path) as again:
        assert again.call_with("files.append", call, idempotency_key="k").replayed
        with pytest.raises(IdempotencyMismatch):
            again.call_with("files.append", {**call, "text": "y"}, idempotency_key="k")
        assert again.files.read("docs:/log").read() == b"x"


def test_node_of_a_folder_reads_as_the_data_model_says(kit: Kit) -> None:
    root = kit.versions.log("docs").commits[0].root
    [link] = kit.dag.get(str(root))["Links"]
    assert link["Name"] == "a"
    assert link["Hash"] == {"/": str(kit.files.stat("docs:/a").cid)}


UNDOABLE: dict[str, Callable[[Kit], dict[str, Any]]] = {
    "bucket.create": lambda kit: {"name": "new"},
    "bucket.delete": lambda kit: {"name": "docs", "force": True},
    "files.write": lambda kit: {"path": "docs:/a", "text": "two"},
    "files.append": lambda kit: {"path": "docs:/a", "text": "two"},
    "files.edit": lambda kit: {"path": "docs:/a", "old": "one", "new": "two"},
    "files.mkdir": lambda kit: {"path": "docs:/new"},
    "files.rm": lambda kit: {"path": "docs:/d", "recursive": True},
    "files.rmdir": lambda kit: {"path": "docs:/empty"},
    "files.mv": lambda kit: {"source": "docs:/a", "destination": "docs:/z"},
    "files.cp": lambda kit: {"source": "docs:/d", "destination": "docs:/e"},
    "files.set_metadata": lambda kit: {"path": "docs:/a", "tags": {"k": "v"}},
    "versions.commit": lambda kit: {"bucket": "docs", "message": "second"},
    "versions.branch_create": lambda kit: {"bucket": "docs", "name": "new"},
    "versions.branch_delete": lambda kit: {"bucket": "docs", "name": "side", "force": True},
    "versions.tag_create": lambda kit: {"bucket": "docs", "name": "new"},
    "versions.tag_delete": lambda kit: {"bucket": "docs", "name": "old"},
    "versions.checkout": lambda kit: {"bucket": "docs", "target": "side", "force": True},
    "versions.restore": lambda kit: {"path": "docs:/a", "source": "old", "force": True},
    "versions.merge": lambda kit: {"bucket": "docs", "source": "side"},
    "versions.revert": lambda kit: {"bucket": "docs", "commit": str(kit.versions.log("docs").commits[0].cid)},
    "pin.add": lambda kit: {"path": str(kit.files.stat("docs:/a").cid), "name": "label"},
    "pin.rm": lambda kit: {"pin": "kept"},
}


def state_of(kit: Kit) -> Any:
    """Everything a user can see of buckets, refs, files and pins."""
    seen: dict[str, Any] = {"pins": sorted((str(p.cid), p.kind, p.name or "") for p in kit.pin.list().pins)}
    for bucket in kit.bucket.list().buckets:
        name = bucket.name
        status = kit.versions.status(name)
        files: dict[str, Any] = {}
        todo = [f"{name}:/"]
        while todo:
            for entry in kit.files.list(todo.pop()).entries:
                path = f"{name}:/{entry.path.partition(':')[2].lstrip('/') or entry.path.lstrip('/')}"
                stat = kit.files.stat(path)
                files[path] = (stat.kind, str(stat.cid), stat.tags)
                if stat.kind == "dir":
                    todo.append(path)
        seen[name] = (
            files,
            status.branch,
            sorted((ref.name, str(ref.cid)) for ref in kit.versions.branch_list(name).refs),
            sorted((ref.name, str(ref.cid)) for ref in kit.versions.tag_list(name).refs),
        )
    return seen


@pytest.mark.parametrize("name", sorted(UNDOABLE))
def test_undo_gives_the_state_before(kit: Kit, name: str) -> None:
    kit.files.write("docs:/d/x", text="x")
    kit.files.mkdir("docs:/empty")
    kit.versions.tag_create("docs", "old")
    kit.versions.commit("docs", message="base")
    kit.versions.branch_create("docs", "side")
    kit.versions.checkout("docs", "side")
    kit.files.write("docs:/only-side", text="s")
    kit.versions.commit("docs", message="on side")
    kit.versions.checkout("docs", "main")
    if name not in ("versions.merge", "versions.revert", "versions.checkout"):
        kit.files.write("docs:/uncommitted", text="u")
    kit.pin.add(str(kit.files.stat("docs:/d").cid), name="kept")
    if name == "versions.restore":
        kit.files.write("docs:/a", text="changed")
    before = state_of(kit)
    done = kit.call_with(name, UNDOABLE[name](kit))
    after = state_of(kit)
    assert after != before
    kit.versions.undo(str(done.op_id))
    assert state_of(kit) == before
    if name == "bucket.delete":
        return  # deleting again what an undo brought back is a plain delete, not an undo
    kit.versions.undo(str(kit.engine.ledger.size("main") - 1))
    assert state_of(kit) == after
