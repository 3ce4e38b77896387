"""Servers ended by a signal or by the death of their client close the store and leave it sound."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit

WAIT_S = 60


def start(store: Path, background: bool = False) -> subprocess.Popen[bytes]:
    """An MCP server over pipes that has answered its first call; ``background`` as a shell's ``&`` starts it."""
    trap = "trap '' INT; " if background else ""
    server = subprocess.Popen(
        ["bash", "-c", f'{trap}exec "$@"', "bash", sys.executable, "-m", "ipfs_kit", "--store", str(store), "mcp"],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    say(server, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
    assert answer(server)["id"] == 1
    say(server, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    say(server, call(2, "bucket_create", {"name": "made"}))
    assert answer(server)["id"] == 2
    return server


def call(number: int, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}


def say(server: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()


def answer(server: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert server.stdout is not None
    found: dict[str, Any] = json.loads(server.stdout.readline())
    return found


def check(store: Path) -> None:
    with Kit.open(store) as kit:
        assert kit.store.verify().ok
        assert [bucket.name for bucket in kit.bucket.list().buckets] == ["made"]
        # A clean close publishes: no record of the server is left unsigned.
        kit.bucket.create("after")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
@pytest.mark.parametrize("background", [False, True])
def test_a_signal_ends_the_server_cleanly(tmp_path: Path, number: int, status: int, background: bool) -> None:
    store = tmp_path / "s"
    server = start(store, background)
    server.send_signal(number)
    server.wait(WAIT_S)  # its input is still open: only the signal can have ended it
    _, said = server.communicate()
    assert server.returncode == status, said.decode()
    assert b"Traceback" not in said
    with Kit.open(store, read_only=True) as kit:
        signed = kit.ledger.checkpoint(log="main")
        assert signed.size == kit.engine.ledger.size("main"), "a clean close signs what was recorded"
    check(store)


@pytest.mark.slow
def test_the_server_ends_by_itself_when_its_client_dies_in_a_call(tmp_path: Path) -> None:
    store = tmp_path / "s"
    server = start(store)
    say(server, call(3, "store_verify", {}))
    for pipe in (server.stdin, server.stdout, server.stderr):
        assert pipe is not None
        pipe.close()
    assert server.wait(WAIT_S) is not None
    check(store)
