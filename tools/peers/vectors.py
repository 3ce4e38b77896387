"""Regenerates tests/ipld/vectors/*.json from real Kubo and ipfs-car (see build.sh)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "tests" / "ipld" / "vectors"
sys.path.insert(0, str(VECTORS))

import corpus  # noqa: E402  # found through the path set above

KUBO = ROOT / ".peers" / "ipfs"
IPFS_CAR = ROOT / ".peers" / "node" / "node_modules" / ".bin" / "ipfs-car"
PROFILES = ("unixfs-v1-2025", "unixfs-v0-2015")


def run(*args: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(a) for a in args], env=env, capture_output=True, text=True, check=True)
    return done.stdout


class Kubo:
    """An offline repository set to one profile."""

    def __init__(self, profile: str, home: Path) -> None:
        self.env = {**os.environ, "IPFS_PATH": str(home), "IPFS_TELEMETRY": "off"}
        run(KUBO, "init", "--empty-repo", "--profile", f"test,{profile}", env=self.env)

    def add(self, path: Path) -> str:
        return run(KUBO, "--offline", "add", "-Q", "-r", "-H", "--only-hash", path, env=self.env).split()[-1]

    def edit(self, path: Path, removals: list[int]) -> list[str]:
        """Add a directory for real, remove its first names in Kubo's own file system and return each root."""
        root = run(KUBO, "--offline", "add", "-Q", "-r", "-H", path, env=self.env).split()[-1]
        run(KUBO, "--offline", "files", "cp", f"/ipfs/{root}", "/edited", env=self.env)
        names = sorted(os.listdir(path))
        roots = []
        done = 0
        for count in removals:
            run(KUBO, "--offline", "files", "rm", *(f"/edited/{n}" for n in names[done:count]), env=self.env)
            done = count
            roots.append(run(KUBO, "--offline", "files", "stat", "--hash", "/edited", env=self.env).strip())
        return roots


def write_file(path: Path, seed: int, size: int) -> None:
    stream = corpus.SeededStream(seed, size)
    with path.open("wb") as out:
        while data := stream.read(8 * corpus.MIB):
            out.write(data)


def ipfs_car(path: Path, work: Path) -> str:
    car = work / "out.car"
    cid = run(IPFS_CAR, "pack", path, "--no-wrap", "--hidden", "--output", car).split()[-1]
    car.unlink()
    return cid


def main() -> int:
    if not (KUBO.exists() and IPFS_CAR.exists()):
        print("no peers in .peers/: run make peers; the vectors stay as they are", file=sys.stderr)
        return 1
    files: list[dict[str, object]] = []
    trees: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=ROOT / ".peers") as name:
        work = Path(name)
        kubos = {profile: Kubo(profile, work / profile) for profile in PROFILES}
        for size in corpus.FILE_SIZES + corpus.FILE_SIZES_LARGE:
            path = work / "file"
            write_file(path, 1, size)
            cids = {p: k.add(path) for p, k in kubos.items()}
            cids["ipfs-car"] = ipfs_car(path, work)
            files.append({"seed": 1, "size": size, "cids": cids})
            path.unlink()
        for label, make in corpus.TREES.items():
            path = work / "tree"
            corpus.materialize(make(), path)
            cids = {p: k.add(path) for p, k in kubos.items()}
            if label in corpus.PLAIN_TREES:
                cids["ipfs-car"] = ipfs_car(path, work)
            trees.append({"tree": label, "cids": cids})
            shutil.rmtree(path)
        path = work / "edited"
        corpus.materialize(corpus.TREES[corpus.EDIT_TREE](), path)
        roots = {p: k.edit(path, corpus.EDIT_REMOVALS) for p, k in kubos.items()}
        edits: list[dict[str, object]] = [
            {"tree": corpus.EDIT_TREE, "removed": count, "cids": {p: r[i] for p, r in roots.items()}}
            for i, count in enumerate(corpus.EDIT_REMOVALS)
        ]
    kubo = run(KUBO, "version", "--number").strip()
    for target, cases in (("files.json", files), ("trees.json", trees), ("edits.json", edits)):
        document = {"kubo": kubo, "ipfs-car": "3.1.0", "cases": cases}
        (VECTORS / target).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{target}: {len(cases)} cases")
    return 0


if __name__ == "__main__":
    sys.exit(main())
