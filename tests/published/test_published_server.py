"""Quick starts 1 and 4, and the command server over real sockets: JSON commands and MCP, all recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from ipfs_kit import Kit
from ipfs_kit.ipld import CID
from ipfs_kit_py.mcp._families import LATER, OWN, SERVED
from ipfs_kit_py.mcp.enhanced_server import EnhancedMCPServer, MCPCommandRequest

Send = Callable[..., Awaitable[httpx.Response]]


@asynccontextmanager
async def serving(path: Path, **options: Any) -> AsyncIterator[tuple[EnhancedMCPServer, httpx.AsyncClient]]:
    server = EnhancedMCPServer(port=0, metadata_path=path, **options)
    await server.start()
    try:
        headers = {"authorization": f"Bearer {server.token}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as client:
            yield server, client
    finally:
        await server.stop()


def ops_of(path: Path, log: str) -> list[tuple[str, str, str]]:
    with Kit.open(path) as kit:
        found = kit.ledger.tail(log=log, limit=1000).ops
    return [(op.operation, op.surface, op.status) for op in found]


def test_quick_start_one_runs_verbatim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPFS_KIT_STORE", str(tmp_path / "s"))
    text = (
        "from ipfs_kit_py.mcp.enhanced_server import EnhancedMCPServer\n"
        "server = EnhancedMCPServer(enable_dataset_storage=True, ipfs_client=ipfs_client, dataset_batch_size=100)\n"
    )
    space: dict[str, Any] = {"ipfs_client": None}
    exec(text, space)
    server = space["server"]

    async def use() -> None:
        done = await server.execute(MCPCommandRequest("bucket", action="create", args={"name": "b"}))
        assert done.success, done
        await server.stop()

    anyio.run(use)
    assert ops_of(tmp_path / "s", "main") == [("bucket.create", "python", "ok")]


def test_quick_start_four_runs_verbatim() -> None:
    space: dict[str, Any] = {}
    exec("from ipfs_kit_py.mcp.ai.utils import check_dependencies\nfound = check_dependencies()", space)
    assert space["found"]["anyio"] is True


def test_commands_and_mcp_on_one_port_are_each_recorded_once(tmp_path: Path) -> None:
    async def use() -> None:
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client

        async with serving(tmp_path / "s", enable_dataset_storage=True) as (server, client):
            made = await client.post("/command", json={"command": "bucket", "action": "create", "args": {"name": "b"}})
            assert (made.status_code, made.json()["success"]) == (200, True)
            added = {"command": "bucket", "action": "add", "params": {"bucket": "b", "path": "f", "content": "hi"}}
            assert (await client.post("/command", json=added)).json()["result"]["size"] == 2
            import httpx2

            headers = {"authorization": f"Bearer {server.token}"}
            async with (
                httpx2.AsyncClient(headers=headers, trust_env=False) as inner,
                Client(streamable_http_client(f"{server.url}/mcp", http_client=inner)) as agent,
            ):
                result = await agent.call_tool("files_write", {"path": "b:/g", "text": "agent"})
                assert not result.is_error
            flushed = server.flush_to_dataset()
            assert flushed["success"]
            assert server.dataset_manager is not None
            assert len(server.dataset_manager.load(flushed["cid"])) == 3

    anyio.run(use)
    assert ops_of(tmp_path / "s", "main") == [
        ("bucket.create", "http", "ok"),
        ("files.write", "http", "ok"),
        ("files.write", "mcp", "ok"),
        ("stream.flush", "mcp", "ok"),
    ]


def test_routes_work_on_real_state(tmp_path: Path) -> None:
    block = b"pinned"
    cid = str(CID.of(block))
    with Kit.open(tmp_path / "s") as kit:
        kit.call("block.put", data=block)

    async def use() -> None:
        async with serving(tmp_path / "s") as (_, client):
            assert (await client.get("/health")).json() == {"status": "ok", "reserve": "complete"}
            assert (await client.get("/version")).json()["result"]["version"]
            assert (await client.post("/pins", json={"cid": cid})).json()["result"]["cid"] == cid
            assert [p["cid"] for p in (await client.get("/pins")).json()["result"]["pins"]] == [cid]
            assert (await client.delete(f"/pins/{cid}")).json()["success"]
            assert (await client.get("/pins")).json()["result"]["pins"] == []
            assert (await client.get("/backends")).json()["result"]["blocks"] == 1
            assert (await client.get("/backends/embedded/status")).json()["success"]
            assert (await client.get("/daemon/status")).json()["result"]["running"] is True
            for answer in (await client.get("/backends/s3/status"), await client.post("/daemon/start")):
                assert (answer.status_code, answer.json()["metadata"]["error_type"]) == (501, "unsupported")
                assert "replication part" in answer.json()["error"]

    anyio.run(use)


def test_every_action_is_served_or_refused_with_a_reason_and_recorded(tmp_path: Path) -> None:
    async def use() -> None:
        server = EnhancedMCPServer(metadata_path=tmp_path / "s")
        for family, action in LATER:
            answer = await server.execute(MCPCommandRequest(family, action=action, params={"token": "hush"}))
            assert (answer.success, answer.metadata["error_type"]) == (False, "unsupported"), (family, action)
            shown = server.kit.ledger.show(answer.metadata["op"])
            assert (shown.operation, shown.status) == (f"mcp.{family}.{action}", "error")
            assert shown.args == {"token": "***"}
        for family, action in SERVED:
            answer = await server.execute(MCPCommandRequest(family, action=action))
            assert answer.success or answer.metadata["op"], (family, action, answer)
        for family, action in OWN:
            assert (await server.execute(MCPCommandRequest(family, subcommand=action))).success
        unknown = await server.execute(MCPCommandRequest("nonsense", action="x"))
        assert unknown.metadata["error_type"] == "not_found"
        assert unknown.metadata["op"]
        await server.stop()

    anyio.run(use)


def test_config_set_persists_and_is_read_back(tmp_path: Path) -> None:
    async def use() -> None:
        server = EnhancedMCPServer(metadata_path=tmp_path / "s")
        run = server.execute
        assert (await run(MCPCommandRequest("config", action="set", args={"key": "limit", "value": [1, "a"]}))).success
        await server.stop()
        again = EnhancedMCPServer(metadata_path=tmp_path / "s")
        got = await again.execute(MCPCommandRequest("config", action="get", args={"key": "limit"}))
        assert json.loads(got.result["tags"]["value"]) == [1, "a"]
        listed = await again.execute(MCPCommandRequest("config", action="show"))
        assert [entry["name"] for entry in listed.result["entries"]] == ["limit"]
        await again.stop()

    anyio.run(use)


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}])
def test_without_the_token_only_health_answers(tmp_path: Path, header: dict[str, str]) -> None:
    async def use() -> None:
        async with (
            serving(tmp_path / "s") as (server, _),
            httpx.AsyncClient(base_url=server.url, headers=header, trust_env=False) as stranger,
        ):
            assert (await stranger.get("/health")).status_code == 200
            assert (await stranger.post("/command", json={"command": "pin", "action": "list"})).status_code == 401
            assert (await stranger.get("/pins")).status_code == 401
            assert (await stranger.post("/mcp", json={})).status_code == 401

    anyio.run(use)


def test_malformed_commands_are_answered_and_recorded(tmp_path: Path) -> None:
    async def use() -> None:
        async with serving(tmp_path / "s") as (_, client):
            assert (await client.post("/command", content=b"[1]")).status_code == 400
            wrong = await client.post("/command", json={"command": "pin", "bogus": 1})
            assert (wrong.status_code, wrong.json()["success"]) == (404, False)
            bad = await client.post("/command", json={"command": "pin", "action": "add", "args": {"cid": "notacid"}})
            assert (bad.status_code, bad.json()["metadata"]["error_type"]) == (400, "invalid_cid")

    anyio.run(use)
    assert [status for _, _, status in ops_of(tmp_path / "s", "main")] == ["error", "error"]


def test_listening_beyond_loopback_needs_a_chosen_token(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="config_path"):
        EnhancedMCPServer(host="0.0.0.0", metadata_path=tmp_path / "s")
