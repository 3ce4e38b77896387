"""Batches by age: a stream's waiting records become a batch once the oldest of them is old enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cbrrr

from ipfs_kit.ledger import Where
from ipfs_kit.ledger.record import FIELDS, LOGS
from ipfs_kit.ledger.select import select
from ipfs_kit.ledger.streams import EVENT_STREAMS
from ipfs_kit.ledger.streams.settings import streams_in_force

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

STRETCH: Final = 65_536
"""Records of a log looked at in one go: what more there is waits for the next."""
_STREAM: Final = FIELDS.index("stream")
_TIME: Final = FIELDS.index("time_ns")


class Batcher:
    """Flushes streams of events whose records wait too long; each record is looked at once.

    Args:
        engine: The open store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at: dict[str, int] = {}
        self._oldest: dict[str, int] = {}

    def run(self, now_ns: int) -> list[str]:
        """Flush what is due.

        Args:
            now_ns: Wall clock.

        Returns:
            The streams flushed.

        Raises:
            KitError: A flush failed; its records wait for the next run.
        """
        for log in LOGS:
            self._look(log)
        if not self._oldest:
            return []
        streams = streams_in_force(self._engine.state)
        due = [name for name, since in self._oldest.items() if now_ns - since >= streams[name].batch_age_s * 1e9]
        for name in due:
            self._engine.streams.flush(name)
            # What came after the look is older than nothing we know of; the next look finds it.
            del self._oldest[name]
        return due

    def _look(self, log: str) -> None:
        """Note the oldest record of each stream that no batch holds."""
        state = self._engine.state
        scanned = dict(state.query("SELECT stream, scanned FROM stream_cursors WHERE log = ?", (log,)))
        if log not in self._at:
            self._at[log] = min(scanned.get(name, 0) for name in EVENT_STREAMS)
        start = self._at[log]
        stop = min(self._engine.ledger.size(log), start + STRETCH)
        if stop <= start:
            return
        for index, data in select(state, self._engine.ledger.segments, log, Where(stream=EVENT_STREAMS), start, stop):
            row: Any = cbrrr.decode_dag_cbor(data)
            if index >= scanned.get(row[_STREAM], 0):
                self._oldest.setdefault(row[_STREAM], row[_TIME])
        self._at[log] = stop
