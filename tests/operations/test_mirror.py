"""A mirror follows a log, never a fork; a frozen store takes no changes from any process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import IntegrityError, InvalidInput, NotFound, ReadOnly
from ipfs_kit.ledger.mirror import Mirror


def grow(kit: Kit, count: int = 1) -> None:
    events = [{"event_type": "user", "action": "made", "details": {"n": n}} for n in range(count)]
    kit.stream.append("audit", events=events)


def test_a_mirror_follows_incrementally_and_derives_its_roots_anew(tmp_path: Path) -> None:
    store, mirror = tmp_path / "s", tmp_path / "m"
    with Kit.open(store) as kit:
        grow(kit, 700)
        kit.stream.flush("audit")
        kit.ledger.seal()
        first = kit.ledger.mirror(str(mirror), check=True)
        assert [log.log for log in first.logs] == ["main", "bulk"]
    with Kit.open(store) as kit:
        grow(kit, 600)
        second = kit.ledger.mirror(str(mirror), check=True)
        assert (second.logs[0].before, second.logs[0].size > 1300) == (first.logs[0].size, True)
        assert kit.ledger.mirror(str(mirror), check=True).logs[0].files == 0
        assert (mirror / "main/checkpoint").read_text("utf-8") == kit.ledger.checkpoint().text
        assert (mirror / "main/vkey").read_text("utf-8").strip() == kit.ledger.vkey().vkey
        assert len(list((mirror / "main/tile/0").glob("*.p/*"))) == 1, "partial tiles of older trees are gone"
        with pytest.raises(InvalidInput, match="outside"):
            kit.ledger.mirror(str(store / "m"))
        vkeys = {log: kit.ledger.vkey(log=log).vkey for log in ("main", "bulk")}
        tile = mirror / "main/tile/0/001"
        data = bytearray(tile.read_bytes())
        data[40] ^= 1
        tile.write_bytes(data)
        with pytest.raises(IntegrityError):
            Mirror(str(store / "ledger"), str(mirror), vkeys).check()


def test_a_mirror_refuses_a_rewritten_history_and_keeps_its_own(tmp_path: Path) -> None:
    store, mirror = tmp_path / "s", tmp_path / "m"
    with Kit.open(store) as kit:
        grow(kit)
    shutil.copytree(store, tmp_path / "older")
    (tmp_path / "older/keys").chmod(0o700)
    with Kit.open(store) as kit:
        grow(kit, 3)
        kit.ledger.mirror(str(mirror))
    kept = {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()}
    with Kit.open(tmp_path / "older") as kit:
        grow(kit, 9)
        with pytest.raises(IntegrityError, match="do not extend"):
            kit.ledger.mirror(str(mirror))
    with Kit.open(tmp_path / "other") as kit, pytest.raises(IntegrityError, match="follows another"):
        kit.ledger.mirror(str(mirror))
    assert {path: path.read_bytes() for path in mirror.rglob("*") if path.is_file()} == kept


def test_what_expired_leaves_the_mirror_too(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        kit.stream.configure("audit", keep_ops=1)
        for _ in range(2):
            grow(kit)
            kit.ledger.seal()
        assert kit.ledger.mirror(str(tmp_path / "m")).logs[0].removed == 0
        kit.ledger.expire()
        assert kit.ledger.mirror(str(tmp_path / "m"), check=True).logs[0].removed == 2


WRITER = """
import sys
from ipfs_kit import Kit
with Kit.open(sys.argv[1], surface="python") as kit:
    for _ in sys.stdin:
        try:
            kit.bucket.create(f"b{_.strip()}")
            print("made", flush=True)
        except Exception as error:
            print(type(error).__name__, flush=True)
"""


def test_a_frozen_store_takes_no_changes_from_any_process_until_it_is_thawed(tmp_path: Path) -> None:
    store = tmp_path / "s"
    with Kit.open(store) as kit:
        kit.bucket.create("docs")
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdin is not None
            assert other.stdout is not None

            def tried(n: int) -> str:
                assert other.stdin is not None
                assert other.stdout is not None
                other.stdin.write(f"{n}\n")
                other.stdin.flush()
                return other.stdout.readline().strip()

            assert tried(1) == "made"
            assert kit.ledger.freeze("inquiry 8").frozen
            assert tried(2) == "ReadOnly"
            with pytest.raises(ReadOnly, match="inquiry 8"):
                kit.bucket.create("more")
            with pytest.raises(ReadOnly):
                kit.ledger.freeze("again")
            assert [b.name for b in kit.bucket.list().buckets] == ["b1", "docs"]
            assert kit.ledger.mirror(str(tmp_path / "m")).logs[0].files
            other.stdin.close()
            assert other.wait(30) == 0
    with Kit.open(store) as kit:
        with pytest.raises(ReadOnly):
            kit.stream.append("audit", events=[{"event_type": "user", "action": "made"}])
        assert kit.ledger.unfreeze().reason == "inquiry 8"
        kit.bucket.create("more")
        with pytest.raises(NotFound):
            kit.ledger.unfreeze()
        assert [op.status for op in kit.ledger.tail(limit=50).ops if op.operation == "bucket.create"].count(
            "denied"
        ) == 2
        assert kit.ledger.verify().ok
