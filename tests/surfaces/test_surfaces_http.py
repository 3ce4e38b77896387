"""The HTTP surface over a real socket: token, hosts, error table, the public log as a stranger checks it."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ipfs_kit import Kit
from ipfs_kit.operations.catalogue import CATALOGUE, Surface
from ipfs_kit.operations.principal import LOCAL, Principal
from ipfs_kit.surfaces.http.app import BODY_BYTES_MAX, build_app
from ipfs_kit.surfaces.http.auth import host_of

WAIT_S = 30.0
TOKEN, WEAK = "o" * 24, "w" * 24


class Served:
    """A running server and a client holding the owner's token."""

    def __init__(self, kit: Kit, port: int, client: httpx.Client) -> None:
        self.kit, self.port, self.client = kit, port, client

    def call(self, operation: str, token: str = TOKEN, **arguments: Any) -> httpx.Response:
        return self.client.post(f"/api/v1/{operation}", json=arguments, headers={"authorization": f"Bearer {token}"})


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Kit.open(tmp_path / "store", surface="http") as kit:
        kit.bucket.create("docs")
        kit.files.write("docs:/a", text="hello")
        tokens = {TOKEN: LOCAL, WEAK: Principal("weak", frozenset({"files:read"}))}
        server = uvicorn.Server(uvicorn.Config(build_app(kit, tokens), port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            end = time.monotonic() + WAIT_S
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < end
            port = server.servers[0].sockets[0].getsockname()[1]
            headers = {"authorization": f"Bearer {TOKEN}"}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=WAIT_S) as client:
                yield Served(kit, port, client)
        finally:
            server.should_exit = True
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.mark.parametrize("path", ["/api/v1/operations", "/ipfs/x", "/metrics", "/mcp", "/nothing"])
def test_nothing_but_health_and_the_log_answers_without_a_token(served: Served, path: str) -> None:
    for header in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}):
        answer = httpx.get(f"http://127.0.0.1:{served.port}{path}", headers=header)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["kind"] == "unauthenticated"
    assert httpx.get(f"http://127.0.0.1:{served.port}/health").json() == {"status": "ok", "reserve": "complete"}


def test_foreign_host_names_are_refused_against_rebinding(served: Served) -> None:
    assert served.client.get("/health", headers={"host": "evil.example"}).status_code == 403
    assert served.client.get("/health", headers={"host": "localhost:1"}).status_code == 200
    assert [host_of(h) for h in ("[::1]:80", "[::1]", "LocalHost:8", "a", "")] == ["::1", "::1", "localhost", "a", ""]


def test_every_operation_is_listed_or_local_and_refuses_unknown_arguments(served: Served) -> None:
    listed = {op["name"] for op in served.client.get("/api/v1/operations").json()["operations"]}
    assert listed == {name for name, op in CATALOGUE.items() if op.offered_to(Surface.HTTP)}
    for name in CATALOGUE:
        answer = served.call(name, no_such_argument=1)
        assert (answer.status_code, answer.json()["error"]["kind"]) == (400, "invalid_input"), name
    assert served.call("files.put", source="/etc/passwd", path="docs:/x").status_code == 403


def test_calls_answer_with_result_meta_and_status_of_the_table(served: Served) -> None:
    answer = served.call("files.write", path="docs:/b", text="two")
    assert answer.status_code == 200
    meta = answer.json()["meta"]
    assert meta["ipfs-kit/ack"] == "fsync"
    shown = served.kit.ledger.show(meta["ipfs-kit/op"])
    assert (shown.surface, shown.operation) == ("http", "files.write")
    assert served.call("files.read", path="docs:/a").json()["result"]["text"] == "hello"
    raw = served.client.post(
        "/api/v1/files.read", json={"path": "docs:/a"}, headers={"accept": "application/octet-stream"}
    )
    assert raw.content == b"hello"
    for status, operation, arguments in [
        (404, "files.read", {"path": "docs:/none"}),
        (404, "no.such", {}),
        (409, "bucket.create", {"name": "docs"}),
        (400, "files.read", {"path": 7}),
        (400, "bucket.create", {"name": "../x"}),
    ]:
        assert served.call(operation, **arguments).status_code == status, operation
    denied = served.call("files.rm", token=WEAK, path="docs:/a")
    assert denied.status_code == 403
    assert served.kit.ledger.show(denied.json()["error"]["op"]).actor_name == "weak"


def test_idempotency_header_gives_the_first_result_and_refuses_another_request(served: Served) -> None:
    def append(text: str) -> httpx.Response:
        return served.client.post(
            "/api/v1/files.append", json={"path": "docs:/log", "text": text}, headers={"idempotency-key": "k"}
        )

    first, again = append("x").json(), append("x").json()
    assert first["meta"]["ipfs-kit/op"] == again["meta"]["ipfs-kit/op"]
    assert (first["replayed"], again["replayed"]) == (False, True)
    assert append("y").status_code == 422
    assert served.kit.files.read("docs:/log").read() == b"x"


@pytest.mark.parametrize("body", [b"[1]", b"{", b"\xff\xfe", b"null", b'"x"', b"[" * 100_000])
def test_bodies_that_are_no_object_are_refused(served: Served, body: bytes) -> None:
    assert served.client.post("/api/v1/store.info", content=body).status_code == 400


def test_body_beyond_the_bound_is_refused(served: Served) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(BODY_BYTES_MAX // (1 << 20) + 1):
            yield b" " * (1 << 20)

    assert served.client.post("/api/v1/store.info", content=pieces()).status_code == 413


@pytest.mark.parametrize("request_bytes", [b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n"])
def test_garbage_on_the_wire_does_not_disturb_the_server(served: Served, request_bytes: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT_S) as wire:
        wire.sendall(request_bytes)
        assert wire.recv(64).startswith(b"HTTP/1.1 4")
    assert served.client.get("/health").status_code == 200


@pytest.mark.parametrize(
    "path", ["/ledger/tile/../../state.db", "/ledger/tile/%2e%2e/%2e%2e/keys/ring", "/ledger/x/checkpoint"]
)
def test_ledger_routes_serve_nothing_but_tiles_and_checkpoints(served: Served, path: str) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=WAIT_S) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        assert wire.recv(64).split()[1] in (b"404", b"401")


def test_metrics_parse_and_count(served: Served) -> None:
    lines = served.client.get("/metrics").text.splitlines()
    figures = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert figures["ipfs_kit_buckets"] == 1
    assert figures["ipfs_kit_ledger_main_records"] >= 2
    declared = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    names = {name.partition("{")[0] for name in figures}
    assert {name if name in declared else name.rpartition("_")[0] for name in names} <= declared


class Stranger:
    """A tlog-tiles client that knows the specification, an address and a verifier key, and nothing of this code."""

    def __init__(self, address: str, vkey: str) -> None:
        self.address = address
        self.origin, _, key = vkey.split("+", 2)
        self.key_id, raw = bytes.fromhex(vkey.split("+", 2)[1]), base64.b64decode(key)
        assert raw[:1] == b"\x01"
        assert hashlib.sha256(self.origin.encode() + b"\n" + raw).digest()[:4] == self.key_id
        self.public = Ed25519PublicKey.from_public_bytes(raw[1:])

    def checkpoint(self) -> tuple[int, bytes]:
        text, _, signatures = httpx.get(f"{self.address}/ledger/checkpoint").text.partition("\n\n")
        for line in signatures.strip().split("\n"):
            _, name, signed = line.split(" ")
            blob = base64.b64decode(signed)
            if name == self.origin and blob[:4] == self.key_id:
                self.public.verify(blob[4:], f"{text}\n".encode())
                origin, size, root, *_ = text.split("\n")
                assert origin == self.origin
                return int(size), base64.b64decode(root)
        raise AssertionError("no signature of the log's key")

    def tile(self, kind: str, size: int) -> bytes:
        data = b""
        for number in range((size + 255) // 256):
            count = min(256, size - number * 256)
            name = f"{kind}/{number:03d}" + ("" if count == 256 else f".p/{count}")
            answer = httpx.get(f"{self.address}/ledger/tile/{name}")
            assert answer.status_code == 200, name
            data += answer.content
        return data

    def entries(self, size: int) -> list[bytes]:
        data, found = self.tile("entries", size), []
        while data:
            length = int.from_bytes(data[:2])
            found.append(data[2 : 2 + length])
            data = data[2 + length :]
        return found


def merkle(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + merkle(leaves[:half]) + merkle(leaves[half:])).digest()


def test_stranger_rebuilds_the_signed_root_from_the_tiles(served: Served) -> None:
    for number in range(300):
        served.kit.files.write("docs:/n", text=str(number))
    served.kit.ledger.checkpoint()
    stranger = Stranger(f"http://127.0.0.1:{served.port}", served.kit.ledger.vkey().vkey)
    size, root = stranger.checkpoint()
    assert size > 300
    entries = stranger.entries(size)
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert b"".join(leaves) == stranger.tile("0", size)
    assert merkle(leaves) == root
    shown = served.kit.ledger.show(str(size - 1))
    assert entries[size - 1] == shown.cid.binary


def test_gateway_listing_of_hostile_names_is_sandboxed(served: Served) -> None:
    name = '"><script>alert(1)</script>'
    served.kit.files.write(f"docs:/{name}".replace("</script>", ""), text="x")
    root = served.kit.files.stat("docs:/").cid
    page = served.client.get(f"/ipfs/{root}")
    assert "<script>" not in page.text
    assert page.headers["content-security-policy"].startswith("sandbox;")
    assert page.headers["x-content-type-options"] == "nosniff"
