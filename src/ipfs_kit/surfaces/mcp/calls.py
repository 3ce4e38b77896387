"""One tool call: run at once on the event loop, or in a thread that the client can cancel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit.errors import KitError
from ipfs_kit.operations.catalogue import Operation, Surface
from ipfs_kit.operations.context import Progress
from ipfs_kit.operations.dispatcher import MustWait
from ipfs_kit.operations.principal import Principal
from ipfs_kit.surfaces.mcp import replies

if TYPE_CHECKING:
    import mcp_types as types

    from ipfs_kit.operations.kit import Kit
    from ipfs_kit.operations.results import Result

KEY_FIELD = "ipfs-kit/idempotency-key"
QUICK_ENTRIES_MAX = 1000
"""Entries of a page listed on the event loop; longer pages take milliseconds that other calls would wait."""


class ToolCall:
    """A call as the client asked for it.

    Args:
        kit: The store.
        operation: What is called.
        arguments: Its arguments.
        meta: The request's ``_meta``.
        principal: Who calls; None for the kit's own principal.
    """

    def __init__(
        self,
        kit: Kit,
        operation: Operation,
        arguments: Mapping[str, Any],
        meta: Mapping[str, Any],
        principal: Principal | None,
    ) -> None:
        self._kit, self._operation, self._arguments, self._meta = kit, operation, arguments, meta
        self._principal = principal
        self._guard = threading.Lock()
        self._begun = False
        self._ended = threading.Event()
        self._cancelled = threading.Event()
        self._ended_with: Result | KitError | None = None

    @property
    def wants_progress(self) -> bool:
        """Whether the client asked for progress notifications."""
        return "progressToken" in self._meta or "progress_token" in self._meta

    @property
    def is_quick(self) -> bool:
        """Whether the operation is quick and these arguments leave it so: no long page, no state that is rebuilt."""
        if not self._operation.quick or self.wants_progress:
            return False
        limit, path = self._arguments.get("limit"), self._arguments.get("path")
        if isinstance(limit, int) and limit > QUICK_ENTRIES_MAX:
            return False
        return not (isinstance(path, str) and "@op:" in path)

    def at_once(self) -> types.CallToolResult | None:
        """Run here and now; None when something has to wait for the disk, which ``in_thread`` then goes on with."""
        try:
            return self._run(None, may_wait=False)
        except MustWait:
            return None

    async def in_thread(self, report: Callable[[Progress], None] | None) -> types.CallToolResult:
        """Run in a worker thread; the thread is told when the client cancels, and waited for in any case.

        Args:
            report: Receives reports of long work.
        """
        import anyio
        import anyio.to_thread

        try:
            return await anyio.to_thread.run_sync(self._work, report, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            with self._guard:
                self._cancelled.set()
                begun = self._begun
            if begun:
                # The store must not be closed under it.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._ended.wait)
            raise

    def _work(self, report: Callable[[Progress], None] | None) -> Any:
        with self._guard:
            if self._cancelled.is_set():
                return None  # nobody waits for it any more
            self._begun = True
        try:
            return self._run(report, may_wait=True)
        finally:
            self._ended.set()

    def _run(self, report: Callable[[Progress], None] | None, *, may_wait: bool) -> types.CallToolResult:
        if self._ended_with is None:
            self._ended_with = self._call(report, may_wait)
        if isinstance(self._ended_with, KitError):
            if not may_wait:
                raise MustWait  # naming its place in the log waits for the record
            return replies.failure(self._kit, self._ended_with)
        return replies.reply(self._kit, self._ended_with, self._arguments.get("path"), may_wait=may_wait)

    def _call(self, report: Callable[[Progress], None] | None, may_wait: bool) -> Result | KitError:
        key = self._meta.get(KEY_FIELD)
        try:
            return self._kit.call_with(
                self._operation.name,
                self._arguments,
                idempotency_key=key if isinstance(key, str) else None,
                trace=trace_of(self._meta.get("traceparent")),
                progress=report,
                cancelled=self._cancelled,
                principal=self._principal,
                surface=Surface.MCP,
                may_wait=may_wait,
            )
        except KitError as error:
            return error


def trace_of(value: Any) -> bytes | None:
    """The trace id of a W3C traceparent header, 16 bytes."""
    parts = value.split("-") if isinstance(value, str) else []
    if len(parts) != 4 or len(parts[1]) != 32:
        return None
    try:
        return bytes.fromhex(parts[1])
    except ValueError:
        return None
