"""Scopes narrowed to a place: every operation, every way to name what lies outside, and no byte of it comes back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import anyio
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.errors import Denied, InvalidInput, KitError
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.operations import dispatcher as dispatching
from ipfs_kit.operations.arguments import Param
from ipfs_kit.operations.catalogue import CATALOGUE, Surface
from ipfs_kit.operations.places import Everywhere, Nowhere, OfOp
from ipfs_kit.operations.principal import LOCAL, Grant, Principal, authorise
from ipfs_kit.operations.results import Content, to_json
from ipfs_kit.operations.scopes import judge

CANARY = b"canary-7f3a91c4-must-never-be-seen"
HIDDEN_NAME = "unmentioned-5b1e"

AGENT = Principal("agent", frozenset({"*@a/x"}))
AGENT_WITH_DISK = Principal("agent", frozenset({"*@a/x", "local:files"}))
OWNER_OF_A = Principal("owner-of-a", frozenset({"*@a"}))

INSIDE = ("a:/x/f", "a:/x", "a:/x/", "a://x/f", "a:/x/sub/new", "a#work:/x/f", "a:/x/\u00e9")
OUTSIDE = (
    "a:/y/secret", "a:/", "a", "a:", "a#work", "a:/xy/f", "a:/X/f", "a:/%78/f", "a:/\uff58/f", "a:/\u0445/f", "a:/x\u200b/f",
    "a:/x\udcff/f", "a:/ x/f", "b:/x/f", "b", "A:/x/f", "a.x:/x/f", "b@main:/x/f", "b@op:3:/x/f", "a@op:3:/y/secret",
    "a@main:/y", "a@main", "a#work:/y/secret",
)  # fmt: skip
"""Well-formed places that are not at or below ``a:/x``."""
MALFORMED = (
    "a:/x/../y/secret", "a:/x/..", "a:/../b/x", "a:/x/./f", "a:/x//f", "a:/x/\0", "\u0430:/x/f", "a/x:/x/f", "a@:/x/f",
    "a@main@other:/x/f", "a@main#work:/x/f", "../a:/x/f", "a:x/f",
)  # fmt: skip
"""Refused when parsed, by the judge as by the operation itself."""


class Fixture:
    """A store with ``a:/x`` for the agent and canaries everywhere else."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        for bucket in ("a", "b"):
            kit.bucket.create(bucket)
            for path in ("x/f", "y/secret", f"y/{HIDDEN_NAME}", "xy/f"):
                inside = (bucket, path) == ("a", "x/f")
                kit.files.mkdir(f"{bucket}:/{path.partition('/')[0]}", parents=True)
                kit.files.write(f"{bucket}:/{path}", data=b"inside" if inside else CANARY)
            kit.versions.commit(bucket, message=f"first of {HIDDEN_NAME}")
            kit.versions.tag_create(bucket, "v1")
        self.commits = [kit.bucket.info(bucket).head for bucket in ("a", "b")]
        self.cids = [kit.files.stat(path).cid for path in ("b:/x/f", "a:/y/secret", "a:/", "b:/", "a:/y")]
        self.cids += [commit for commit in self.commits if commit is not None]
        self.foreign_op = kit.call("files.write", path="a:/y/later", data=CANARY).index

    def call(self, principal: Principal, name: str, **arguments: Any) -> Any:
        return self.kit.call_with(name, arguments, principal=principal).value


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fixture]:
    with Kit.open(tmp_path_factory.mktemp("scopes") / "store") as kit:
        yield Fixture(kit)


# -- every operation of the catalogue ------------------------------------------------------------------------------

CID_TEXT = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"

ONE_PATH: dict[str, dict[str, Any]] = {
    "files.read": {}, "files.get": {"destination": "/nowhere/out"}, "files.list": {}, "files.stat": {},
    "files.write": {"text": "t"}, "files.append": {"text": "t"}, "files.edit": {"old": "a", "new": "b"},
    "files.put": {"source": "/nowhere/in"}, "files.mkdir": {}, "files.rm": {}, "files.rmdir": {}, "files.set_metadata": {},
    "search.query": {"text": "word"},
}  # fmt: skip
"""Operations on one path, with their other arguments."""

WHOLE_BUCKET: dict[str, dict[str, Any]] = {
    "bucket.create": {"name": ...}, "bucket.info": {"name": ...}, "bucket.delete": {"name": ...}, "bucket.erase": {"name": ...},
    "versions.status": {"bucket": ...}, "versions.commit": {"bucket": ...}, "versions.log": {"state": ...},
    "versions.branch_create": {"bucket": ..., "name": "n"}, "versions.branch_list": {"bucket": ...},
    "versions.branch_delete": {"bucket": ..., "name": "n"}, "versions.tag_create": {"bucket": ..., "name": "n"},
    "versions.tag_list": {"bucket": ...}, "versions.tag_delete": {"bucket": ..., "name": "n"},
    "versions.checkout": {"bucket": ..., "target": "v1"}, "versions.merge": {"bucket": ..., "source": "v1"},
    "versions.revert": {"bucket": ..., "commit": CID_TEXT}, "versions.cherry_pick": {"bucket": ..., "commit": CID_TEXT},
    "versions.reset": {"bucket": ..., "target": "v1"}, "versions.rebase": {"bucket": ..., "onto": "v1"},
    "versions.protect": {"bucket": ..., "branch": "n"}, "versions.unprotect": {"bucket": ..., "branch": "n"},
    "versions.blame": {"state": ...}, "versions.snapshot": {"folder": "/nowhere", "bucket": ...},
    "versions.share": {"state": ...}, "versions.folder_status": {"folder": "/nowhere", "state": ...},
    "versions.folder_restore": {"folder": "/nowhere", "state": ...},
    "versions.protections": {"bucket": ...}, "versions.rule_set": {"bucket": ..., "name": "n", "deny": True},
    "versions.rule_delete": {"bucket": ..., "name": "n"}, "versions.rule_list": {"bucket": ...},
    "bucket.export": {"name": ..., "output": "/nowhere/o"}, "bucket.status": {"name": ...}, "bucket.set_quota": {"name": ...},
    "journal.apply": {"journal": ..., "kind": "create", "path": "/n"}, "journal.begin": {"journal": ...},
    "journal.add": {"journal": ..., "kind": "create", "path": "/n"}, "journal.commit": {"journal": ..., "transaction": "t"},
    "journal.rollback": {"journal": ..., "transaction": "t"}, "journal.checkpoint": {"journal": ...},
    "journal.recover": {"journal": ...}, "journal.check": {"journal": ...},
    "journal.entries": {"journal": ...}, "journal.state": {"journal": ...},
    "dataset.create": {"dataset": ...}, "dataset.put": {"source": "/nowhere/in.csv", "dataset": ...},
    "dataset.append": {"dataset": ..., "rows": [{"a": 1}]}, "dataset.info": {"version": ...},
    "dataset.versions": {"version": ...}, "dataset.lineage": {"version": ...}, "dataset.rows": {"version": ...},
    "dataset.get": {"version": ..., "destination": "/nowhere/o.csv"}, "dataset.diff": {"before": ..., "after": ...},
    "dataset.profile": {"version": ...}, "dataset.drift": {"before": ..., "after": ...},
    "search.index": {"bucket": ...}, "search.status": {"bucket": ...}, "search.drop": {"bucket": ...},
}  # fmt: skip
"""Operations on a whole bucket; ``...`` marks the argument that names it."""

TWO_PATHS = {
    "files.cp": ("source", "destination"),
    "files.mv": ("source", "destination"),
    "versions.diff": ("left", "right"),
}

EVERYWHERE: dict[str, dict[str, Any]] = {
    "block.put": {"data": b"x"}, "block.get": {"cid": CID_TEXT}, "block.stat": {"cid": CID_TEXT}, "block.rm": {"cid": CID_TEXT},
    "block.list": {}, "dag.put": {"node": "{}"}, "dag.get": {"path": CID_TEXT}, "dag.resolve": {"path": CID_TEXT},
    "dag.links": {"path": CID_TEXT}, "dag.stat": {"path": CID_TEXT}, "car.export": {"path": CID_TEXT, "output": "/nowhere/o"},
    "versions.check_share": {"share": "s"}, "car.import": {"path": "/nowhere/in"}, "bucket.import": {"path": "/nowhere/in"},
    "metadata.add": {"records": [{"cid": CID_TEXT}]}, "metadata.get": {"cid": CID_TEXT}, "metadata.delete": {"cid": CID_TEXT},
    "metadata.touch": {"cid": CID_TEXT}, "metadata.query": {}, "metadata.count": {}, "metadata.search": {"text": "w"},
    "metadata.publish": {}, "metadata.merge": {"root": CID_TEXT}, "metadata.peers": {}, "metadata.share": {},
    "metadata.rebuild": {}, "metadata.resources": {}, "metadata.similar_models": {"model": "m"},
    "metadata.datasets_for": {"task": "t"}, "metadata.describe": {"cid": CID_TEXT},
    "metadata.export": {"destination": "/nowhere/o"},
    "pin.add": {"path": CID_TEXT}, "pin.rm": {"pin": CID_TEXT}, "pin.list": {},
    "store.init": {}, "store.info": {}, "store.add": {"path": "/nowhere/in"}, "store.cat": {"path": CID_TEXT},
    "store.stat": {"path": CID_TEXT}, "store.ls": {"path": CID_TEXT}, "store.get": {"path": CID_TEXT, "destination": "/nowhere/o"},
    "store.gc": {}, "store.verify": {}, "store.repair": {}, "ledger.tail": {}, "ledger.follow": {}, "ledger.show": {"op": "0"},
    "ledger.sql": {"query": "SELECT 1"},
    "ledger.query": {"name": "denials"}, "ledger.prove": {"op": "0"}, "ledger.check_proof": {"proof": "p"}, "ledger.verify": {},
    "ledger.checkpoint": {}, "ledger.vkey": {}, "ledger.seal": {}, "system.upgrade": {},
    "stream.configure": {"stream": "s"}, "ledger.hold_add": {"reason": "r"},
    "ledger.mirror": {"directory": "/nowhere/m"}, "ledger.freeze": {"reason": "r"}, "ledger.unfreeze": {},
    "ledger.witness": {}, "ledger.witness_add": {"vkey": "v", "url": "http://w"}, "ledger.witness_list": {},
    "ledger.witness_remove": {"name": "w"}, "ledger.export": {"output": "/nowhere/o"},
    "ledger.publication_create": {"stream": "s"}, "ledger.publication_list": {}, "ledger.publication_import": {"root": CID_TEXT},
    "ledger.publication_load": {"path": "/nowhere/in"}, "ledger.publication_drop": {"publication": "p"},
    "ledger.erase": {"subject": "s"}, "ledger.expire": {}, "ledger.hold_list": {}, "ledger.hold_release": {"hold": 1},
    "stream.append": {"stream": "s", "events": []}, "stream.flush": {"stream": "s"}, "stream.batches": {"stream": "s"},
    "logs.list": {}, "logs.query": {}, "logs.tail": {"name": "x.log"}, "logs.rotate": {}, "logs.store": {}, "logs.versions": {},
    "health.run": {}, "health.status": {}, "health.history": {}, "health.checks": {}, "health.configure": {"check": "store"},
    "health.report": {"results": []},
    "telemetry.metrics": {}, "telemetry.history": {"metric": "throughput"}, "telemetry.realtime": {},
    "telemetry.plot": {"metric": "throughput"}, "telemetry.report": {}, "telemetry.cross_node": {}, "telemetry.prometheus": {},
    "logs.ingest": {"path": "/nowhere/x.log"}, "logs.diff": {"left": "v1", "right": "v2"},
    "logs.restore": {"version": "v1", "destination": "/nowhere/o"},
    "vfs_journal.query": {}, "vfs_journal.statistics": {}, "vfs_journal.timeline": {},
    "vfs_journal.export": {"destination": "/nowhere/o"},
    "telemetry.otlp_send": {},
    "observer.watch": {"path": "/nowhere"}, "observer.unwatch": {"path": "/nowhere"}, "observer.watched": {},
    "observer.scan": {}, "observer.changes": {}, "observer.figures": {},
    "audit.query": {}, "audit.timeline": {}, "audit.verify": {}, "audit.report": {}, "audit.detect": {},
    "audit.export": {"destination": "/nowhere/o"}, "audit.rule_set": {"rule": "denials"}, "audit.check_alerts": {},
    "stream.load": {"cid": CID_TEXT}, "stream.query": {"stream": "s"}, "stream.note": {"name": "mcp.x"},
}  # fmt: skip
"""Operations that a narrowed scope never suffices for."""

NOWHERE: dict[str, dict[str, Any]] = {
    "block.cid": {"cid": CID_TEXT}, "bucket.list": {}, "bucket.catalogue": {}, "system.operations": {}, "system.doctor": {},
    "stream.list": {}, "dataset.list": {}, "dataset.sql": {"query": "select 1"}, "audit.rules": {}, "ledger.queries": {},
}  # fmt: skip

OTHER = {"versions.undo", "versions.restore"}
"""Have tests of their own below."""


def test_every_operation_declares_what_it_touches_and_is_tried_here() -> None:
    undeclared = [name for name, operation in CATALOGUE.items() if operation.places is None]
    assert not undeclared, "declare places=(Touch(…),), Everywhere(why), Nowhere(why) or OfOp(argument)"
    tried = [*ONE_PATH, *WHOLE_BUCKET, *TWO_PATHS, *EVERYWHERE, *NOWHERE, *OTHER]
    assert sorted(tried) == sorted(CATALOGUE), "add the new operation to a table of this test"
    for name, operation in CATALOGUE.items():
        assert isinstance(operation.places, Everywhere) == (name in EVERYWHERE), name
        assert isinstance(operation.places, Nowhere) == (name in NOWHERE), name
        assert not isinstance(operation.places, Everywhere | Nowhere) or operation.places.why, name
        if isinstance(operation.places, tuple):
            named = {each for touch in operation.places for each in (touch.argument, touch.state) if each}
            assert operation.places, name
            assert named <= {param.name for param in operation.params}, name
        elif isinstance(operation.places, OfOp):
            assert operation.places.argument in {param.name for param in operation.params}


@pytest.fixture
def verdict(store: Fixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the dispatcher decides about a call, without running it: ``allowed``, ``denied`` or ``malformed``."""
    monkeypatch.setattr(dispatching.Dispatcher, "_run", lambda *_: "ran")

    def decide(principal: Principal, name: str, arguments: dict[str, Any]) -> str:
        try:
            ran: Any = store.kit.call_with(name, arguments, principal=principal)
        except Denied as denied:
            helpful = "needs the scope" in denied.message and denied.message.endswith("ask the store's owner for it")
            return "denied" if helpful else denied.message
        except InvalidInput:
            return "malformed"
        assert ran == "ran"
        return "allowed"

    return decide


@pytest.mark.parametrize("name", ONE_PATH)
def test_a_path_is_judged_by_whole_components_after_parsing(name: str, verdict: Any) -> None:
    for texts, expected in ((INSIDE, "allowed"), (OUTSIDE, "denied"), (MALFORMED, "malformed")):
        for text in texts:
            assert verdict(AGENT_WITH_DISK, name, {"path": text, **ONE_PATH[name]}) == expected, text


@pytest.mark.parametrize("name", TWO_PATHS)
def test_source_and_target_are_both_judged(name: str, verdict: Any) -> None:
    first, second = TWO_PATHS[name]
    for inside in INSIDE:
        assert verdict(AGENT, name, {first: inside, second: "a:/x/new"}) == "allowed"
        for outside in OUTSIDE:
            assert verdict(AGENT, name, {first: outside, second: inside}) == "denied", outside
            assert verdict(AGENT, name, {first: inside, second: outside}) == "denied", outside
    for text in MALFORMED:
        assert verdict(AGENT, name, {first: text, second: "a:/x/new"}) == "malformed", text
        assert verdict(AGENT, name, {first: "a:/x/f", second: text}) == "malformed", text


@pytest.mark.parametrize("name", WHOLE_BUCKET)
def test_what_works_on_a_whole_bucket_needs_a_scope_on_all_of_it(name: str, verdict: Any) -> None:
    def arguments(bucket: str) -> dict[str, Any]:
        return {key: bucket if value is ... else value for key, value in WHOLE_BUCKET[name].items()}

    disk = {"local:files"} if CATALOGUE[name].is_local else set()
    owner, agent = (Principal("n", each.scopes | disk) for each in (OWNER_OF_A, AGENT))
    assert verdict(owner, name, arguments("a")) == "allowed"
    for text in ("a", "a:/x", "a:/x/f", "a#work", "b", "c"):
        assert verdict(agent, name, arguments(text)) == "denied", text
    for text in ("b", "c", "b:/", "a.x"):
        assert verdict(owner, name, arguments(text)) == "denied", text


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_reaches_content_or_records_anywhere_needs_its_scope_everywhere(name: str, verdict: Any) -> None:
    scope = CATALOGUE[name].scope
    narrowed = Principal("n", frozenset({"*@a", f"{scope}@a", f"{scope.partition(':')[0]}:*@b", "local:files"}))
    assert verdict(narrowed, name, EVERYWHERE[name]) == "denied"
    assert verdict(Principal("n", narrowed.scopes | {scope}), name, EVERYWHERE[name]) == "allowed"


@pytest.mark.parametrize("name", NOWHERE)
def test_what_touches_no_content_is_open_to_a_narrowed_scope(name: str, verdict: Any) -> None:
    assert verdict(AGENT, name, NOWHERE[name]) == "allowed"
    assert verdict(Principal("n", frozenset({"files:*@a/x"})), name, NOWHERE[name]) == "denied"


@pytest.mark.parametrize("name", [name for name, operation in CATALOGUE.items() if operation.is_local])
def test_paths_of_the_machine_need_a_scope_of_their_own(name: str, verdict: Any) -> None:
    takes_path = any(param.name == "path" for param in CATALOGUE[name].params)
    given = {key: "a" if value is ... else value for key, value in (ONE_PATH | EVERYWHERE | WHOLE_BUCKET)[name].items()}
    arguments = {**({"path": "a:/x/f"} if takes_path else {}), **given}
    assert verdict(AGENT, name, arguments) == "denied"
    assert verdict(Principal("n", frozenset({CATALOGUE[name].scope, "*@a/x"})), name, arguments) == "denied"


# -- the past --------------------------------------------------------------------------------------------------------


def test_the_past_needs_a_scope_of_its_own_at_the_same_place(store: Fixture, verdict: Any) -> None:
    present = Principal("n", frozenset({"files:*@a/x", "versions:write@a/x"}))
    for state in (
        "a@main:/x/f",
        "a@v1:/x",
        "a@op:5:/x/f",
        "a@time:2026-01-01:/x/f",
        "a@main@op:5:/x/f",
        "a#work@op:5:/x/f",
    ):
        for name in ("files.read", "files.list", "files.stat"):
            assert verdict(present, name, {"path": state}) == "denied", state
            assert verdict(AGENT, name, {"path": state}) == "allowed", state
        assert verdict(present, "files.cp", {"source": state, "destination": "a:/x/new"}) == "denied"
        assert verdict(AGENT, "files.cp", {"source": state, "destination": "a:/x/new"}) == "allowed"
    for source in ("main", "v1", "op:5", "main@op:5", "time:2026-01-01"):
        for path, agent in (("a:/x/f", "allowed"), ("a:/y/secret", "denied"), ("b:/x/f", "denied")):
            assert verdict(present, "versions.restore", {"path": path, "source": source}) == "denied"
            assert verdict(AGENT, "versions.restore", {"path": path, "source": source}) == agent, path


def test_a_commit_named_by_its_cid_is_refused_because_its_block_can_be_forged(store: Fixture, verdict: Any) -> None:
    for commit in (*store.commits, CID_TEXT):
        for path in (f"a@{commit}:/x/f", f"a@{commit}@op:5:/x/f"):
            assert verdict(AGENT, "files.read", {"path": path}) == "denied"
            assert verdict(OWNER_OF_A, "files.cp", {"source": path, "destination": "a:/x/new"}) == "denied"
        assert verdict(AGENT, "versions.restore", {"path": "a:/x/f", "source": str(commit)}) == "denied"
        for name, argument in (("checkout", "target"), ("merge", "source")):
            assert verdict(OWNER_OF_A, f"versions.{name}", {"bucket": "a", argument: str(commit)}) == "denied"
        for name in ("branch_create", "tag_create"):
            assert verdict(OWNER_OF_A, f"versions.{name}", {"bucket": "a", "name": "n", "at": str(commit)}) == "denied"
    allowed = Principal("n", frozenset({"*@a/x", "block:read"}))
    assert verdict(allowed, "files.read", {"path": f"a@{store.commits[0]}:/x/f"}) == "allowed"


def test_a_file_that_holds_a_forged_commit_opens_nothing(store: Fixture) -> None:
    genuine, other = (dag_cbor.decode(store.kit.block.get(commit)) for commit in store.commits)
    forged = dag_cbor.encode({**genuine, "root": other["root"], "meta": other["meta"]})
    store.call(AGENT, "files.write", path="a:/x/forged", data=forged)
    state = f"a@{CID.of(forged, DAG_CBOR)}:/x/f"
    assert store.kit.files.read(state).read() == CANARY  # what its owner may read anyway, an agent must not
    for principal in (AGENT, OWNER_OF_A):
        with pytest.raises(Denied):
            store.call(principal, "files.read", path=state)


# -- undo ------------------------------------------------------------------------------------------------------------


def test_undo_is_judged_on_the_places_of_the_op_it_takes_back(store: Fixture) -> None:
    kit = store.kit
    kit.files.write("a:/x/undo", text="one")
    mine = kit.call("files.write", path="a:/x/undo", text="two").index
    across = kit.call("files.cp", source="b:/x/f", destination="a:/x/from-b").index
    moved_out = kit.call("files.mv", source="a:/x/from-b", destination="a:/y/from-b").index
    pinned = kit.call("pin.add", path=str(store.cids[0])).index
    committed = kit.call("versions.commit", bucket="a", message="all").index
    undone = kit.call("versions.undo", op=str(store.foreign_op)).index
    for op in (across, moved_out, pinned, committed, undone, store.foreign_op):
        for text in (str(op), f"main:{op}", kit.ledger.show(str(op)).op_id):
            with pytest.raises(Denied) as caught:
                store.call(AGENT, "versions.undo", op=text)
            assert "from-b" not in caught.value.message
            assert "/y" not in caught.value.message
    taken_back = kit.call_with("versions.undo", {"op": str(mine)}, principal=AGENT).index
    assert kit.files.read("a:/x/undo").read() == b"one"
    store.call(AGENT, "versions.undo", op=str(taken_back))
    assert kit.files.read("a:/x/undo").read() == b"two"
    kit.versions.undo(str(undone))


def test_undo_of_an_op_whose_name_is_not_recorded_exactly_is_refused(store: Fixture) -> None:
    aliasing = Principal("n", frozenset({"*@a/x\\xff"}))
    store.kit.files.mkdir("a:/x\udcff")
    op = store.kit.call("files.write", path="a:/x\udcff/f", data=CANARY).index
    with pytest.raises(Denied):
        store.call(aliasing, "versions.undo", op=str(op))


# -- listing, recording, surfaces --------------------------------------------------------------------------------------


def test_the_list_of_buckets_shows_those_the_caller_may_read(store: Fixture) -> None:
    def shown(*scopes: str) -> list[str]:
        found = store.call(Principal("n", frozenset(scopes)), "bucket.list")
        assert found.cursor is None
        return [each.name for each in found.buckets]

    assert shown("*") == ["a", "b"]
    assert shown("bucket:read", "files:*@a/x") == ["a", "b"]
    assert shown("*@a") == shown("bucket:read@a", "files:*@b") == ["a"]
    assert shown("*@a/x") == []
    assert shown("bucket:*@b", "bucket:read@a", "bucket:read@gone") == ["a", "b"]
    page = store.call(Principal("n", frozenset({"*@a", "*@b"})), "bucket.list", limit=1)
    assert ([each.name for each in page.buckets], page.cursor) == (["a"], "a")


def test_a_refusal_is_recorded_durably_in_the_main_log(store: Fixture) -> None:
    with pytest.raises(Denied) as caught:
        store.call(AGENT, "files.read", path="b:/x/f")
    shown = store.kit.ledger.show(str(caught.value.op))
    assert (shown.op[:5], shown.status, shown.operation, shown.actor_name) == ("main:", "denied", "files.read", "agent")
    assert "'files:read@b/x/f'" in caught.value.message


def test_over_http_a_narrowed_token_reads_its_files_and_nothing_by_address(store: Fixture) -> None:
    from ipfs_kit.surfaces.http.app import build_app
    from ipfs_kit.surfaces.http.auth import owner_token

    app = build_app(store.kit, owner_token("t" * 24, "robot", ["files:*@a/x"]), allowed_hosts={"localhost"})

    async def talk() -> None:
        headers = {"authorization": "Bearer " + "t" * 24}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            got = await client.post("/api/v1/files.read", json={"path": "a:/x/f"})
            assert got.status_code == 200
            for cid in store.cids:
                for url in (f"/ipfs/{cid}", f"/ipfs/{cid}?format=raw", f"/ipfs/{cid}/x/f"):
                    assert (await client.get(url)).status_code == 403, url
            assert (await client.get("/metrics")).status_code == 403
            for name in ("files.read", "files.list"):
                assert (await client.post(f"/api/v1/{name}", json={"path": "a:/y"})).status_code == 403

    anyio.run(talk)


@pytest.mark.parametrize(
    "text",
    ["files:read@", "@a", "files@a", "files:read:x@a", "files:read@a@main/x", "files:read@a#s/x", "files:read@a/../b",
     "files:read@a/x//y", "files:read@/x", "files:read@../a", "files:read@a:/x", "*:read@a", "files:re?d@a"],
)  # fmt: skip
def test_a_scope_that_does_not_parse_is_refused_and_never_wider_than_written(text: str) -> None:
    with pytest.raises(InvalidInput):
        Principal("n", frozenset({text}))


def test_a_caller_without_narrowed_scopes_is_not_judged_by_places() -> None:
    for scopes in ({"*"}, {"files:*"}, {"files:read", "ledger:read"}, {"*", "files:read@a/x"}):
        assert not Principal("n", frozenset(scopes)).grants
    assert Grant.parse("files:*@a/x/y/") == Grant("files:*", "a", (b"x", b"y"))
    assert Principal("n", frozenset({"files:read@a"})) == Principal("n", frozenset({"files:read@a"}))


# -- no sequence of calls brings a canary back ------------------------------------------------------------------------

REFERENCES = [
    *INSIDE, *OUTSIDE, *MALFORMED, "a@v1:/x/f", "a@v1:/y/secret", "a@op:8:/x", "a@op:8:/y/secret", "main", "v1", "op:8", "op:12",
    "n", "a@main", "b@main", "0", "1", "5", "bulk:0",
]  # fmt: skip


def _values(param: Param, store: Fixture) -> st.SearchStrategy[Any]:
    kind = param.bare
    if param.name == "op":
        return st.integers(0, 400).map(str)
    if kind is CID:
        return st.sampled_from(store.cids)
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(param.arg.minimum or 0, min(param.arg.maximum or 50, 50))
    if kind is bytes:
        return st.sampled_from([b"x", b"written by the agent"])
    if kind is dict or get_origin(kind) is dict:
        return st.just({"k": "v"})
    if get_origin(kind) is list:
        return st.just([])
    if get_args(kind):
        return st.sampled_from(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, str) and kind is not str:
        return st.sampled_from(list(kind))  # an enumeration
    if param.name == "text":
        return st.just("by the agent")
    addresses = [str(cid) for cid in store.cids]
    states = [f"a@{cid}:/{path}" for cid in addresses for path in ("x/f", "y/secret", "")]
    return st.sampled_from(
        [*INSIDE * 6, "a:/x/f", *REFERENCES, *addresses, *(f"{cid}/y/secret" for cid in addresses), *states]
    )


def _calls(store: Fixture) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    def arguments(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        params = CATALOGUE[name].params
        required = {param.name: _values(param, store) for param in params if param.required}
        optional = {param.name: _values(param, store) for param in params if not param.required}
        return st.tuples(st.just(name), st.fixed_dictionaries(required, optional=optional))

    offered = [name for name, operation in CATALOGUE.items() if operation.offered_to(Surface.MCP)]
    likely = [name for name in offered if name.startswith("files.") or name in OTHER | NOWHERE.keys()]
    return st.one_of(st.sampled_from(likely), st.sampled_from(likely), st.sampled_from(offered)).flatmap(arguments)


def _seen(value: Any) -> bytes:
    """Everything a caller could read of a result, as one text of bytes."""
    if isinstance(value, Content):
        return value.read()
    return value if isinstance(value, bytes) else json.dumps(to_json(value)).encode()


FORMS = (
    CANARY, CANARY.hex().encode(), HIDDEN_NAME.encode(),
    *(base64.b64encode(CANARY[skip:])[:24] for skip in range(3)), *(base64.b32encode(CANARY[skip:])[:24] for skip in range(5)),
)  # fmt: skip
"""The canary plain, hex, and in each alignment of base64 and base32."""


@pytest.mark.slow
@pytest.mark.parametrize("scopes", [["*@a/x"], ["files:*@a/x", "versions:*@a/x", "bucket:read"]], ids=["all", "some"])
def test_no_sequence_of_calls_returns_what_lies_outside(scopes: list[str], store: Fixture) -> None:
    principal = Principal("prober", frozenset(scopes))
    ran = {"allowed": 0, "refused": 0}

    @settings(max_examples=300)
    @given(st.lists(_calls(store), min_size=1, max_size=20))
    def probe(calls: list[tuple[str, dict[str, Any]]]) -> None:
        for name, arguments in calls:
            try:
                result = store.kit.call_with(name, arguments, principal=principal, surface=Surface.MCP)
                shown = _seen(result.value)
                ran["allowed"] += 1
            except KitError as error:
                shown = f"{error.message} {to_json(error.details)}".encode("utf-8", "backslashreplace")
                ran["refused"] += 1
            assert not [form for form in FORMS if form in shown], (name, arguments)

    probe()
    assert min(ran.values()) > 10, ran
    # What the owner keeps outside is as it was.
    for path in ("a:/y/secret", "b:/x/f", f"b:/y/{HIDDEN_NAME}"):
        assert store.kit.files.read(path).read() == CANARY


def test_the_property_would_notice_a_leak(store: Fixture) -> None:
    shown = _seen(store.kit.call_with("files.read", {"path": "b:/x/f"}, principal=LOCAL).value)
    listed = _seen(store.kit.call_with("files.list", {"path": "a:/y"}, principal=LOCAL).value)
    assert CANARY in shown
    assert HIDDEN_NAME.encode() in listed
    with pytest.raises(Denied):
        judge(store.kit.engine, AGENT, CATALOGUE["files.list"], {"path": "a:/y"})
    authorise(AGENT, CATALOGUE["files.list"], "a:/y")  # held somewhere; where, only the judge can tell
