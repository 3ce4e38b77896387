"""The stdio transport and its calls: clients that do not read, send too much, cancel or are denied."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import mcp_types as types
import pytest
from mcp.shared.message import SessionMessage

from ipfs_kit import Kit
from ipfs_kit.errors import BudgetExceeded, Cancelled
from ipfs_kit.operations.catalogue import CATALOGUE
from ipfs_kit.operations.principal import Principal
from ipfs_kit.surfaces.mcp.calls import ToolCall
from ipfs_kit.surfaces.mcp.pipes import Replies, Requests

WAIT_S = 30.0
LIMITED = Principal("limited", frozenset({"bucket:read"}))


def bounded(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        with anyio.fail_after(WAIT_S):
            await run()

    anyio.run(main)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):  # a test may have closed it
            os.close(end)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("docs")
        opened.files.write("docs:/a.txt", text="one")
        opened.files.write("docs:/wide.bin", data=b"\xff" * 120_000)
        opened.files.write("docs:/big.bin", data=b"\xff" * 300_000)
        yield opened


def message(text: str) -> SessionMessage:
    return SessionMessage(types.JSONRPCNotification(jsonrpc="2.0", method="note", params={"text": text}))


def tool(kit: Kit, name: str, principal: Principal | None = None, **arguments: Any) -> ToolCall:
    return ToolCall(kit, CATALOGUE[name], arguments, {}, principal)


def recorded(kit: Kit, operation: str, log: str) -> list[Any]:
    kit.engine.ledger.flush(log)  # what is still buffered counts
    return [op for op in kit.ledger.tail(log=log, limit=1000).ops if op.operation == operation]


def drained(descriptor: int, lines: int) -> list[bytes]:
    data = b""
    while data.count(b"\n") < lines:
        data += os.read(descriptor, 1 << 16)
    return data.splitlines()


def test_a_client_that_stops_reading_holds_up_its_replies_but_not_the_event_loop(pipe: tuple[int, int]) -> None:
    replies, sent = Replies(pipe[1]), []

    async def send(letter: str) -> None:
        await replies.send(message(letter * 1_000_000))
        sent.append(letter)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for letter in "abc":
                group.start_soon(send, letter)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()  # the loop still turns
            assert sent == []  # a sender waits with its message: nothing is queued behind it
            lines = await anyio.to_thread.run_sync(drained, pipe[0], 3)
        assert [line.count(letter) for line, letter in zip(lines, (b"a", b"b", b"c"), strict=True)] >= [1_000_000] * 3
        assert sent == ["a", "b", "c"]

    bounded(main)


def test_a_client_that_goes_away_unread_ends_the_waiting_reply(pipe: tuple[int, int]) -> None:
    async def main() -> None:
        async def send() -> None:
            with pytest.raises(anyio.BrokenResourceError):
                await Replies(pipe[1]).send(message("a" * 1_000_000))

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await anyio.wait_readable(pipe[0])
            os.close(pipe[0])

    bounded(main)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_message_over_the_bound_is_refused(pipe: tuple[int, int], end: bytes) -> None:
    os.write(pipe[1], b"x" * 1001 + end)

    async def main() -> None:
        with pytest.raises(BudgetExceeded, match="1000 bytes"):
            await Requests(pipe[0], longest=1000).receive()

    bounded(main)


def test_many_small_messages_are_not_taken_for_a_long_one(pipe: tuple[int, int]) -> None:
    line = b'{"jsonrpc":"2.0","method":"note"}\n'
    os.write(pipe[1], line * 100 + line[:-1])
    os.close(pipe[1])

    async def main() -> None:
        assert len([found async for found in Requests(pipe[0], longest=100)]) == 101

    bounded(main)


def test_a_call_cancelled_before_its_thread_begins_does_nothing(kit: Kit) -> None:
    async def main() -> None:
        free, limiter = threading.Event(), anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, free.wait)
            while not limiter.borrowed_tokens:
                await anyio.lowlevel.checkpoint()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await tool(kit, "files.stat", path="docs:/a.txt").in_thread(None)
            assert scope.cancelled_caught
            free.set()

    bounded(main)
    assert recorded(kit, "files.stat", "bulk") == []


def test_a_call_cancelled_under_way_is_told_and_waited_for(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(*_words: Any, cancelled: threading.Event, **_more: Any) -> None:
        begun.set()
        assert cancelled.wait(WAIT_S)
        ended.set()
        raise Cancelled("stopped")

    monkeypatch.setattr(kit, "call_with", work)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(tool(kit, "files.stat", path="docs:/a.txt").in_thread, None)
            await anyio.to_thread.run_sync(begun.wait)
            group.cancel_scope.cancel()
        assert ended.is_set()

    bounded(main)


def test_a_denial_that_has_to_wait_is_recorded_exactly_once(kit: Kit) -> None:
    kit.call_with("bucket.list", {}, principal=LIMITED)  # the caller is known: only the denial itself waits
    call = tool(kit, "files.stat", LIMITED, path="docs:/a.txt")
    assert call.at_once() is None
    assert recorded(kit, "files.stat", "main") == []

    async def main() -> None:
        assert (await call.in_thread(None)).is_error

    bounded(main)
    assert [op.status for op in recorded(kit, "files.stat", "main")] == ["denied"]
    assert recorded(kit, "files.stat", "bulk") == []


def test_a_result_too_large_to_inline_is_rendered_in_a_thread_and_recorded_once(kit: Kit) -> None:
    call = tool(kit, "files.read", path="docs:/wide.bin")
    assert call.at_once() is None  # read, but its JSON becomes a block

    async def main() -> None:
        shown = await call.in_thread(None)
        assert isinstance(shown.content[0], types.ResourceLink)

    bounded(main)
    assert len(recorded(kit, "files.read", "bulk")) == 1


def test_a_large_range_is_answered_at_once_by_a_link_and_not_read(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfs_kit.operations.results.Content.read", None)
    shown = tool(kit, "files.read", path="docs:/big.bin").at_once()
    assert shown is not None
    assert isinstance(shown.content[0], types.ResourceLink)


@pytest.mark.parametrize(
    ("name", "arguments", "quick"),
    [
        ("files.list", {"path": "docs:/"}, True),
        ("files.list", {"path": "docs:/", "limit": 10_000}, False),
        ("files.read", {"path": "docs@op:1:/a.txt"}, False),
        ("block.cid", {"cid": "bafkqaaa"}, True),
        ("ledger.sql", {"query": "select 1"}, False),
        ("files.write", {"path": "docs:/a.txt", "text": "x"}, False),
    ],
)
def test_only_bounded_reads_run_on_the_event_loop(kit: Kit, name: str, arguments: dict[str, Any], quick: bool) -> None:
    assert tool(kit, name, **arguments).is_quick is quick
