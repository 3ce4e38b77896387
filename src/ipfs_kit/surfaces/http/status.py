"""``/health`` and ``/metrics``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route


def status_routes() -> list[Route]:
    """Routes of liveness and figures."""
    from starlette.routing import Route

    return [Route("/health", _health), Route("/metrics", _metrics)]


async def _health(request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse

    engine = request.app.state.kit.engine
    if engine.failed:
        return JSONResponse({"status": "failed"}, 503)
    # Whether the disk is filling up is for every prober to know; how much is free is not.
    room = await run_in_threadpool(engine.room)
    return JSONResponse({"status": "ok", "reserve": room.state})


async def _metrics(request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import PlainTextResponse

    from ipfs_kit.surfaces.http.app import call_as

    text = (await run_in_threadpool(call_as, request, "telemetry.prometheus", {})).value.text
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
