"""The public log over HTTP, as C2SP tlog-tiles: checkpoint and tiles, with the caching the spec asks for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_TILE = re.compile(r"(entries|\d{1,2})/(x\d{3}/)*\d{3}(\.p/\d{1,3})?")


def ledger_routes() -> list[Route]:
    """Routes of the main log under ``/ledger`` and of each log under ``/ledger/LOG``."""
    from starlette.routing import Route

    return [
        Route("/ledger/checkpoint", _checkpoint),
        Route("/ledger/{log:str}/checkpoint", _checkpoint),
        Route("/ledger/tile/{tile:path}", _tile),
        Route("/ledger/{log:str}/tile/{tile:path}", _tile),
    ]


async def _checkpoint(request: Request) -> Response:
    return _file(request, request.path_params.get("log", "main"), "checkpoint", "text/plain; charset=utf-8", "no-cache")


async def _tile(request: Request) -> Response:
    from starlette.responses import Response

    tile = request.path_params["tile"]
    if not _TILE.fullmatch(tile):
        return Response("no such tile\n", 404)
    cache = "public, max-age=31536000, immutable"
    return _file(request, request.path_params.get("log", "main"), f"tile/{tile}", "application/octet-stream", cache)


def _file(request: Request, log: str, name: str, media_type: str, cache: str) -> Response:
    from starlette.responses import FileResponse, Response

    if log not in {"main", "bulk"}:
        return Response("no such log\n", 404)
    path = request.app.state.kit.engine.path / "ledger" / log / name
    if not path.is_file():
        return Response("not published yet\n", 404)
    return FileResponse(path, media_type=media_type, headers={"cache-control": cache})
