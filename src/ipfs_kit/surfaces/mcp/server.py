"""The MCP server: the only place that touches the SDK's server interface."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit._version import __version__
from ipfs_kit.errors import BudgetExceeded, KitError
from ipfs_kit.operations.catalogue import Operation, Surface
from ipfs_kit.operations.context import Progress
from ipfs_kit.operations.kit import Kit
from ipfs_kit.operations.principal import Principal
from ipfs_kit.surfaces.mcp import replies
from ipfs_kit.surfaces.mcp.tools import definition

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server

INSTRUCTIONS = (
    "A versioned, content-addressed workspace. Paths are BUCKET:/path; reads also take BUCKET@branch, @tag, @commit and @op:N. "
    "Writes go to the bucket's working session; versions_commit makes them a version; versions_undo takes one operation back. "
    "Every call is recorded; _meta names the op and how to prove it."
)
KEY_FIELD = "ipfs-kit/idempotency-key"


def build_server(kit: Kit, operations: dict[str, Operation]) -> Server[Any]:
    """Build the server of one store.

    Args:
        kit: The store, as the principal the surface authenticated.
        operations: What is offered, by tool name.

    Returns:
        An SDK server that can run over any transport.
    """
    import anyio
    import anyio.to_thread
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
        cancelled = threading.Event()
        meta: dict[str, Any] = dict(params.meta or {})
        report = _reporter(ctx, meta)
        principal = _principal(ctx)

        def run() -> types.CallToolResult:
            try:
                result = kit.call_with(
                    operation.name,
                    params.arguments or {},
                    idempotency_key=_text_or_none(meta.get(KEY_FIELD)),
                    trace=_trace_of(meta.get("traceparent")),
                    progress=report,
                    cancelled=cancelled,
                    principal=principal,
                    surface=Surface.MCP,
                )
                return replies.reply(kit, result, (params.arguments or {}).get("path"))
            except KitError as error:
                return replies.failure(kit, error)

        async def watch() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        # The thread is waited for, so that the store is not closed under it; the watcher tells it to stop.
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            shown = await anyio.to_thread.run_sync(run)
            group.cancel_scope.cancel()
        return shown

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


def _reporter(ctx: Any, meta: dict[str, Any]) -> Callable[[Progress], None] | None:
    """Progress notifications, when the client asked for them; called from a worker thread."""
    if not {"progressToken", "progress_token"} & set(meta):
        return None
    import anyio.from_thread

    def report(progress: Progress) -> None:
        anyio.from_thread.run(ctx.session.report_progress, float(progress.done), progress.total, progress.note or None)

    return report


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _trace_of(value: Any) -> bytes | None:
    """The trace id of a W3C traceparent header, 16 bytes."""
    parts = value.split("-") if isinstance(value, str) else []
    if len(parts) != 4 or len(parts[1]) != 32:
        return None
    try:
        return bytes.fromhex(parts[1])
    except ValueError:
        return None
