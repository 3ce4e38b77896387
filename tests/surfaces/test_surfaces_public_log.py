"""A log followed by HTTP alone, as C2SP tlog-tiles has it: paths, types, caching, gzip, partial tiles of every signed size."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ipfs_kit import Kit
from ipfs_kit.ledger.check import read_note

FOREIGN = {"host": "log.example"}


class Server:
    def __init__(self, url: str, store: Path, vkey: str) -> None:
        self.url, self.store, self.vkey = url, store, vkey

    def get(self, path: str, **headers: str) -> httpx.Response:
        with httpx.Client(headers={"accept-encoding": "identity"}) as client:
            return client.get(f"{self.url}/ledger/{path}", headers=FOREIGN | headers)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = tmp_path_factory.mktemp("public") / "s"
    with Kit.open(store) as kit:
        kit.bucket.create("docs")
        vkey = kit.ledger.vkey().vkey
    command = [sys.executable, "-m", "ipfs_kit", "--store", str(store), "serve", "--port", "0", "--public-log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        yield Server(found.group(), store, vkey)
        process.terminate()
        assert process.wait(30) == 0


def grow(served: Server, count: int) -> None:
    with Kit.open(served.store) as kit:
        kit.stream.append(
            "audit", events=[{"event_type": "user", "action": "a", "details": {"n": n}} for n in range(count)]
        )


def index_path(index: int) -> str:
    parts = []
    while True:
        parts.insert(0, f"{index % 1000:03d}")
        index //= 1000
        if not index:
            return "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])


def tiles(served: Server, level: str, count: int, each: int) -> bytes:
    data = b""
    for at in range(0, count, 256):
        width = min(256, count - at)
        answer = served.get(f"tile/{level}/{index_path(at // 256)}" + ("" if width == 256 else f".p/{width}"))
        assert answer.status_code == 200, (level, at, width)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert "immutable" in answer.headers["cache-control"]
        assert len(answer.content) == width * each
        data += answer.content
    return data


def merkle(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + merkle(leaves[:half]) + merkle(leaves[half:])).digest()


def mirrored(served: Server, size: int) -> bytes:
    """The root, after entries, leaf tiles and the tiles above were fetched and compared."""
    entries = tiles(served, "entries", size, 38)
    assert {entries[at : at + 2] for at in range(0, len(entries), 38)} == {b"\x00\x24"}
    row = [hashlib.sha256(b"\x00" + entries[at + 2 : at + 38]).digest() for at in range(0, len(entries), 38)]
    root, level = merkle(row), 0
    while row:
        assert tiles(served, str(level), len(row), 32) == b"".join(row)
        row = [merkle(row[at : at + 256]) for at in range(0, len(row) - 255, 256)]
        level += 1
    return root


def test_a_mirror_made_by_http_alone_has_every_signed_root(served: Server) -> None:
    heads = []
    for count in (5, 300, 400):
        grow(served, count)
        answer = served.get("checkpoint")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert served.get("main/checkpoint").content == answer.content
        heads.append(read_note(answer.text, served.vkey))
    assert heads[0].size < 256 < heads[1].size < 512 < heads[2].size
    assert served.get("tile/2/000.p/1").status_code == 404, "empty tiles are not served"
    for head in heads:
        assert mirrored(served, head.size) == head.root, "also partial tiles of older checkpoints are served"


def test_bundles_are_compressed_for_who_takes_gzip(served: Server) -> None:
    grow(served, 20)
    plain = served.get("tile/entries/000.p/9")
    assert "content-encoding" not in plain.headers
    for accepted, packed in (("gzip", True), ("br, gzip;q=0.5", True), ("gzip;q=0", False), ("*", True), ("br", False)):
        answer = served.get("tile/entries/000.p/9", **{"accept-encoding": accepted})
        assert (answer.headers.get("content-encoding") == "gzip", answer.headers["vary"]) == (packed, "accept-encoding")
        assert answer.content == plain.content
    assert "content-encoding" not in served.get("tile/0/000.p/9", **{"accept-encoding": "gzip"}).headers
    assert gzip.decompress(gzip.compress(plain.content)) == plain.content
    assert base64.b64encode(plain.content[2:6]) == base64.b64encode(bytes.fromhex("01711220"))


@pytest.mark.parametrize(
    "path",
    [
        "tile/00/000.p/1", "tile/64/000", "tile/0/000.p/0", "tile/0/000.p/01", "tile/0/000.p/256", "tile/0/x000/000.p/1",
        "tile/0/0", "tile/0/0000", "tile/0/000.p/", "tile/0/999", "tile/0/\u0660\u0660\u0660", "tile/entries/x999/999",
        "x/checkpoint", "tile/0/000.p/1/", "tile/-1/000", "tile/data/000",
    ],
)  # fmt: skip
def test_only_paths_of_the_specification_are_served(served: Server, path: str) -> None:
    assert served.get(path).status_code == 404


def test_a_foreign_host_name_reaches_the_log_and_nothing_else(served: Server) -> None:
    assert served.get("bulk/checkpoint").status_code == 200
    for path in ("/health", "/api/v1/operations", "/ledgerx", "/mcp"):
        assert httpx.get(served.url + path, headers=FOREIGN).status_code == 403
    assert httpx.post(f"{served.url}/ledger/checkpoint", headers=FOREIGN).status_code == 405
    assert httpx.head(f"{served.url}/ledger/checkpoint", headers=FOREIGN).status_code == 200
