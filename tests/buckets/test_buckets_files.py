"""File operations: outcomes, refusals, reuse of chunks, sealed buckets, cross-bucket moves."""

from __future__ import annotations

import io

import pytest
from engine import Engine

from ipfs_kit.buckets.paths import Location, Ref, parse_path
from ipfs_kit.errors import (
    AlreadyExists,
    BucketNotFound,
    Expired,
    InvalidInput,
    InvalidName,
    InvalidPath,
    NotEmpty,
    PathNotFound,
    ReadOnly,
)
from ipfs_kit.ipld.unixfs import PROFILES, build_bytes


@pytest.fixture
def kit(tmp_path):
    engine = Engine(tmp_path / "store")
    engine.run(lambda: engine.buckets.create("B"))
    yield engine
    engine.close()


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("B", Ref("B")),
        ("B@dev/x", Ref("B", "dev/x")),
        ("B@op:7", Ref("B", op=7)),
        ("B@main@op:7", Ref("B", "main", op=7)),
        ("B#work@op:7", Ref("B", session="work", op=7)),
        ("B@op:7#work", Ref("B", session="work", op=7)),
        ("B@time:1970-01-01T00:00:01Z", Ref("B", time_ns=1_000_000_000)),
        ("B@time:1970-01-01T01:00:01+01:00", Ref("B", time_ns=1_000_000_000)),
    ],
)
def test_references_parse_and_print_back(text, ref):
    assert Ref.parse(text) == ref
    assert Ref.parse(str(ref)) == ref
    assert Location.parse(f"{text}:/a/b") == Location(ref, (b"a", b"b"))


@pytest.mark.parametrize(
    "text",
    ["", "@x", "B@", "B@a@b", "B#a@b", "B@op:x", "B@op:1@op:2", "B@op:1@time:2020-01-01", "B@..", "a/b", "B@a..b"],
)
def test_bad_references_are_refused(text):
    with pytest.raises(InvalidInput):
        Ref.parse(text)


@pytest.mark.parametrize("path", ["..", "a/../b", "a//b", "/.", "a\0b", "x" * 256, "/".join(["d"] * 300), "\ud800"])
def test_paths_cannot_escape(path):
    with pytest.raises(InvalidPath):
        parse_path(path)


def test_names_come_back_byte_for_byte(kit):
    b = kit.buckets
    name = b"caf\xe9-\xff".decode("utf-8", "surrogateescape")
    for each in (name, "e\u0301", "\u00e9", "README", "readme"):
        kit.run(lambda each=each: b.put_bytes(Location(Ref("B"), parse_path(each)), each.encode("utf-8", "replace")))
    found = {entry.name for entry in b.ls("B:/").entries}
    assert found == {name, "e\u0301", "\u00e9", "README", "readme"}


def test_refusals_are_typed_and_change_nothing(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/d/f", b"1"))
    root = b.root("B")
    for error, prepare in [
        (AlreadyExists, lambda: b.put_bytes("B:/d", b"")),
        (AlreadyExists, lambda: b.put_bytes("B:/d/f/x", b"")),
        (PathNotFound, lambda: b.put_bytes("B:/no/x", b"", create_parents=False)),
        (NotEmpty, lambda: b.rm("B:/d")),
        (NotEmpty, lambda: b.rmdir("B:/d")),
        (PathNotFound, lambda: b.rmdir("B:/d/f")),
        (InvalidPath, lambda: b.mv("B:/d", "B:/d/e")),
        (InvalidPath, lambda: b.rm("B:/", recursive=True)),
        (ReadOnly, lambda: b.put_bytes("B@op:1:/x", b"")),
        (BucketNotFound, lambda: b.put_bytes("C:/x", b"")),
        (InvalidName, lambda: b.create("../x")),
        (AlreadyExists, lambda: b.create("B")),
        (NotEmpty, lambda: b.delete("B")),
    ]:
        with pytest.raises(error):
            kit.run(prepare)
    assert b.root("B") == root


def test_a_write_in_a_large_file_stores_only_what_it_touches_and_gives_the_clean_cid(kit):
    b = kit.buckets
    data = bytes(range(256)) * 4096 * 5
    kit.run(lambda: b.put_stream("B:/big", io.BytesIO(data)))
    stored: list[int] = []
    space = b.workspace("B").space
    put = space.put
    space.put = lambda cid, block: (stored.append(len(block)), put(cid, block))[1]
    kit.run(lambda: b.write("B:/big", b"patch", offset=2_500_000))
    kit.run(lambda: b.append("B:/big", b"tail"))
    assert sum(stored) < 3 * 1024 * 1024
    expected = data[:2_500_000] + b"patch" + data[2_500_005:] + b"tail"
    assert b.stat("B:/big").cid == build_bytes(expected, PROFILES["unixfs-v1-2025"], lambda cid, block: None).cid
    assert b.cat("B:/big", offset=2_499_998, length=9) == expected[2_499_998:2_500_007]


def test_moves_across_buckets_are_one_op_and_copies_recode_between_kinds(kit):
    b = kit.buckets
    kit.run(lambda: b.create("C"))
    kit.run(lambda: b.create("S", kind="sealed"))
    kit.run(lambda: b.put_bytes("B:/d/f", b"content", tags={"k": "v"}))
    cid = b.stat("B:/d").cid
    kit.run(lambda: b.mv("B:/d", "C:/e"))
    assert not b.exists_at("B:/d")
    assert b.stat("C:/e").cid == cid
    kit.run(lambda: b.cp("C:/e", "S:/e"))
    assert b.cat("S:/e/f") == b"content"
    assert b.stat("S:/e/f").cid != b.stat("C:/e/f").cid
    kit.run(lambda: b.cp("S:/e/f", "B:/back"))
    assert b.stat("B:/back").cid == b.stat("C:/e/f").cid


def test_a_sealed_bucket_is_gone_with_its_key(kit):
    b = kit.buckets
    kit.run(lambda: b.create("S", kind="sealed"))
    kit.run(lambda: b.put_bytes("S:/secret-name", b"secret content"))
    kit.run(lambda: b.commit("S", "sealed"))
    kit.blocks.sync()
    for path in kit.directory.rglob("*"):
        if path.is_file():
            assert b"secret" not in path.read_bytes(), path
    b.erase_key("S")
    for read in (lambda: b.cat("S:/secret-name"), lambda: b.ls("S@main:/"), lambda: b.root("S")):
        with pytest.raises(Expired):
            read()
    assert list(b.verify()) == []


def test_folder_put_merges_into_an_existing_folder(kit):
    b = kit.buckets
    for path in ("x/a", "x/sub/b", "y/a", "y/sub/c"):
        kit.run(lambda path=path: b.put_bytes(f"B:/{path}", path.encode()))
    item = b.item_with_space("B:/y")[0]
    kit.run(lambda: b.put_entry("B:/x", item))
    assert [found.path for found in b.walk("B:/x")] == ["/x/a", "/x/sub", "/x/sub/b", "/x/sub/c"]
    assert b.cat("B:/x/a") == b"y/a"
    assert b.stat("B:/y").cid != b.stat("B:/x").cid


def test_a_foreign_tree_by_cid_is_indexed_and_listed(kit):
    b = kit.buckets
    kit.run(lambda: b.put_bytes("B:/d/s/f", b"1"))
    cid = b.stat("B:/d").cid
    kit.run(lambda: b.put_entry("B:/again", cid))
    assert b.stat("B:/again/s/f").size == 1
    assert b.info("B").files == 2


def test_pages_follow_byte_order_and_resume(kit):
    b = kit.buckets
    for n in range(25):
        kit.run(lambda n=n: b.put_bytes(f"B:/d/{n:02d}", b""))
    seen, after = [], None
    while True:
        page = b.ls("B:/d", after=after, limit=7)
        seen += [entry.name for entry in page.entries]
        after = page.cursor
        if after is None:
            break
    assert seen == [f"{n:02d}" for n in range(25)]
