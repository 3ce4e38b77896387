"""The benchmarks run end to end at reduced sizes and print and write what they found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("primitives", "store", "files", "ledger", "bucket", "mcp_stdio", "cli", "kubo")


@pytest.mark.slow
def test_quick_mode_prints_and_writes_every_figure(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(out), "--dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "memory", "kernel", "python", "filesystem", "versions"} <= set(found["machine"])
    assert len(found["figures"]) >= 40
    for figure in found["figures"]:
        assert figure["name"] in done.stdout
        assert figure["raw"]
        assert figure["given"]
        assert figure["unit"]
        assert figure["reached"] is None, "a reduced input is not judged"
    for name in NAMES:
        assert f"\n{name}\n" in done.stdout
    assert not list(tmp_path.glob("ipfs-kit-bench-*")), "nothing is left behind"
