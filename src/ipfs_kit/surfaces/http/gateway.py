"""``/ipfs/CID[/path]``: content by address, verified, immutable, sandboxed."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ipfs_kit.errors import InvalidInput
from ipfs_kit.surfaces.text import human_size, safe

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

SANDBOX = {
    "content-security-policy": "sandbox; default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}
"""Content of strangers must not act as this server's pages (decision 32)."""


def gateway_routes() -> list[Route]:
    """Routes of the gateway."""
    from starlette.routing import Route

    return [Route("/ipfs/{path:path}", _serve, methods=["GET", "HEAD"])]


async def _serve(request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response, StreamingResponse

    from ipfs_kit.surfaces.http.app import call_as

    path = request.path_params["path"].rstrip("/")
    if request.query_params.get("format") == "raw" or "application/vnd.ipld.raw" in request.headers.get("accept", ""):
        block = await run_in_threadpool(call_as, request, "block.get", {"cid": path})
        headers = {**SANDBOX, "etag": f'"{path}.raw"', "cache-control": "public, max-age=31536000, immutable"}
        return Response(block.value, media_type="application/vnd.ipld.raw", headers=headers)
    stat = (await run_in_threadpool(call_as, request, "store.stat", {"path": path})).value
    if stat.kind == "dir":
        return await run_in_threadpool(_directory, request, path)
    etag = f'"{stat.cid}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"etag": etag})
    first, length = parse_range(request.headers.get("range"), stat.size)
    content = (
        await run_in_threadpool(call_as, request, "store.cat", {"path": path, "offset": first, "length": length})
    ).value
    headers = {
        **SANDBOX,
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "public, max-age=31536000, immutable",
        "content-length": str(content.length),
        "x-ipfs-path": quote(f"/ipfs/{path}"),
    }
    status = 200
    if "range" in request.headers and length is not None:
        status = 206
        headers["content-range"] = f"bytes {first}-{first + content.length - 1}/{stat.size}"
    body: Any = () if request.method == "HEAD" else content.open()
    return StreamingResponse(body, status, headers, "application/octet-stream")


def parse_range(header: str | None, size: int) -> tuple[int, int | None]:
    """Read a single-range Range header (RFC 9110, section 14).

    Args:
        header: The header, or None.
        size: Bytes of the file.

    Returns:
        First byte, and length or None for the rest of the file.

    Raises:
        InvalidInput: The range is malformed or lies beyond the file.
    """
    if header is None:
        return 0, None
    unit, _, spec = header.partition("=")
    first, dash, last = spec.partition("-")
    if unit.strip() != "bytes" or not dash or "," in spec or not (first.strip() + last.strip()).isdecimal():
        raise InvalidInput("only one range of bytes is served: Range: bytes=FIRST-LAST")
    if not first.strip():
        count = min(int(last), size)
        return size - count, count
    start = int(first)
    if start >= size:
        raise InvalidInput(f"the file has {size} bytes: the range starts beyond its end")
    stop = min(int(last), size - 1) if last.strip() else size - 1
    if stop < start:
        raise InvalidInput("a range ends at or after its start")
    return start, stop - start + 1


def _directory(request: Request, path: str) -> Response:
    from starlette.responses import HTMLResponse

    from ipfs_kit.surfaces.http.app import call_as

    page = call_as(request, "store.ls", {"path": path, "cursor": request.query_params.get("cursor")}).value
    rows = [
        f'<tr><td><a href="/ipfs/{quote(path)}/{quote(e.name.encode("utf-8", "surrogateescape"))}">{html.escape(safe(e.name))}</a></td>'
        f"<td>{'' if e.kind == 'dir' else human_size(e.size)}</td><td><code>{e.cid}</code></td></tr>"
        for e in page.entries
    ]
    more = f'<p><a href="?cursor={quote(page.cursor)}">next page</a></p>' if page.cursor else ""
    body = f"<!doctype html><meta charset=utf-8><title>/ipfs/{html.escape(safe(path))}</title><table>{''.join(rows)}</table>{more}"
    return HTMLResponse(body, headers=SANDBOX)
