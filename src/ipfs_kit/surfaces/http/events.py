"""Server-sent events: ops as they are recorded, with ids that resume."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.errors import InvalidInput, Unavailable
from ipfs_kit.operations.follow import FEED_ROWS, FOLLOW, POLL_S, Follower, positions
from ipfs_kit.operations.results import to_json

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ipfs_kit.operations.toolsets.follow import FollowPage

SUBSCRIBERS_MAX: Final = 64
HEARTBEAT_S: Final = 15.0
RETRY_MS: Final = 1_000
LAST_MAX: Final = 10_000
_PARAMETERS: Final = frozenset({"cursor", "last", "log"})


def event_routes() -> list[Route]:
    """Routes of the live streams."""
    from starlette.routing import Route

    places = threading.BoundedSemaphore(SUBSCRIBERS_MAX)

    async def events(request: Request) -> Response:
        return await _subscribe(request, places)

    return [
        Route("/api/v1/events", events, methods=["GET"]),
        Route("/api/v1/streams/{stream}/events", events, methods=["GET"]),
    ]


async def _subscribe(request: Request, places: threading.BoundedSemaphore) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import StreamingResponse

    from ipfs_kit.surfaces.http.app import call_as

    given = _arguments(request)
    # An error of the first page is answered with its status, since nothing has been sent yet.
    page: FollowPage = (await run_in_threadpool(call_as, request, FOLLOW, given)).value
    if not places.acquire(blocking=False):
        raise Unavailable(f"{SUBSCRIBERS_MAX} clients follow already; try again when one has gone")
    subscription = _Subscription(request, {name: given[name] for name in ("stream", "log") if name in given}, page)

    class Events(StreamingResponse):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await super().__call__(scope, receive, send)
            finally:
                places.release()

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return Events(subscription.pieces(), media_type="text/event-stream", headers=headers)


def _arguments(request: Request) -> dict[str, Any]:
    query = dict(request.query_params)
    if unknown := set(query) - _PARAMETERS:
        raise InvalidInput(f"{sorted(unknown)[0]!r} is no parameter here; there are {', '.join(sorted(_PARAMETERS))}")
    given: dict[str, Any] = {name: query[name] for name in ("cursor", "log") if name in query}
    if "last" in query:
        if not (query["last"].isascii() and query["last"].isdecimal() and len(query["last"]) <= 6):
            raise InvalidInput(f"last is a number of ops, 0 to {LAST_MAX}")
        given["last"] = int(query["last"])
    if seen := request.headers.get("last-event-id"):
        # What a reconnecting client has seen says more than the address it first connected to.
        given["cursor"] = seen
    if "stream" in request.path_params:
        given["stream"] = request.path_params["stream"]
    return given


class _Subscription:
    """One client's stream: bounded pages read from the ledger as fast as the client takes them."""

    def __init__(self, request: Request, given: dict[str, str], page: FollowPage) -> None:
        self._request, self._given, self._page = request, given, page
        self._ledger = request.app.state.kit.engine.ledger
        self._stopping: threading.Event = request.app.state.stopping

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, until the server stops; the client's going away cancels it."""
        before, rows = positions(self._page)
        yield f"retry: {RETRY_MS}\nid: {before}\n\n".encode()
        cursor = self._page.cursor
        while True:
            for row, after in rows:
                yield f"id: {after}\nevent: op\ndata: {json.dumps(to_json(row), ensure_ascii=False)}\n\n".encode()
            while not (page := await self._next(cursor)).ops:
                if self._stopping.is_set():
                    return
                cursor = page.cursor
                # An id without data moves the client past records that were not wanted.
                yield f": nothing new\nid: {cursor}\n\n".encode()
            cursor, rows = page.cursor, positions(page)[1]

    async def _next(self, cursor: str) -> FollowPage:
        """The next page; an empty one when a heartbeat is due or the server stops."""
        import anyio
        from starlette.concurrency import run_in_threadpool

        from ipfs_kit.operations.toolsets.follow import FollowPage
        from ipfs_kit.surfaces.http.app import call_as

        follower = Follower.of(self._ledger, self._given.get("stream"), self._given.get("log"), cursor)
        due = time.monotonic() + HEARTBEAT_S
        seen: tuple[int, ...] | None = None
        while time.monotonic() < due and not self._stopping.is_set():
            if (sizes := follower.sizes()) != seen:
                seen = sizes
                if await run_in_threadpool(follower.ready):
                    given = {**self._given, "cursor": follower.cursor, "limit": FEED_ROWS}
                    # Each page that is sent is a call like any other: authorised anew and recorded.
                    page: FollowPage = (await run_in_threadpool(call_as, self._request, FOLLOW, given)).value
                    if page.ops:
                        return page
            else:
                await anyio.sleep(POLL_S)
        return FollowPage([], follower.cursor)
