"""Blocking work run for async callers, and its result in the published shape."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ipfs_kit import KitError, to_json
from ipfs_kit_py._shape import shape


class Calls:
    """How an adapter runs its calls: off the event loop, on its compute layer when it has one."""

    compute_layer: ThreadPoolExecutor | None = None

    async def run(self, operation: str, work: Callable[[], Any]) -> dict[str, Any]:
        """Run blocking work off the event loop; it returns a Result, or a Result and the data to show."""
        answer: dict[str, Any] = await self.thread(lambda: self.answer(operation, work))
        return answer

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
        result, data = found if isinstance(found, tuple) else (found, to_json(found.value))
        shown = shape(operation, data, result.op_id)
        if self.compute_layer is not None:
            shown["compute"] = {"device": "cpu", "workers": 1, "milliseconds": (time.perf_counter_ns() - started) / 1e6}
        return shown
