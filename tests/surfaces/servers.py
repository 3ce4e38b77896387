"""The MCP and HTTP servers as processes, for tests that talk to them as their clients do."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

KIT = [sys.executable, "-m", "ipfs_kit"]
WAIT_S = 60.0


def agent(store: Path, *words: str) -> StdioServerParameters:
    logs = {"IPFS_KIT_LOGS_PATH": str(store.parent / "logs")}
    return StdioServerParameters(command=KIT[0], args=[*KIT[1:], "--store", str(store), "mcp", *words], env=logs)


@contextlib.contextmanager
def serving(store: Path) -> Iterator[tuple[str, str]]:
    """``ipfs-kit serve`` as a process; ends it with Ctrl-C and requires a clean exit."""
    server = subprocess.Popen(
        [*KIT, "--store", str(store), "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        token = server.stdout.readline().split()[-1]
        yield address, token
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=WAIT_S)
        assert (server.returncode, errors) == (0, "")
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()


@contextlib.asynccontextmanager
async def over_http(address: str, token: str) -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=WAIT_S) as http,
        Client(streamable_http_client(f"{address}/mcp", http_client=http)) as client,
    ):
        yield client
