"""Batches of a stream: N records, then a flush, are a dataset with a CID; loading it gives exactly those N.

A batch is a dag-cbor manifest (decision 15, ``docs/format/streams.md``) in ``ledger/<log>/streams/<its CID>``: the CIDs
and indices of the records, the tree right after the last, and the batch before. Records of one stream may lie in both
logs, or be too many for one manifest; then a flush also writes a node that names its batches in order. Write order:
files durable, then one transaction that registers them; a file that no row names is removed by the next flush.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.durable import StateDB, create_idempotent, make_dirs
from ipfs_kit.durable.files import remove, sweep_temporaries
from ipfs_kit.errors import IntegrityError, NotFound
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ledger import merkle
from ipfs_kit.ledger.record import FIELDS, INTENT, LOGS, Record, decode, record_cid_bytes
from ipfs_kit.ledger.select import Where, select
from ipfs_kit.ledger.streams.registry import stream_named

if TYPE_CHECKING:
    from ipfs_kit.ledger.ledger import Ledger

FOLDER: Final = "streams"
BATCH_KIND: Final = "ipfs-kit/stream-batch"
PARTS_KIND: Final = "ipfs-kit/stream-dataset"
RECORDS_MAX: Final = 8_192
"""Records of one manifest: about 370 kB, well within what other tools accept as a block."""
PARTS_MAX: Final = 16_384
_PHASE: Final = FIELDS.index("phase")


@dataclass(frozen=True, slots=True)
class Flushed:
    """One flush of a stream.

    Args:
        stream: The stream.
        seq: Number of the flush, from 0.
        cid: Names exactly the records it gathered.
        count: How many.
        time_ns: When.
    """

    stream: str
    seq: int
    cid: CID
    count: int
    time_ns: int


class StreamBatches:
    """Gathers the records of streams into batches; safe to use from any thread and process.

    Args:
        ledger: The ledger.
        state: ``state.db``, opened with ``streams.schema.SCHEMA`` among its schemas.
        now_ns: Wall clock.
    """

    def __init__(self, ledger: Ledger, state: StateDB, now_ns: Callable[[], int]) -> None:
        self._ledger = ledger
        self._state = state
        self._now_ns = now_ns
        self._swept = False

    # -- writing -------------------------------------------------------------------------------------------------

    def flush(self, stream: str) -> Flushed | None:
        """Gather the records that came since the last flush.

        Args:
            stream: A stream.

        Returns:
            The new flush; the last one when nothing came since; None when there never was a record.

        Raises:
            StorageFailed: A file could not be written; the records stay where they are and the next flush takes them.
        """
        name = stream_named(stream).name
        with self._ledger.publishing() as sizes:
            if not self._swept:
                self._sweep()
                self._swept = True
            parts: list[tuple[str, int, int, int, CID]] = []
            for log in LOGS:
                parts += self._gather(name, log, sizes[log])
            if not parts:
                return self.last(name)
            log = parts[0][0]
            count = sum(part[3] for part in parts)
            cid = parts[0][4] if len(parts) == 1 else self._join(name, log, parts, count)
            row = self._state.query("SELECT max(seq) FROM stream_flushes WHERE stream = ?", (name,))[0][0]
            flushed = Flushed(name, 0 if row is None else row + 1, cid, count, self._now_ns())
            with self._state.transaction() as tx:
                tx.executemany(
                    "INSERT INTO stream_batches(stream, log, first_index, last_index, count, cid) VALUES(?, ?, ?, ?, ?, ?)",
                    [(name, part[0], part[1], part[2], part[3], part[4].binary) for part in parts],
                )
                tx.execute(
                    "INSERT INTO stream_flushes(stream, seq, cid, log, count, time_ns) VALUES(?, ?, ?, ?, ?, ?)",
                    (name, flushed.seq, cid.binary, log, count, flushed.time_ns),
                )
                tx.executemany(
                    "INSERT OR REPLACE INTO stream_cursors(stream, log, scanned) VALUES(?, ?, ?)",
                    [(name, each, sizes[each]) for each in LOGS],
                )
            return flushed

    def begin(self, stream: str) -> None:
        """Let the first flush of a stream start here, not at the beginning of the logs; without effect later."""
        name = stream_named(stream).name
        if not self._state.query("SELECT 1 FROM stream_cursors WHERE stream = ?", (name,)):
            with self._state.transaction() as tx:
                tx.executemany(
                    "INSERT OR IGNORE INTO stream_cursors(stream, log, scanned) VALUES(?, ?, ?)",
                    [(name, log, self._ledger.size(log)) for log in LOGS],
                )

    def sweep(self) -> int:
        """Remove manifests that a crash left before their rows; how many."""
        with self._ledger.publishing():
            return self._sweep()

    # -- reading -------------------------------------------------------------------------------------------------

    def last(self, stream: str) -> Flushed | None:
        """The newest flush of a stream; None when there is none."""
        found = self.flushes(stream, limit=1)
        return found[0] if found else None

    def flushes(self, stream: str, *, limit: int = 100, before: int | None = None) -> list[Flushed]:
        """Flushes of a stream, newest first.

        Args:
            stream: A stream.
            limit: Most returned.
            before: Only those with a smaller number.
        """
        rows = self._state.query(
            "SELECT stream, seq, cid, count, time_ns FROM stream_flushes WHERE stream = ? AND seq < ? "
            "ORDER BY seq DESC LIMIT ?",
            (stream, (1 << 62) if before is None else before, limit),
        )
        return [Flushed(name, seq, CID(cid), count, time_ns) for name, seq, cid, count, time_ns in rows]

    def waiting(self, stream: str) -> int:
        """Records since the last flush, counted by their stored columns."""
        return sum(
            1
            for log in LOGS
            for _, data in select(
                self._state, self._ledger.segments, log, Where(stream=frozenset({stream})), self._cursor(stream, log)
            )
            if not _is_intent(data)
        )

    def manifest(self, cid: CID) -> dict[str, Any]:
        """A batch or a node of batches by its CID, its bytes checked.

        Raises:
            NotFound: This ledger has none of that name.
            IntegrityError: The bytes are not what the name says.
        """
        for log in LOGS:
            try:
                with open(os.path.join(self._folder(log), str(cid)), "rb") as file:
                    data = file.read(1 << 21)
            except OSError:
                continue
            cid.check(data)
            body = dag_cbor.decode(data)
            if isinstance(body, dict) and body.get("kind") in (BATCH_KIND, PARTS_KIND):
                return body
        raise NotFound(f"this ledger has no batch {cid}: 'ipfs-kit stream batches STREAM' lists them")

    def records(self, cid: CID) -> Iterator[tuple[str, int, Record | None]]:
        """Log, index and record of every record of a batch, each once and in order; None where it is not kept any more.

        Raises:
            NotFound: This ledger has no such batch.
            IntegrityError: A record is not the one the batch names.
        """
        body = self.manifest(cid)
        if body["kind"] == PARTS_KIND:
            for part in body["parts"]:
                yield from self.records(part)
            return
        log, wanted = body["log"], dict(zip(body["indices"], body["records"], strict=True))
        where = Where(stream=frozenset({body["stream"]}))
        kept = select(self._state, self._ledger.segments, log, where, body["first"], body["last"] + 1)
        at = iter(body["indices"])
        for index, data in kept:
            if index not in wanted:
                continue
            for expired in at:
                if expired == index:
                    break
                yield log, expired, None
            if record_cid_bytes(_digest(data)) != wanted[index].binary:
                raise IntegrityError(
                    f"record {index} of log {log} is not the one that batch {cid} names: run ledger verify", index=index
                )
            yield log, index, decode(data)
        for expired in at:
            yield log, expired, None

    # -- inside --------------------------------------------------------------------------------------------------

    def _sweep(self) -> int:
        """Remove what no row names; the caller holds the publishing lease, so no flush is under way."""
        known = {row[0] for row in self._state.query("SELECT cid FROM stream_batches")}
        known |= {row[0] for row in self._state.query("SELECT cid FROM stream_flushes")}
        names = {str(CID(cid)) for cid in known}
        removed = 0
        for log in LOGS:
            directory = self._folder(log)
            if not os.path.isdir(directory):
                continue
            sweep_temporaries(directory)
            for name in os.listdir(directory):
                if name not in names:
                    remove(os.path.join(directory, name))
                    removed += 1
        return removed

    def _folder(self, log: str) -> str:
        return os.path.join(self._ledger.directory, log, FOLDER)

    def _cursor(self, stream: str, log: str) -> int:
        rows = self._state.query("SELECT scanned FROM stream_cursors WHERE stream = ? AND log = ?", (stream, log))
        return int(rows[0][0]) if rows else 0

    def _gather(self, stream: str, log: str, size: int) -> Iterator[tuple[str, int, int, int, CID]]:
        """Write a manifest for every ``RECORDS_MAX`` records that came; the caller holds the publishing lease."""
        rows = self._state.query(
            "SELECT cid FROM stream_batches WHERE stream = ? AND log = ? ORDER BY first_index DESC LIMIT 1",
            (stream, log),
        )
        previous = CID(rows[0][0]) if rows else None
        found: list[tuple[int, bytes]] = []
        where = Where(stream=frozenset({stream}))
        for index, data in select(self._state, self._ledger.segments, log, where, self._cursor(stream, log), size):
            if _is_intent(data):
                # An op that acts outside the store has two records; its outcome is the one that says how it ended.
                continue
            found.append((index, record_cid_bytes(_digest(data))))
            if len(found) == RECORDS_MAX:
                previous = self._write(stream, log, size, found, previous)
                yield log, found[0][0], found[-1][0], len(found), previous
                found = []
        if found:
            previous = self._write(stream, log, size, found, previous)
            yield log, found[0][0], found[-1][0], len(found), previous

    def _write(self, stream: str, log: str, size: int, found: list[tuple[int, bytes]], previous: CID | None) -> CID:
        last = found[-1][0]
        files = self._ledger.tile_files(log)
        return self._store(
            log,
            {
                "v": 1,
                "kind": BATCH_KIND,
                "stream": stream,
                "log": log,
                "origin": self._ledger.origin(log),
                "first": found[0][0],
                "last": last,
                "count": len(found),
                "size": last + 1,
                "root": merkle.root(files.nodes(size), last + 1),
                "indices": [index for index, _ in found],
                "records": [CID(cid) for _, cid in found],
                "prev": previous,
            },
        )

    def _join(self, stream: str, log: str, parts: list[tuple[str, int, int, int, CID]], count: int) -> CID:
        if len(parts) > PARTS_MAX:
            raise IntegrityError(f"a flush of {stream} has {len(parts)} batches: at most {PARTS_MAX} fit one node")
        return self._store(
            log,
            {"v": 1, "kind": PARTS_KIND, "stream": stream, "count": count, "parts": [part[4] for part in parts]},
        )

    def _store(self, log: str, body: dict[str, Any]) -> CID:
        data = dag_cbor.encode(body)
        cid = CID.of(data, DAG_CBOR)
        folder = self._folder(log)
        make_dirs(folder)
        create_idempotent(os.path.join(folder, str(cid)), data)
        return cid


def _is_intent(data: bytes) -> bool:
    return bool(dag_cbor.decode(data)[_PHASE] == INTENT)


def _digest(data: bytes) -> bytes:
    return sha256(data).digest()
