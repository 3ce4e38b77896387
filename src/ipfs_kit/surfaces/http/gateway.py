"""``/ipfs/CID[/path]``: content by address, verified, immutable, sandboxed."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from ipfs_kit.errors import InvalidInput, PathNotFound
from ipfs_kit.surfaces.http.auth import error_body
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


INDEX = "index.html"
"""What is served for a folder that has one (path gateway specification)."""
_RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*", re.ASCII | re.IGNORECASE)


def gateway_routes() -> list[Route]:
    """Routes of the gateway."""
    from starlette.routing import Route

    return [Route("/ipfs/{path:path}", _serve, methods=["GET", "HEAD"])]


async def _serve(request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response, StreamingResponse

    from ipfs_kit.surfaces.http.app import call_as

    path = _path_of(request)
    if request.query_params.get("format") == "raw" or "application/vnd.ipld.raw" in request.headers.get("accept", ""):
        if matches(request.headers.get("if-none-match", ""), f'"{path}.raw"'):
            return Response(status_code=304, headers={"etag": f'"{path}.raw"'})
        block = await run_in_threadpool(call_as, request, "block.get", {"cid": path, "ciphertext": True})
        headers = {**SANDBOX, "etag": f'"{path}.raw"', "cache-control": "public, max-age=31536000, immutable"}
        return Response(block.value, media_type="application/vnd.ipld.raw", headers=headers)
    stat = (await run_in_threadpool(call_as, request, "store.stat", {"path": path})).value
    if stat.kind == "dir":
        etag = f'"DirIndex-{stat.cid}-{request.query_params.get("cursor") or ""}"'
        given = {"path": path, "cursor": request.query_params.get("cursor")}
        page = (await run_in_threadpool(call_as, request, "store.ls", given)).value
        index = await run_in_threadpool(_index_of, request, path, page)
        if index is None:
            if matches(request.headers.get("if-none-match", ""), etag):
                return Response(status_code=304, headers={"etag": etag})
            return _directory(path, page, etag)
        if not request.url.path.endswith("/"):
            # Relative links of a page lead somewhere else without the slash.
            query = f"?{request.url.query}" if request.url.query else ""
            return Response(status_code=301, headers={**SANDBOX, "location": f"/ipfs/{_quoted(path)}/{query}"})
        path, stat = f"{path}/{INDEX}", index
    etag = f'"{stat.cid}"'
    if matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers={"etag": etag})
    wanted = parse_range(request.headers.get("range"), stat.size)
    if request.headers.get("if-range", etag) != etag:
        wanted = None
    if wanted is not None and wanted[1] == 0:
        return _beyond(stat.size)
    first, length = wanted or (0, None)
    content = (
        await run_in_threadpool(call_as, request, "store.cat", {"path": path, "offset": first, "length": length})
    ).value
    headers = {
        **SANDBOX,
        "etag": etag,
        "accept-ranges": "bytes",
        "cache-control": "public, max-age=31536000, immutable",
        "content-length": str(content.length),
        "x-ipfs-path": _quoted(f"/ipfs/{path}"),
    }
    status = 200
    if wanted is not None:
        status = 206
        headers["content-range"] = f"bytes {first}-{first + content.length - 1}/{stat.size}"
    name = request.query_params.get("filename") or path.rpartition("/")[2]
    if "filename" in request.query_params or request.query_params.get("download") == "true":
        how = "attachment" if request.query_params.get("download") == "true" else "inline"
        headers["content-disposition"] = f"{how}; filename*=UTF-8''{_quoted(name)}"
    chunks: Any = iter(()) if request.method == "HEAD" else content.open()
    return StreamingResponse(chunks, status, headers, media_type_of(name))


def media_type_of(name: str) -> str:
    """The media type a name's ending stands for; bytes of no known kind otherwise."""
    import mimetypes

    found, encoding = mimetypes.guess_type(name, strict=True)
    if found is None or encoding is not None:
        return "application/octet-stream"
    return f"{found}; charset=utf-8" if found.startswith("text/") else found


def _index_of(request: Request, path: str, page: Any) -> Any:
    """What is known of a folder's own page; None when it has none."""
    from ipfs_kit.surfaces.http.app import call_as

    if request.query_params.get("cursor"):
        return None
    found = next((entry for entry in page.entries if entry.name == INDEX), None)
    if found is None and page.cursor is not None:
        try:  # large folders are listed in an order of their own
            found = call_as(request, "store.stat", {"path": f"{path}/{INDEX}"}).value
        except PathNotFound:
            return None
    return found if found is not None and found.kind == "file" else None


def _path_of(request: Request) -> str:
    """The path after ``/ipfs/``, byte-exact: names that are not UTF-8 keep their bytes."""
    raw: bytes = request.scope.get("raw_path") or quote(request.url.path).encode()
    path = unquote(raw.partition(b"?")[0].decode("ascii"), errors="surrogateescape")
    return path.removeprefix("/ipfs/").rstrip("/")


def _quoted(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"))


def matches(header: str, etag: str) -> bool:
    """Whether an If-None-Match header names an entity tag (RFC 9110, section 13.1.2: weak comparison)."""
    return header.strip() == "*" or etag in {tag.strip().removeprefix("W/") for tag in header.split(",")}


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Read a Range header (RFC 9110, section 14).

    Args:
        header: The header, or None.
        size: Bytes of the file.

    Returns:
        First byte and length; length 0 when the range lies beyond the file. None when the whole file is to be sent: without
        the header, and, as the RFC lets a server do, for a malformed header and for several ranges.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        count = min(int(found[2]), size)
        return size - count, count
    start = int(found[1])
    if found[2] and int(found[2]) < start:
        return None
    if start >= size:
        return start, 0
    stop = min(int(found[2]), size - 1) if found[2] else size - 1
    return start, stop - start + 1


def _beyond(size: int) -> Response:
    from starlette.responses import JSONResponse

    error = InvalidInput(f"the file has {size} bytes: the range lies beyond them")
    return JSONResponse(error_body(error)[1], 416, {"content-range": f"bytes */{size}", "accept-ranges": "bytes"})


def _directory(path: str, page: Any, etag: str) -> Response:
    from starlette.responses import HTMLResponse

    rows = [
        f'<tr><td><a href="/ipfs/{_quoted(path)}/{_quoted(e.name)}">{html.escape(safe(e.name))}</a></td>'
        f"<td>{'' if e.kind == 'dir' else human_size(e.size)}</td><td><code>{e.cid}</code></td></tr>"
        for e in page.entries
    ]
    more = f'<p><a href="?cursor={quote(page.cursor)}">next page</a></p>' if page.cursor else ""
    body = f"<!doctype html><meta charset=utf-8><title>/ipfs/{html.escape(safe(path))}</title><table>{''.join(rows)}</table>{more}"
    headers = {
        **SANDBOX,
        "etag": etag,
        "cache-control": "public, max-age=604800",
        "x-ipfs-path": _quoted(f"/ipfs/{path}"),
    }
    return HTMLResponse(body, headers=headers)
