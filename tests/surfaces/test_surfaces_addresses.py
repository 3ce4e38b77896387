"""Content by address, as a user meets it: hashing without storing, CIDs taken apart, block pages, and the gateway."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.ipld import CID
from ipfs_kit.surfaces.http.gateway import matches, parse_range

HOSTILE = "<script>alert(1)<script>\u202e\x1b[31m"


def command(store: Path, *words: str, fails: bool = False) -> subprocess.CompletedProcess[str]:
    """One fresh process of the command line."""
    arguments = [sys.executable, "-m", "ipfs_kit", "--store", str(store), *words]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode != 0) == fails, done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "a.txt").write_text("hello\n", encoding="utf-8")
    (root / "deep" / "er" / "big").write_bytes(os.urandom(3_000_000))
    (root / "link").symlink_to("a.txt")
    return root


@pytest.mark.parametrize("profile", ["unixfs-v1-2025", "unixfs-v0-2015", "unixfs-v1-cdc", "unixfs-v1-cdc-64k"])
def test_hashing_a_folder_gives_the_cid_of_adding_it_and_stores_no_block(
    tmp_path: Path, folder: Path, profile: str
) -> None:
    with Kit.open(tmp_path / "store") as kit:
        hashed = kit.store.add(str(folder), only_hash=True, profile=profile)
        assert kit.block.list().blocks == []
        assert not hashed.stored
        assert kit.store.add(str(folder), profile=profile).cid == hashed.cid


def test_block_pages_are_disjoint_complete_and_say_when_they_end(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        put = {kit.block.put(f"block {number}".encode()).cid for number in range(10)}
        seen: list[CID] = []
        cursor = None
        while True:
            page = kit.block.list(cursor=cursor, limit=5)
            seen += page.blocks
            cursor = page.cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen))
        assert set(seen) == put


def test_cid_command_converts_between_versions_and_bases(tmp_path: Path) -> None:
    store = tmp_path / "store"
    command(store, "init")
    shown = json.loads(command(store, "cid", "QmXb9aBi3GMQD9HpS7ZaZXp9FfSgcNfW7MmKaYatt7xagG", "--json").stdout)[
        "result"
    ]
    assert (shown["version"], shown["codec"], shown["hash"]) == (0, "dag-pb", "sha2-256")
    assert shown["v1"] == "bafybeiejn7zrx6pcvrjpe76f7h6ttiggwm7bhn6kbmbigeni2dgocrfque"
    assert json.loads(command(store, "cid", "nonsense", "--json", fails=True).stdout)["error"]["kind"] == "invalid_cid"


@pytest.mark.slow
def test_branch_and_tag_list_with_a_bucket_and_create_with_a_name(tmp_path: Path) -> None:
    store = tmp_path / "store"
    command(store, "init")
    command(store, "bucket", "create", "b")
    command(store, "write", "b:/f", "--text", "x")
    command(store, "commit", "b", "-m", "one")
    command(store, "branch", "b", "dev")
    command(store, "tag", "b", "v1")
    assert [line.split()[0] for line in command(store, "branch", "b").stdout.splitlines()] == ["dev", "main"]
    assert [line.split()[0] for line in command(store, "tag", "b").stdout.splitlines()] == ["v1"]


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.one_of(st.none(), st.integers(0, 60)))
def test_a_range_selects_the_bytes_rfc_9110_names(size: int, first: int | None, last: int | None) -> None:
    data = bytes(range(size))
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    found = parse_range(header, size)
    if (first is None and last is None) or (first is not None and last is not None and last < first):
        assert found is None
        return
    assert found is not None
    expected = data[max(0, size - (last or 0)) :] if first is None else data[first : None if last is None else last + 1]
    assert data[found[0] : found[0] + found[1]] == expected


@pytest.mark.parametrize("header", [None, "", "bytes=", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5", "bytes=--1"])
def test_a_range_that_is_absent_malformed_or_manifold_gives_the_whole_file(header: str | None) -> None:
    assert parse_range(header, 10) is None


def test_entity_tags_compare_weakly_and_whole() -> None:
    assert matches('W/"x", "y"', '"y"')
    assert matches('W/"x"', '"x"')
    assert matches("*", '"x"')
    assert not matches('"xy"', '"x"')
    assert not matches("", '"x"')


SITES: dict[str, CID] = {}
"""A folder with a page of its own in each store served."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[httpx.Client, CID, bytes]]:
    store, body = tmp_path / "store", os.urandom(2_500_000)
    root = tmp_path / "root"
    root.mkdir()
    (root / "big").write_bytes(body)
    (root / "empty").write_bytes(b"")
    (root / HOSTILE).write_bytes(b"x")
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_text("<a href='sub/a.txt'>a</a>", encoding="utf-8")
    (site / "sub" / "a.txt").write_text("text", encoding="utf-8")
    (site / "sub" / "pic.png").write_bytes(b"\x89PNG")
    with Kit.open(store) as kit:
        cid = kit.store.add(str(root)).cid
        SITES[str(store)] = kit.store.add(str(site)).cid
    arguments = [sys.executable, "-m", "ipfs_kit", "--store", str(store), "serve", "--port", "0"]
    server = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = re.search(r"http://\S+", server.stdout.readline())
    token = server.stdout.readline().split()[-1]
    assert url is not None
    with httpx.Client(base_url=url[0], headers={"authorization": f"Bearer {token}"}, timeout=30) as client:
        yield client, cid, body
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=30)
    assert (server.returncode, errors) == (0, "")


def test_gateway_serves_ranges_validators_and_refuses_what_lies_beyond(served: tuple[httpx.Client, CID, bytes]) -> None:
    client, cid, body = served
    path = f"/ipfs/{cid}/big"
    whole = client.get(path)
    assert (whole.status_code, whole.content) == (200, body)
    assert "sandbox" in whole.headers["content-security-policy"]
    etag = whole.headers["etag"]
    part = client.get(path, headers={"range": "bytes=1048570-1048590"})
    assert (part.status_code, part.content) == (206, body[1048570:1048591])
    assert part.headers["content-range"] == f"bytes 1048570-1048590/{len(body)}"
    assert client.get(path, headers={"range": "bytes=-7"}).content == body[-7:]
    beyond = client.get(path, headers={"range": f"bytes={len(body)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(body)}")
    assert beyond.json()["error"]["kind"] == "invalid_input"
    assert client.get(f"/ipfs/{cid}/empty", headers={"range": "bytes=0-"}).status_code == 416
    assert client.get(path, headers={"range": "bytes=0-1", "if-range": '"other"'}).status_code == 200
    assert client.get(path, headers={"if-none-match": f'"x", W/{etag}'}).status_code == 304
    head = client.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(body)), b"")


def test_gateway_directory_page_escapes_hostile_names(served: tuple[httpx.Client, CID, bytes]) -> None:
    client, cid, _ = served
    page = client.get(f"/ipfs/{cid}")
    assert page.status_code == 200
    assert "<script" not in page.text
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text
    links = re.findall(r'href="([^"]+)"', page.text)
    assert len(links) == 3
    assert all(client.get(link).status_code == 200 for link in links)


def test_gateway_answers_errors_from_the_one_table(served: tuple[httpx.Client, CID, bytes]) -> None:
    client, cid, _ = served
    assert client.get("/ipfs/nonsense").status_code == 400
    assert client.get(f"/ipfs/{cid}/absent").status_code == 404
    assert client.get(f"/ipfs/{cid}/big", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get(f"/ipfs/{cid}/big", headers={"host": "evil.example"}).status_code in {401, 403}


def test_gateway_serves_pages_types_and_names_as_the_path_gateway_specification_says(
    served: tuple[httpx.Client, CID, bytes], tmp_path: Path
) -> None:
    client, cid, _ = served
    site = SITES[str(tmp_path / "store")]
    moved = client.get(f"/ipfs/{site}?x=1")
    assert (moved.status_code, moved.headers["location"]) == (301, f"/ipfs/{site}/?x=1")
    page = client.get(f"/ipfs/{site}/")
    assert page.text == "<a href='sub/a.txt'>a</a>"
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("sandbox;")
    assert client.get(f"/ipfs/{site}/sub/a.txt").headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get(f"/ipfs/{site}/sub/pic.png").headers["content-type"] == "image/png"
    assert client.get(f"/ipfs/{cid}/big").headers["content-type"] == "application/octet-stream"
    named = client.get(f"/ipfs/{cid}/big?filename=caf%C3%A9%22.txt&download=true")
    assert named.headers["content-disposition"] == "attachment; filename*=UTF-8''caf%C3%A9%22.txt"
    folder = client.get(f"/ipfs/{site}/sub")
    assert folder.headers["x-ipfs-path"] == f"/ipfs/{site}/sub"
    assert client.get(f"/ipfs/{site}/sub", headers={"if-none-match": folder.headers["etag"]}).status_code == 304
    assert client.get(f"/ipfs/{cid}", headers={"if-none-match": folder.headers["etag"]}).status_code == 200
