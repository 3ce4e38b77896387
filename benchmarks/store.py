"""Adding one large file: durable, hash only, and again; beside the disk's own rate and two-core SHA-256."""

from __future__ import annotations

import os
import shutil
import statistics
import threading
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.harness import Bench, child

CHUNK = 4 << 20
REPEAT = 3


def run(bench: Bench) -> None:
    size = bench.size(1 << 30, 32 << 20)
    given = f"{size >> 20} MiB of fresh random bytes, page cache warm"
    ours: list[float] = []
    disk: list[float] = []
    hashed: list[float] = []
    again: list[float] = []
    plain: list[float] = []
    peaks: list[float] = []
    with bench.folder("store") as folder:
        for number in range(REPEAT):
            source, store = folder / "input", folder / f"store-{number}"
            random_file(source, size)
            # The same probe before and after each add shows whether the disk held still meanwhile.
            disk.append(write_rate(folder, size))
            ours.append(_add(source, store, peaks))
            disk.append(write_rate(folder, size))
            plain.append(two_core_sha256(source, size))
            hashed.append(float(child("add", str(folder / "empty"), str(source), "only-hash")["seconds"]))
            again.append(float(child("add", str(store), str(source))["seconds"]))
            shutil.rmtree(store)
    mib = size / (1 << 20)
    rate = [mib / s for s in ours]
    bench.figure(
        "durable add of new bytes", ours, unit="MiB/s", value=statistics.median(rate), given=given,
        warmup="input written, synced and read once", peer="write + fdatasync of as many bytes from memory, fastest",
        peer_value=mib / min(disk), peer_raw=disk, ratio_at_least=0.85, steady_peer=True,
    )  # fmt: skip
    for name, raw in (("hash only", hashed), ("add again (all blocks known)", again)):
        bench.figure(
            name, raw, unit="MiB/s", value=statistics.median(mib / s for s in raw), given=given,
            warmup="input in the page cache", peer="SHA-256 of the same bytes on two threads",
            peer_value=mib / min(plain), peer_raw=plain, ratio_at_least=0.8, steady_peer=True,
        )  # fmt: skip
    bench.figure(
        "peak memory while adding", peaks, unit="MB", raw_unit="MB", given=given, statistic="largest",
        value=max(peaks), at_most=200,
    )  # fmt: skip


def _add(source: Path, store: Path, peaks: list[float]) -> float:
    found = child("add", str(store), str(source))
    assert found["ack"] == "fsync"
    peaks.append(float(found["peak"]) / 1e6)
    return float(found["seconds"])


def random_file(path: Path, size: int) -> None:
    """Write fresh random bytes, put them on disk and read them once."""
    with open(path, "wb") as out:
        for _ in range(0, size, CHUNK):
            out.write(os.urandom(CHUNK))
        out.flush()
        os.fsync(out.fileno())
    with open(path, "rb", buffering=0) as stream:
        while stream.read(CHUNK):
            pass


def write_rate(folder: Path, size: int) -> float:
    """Seconds the disk takes for as many bytes: plain writes of one buffer, then fdatasync."""
    path = folder / "disk.probe"
    buffer = os.urandom(CHUNK)
    start = time.perf_counter()
    with open(path, "wb", buffering=0) as out:
        for _ in range(0, size, CHUNK):
            out.write(buffer)
        os.fdatasync(out.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds


def two_core_sha256(source: Path, size: int) -> float:
    """Seconds two threads take to hash the file's two halves in 1 MiB pieces from memory already mapped in."""
    data = source.read_bytes()
    view = memoryview(data)

    def half(first: int, stop: int) -> None:
        for at in range(first, stop, 1 << 20):
            sha256(view[at : min(stop, at + (1 << 20))]).digest()

    threads = [
        threading.Thread(target=half, args=(0, size // 2)),
        threading.Thread(target=half, args=(size // 2, size)),
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start
