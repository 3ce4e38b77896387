"""``ipfs-kit mcp``: one agent over standard input and output."""

from __future__ import annotations

from collections.abc import Sequence

from ipfs_kit.operations.kit import Kit
from ipfs_kit.operations.principal import LOCAL, Principal
from ipfs_kit.surfaces.log_output import add_options, log_output
from ipfs_kit.surfaces.mcp.tools import offered
from ipfs_kit.surfaces.parsing import Parser
from ipfs_kit.surfaces.process import run_until_ended, tune_server


def parser() -> Parser:
    """The options of ``ipfs-kit mcp``."""
    words = Parser(prog="ipfs-kit mcp", description="Serve the Model Context Protocol over stdio.")
    words.add_argument("--as", dest="principal", metavar="NAME", help="name the agent's calls are recorded under")
    words.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="permission to grant, such as files:* or files:*@BUCKET/path (repeatable; default all)",
    )
    words.add_argument("--toolsets", metavar="NAMES", help="offer only these toolsets, separated by commas")
    words.add_argument(
        "--read-tools", action="store_true", help="offer only tools that change nothing; their calls are recorded"
    )
    add_options(words)
    return words


def run_stdio(arguments: Sequence[str], store: str | None, lock_timeout_s: float, *, read_only: bool = False) -> int:
    """Serve one store over stdio until the client closes it or SIGTERM ends it.

    Args:
        arguments: Words after ``mcp``.
        store: Store directory; None means the environment or the default.
        lock_timeout_s: Seconds to wait for another process's lock.
        read_only: Open the store for reading only: only tools that change nothing are offered, and nothing is recorded.

    Returns:
        Exit status 0.
    """
    options = parser().parse_args(list(arguments))
    principal = LOCAL
    if options.principal or options.scope:
        principal = Principal(options.principal or LOCAL.name, frozenset(options.scope or {"*"}))
    tools = offered(
        options.toolsets.split(",") if options.toolsets else None, read_only=options.read_tools or read_only
    )
    with Kit.open(
        Kit.store_path(store),
        create=not read_only,
        read_only=read_only,
        surface="mcp",
        principal=principal,
        lock_timeout_s=lock_timeout_s,
    ) as kit:
        import anyio

        from ipfs_kit.surfaces.mcp.pipes import stdio
        from ipfs_kit.surfaces.mcp.server import build_server

        server = build_server(kit, tools, inline=True)

        async def serve() -> None:
            async with stdio() as (read_stream, write_stream):
                await server.run(read_stream, write_stream, server.create_initialization_options())

        tune_server()
        with log_output(kit, options, "mcp"):
            run_until_ended(lambda: anyio.run(serve))
    return 0
