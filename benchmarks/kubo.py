"""Kubo on the same inputs, where ``make peers`` has built it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from benchmarks.files import make_tree
from benchmarks.harness import Bench, child
from benchmarks.store import random_file

KUBO = Path(".peers/ipfs")


def run(bench: Bench) -> None:
    if not KUBO.exists():
        bench.note("Kubo is not built here: 'make peers' builds it where Go is present")
        return
    version = subprocess.run([KUBO, "version", "--number"], check=True, capture_output=True, text=True).stdout.strip()
    size, count = bench.size(1 << 30, 16 << 20), bench.size(20_000, 400)
    with bench.folder("kubo") as folder:
        random_file(folder / "input", size)
        make_tree(folder / "tree", count)
        for name, target, given in (
            ("add of one large file", folder / "input", f"{size >> 20} MiB of fresh random bytes"),
            ("add of a tree", folder / "tree", f"{count} files of 0.5-8 KB in 200 folders"),
        ):
            ours: list[float] = []
            theirs: list[float] = []
            for number in range(bench.size(3, 1)):
                mine = child("add", str(folder / f"{target.name}-ours-{number}"), str(target))
                seconds, root = _kubo(folder / f"{target.name}-kubo-{number}", target)
                assert root == mine["cid"], f"roots differ: {root} and {mine['cid']}"
                ours.append(float(mine["seconds"]))
                theirs.append(seconds)
            bench.figure(
                name, ours, unit="s", given=f"{given}; fresh repositories, equal roots, offline; Kubo's time includes its start",
                warmup="page cache", peer=f"Kubo {version}, flatfs with sync", peer_value=sorted(theirs)[len(theirs) // 2],
                peer_raw=theirs,
            )  # fmt: skip


def _kubo(repo: Path, target: Path) -> tuple[float, str]:
    environment = os.environ | {"IPFS_PATH": str(repo), "IPFS_TELEMETRY": "off"}
    kubo = str(KUBO.resolve())
    subprocess.run(
        [kubo, "init", "--empty-repo", "--profile=unixfs-v1-2025"], check=True, capture_output=True, env=environment
    )
    start = time.perf_counter()
    done = subprocess.run(
        [kubo, "add", "-r", "-Q", "--offline", str(target)], check=True, capture_output=True, text=True, env=environment
    )
    return time.perf_counter() - start, done.stdout.split()[-1]
