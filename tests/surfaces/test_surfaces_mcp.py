"""The MCP surface with the official client, over real pipes and real sockets."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from servers import KIT, WAIT_S, agent, over_http, serving

from ipfs_kit import Kit
from ipfs_kit.surfaces.mcp.tools import offered

META = {"ipfs-kit/op", "ipfs-kit/cid", "ipfs-kit/ack", "ipfs-kit/proof"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("docs")
        kit.files.write("docs:/a.txt", text="one")
        kit.files.write("docs:/big.bin", data=bytes(range(256)) * 1024)
        kit.versions.commit("docs", message="first")
    return tmp_path / "store"


def recorded(store: Path, operation: str, log: str) -> list[Any]:
    with Kit.open(store, read_only=True) as kit:
        return [op for op in kit.ledger.tail(log=log, limit=1000).ops if op.operation == operation]


def ours(meta: Any) -> set[str]:
    return {key for key in meta if key.startswith("ipfs-kit/")}


def arguments(kit: Kit) -> dict[str, dict[str, Any]]:
    """Valid arguments for every tool offered, in an order in which each can succeed."""
    commit = str(kit.versions.log("docs").commits[0].cid)
    cid = str(kit.files.stat("docs:/a.txt").cid)
    proof = kit.ledger.prove("0").proof
    share = kit.versions.share("docs:/a.txt").link
    lone = str(kit.block.put(b"lone").cid)
    kit.bucket.create("spare")
    kit.bucket.create("secret", kind="sealed")
    kit.files.mkdir("docs:/empty")
    kit.pin.add(cid)
    kit.stream.append("alerts", events=[{"rule": "r", "state": "raised"}])
    batch = str(kit.stream.flush("alerts").cid)
    kit.ledger.hold_add("case 5", stream="alerts")
    hold = kit.ledger.hold_add("case 6", stream="wal").id
    kit.stream.append("logs", events=[{"level": "INFO", "message": "m", "component": "c"}])
    kit.logs.store(component="c")
    logs = kit.engine.path.parent / "logs"
    logs.mkdir()
    (logs / "some.log").write_text("a line\n", encoding="utf-8")
    kit.bucket.create("diary")
    begun, other = (kit.journal.begin("diary").transaction_id for _ in range(2))
    kit.stream.append("audit", events=[{"event_type": "user", "action": "made", "user_id": "someone"}])
    with Kit.open(logs.parent / "publisher") as publisher:
        publisher.stream.append("health", events=[{"check_id": "x", "status": "healthy"}])
        published = publisher.ledger.publication_create("health")
        publisher.car.export(str(published.cid), str(logs / "health.car"))
        node = publisher.store.info().node
    kit.car.import_(str(logs / "health.car"))
    (logs / "health.car").unlink()
    return {
        "block_get": {"cid": cid},
        "block_put": {"data": "aGVsbG8="},
        "block_rm": {"cid": lone},
        "block_stat": {"cid": cid},
        "block_cid": {"cid": cid},
        "dag_get": {"path": commit},
        "dag_links": {"path": commit},
        "dag_put": {"node": '{"b": 1, "a": 2}'},
        "dag_resolve": {"path": commit},
        "dag_stat": {"path": cid},
        "store_cat": {"path": cid},
        "store_ls": {"path": cid},
        "store_stat": {"path": cid},
        "pin_add": {"path": cid, "name": "label", "replace": True},
        "pin_rm": {"pin": "label"},
        "bucket_create": {"name": "made"},
        "bucket_info": {"name": "docs"},
        "bucket_delete": {"name": "spare"},
        "bucket_erase": {"name": "secret"},
        "files_append": {"path": "docs:/a.txt", "text": "more"},
        "files_cp": {"source": "docs:/a.txt", "destination": "docs:/copy.txt"},
        "files_edit": {"path": "docs:/a.txt", "old": "more", "new": "less"},
        "files_list": {"path": "docs:/"},
        "files_mkdir": {"path": "docs:/made"},
        "files_mv": {"source": "docs:/copy.txt", "destination": "docs:/moved.txt"},
        "files_read": {"path": "docs:/a.txt"},
        "files_rm": {"path": "docs:/moved.txt"},
        "files_rmdir": {"path": "docs:/empty"},
        "files_set_metadata": {"path": "docs:/a.txt", "tags": {"x": "1"}},
        "files_stat": {"path": "docs:/a.txt"},
        "files_write": {"path": "docs:/w.txt", "text": "w"},
        "versions_status": {"bucket": "docs"},
        "versions_commit": {"bucket": "docs", "message": "m"},
        "versions_log": {"state": "docs"},
        "versions_blame": {"state": "docs:/"},
        "versions_share": {"state": "docs:/a.txt"},
        "versions_check_share": {"share": share},
        "versions_diff": {"left": "docs"},
        "versions_branch_create": {"bucket": "docs", "name": "dev"},
        "versions_branch_list": {"bucket": "docs"},
        "versions_branch_delete": {"bucket": "docs", "name": "dev"},
        "versions_tag_create": {"bucket": "docs", "name": "t"},
        "versions_tag_list": {"bucket": "docs"},
        "versions_tag_delete": {"bucket": "docs", "name": "t"},
        "versions_checkout": {"bucket": "docs", "target": "main"},
        "versions_merge": {"bucket": "docs", "source": commit},
        "versions_restore": {"path": "docs:/a.txt", "source": commit},
        "versions_revert": {"bucket": "docs", "commit": commit},
        "bucket_status": {"name": "docs"},
        "bucket_set_quota": {"name": "docs", "entries": 1000},
        "versions_cherry_pick": {"bucket": "docs", "commit": commit},
        "versions_reset": {"bucket": "docs", "target": commit},
        "versions_rebase": {"bucket": "docs", "onto": commit},
        "versions_protect": {"bucket": "docs", "branch": "release"},
        "versions_protections": {"bucket": "docs"},
        "versions_unprotect": {"bucket": "docs", "branch": "release"},
        "versions_rule_set": {"bucket": "docs", "name": "small", "max_bytes": 1000},
        "versions_rule_list": {"bucket": "docs"},
        "versions_rule_delete": {"bucket": "docs", "name": "small"},
        "versions_undo": {"op": "2"},
        "dataset_create": {"dataset": "sales"},
        "dataset_append": {"dataset": "sales", "rows": [{"id": 1}]},
        "dataset_info": {"version": "sales"},
        "dataset_versions": {"version": "sales"},
        "dataset_lineage": {"version": "sales"},
        "dataset_rows": {"version": "sales", "where": "id = 1"},
        "dataset_profile": {"version": "sales"},
        "dataset_drift": {"before": "sales", "after": "sales"},
        "dataset_sql": {"query": "select count(*) from sales"},
        "dataset_diff": {"before": "sales", "after": "sales"},
        "search_query": {"text": "a"},
        "search_index": {"bucket": "docs"},
        "search_status": {"bucket": "docs"},
        "search_drop": {"bucket": "docs"},
        "metadata_add": {"records": [{"cid": cid, "tags": ["t"]}]},
        "metadata_get": {"cid": cid},
        "metadata_describe": {"cid": cid},
        "metadata_touch": {"cid": cid},
        "metadata_similar_models": {"model": cid},
        "metadata_delete": {"cid": cid},
        "metadata_search": {"text": "a"},
        "metadata_datasets_for": {"task": "t"},
        "metadata_merge": {"root": str(kit.metadata.publish().cid)},
        "ledger_show": {"op": "0"},
        "ledger_sql": {"query": "select count(*) from ops"},
        "ledger_query": {"name": "error_rate_by_tool"},
        "ledger_prove": {"op": "0"},
        "ledger_check_proof": {"proof": proof},
        "stream_append": {"stream": "health", "events": [{"check_id": "x", "status": "healthy"}]},
        "stream_flush": {"stream": "health"},
        "stream_batches": {"stream": "health"},
        "stream_load": {"cid": batch},
        "stream_query": {"stream": "health"},
        "stream_note": {"name": "mcp.daemon.start"},
        "stream_configure": {"stream": "health", "keep_ops": 1000},
        "ledger_hold_add": {"reason": "case 7", "stream": "wal"},
        "ledger_hold_release": {"hold": hold},
        "journal_apply": {"journal": "diary", "kind": "create", "path": "/a", "text": "a"},
        "journal_add": {"journal": "diary", "kind": "write", "path": "/b"},
        "journal_begin": {"journal": "diary"},
        "journal_commit": {"journal": "diary", "transaction": begun},
        "journal_rollback": {"journal": "diary", "transaction": other},
        "journal_checkpoint": {"journal": "diary"},
        "journal_recover": {"journal": "diary"},
        "audit_rule_set": {"rule": "denials", "threshold": 4},
        "journal_check": {"journal": "diary"},
        "journal_entries": {"journal": "diary"},
        "journal_state": {"journal": "diary"},
        "health_configure": {"check": "store", "timeout_s": 5},
        "health_report": {"results": [{"check_id": "own", "status": "healthy"}]},
        "telemetry_history": {"metric": "operation_count"},
        "telemetry_plot": {"metric": "operation_latency"},
        "telemetry_otlp_send": {"endpoint": "http://127.0.0.1:9"},
        "logs_tail": {"name": "some.log"},
        "logs_diff": {"left": "v1", "right": "v1"},
        "ledger_erase": {"subject": "someone"},
        "ledger_publication_create": {"stream": "alerts"},
        "ledger_publication_import": {"root": str(published.cid), "vkey": published.vkey},
        "ledger_publication_drop": {"publication": f"{node}-stream-health"},
        "ledger_witness_add": {
            "vkey": "w.example/1+8e02324c+BDtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop",
            "url": "http://127.0.0.1:9",
        },
        "ledger_witness_remove": {"name": "w.example/1"},
        "ledger_freeze": {"reason": "r"},
        "ledger_unfreeze": {},
    }


EVENTS = {f"journal_{verb}" for verb in ("apply", "add", "begin", "commit", "rollback", "checkpoint", "recover")}
"""Tools whose record is the journal's event itself."""
MAY_CONFLICT = {
    *("versions_revert", "versions_undo", "versions_cherry_pick", "versions_rebase"),
    *("ledger_witness", "telemetry_otlp_send"),
}
"""Their outcome depends on the tools called before, or on a server that is not there; a typed error is an answer too."""


@pytest.mark.slow
def test_every_tool_answers_and_is_recorded_exactly_once(store: Path) -> None:
    with Kit.open(store) as kit:
        given = arguments(kit)
        tools = offered()
        assert set(given) <= set(tools)
        before = {log: kit.engine.ledger.size(log) for log in ("main", "bulk")}

    order = [*given, *(name for name in tools if name not in given)]
    replies = {}

    async def talk() -> None:
        async with Client(agent(store)) as client:
            for name in order:
                replies[name] = await client.call_tool(name, given.get(name, {}))

    anyio.run(talk)
    failed = {
        name: reply.structured_content for name, reply in replies.items() if reply.is_error and name not in MAY_CONFLICT
    }
    assert not failed
    assert {name: ours(reply.meta) for name, reply in replies.items() if ours(reply.meta) != META} == {}
    with Kit.open(store, read_only=True) as kit:
        seen: list[str] = []
        for log, start in before.items():
            seen += [
                # The one tool whose record bears the name that it was given.
                "stream.note" if r.operation == given["stream_note"]["name"] else r.operation
                for _, r in kit.engine.ledger.read(log, start, kit.engine.ledger.size(log))
                if r.surface == "mcp" and r.phase != 1 and r.parent is None  # events of a call name it as their parent
            ]
    assert sorted(seen) == sorted("stream.append" if name in EVENTS else tools[name].name for name in order)


def test_annotations_and_argument_free_lists(store: Path) -> None:
    async def talk() -> Any:
        async with Client(agent(store)) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in anyio.run(talk)}
    assert set(tools) == set(offered())
    assert tools["files_rm"].annotations.destructive_hint is True
    assert tools["files_read"].annotations.read_only_hint is True
    assert "required" not in tools["bucket_list"].input_schema
    assert "files_put" not in tools, "tools naming local paths are not offered to agents"


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_errors_have_two_planes_in_every_protocol_mode(store: Path, mode: str) -> None:
    async def talk() -> None:
        async with Client(agent(store), mode=mode) as client:
            bad = await client.call_tool("files_read", {"path": "docs:/nope"})
            assert bad.is_error
            assert bad.structured_content["error"]["kind"] == "path_not_found"
            wrong = await client.call_tool("files_read", {"paht": "docs:/a.txt"})
            assert wrong.is_error
            assert wrong.structured_content["error"]["kind"] == "invalid_input"
            with pytest.raises(MCPError):
                await client.call_tool("no_such_tool", {})

    anyio.run(talk)
    assert [op.status for op in recorded(store, "files.read", "bulk")] == ["error", "error"]


def test_big_results_come_as_links_that_read_back(store: Path) -> None:
    async def talk() -> None:
        async with Client(agent(store)) as client:
            reply = await client.call_tool("files_read", {"path": "docs:/big.bin"})
            [link] = reply.content
            assert link.type == "resource_link"
            [item] = (await client.read_resource(link.uri)).contents
            assert base64.b64decode(item.blob) == bytes(range(256)) * 1024
            with pytest.raises(MCPError):
                await client.read_resource("file:///etc/passwd")

    anyio.run(talk)


def test_big_files_of_sealed_buckets_read_back_by_path(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.bucket.create("vault", kind="sealed")
        kit.files.write("vault:/b#1 %.bin", data=b"\xff" * 200_000)

    async def talk() -> None:
        async with Client(agent(store)) as client:
            [link] = (await client.call_tool("files_read", {"path": "vault:/b#1 %.bin"})).content
            [item] = (await client.read_resource(link.uri)).contents
            assert len(item.blob) == 266_668

    anyio.run(talk)


@pytest.mark.slow
def test_idempotency_key_in_meta_gives_the_first_result(store: Path) -> None:
    async def talk() -> None:
        meta: Any = {"ipfs-kit/idempotency-key": "k1"}
        call = ("files_append", {"path": "docs:/a.txt", "text": "+"})
        async with Client(agent(store)) as client:
            first = await client.call_tool(*call, meta=meta)
            again = await client.call_tool(*call, meta=meta)
            assert first.meta["ipfs-kit/op"] == again.meta["ipfs-kit/op"]
        async with Client(agent(store)) as client:
            later = await client.call_tool(*call, meta=meta)
            assert later.meta["ipfs-kit/op"] == first.meta["ipfs-kit/op"]
            other = await client.call_tool("files_append", {"path": "docs:/a.txt", "text": "-"}, meta=meta)
            assert other.structured_content["error"]["kind"] == "idempotency_mismatch"

    anyio.run(talk)
    with Kit.open(store, read_only=True) as kit:
        assert kit.files.read("docs:/a.txt").read() == b"one+"


def test_scopes_of_the_agent_hold_and_the_denial_is_in_the_main_log(store: Path) -> None:
    async def talk() -> None:
        async with Client(agent(store, "--as", "robot", "--scope", "files:read")) as client:
            assert not (await client.call_tool("files_read", {"path": "docs:/a.txt"})).is_error
            denied = await client.call_tool("files_rm", {"path": "docs:/a.txt"})
            assert denied.structured_content["error"]["kind"] == "denied"

    anyio.run(talk)
    [op] = recorded(store, "files.rm", "main")
    assert (op.status, op.actor_name) == ("denied", "robot")


@pytest.mark.slow
def test_two_agents_share_one_store_and_a_killed_one_leaves_it_sound(store: Path) -> None:
    async def talk() -> None:
        async with Client(agent(store)) as one, Client(agent(store)) as two:
            async with anyio.create_task_group() as group:
                for number in range(8):
                    client = one if number % 2 else two
                    group.start_soon(client.call_tool, "files_write", {"path": f"docs:/n{number}", "text": "x"})
            names = (await one.call_tool("files_list", {"path": "docs:/"})).structured_content["result"]["entries"]
            assert {f"n{n}" for n in range(8)} <= {entry["name"] for entry in names}

    anyio.run(talk)
    victim = subprocess.Popen([*KIT, "--store", str(store), "mcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert victim.stdin is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    for message in (
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "files_write", "arguments": {"path": "docs:/k", "text": "y"}},
        },
    ):
        victim.stdin.write(json.dumps(message).encode() + b"\n")
    victim.stdin.flush()
    assert victim.stdout is not None
    victim.stdout.readline()
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=WAIT_S)
    done = subprocess.run([*KIT, "--store", str(store), "verify"], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_streamable_http_serves_tools_with_progress_and_is_recorded_as_mcp(store: Path) -> None:
    told: list[float] = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        told.append(done)

    async def talk(address: str, token: str) -> None:
        async with over_http(address, token) as client:
            assert not (await client.call_tool("files_write", {"path": "docs:/h", "text": "z"})).is_error
            reply = await client.call_tool("store_verify", {}, progress_callback=note)
            assert not reply.is_error, reply.structured_content

    with serving(store) as (address, token):
        anyio.run(talk, address, token)
    assert told
    assert [op.surface for op in recorded(store, "files.write", "main")][-1] == "mcp"


def test_mcp_over_http_is_recorded_under_the_tokens_principal(store: Path) -> None:
    import uvicorn

    from ipfs_kit.operations.principal import Principal
    from ipfs_kit.surfaces.http.app import build_app

    with Kit.open(store, surface="http") as kit:
        app = build_app(kit, {"t" * 20: Principal("alice", frozenset({"files:read"}))})
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))

        async def talk() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(server.serve)
                with anyio.fail_after(WAIT_S):
                    while not server.started:
                        await anyio.sleep(0.01)
                    port = server.servers[0].sockets[0].getsockname()[1]
                    async with over_http(f"http://127.0.0.1:{port}", "t" * 20) as client:
                        denied = await client.call_tool("files_rm", {"path": "docs:/a.txt"})
                        assert denied.structured_content["error"]["kind"] == "denied"
                        resource = await client.call_tool("files_read", {"path": "docs:/big.bin"})
                        with pytest.raises(MCPError):
                            await client.read_resource(resource.content[0].uri)
                server.should_exit = True

        anyio.run(talk)
    assert {op.actor_name for op in recorded(store, "files.rm", "main")} == {"alice"}
    assert [op.status for op in recorded(store, "store.cat", "main")] == ["denied"]
