"""The pass over the main log: one read of each record, nothing held but what exists now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.errors import BlockNotFound, Expired, KitError
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ledger.batches import Reader, log_state
from ipfs_kit.ledger.record import MAIN, Record, decode
from ipfs_kit.operations.replay.changes import bucket_changes
from ipfs_kit.operations.replay.findings import ReplayReport, RowFault, Unreadable
from ipfs_kit.operations.replay.metadata import MetadataReplay
from ipfs_kit.operations.replay.pins import PinsReplay
from ipfs_kit.operations.replay.rows import SLACK_NS, RowsReplay
from ipfs_kit.operations.replay.snapshots import SnapshotsReplay
from ipfs_kit.operations.replay.tables import TablesReplay

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

_STRETCH: Final = 512
"""Ops whose rows are compared together: bounds what is held of rows that never change."""

Progress = Callable[[int, int], None]


def replay(engine: Engine, now_ns: int, progress: Progress | None = None) -> ReplayReport:
    """Derive the rows of ``state.db`` from the records of the main log and compare; writes nothing.

    The log is read beside running writers; only what they add during the pass is read, with the comparison of the
    tables that ops change, in one snapshot.

    Args:
        engine: The open store.
        now_ns: The present time; decides what may have expired.
        progress: Told of ops done and in all.

    Returns:
        Every row that disagrees.
    """
    return _Run(engine, now_ns, progress).run()


class _Run:
    def __init__(self, engine: Engine, now_ns: int, progress: Progress | None) -> None:
        self._engine = engine
        self._progress = progress
        self.report = ReplayReport()
        self._unreadable = Unreadable()
        kept_since_ns = now_ns - engine.buckets.horizon_ns + SLACK_NS
        self._rows = RowsReplay(engine.state.query, self._unreadable, self.report, kept_since_ns)
        self._tables = TablesReplay(self._unreadable, self.report, kept_since_ns)
        self._pins = PinsReplay(self._unreadable, self.report)
        self._metadata = MetadataReplay(engine.state.query, self._unreadable, self.report)
        self._snapshots = SnapshotsReplay(engine.buckets, self._tables, self.report, kept_since_ns, now_ns)

    def run(self) -> ReplayReport:
        report, state = self.report, self._engine.state
        try:
            stop = log_state(state, MAIN).next_index
            self._read(self._engine.ledger.reader, 0, stop)
            with state.snapshot() as view:
                following = log_state(view, MAIN).next_index
                self._read(Reader(view, self._engine.ledger.segments), stop, following)
                self._tables.compare(view)
                self._pins.compare(view)
            self._snapshots.compare(state.query)
            self._rows.compare_beyond(log_state(state, MAIN).next_index)
            self._metadata.compare_beyond(log_state(state, MAIN).next_index)
        except KitError as exc:
            what = f"the records cannot be read beyond {report.ops}: {exc.message}"
            report.add(RowFault.UNREADABLE, f"log {MAIN}", what, None)
        return report

    def _read(self, reader: Reader, start: int, stop: int) -> None:
        records = reader.read(MAIN, start, stop)
        for first in range(start, stop, _STRETCH):
            last = min(stop, first + _STRETCH)
            for _ in range(first, last):
                index, data = next(records)
                self._take(index, data)
            self._rows.compare(first, last)
            self._metadata.compare(first, last)
            self.report.ops = last
            if self._progress is not None:
                self._progress(last, stop)

    def _take(self, op: int, data: bytes | None) -> None:
        if data is None:
            self._unreadable.add(op)
            return
        record = decode(data)
        if record.effect is None or record.status != "ok":
            return  # nothing was changed
        try:
            effect = self._effect(record)
        except (Expired, BlockNotFound):
            self._unreadable.add(op)
            return
        self._pins.apply(op, effect)
        self._metadata.apply(op, effect)
        for change in bucket_changes(effect):
            self._rows.apply(op, record.time_ns, change)
            self._tables.apply(op, record.time_ns, change)

    def _effect(self, record: Record) -> Any:
        """A record's effect; a large one is read from its block.

        Raises:
            Expired: Its subject's key was destroyed.
        """
        opened = self._engine.ledger.open_record(record)
        if opened.effect is None:
            raise Expired("the effect was erased with its subject's key")
        if isinstance(opened.effect, CID) and opened.effect.codec == DAG_CBOR:
            return dag_cbor.decode(self._engine.blocks.get(opened.effect))
        return opened.effect
