"""Share links: they check without the store, and nothing in them can be changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import FormatError, IntegrityError, KitError, NotFound, PathNotFound, Unsupported

VERIFIER = Path(__file__).parents[2] / "docs" / "verify" / "verify_proof.py"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("b")
        opened.files.mkdir("b:/d/e", parents=True)
        opened.files.write("b:/d/e/f", text="shared")
        opened.files.write("b:/other", text="other")
        opened.versions.commit("b", message="one")
        opened.versions.tag_create("b", "v1")
        opened.files.write("b:/d/e/f", text="later")
        opened.versions.commit("b", message="two")
        yield opened


def test_a_share_checks_elsewhere_with_nothing_but_the_logs_key(kit: Kit, tmp_path: Path) -> None:
    made = kit.versions.share("b@v1:/d/e/f")
    assert made.cid == kit.files.stat("b@v1:/d/e/f").cid
    assert made.link is not None
    vkey = kit.ledger.vkey().vkey
    with Kit.open(tmp_path / "far") as far:
        for text in (made.link, made.text):
            shown = far.versions.check_share(text, vkey=vkey)
            assert (shown.cid, shown.path, shown.commit) == (made.cid, "/d/e/f", made.commit)
        with pytest.raises(IntegrityError):
            far.versions.check_share(made.link)
    (tmp_path / "proof").write_text(json.loads(made.text)["proof"])
    ran = subprocess.run(
        [sys.executable, str(VERIFIER), str(tmp_path / "proof"), vkey], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_folders_and_whole_versions_are_shared_too(kit: Kit) -> None:
    for state in ("b", "b:/", "b:/d", "b@v1"):
        made = kit.versions.share(state)
        assert kit.versions.check_share(made.text).cid == made.cid


def test_a_share_in_a_huge_folder_is_small(kit: Kit) -> None:
    for turn in range(30):
        kit.files.mkdir(f"b:/many-{turn}")
    kit.versions.commit("b", message="many")
    made = kit.versions.share("b:/d/e/f")
    assert made.link is not None
    assert len(made.link) < 16_000


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(cid=row["root"]),
        lambda row: row.update(path="/other"),
        lambda row: row.update(path="/d/e/../e/f"),
        lambda row: row.update(commit=row["cid"]),
        lambda row: row.update(root=row["cid"]),
        lambda row: row.update(op="main:0"),
        lambda row: row.update(proof=row["proof"].replace("index", "index 1", 1)),
        lambda row: row.update(blocks={}),
        lambda row: row["blocks"].update(dict.fromkeys(row["blocks"], "AAAA")),
        lambda row: row.update(version=2),
        lambda row: row.update(format="other"),
        lambda row: row.pop("proof"),
        lambda row: row.update(blocks=[1]),
        lambda row: row.update(cid=7),
    ],
)
def test_a_changed_share_is_refused(kit: Kit, change: Callable[[dict[str, Any]], Any]) -> None:
    row = json.loads(kit.versions.share("b@v1:/d/e/f").text)
    change(row)
    with pytest.raises((IntegrityError, FormatError)):
        kit.versions.check_share(json.dumps(row))


def test_a_true_proof_of_another_op_does_not_carry_a_share(kit: Kit) -> None:
    row = json.loads(kit.versions.share("b@v1:/d/e/f").text)
    other = kit.ledger.prove("1")
    row |= {"proof": other.proof, "op": other.op}
    with pytest.raises(IntegrityError, match="did not make"):
        kit.versions.check_share(json.dumps(row))


def test_what_cannot_be_shared_says_why(kit: Kit, tmp_path: Path) -> None:
    kit.bucket.create("s", kind="sealed")
    kit.files.write("s:/f", text="1")
    kit.versions.commit("s", message="m")
    with pytest.raises(Unsupported):
        kit.versions.share("s:/f")
    with pytest.raises(PathNotFound):
        kit.versions.share("b:/nothing")
    kit.bucket.create("empty")
    with pytest.raises(NotFound):
        kit.versions.share("empty")
    for text in ("", "x", "ipfs://x#ipfs-kit-share=AAAA", "{" * 5000, "[]", '{"format": "ipfs-kit/share"}'):
        with pytest.raises(KitError) as caught:
            kit.versions.check_share(text)
        assert caught.value.kind.value != "internal"
