"""A full disk: typed refusals, reads go on, garbage collection makes room, nothing acknowledged is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.durable import faults
from ipfs_kit.durable.reserve import RESERVE_BYTES, SMALL_BYTES, Reserve
from ipfs_kit.errors import NoSpace

IPFS_KIT = [sys.executable, "-m", "ipfs_kit"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(where)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a file system of its own needs the right to mount: {made.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", str(where)], check=True)


def run(store: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [*IPFS_KIT, "--store", str(store), *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.mark.slow
def test_an_import_too_large_is_refused_and_collected_and_a_smaller_one_then_fits(
    small_disk: Path, tmp_path: Path
) -> None:
    store = small_disk / "store"
    run(store, "init")
    run(store, "bucket", "create", "b")
    (tmp_path / "kept").write_bytes(os.urandom(1 << 20))
    run(store, "put", str(tmp_path / "kept"), "b:/kept")
    run(store, "commit", "b", "-m", "kept")
    (tmp_path / "huge").write_bytes(os.urandom(90 << 20))
    assert "gc" in run(store, "put", str(tmp_path / "huge"), "b:/huge", code=6)
    assert "kept" in run(store, "ls", "b:/")
    run(store, "gc")
    (tmp_path / "new").write_bytes(os.urandom(20 << 20))
    run(store, "put", str(tmp_path / "new"), "b:/new")
    run(store, "verify")
    for name in ("kept", "new"):
        run(store, "get", f"b:/{name}", str(tmp_path / f"{name}.back"))
        assert (tmp_path / f"{name}.back").read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.slow
def test_with_no_byte_free_reads_are_answered_and_say_that_they_were_not_recorded(small_disk: Path) -> None:
    store = small_disk / "store"
    run(store, "init")
    run(store, "bucket", "create", "b")
    run(store, "write", "b:/a.txt", "--text", "hello")
    (store / "reserve").unlink(missing_ok=True)
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * (1 << 16)):
                continue
        except OSError:
            assert os.statvfs(small_disk).f_bavail == 0
    said = run(store, "cat", "b:/a.txt")
    assert "hello" in said
    assert "record" in said
    assert "free disk space" in run(store, "write", "b:/b.txt", "--text", "x", code=6)
    filler.unlink()
    run(store, "write", "b:/b.txt", "--text", "x")
    run(store, "verify")


@pytest.mark.parametrize("step", ["append", "sync", "sqlite-sync", "sqlite-write"])
def test_a_refused_durable_write_is_no_space_and_leaves_a_store_that_verifies(tmp_path: Path, step: str) -> None:
    acked: list[str] = []
    met = 0

    def full(kind: str, _path: object) -> None:
        nonlocal met
        if kind == step:
            met += 1
            if met > 3:
                raise OSError(28, os.strerror(28))

    def work() -> None:
        with Kit.open(tmp_path / "s") as kit:
            kit.bucket.create("b")
            for at in range(20):
                kit.files.write(f"b:/f{at}", data=os.urandom(5000))
                acked.append(f"f{at}")

    faults.hook = full
    try:
        with pytest.raises(NoSpace):
            work()
    finally:
        faults.hook = None
    assert met > 3
    with Kit.open(tmp_path / "s") as kit:
        assert kit.store.verify().ok
        kit.bucket.create("after")
        if acked:
            assert set(acked) <= {entry.name for entry in kit.files.list("b:/").entries}


def test_a_small_store_has_a_small_reserve_that_doctor_shows_and_a_restart_completes(tmp_path: Path) -> None:
    store = tmp_path / "small"
    with Kit.open(store) as kit:
        found = kit.system.doctor()
        assert (found.reserve, found.reserve_bytes) == ("complete", SMALL_BYTES)
        assert kit.engine.reserve.release() == SMALL_BYTES
        assert kit.system.doctor().reserve == "given back"
    os.truncate(store / "reserve", 4096)
    with Kit.open(store, read_only=True) as kit:
        assert kit.system.doctor().reserve in ("partial", "given back")
    with Kit.open(store) as kit:
        assert kit.system.doctor().reserve == "complete"
        assert kit.store.info().reserve == SMALL_BYTES
        assert kit.store.verify().ok


def test_a_store_that_grew_gets_the_whole_reserve(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path)
    assert reserve.restore(lambda: 0)
    small = reserve.held()
    assert reserve.restore(lambda: RESERVE_BYTES)
    assert small < reserve.held() == reserve.size
