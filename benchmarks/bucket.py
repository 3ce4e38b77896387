"""A bucket of a million entries, flat and nested: stat, ls, small commits and opening."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Bench, child, each, percentile
from benchmarks.ledger import draft
from ipfs_kit import Kit
from ipfs_kit.buckets.index import Item
from ipfs_kit.ipld.unixfs import build_bytes


def run(bench: Bench) -> None:
    for shape, folders in (("flat", 1), ("nested", bench.size(1_000, 50))):
        total = bench.size(1_000_000, 5_000)
        with bench.folder("bucket") as folder:
            _build(folder / "store", folders, total // folders)
            given = f"{total} entries in {folders} folder{'s'[: folders > 1]}, each a 4-byte file"
            _measure(bench, folder / "store", shape, folders, total // folders, given)


def _name(folders: int, folder: int, number: int) -> tuple[str, str]:
    return ("all" if folders == 1 else f"d{folder:04d}", f"entry-{folder:04d}-{number:07d}.txt")


def _build(path: Path, folders: int, each_folder: int) -> None:
    """Link one tiny block under every name; the folders are real and differ."""
    with Kit.open(path) as kit:
        kit.bucket.create("big")
        buckets = kit.engine.buckets
        space = buckets.workspace("big").space
        with buckets.window():
            item = Item.of(build_bytes(b"tiny", space.profile, space.put))

            def entries(folder: int) -> Iterator[tuple[bytes, Item]]:
                for number in range(each_folder):
                    yield _name(folders, folder, number)[1].encode(), item

            made = [
                (
                    _name(folders, at, 0)[0].encode(),
                    space.view.edit(space.view.empty(space.put), entries(at), space.put),
                )
                for at in range(folders)
            ]
            top = space.view.edit(space.view.empty(space.put), made, space.put)
            kit.engine.ledger.submit(draft(kit, 0), buckets.put_entry("big:/data", top)).result()
        kit.versions.commit("big", message="filled")


def _measure(bench: Bench, path: Path, shape: str, folders: int, each_folder: int, given: str) -> None:
    step = 7919

    def somewhere(number: int) -> str:
        at = number * step % (folders * each_folder)
        return "/".join(("big:/data", *_name(folders, at // each_folder, at % each_folder)))

    opened = [child("first-stat", str(path), somewhere(number)) for number in range(bench.size(7, 2))]
    imports = statistics.median(float(o["imports"]) for o in opened) * 1e3
    with Kit.open(path) as kit:
        raw = [s * 1e3 for s in each(lambda n: kit.files.stat(somewhere(n)), bench.size(5_000, 300), 50)]
        bench.figure(
            f"{shape}: stat", raw, unit="ms", raw_unit="ms", given=given, warmup="50 others", statistic="p99",
            value=percentile(raw, 0.99), at_most=1,
        )  # fmt: skip
        cursors: list[str | None] = [None]

        def page(number: int) -> None:
            folder = f"big:/data/{_name(folders, number % folders, 0)[0]}"
            found = kit.files.list(folder, cursor=cursors[-1] if folders == 1 else None, limit=1000)
            cursors.append(found.cursor)

        raw = [s * 1e3 for s in each(page, bench.size(600, 30), 10)]
        bench.figure(
            f"{shape}: ls page of 1,000", raw, unit="ms", raw_unit="ms", given=given, warmup="10 pages", statistic="p99",
            value=percentile(raw, 0.99), at_most=5,
        )  # fmt: skip
        commits = _commits(kit, bench.size(9, 3), somewhere)
        bench.figure(
            f"{shape}: commit of 10 changes", commits, unit="ms", raw_unit="ms", given=given, warmup="one commit",
            at_most=100,
        )  # fmt: skip
    bench.figure(
        f"{shape}: open and first stat in a fresh process", [float(o["open"]) * 1e3 for o in opened], unit="ms",
        raw_unit="ms", given=f"{given}; importing the library ({imports:.0f} ms) not counted",
        at_most=300,
    )  # fmt: skip
    peaks = [float(o["peak"]) / 1e6 for o in opened]
    bench.figure(
        f"{shape}: peak memory of that process", peaks, unit="MB", raw_unit="MB", given=given, statistic="largest",
        value=max(peaks),
    )  # fmt: skip


def _commits(kit: Kit, rounds: int, somewhere: object) -> list[float]:
    def change(number: int) -> None:
        for at in range(10):
            kit.files.write(somewhere(number * 10 + at), text=f"changed in round {number}")

    found = []
    for number in range(rounds + 1):
        change(number)
        found += [s * 1e3 for s in each(lambda n: kit.versions.commit("big", message=f"round {n}"), 1)]
    return found[1:]
