"""Calls that somebody gives up: an MCP client cancels, an HTTP client goes away; the record says ``cancelled``."""

from __future__ import annotations

import http.client
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
import pytest
from mcp import Client
from servers import KIT, WAIT_S, agent, over_http, serving

from ipfs_kit import Kit

pytestmark = pytest.mark.slow
ENDLESS = "SELECT sum(a.range * b.range) FROM range(100000000) a, range(100000000) b"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("docs")
        kit.files.write("docs:/kept.txt", text="kept")
    return tmp_path / "store"


def statuses(store: Path, operation: str) -> list[tuple[str, str]]:
    """Status and surface of an operation's records, read by a new process; the store must verify clean."""
    done = subprocess.run([*KIT, "--store", str(store), "verify"], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    with Kit.open(store, read_only=True) as kit:
        ops = [op for log in ("main", "bulk") for op in kit.ledger.tail(log=log, limit=1000).ops]
        assert [entry.name for entry in kit.files.list("docs:/").entries] == ["kept.txt"]
    return [(op.status, op.surface) for op in ops if op.operation == operation]


async def cursor_of(client: Client, log: str) -> str:
    reply = await client.call_tool("ledger_follow", {"log": log})
    return str(reply.structured_content["result"]["cursor"])


async def abandon_query(client: Client, other: Client) -> None:
    """Ask for what never ends, give it up once the server is at it, and wait for its record."""
    cursor = await cursor_of(other, "bulk")
    async with anyio.create_task_group() as group:
        group.start_soon(client.call_tool, "ledger_sql", {"query": ENDLESS})
        reply = await other.call_tool("ledger_sql", {"query": "SELECT 1"})
        assert not reply.is_error, reply.structured_content
        group.cancel_scope.cancel()
    shown: list[tuple[str, str]] = []
    while ("ledger.sql", "cancelled") not in shown:
        reply = await other.call_tool("ledger_follow", {"cursor": cursor, "log": "bulk", "wait_s": 30})
        page = reply.structured_content["result"]
        assert page["ops"], shown
        cursor = page["cursor"]
        shown += [(op["operation"], op["status"]) for op in page["ops"]]


def test_an_agent_that_cancels_a_query_stops_it(store: Path) -> None:
    async def talk() -> None:
        async with Client(agent(store)) as client:
            await abandon_query(client, client)

    anyio.run(talk)
    assert sorted(statuses(store, "ledger.sql")) == [("cancelled", "mcp"), ("ok", "mcp")]


def test_an_http_client_that_goes_away_stops_what_it_asked_for(store: Path) -> None:
    with serving(store) as (address, token):
        at = urlsplit(address)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

        def connect() -> http.client.HTTPConnection:
            return http.client.HTTPConnection(str(at.hostname), at.port, timeout=WAIT_S)

        def ask(operation: str, **arguments: Any) -> Any:
            connection = connect()
            connection.request("POST", f"/api/v1/{operation}", json.dumps(arguments), headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            body = json.loads(answer.read())
            connection.close()
            return body["result"]

        cursor = ask("ledger.follow", log="bulk")["cursor"]
        leaving = connect()
        leaving.request("POST", "/api/v1/ledger.sql", json.dumps({"query": ENDLESS}), headers)
        leaving.close()
        page = ask("ledger.follow", cursor=cursor, log="bulk", wait_s=30)
        assert [(op["operation"], op["status"]) for op in page["ops"]] == [("ledger.sql", "cancelled")]
        assert ask("files.stat", path="docs:/kept.txt")["size"] == 4
    assert statuses(store, "ledger.sql") == [("cancelled", "http")]


def test_an_agent_over_http_that_cancels_stops_what_it_asked_for(store: Path) -> None:
    async def talk(address: str, token: str) -> None:
        async with over_http(address, token) as client, over_http(address, token) as other:
            await abandon_query(client, other)

    with serving(store) as (address, token):
        anyio.run(talk, address, token)
    assert sorted(statuses(store, "ledger.sql")) == [("cancelled", "mcp"), ("ok", "mcp")]
