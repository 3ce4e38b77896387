"""The MCP server: the only place that touches the SDK's server interface."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit._version import __version__
from ipfs_kit.errors import BudgetExceeded, KitError
from ipfs_kit.operations.catalogue import Operation, Surface
from ipfs_kit.operations.context import Progress
from ipfs_kit.operations.kit import Kit
from ipfs_kit.operations.principal import Principal
from ipfs_kit.surfaces.mcp import replies
from ipfs_kit.surfaces.mcp.calls import ToolCall
from ipfs_kit.surfaces.mcp.tools import definition

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

INSTRUCTIONS = (
    "A versioned, content-addressed workspace. Paths are BUCKET:/path; reads also take BUCKET@branch, @tag, @commit and @op:N. "
    "Writes go to the bucket's working session; versions_commit makes them a version; versions_undo takes one operation back. "
    "Every call is recorded; _meta names the op and how to prove it."
)


def build_server(kit: Kit, operations: dict[str, Operation], *, inline: bool = False) -> Server[Any]:
    """Build the server of one store.

    Args:
        kit: The store, as the principal the surface authenticated.
        operations: What is offered, by tool name.
        inline: Answer quick reads on the event loop itself; for a transport with one client, who waits anyway.

    Returns:
        An SDK server that can run over any transport.
    """
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.shared.exceptions import MCPError

    tools = [types.Tool.model_validate(definition(operation)) for operation in operations.values()]
    listing = types.ListToolsResult(tools=tools)

    async def list_tools(_ctx: Any, _params: Any) -> types.ListToolsResult:
        return listing

    async def call_tool(
        ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        operation = operations.get(params.name)
        if operation is None:
            raise MCPError(-32602, "unknown tool: call tools/list for the names")
        call = ToolCall(kit, operation, params.arguments or {}, dict(params.meta or {}), _principal(ctx))
        if inline and call.is_quick:
            shown = call.at_once()
            if shown is not None:
                return shown
        return await call.in_thread(_reporter(ctx) if call.wants_progress else None)

    return Server(
        "ipfs-kit",
        version=__version__,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        **_resource_handlers(kit),
    )


def _resource_handlers(kit: Kit) -> dict[str, Any]:
    """Handlers of the resource methods: content by address, or by bucket path."""
    import anyio.to_thread
    import mcp_types as types
    from mcp.shared.exceptions import MCPError

    async def list_resources(_ctx: Any, _params: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[])

    async def list_templates(_ctx: Any, _params: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            name="content", uri_template=f"{replies.URI_PREFIX}{{path}}", description="A file by CID, or CID/path"
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(ctx: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        principal = _principal(ctx)

        def run() -> types.ReadResourceResult:
            try:
                name, path = replies.reference(params.uri)
                content = kit.call_with(name, {"path": path}, principal=principal, surface=Surface.MCP).value
                if content.length > replies.RESOURCE_BYTES_MAX:
                    raise BudgetExceeded(
                        f"the file has {content.length} bytes: read it by range with {name.replace('.', '_')}"
                    )
                return replies.resource(params.uri, content.read())
            except KitError as error:
                raise MCPError(-32602, error.message, {"kind": str(error.kind)}) from error

        return await anyio.to_thread.run_sync(run)

    return {
        "on_list_resources": list_resources,
        "on_list_resource_templates": list_templates,
        "on_read_resource": read_resource,
    }


def _principal(ctx: Any) -> Principal | None:
    """Who a transport with authentication let in for this request; None where the kit's own principal calls."""
    scope: Mapping[str, Any] = getattr(ctx.request, "scope", {})
    found = scope.get("state", {}).get("principal")
    return found if isinstance(found, Principal) else None


def _reporter(ctx: Any) -> Callable[[Progress], None]:
    """Progress notifications; called from a worker thread."""
    import anyio.from_thread

    def report(progress: Progress) -> None:
        anyio.from_thread.run(ctx.session.report_progress, float(progress.done), progress.total, progress.note or None)

    return report
