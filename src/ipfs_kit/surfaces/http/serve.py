"""``ipfs-kit serve``: the HTTP application on loopback behind a generated token."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from ipfs_kit.errors import InvalidInput, Unavailable
from ipfs_kit.operations.kit import Kit
from ipfs_kit.surfaces.http.auth import owner_token
from ipfs_kit.surfaces.log_output import add_options, log_output
from ipfs_kit.surfaces.parsing import Parser
from ipfs_kit.surfaces.process import tune_server


def parser() -> Parser:
    """The options of ``ipfs-kit serve``."""
    words = Parser(prog="ipfs-kit serve", description="Serve HTTP: API, MCP, gateway, ledger.")
    words.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    words.add_argument("--port", type=int, default=8420, help="port; 0 picks a free one (default 8420)")
    words.add_argument(
        "--token-file", metavar="FILE", help="read the bearer token from a file instead of generating one"
    )
    words.add_argument("--as", dest="principal", metavar="NAME", help="name the bearer's calls are recorded under")
    words.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="permission of the bearer, such as files:*@BUCKET/path (repeatable; default all)",
    )
    words.add_argument(
        "--public-log", action="store_true", help="let anybody read checkpoint and tiles, under any host name"
    )
    add_options(words)
    return words


def run_serve(arguments: Sequence[str], store: str | None, lock_timeout_s: float, *, read_only: bool = False) -> int:
    """Serve one store over HTTP until interrupted.

    Args:
        arguments: Words after ``serve``.
        store: Store directory; None means the environment or the default.
        lock_timeout_s: Seconds to wait for another process's lock.
        read_only: Open the store for reading only; nothing is recorded.

    Returns:
        Exit status 0.
    """
    options = parser().parse_args(list(arguments))
    token = read_token(options.token_file) if options.token_file else secrets.token_urlsafe(32)
    tokens = owner_token(token, options.principal, options.scope)
    if not _is_loopback(options.host) and not options.token_file:
        raise InvalidInput(
            "listening beyond loopback needs --token-file FILE, so that the token is one you chose and keep"
        )
    import socket

    from ipfs_kit.surfaces.http.app import build_app

    with Kit.open(
        Kit.store_path(store),
        create=not read_only,
        read_only=read_only,
        surface="http",
        lock_timeout_s=lock_timeout_s,
    ) as kit:
        listener = socket.socket(
            socket.AF_INET6 if ":" in options.host else socket.AF_INET,
            socket.SOCK_STREAM,
            # Named, because the event loop switches Nagle's delay off only for sockets that say they are TCP.
            socket.IPPROTO_TCP,
        )
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as exc:
            raise Unavailable(
                f"cannot listen on {options.host} port {options.port}: {exc.strerror}; choose another --port"
            ) from exc
        # From here on connections queue, so whoever reads the line printed below can connect at once.
        listener.listen(1024)
        port = listener.getsockname()[1]
        hosts = {options.host, "127.0.0.1", "localhost", "::1"}
        stopping = threading.Event()
        app = build_app(kit, tokens, allowed_hosts=hosts, public_log=options.public_log, stopping=stopping)
        shown = "" if options.token_file else f"\ntoken: {token}"
        print(f"serving {kit.engine.path} on http://{options.host}:{port}{shown}", flush=True)
        server = server_of(app, stopping, log_level="warning", access_log=False, server_header=False)
        # The server shuts down gracefully on either signal and then passes it on: this makes both end the same way.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with log_output(kit, options, "http"), contextlib.suppress(KeyboardInterrupt):
            tune_server()
            server.run(sockets=[listener])
    sys.stdout.flush()
    return 0


def server_of(app: Any, stopping: threading.Event, **options: Any) -> Any:
    """A server of an application with live streams.

    Args:
        app: What ``build_app`` returned.
        stopping: The event given to ``build_app``; set when the server is told to exit.
        options: Options of ``uvicorn.Config``.

    Returns:
        A ``uvicorn.Server``.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: Any = None) -> None:
            # First of all: the server waits for open replies, and a live stream is one that never ends by itself.
            stopping.set()
            await super().shutdown(sockets)

    return Server(uvicorn.Config(app, **options))


def read_token(path: str) -> str:
    """Read a bearer token from a file that only its owner may read.

    Raises:
        InvalidInput: It cannot be read, is open to others, or too short.
    """
    import os

    try:
        with open(path, encoding="utf-8") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            token = stream.read(4096).strip()
    except OSError as exc:
        raise InvalidInput(f"cannot read {path}: {exc.strerror}") from exc
    if mode & 0o077:
        raise InvalidInput(f"{path} is readable by others: chmod 600 it")
    if len(token) < 16:
        raise InvalidInput(f"the token in {path} is shorter than 16 characters")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
