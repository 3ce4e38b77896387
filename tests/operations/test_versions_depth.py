"""Cherry-pick, reset, rebase, quotas, protected branches and rules, through the operations people call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.buckets import Proposal
from ipfs_kit.errors import (
    Conflict,
    Denied,
    IntegrityError,
    InvalidInput,
    MergeConflict,
    NotFound,
    Protected,
    QuotaExceeded,
    RefConflict,
    RuleRefused,
)
from ipfs_kit.ledger import Draft
from ipfs_kit.operations.principal import Principal


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("b")
        yield opened


def put(kit: Kit, path: str, text: str, *, at: str = "b", commit: bool = True) -> Any:
    kit.files.write(f"{at}:{path}", text=text)
    return kit.versions.commit(at, message=f"{path} is {text}").commit if commit else None


def text(kit: Kit, path: str, at: str = "b") -> str:
    return kit.files.read(f"{at}:{path}").read().decode()


def work(kit: Kit, bucket: str, name: str) -> None:
    """A session beside the default one."""
    engine = kit.engine
    with engine.buckets.window():
        draft = Draft(engine.ledger.new_op_id(), 0, "someone", "python", "test")
        engine.ledger.submit(draft, engine.buckets.session_create(bucket, name)).result(60)


def forked(kit: Kit) -> tuple[Any, Any]:
    """``main`` and ``topic`` with one shared commit, then two own ones each; the session is on ``topic``."""
    put(kit, "/shared", "0")
    kit.versions.branch_create("b", "topic")
    put(kit, "/main-1", "m")
    main = put(kit, "/main-2", "m")
    kit.versions.checkout("b", "topic")
    put(kit, "/topic-1", "t")
    topic = put(kit, "/topic-2", "t")
    return main, topic


# -- cherry-pick ---------------------------------------------------------------------------------------------------


def test_a_picked_commit_brings_its_own_change_alone_and_keeps_message_and_metadata(kit: Kit) -> None:
    put(kit, "/shared", "0")
    kit.versions.branch_create("b", "topic")
    kit.versions.checkout("b", "topic")
    put(kit, "/one", "1")
    kit.files.write("b:/two", text="2")
    picked = kit.versions.commit("b", message="the second", metadata={"ticket": 7}).commit
    kit.versions.checkout("b", "main")
    done = kit.versions.cherry_pick("b", str(picked))
    assert sorted(entry.name for entry in kit.files.list("b:/").entries) == ["shared", "two"]
    newest = kit.versions.log("b").commits[0]
    assert (newest.cid, newest.message) == (done.commit, "the second")
    assert newest.metadata == {"ticket": 7, "cherry_picked": str(picked)}
    assert kit.versions.cherry_pick("b", str(picked)).created is False


def test_a_picked_conflict_names_its_paths_and_changes_nothing(kit: Kit) -> None:
    put(kit, "/f", "0")
    kit.versions.branch_create("b", "topic")
    head = put(kit, "/f", "ours")
    kit.versions.checkout("b", "topic")
    other = put(kit, "/f", "theirs")
    kit.versions.checkout("b", "main")
    with pytest.raises(MergeConflict) as caught:
        kit.versions.cherry_pick("b", str(other))
    assert caught.value.details["paths"] == ["/f"]
    assert kit.versions.log("b").commits[0].cid == head
    kit.versions.cherry_pick("b", str(other), strategy="theirs")
    assert text(kit, "/f") == "theirs"


def test_a_picked_commit_is_undone_as_a_whole(kit: Kit) -> None:
    main, topic = forked(kit)
    kit.versions.checkout("b", "main")
    op = kit.call("versions.cherry_pick", bucket="b", commit=str(topic)).index
    kit.versions.undo(str(op))
    assert kit.versions.log("b").commits[0].cid == main
    assert not [entry for entry in kit.files.list("b:/").entries if entry.name == "topic-2"]


# -- reset ---------------------------------------------------------------------------------------------------------


def test_reset_keeps_the_content_and_hard_takes_that_of_the_commit(kit: Kit) -> None:
    first = put(kit, "/f", "1")
    second = put(kit, "/f", "2")
    kit.versions.reset("b", str(first))
    assert text(kit, "/f") == "2"
    assert [change.path for change in kit.versions.status("b").changes] == ["/f"]
    kit.files.write("b:/g", text="uncommitted")
    op = kit.call("versions.reset", bucket="b", target=str(second), hard=True).index
    assert kit.versions.status("b").clean
    assert not [entry for entry in kit.files.list("b:/").entries if entry.name == "g"]
    kit.versions.undo(str(op))
    assert kit.bucket.info("b").head == first
    assert text(kit, "/g") == "uncommitted"


# -- rebase --------------------------------------------------------------------------------------------------------


def test_rebase_replays_own_commits_in_order_with_their_messages(kit: Kit) -> None:
    main, topic = forked(kit)
    op = kit.call("versions.rebase", bucket="b", onto="main")
    assert (op.value.replayed, op.value.dropped) == (2, 0)
    log = kit.versions.log("b").commits
    assert [entry.message for entry in log[:3]] == ["/topic-2 is t", "/topic-1 is t", "/main-2 is m"]
    assert log[0].metadata == {"rebased": str(topic)}
    assert log[2].cid == main
    names = ["main-1", "main-2", "shared", "topic-1", "topic-2"]
    assert sorted(entry.name for entry in kit.files.list("b:/").entries) == names
    kit.versions.undo(str(op.index))
    assert kit.versions.log("b").commits[0].cid == topic


def test_rebase_leaves_out_what_the_other_branch_has_and_stops_whole_at_a_conflict(kit: Kit) -> None:
    put(kit, "/f", "0")
    kit.versions.branch_create("b", "topic")
    same = put(kit, "/same", "s")
    put(kit, "/f", "main")
    kit.versions.checkout("b", "topic")
    kit.versions.cherry_pick("b", str(same))
    bad = put(kit, "/f", "topic")
    with pytest.raises(MergeConflict) as caught:
        kit.versions.rebase("b", "main")
    assert caught.value.details["commit"] == str(bad)
    assert caught.value.details["paths"] == ["/f"]
    assert kit.versions.log("b").commits[0].cid == bad
    done = kit.versions.rebase("b", "main", strategy="theirs")
    assert (done.replayed, done.dropped) == (1, 1)
    assert text(kit, "/f") == "topic"


def test_a_branch_without_own_commits_moves_forward_by_rebase(kit: Kit) -> None:
    put(kit, "/f", "0")
    kit.versions.branch_create("b", "topic")
    head = put(kit, "/f", "1")
    kit.versions.checkout("b", "topic")
    done = kit.versions.rebase("b", "main")
    assert (done.commit, done.created) == (head, False)
    assert kit.versions.rebase("b", "main").commit == head


# -- concurrent sessions -------------------------------------------------------------------------------------------


def test_a_session_with_uncommitted_changes_joins_a_branch_that_others_moved(kit: Kit) -> None:
    put(kit, "/f", "0")
    work(kit, "b", "work")
    kit.files.write("b#work:/mine", text="m")
    head = put(kit, "/theirs", "t")
    with pytest.raises(RefConflict, match="merge it"):
        kit.versions.commit("b#work", message="too late")
    op = kit.call("versions.merge", bucket="b#work", source="main")
    assert (op.value.commit, op.value.created) == (head, False)
    assert [change.path for change in kit.versions.status("b#work").changes] == ["/mine"]
    assert kit.versions.commit("b#work", message="in time").created
    assert text(kit, "/theirs", "b#work") == "t"


def test_joining_names_conflicting_paths_and_is_undone(kit: Kit) -> None:
    first = put(kit, "/f", "0")
    work(kit, "b", "work")
    kit.files.write("b#work:/f", text="mine")
    kit.files.write("b#work:/g", text="g")
    head = put(kit, "/f", "theirs")
    with pytest.raises(MergeConflict) as caught:
        kit.versions.merge("b#work", "main")
    assert caught.value.details["paths"] == ["/f"]
    op = kit.call("versions.merge", bucket="b#work", source="main", strategy="ours").index
    assert kit.versions.status("b#work").head == head
    kit.versions.undo(str(op))
    assert kit.versions.status("b#work").head == first
    assert (text(kit, "/f", "b#work"), text(kit, "/g", "b#work")) == ("mine", "g")


# -- lost answers --------------------------------------------------------------------------------------------------


def test_a_commit_whose_answer_was_lost_is_answered_again_and_made_once(tmp_path: Path) -> None:
    arguments = {"bucket": "b", "message": "once"}
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/f", text="1")
        first = kit.call_with("versions.commit", arguments, idempotency_key="k1")
    with Kit.open(tmp_path / "store") as kit:
        kit.files.write("b:/f", text="2")
        again = kit.call_with("versions.commit", arguments, idempotency_key="k1")
        assert (again.op_id, again.value["commit"]) == (first.op_id, str(first.value.commit))
        assert len(kit.versions.log("b").commits) == 1
        assert [change.path for change in kit.versions.status("b").changes] == ["/f"]


# -- quota ---------------------------------------------------------------------------------------------------------


def test_a_quota_is_kept_by_every_way_to_grow(kit: Kit, tmp_path: Path) -> None:
    kit.bucket.set_quota("b", size_bytes=100, entries=3)
    kit.files.write("b:/a", text="x" * 60)
    before = kit.bucket.status("b")
    assert (before.size_bytes, before.free_bytes, before.free_entries) == (60, 40, 2)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "f").write_bytes(b"y" * 41)
    for call, arguments in (
        ("files.write", {"path": "b:/b", "text": "x" * 41}),
        ("files.append", {"path": "b:/a", "text": "x" * 41}),
        ("files.cp", {"source": "b:/a", "destination": "b:/copy"}),
        ("files.put", {"source": str(tmp_path / "in"), "path": "b:/in"}),
        ("files.put", {"source": str(tmp_path / "in" / "f"), "path": "b:/f"}),
    ):
        with pytest.raises(QuotaExceeded) as caught:
            kit.call_with(call, arguments)
        assert (caught.value.kind.value, caught.value.details["limit"]) == ("quota_exceeded", 100)
    kit.files.write("b:/b", text="x" * 40)
    kit.files.write("b:/a", text="x" * 10)
    kit.files.write("b:/empty", text="")
    with pytest.raises(QuotaExceeded, match="entries"):
        kit.files.write("b:/d", text="")
    assert (kit.bucket.status("b").size_bytes, kit.bucket.status("b").files) == (50, 3)


def test_refused_content_is_not_stored(kit: Kit) -> None:
    kit.bucket.set_quota("b", size_bytes=1000)
    blocks = kit.store.info().blocks
    with pytest.raises(QuotaExceeded):
        kit.files.write("b:/big", data=b"z" * 1001)
    assert kit.store.info().blocks == blocks


def test_a_lowered_quota_lets_a_bucket_shrink_but_not_grow_and_is_undone(kit: Kit, tmp_path: Path) -> None:
    kit.files.write("b:/a", text="x" * 60)
    kit.files.write("b:/b", text="x" * 60)
    op = kit.call("bucket.set_quota", name="b", size_bytes=50).index
    with pytest.raises(QuotaExceeded):
        kit.versions.commit("b", message="adds 120 where 50 may be")
    kit.files.rm("b:/a")
    with pytest.raises(QuotaExceeded):
        kit.files.write("b:/c", text="x")
    kit.close()
    with Kit.open(tmp_path / "store") as again:
        assert again.bucket.status("b").quota_bytes == 50
        again.versions.undo(str(op))
        assert again.bucket.status("b").quota_bytes is None
        again.files.write("b:/c", text="x" * 500)
        assert again.store.verify().ok


# -- protected branches --------------------------------------------------------------------------------------------


def test_a_protected_branch_only_moves_forward(kit: Kit) -> None:
    first = put(kit, "/f", "1")
    commit = kit.call("versions.commit", bucket="b", message="nothing new")
    kit.versions.protect("b", "ma*")
    kit.files.write("b:/f", text="2")
    commit = kit.call("versions.commit", bucket="b", message="forward is allowed")
    refused: list[tuple[str, dict[str, Any]]] = [
        ("versions.reset", {"bucket": "b", "target": str(first)}),
        ("versions.undo", {"op": str(commit.index)}),
        ("bucket.delete", {"name": "b", "force": True}),
    ]
    for name, arguments in refused:
        with pytest.raises(Protected):
            kit.call_with(name, arguments)
    kit.versions.branch_create("b", "other")
    kit.versions.checkout("b", "other")
    with pytest.raises(Protected):
        kit.versions.branch_delete("b", "main", force=True)
    kit.versions.checkout("b", "main")
    assert kit.bucket.info("b").head == commit.value.commit
    kit.versions.reset("b", str(first), hard=True, override=True)
    assert kit.bucket.info("b").head == first


def test_where_only_merges_may_move_a_branch_commits_go_another_way(kit: Kit) -> None:
    put(kit, "/f", "1")
    kit.versions.protect("b", "main", merges_only=True)
    kit.versions.branch_create("b", "topic")
    kit.files.write("b:/f", text="2")
    with pytest.raises(Protected, match="merge"):
        kit.versions.commit("b", message="direct")
    kit.versions.checkout("b", "topic", force=True)
    head = put(kit, "/f", "2")
    kit.versions.checkout("b", "main")
    assert kit.versions.merge("b", "topic").commit == head


def test_overriding_and_settings_need_their_own_scope(kit: Kit) -> None:
    first = put(kit, "/f", "1")
    put(kit, "/f", "2")
    op = kit.call("versions.protect", bucket="b", branch="main").index
    writer = Principal("writer", frozenset({"files:*", "versions:*", "bucket:read"}))
    for name, arguments in (
        ("versions.unprotect", {"bucket": "b", "branch": "main"}),
        ("versions.undo", {"op": str(op)}),
        ("versions.reset", {"bucket": "b", "target": str(first), "override": True}),
        ("bucket.set_quota", {"name": "b", "entries": 1}),
    ):
        with pytest.raises(Denied):
            kit.call_with(name, arguments, principal=writer)
    kit.versions.undo(str(op))
    assert kit.versions.protections("b").protections == []
    with pytest.raises(NotFound):
        kit.versions.unprotect("b", "main")


# -- rules and hooks -----------------------------------------------------------------------------------------------


def test_rules_refuse_by_size_type_kind_and_path_and_name_what_to_do(kit: Kit) -> None:
    kit.versions.rule_set("b", "small", max_bytes=10, paths=["*.txt"], advice="store it as a dataset")
    kit.versions.rule_set("b", "pictures", paths=["/img"], types=["image/*"])
    kit.versions.rule_set("b", "frozen", paths=["/v1/"], deny=True, branches=["main"])
    bad = {
        "/a.txt": ("small", "store it as a dataset"),
        "/img/x.py": ("pictures", "image/*"),
        "/v1/sub/f": ("frozen", "nothing may be"),
    }
    for path, (rule, words) in bad.items():
        kit.files.mkdir("b:" + path.rpartition("/")[0], parents=True)
        kit.files.write(f"b:{path}", text="x" * 11)
        with pytest.raises(RuleRefused) as caught:
            kit.versions.commit("b", message="refused")
        assert caught.value.details["rule"] == rule
        assert path.startswith(caught.value.details["path"])
        assert words in caught.value.message
        kit.files.rm("b:/" + path.split("/")[1], recursive=True)
    kit.files.mkdir("b:/img")
    kit.files.write("b:/img/x.png", text="x" * 50)
    kit.files.write("b:/b.txt", text="short")
    assert kit.versions.commit("b", message="kept").created


def test_what_was_there_before_a_rule_stays_until_it_is_changed(kit: Kit) -> None:
    put(kit, "/a.txt", "x" * 100)
    kit.versions.rule_set("b", "small", max_bytes=10)
    assert put(kit, "/b.txt", "y")
    kit.files.write("b:/a.txt", text="x" * 99)
    with pytest.raises(RuleRefused):
        kit.versions.commit("b", message="still too large")
    kit.files.rm("b:/a.txt")
    assert kit.versions.commit("b", message="gone").created


def test_a_merge_is_held_to_the_rules_of_the_branch_it_moves(kit: Kit) -> None:
    put(kit, "/f", "1")
    kit.versions.rule_set("b", "no-logs", paths=["*.log"], deny=True, branches=["main"])
    kit.versions.branch_create("b", "topic")
    kit.versions.checkout("b", "topic")
    picked = put(kit, "/x.log", "allowed here")
    kit.versions.checkout("b", "main")
    for call in (lambda: kit.versions.merge("b", "topic"), lambda: kit.versions.cherry_pick("b", str(picked))):
        with pytest.raises(RuleRefused):
            call()


def test_a_hook_of_the_program_sees_the_changes_and_refuses(kit: Kit) -> None:
    seen: list[tuple[str, str]] = []

    def no_secrets(proposal: Proposal) -> str | None:
        for change in proposal.changes():
            seen.append((change.change, change.path))
            if b"PRIVATE KEY" in change.read():
                return f"{change.path} holds a key: keep it out of the bucket"
        return None

    kit.add_commit_hook("secrets", no_secrets)
    kit.files.write("b:/f", text="-----BEGIN PRIVATE KEY-----")
    with pytest.raises(RuleRefused, match="keep it out") as caught:
        kit.versions.commit("b", message="oops")
    assert caught.value.details["rule"] == "secrets"
    kit.files.write("b:/f", text="harmless")
    assert kit.versions.commit("b", message="fine").created
    assert set(seen) == {("added", "/f")}

    def broken(proposal: Proposal) -> str | None:
        raise ValueError(proposal.bucket)

    kit.add_commit_hook("broken", broken, bucket="b")
    kit.files.write("b:/g", text="x")
    with pytest.raises(RuleRefused, match="ValueError: b"):
        kit.versions.commit("b", message="a failing hook lets nothing pass")
    assert kit.remove_commit_hook("broken")
    assert kit.versions.commit("b", message="fine again").created


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "r"},
        {"name": "", "deny": True},
        {"name": "r\n", "deny": True},
        {"name": "r", "kinds": ["socket"]},
        {"name": "r", "deny": True, "paths": [""]},
        {"name": "r", "deny": True, "paths": ["*"] * 101},
        {"name": "r", "deny": True, "paths": ["x" * 300]},
        {"name": "r", "types": ["\x1b[2J"]},
        {"name": "r", "deny": True, "advice": "x" * 300},
    ],
)
def test_a_rule_that_is_none_is_refused(kit: Kit, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        kit.call_with("versions.rule_set", {"bucket": "b", **arguments})
    assert kit.versions.rule_list("b").rules == []


def test_settings_of_a_sealed_bucket_lie_under_its_key(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("s", kind="sealed")
        kit.versions.rule_set("s", "canary-rule-name", paths=["canary-path"], deny=True)
        kit.bucket.set_quota("s", entries=2)
        kit.files.write("s:/a", text="1")
        assert kit.store.verify().ok
        rows = kit.engine.state.query("SELECT value FROM bucket_settings")
        assert not any(b"canary" in bytes(value) for (value,) in rows)
        kit.bucket.erase("s")
        assert kit.store.verify().ok


def test_a_settings_row_changed_behind_the_ledger_is_found(kit: Kit) -> None:
    kit.versions.protect("b", "main")
    assert kit.store.verify().ok
    with kit.engine.state.transaction() as tx:
        tx.execute("UPDATE bucket_settings SET time_ns=time_ns+1")
    with pytest.raises(IntegrityError, match="bucket_settings bucket=1"):
        kit.store.verify()


def test_settings_changed_twice_are_undone_in_order(kit: Kit) -> None:
    first = kit.call("versions.protect", bucket="b", branch="main").index
    second = kit.call("bucket.set_quota", name="b", entries=1).index
    with pytest.raises(Conflict):
        kit.versions.undo(str(first))
    taken = kit.call("versions.undo", op=str(second)).index
    assert kit.bucket.status("b").quota_entries is None
    kit.versions.undo(str(taken))
    assert kit.bucket.status("b").quota_entries == 1
    assert kit.bucket.status("b").protected == ["main"]
    assert kit.store.verify().ok


def test_a_store_of_before_settings_is_read_and_then_brought_forward(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        put(kit, "/f", "1")
        with kit.engine.state.transaction() as tx:
            tx.execute("DROP TABLE bucket_settings")
            tx.execute("UPDATE kit_schema SET version=2 WHERE name='buckets'")
    with Kit.open(tmp_path / "store", read_only=True) as kit:
        assert kit.bucket.status("b").quota_bytes is None
        assert kit.store.verify().ok
    with Kit.open(tmp_path / "store") as kit:
        kit.versions.protect("b", "main")
        assert kit.store.verify().ok
