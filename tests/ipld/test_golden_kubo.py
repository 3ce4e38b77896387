"""CIDs equal to those of Kubo and ipfs-car: the committed vectors always, live Kubo where ``make peers`` built it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from vectors import corpus

from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import (
    DEFAULT_PROFILE,
    PROFILES,
    Directory,
    build_bytes,
    build_file,
    build_symlink,
    check_tree,
    open_file,
)

HERE = Path(__file__).parent / "vectors"
KUBO = Path(__file__).parents[2] / ".peers" / "ipfs"
KUBO_PROFILES = ("unixfs-v1-2025", "unixfs-v0-2015")
needs_kubo = pytest.mark.skipif(not KUBO.exists(), reason="no live Kubo: run `make peers` (needs Go)")


def cases(name: str) -> list[dict]:
    return json.loads((HERE / name).read_text(encoding="utf-8"))["cases"]


FILES = cases("files.json")
TREES = cases("trees.json")
EDITS = cases("edits.json")
SLOW_BYTES = 100 * corpus.MIB


def drop(cid, block):
    return None


def build_tree(tree, profile, put, *, bulk=False):
    entries = []
    for name, value in tree.items():
        if isinstance(value, dict):
            cid, tsize = build_tree(value, profile, put, bulk=bulk)
        elif isinstance(value, str):
            entry = build_symlink(value.encode(), profile, put)
            cid, tsize = entry.cid, entry.tsize
        else:
            entry = build_bytes(value, profile, put)
            cid, tsize = entry.cid, entry.tsize
        entries.append((os.fsencode(name), cid, tsize))
    if bulk:
        return Directory.bulk(profile, entries, put)
    directory = Directory(profile, lambda cid: b"", None)
    for name, cid, tsize in entries:
        directory.set(name, cid, tsize)
    return directory.flush(put)


@pytest.mark.parametrize("profile", KUBO_PROFILES)
@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=[pytest.mark.slow] if c["size"] > SLOW_BYTES else []) for c in FILES],
    ids=lambda c: str(c["size"]),
)
def test_a_file_has_the_cid_kubo_gives(case, profile):
    stream = corpus.SeededStream(case["seed"], case["size"])
    entry = build_file(stream, PROFILES[profile], drop)
    assert str(entry.cid) == case["cids"][profile]
    assert entry.size == case["size"]


@pytest.mark.parametrize("profile", KUBO_PROFILES)
@pytest.mark.parametrize("case", TREES, ids=lambda c: c["tree"])
def test_a_directory_has_the_cid_kubo_gives(case, profile):
    blocks = {}
    tree = corpus.TREES[case["tree"]]()
    cid, _ = build_tree(tree, PROFILES[profile], blocks.__setitem__)
    assert str(cid) == case["cids"][profile]
    bulk, _ = build_tree(tree, PROFILES[profile], drop, bulk=True)
    assert bulk == cid
    assert check_tree(cid, blocks.__getitem__).blocks <= len(blocks)


def test_ipfs_car_gives_the_same_cids_as_kubo():
    both = [c["cids"] for c in FILES + TREES if "ipfs-car" in c["cids"]]
    assert len(both) == len(FILES) + len(corpus.PLAIN_TREES)
    assert [c["ipfs-car"] for c in both] == [c[DEFAULT_PROFILE.name] for c in both]


@pytest.mark.parametrize("profile", KUBO_PROFILES)
def test_removals_end_where_kubos_removals_end(profile):
    blocks = {}
    tree = corpus.TREES[corpus.EDIT_TREE]()
    root, _ = build_tree(tree, PROFILES[profile], blocks.__setitem__)
    directory = Directory(PROFILES[profile], blocks.__getitem__, root)
    names = sorted(tree)
    done = 0
    for case in EDITS:
        for name in names[done : case["removed"]]:
            assert directory.remove(name.encode())
        done = case["removed"]
        cid, _ = directory.flush(blocks.__setitem__)
        assert str(cid) == case["cids"][profile]
    assert {d.decode() for d, _ in directory.iterate()} == set(names[done:])


def test_vectors_cover_both_sides_of_every_boundary():
    by_name = {c["tree"]: c["cids"] for c in TREES}
    assert {c["size"] for c in FILES} >= set(corpus.FILE_SIZES + corpus.FILE_SIZES_LARGE)
    assert set(by_name) == set(corpus.TREES)
    blocks = {}
    for label, profile, sharded in (
        ("block-at-threshold", "unixfs-v1-2025", False),
        ("block-over-threshold", "unixfs-v1-2025", True),
        ("links-at-threshold", "unixfs-v0-2015", False),
        ("links-over-threshold", "unixfs-v0-2015", True),
    ):
        cid, _ = build_tree(corpus.TREES[label](), PROFILES[profile], blocks.__setitem__)
        assert Directory(PROFILES[profile], blocks.__getitem__, cid).is_sharded() is sharded


class Kubo:
    def __init__(self, home: Path, profile: str) -> None:
        self.env = {**os.environ, "IPFS_PATH": str(home), "IPFS_TELEMETRY": "off"}
        self.run("init", "--empty-repo", "--profile", f"test,{profile}")

    def run(self, *args: object, stdin: bytes | None = None) -> bytes:
        command = [str(KUBO), "--offline", *map(str, args)]
        return subprocess.run(command, env=self.env, input=stdin, capture_output=True, check=True, timeout=120).stdout


@needs_kubo
@pytest.mark.parametrize("profile", KUBO_PROFILES)
def test_live_kubo_agrees_on_new_random_input(profile, tmp_path):
    kubo = Kubo(tmp_path / "repo", profile)
    tree = {f"n{i:03d}-{'x' * (i % 60)}": corpus.content(i, (i * 7919) % 5000) for i in range(200)}
    tree["deep"] = {"er": {"file": corpus.content(5, 1_500_000), "to": "../.."}}
    corpus.materialize(tree, tmp_path / "tree")
    expected = kubo.run("add", "-Q", "-r", "-H", "--only-hash", tmp_path / "tree").decode().split()[-1]
    assert str(build_tree(tree, PROFILES[profile], drop)[0]) == expected


@needs_kubo
def test_live_kubo_writes_trickle_layout_and_inline_leaves_that_we_read(tmp_path):
    kubo = Kubo(tmp_path / "repo", "unixfs-v1-2025")
    content = corpus.content(11, 600_000)
    (tmp_path / "file").write_bytes(content)

    def get(cid):
        return kubo.run("block", "get", str(cid))

    for options in (["--trickle", "--chunker=size-60000", "--max-file-links=4"], ["--inline", "--chunker=size-200000"]):
        root = CID.parse(kubo.run("add", "-Q", *options, tmp_path / "file").decode().strip())
        assert open_file(root, get).read() == content
