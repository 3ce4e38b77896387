"""The command line as scripts and people use it: a fresh process per call."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit

WAIT_S = 60.0


class Shell:
    """Runs ``ipfs-kit`` on one store."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, *words: str, status: int = 0, data: bytes | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ipfs_kit", "--store", str(self.store), *words],
            input=data,
            capture_output=True,
            timeout=WAIT_S,
        )
        assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
        return (done.stdout if status == 0 else done.stderr).decode()

    def json(self, *words: str, status: int = 0) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "ipfs_kit", "--store", str(self.store), "--json", *words],
            capture_output=True,
            timeout=WAIT_S,
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)


@pytest.fixture
def kit(tmp_path: Path) -> Shell:
    shell = Shell(tmp_path / "store")
    shell("init")
    return shell


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"one\n")
    (root / "sub" / "b.txt").write_bytes(b"two\n")
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_add_prints_the_cid_last_and_only_hash_stores_nothing(kit: Shell, folder: Path) -> None:
    hashed = kit("add", "--only-hash", str(folder)).rstrip("\n").split("\n")[-1]
    assert kit.json("info")["result"]["blocks"] == 0
    added = kit("add", str(folder)).rstrip("\n").split("\n")[-1]
    assert added == hashed
    assert kit("cat", f"{added}/sub/b.txt") == "two\n"
    old = kit("add", "--only-hash", "--profile", "unixfs-v0-2015", str(folder / "a.txt"))
    assert old.strip().startswith("Qm")
    assert kit("add", "-", data=b"one\n").strip() == kit("add", str(folder / "a.txt")).strip()


@pytest.mark.slow
def test_put_stages_into_the_shared_session_and_commit_exits_0_twice(kit: Shell, folder: Path, tmp_path: Path) -> None:
    kit("bucket", "create", "docs")
    kit("commit", "docs", "-m", "nothing yet")
    kit("put", str(folder), "docs:/site")
    kit("put", str(folder / "a.txt"), "docs:/site/c.txt")
    assert kit.json("log", "docs")["result"]["commits"] == []
    kit("commit", "docs", "-m", "first")
    assert "nothing to commit" in kit("commit", "docs", "-m", "again")
    assert len(kit.json("log", "docs")["result"]["commits"]) == 1

    (folder / "d.txt").write_bytes(b"new\n")
    (folder / "a.txt").write_bytes(b"changed\n")
    kit("put", str(folder), "docs:/site")
    kit("get", "docs:/site", str(tmp_path / "now"))
    assert tree(tmp_path / "now") == {
        "a.txt": b"changed\n", "c.txt": b"one\n", "d.txt": b"new\n", "sub/b.txt": b"two\n",
    }  # fmt: skip
    kit("get", "docs@main:/site", str(tmp_path / "then"))
    assert tree(tmp_path / "then") == {"a.txt": b"one\n", "c.txt": b"one\n", "sub/b.txt": b"two\n"}
    kit("get", "docs:/site/d.txt", str(tmp_path / "one.txt"))
    assert (tmp_path / "one.txt").read_bytes() == b"new\n"


@pytest.mark.slow
def test_store_whose_putting_writer_was_killed_verifies(kit: Shell, tmp_path: Path) -> None:
    kit("bucket", "create", "docs")
    source = tmp_path / "many"
    source.mkdir()
    for number in range(3000):
        (source / f"{number}").write_bytes(os.urandom(20_000))
    writer = subprocess.Popen(
        [sys.executable, "-m", "ipfs_kit", "--store", str(kit.store), "put", str(source), "docs:/many"]
    )
    packs = kit.store / "packs"
    end = time.monotonic() + WAIT_S
    while sum(f.stat().st_size for f in packs.glob("*")) < 2_000_000:
        assert writer.poll() is None, "the import ended before it could be killed"
        assert time.monotonic() < end
        select.select([], [], [], 0.002)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    kit("verify")
    assert kit.json("ls", "docs:/")["result"]["entries"] == []
    kit("put", str(source), "docs:/many")
    kit("verify")


def test_flipped_byte_in_a_pack_is_named_by_verify(kit: Shell, tmp_path: Path) -> None:
    cid = kit("add", "-", data=b"precious " * 1000).strip()
    [pack] = [p for p in (kit.store / "packs").rglob("*") if p.is_file() and b"precious" in p.read_bytes()]
    flip(pack, pack.read_bytes().index(b"precious") + 3)
    told = kit("verify", status=7)
    assert pack.name in told
    assert cid in told
    error = kit.json("verify", status=7)["error"]
    assert error["kind"] == "integrity"
    assert error["details"]["faults"]


def test_flipped_byte_in_a_tile_is_named_by_ledger_verify(kit: Shell) -> None:
    kit("ledger", "checkpoint")
    tile = sorted(p for p in (kit.store / "ledger" / "main" / "tile").rglob("*") if p.is_file())[0]
    flip(tile, 5)
    assert "tile" in kit("ledger", "verify", status=7)
    assert "tile" in kit("verify", status=7)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.slow
def test_every_verb_answers_with_one_json_object(kit: Shell, folder: Path, tmp_path: Path) -> None:
    cid = kit("add", str(folder)).strip()
    kit.json("bucket", "create", "docs")
    kit.json("put", str(folder), "docs:/f")
    first = kit.json("commit", "docs", "-m", "one")["result"]["commit"]
    block = kit.json("block", "put", str(folder / "a.txt"))["result"]["cid"]
    (tmp_path / "node").write_text(f'{{ "b": 1, "a": {{"/": "{cid}"}} }}\n', encoding="utf-8")
    node = kit.json("dag", "put", str(tmp_path / "node"))["result"]["cid"]
    for words in [
        f"cat {cid}/a.txt", f"get {cid} {tmp_path}/out", f"ls {cid}", "ls docs:/f", "ls --limit 1 docs:/f", "ls",
        f"block get {block}", f"block stat {block}", "block ls --limit 3", f"dag get {node}/a", f"dag resolve {node}/a/sub",
        f"dag stat {cid}", f"cid {cid}", f"refs {cid}", f"car export {cid} {tmp_path}/x.car", f"car import {tmp_path}/x.car",
        "pin ls", f"pin rm {cid}", f"pin add {cid}", "gc --dry-run", "gc", "verify", "repair", "bucket ls", "bucket info docs",
        "mkdir -p docs:/d/e", "cp docs:/f/a.txt docs:/d/a", "mv docs:/d/a docs:/d/b", "write docs:/w --text hi",
        "append docs:/w --text there", "stat docs:/w", "rm -r docs:/f", "status docs", "diff docs", "commit docs -m two",
        "branch docs", "branch docs dev", "branch ls docs", "tag docs v1", "tag docs", "tag rm docs v1", "checkout docs dev",
        "merge docs main", "log docs -n 5", "checkout docs main", "ledger tail", "ledger show 1", "ledger prove 1",
        "ledger verify", "ledger checkpoint", "ledger vkey", "doctor", "upgrade", "ops", "rmdir docs:/d/e", "undo 4",
        f"diff docs@{first} docs@main", f"revert docs {first}",
    ]:  # fmt: skip
        status = (0, 4) if words.startswith(("undo", "revert", "checkout", "merge")) else (0,)
        done = subprocess.run(
            [sys.executable, "-m", "ipfs_kit", "--json", "--store", str(kit.store), *words.split()], capture_output=True
        )
        assert done.returncode in status, (words, done.stdout, done.stderr)
        shown = json.loads(done.stdout)
        assert ("result" in shown and shown["op"]["id"]) or "kind" in shown["error"], words
    rows = kit.json("ledger", "sql", "select count(*) n, count(distinct op_id) d from ops where surface='cli'")[
        "result"
    ]
    assert rows["rows"][0][0] == rows["rows"][0][1] > 60


@pytest.mark.slow
def test_errors_help_and_exit_by_the_table(kit: Shell) -> None:
    assert "did you mean 'status'" in kit("stats", status=2)
    assert "needs one of" in kit("ledger", "nope", status=2)
    assert "usage" in kit("commit", status=2)
    kit("cat", "nope:/x", status=3)
    kit("bucket", "create", "docs")
    kit("bucket", "create", "docs", status=4)
    assert kit.json("cat", "docs:/x", status=3)["error"]["kind"] == "path_not_found"
    assert Shell(kit.store.parent / "none")("ls", status=3).count("init") == 1
    for words in (["help"], ["help", "put"], ["put", "--help"], ["--version"], ["completion", "bash"]):
        assert kit(*words)


@pytest.mark.slow
def test_output_neither_steers_the_terminal_nor_hides_names(kit: Shell, tmp_path: Path) -> None:
    kit("bucket", "create", "docs")
    (tmp_path / "x").write_bytes(b"")
    for name in ("\x1b[31mred", "evil\u202etxt.exe", "line\nbreak"):
        kit("put", str(tmp_path / "x"), f"docs:/{name}")
    for shown in (
        kit("ls", "docs:/"),
        kit("status", "docs"),
        kit("ledger", "tail"),
        kit("cat", "docs:/\x1bno", status=3),
    ):
        assert "\x1b" not in shown
        assert "\u202e" not in shown
    names = {entry["name"] for entry in kit.json("ls", "docs:/")["result"]["entries"]}
    assert names == {"\x1b[31mred", "evil\u202etxt.exe", "line\nbreak"}


def test_reader_that_leaves_early_is_no_error(kit: Shell) -> None:
    command = f"{sys.executable} -m ipfs_kit --store {kit.store} ops"
    done = subprocess.run(["bash", "-c", f"{command} | head -1"], capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout.startswith("store.")
    assert done.stderr == ""


def test_proof_file_is_accepted_by_the_stand_alone_verifier(kit: Shell, tmp_path: Path) -> None:
    (tmp_path / "proof").write_text(kit("ledger", "prove", "0"), encoding="utf-8")
    vkey = kit("ledger", "vkey").strip()
    shown = kit.json("ledger", "check-proof", str(tmp_path / "proof"), "--vkey", vkey)["result"]
    assert shown["op"] == "main:0"
    altered = (tmp_path / "proof").read_text(encoding="utf-8").replace("index 0", "index 1")
    (tmp_path / "bad").write_text(altered, encoding="utf-8")
    kit("ledger", "check-proof", str(tmp_path / "bad"), status=7)


@pytest.mark.slow
def test_plain_verbs_import_nothing_heavy(kit: Shell) -> None:
    code = (
        "import sys; from ipfs_kit.surfaces.cli import main; s = main(sys.argv[1:]);"
        "bad = {'mcp', 'pyarrow', 'duckdb', 'pydantic', 'numpy', 'starlette', 'anyio'} & set(sys.modules);"
        "assert not bad, bad; sys.exit(s)"
    )
    kit("bucket", "create", "docs")
    for words in (
        ["ls", "docs:/"],
        ["write", "docs:/a", "--text", "x"],
        ["commit", "docs"],
        ["ledger", "tail"],
        ["verify"],
    ):
        done = subprocess.run([sys.executable, "-c", code, "--store", str(kit.store), *words], capture_output=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_completes_in_bash(kit: Shell) -> None:
    script = kit("completion", "bash")

    def complete(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        program = f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _ipfs_kit; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert complete("ipfs-kit", "comm") == ["commit"]
    assert "prove" in complete("ipfs-kit", "ledger", "")
    assert "--only-hash" in complete("ipfs-kit", "add", "--on")


@pytest.mark.slow
def test_progress_is_drawn_on_a_terminal_only(kit: Shell, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as out:
        out.truncate(1 << 30)
    words = [sys.executable, "-m", "ipfs_kit", "--store", str(kit.store), "add", "--only-hash", str(big)]
    master, slave = pty.openpty()
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    drawn = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the terminal closes when its last writer ends
            break
        if not piece:
            break
        drawn += piece
    os.close(master)
    assert child.stdout is not None
    cid = child.stdout.read().decode().strip()
    child.stdout.close()
    assert child.wait() == 0
    assert b"GiB" in drawn or b"MiB" in drawn
    assert drawn.endswith(b"\r\x1b[K")
    assert cid.startswith("baf")


@pytest.mark.slow
def test_idempotency_key_holds_across_processes(kit: Shell) -> None:
    kit("bucket", "create", "docs")
    ids = {kit.json("append", "docs:/a", "--text", "x", "--idempotency-key", "k")["op"]["id"] for _ in range(2)}
    assert len(ids) == 1
    assert kit("cat", "docs:/a") == "x"
    assert kit.json("append", "docs:/a", "--text", "y", "--idempotency-key", "k", status=4)["error"]["kind"] == (
        "idempotency_mismatch"
    )


def test_facade_reads_what_the_command_wrote(kit: Shell) -> None:
    kit("bucket", "create", "docs")
    with Kit.open(kit.store) as opened:
        assert [bucket.name for bucket in opened.bucket.list().buckets] == ["docs"]
