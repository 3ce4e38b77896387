"""An ASGI application served from a thread with its own event loop, whatever loop the caller runs."""

from __future__ import annotations

import socket
import threading
from typing import Any

from ipfs_kit import Unavailable

WAIT_S = 10.0
"""How long starting and stopping may take."""


class Host:
    """Listens from construction until ``stop``.

    Args:
        app: An ASGI 3 application.
        host: Address to listen on.
        port: Port; 0 picks a free one, which ``port`` then holds.
        log_level: Of the HTTP server's own messages; nothing below warnings is logged.

    Raises:
        Unavailable: The port is taken, or the server did not come up.
    """

    def __init__(self, app: Any, host: str, port: int, log_level: str) -> None:
        import uvicorn

        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # the protocol is named because asyncio sets TCP_NODELAY only then; without it each answer waits 40 ms for an ACK
        self._listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((host, port))
        except OSError as exc:
            self._listener.close()
            raise Unavailable(f"cannot listen on {host} port {port}: {exc.strerror}; choose another port") from exc
        self.port = int(self._listener.getsockname()[1])
        level = log_level.lower() if log_level.lower() in {"warning", "error", "critical"} else "warning"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level=level, access_log=False, server_header=False))
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ipfs-kit-mcp", daemon=True)
        self._thread.start()
        if not self._listening.wait(WAIT_S):
            raise Unavailable(f"the server did not come up on {host} port {self.port} within {WAIT_S:.0f} s")

    def _run(self) -> None:
        with self._listener:
            self._listener.listen()
            self._listening.set()  # connections queue from here on, and are answered once the application is up
            self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """Answer what is running, then stop listening.

        Raises:
            Unavailable: A request is still running; call again.
        """
        self._server.should_exit = True
        self._thread.join(WAIT_S)
        if self._thread.is_alive():
            raise Unavailable("the server is still answering a request: call stop() again")
