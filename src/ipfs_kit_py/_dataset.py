"""Sealed batches of recorded operations: what ``enable_dataset_storage`` turns on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from ipfs_kit import CID, IntegrityError, Kit, KitError, NotFound, Result, to_json
from ipfs_kit.ipld import dag_cbor

LOGS = ("main", "bulk")


class LedgerDataset:
    """The records of a store as content-addressed batches, each named by the CID of its manifest.

    Args:
        kit: The open store.
        batch_size: Calls between two seals; 0 seals on request only.
    """

    def __init__(self, kit: Kit, batch_size: int = 0) -> None:
        self._kit = kit
        self._batch_size = batch_size
        self._calls = 0
        self._guard = threading.Lock()

    def count(self) -> None:
        """Count one recorded call; the one that fills the batch seals it.

        A seal that fails leaves the records where they are, in the log, and the next call tries again.
        """
        with self._guard:
            self._calls += 1
            full = 0 < self._batch_size <= self._calls
            if full:
                self._calls = 0
        if full:
            try:
                self.flush()
            except KitError as exc:
                logging.getLogger(__name__).warning("sealing failed and will be tried again: %s", exc)
                with self._guard:
                    self._calls += self._batch_size

    def flush(self) -> dict[str, Any]:
        """Publish and seal both logs.

        Returns:
            ``cid`` of the newest batch of changes and ``cids`` of each log; ``distributed`` is False: batches are local.
        """
        cids = {log: to_json(self._kit.engine.ledger.flush(log)) for log in LOGS}
        return {"cid": cids["main"] or cids["bulk"], "cids": cids, "distributed": False}

    def manifest(self, cid: str) -> dict[str, Any]:
        """One batch: log, first and last index, record CIDs, tree root, and the batch before.

        Raises:
            NotFound: The store has no such batch.
            IntegrityError: Its bytes are not what its CID says.
        """
        wanted = CID.parse(cid)
        for log in LOGS:
            path = self._kit.engine.path / "ledger" / log / "manifests" / str(wanted)
            if path.is_file():
                data = path.read_bytes()
                wanted.check(data)
                found: dict[str, Any] = dag_cbor.decode(data)
                return found
        raise NotFound(f"this store has no batch {cid}: flush_to_dataset() returns the newest")

    def batches(self, log: str = "main", limit: int = 1000) -> list[str]:
        """CIDs of the newest batches of a log, newest first, following the chain of manifests."""
        newest = self.flush()["cids"][log]
        found: list[str] = []
        while newest is not None and len(found) < limit:
            found.append(newest)
            newest = to_json(self.manifest(newest)["prev"])
        return found

    def load(self, cid: str) -> list[dict[str, Any]]:
        """The records of one batch, each once and in order.

        Raises:
            NotFound: The store has no such batch.
            IntegrityError: A record is not the one the batch names.
        """
        body = self.manifest(cid)
        page = self._kit.call("ledger.tail", log=body["log"], limit=body["count"], cursor=str(body["first"])).value
        if [op.cid for op in page.ops] != list(body["records"]):
            raise IntegrityError(f"the records of batch {cid} are not those it names: run 'ipfs-kit ledger verify'")
        return [dict(to_json(op)) for op in page.ops]


class CountedKit(Kit):
    """A kit whose calls, by whatever surface, count towards the next seal."""

    counter: LedgerDataset | None = None

    def call_with(self, name: str, arguments: Mapping[str, Any], **options: Any) -> Result:
        """Run one operation and count it, whether it succeeds or not."""
        try:
            return super().call_with(name, arguments, **options)
        finally:
            self.count()

    def count(self) -> None:
        """Count one recorded call."""
        if self.counter is not None:
            self.counter.count()
