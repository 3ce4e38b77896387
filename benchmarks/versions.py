"""Versions: history of one path among many commits, last changes of a folder, commits under rules, snapshots of a folder."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench
from ipfs_kit import Kit

FOLDERS = 50


def run(bench: Bench) -> None:
    commits = bench.size(10_000, 60)
    given = f"{commits:,} commits of one file each, {FOLDERS} folders"
    with bench.folder("versions") as folder, Kit.open(folder / "store") as kit:
        kit.bucket.create("b")
        for number in range(FOLDERS):
            kit.files.mkdir(f"b:/d{number}")
        early, late = committed(kit, commits)
        bench.figure(
            "versions: a commit, the last tenth", late, value=1000 * statistics.median(late), unit="ms", given=given,
            peer="the first tenth", peer_value=1000 * statistics.median(early), peer_raw=early, ratio_at_most=2.0,
        )  # fmt: skip
        histories(bench, kit, given)
        guarded(bench, kit, bench.size(300, 10))
        snapshots(bench, kit, folder / "tree", bench.size(20_000, 200))


def committed(kit: Kit, commits: int) -> tuple[list[float], list[float]]:
    """Make commits; seconds of the first and of the last tenth of them."""
    taken = []
    for number in range(commits):
        kit.files.write(f"b:/d{number % FOLDERS}/f{number % 4}", text=str(number))
        if number % (commits // 10) == 5:
            kit.files.write("b:/d7/rare", text=str(number))
        taken.append(timed(lambda: kit.versions.commit("b", message="m")))
    tenth = commits // 10
    return taken[:tenth], taken[-tenth:]


def histories(bench: Bench, kit: Kit, given: str) -> None:
    """``log PATH`` of a path that ten commits touched, and ``blame``, beside looking at every commit."""
    first = timed(lambda: kit.versions.log("b:/d7/rare"))
    bench.figure("versions: file all commits by path, once", [first], value=first, unit="s", given=given)
    asked = [timed(lambda: kit.versions.log("b:/d7/rare")) for _ in range(bench.size(20, 3))]
    walked = timed(lambda: kit.versions.log("b", metadata={"no": "commit"}))
    bench.figure(
        "versions: log of a path that 10 commits touched", asked, value=1000 * statistics.median(asked), unit="ms",
        given=given, peer="looking at every commit", peer_value=1000 * walked, peer_raw=[walked], ratio_at_most=0.1,
    )  # fmt: skip
    blamed = [timed(lambda: kit.versions.blame("b:/")) for _ in range(bench.size(20, 3))]
    bench.figure(
        f"versions: last changes of {FOLDERS} entries", blamed, value=1000 * statistics.median(blamed), unit="ms", given=given,
        at_most=100,
    )  # fmt: skip


def guarded(bench: Bench, kit: Kit, commits: int) -> None:
    """A commit of a bucket with quota, rule and protection, beside the same without."""
    plain = rounds(kit, "b", commits)
    kit.bucket.set_quota("b", size_bytes=1 << 40, entries=1_000_000)
    kit.versions.rule_set("b", "small", max_bytes=1 << 30)
    kit.versions.protect("b", "main")
    judged = rounds(kit, "b", commits)
    bench.figure(
        "versions: write and commit under quota, rule and protection", judged, value=1000 * statistics.median(judged),
        unit="ms", given=f"{commits} of each", peer="without", peer_value=1000 * statistics.median(plain), peer_raw=plain,
        ratio_at_most=1.5,
    )  # fmt: skip


def rounds(kit: Kit, bucket: str, commits: int) -> list[float]:
    """Seconds of each write with its commit."""

    def one(number: int) -> None:
        kit.files.write(f"{bucket}:/d{number % FOLDERS}/g", text=str(time.perf_counter_ns()))
        kit.versions.commit(bucket, message="m")

    return [timed(lambda number=number: one(number)) for number in range(commits)]


def snapshots(bench: Bench, kit: Kit, tree: Path, files: int) -> None:
    """A folder taken whole, then with one file changed."""
    for number in range(files):
        path = tree / f"{number % 100}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    kit.bucket.create("folder")
    whole = timed(lambda: kit.versions.snapshot(str(tree), "folder"))
    time.sleep(bench.size(3, 0))  # beyond the span within which figures prove nothing
    kit.versions.snapshot(str(tree), "folder")
    taken = []
    for number in range(bench.size(5, 2)):
        (tree / "7" / "7").write_text(f"changed {number}")
        taken.append(timed(lambda: kit.versions.snapshot(str(tree), "folder")))
    bench.figure(
        "versions: snapshot of a folder, one file changed", taken, value=1000 * statistics.median(taken), unit="ms",
        given=f"{files:,} files", peer="the first snapshot", peer_value=1000 * whole, peer_raw=[whole], ratio_at_most=0.3,
    )  # fmt: skip


def timed(work: Callable[[], Any]) -> float:
    """Seconds a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
