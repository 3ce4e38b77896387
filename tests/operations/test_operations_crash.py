"""The crash sweep over whole operations, both ways: every acked op has its effect and its record, every record its effect."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.durable import faults
from ipfs_kit.errors import BucketNotFound, KitError
from ipfs_kit.testing.faults import Recorder, fork_until_call, injected

STEPS: list[tuple[str, dict[str, object]]] = [
    ("bucket.create", {"name": "b"}),
    ("files.write", {"path": "b:/a.txt", "text": "one"}),
    ("files.write", {"path": "b:/dir/b.txt", "text": "two"}),
    ("versions.commit", {"bucket": "b", "message": "first"}),
    ("files.append", {"path": "b:/a.txt", "text": " more"}),
    ("files.mv", {"source": "b:/dir", "destination": "b:/moved"}),
    ("versions.branch_create", {"bucket": "b", "name": "side"}),
    ("files.rm", {"path": "b:/a.txt"}),
    ("versions.commit", {"bucket": "b", "message": "second"}),
    ("versions.undo", {"op": "7"}),
    ("block.put", {"data": b"lone block"}),
    ("files.write", {"path": "b:/last.txt", "text": "end"}),
]

# After the op of each index: paths of the working session and their content.
STATES: list[dict[str, str]] = [
    {},
    {"/a.txt": "one"},
    {"/a.txt": "one", "/dir/b.txt": "two"},
    {"/a.txt": "one", "/dir/b.txt": "two"},
    {"/a.txt": "one more", "/dir/b.txt": "two"},
    {"/a.txt": "one more", "/moved/b.txt": "two"},
    {"/a.txt": "one more", "/moved/b.txt": "two"},
    {"/moved/b.txt": "two"},
    {"/moved/b.txt": "two"},
    {"/a.txt": "one more", "/moved/b.txt": "two"},
    {"/a.txt": "one more", "/moved/b.txt": "two"},
    {"/a.txt": "one more", "/moved/b.txt": "two", "/last.txt": "end"},
]


# What moves pointers between versions, and what takes that back.
VERSIONS: list[tuple[str, dict[str, object]]] = [
    ("bucket.create", {"name": "b"}),
    ("files.write", {"path": "b:/a.txt", "text": "one"}),
    ("files.write", {"path": "b:/keep.txt", "text": "kept"}),
    ("versions.commit", {"bucket": "b", "message": "first"}),
    ("versions.branch_create", {"bucket": "b", "name": "side"}),
    ("versions.tag_create", {"bucket": "b", "name": "v1"}),
    ("files.write", {"path": "b:/a.txt", "text": "changed on main"}),
    ("versions.commit", {"bucket": "b", "message": "second"}),
    ("versions.checkout", {"bucket": "b", "target": "side"}),
    ("files.write", {"path": "b:/side.txt", "text": "on the side"}),
    ("versions.commit", {"bucket": "b", "message": "on the side"}),
    ("versions.checkout", {"bucket": "b", "target": "main"}),
    ("versions.merge", {"bucket": "b", "source": "side"}),
    ("versions.restore", {"path": "b:/a.txt", "source": "v1"}),
    ("versions.commit", {"bucket": "b", "message": "restored"}),
    ("versions.revert", {"bucket": "b", "commit": "main"}),
    ("versions.branch_delete", {"bucket": "b", "name": "side"}),
    ("versions.tag_delete", {"bucket": "b", "name": "v1"}),
    ("versions.undo", {"op": "17"}),
    ("bucket.delete", {"name": "b", "force": True}),
    ("versions.undo", {"op": "19"}),
    ("files.write", {"path": "b:/last.txt", "text": "end"}),
]

_FIRST = {"/a.txt": "one", "/keep.txt": "kept"}
_SECOND = {"/a.txt": "changed on main", "/keep.txt": "kept"}
_SIDE = _FIRST | {"/side.txt": "on the side"}
_MERGED = _SECOND | {"/side.txt": "on the side"}
_RESTORED = _MERGED | {"/a.txt": "one"}
VERSION_STATES: list[dict[str, str] | None] = [
    {}, {"/a.txt": "one"}, _FIRST, _FIRST, _FIRST, _FIRST, _SECOND, _SECOND, _FIRST, _SIDE, _SIDE, _SECOND, _MERGED,
    _RESTORED, _RESTORED, _MERGED, _MERGED, _MERGED, _MERGED, None, _MERGED, _MERGED | {"/last.txt": "end"},
]  # fmt: skip
"""None where there is no bucket."""


@dataclass(frozen=True)
class Plan:
    """Operations, and the files of the working session after each."""

    steps: list[tuple[str, dict[str, object]]]
    states: Sequence[dict[str, str] | None]


FILES = Plan(STEPS, STATES)
POINTERS = Plan(VERSIONS, VERSION_STATES)


def work(store: Path, said: Callable[[str], None], plan: Plan = FILES) -> None:
    with Kit.open(store) as kit:
        for name, arguments in plan.steps:
            result = kit.call_with(name, arguments)
            said(json.dumps([result.index, result.op_id, name, str(result.record_cid)]))
    said("closed")


def files_at(kit: Kit, ref: str) -> dict[str, str] | None:
    """Every file and its content; None where there is no bucket."""
    found = {}
    try:
        for stat in kit.engine.buckets.walk(f"{ref}:/"):
            if stat.kind == "file":
                found[stat.path] = kit.engine.buckets.cat(f"{ref}:{stat.path}").decode()
    except BucketNotFound:
        return None
    return found


def check(store: Path, acked: list[str], plan: Plan = FILES) -> None:
    """What must hold after any crash."""
    if not (store / "state.db").exists():
        assert not acked
        return
    with Kit.open(store) as kit:
        assert kit.store.verify().ok
        size = kit.engine.ledger.size("main")
        records = [kit.engine.ledger.record_at("main", index) for index in range(size)]
        for line in acked:
            index, op_id, name, cid = json.loads(line)
            assert index < size, f"acked op {index} ({name}) has no record"
            record = records[index]
            assert (record.op_id.hex(), record.operation, record.status) == (op_id, name, "ok")
            assert str(kit.engine.ledger.record_cid("main", index)) == cid
        if records and records[-1].status == "error":
            # The op that was refused is on record as such, and has no effect.
            size -= 1
        assert len(acked) <= size <= len(acked) + 1, "more than the one unacked op under way was recorded"
        assert [(record.operation, record.status) for record in records[:size]] == [
            (name, "ok") for name, _ in plan.steps[:size]
        ]
        for index in range(size):
            assert files_at(kit, f"b@op:{index}") == plan.states[index], (
                f"the effect of op {index} is not what its record says"
            )
        if size:
            assert files_at(kit, "b") == plan.states[size - 1]
        # The store takes new work as if nothing had happened.
        kit.bucket.create("after")
        kit.files.write("after:/x", text="y")
    with Kit.open(store) as kit:
        assert kit.engine.buckets.cat("after:/x") == b"y"
        assert kit.ledger.verify().ok


def sweep(tmp_path: Path, first: int, stride: int, plan: Plan = FILES) -> int:
    number, died = first, 0
    while True:
        store = tmp_path / f"killed-{number}"
        end = fork_until_call(lambda said, store=store: work(store, said, plan), number)  # type: ignore[misc]
        acked = end.output.splitlines()
        assert end.killed or acked[-1:] == ["closed"], end.output
        check(store, [line for line in acked if line != "closed"], plan)
        if not end.killed:
            return died
        died += 1
        number += stride


@pytest.mark.slow
def test_killed_at_some_durable_calls_every_ack_has_effect_and_record_and_back(tmp_path: Path) -> None:
    assert sweep(tmp_path, 3, 17) >= 5


@pytest.mark.slow
def test_killed_at_every_durable_call_every_ack_has_effect_and_record_and_back(tmp_path: Path) -> None:
    assert sweep(tmp_path, 1, 1) >= 60


@pytest.mark.slow
def test_killed_while_pointers_move_every_ack_has_effect_and_record_and_back(tmp_path: Path) -> None:
    assert sweep(tmp_path, 2, 3, POINTERS) >= 30


@pytest.mark.soak
def test_killed_at_every_durable_call_while_pointers_move(tmp_path: Path) -> None:
    assert sweep(tmp_path, 1, 1, POINTERS) >= 90


# An error injected while SQLite destroys a connection has nobody to be raised to; what counts is what the next open finds.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("plan", [FILES, POINTERS], ids=["files", "pointers"])
@pytest.mark.parametrize("sticky", [False, True], ids=["one failure", "disk stays broken"])
def test_any_durable_call_refused_ends_in_a_typed_error_and_loses_no_ack(
    tmp_path: Path, sticky: bool, plan: Plan
) -> None:
    number, refused = 1, 0
    while True:
        store, acked = tmp_path / f"refused-{number}", []
        with injected(Recorder(fail_at=number, sticky=sticky)) as recorder:
            try:
                work(store, acked.append, plan)
            except KitError:
                refused += 1
        assert faults.hook is None
        check(store, [line for line in acked if line != "closed"], plan)
        if len(recorder.calls) < number:
            assert refused > 0
            return
        number += 3 if plan is FILES else 5
