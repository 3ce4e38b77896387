"""The published command server: JSON commands and real MCP on one port, every call recorded."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ipfs_kit import InvalidInput, Principal, Surface
from ipfs_kit.operations.principal import LOCAL
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS, Adapter
from ipfs_kit_py.mcp._commands import run_command
from ipfs_kit_py.mcp._host import Host
from ipfs_kit_py.mcp._messages import MCPCommandRequest, MCPCommandResponse

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "EnhancedMCPServer", "MCPCommandRequest", "MCPCommandResponse"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class EnhancedMCPServer(Adapter):
    """Serves one store on loopback: commands at ``/command``, MCP at ``/mcp``, both behind ``token``.

    Args:
        host: Loopback address to listen on; other addresses need ``config_path``.
        port: Port; 0 picks a free one, which ``port`` then holds.
        debug_mode: Kept as an attribute.
        log_level: Of the HTTP server's own messages.
        config_path: File with the bearer token (mode 0600); a token is generated when left out.
        metadata_path: The store's directory; the default rule when left out.
        enable_dataset_storage: Gather the recorded commands into batches.
        ipfs_client: A Kit, anything that speaks to a node, or None.
        dataset_batch_size: Commands that make a batch.
        storage_path: The same as ``metadata_path``.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8001,
        debug_mode: bool = False,
        log_level: str = "INFO",
        config_path: str | None = None,
        metadata_path: str | Path | None = None,
        enable_dataset_storage: bool = False,
        ipfs_client: Any = None,
        dataset_batch_size: int = 100,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        path = storage_path if metadata_path is None else metadata_path
        super().__init__(__name__, path, ipfs_client, enable_dataset_storage, False, dataset_batch_size, stream="mcp")
        if host not in LOOPBACK and config_path is None:
            raise InvalidInput("listening beyond loopback needs config_path: a file with a token you chose and keep")
        self.host, self.port, self.debug_mode, self.log_level = host, port, debug_mode, log_level
        self.config_path, self.metadata_path = config_path, metadata_path
        self.token = secrets.token_urlsafe(32) if config_path is None else _token_in(config_path)
        self._host: Host | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    async def execute(
        self, request: MCPCommandRequest, principal: Principal = LOCAL, surface: Surface = Surface.PYTHON
    ) -> MCPCommandResponse:
        """Run one command as one recorded operation; needs no running server."""
        status = {
            "running": self._host is not None,
            "url": self.url,
            "store": str(self.storage_path),
            "daemon": "none",
        }
        found: MCPCommandResponse = await self.thread(lambda: run_command(self, request, status, principal, surface))
        return found

    async def start(self) -> None:
        """Listen and return once requests are answered."""
        await self.thread(self._start)

    def _start(self) -> None:
        from ipfs_kit.surfaces.http.app import build_app
        from ipfs_kit.surfaces.http.auth import owner_token
        from ipfs_kit_py.mcp._routes import command_routes

        if self._host is not None:
            raise InvalidInput(f"the server already listens on {self.url}")
        self.kit.surface = Surface.MCP  # what the MCP endpoint calls by; commands name their own
        hosts = {self.host, *LOOPBACK}
        app = build_app(self.kit, owner_token(self.token), allowed_hosts=hosts, extra_routes=command_routes(self))
        self._host = Host(app, self.host, self.port, self.log_level)
        self.port = self._host.port

    async def stop(self) -> None:
        """Finish running requests, stop listening, seal, and release the store."""
        await self.thread(self._stop)

    def _stop(self) -> None:
        if self._host is not None:
            self._host.stop()
            self._host = None
        self.close()


def _token_in(path: str) -> str:
    from ipfs_kit.surfaces.http.serve import read_token

    return read_token(path)
