"""What all adapters share: which store they open, the shape of results, sealing, one log line."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from ipfs_kit import Kit, KitError, Result, Surface, to_json
from ipfs_kit.operations.principal import Principal
from ipfs_kit_py._dataset import LedgerDataset
from ipfs_kit_py._record import record
from ipfs_kit_py._shape import shape

HAS_DATASETS = True
"""The engine supplies datasets of records natively."""
HAS_ACCELERATE = True
"""The engine supplies local compute natively."""
OFF = "dataset storage is off"


class Adapter:
    """Base of the published classes: one store, opened at the first call.

    Args:
        module: Published module, named in the log.
        path: The store's directory; when None, ``ipfs_client`` if it is a Kit, else the default store.
        ipfs_client: A Kit, anything that speaks to a node, or None.
        enable_dataset_storage: Seal the recorded operations in batches.
        enable_compute_layer: Run calls on a pool and report the time really used.
        dataset_batch_size: Calls between two seals.
    """

    def __init__(
        self,
        module: str,
        path: str | Path | None,
        ipfs_client: Any = None,
        enable_dataset_storage: bool = False,
        enable_compute_layer: bool = False,
        dataset_batch_size: int = 100,
    ) -> None:
        self.ipfs_client = ipfs_client
        self.enable_dataset_storage = enable_dataset_storage
        self.enable_compute_layer = enable_compute_layer
        self.dataset_batch_size = dataset_batch_size
        self._shared = ipfs_client if path is None and isinstance(ipfs_client, Kit) else None
        self.storage_path = Path(self._shared.engine.path) if self._shared else Kit.store_path(path)
        self.compute_layer = ThreadPoolExecutor(thread_name_prefix="ipfs-kit") if enable_compute_layer else None
        client = (
            ""
            if ipfs_client is None or isinstance(ipfs_client, Kit)
            else f"; {type(ipfs_client).__name__} client kept, not used for storage"
        )
        sealing = f"every {dataset_batch_size} calls" if enable_dataset_storage else "off"
        compute = "local threads" if enable_compute_layer else "off"
        logging.getLogger(module).info(
            "%s: embedded store %s; dataset storage %s; compute layer %s%s",
            module,
            self.storage_path,
            sealing,
            compute,
            client,
        )

    @cached_property
    def kit(self) -> Kit:
        """The open store; opening it seals what a crash left unsealed when dataset storage is on."""
        kit = self._shared or Kit.open(self.storage_path)
        if self._shared is None:
            self._closer = weakref.finalize(self, _close, kit, self.enable_dataset_storage)
        if self.enable_dataset_storage:
            LedgerDataset(kit).flush()
        return kit

    @cached_property
    def dataset_manager(self) -> LedgerDataset | None:
        """The sealed batches of the store; None when dataset storage is off."""
        return LedgerDataset(self.kit) if self.enable_dataset_storage else None

    def call(
        self, name: str, /, _surface: Surface | None = None, _who: Principal | None = None, **arguments: Any
    ) -> Result:
        """Run one operation, and seal when a batch is full."""
        try:
            return self.kit.call_with(name, arguments, surface=_surface, principal=_who)
        finally:
            self.count_call()

    def count_call(self) -> None:
        """Count one recorded call towards the next seal."""
        if self.dataset_manager is not None:
            self.dataset_manager.count(self.dataset_batch_size)

    def refuse(self, name: str, arguments: Mapping[str, Any], error: KitError) -> Result:
        """Record a call that this build does not serve.

        Raises:
            KitError: Always the error given.
        """
        try:
            return record(self.kit, name, arguments, error=error)
        finally:
            self.count_call()

    async def run(self, operation: str, work: Callable[[], Any]) -> dict[str, Any]:
        """Run blocking work off the event loop and put its result into the published shape.

        Args:
            operation: Published name of the method.
            work: Returns a Result, or a pair of a Result and the data to show.
        """
        return await self.thread(lambda: self.answer(operation, work))

    async def thread(self, work: Callable[[], Any]) -> Any:
        """Run blocking work off the event loop, on the compute layer when there is one."""
        import anyio.to_thread

        pool = self.compute_layer
        return await anyio.to_thread.run_sync(work if pool is None else lambda: pool.submit(work).result())

    def answer(self, operation: str, work: Callable[[], Any]) -> dict[str, Any]:
        """The published shape of one call's result; a failure keeps its stable kind."""
        started = time.perf_counter_ns()
        try:
            found = work()
        except KitError as error:
            return shape(operation, error=error)
        result, data = found if isinstance(found, tuple) else (found, None)
        shown = shape(operation, data if data is not None else to_json(result.value), result.op_id)
        if self.compute_layer is not None:
            shown["compute"] = {"device": "cpu", "workers": 1, "milliseconds": (time.perf_counter_ns() - started) / 1e6}
        return shown

    def flush_to_dataset(self) -> dict[str, Any]:
        """Seal everything recorded so far and name the batches by CID; never claims success when storage is off."""
        if self.dataset_manager is None:
            return {"success": False, "error": OFF}
        manager = self.dataset_manager
        try:
            return shape("flush_to_dataset", manager.flush())
        except KitError as error:
            return shape("flush_to_dataset", error=error)

    def close(self) -> None:
        """Seal if asked for, and release the store and the pool."""
        if self.compute_layer is not None:
            self.compute_layer.shutdown()
        if "kit" in self.__dict__ and self._shared is None:
            self._closer()


def _close(kit: Kit, seal: bool) -> None:
    try:
        if seal:
            LedgerDataset(kit).flush()
    finally:
        kit.close()
