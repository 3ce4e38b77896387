"""The command line at its edges: read-only and absent stores, incomplete results, sealed blocks, piped content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.ipld import CID, dag_pb
from ipfs_kit.ipld.codecs import DAG_PB
from ipfs_kit.operations.kit import Kit as OpenKit
from ipfs_kit.surfaces.cli.commands import COMMANDS
from ipfs_kit.surfaces.cli.help import command_help

HEAVY = {"mcp", "pyarrow", "duckdb", "pydantic", "numpy", "starlette", "anyio", "uvicorn", "asyncio", "ssl", "http"}
"""What a listing never needs."""


def run(store: Path, *words: str, data: bytes | None = None, status: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "ipfs_kit", "--store", str(store), *words],
        input=data,
        stdin=subprocess.DEVNULL if data is None else None,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, (words, done.returncode, done.stdout, done.stderr)
    return done


def run_json(store: Path, *words: str, status: int = 0) -> Any:
    return json.loads(run(store, "--json", *words, status=status).stdout)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("edges") / "store"
    with Kit.open(path) as kit:
        kit.bucket.create("open")
        kit.files.write("open:/a", text="plain")
        kit.bucket.create("letters", kind="sealed")
        kit.files.write("letters:/a", text="secret")
    return path


def ops(store: Path) -> int:
    with OpenKit.open(store, read_only=True) as kit:
        info = kit.store.info()
    return info.main_records + info.bulk_records


@pytest.mark.slow
def test_read_only_refuses_changes_records_nothing_and_says_so(store: Path) -> None:
    before = ops(store)
    listed = run(store, "--read-only", "ls", "open:/")
    assert b"a" in listed.stdout
    assert b"nothing was recorded" in listed.stderr
    assert run(store, "--read-only", "--quiet", "ls").stderr == b""
    shown = run_json(store, "--read-only", "cat", "open:/a")
    assert shown["op"]["id"] is None
    assert shown["op"]["recorded"] is False
    assert run_json(store, "--read-only", "rm", "open:/a", status=5)["error"]["kind"] == "read_only"
    assert ops(store) == before
    assert run_json(store, "cat", "open:/a")["op"]["recorded"] is True


@pytest.mark.slow
def test_commands_that_need_no_store_run_without_one(store: Path, tmp_path: Path) -> None:
    none = tmp_path / "none"
    (tmp_path / "f").write_bytes(b"x" * 10)
    shown = run_json(none, "add", "--only-hash", str(tmp_path / "f"))
    assert shown["op"]["recorded"] is False
    cid = shown["result"]["cid"]
    assert cid == run_json(store, "--read-only", "add", "--only-hash", str(tmp_path / "f"))["result"]["cid"]
    assert run_json(none, "cid", cid)["result"]["codec"] == "raw"
    assert run_json(none, "doctor")["result"]["store"] == str(none)
    assert b"nothing was recorded" in run(none, "cid", cid).stderr
    assert not none.exists()
    assert run_json(none, "add", str(tmp_path / "f"), status=3)["error"]["kind"] == "store_not_found"


def test_a_store_path_that_is_a_file_is_named_as_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    for words in (["ls"], ["init"]):
        assert b"is a file" in run(tmp_path / "f", *words, status=2).stderr


def folder_of(store: Path, *names: bytes) -> CID:
    with Kit.open(store) as kit:
        leaf = kit.block.put(b"content").cid
        links = [dag_pb.PBLink(leaf, name, 7) for name in names]
        return kit.block.put(dag_pb.encode(dag_pb.PBNode(b"\x08\x01", links)), codec="dag-pb").cid


def test_get_names_what_it_left_out_and_exits_8_and_ls_marks_it(store: Path, tmp_path: Path) -> None:
    root = folder_of(store, b"A", b"a", b"good")
    assert root.codec == DAG_PB
    done = run(store, "get", str(root), str(tmp_path / "out"), status=8)
    assert done.stderr.count(b"left out:") == 1
    assert sorted(os.listdir(tmp_path / "out")) == ["A", "good"]
    shown = run_json(store, "get", str(root), str(tmp_path / "out"), status=8)["result"]
    assert [p["reason"] for p in shown["problems"]] == ["collision"]
    assert run(store, "ls", str(root)).stdout.count(b"get refuses this") == 1
    assert [p["path"] for p in run_json(store, "ls", str(root))["result"]["refused"]] == [f"{root}/a"]


def test_a_name_that_no_disk_can_hold_is_marked_by_ls_and_refused_by_get(store: Path, tmp_path: Path) -> None:
    root = folder_of(store, b"..", b"good")
    assert [p["reason"] for p in run_json(store, "ls", str(root))["result"]["refused"]] == ["bad name"]
    run(store, "get", str(root), str(tmp_path / "out"), status=2)


@pytest.mark.slow
def test_a_sealed_block_is_not_passed_off_as_content(store: Path, tmp_path: Path) -> None:
    cid = run_json(store, "stat", "letters:/a")["result"]["cid"]
    for words in (["cat", cid], ["get", cid, str(tmp_path / "x")], ["block", "get", cid], ["dag", "get", cid]):
        error = run_json(store, *words, status=2)["error"]
        assert "sealed bucket" in error["message"]
        assert error["details"]["sealed"] is True
    assert not (tmp_path / "x").exists()
    ciphertext = run(store, "block", "get", "--ciphertext", cid).stdout
    assert b"secret" not in ciphertext
    assert len(ciphertext) == len(b"secret") + 28
    assert run(store, "cat", "letters:/a").stdout == b"secret"


@pytest.mark.slow
def test_write_takes_what_is_piped_in_a_file_or_text_once(store: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"from a file")
    for words, data, content in (
        ([], b"piped\xff", b"piped\xff"),
        (["-"], b"dash", b"dash"),
        ([str(tmp_path / "f")], None, b"from a file"),
        (["--text", "text"], b"ignored", b"text"),
    ):
        run(store, "write", "open:/w", *words, data=data)
        assert run(store, "cat", "open:/w").stdout == content
    run(store, "write", "open:/w", "-", "--text", "x", data=b"y", status=2)


def test_help_shows_the_options_of_the_servers_and_hides_useless_ones(store: Path) -> None:
    assert b"--port" in run(store, "help", "serve").stdout
    assert b"--read-tools" in run(store, "help", "mcp").stdout
    assert b"idempotency" not in run(store, "help", "cat").stdout
    assert b"idempotency" in run(store, "help", "put").stdout


def test_listing_imports_nothing_heavy(store: Path) -> None:
    code = (
        "import sys; from ipfs_kit.surfaces.cli import main; s = main(sys.argv[2:]);"
        "bad = set(sys.argv[1].split(',')) & set(sys.modules); assert not bad, bad; sys.exit(s)"
    )
    words = [sys.executable, "-c", code, ",".join(sorted(HEAVY)), "--store", str(store), "ls"]
    done = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("key", COMMANDS, ids=" ".join)
def test_every_command_has_a_parser_and_help(key: tuple[str, ...]) -> None:
    assert "usage" in command_help(key, COMMANDS[key])
