"""The ASGI application: dispatcher, authentication hook, error table, and the routes mounted on them."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit.errors import BudgetExceeded, InvalidInput, KitError
from ipfs_kit.operations.catalogue import CATALOGUE, Surface
from ipfs_kit.operations.kit import Kit
from ipfs_kit.operations.principal import Principal
from ipfs_kit.operations.results import Content, Result, to_json
from ipfs_kit.surfaces.http.auth import TokenAuth, error_body
from ipfs_kit.surfaces.mcp.calls import trace_of
from ipfs_kit.surfaces.mcp.replies import provenance

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

BODY_BYTES_MAX = 32 << 20
"""Largest request body read into memory (32 MiB): arguments, not files."""


def build_app(
    kit: Kit,
    tokens: Mapping[str, Principal],
    *,
    allowed_hosts: Iterable[str] = ("127.0.0.1", "localhost", "::1"),
    extra_routes: Iterable[BaseRoute] = (),
    public_log: bool = False,
    stopping: threading.Event | None = None,
) -> Any:
    """Build the application of one store.

    Args:
        kit: The store.
        tokens: Principals by bearer token.
        allowed_hosts: Host header names it answers to.
        extra_routes: Routes of later surfaces, mounted behind the same authentication and error table.
        public_log: Serve checkpoint and tiles under every host name.
        stopping: Set it when the server stops: live streams then end, and do not hold it open.

    Returns:
        An ASGI 3 application.
    """
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route

    from ipfs_kit.surfaces.http.events import event_routes
    from ipfs_kit.surfaces.http.gateway import gateway_routes
    from ipfs_kit.surfaces.http.ledger import ledger_routes
    from ipfs_kit.surfaces.http.status import status_routes
    from ipfs_kit.surfaces.mcp.server import build_server
    from ipfs_kit.surfaces.mcp.tools import offered

    server = build_server(kit, offered())
    # Host and token are checked by TokenAuth for every route; replies stream, so that progress can be told.
    mcp_app = server.streamable_http_app(
        streamable_http_path="/",
        max_request_body_size=BODY_BYTES_MAX,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with server.session_manager.run():
            yield

    routes: list[BaseRoute] = [
        Route("/api/v1/operations", _operations, methods=["GET"]),
        Route("/api/v1/{operation}", _call, methods=["POST"]),
        *event_routes(),
        *gateway_routes(),
        *ledger_routes(),
        *status_routes(),
        Mount("/mcp", mcp_app),
        *extra_routes,
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={KitError: _on_error})
    app.state.kit = kit
    app.state.stopping = stopping or threading.Event()
    return TokenAuth(McpPath(app), tokens, frozenset(allowed_hosts), public_log=public_log)


class McpPath:
    """Serves ``/mcp`` itself, where a mount would redirect to ``/mcp/``."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and scope["path"] == "/mcp":
            scope = {**scope, "path": "/mcp/", "raw_path": b"/mcp/"}
        await self._app(scope, receive, send)


async def _operations(request: Request) -> Response:
    from starlette.responses import JSONResponse

    listed = [
        {
            "name": op.name,
            "mode": str(op.mode),
            "scope": op.scope,
            "summary": op.summary,
            "input_schema": op.input_schema,
        }
        for op in CATALOGUE.values()
        if op.offered_to(Surface.HTTP)
    ]
    return JSONResponse({"operations": listed})


async def _call(request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, StreamingResponse

    arguments = await read_arguments(request)
    result = await _while_connected(
        request,
        request.path_params["operation"],
        arguments,
        idempotency_key=request.headers.get("idempotency-key"),
        ack=request.headers.get("x-ipfs-kit-ack"),
        trace=trace_of(request.headers.get("traceparent")),
    )
    meta = provenance(result)
    if isinstance(result.value, Content) and "application/octet-stream" in request.headers.get("accept", ""):
        headers = {"content-length": str(result.value.length), "x-ipfs-kit-op": str(result.op_id)}
        return StreamingResponse(result.value.open(), media_type="application/octet-stream", headers=headers)
    body = await run_in_threadpool(lambda: {"result": to_json(result.value), "meta": meta, "replayed": result.replayed})
    return JSONResponse(body)


async def _while_connected(request: Request, name: str, arguments: Mapping[str, Any], **options: Any) -> Result:
    """Call an operation that is told to stop when the client goes away; its record then says ``cancelled``."""
    import anyio
    from starlette.concurrency import run_in_threadpool

    cancelled = threading.Event()

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue  # the body was read before: nothing else is expected
        cancelled.set()

    ended: Result | Exception
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        try:
            ended = await run_in_threadpool(call_as, request, name, arguments, cancelled=cancelled, **options)
        except Exception as exc:  # raised again outside of the group, which would wrap it
            ended = exc
        finally:
            cancelled.set()
        group.cancel_scope.cancel()
    if isinstance(ended, Exception):
        raise ended
    return ended


def call_as(request: Request, name: str, arguments: Mapping[str, Any], **options: Any) -> Any:
    """Call an operation as the request's principal.

    Args:
        request: The authenticated request.
        name: Operation name.
        arguments: Its arguments.
        options: Passed on to ``Kit.call_with``.
    """
    kit: Kit = request.app.state.kit
    return kit.call_with(name, arguments, principal=request.state.principal, surface=Surface.HTTP, **options)


async def read_arguments(request: Request) -> dict[str, Any]:
    """Read a JSON object from the body, within bounds.

    Raises:
        BudgetExceeded: It is too large.
        InvalidInput: It is not a JSON object.
    """
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > BODY_BYTES_MAX:
            raise BudgetExceeded(f"a request body holds at most {BODY_BYTES_MAX} bytes")
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError) as exc:
        raise InvalidInput("the body must be a JSON object of arguments") from exc
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object of arguments")
    return value


async def _on_error(_request: Request, error: Exception) -> Response:
    from starlette.responses import JSONResponse

    assert isinstance(error, KitError)
    status, body = error_body(error)
    return JSONResponse(body, status)
