"""The small steps everything else is made of."""

from __future__ import annotations

import json
import os
import statistics
import time
from hashlib import sha256

from benchmarks.harness import Bench, each, per_call
from benchmarks.ledger import draft
from ipfs_kit import CID, Kit
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ledger.record import decode, encode


def run(bench: Bench) -> None:
    calls = bench.size(50_000, 2_000)
    cid = CID.of(b"hello")
    text, binary = str(cid), cid.binary
    _micro(bench, "parse a CID from text", lambda: CID.parse(text), calls, "base32 CIDv1", at_most=3)
    _micro(bench, "parse a CID from bytes", lambda: CID(binary), calls, "CIDv1, 36 bytes", at_most=3)
    _micro(bench, "CID to text", lambda: str(CID(binary)), calls, "base32 CIDv1, parse included")
    with bench.folder("primitives") as folder:
        _opening(bench, folder / "open")
        with Kit.open(folder / "store") as kit:
            one = draft(kit, 1)
            actor_key = kit.engine.keys.subject_key(one.actor)
            data = encode(one, node=kit.engine.ledger.node, time_ns=time.time_ns(), key=actor_key)
            value = dag_cbor.decode(data)
            _micro(
                bench, "dag-cbor encode of an op record", lambda: dag_cbor.encode(value), calls,
                f"{len(data)} bytes", peer=("json.dumps of as many fields", lambda: json.dumps(JSON_LIKE)),
            )  # fmt: skip
            _micro(bench, "dag-cbor decode of an op record", lambda: dag_cbor.decode(data), calls, f"{len(data)} bytes")
            _micro(bench, "op record decoded and checked", lambda: decode(data), calls, f"{len(data)} bytes")
            _packs(bench, kit)


JSON_LIKE = {f"field-{number}": "x" * 12 if number % 2 else number for number in range(25)}


def _micro(
    bench: Bench, name: str, work: object, calls: int, given: str, *, peer: tuple[str, object] | None = None,
    at_most: float | None = None,
) -> None:  # fmt: skip
    raw = [s * 1e6 for s in per_call(work, calls)]
    other = [s * 1e6 for s in per_call(peer[1], calls)] if peer else []
    bench.figure(
        name, raw, unit="us", raw_unit="us", given=f"{given}; {calls} calls a round", warmup="one round",
        peer=peer[0] if peer else None, peer_value=statistics.median(other) if other else None, peer_raw=other,
        at_most=at_most,
    )  # fmt: skip


def _opening(bench: Bench, path: object) -> None:
    with Kit.open(path) as kit:
        kit.bucket.create("notes")

    def once(_: int) -> None:
        Kit.open(path, read_only=True).close()

    raw = [s * 1e3 for s in each(once, bench.size(30, 5), 3)]
    bench.figure("open and close a store", raw, unit="ms", raw_unit="ms", given="small store, to read", warmup="3")


def _packs(bench: Bench, kit: Kit) -> None:
    count, size = bench.size(20_000, 1_000), 4096
    blocks = [(CID.of(data), data) for data in (os.urandom(size) for _ in range(count))]
    store = kit.engine.blocks
    start = time.perf_counter()
    for cid, data in blocks:
        store.put(cid, data, verify=False)
    store.sync()
    put = (time.perf_counter() - start) / count * 1e6
    given = f"{count} random blocks of 4 KiB"
    bench.figure("pack put, sync at the end included", [put], unit="us", raw_unit="us", given=given)
    raw = [s * 1e6 for s in each(lambda n: store.get(blocks[n * 7919 % count][0]), count, 100)]
    data = blocks[0][1]
    hashing = statistics.median(s * 1e6 for s in per_call(lambda: sha256(data).digest(), 5_000))
    bench.figure(
        "pack get, verified", raw, unit="us", raw_unit="us", given=given, warmup="100", peer="SHA-256 of 4 KiB",
        peer_value=hashing,
    )  # fmt: skip
    raw = [s * 1e6 for s in per_call(lambda: store.has(blocks[5][0]), 5_000)]
    bench.figure("pack has", raw, unit="us", raw_unit="us", given=given, warmup="one round")
