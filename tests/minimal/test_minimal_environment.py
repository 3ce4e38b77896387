"""The built wheel with only the first group of dependencies: all but SQL and sealing works, and those say what to install."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
OPTIONAL = ("duckdb", "numpy", "pyarrow")
UNREACHABLE = re.compile(
    r"Failed to fetch|client error|error sending request|dns error|Connection refused|timed out", re.I
)
AGENT = """
import json, sys
import anyio
from mcp import Client, StdioServerParameters

async def talk():
    server = StdioServerParameters(command=sys.argv[1], args=["--store", sys.argv[2], "mcp"])
    replies = []
    async with Client(server) as client:
        for name, given in json.loads(sys.argv[3]):
            reply = await client.call_tool(name, given)
            replies.append([reply.is_error, reply.structured_content])
    sys.stdout.write(json.dumps(replies))

anyio.run(talk)
"""

pytestmark = pytest.mark.slow


def uv() -> str:
    found = Path(sys.executable).parent / "uv"
    if not found.exists():
        pytest.skip("uv is not installed beside this python: pip install uv")
    return str(found)


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=240, check=False, **options
    )


def install(*words: str | Path) -> None:
    """Run a packaging command; a registry out of reach skips, anything else wrong fails."""
    done = run(uv(), *words, cwd=ROOT)
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"the package registry cannot be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def first_group() -> list[str]:
    """The dependencies but for those that only SQL and sealing need."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        declared: list[str] = tomllib.load(file)["project"]["dependencies"]
    kept = [line for line in declared if re.split(r"[^\w.-]", line)[0] not in OPTIONAL]
    assert len(declared) - len(kept) == len(OPTIONAL)
    return kept


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that holds the wheel and its first group of dependencies."""
    home = tmp_path_factory.mktemp("minimal")
    install("build", "--wheel", "--out-dir", home / "dist", ROOT)
    [wheel] = (home / "dist").glob("*.whl")
    install("venv", "--python", sys.executable, home / "venv")
    python = home / "venv" / "bin" / "python"
    install("pip", "install", "--python", python, "--constraint", ROOT / "constraints.txt", *first_group())
    install("pip", "install", "--python", python, "--no-deps", wheel)
    for name in OPTIONAL:
        assert run(python, "-c", f"import {name}").returncode == 1, f"{name} came along"
    return home / "venv" / "bin"


class Shell:
    """The command line of the fresh environment on one store."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work, self.store = folder, work, work / "store"
        # Nothing of this checkout may help.
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "IPFS_KIT"))}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(self.folder / "ipfs-kit", "--store", self.store, *words, cwd=self.work, env=self.env)

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def result(self, *words: str) -> Any:
        return json.loads(self.ok("--json", *words))["result"]

    def error(self, *words: str) -> Any:
        done = self.run("--json", *words)
        assert done.returncode == 6, (words, done.stdout, done.stderr)
        return json.loads(done.stdout or done.stderr)["error"]


@pytest.fixture
def shell(bin_folder: Path, tmp_path: Path) -> Shell:
    made = Shell(bin_folder, tmp_path)
    made.ok("init")
    made.ok("bucket", "create", "demo")
    made.ok("write", "demo:/a.txt", "--text", "hello")
    made.ok("commit", "demo", "-m", "first")
    return made


def test_files_versions_proofs_and_verification_need_only_the_first_group(shell: Shell) -> None:
    assert shell.ok("cat", "demo:/a.txt") == "hello"
    assert shell.ok("cat", "demo@main:/a.txt") == "hello"
    proof = shell.work / "op.tlog-proof"
    proof.write_text(shell.ok("ledger", "prove", "3"), encoding="utf-8")
    assert shell.result("ledger", "check-proof", str(proof))["op"] == "main:3"
    key = shell.result("ledger", "vkey")["vkey"]
    alone = run(shell.folder / "python", "-m", "ipfs_kit.ledger.check", proof, key, cwd=shell.work, env=shell.env)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout.startswith("verified: op main:3 ")
    assert shell.result("ledger", "verify")["ok"] is True
    assert shell.result("verify")["ok"] is True


def test_agents_are_served_over_stdio_with_only_the_first_group(shell: Shell) -> None:
    calls = [
        ["files_write", {"path": "demo:/b.txt", "text": "from an agent"}],
        ["versions_commit", {"bucket": "demo", "message": "second"}],
        ["files_stat", {"path": "demo:/b.txt"}],
        ["ledger_sql", {"query": "select 1"}],
    ]
    done = run(
        shell.folder / "python", "-c", AGENT, shell.folder / "ipfs-kit", shell.store, json.dumps(calls),
        cwd=shell.work, env=shell.env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    replies = json.loads(done.stdout)
    assert [failed for failed, _ in replies] == [False, False, False, True], replies
    assert replies[3][1]["error"]["kind"] == "missing_extra"
    assert shell.ok("cat", "demo@main:/b.txt") == "from an agent"


def test_sql_and_sealing_name_what_to_install_and_recording_goes_on(shell: Shell) -> None:
    sql = shell.error("ledger", "sql", "select count(*) from ops")
    assert sql["kind"] == "missing_extra"
    assert sql["message"].endswith("pip install duckdb")
    seal = shell.error("ledger", "seal")
    assert seal["kind"] == "missing_extra"
    assert seal["message"].endswith("pip install pyarrow")
    shell.ok("write", "demo:/c.txt", "--text", "after")
    ops = shell.result("ledger", "tail")["ops"]
    seals = [op for op in ops if op["operation"] == "ledger.seal"]
    assert (seals[-1]["status"], seals[-1]["error_kind"]) == ("error", "missing_extra")
    assert (ops[-1]["operation"], ops[-1]["status"]) == ("files.write", "ok")
    reads = shell.result("ledger", "tail", "--log", "bulk")["ops"]
    assert ("ledger.sql", "missing_extra") in [(op["operation"], op["error_kind"]) for op in reads]
    assert shell.result("ledger", "verify")["ok"] is True
