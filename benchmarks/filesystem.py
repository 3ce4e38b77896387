"""Buckets through fsspec: one large file written and read from beginning to end, beside a plain file."""

from __future__ import annotations

import os
import time

from benchmarks.harness import Bench
from ipfs_kit.surfaces.filesystem import KitFileSystem

PIECE = 1 << 20


def run(bench: Bench) -> None:
    size = bench.size(1_024, 16)
    with bench.folder("filesystem") as folder:
        fs = KitFileSystem(store=folder / "store", skip_instance_cache=True)
        fs.makedirs("b")
        data = os.urandom(PIECE)
        plain = folder / "plain"
        with plain.open("wb") as out, fs.open("b/big", "wb") as file:
            for number in range(size):
                piece = number.to_bytes(8, "big") + data[8:]
                out.write(piece)
                file.write(piece)
        given = f"one file of {size} MiB, every block hashed and compared; the page cache holds both"
        for piece in (1 << 16, PIECE, 8 * PIECE):
            ours = [_read(lambda: fs.open("b/big", "rb"), piece) for _ in range(3)]
            theirs = [_read(lambda: plain.open("rb"), piece) for _ in range(3)]
            bench.figure(
                f"fsspec: sequential read by {piece >> 10} KiB", ours, value=size / min(ours), unit="MiB/s", given=given,
                statistic="best of 3", peer="a plain file, nothing checked", peer_value=size / min(theirs), peer_raw=theirs,
                at_least=800 if piece == PIECE else None,
            )  # fmt: skip
        fs.close()


def _read(opened: object, piece: int) -> float:
    start = time.perf_counter()
    with opened() as file:  # type: ignore[operator]
        while file.read(piece):
            continue
    return time.perf_counter() - start
