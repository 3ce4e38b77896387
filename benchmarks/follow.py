"""How long after its acknowledgement an op of another process is seen by who follows."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

from benchmarks.harness import Bench

WRITER = """
import sys, time
from ipfs_kit import Kit
with Kit.open(sys.argv[1]) as kit:
    for number in range(int(sys.argv[2])):
        sys.stdin.readline()
        kit.files.write("docs:/f", text=str(number))
        print(time.time_ns(), flush=True)
"""
TOKEN = "t" * 24


def run(bench: Bench) -> None:
    from ipfs_kit import Kit

    store = bench.directory / "follow"
    with Kit.open(store) as kit:
        kit.bucket.create("docs")
    count = bench.size(300, 30)
    given = f"{count} writes of another process, one at a time, on an idle machine"
    for name, seen in (("Python iterator", _python), ("ledger tail --follow", _command), ("server-sent events", _http)):
        seconds = _measure(store, count, seen(store))
        bench.figure(
            f"live tail: {name}, ack to visible", seconds, value=sorted(seconds)[len(seconds) * 99 // 100] * 1e3,
            unit="ms", statistic="p99", given=given, at_most=100,
        )  # fmt: skip


def _measure(store: Path, count: int, seen: Generator[int]) -> list[float]:
    """Seconds from the acknowledgement to the sighting, by write."""
    next(seen)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    found = []
    for _ in range(count):
        writer.stdin.write("\n")
        writer.stdin.flush()
        at = next(seen)
        found.append((at - int(writer.stdout.readline())) / 1e9)
    writer.communicate()
    seen.close()
    return found


def _python(store: Path) -> Generator[int]:
    from ipfs_kit import Kit

    with Kit.open(store) as kit:
        feed = kit.follow(log="main")
        yield 0
        for row in feed:
            if row.operation == "files.write":
                yield time.time_ns()


def _command(store: Path) -> Generator[int]:
    words = ["--json", "ledger", "tail", "--follow", "--log", "main", "-n", "1"]
    tail = subprocess.Popen(
        [sys.executable, "-m", "ipfs_kit", "--store", str(store), *words], stdout=subprocess.PIPE, text=True
    )
    assert tail.stdout is not None
    try:
        for number, line in enumerate(tail.stdout):
            if not number or json.loads(line)["operation"] == "files.write":
                yield time.time_ns()
    finally:
        tail.terminate()
        tail.communicate()


def _http(store: Path) -> Generator[int]:
    import httpx

    from ipfs_kit import Kit
    from ipfs_kit.operations.principal import LOCAL
    from ipfs_kit.surfaces.http.app import build_app
    from ipfs_kit.surfaces.http.serve import server_of

    stopping = threading.Event()
    with Kit.open(store, surface="http") as kit:
        server = server_of(build_app(kit, {TOKEN: LOCAL}, stopping=stopping), stopping, port=0, log_level="error")
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            address, headers = f"http://127.0.0.1:{port}/api/v1/events", {"authorization": f"Bearer {TOKEN}"}
            with httpx.stream("GET", address, params={"log": "main"}, headers=headers, timeout=60) as answer:
                for number, line in enumerate(answer.iter_lines()):
                    if not number or (line.startswith("data: ") and '"files.write"' in line):
                        yield time.time_ns()
        finally:
            server.should_exit = True
            thread.join()
