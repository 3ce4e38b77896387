"""Starting the command line, beside starting Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.harness import Bench, environment, timed
from ipfs_kit import Kit


def run(bench: Bench) -> None:
    command = str(Path(sys.executable).parent / "ipfs-kit")
    with bench.folder("cli") as folder:
        store = str(folder / "store")
        with Kit.open(store) as kit:
            kit.bucket.create("B")
            for number in range(20):
                kit.files.write(f"B:/file-{number}.txt", text="hello")
            kit.versions.commit("B", message="twenty files")
        lines = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "ipfs-kit --version": [command, "--version"],
            "ipfs-kit ls B:/": [command, "--store", store, "ls", "B:/"],
            "ipfs-kit stat": [command, "--store", store, "stat", "B:/file-1.txt"],
            "ipfs-kit put": [command, "--store", store, "put", __file__, "B:/put.txt"],
        }
        raw: dict[str, list[float]] = {name: [] for name in lines}
        for number in range(bench.size(16, 3)):
            # Turn about, so that a change of load meets all.
            for name, words in lines.items():
                seconds = timed(
                    lambda words=words: subprocess.run(words, check=True, capture_output=True, env=environment())
                )
                raw[name] += [seconds * 1e3] if number else []
    bare = sorted(raw["python -c pass"])
    for name in list(lines)[1:]:
        bench.figure(
            name, raw[name], unit="ms", raw_unit="ms", given="a bucket of 20 files, wall time of the process",
            warmup="one run each", peer="python -c pass", peer_value=bare[len(bare) // 2], peer_raw=bare,
            at_most=150 if name != "ipfs-kit put" else None,
        )  # fmt: skip
