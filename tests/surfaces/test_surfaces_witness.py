"""Stores and witnesses as real processes on loopback: cosigning, quorum, restarts, rolled-back and forked stores."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput, NotWitnessed
from ipfs_kit.keys import Signer
from ipfs_kit.ledger import witness
from ipfs_kit.ledger.outbound import post

VERIFIER = Path(__file__).parents[2] / "docs/verify/verify_proof.py"


class Witness:
    def __init__(self, process: subprocess.Popen[str], url: str, vkey: str) -> None:
        self.process, self.url, self.vkey = process, url, vkey


@contextmanager
def serving(directory: Path, vkey: str, *, name: str = "w.example/1", port: int = 0) -> Iterator[Witness]:
    command = [sys.executable, "-m", "ipfs_kit", "witness", "serve", "--dir", str(directory), "--name", name]
    with subprocess.Popen([*command, "--log", vkey, "--port", str(port)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = re.search(r"http://\S+", process.stdout.readline())
            assert url
            yield Witness(process, url.group(), process.stdout.readline().removeprefix("vkey: ").strip())
        finally:
            process.terminate()
            assert process.wait(30) == 0


def ipfs_kit(store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ipfs_kit", "--store", str(store), *words], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "s") as kit:
        kit.bucket.create("docs")
    return tmp_path / "s"


def vkey_of(store: Path) -> str:
    with Kit.open(store, read_only=True) as kit:
        return kit.ledger.vkey().vkey


@pytest.mark.slow
def test_witnesses_cosign_and_a_proof_carries_a_quorum(store: Path, tmp_path: Path) -> None:
    log = vkey_of(store)
    with serving(tmp_path / "w1", log) as one, serving(tmp_path / "w2", log, name="w.example/2") as two:
        with Kit.open(store) as kit:
            with pytest.raises(InvalidInput, match="no witnesses"):
                kit.call_with("bucket.create", {"name": "x"}, ack="witnessed")
            kit.ledger.witness_add(one.vkey, one.url)
            kit.ledger.witness_add(two.vkey, two.url, quorum=2)
            kit.ledger.witness_add(witness.cosigner_vkey(_signer()), "http://127.0.0.1:9", quorum=2)
            made = kit.call_with("bucket.create", {"name": "seen"}, ack="witnessed")
            assert made.ack == "witnessed"
            with pytest.raises(InvalidInput, match="changes nothing"):
                kit.call_with("bucket.list", {}, ack="witnessed")
        with Kit.open(store) as kit:
            listed = kit.ledger.witness_list()
            assert (listed.quorum, [w.size > 0 for w in listed.witnesses]) == (2, [True, True, False])
            assert "9" in listed.witnesses[2].trouble or listed.witnesses[2].trouble
            proof = kit.ledger.prove(f"main:{made.index}").proof
            assert made.index is not None
            shown = runpy.run_path(str(VERIFIER))["check"](proof, log, [one.vkey, two.vkey], 2)
            assert (shown[1], set(shown[5])) == (made.index, {"w.example/1", "w.example/2"})
            assert kit.ledger.verify().ok
        shown_by_cli = ipfs_kit(store, "--json", "bucket", "create", "more", "--ack", "witnessed")
        assert shown_by_cli.returncode == 0, shown_by_cli.stderr
        kept = (store / "ledger/main/checkpoint").read_text("utf-8")
        assert len(kept.partition("\n\n")[2].splitlines()) == 3
    with Kit.open(store) as kit:
        with pytest.raises(NotWitnessed, match="durable") as caught:
            kit.call_with("bucket.create", {"name": "alone"}, ack="witnessed")
        assert caught.value.details["durable"] is True
        assert kit.ledger.show(f"main:{caught.value.details['index']}").status == "ok"
    with Kit.open(store) as kit:
        assert "alone" in [b.name for b in kit.bucket.list().buckets]
    assert ipfs_kit(store, "bucket", "create", "y", "--ack", "witnessed").returncode == 6


def _signer() -> Signer:

    return Signer("w.example/3", b"3" * 32)


@pytest.mark.slow
def test_a_witness_remembers_across_restarts_and_catches_a_rolled_back_store(store: Path, tmp_path: Path) -> None:
    log = vkey_of(store)
    with serving(tmp_path / "w", log) as one:
        port = int(one.url.rpartition(":")[2])
        with Kit.open(store) as kit:
            kit.ledger.witness_add(one.vkey, one.url)
            kit.ledger.witness()
        shutil.copytree(store, tmp_path / "older")
        (tmp_path / "older/keys").chmod(0o700)
        with Kit.open(store) as kit:
            for at in range(40):
                kit.bucket.create(f"b{at}")
            newest = kit.ledger.witness()
            assert newest.witnesses == ["w.example/1"]
    with serving(tmp_path / "w", log, port=port) as again:
        assert again.vkey == one.vkey
        with Kit.open(tmp_path / "older") as kit:
            with pytest.raises(NotWitnessed, match="older copy"):
                kit.call_with("bucket.create", {"name": "z"}, ack="witnessed")
            assert "older copy" in kit.ledger.witness_list().witnesses[0].refusal
        told = ipfs_kit(tmp_path / "older", "ledger", "verify")
        assert (told.returncode, "older copy" in told.stderr) == (7, True)
        with Kit.open(tmp_path / "older") as kit:
            for at in range(newest.size):
                kit.bucket.create(f"fork{at}")
            with pytest.raises(NotWitnessed, match="do not extend"):
                kit.ledger.witness()
        with Kit.open(store) as kit:
            assert kit.ledger.witness().size >= newest.size
    shown = subprocess.run(
        [sys.executable, "-m", "ipfs_kit", "witness", "show", "--dir", str(tmp_path / "w")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "evidence: contradiction answered 422" in shown.stdout


def test_a_witness_answers_strangers_by_the_specification(store: Path, tmp_path: Path) -> None:
    with Kit.open(store) as kit:
        head = kit.ledger.checkpoint()
    with Kit.open(tmp_path / "other") as kit:
        kit.bucket.create("x")
        stranger = kit.ledger.checkpoint().text
    with serving(tmp_path / "w", vkey_of(store)) as one:
        url = f"{one.url}/add-checkpoint"
        assert post(url, witness.encode_request(0, [], stranger), 5)[0] == 404
        assert post(url, witness.encode_request(9, [], head.text), 5)[:2] == (409, "text/x.tlog.size") or head.size < 9
        assert post(url, b"nonsense", 5)[0] == 400
        body = head.text.partition("\n\n")[0].split("\n")
        forged = head.text.replace(f"\n{body[1]}\n", f"\n{int(body[1]) + 1}\n", 1)
        assert post(url, witness.encode_request(0, [], forged), 5)[0] == 403
        status, kind, line = post(url, witness.encode_request(0, [], head.text), 5)
        assert (status, kind, line.startswith("\u2014 w.example/1 ".encode())) == (200, "text/plain", True)
        conflict = post(url, witness.encode_request(0, [], head.text), 5)
        assert conflict == (409, "text/x.tlog.size", f"{head.size}\n".encode())
        assert post(f"{one.url}/elsewhere", b"", 5)[0] == 404
