"""The public log over HTTP, as C2SP tlog-tiles: checkpoint, tiles and entry bundles, with the types and caching it asks for.

A partial tile stays available for every size that was ever signed, although its file goes once a newer checkpoint is
published: a narrower tile is the beginning of the wider one.
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Final

from ipfs_kit.errors import IntegrityError
from ipfs_kit.ledger.layout import CHECKPOINT, ENTRIES, TILE_WIDTH, full_tiles, index_path, partial_width
from ipfs_kit.ledger.record import LOGS, MAIN
from ipfs_kit.ledger.tiles import encode_bundle

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from ipfs_kit.ledger.ledger import Ledger

_TILE: Final = re.compile(
    r"(?P<kind>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?"
)
_FOREVER: Final = "public, max-age=31536000, immutable"
_NOT_CACHED: Final = "no-cache"
_OCTETS: Final = "application/octet-stream"


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
    from starlette.responses import FileResponse

    log = request.path_params.get("log", MAIN)
    path = request.app.state.kit.engine.path / "ledger" / log / CHECKPOINT
    if log not in LOGS or not path.is_file():
        return _missing("no such log, or not published yet\n")
    return FileResponse(path, media_type="text/plain; charset=utf-8", headers={"cache-control": _NOT_CACHED})


async def _tile(request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response as Answer

    log, found = request.path_params.get("log", MAIN), _TILE.fullmatch(request.path_params["tile"])
    if log not in LOGS or found is None:
        return _missing("no such tile\n")
    index = int(found["index"].replace("x", "").replace("/", ""))
    width = int(found["width"] or TILE_WIDTH)
    if index_path(index) != found["index"] or (found["width"] and width >= TILE_WIDTH):
        return _missing("no such tile: a path has no zeroes in front, and a partial tile 1 to 255 hashes\n")
    data = await run_in_threadpool(_read, request.app.state.kit.engine.ledger, log, found["kind"], index, width)
    if data is None:
        return _missing("no such tile in the published tree\n")
    headers = {"cache-control": _FOREVER}
    if found["kind"] == ENTRIES:
        headers["vary"] = "accept-encoding"
        if _takes_gzip(request.headers.get("accept-encoding", "")):
            headers["content-encoding"] = "gzip"
            data = await run_in_threadpool(gzip.compress, data, 6, mtime=0)
    return Answer(data, media_type=_OCTETS, headers=headers)


def _read(ledger: Ledger, log: str, kind: str, index: int, width: int) -> bytes | None:
    """A tile or bundle that the published tree has or had; None when it never had one of that width."""
    level, size = 0 if kind == ENTRIES else int(kind), ledger.state(log).size
    full = full_tiles(level, size)
    if index > full or (index == full and width > partial_width(level, size)):
        return None
    files = ledger.tile_files(log)
    try:
        if kind == ENTRIES:
            return encode_bundle(files.entries(index, width))
        return b"".join(files.hashes(level, index, width))
    except IntegrityError:
        return None


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header names gzip, or anything, with a weight above zero."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = parameters.strip().removeprefix("q=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _missing(text: str) -> Response:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(text, 404, headers={"cache-control": _NOT_CACHED})
