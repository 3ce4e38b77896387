"""Routes of the published JSON server; each makes a command and answers with its response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipfs_kit import InvalidInput, Surface
from ipfs_kit.errors import SURFACE_CODES, ErrorKind
from ipfs_kit.surfaces.http.app import read_arguments
from ipfs_kit_py.mcp._messages import MCPCommandRequest, parse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from ipfs_kit_py.mcp.enhanced_server import EnhancedMCPServer


def command_routes(server: EnhancedMCPServer) -> list[BaseRoute]:
    """The routes of one server.

    Args:
        server: What runs the commands.
    """
    from starlette.routing import Route

    async def answer(request: Request, command: MCPCommandRequest) -> Response:
        from starlette.responses import JSONResponse

        response = await server.execute(command, request.state.principal, Surface.HTTP)
        kind = (response.metadata or {}).get("error_type")
        return JSONResponse(response.to_dict(), SURFACE_CODES[ErrorKind(kind)].http if kind else 200)

    async def command(request: Request) -> Response:
        body = await read_arguments(request)
        try:
            parsed = parse(body)
        except InvalidInput:
            # kept as given, so that the malformed command is recorded like any other
            parsed = MCPCommandRequest(str(body.get("command", "malformed")), action="malformed", args=body)
        return await answer(request, parsed)

    async def pins(request: Request) -> Response:
        given = await read_arguments(request) if request.method == "POST" else dict(request.query_params)
        return await answer(
            request, MCPCommandRequest("pin", action="add" if request.method == "POST" else "list", args=given)
        )

    def fixed(family: str, action: str | None = None, **names: str) -> Any:
        async def endpoint(request: Request) -> Response:
            path = request.path_params
            given = {key: path[source] for key, source in names.items()}
            return await answer(request, MCPCommandRequest(family, action=action or path["action"], args=given))

        return endpoint

    async def backend_status(request: Request) -> Response:
        name = request.path_params["name"]
        return await answer(request, MCPCommandRequest("backend", action="status" if name == "embedded" else name))

    return [
        Route("/version", fixed("health", "version"), methods=["GET"]),
        Route("/command", command, methods=["POST"]),
        Route("/pins", pins, methods=["GET", "POST"]),
        Route("/pins/{cid}", fixed("pin", "remove", cid="cid"), methods=["DELETE"]),
        Route("/backends", fixed("backend", "list"), methods=["GET"]),
        Route("/backends/{name}/status", backend_status, methods=["GET"]),
        Route("/daemon/status", fixed("daemon", "status"), methods=["GET"]),
        Route("/daemon/{action}", fixed("daemon"), methods=["POST"]),
    ]
