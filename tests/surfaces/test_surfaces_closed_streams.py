"""The command line with closed or full standard streams: a status that says so, and a store that stays whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_kit import Kit

RUN = "import sys; from ipfs_kit.surfaces.cli.main import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("b")
        kit.files.write("b:/f", text="x")
    return tmp_path / "store"


def shell(store: Path, words: str) -> subprocess.CompletedProcess[str]:
    line = f'exec "$0" -c "$1" --store "$2" {words}'
    return subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, RUN, str(store)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_write_with_closed_streams_succeeds_and_the_store_verifies(store: Path, closed: str) -> None:
    assert shell(store, f"mkdir b:/d {closed}").returncode == 0
    with Kit.open(store) as kit:
        assert kit.files.stat("b:/d").kind == "dir"
        assert kit.store.verify().ok


def test_a_full_output_device_is_a_storage_error_and_no_defect(store: Path) -> None:
    found = shell(store, "ls b:/ >/dev/full")
    assert found.returncode == 6
    assert "No space left" in found.stderr
    assert "report this" not in found.stderr


def test_an_impossible_store_path_is_named(store: Path) -> None:
    found = shell(store.parent / ("x" * 5000), "info")
    assert found.returncode == 6
    assert "File name too long" in found.stderr
