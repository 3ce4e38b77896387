"""``ipfs-kit witness serve``: cosigns checkpoints of the logs it was told to trust; needs no store."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ipfs_kit.errors import FormatError, InvalidInput, KitError, Unavailable
from ipfs_kit.ledger import witness
from ipfs_kit.surfaces.parsing import Parser
from ipfs_kit.surfaces.witness.book import Book

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def parser() -> Parser:
    """The options of ``ipfs-kit witness``."""
    words = Parser(prog="ipfs-kit witness", description="Witness the logs of others (C2SP tlog-witness).")
    words.add_argument(
        "verb", choices=["serve", "show"], help="serve: answer requests; show: print key, logs, evidence"
    )
    words.add_argument("--dir", required=True, help="the witness's own directory; keep it, its state is its memory")
    words.add_argument("--name", help="key name of a new witness: its address without the scheme")
    words.add_argument(
        "--log", action="append", default=[], metavar="VKEY", help="trust this log (repeatable; remembered)"
    )
    words.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    words.add_argument("--port", type=int, default=8421, help="port; 0 picks a free one (default 8421)")
    return words


def run_witness(arguments: Sequence[str]) -> int:
    """Serve a witness until interrupted, or show it.

    Args:
        arguments: Words after ``witness``.

    Returns:
        Exit status 0.
    """
    options = parser().parse_args(list(arguments))
    book = Book(options.dir, options.name, lambda: time.time_ns() // 10**9)
    try:
        for vkey in options.log:
            book.trust(vkey)
        if options.verb == "show":
            print(f"vkey: {book.vkey}")
            for origin, size in book.origins():
                print(f"log: {origin} cosigned up to {size}")
            for when, status, _ in book.evidence():
                print(f"evidence: contradiction answered {status} at {when}")
            return 0
        _serve(book, options.host, options.port)
    finally:
        book.close()
    return 0


def _serve(book: Book, host: str, port: int) -> None:
    import socket

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        raise Unavailable(f"cannot listen on {host} port {port}: {exc.strerror}; choose another --port") from exc
    listener.listen(1024)
    print(f"witness {book.signer.name} on http://{host}:{listener.getsockname()[1]}\nvkey: {book.vkey}", flush=True)
    config = uvicorn.Config(build_app(book), log_level="warning", access_log=False, server_header=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def build_app(book: Book) -> Any:
    """The witness as an ASGI application.

    Args:
        book: Its state.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response as Answer
    from starlette.routing import Route

    async def add_checkpoint(request: Request) -> Response:
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > witness.REQUEST_BYTES_MAX:
                return Answer("the request is too long\n", 400)
        try:
            parsed = witness.parse_request(bytes(data))
            verdict, line = await run_in_threadpool(book.add_checkpoint, parsed, bytes(data))
        except (FormatError, InvalidInput) as exc:
            return Answer(f"{exc.message}\n", 400, media_type="text/plain")
        except KitError as exc:
            return Answer(f"{exc.message}\n", 503, media_type="text/plain")
        if verdict.status == 409:
            return Answer(verdict.text, 409, {"content-type": witness.SIZE_TYPE})
        return Answer(line or verdict.text, verdict.status, media_type="text/plain")

    return Starlette(routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"])])
