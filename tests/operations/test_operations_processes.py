"""A server, an agent, command lines and a notebook on one store at the same time."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipfs_kit import Kit

ROUNDS = 12


@contextmanager
def server(store: Path) -> Iterator[tuple[str, str]]:
    arguments = [sys.executable, "-m", "ipfs_kit", "--store", str(store), "serve", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        token = process.stdout.readline().split()[-1]
        try:
            yield url, token
        finally:
            process.terminate()
            process.wait(30)


def over_http(store: Path) -> int:
    import httpx

    with (
        server(store) as (url, token),
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}) as client,
    ):
        for number in range(ROUNDS):
            reply = client.post(
                "/api/v1/files.write", json={"path": f"b:/http/{number}", "text": str(number)}, timeout=60
            )
            assert reply.status_code == 200, reply.text
            assert client.post("/api/v1/files.list", json={"path": "b:/"}, timeout=60).status_code == 200
    return ROUNDS


def over_mcp(store: Path) -> int:
    import anyio
    from mcp import Client, StdioServerParameters

    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "ipfs_kit", "--store", str(store), "mcp", "--as", "agent"],
        env=dict(os.environ),
    )

    async def work() -> None:
        async with Client(parameters) as client:
            for number in range(ROUNDS):
                done = await client.call_tool("files_write", {"path": f"b:/mcp/{number}", "text": str(number)})
                assert not done.is_error, done.structured_content
                read = await client.call_tool("files_read", {"path": f"b:/mcp/{number}"})
                assert not read.is_error

    anyio.run(work)
    return ROUNDS


def over_cli(store: Path) -> int:
    rounds = ROUNDS // 2
    for number in range(rounds):
        command = [sys.executable, "-m", "ipfs_kit", "--store", str(store)]
        subprocess.run([*command, "write", f"b:/cli/{number}", "--text", str(number)], check=True, capture_output=True)
        subprocess.run([*command, "commit", "b", "-m", f"round {number}"], check=True, capture_output=True)
    return rounds


def in_notebook(store: Path) -> int:
    code = (
        "import sys; from ipfs_kit import Kit\n"
        "with Kit.open(sys.argv[1]) as kit:\n"
        f"    for n in range({ROUNDS * 4}):\n"
        "        kit.files.write(f'b:/py/{n}', text=str(n))\n"
        "        kit.files.read(f'b:/py/{n}').read()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(store)], check=True, capture_output=True)
    return ROUNDS * 4


@pytest.mark.slow
def test_server_agent_cli_and_notebook_mix_reads_and_writes_and_the_store_verifies_clean(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with Kit.open(store) as kit:
        kit.bucket.create("b")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = {name: pool.submit(work, store) for name, work in
                {"http": over_http, "mcp": over_mcp, "cli": over_cli, "py": in_notebook}.items()}  # fmt: skip
        written = {name: job.result(120) for name, job in jobs.items()}
    with Kit.open(store) as kit:
        assert kit.store.verify().ok
        for name, count in written.items():
            found = {entry.name for entry in kit.files.list(f"b:/{name}").entries}
            assert found == {str(number) for number in range(count)}, f"writes of {name} are missing"
            assert kit.engine.buckets.cat(f"b:/{name}/0") == b"0"
        rows = kit.ledger.sql(
            "SELECT surface, count(*) FROM ops WHERE operation = 'files.write' AND status = 'ok' GROUP BY ALL"
        ).rows
        assert dict(map(tuple, rows)) == {
            "http": written["http"],
            "mcp": written["mcp"],
            "cli": written["cli"],
            "python": written["py"],
        }


FORKS = """
import os, sys, warnings
warnings.simplefilter("ignore")
from ipfs_kit import Kit
kit = Kit.open(sys.argv[1])
kit.bucket.create("b")
kit.files.write("b:/parent", text="1")
children = []
for number in range(3):
    pid = os.fork()
    if pid == 0:
        with Kit.open(sys.argv[1]) as own:
            own.files.write(f"b:/child-{number}", text=own.files.read("b:/parent").read().decode())
        os._exit(0)
    children.append(pid)
kit.files.write("b:/parent-2", text="2")
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
assert [entry.name for entry in kit.files.list("b:/").entries] == ["child-0", "child-1", "child-2", "parent", "parent-2"]
kit.close()
"""


def test_forked_children_open_the_store_for_themselves(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKS, str(tmp_path / "s")], check=True, timeout=120)
    with Kit.open(tmp_path / "s") as kit:
        assert kit.store.verify().ok
        assert [kit.files.read(f"b:/child-{n}").read() for n in range(3)] == [b"1"] * 3


STALE = """
import os, sys, warnings
warnings.simplefilter("ignore")
from ipfs_kit import Kit
kit = Kit.open(sys.argv[1])
kit.bucket.create("b")
kit.files.write("b:/f", text="before")
assert kit.files.read("b:/f").read() == b"before"
for number in range(3):
    pid = os.fork()
    if pid == 0:
        with Kit.open(sys.argv[1]) as own:
            own.files.write("b:/f", text=f"by child {number}")
        os._exit(0)
    os.waitpid(pid, 0)
    assert kit.files.read("b:/f").read() == f"by child {number}".encode(), kit.files.read("b:/f").read()
kit.close()
"""


def test_what_a_forked_child_wrote_is_seen_by_the_parent(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", STALE, str(tmp_path / "s")], check=True, timeout=120)
