"""Batches of a stream's records: what ``enable_dataset_storage`` turns on."""

from __future__ import annotations

import logging
import threading
from typing import Any

from ipfs_kit import CID, Kit, KitError, to_json
from ipfs_kit_py._shape import shape

PAGE = 1_000


class StreamDataset:
    """The records of one stream as batches, each named by the CID of its manifest.

    Args:
        kit: The open store.
        stream: The stream.
        batch_size: Records that make a batch; 0 gathers on request only.
    """

    def __init__(self, kit: Kit, stream: str, batch_size: int = 0) -> None:
        self._kit = kit
        self.stream = stream
        self._batch_size = batch_size
        self._records = 0
        self._guard = threading.Lock()

    def count(self, records: int = 1, *, may_wait: bool = True) -> None:
        """Count recorded ones; those that fill the batch gather it.

        What fails leaves the records where they are, in the ledger, and the next call tries again.
        """
        with self._guard:
            self._records += records
            full = may_wait and 0 < self._batch_size <= self._records
            taken = self._records if full else 0
            self._records -= taken
        if full and not self.gather():
            with self._guard:
                self._records += taken

    def gather(self) -> bool:
        """Gather what came since the last batch, as upkeep: not an op of its own; False when it must be tried again."""
        try:
            self._kit.engine.streams.flush(self.stream)
        except KitError as exc:
            logging.getLogger(__name__).warning("batch of %s will be tried again: %s", self.stream, exc)
            return False
        return True

    def flush(self) -> dict[str, Any]:
        """Gather what came since the last batch, as one recorded op.

        Returns:
            ``cid`` of the newest batch, its ``count``; ``distributed`` is False: batches are local.
        """
        result = self._kit.call_with("stream.flush", {"stream": self.stream})
        with self._guard:
            self._records = 0
        return shape("flush_to_dataset", to_json(result.value), result.op_id)

    def manifest(self, cid: str) -> dict[str, Any]:
        """One batch: its log, the indices and CIDs of its records, the tree's root, and the batch before.

        Raises:
            NotFound: The store has no such batch.
            IntegrityError: Its bytes are not what its CID says.
        """
        return dict(self._kit.engine.streams.manifest(CID.parse(cid)))

    def batches(self, limit: int = PAGE) -> list[str]:
        """CIDs of the newest batches, newest first."""
        page = self._kit.call("stream.batches", stream=self.stream, limit=min(limit, PAGE)).value
        return [str(each.cid) for each in page.batches]

    def load(self, cid: str) -> list[dict[str, Any]]:
        """The records of one batch, each once and in order of time, checked against the CID.

        Raises:
            NotFound: The store has no such batch.
            IntegrityError: A record is not the one the batch names.
        """
        rows: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = self._kit.call("stream.load", cid=cid, cursor=cursor).value
            rows += [dict(to_json(row)) for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                return sorted(rows, key=lambda row: row["time_ns"] or 0)
