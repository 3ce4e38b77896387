"""One POST to an address that the store's owner named: no redirects, bounded in time and size, no odd addresses.

The name is resolved once, every address it gives is judged, and the connection goes to exactly the judged address, so
that a name that changes its mind between look-up and connection leads nowhere new.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from ipfs_kit.errors import InvalidInput, Timeout, Unavailable

ANSWER_BYTES_MAX: Final = 64 * 1024
TEXT: Final = "text/plain; charset=utf-8"
_PORTS: Final = {"http": 80, "https": 443}


def checked_url(url: str) -> SplitResult:
    """Split an address that may be posted to.

    Raises:
        InvalidInput: Not http(s), or it carries a user, query or fragment.
    """
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError as exc:
        raise InvalidInput(f"{url!r} is no address: {exc}") from exc
    if parts.scheme not in _PORTS or not parts.hostname or not port_ok:
        raise InvalidInput(f"{url!r} is no http or https address")
    if parts.username is not None or parts.query or parts.fragment or any(c <= " " or c == "\x7f" for c in url):
        raise InvalidInput(f"{url!r} must not carry a user name, query, fragment or blanks")
    return parts


def post(
    url: str, body: bytes, timeout_s: float, media_type: str = TEXT, headers: Mapping[str, str] | None = None
) -> tuple[int, str, bytes]:
    """Post bytes.

    Args:
        url: Where.
        body: What.
        timeout_s: For everything together.
        media_type: Of the body.
        headers: Further header lines.

    Returns:
        Status, media type, and at most 64 KiB of the answer.

    Raises:
        InvalidInput: The address is none that may be used.
        Timeout: No answer in time.
        Unavailable: No connection, or something that is not HTTP or too long.
    """
    import http.client

    parts = checked_url(url)
    assert parts.hostname is not None
    port = parts.port or _PORTS[parts.scheme]
    until = time.monotonic() + timeout_s
    connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout_s)
    try:
        connection.sock = _connected(parts.scheme, parts.hostname, port, timeout_s)
        path = parts.path or "/"
        lines = {**(headers or {}), "content-type": media_type, "connection": "close"}
        connection.request("POST", path, body, lines)
        answer = connection.getresponse()
        data = bytearray()
        while chunk := answer.read1(8192):
            data += chunk
            if len(data) > ANSWER_BYTES_MAX:
                raise Unavailable(f"{url} answers with more than {ANSWER_BYTES_MAX} bytes")
            if time.monotonic() > until:
                raise Timeout(f"{url} did not finish its answer within {timeout_s:g} s")
        return answer.status, answer.headers.get_content_type(), bytes(data)
    except TimeoutError as exc:
        raise Timeout(f"{url} did not answer within {timeout_s:g} s") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise Unavailable(f"{url} cannot be reached: {exc or type(exc).__name__}") from exc
    finally:
        connection.close()


def _connected(scheme: str, host: str, port: int, timeout_s: float) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not permitted(str(address[0])):
            raise InvalidInput(f"{host} resolves to {address[0]}, which nothing is sent to")
    family, kind, protocol, _, address = found[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.settimeout(timeout_s)
        made.connect(address)
        if scheme == "https":
            import ssl

            return ssl.create_default_context().wrap_socket(made, server_hostname=host)
    except BaseException:
        made.close()
        raise
    return made


def permitted(address: str) -> bool:
    """Whether something may be sent there: no link-local address (where clouds keep credentials), no group, no wildcard."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    return not (found.is_link_local or found.is_multicast or found.is_unspecified or str(found) == "fd00:ec2::254")
