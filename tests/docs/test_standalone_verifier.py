"""The verifier shipped beside the documentation works without the package and refuses every altered proof."""

from __future__ import annotations

import base64
import runpy
import struct
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ipfs_kit import Kit

WITHOUT_PACKAGE = """
import runpy
import sys

class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0].startswith("ipfs_kit"):
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SCRIPT = Path(__file__).parents[2] / "docs/verify/verify_proof.py"


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, int]:
    with Kit.open(tmp_path_factory.mktemp("store") / "s") as kit:
        for at in range(21):
            kit.bucket.create(f"b{at}")
        shown = kit.ledger.prove("7")
        return shown.proof, kit.ledger.vkey().vkey, shown.size


@pytest.fixture(scope="module")
def verifier() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


class Witness:
    def __init__(self, name: str) -> None:
        self.name, self.key = name, Ed25519PrivateKey.generate()
        public = b"\x04" + self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = sha256(name.encode() + b"\n" + public).digest()[:4]
        self.vkey = f"{name}+{self.id.hex()}+{base64.b64encode(public).decode()}"

    def cosign(self, proof: str, time: int = 1_800_000_000) -> str:
        note = proof.partition("\n\n")[2]
        text = note.rpartition("\n\n")[0] + "\n"
        signature = self.key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        blob = base64.b64encode(self.id + struct.pack(">Q", time) + signature).decode()
        return f"{proof}\u2014 {self.name} {blob}\n"


def test_a_fresh_interpreter_without_the_package_verifies_a_proof(proven: tuple[str, str, int], tmp_path: Path) -> None:
    proof, vkey, size = proven
    (tmp_path / "proof.txt").write_text(proof, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_PACKAGE, str(SCRIPT), str(tmp_path / "proof.txt"), vkey, "--show"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"is entry 7 of {vkey.partition('+')[0]}, tree size {size}" in done.stdout
    assert "operation: bucket.create" in done.stdout


def test_every_altered_byte_of_a_proof_is_refused(proven: tuple[str, str, int], verifier: dict[str, Any]) -> None:
    proof, vkey, _ = proven
    assert verifier["check"](proof, vkey)[1] == 7
    data = proof.encode()
    for at in range(len(data)):
        altered = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises((verifier["Refused"], UnicodeDecodeError)):
            verifier["check"](altered.decode(), vkey)


def test_every_leaf_of_trees_of_many_sizes_is_proven(tmp_path: Path, verifier: dict[str, Any]) -> None:
    with Kit.open(tmp_path / "s") as kit:
        vkey = kit.ledger.vkey().vkey
        for size in range(1, 18):
            kit.bucket.create(f"b{size}")
            for index in range(size):
                assert verifier["check"](kit.ledger.prove(str(index)).proof, vkey)[1] == index


def test_a_quorum_of_witnesses_is_required(proven: tuple[str, str, int], verifier: dict[str, Any]) -> None:
    proof, vkey, _ = proven
    witnesses = [Witness(f"witness.example/{at}") for at in range(3)]
    keys = [each.vkey for each in witnesses]
    cosigned = witnesses[2].cosign(witnesses[0].cosign(proof))
    assert set(verifier["check"](cosigned, vkey, keys, 2)[5]) == {witnesses[0].name, witnesses[2].name}
    for quorum in (3, None):
        with pytest.raises(verifier["Refused"], match="cosigned"):
            verifier["check"](cosigned, vkey, keys, quorum)
    twice = witnesses[0].cosign(witnesses[0].cosign(proof))
    with pytest.raises(verifier["Refused"], match="1 of the named witnesses"):
        verifier["check"](twice, vkey, keys, 2)
    stranger = Witness(witnesses[1].name).cosign(cosigned)
    with pytest.raises(verifier["Refused"], match="cosigned"):
        verifier["check"](stranger, vkey, keys, 3)
