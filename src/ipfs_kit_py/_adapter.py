"""What all adapters share: which store they open, sealing, threads, one log line."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from ipfs_kit import Kit, KitError, Result
from ipfs_kit_py._calls import Calls
from ipfs_kit_py._dataset import StreamDataset
from ipfs_kit_py._kit import StreamKit
from ipfs_kit_py._record import record
from ipfs_kit_py._shape import shape

HAS_DATASETS = True
"""The engine supplies datasets of records natively."""
HAS_ACCELERATE = True
"""The engine supplies local compute natively."""
OFF = "dataset storage is off"


class Adapter(Calls):
    """Base of the published classes: one store, opened at the first call, and the stream its records belong to.

    The store is the path given, else ``ipfs_client`` if that is a Kit, else ``$IPFS_KIT_STORE``, else the default one.
    """

    def __init__(
        self,
        module: str,
        path: str | Path | None,
        ipfs_client: Any = None,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        dataset_batch_size: int = 100,
        *,
        stream: str,
    ) -> None:
        self.stream = stream
        self.ipfs_client = ipfs_client
        self.enable_dataset_storage = enable_dataset_storage
        self.enable_compute_layer = enable_compute_layer
        self.dataset_batch_size = dataset_batch_size
        self._shared = ipfs_client if path is None and isinstance(ipfs_client, Kit) else None
        self.storage_path = Path(self._shared.engine.path) if self._shared else Kit.store_path(path)
        self.compute_layer = ThreadPoolExecutor(thread_name_prefix="ipfs-kit") if enable_compute_layer else None
        other = ipfs_client is not None and not isinstance(ipfs_client, Kit)
        logging.getLogger(module).info(
            "%s: embedded store %s; dataset storage %s; compute layer %s%s",
            module,
            self.storage_path,
            f"every {dataset_batch_size} records" if enable_dataset_storage else "off",
            "local threads" if enable_compute_layer else "off",
            f"; {type(ipfs_client).__name__} client kept, not used for storage" if other else "",
        )

    @cached_property
    def kit(self) -> StreamKit:
        """The open store; opening it gathers what a crash left without a batch when dataset storage is on."""
        if self._shared is not None:
            kit = StreamKit(self._shared.engine, self._shared.principal, self._shared.surface).bind(self.stream)
        else:
            opened = Kit.open(self.storage_path)
            kit = StreamKit(opened.engine, opened.principal, opened.surface).bind(self.stream)
            self._closer = weakref.finalize(
                self, _release, opened, self.stream if self.enable_dataset_storage else None
            )
        if self.enable_dataset_storage:
            kit.engine.streams.begin(self.stream)
            kit.batches = StreamDataset(kit, self.stream, self.dataset_batch_size)
            kit.batches.gather()
        return kit

    @property
    def dataset_manager(self) -> StreamDataset | None:
        """The batches of the stream; None when dataset storage is off."""
        return self.kit.batches if self.enable_dataset_storage else None

    def call(self, name: str, /, **arguments: Any) -> Result:
        """Run one operation of the engine under the adapter's stream."""
        return self.kit.call_with(name, arguments)

    def refuse(self, name: str, arguments: Mapping[str, Any], error: KitError) -> Result:
        """Record a call that this build does not serve, then raise the error given."""
        return record(self.kit, name, arguments, error=error)

    def flush_to_dataset(self) -> dict[str, Any]:
        """Gather what the stream got since its last batch and name the batch by CID; a failure when storage is off."""
        if self.dataset_manager is None:
            return {"success": False, "error": OFF}
        try:
            return self.dataset_manager.flush()
        except KitError as error:
            return shape("flush_to_dataset", error=error)

    def close(self) -> None:
        """Gather if asked for, and release the store and the pool."""
        if self.compute_layer is not None:
            self.compute_layer.shutdown()
        if "kit" in self.__dict__ and self._shared is None:
            self._closer()
        elif "kit" in self.__dict__ and self.kit.batches is not None:
            self.kit.batches.gather()


def _release(kit: Kit, stream: str | None) -> None:
    try:
        if stream is not None:
            StreamDataset(kit, stream).gather()
    finally:
        kit.close()
