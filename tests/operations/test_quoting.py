r"""Names that are not UTF-8 survive JSON: what one call shows, the next takes, on every surface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit import Kit
from ipfs_kit.operations.quoting import quote, unquote
from ipfs_kit.operations.results import to_json

AWKWARD = [
    b"caf\xe9", b"\xff", b"a\\b", b'"plain"', b'"caf\\xe9"', b'"\\"caf\\\\xe9\\""', b'"', b'""', b"\xe9\"\\", "naïve é".encode(),
    b"\\xe9", b'"\\xe9', b"line\nfeed\xfe", "\udc80".encode("utf-8", "surrogatepass"), b'"\\xC3"', b'"\\xc3\\xa9"',
]  # fmt: skip


def text_of(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("raw", AWKWARD)
def test_awkward_names_come_back_as_they_were(raw: bytes) -> None:
    shown = quote(text_of(raw))
    shown.encode("utf-8")
    assert unquote(json.loads(json.dumps(shown))) == text_of(raw)


def test_a_name_is_written_as_the_documentation_says() -> None:
    assert quote(text_of(b"caf\xe9")) == r'"caf\xe9"'
    assert quote("plain.txt") == "plain.txt"
    assert quote('say "hi"') == 'say "hi"'
    assert quote(r'"caf\xe9"') == r'"\"caf\\xe9\""'
    assert quote(text_of(b"docs:/a/b\xff/c")) == r'docs:/a/"b\xff"/c'
    assert unquote(r'docs:/a/"b\xff"/c') == text_of(b"docs:/a/b\xff/c")
    assert unquote(r"C:\dir\"x\xff") == r"C:\dir\"x\xff"


NEAR = st.text('"\\xe9f', max_size=9).map(str.encode)
"""Texts that nearly are quoted names."""


@given(st.lists(st.binary(max_size=12) | st.sampled_from(AWKWARD) | NEAR, min_size=1, max_size=3))
def test_any_path_comes_back(parts: list[bytes]) -> None:
    text = text_of(b"/".join(part.replace(b"/", b"") for part in parts))
    shown = quote(text)
    shown.encode("utf-8")
    assert unquote(shown) == text


@given(st.text('"\\xe9f\xe9/', max_size=12), st.text('"\\xe9f\xe9/', max_size=12))
def test_two_paths_never_read_the_same(one: str, other: str) -> None:
    if one != other:
        assert quote(one) != quote(other)


def cli(store: Path, *words: str | bytes, **more: object) -> subprocess.CompletedProcess[bytes]:
    command = [os.fsencode(sys.executable), b"-m", b"ipfs_kit", b"--store", os.fsencode(store)]
    return subprocess.run([*command, *map(os.fsencode, words)], capture_output=True, check=True, timeout=60)  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_ls_prints_as_json_can_be_given_to_get_in_a_new_process(tmp_path: Path) -> None:
    store, folder = tmp_path / "store", tmp_path / "in"
    os.mkdir(folder)
    names = [b"caf\xe9", rb'"caf\xe9"', b"back\\slash", b"plain", b"\xff\xfe"]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"content of " + name)
    cli(store, "init")
    cli(store, "bucket", "create", "docs")
    cli(store, "put", str(folder), "docs:/d")
    listed = json.loads(cli(store, "--json", "ls", "docs:/d").stdout)["result"]["entries"]
    assert len(listed) == len(names)
    for entry in listed:
        cli(store, "get", f"docs:/d/{entry['name']}", str(tmp_path / "out"), "--overwrite")
        assert (tmp_path / "out").read_bytes().removeprefix(b"content of ") in names
        stat = json.loads(cli(store, "--json", "stat", f"docs:/d/{entry['name']}").stdout)["result"]
        assert stat["cid"] == entry["cid"]
    assert cli(store, "cat", b"docs:/d/caf\xe9").stdout == b"content of caf\xe9"
    root = json.loads(cli(store, "--json", "stat", "docs:/d").stdout)["result"]["cid"]
    assert cli(store, "cat", rf'{root}/"caf\xe9"').stdout == b"content of caf\xe9"
    changed = json.loads(cli(store, "--json", "mv", r'docs:/d/"caf\xe9"', r'docs:/d/"caf\xe8"').stdout)
    assert changed["op"]
    with Kit.open(store) as kit:
        assert text_of(b"caf\xe8") in {entry.name for entry in kit.files.list("docs:/d").entries}
        assert kit.store.verify().ok


def test_the_same_names_over_mcp_and_http_values(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("docs")
        kit.files.write(text_of(b"docs:/caf\xe9"), text="x")
        kit.files.write('docs:/"quoted"', text=r'"stays\xe9"')
        for surface in ("mcp", "http", "cli"):
            shown = to_json(kit.call_with("files.list", {"path": "docs:/"}, surface=surface).value)["entries"]
            for entry in shown:
                found = kit.call_with("files.stat", {"path": f"docs:/{entry['name']}"}, surface=surface).value
                assert str(found.cid) == entry["cid"]
        kit.call_with("files.write", {"path": "docs:/t", "text": r'"kept\xe9"'}, surface="mcp")
        assert kit.files.read("docs:/t").read() == rb'"kept\xe9"'
