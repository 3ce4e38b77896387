"""``ipfs-kit mcp``: one agent over standard input and output."""

from __future__ import annotations

from collections.abc import Sequence

from ipfs_kit.operations.kit import Kit
from ipfs_kit.operations.principal import LOCAL, Principal
from ipfs_kit.surfaces.mcp.tools import offered
from ipfs_kit.surfaces.parsing import Parser
from ipfs_kit.surfaces.process import tune_server


def run_stdio(arguments: Sequence[str], store: str | None, lock_timeout_s: float) -> int:
    """Serve one store over stdio until the client closes it.

    Args:
        arguments: Words after ``mcp``.
        store: Store directory; None means the environment or the default.
        lock_timeout_s: Seconds to wait for another process's lock.

    Returns:
        Exit status 0.
    """
    parser = Parser(prog="ipfs-kit mcp", description="Serve the Model Context Protocol over stdio.")
    parser.add_argument("--as", dest="principal", metavar="NAME", help="name the agent's calls are recorded under")
    parser.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="permission to grant, such as files:* (repeatable; default all)",
    )
    parser.add_argument("--toolsets", metavar="NAMES", help="offer only these toolsets, separated by commas")
    parser.add_argument("--read-only", action="store_true", help="offer only tools that change nothing")
    options = parser.parse_args(list(arguments))
    principal = LOCAL
    if options.principal or options.scope:
        principal = Principal(options.principal or LOCAL.name, frozenset(options.scope or {"*"}))
    tools = offered(options.toolsets.split(",") if options.toolsets else None, read_only=options.read_only)
    with Kit.open(
        Kit.store_path(store), create=True, surface="mcp", principal=principal, lock_timeout_s=lock_timeout_s
    ) as kit:
        import anyio
        from mcp.server.stdio import stdio_server

        from ipfs_kit.surfaces.mcp.server import build_server

        server = build_server(kit, tools)

        async def serve() -> None:
            async with stdio_server() as (read_stream, write_stream):
                await server.run(read_stream, write_stream, server.create_initialization_options())

        tune_server()
        anyio.run(serve)
    return 0
