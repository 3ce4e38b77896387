"""``python -m ipfs_kit.ledger.check``: a proof checked by a process that knows no store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_kit import Store, open_store

from ipfs_kit.keys import Signer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path / "store")
    opened.record(5, batch=5)
    yield opened
    opened.close()


def check(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "ipfs_kit.ledger.check", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_good_proof_exits_zero_and_is_shown_on_one_line(store: Store, tmp_path: Path) -> None:
    proof = tmp_path / "op.tlog-proof"
    proof.write_text(store.ledger.prove("main", 3).text, encoding="utf-8")
    done = check(tmp_path, str(proof), store.ledger.vkey())
    cid = store.ledger.record_cid("main", 3)
    assert done.stdout == f"verified: op main:3 record {cid} origin {store.ledger.origin()} size 5\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_changed_proof_is_refused_with_the_reason(store: Store, tmp_path: Path) -> None:
    proof = tmp_path / "op.tlog-proof"
    text = store.ledger.prove("main", 3).text
    proof.write_text(text.replace("index 3\n", "index 2\n"), encoding="utf-8")
    done = check(tmp_path, str(proof), store.ledger.vkey())
    assert (done.returncode, done.stdout) == (7, "")
    assert "it is not op 2 of" in done.stderr
    proof.write_bytes(b"\xff" + text.encode())
    done = check(tmp_path, str(proof), store.ledger.vkey())
    assert (done.returncode, done.stdout) == (7, "")
    assert "is not UTF-8 text" in done.stderr


def test_a_proof_is_refused_under_another_key(store: Store, tmp_path: Path) -> None:
    proof = tmp_path / "op.tlog-proof"
    proof.write_text(store.ledger.prove("main", 3).text, encoding="utf-8")
    other = Signer(store.ledger.origin(), b"x" * 32).verify_key
    for key, reason in ((other, "carries no signature of"), (store.ledger.vkey("bulk"), "the verifier key of")):
        done = check(tmp_path, str(proof), key)
        assert (done.returncode, done.stdout) == (7, "")
        assert reason in done.stderr


def test_a_missing_proof_file_is_named(store: Store, tmp_path: Path) -> None:
    done = check(tmp_path, "absent.tlog-proof", store.ledger.vkey())
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == "not verified: the proof absent.tlog-proof cannot be read: No such file or directory\n"


def test_wrong_arguments_show_the_usage(tmp_path: Path) -> None:
    done = check(tmp_path, "only-one")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m ipfs_kit.ledger.check PROOF_FILE VKEY\n")
