"""Stores with known records for the tests of segments and SQL; no tests here."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

from ipfs_kit.durable.state import StateDB
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ledger import batches, segments
from ipfs_kit.ledger.record import CID_PREFIX, INTENT, OUTCOME, Draft, encode, new_op_id

KEY = b"k" * 32
T0 = 1_700_000_000_000_000_000
OPS = ("files.read", "files.put", "block.put", "ledger.tail", "bucket.commit")
ROOT = CID.of(b"root")


class Ring:
    """Keys of every subject but those destroyed."""

    def __init__(self) -> None:
        self.destroyed: set[str] = set()
        self.asked: list[str] = []

    def subject_key(self, surrogate: str) -> bytes | None:
        self.asked.append(surrogate)
        return None if surrogate in self.destroyed else KEY

    def subject_name(self, surrogate: str) -> str | None:
        return f"Name of {surrogate}"


def draft(i: int, **over: object) -> Draft:
    name = OPS[i % 5]
    fields: dict[str, object] = {
        "op_id": new_op_id(T0 + i * 1_000_000, os.urandom), "time_ns": T0 + i * 1_000_000, "actor": f"a-{i % 4}",
        "surface": "mcp", "operation": name, "stream": name.split(".")[0], "subject": f"s-{i % 3}",
        "target": f"b:/p/{i}.txt", "args": {"n": i}, "before": ROOT if i % 3 == 0 else None,
        "after": [ROOT, ROOT] if i % 50 == 0 else None, "bytes_in": i, "duration_us": i % 977,
        "ext": {"k": [1, ROOT]} if i % 100 == 0 else {},
    }  # fmt: skip
    return Draft(**(fields | over))  # type: ignore[arg-type]


def record(i: int, **over: object) -> bytes:
    made = draft(i, **over)
    return encode(made, KEY if made.subject else None, node="n-1", time_ns=T0 + i * 1_000_000)


def intent_and_outcome(i: int) -> list[bytes]:
    whole = draft(i, operation="pin.remote", status="ok")
    first = whole.as_intent({"step": "send"})
    assert (first.phase, whole.phase) == (INTENT, OUTCOME)
    return [encode(d, KEY, node="n-1", time_ns=T0 + (i + k) * 1_000_000) for k, d in enumerate((first, whole))]


class Store:
    """A state file with both logs and their leaves, as the committer would have left them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.entries: dict[str, list[bytes]] = {"main": [], "bulk": []}
        self.open()

    def open(self) -> None:
        self.state = StateDB.open(self.directory / "state.db", [batches.SCHEMA, segments.SCHEMA])
        self.segments = segments.Segments(self.state, self.directory, self.leaves)

    def leaves(self, log: str, start: int, stop: int) -> list[bytes]:
        return [sha256(b"\0" + entry).digest() for entry in self.entries[log][start:stop]]

    def append(self, records: list[bytes], log: str = "main", batch: int = 100) -> None:
        start = len(self.entries[log])
        with self.state.transaction() as tx:
            for at in range(0, len(records), batch):
                part = records[at : at + batch]
                times = [T0 + (start + at + k) * 1_000_000 for k in range(len(part))]
                batches.insert(tx, log, start + at, part, [data[4:20] for data in part], times)
            size = start + len(records)
            tx.execute("UPDATE ledger_logs SET next_index = ?, size = ? WHERE log = ?", (size, size, log))
        self.entries[log] += [CID_PREFIX + sha256(data).digest() for data in records]

    def everything(self, log: str = "main") -> list[bytes | None]:
        reader = batches.Reader(self.state, self.segments)
        return [data for _, data in reader.read(log, 0, len(self.entries[log]))]
