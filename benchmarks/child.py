"""Measurements that need a process of their own: memory, and everything about starting."""

from __future__ import annotations

import json
import sys
import time

_START = time.perf_counter()


def peak_bytes() -> int:
    """Peak resident bytes of this program alone; ``ru_maxrss`` would inherit the parent's."""
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def add(store: str, path: str, *flags: str) -> dict[str, object]:
    """Add a file; the time is that of the call alone, its ack included."""
    from ipfs_kit import Kit

    with Kit.open(store) as kit:
        start = time.perf_counter()
        result = kit.call("store.add", path=path, only_hash="only-hash" in flags)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "ack": result.ack, "cid": str(result.value.cid), "peak": peak_bytes()}


def put(store: str, path: str) -> dict[str, object]:
    """Import a folder into a new bucket and commit it."""
    from ipfs_kit import Kit

    with Kit.open(store) as kit:
        kit.bucket.create("tree")
        start = time.perf_counter()
        info = kit.files.put(path, "tree:/all")
        between = time.perf_counter()
        kit.versions.commit("tree", message="import")
        end = time.perf_counter()
    return {"put": between - start, "commit": end - between, "seconds": end - start, "files": info.files,
            "peak": peak_bytes()}  # fmt: skip


def first_stat(store: str, path: str) -> dict[str, object]:
    """Import the library, open a store and answer one stat."""
    from ipfs_kit import Kit

    imported = time.perf_counter()
    with Kit.open(store, create=False) as kit:
        opened = time.perf_counter()
        kit.files.stat(path)
        end = time.perf_counter()
    return {"imports": imported - _START, "open": end - imported, "only_open": opened - imported, "peak": peak_bytes()}


if __name__ == "__main__":
    work = {"add": add, "put": put, "first-stat": first_stat}[sys.argv[1]]
    print(json.dumps(work(*sys.argv[2:])))
