"""Tool calls over stdio: ours beside a bare server of the same SDK, by the SDK's client and by a client that only writes lines."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio

from benchmarks.harness import Bench, fdatasync_seconds

BARE = ("echo", lambda _n: {})
READ = ("files_stat", lambda _n: {"path": "notes:/a.txt"})
WRITE = ("files_write", lambda n: {"path": f"notes:/w{n % 50}.txt", "text": f"text {n}"})


class Lines:
    """The least a client can be, so that nearly all time measured is the server's."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._process.stdout is not None
        self._out = io.BufferedReader(self._process.stdout)
        self._number = 0

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        while True:
            line = self._out.readline()
            assert line, "the server ended"
            message: dict[str, Any] = json.loads(line)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])

    def start(self) -> None:
        """Shake hands."""
        client = {"name": "bench", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, name: str, arguments: dict[str, Any]) -> None:
        """Call a tool."""
        found = self.ask("tools/call", {"name": name, "arguments": arguments})
        assert not found.get("isError"), found

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    def __enter__(self) -> Lines:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._out.close()


def run(bench: Bench) -> None:
    rounds, batch = bench.size(12, 2), bench.size(100, 10)
    with bench.folder("mcp") as folder:
        bare = [sys.executable, "-m", "benchmarks.bare_server"]
        ours = [sys.executable, "-m", "ipfs_kit", "--store", str(folder / "store"), "mcp"]
        disk = [s * 1e3 for s in fdatasync_seconds(folder, bench.size(400, 50))]
        with Lines(bare) as one, Lines(ours) as other:
            other.call("bucket_create", {"name": "notes"})
            other.call("files_write", {"path": "notes:/a.txt", "text": "hello"})
            _report(bench, "bare pipe client", _by_lines(one, other, rounds, batch), disk)
        _report(bench, "SDK client", anyio.run(_by_sdk, bare, ours, rounds, batch), disk)


Timings = dict[str, list[float]]


def _by_lines(one: Lines, other: Lines, rounds: int, batch: int) -> Timings:
    found: Timings = {"bare": [], "read": [], "write": []}
    for number in range(rounds + 1):
        for kind, server, (name, arguments) in (("bare", one, BARE), ("read", other, READ), ("write", other, WRITE)):
            for at in range(batch):
                start = time.perf_counter()
                server.call(name, arguments(at))
                found[kind] += [(time.perf_counter() - start) * 1e3] if number else []
    return found


async def _by_sdk(bare: list[str], ours: list[str], rounds: int, batch: int) -> Timings:
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    def parameters(command: list[str]) -> Any:
        return stdio_client(StdioServerParameters(command=command[0], args=command[1:], cwd=Path.cwd()))

    found: Timings = {"bare": [], "read": [], "write": []}
    async with Client(parameters(bare)) as one, Client(parameters(ours)) as other:
        plan: tuple[tuple[str, Callable[..., Awaitable[Any]], Any], ...] = (
            ("bare", one.call_tool, BARE), ("read", other.call_tool, READ), ("write", other.call_tool, WRITE),
        )  # fmt: skip
        for number in range(rounds + 1):
            for kind, call, (name, arguments) in plan:
                for at in range(batch):
                    start = time.perf_counter()
                    result = await call(name, arguments(at))
                    found[kind] += [(time.perf_counter() - start) * 1e3] if number else []
                    assert not result.is_error
    return found


def _report(bench: Bench, client: str, found: Timings, disk: list[float]) -> None:
    bare = sorted(found["bare"])
    middle = bare[len(bare) // 2]
    shared: dict[str, Any] = {
        "unit": "ms", "raw_unit": "ms", "statistic": "p50", "warmup": "one batch each", "peer": "bare SDK server",
        "peer_value": middle, "peer_raw": found["bare"],
    }  # fmt: skip
    bench.figure(
        f"read, {client}", found["read"], given="files_stat, ack buffered; batches of both servers in turns",
        ratio_at_most=1.25, **shared,
    )  # fmt: skip
    sync = sorted(disk)[len(disk) // 2]
    bench.figure(
        f"write, {client}", found["write"], over_peer_at_most=0.6,
        given=f"files_write of a few bytes, ack fsync; this disk's fdatasync p50 is {sync:.3f} ms", **shared,
    )  # fmt: skip
