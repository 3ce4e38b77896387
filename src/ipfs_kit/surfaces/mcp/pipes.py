"""The stdio transport over pipes: lines read and written on the event loop itself.

The SDK's own transport hands every line to a worker thread three times (read, write, flush), which costs a quick call
more than all its work. Pipes and sockets tell when they are ready, so no thread is needed; anything else (a terminal, a
file, Windows) is served by the SDK's transport. Framing is MCP's: one JSON-RPC message a line, UTF-8.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread

from ipfs_kit.errors import BudgetExceeded

if TYPE_CHECKING:
    from types import TracebackType

    from mcp.shared.message import SessionMessage

MESSAGE_BYTES_MAX = 256 << 20
"""Longest message accepted (256 MiB): a client that never ends its line must not fill the memory."""
READ_BYTES = 1 << 16
PIECE_BYTES = 4096
"""PIPE_BUF of Linux: a pipe that polls as writable takes this much without blocking."""


@asynccontextmanager
async def stdio() -> AsyncIterator[tuple[Any, Any]]:
    """Serve standard input and output as the SDK's pair of message streams.

    Meanwhile descriptor 0 is empty and descriptor 1 is standard error, so that nothing printed reaches the client.

    Yields:
        The streams to read requests from and to write replies to.
    """
    if not (_is_pipe(0) and _is_pipe(1)):
        from mcp.server.stdio import stdio_server

        async with stdio_server() as streams:
            yield streams
        return
    sys.stdout.flush()
    source, sink = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    try:
        yield Requests(source), Replies(sink)
    finally:
        sys.stdout.flush()
        os.dup2(source, 0)
        os.dup2(sink, 1)
        os.close(source)
        os.close(sink)


def _is_pipe(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class _Stream:
    """What both directions share: the SDK closes them, the descriptors are ``stdio``'s."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._closed = False

    async def aclose(self) -> None:
        """Take or give no more messages."""
        self._closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class Requests(_Stream):
    """Messages of the client; a line that is no message comes as the error that says so.

    Args:
        descriptor: A pipe or socket.
        longest: Bytes of the longest message accepted.
    """

    def __init__(self, descriptor: int, longest: int = MESSAGE_BYTES_MAX) -> None:
        super().__init__(descriptor)
        self._longest = longest
        self._lines: list[bytes] = []
        self._rest = bytearray()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def receive(self) -> SessionMessage | Exception:
        """The next message.

        Raises:
            EndOfStream: The client closed its end.
            BudgetExceeded: The message is longer than accepted.
        """
        import mcp_types as types
        from mcp.shared.message import SessionMessage

        while not self._lines:
            if self._closed:
                raise anyio.ClosedResourceError
            await anyio.wait_readable(self._descriptor)
            self._take(os.read(self._descriptor, READ_BYTES))
        try:
            line = self._lines.pop().decode("utf-8", "replace")
            return SessionMessage(types.jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError as exc:
            return exc

    def _take(self, data: bytes) -> None:
        """Cut what arrived into lines, the last one first, so that taking one is cheap."""
        if not data:
            if not self._rest:
                raise anyio.EndOfStream
            data = b"\n"  # the last line may lack its end
        first = data.find(b"\n")
        if len(self._rest) + (len(data) if first < 0 else first) > self._longest:
            raise BudgetExceeded(f"a message is longer than {self._longest} bytes: send content in parts")
        end = data.rfind(b"\n") + 1
        if end:
            self._rest += data[:end]
            self._lines = [line for line in bytes(self._rest).split(b"\n") if line.strip()][::-1]
            self._rest = bytearray(data[end:])
        else:
            self._rest += data


class Replies(_Stream):
    """Messages to the client, whole and in order.

    Args:
        descriptor: A pipe or socket.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._turn = anyio.Lock(fast_acquire=True)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    async def send(self, item: SessionMessage) -> None:
        """Write one message; a thread takes over only when the client does not read.

        Raises:
            BrokenResourceError: The client closed its end.
        """
        data = memoryview(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
        if self._closed:
            raise anyio.ClosedResourceError
        async with self._turn:
            try:
                while data and self._poll.poll(0):
                    data = data[os.write(self._descriptor, data[:PIECE_BYTES]) :]
                if data:
                    # A message must not be torn: once begun it is finished, whoever stops waiting for it.
                    with anyio.CancelScope(shield=True):
                        await anyio.to_thread.run_sync(self._finish, data)
            except OSError as exc:
                raise anyio.BrokenResourceError from exc

    def _finish(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
