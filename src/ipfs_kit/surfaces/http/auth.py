"""Authentication of HTTP requests: a bearer token for everything but health and the public log."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from ipfs_kit.errors import SURFACE_CODES, Denied, KitError, Unauthenticated
from ipfs_kit.operations.principal import LOCAL, Principal
from ipfs_kit.operations.results import to_json

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

LOG_PREFIX = "/ledger/"
PUBLIC_PREFIXES = ("/health", LOG_PREFIX)
"""Open to all: liveness says nothing about content, and a log is checked by strangers."""


class TokenAuth:
    """Admits requests whose bearer token is known; the principal comes from the token and from nothing else.

    Args:
        app: The application behind it.
        tokens: Principals by token.
        allowed_hosts: Host names accepted in the Host header, against DNS rebinding.
        public_log: Whether the log answers under every host name: what it shows is everybody's.
    """

    def __init__(
        self, app: Any, tokens: Mapping[str, Principal], allowed_hosts: frozenset[str], *, public_log: bool = False
    ) -> None:
        self._app, self._tokens, self._hosts, self._public_log = app, tokens, allowed_hosts, public_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Nothing here speaks WebSocket; an unauthenticated one must not slip past to a mounted route.
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        anywhere = self._public_log and scope["path"].startswith(LOG_PREFIX)
        if not anywhere and host_of(headers.get(b"host", b"").decode("latin-1")) not in self._hosts:
            await send_error(send, Denied("this server answers only to its own host names"))
            return
        principal = self._principal(headers.get(b"authorization", b"").decode("latin-1"))
        if principal is None and not scope["path"].startswith(PUBLIC_PREFIXES):
            await send_error(
                send, Unauthenticated("send the header 'Authorization: Bearer TOKEN' with a token of this server")
            )
            return
        scope.setdefault("state", {})["principal"] = principal or Principal("anonymous", frozenset())
        await self._app(scope, receive, send)

    def _principal(self, header: str) -> Principal | None:
        kind, _, given = header.partition(" ")
        if kind.lower() != "bearer":
            return None
        found = None
        for token, principal in self._tokens.items():
            # Every token is compared, in constant time, so that timing tells nothing.
            if hmac.compare_digest(token.encode(), given.strip().encode()):
                found = principal
        return found


def host_of(header: str) -> str:
    """The host name or address of a Host header, in lower case, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower()


def owner_token(token: str, name: str | None = None, scopes: Iterable[str] | None = None) -> dict[str, Principal]:
    """The token table of a server with one token: its bearer is the store's owner unless confined here.

    Args:
        token: The bearer token.
        name: Name its calls are recorded under.
        scopes: Permissions of its bearer; all when None.

    Raises:
        InvalidInput: A narrowed scope does not parse.
    """
    return {
        token: LOCAL if name is None and scopes is None else Principal(name or LOCAL.name, frozenset(scopes or {"*"}))
    }


def error_body(error: KitError) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON body of an error, from the one table."""
    body = {
        "error": {"kind": str(error.kind), "message": error.message, "details": to_json(error.details), "op": error.op}
    }
    return SURFACE_CODES[error.kind].http, body


async def send_error(send: Send, error: KitError) -> None:
    """Answer an ASGI request with an error."""
    status, body = error_body(error)
    data = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
