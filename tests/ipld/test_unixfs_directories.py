"""Directories: any history equals a clean build, edits touch only the path, arriving trees are checked."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.errors import AlreadyExists, BudgetExceeded, FormatError, InvalidInput, InvalidPath
from ipfs_kit.ipld import dag_pb
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_PB
from ipfs_kit.ipld.unixfs import (
    DEFAULT_PROFILE,
    PROFILES,
    Directory,
    Link,
    Profile,
    build_bytes,
    build_file,
    check_tree,
    murmur3_x64_64,
)
from ipfs_kit.ipld.unixfs._data import DIRECTORY_DATA, hamt_data

TARGET = CID.of(b"target")
OTHER = CID.of(b"other", DAG_PB)
# Thresholds and fanouts small enough that a handful of names crosses every boundary.
TINY = [
    Profile("tiny-block", 1, True, "fixed", 64, 8, 256, 400, "block"),
    Profile("tiny-links", 0, False, "fixed", 64, 8, 256, 300, "links"),
    Profile("tiny-narrow", 1, True, "fixed", 64, 8, 8, 400, "block"),
]


class Blocks(dict):
    def put(self, cid, data):
        self[cid] = data


def clean(entries, profile, blocks):
    directory = Directory(profile, blocks.__getitem__, None)
    for name in sorted(entries, reverse=True):
        directory.set(name, *entries[name])
    return directory.flush(blocks.put)


NAMES = [b"%d" % i for i in range(24)] + [b"x" * n for n in (1, 40, 120)] + ["\u00e9".encode(), b"\xff\xfe"]
edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "other", "remove", "remove", "flush", "reopen", "list"]),
        st.sampled_from(NAMES),
        st.integers(0, 1 << 40),
    ),
    max_size=70,
)


@pytest.mark.parametrize("profile", TINY, ids=lambda p: p.name)
@given(history=edits)
@settings(max_examples=60, deadline=None)
def test_any_edit_history_equals_a_clean_build(profile, history):
    blocks = Blocks()
    directory = Directory(profile, blocks.__getitem__, None)
    model = {}
    for action, name, tsize in history:
        if action in ("set", "other"):
            cid = TARGET if action == "set" else OTHER
            directory.set(name, cid, tsize)
            model[name] = (cid, tsize)
        elif action == "remove":
            assert directory.remove(name) is (model.pop(name, None) is not None)
        elif action == "list":
            assert {n: (link.cid, link.tsize) for n, link in directory.iterate()} == model
        else:
            root, tsize = directory.flush(blocks.put)
            assert (root, tsize) == clean(model, profile, blocks)
            if action == "reopen":
                directory = Directory(profile, blocks.__getitem__, root)
    assert directory.is_empty() is (not model)
    assert len(directory) == len(model)
    root, tsize = directory.flush(blocks.put)
    assert (root, tsize) == clean(model, profile, blocks)
    assert (root, tsize) == Directory.bulk(profile, ((n, *v) for n, v in model.items()), blocks.put)
    for name in NAMES:
        found = Directory(profile, blocks.__getitem__, root).lookup(name)
        assert found == (Link(name, *model[name]) if name in model else None)


@pytest.mark.parametrize("profile", [PROFILES["unixfs-v1-2025"], PROFILES["unixfs-v0-2015"]], ids=lambda p: p.name)
def test_crossing_the_real_threshold_up_and_down_returns_to_the_same_root(profile):
    blocks = Blocks()
    entries = {b"entry-%05d-%s" % (i, b"p" * 20): (TARGET, i) for i in range(4500)}
    directory = Directory(profile, blocks.__getitem__, None)
    roots = {}
    names = list(entries)
    for name in names:
        directory.set(name, *entries[name])
    assert directory.is_sharded()
    for kept in (4500, 4400, 3300, 2500):
        for name in names[kept:]:
            directory.remove(name)
        roots[kept] = directory.flush(blocks.put)
        assert roots[kept] == Directory.bulk(profile, ((n, *entries[n]) for n in names[:kept]), blocks.put)
    assert not directory.is_sharded()
    again = Directory(profile, blocks.__getitem__, roots[2500][0])
    for name in names[2500:]:
        again.set(name, *entries[name])
    assert again.flush(blocks.put) == roots[4500]


@pytest.fixture(scope="module")
def big():
    blocks = Blocks()
    entries = [(b"name-%06d" % i, TARGET, i) for i in range(20_000)]
    root, tsize = Directory.bulk(DEFAULT_PROFILE, entries, blocks.put)
    return blocks, root, tsize, entries


def test_iteration_resumes_behind_any_cursor(big):
    blocks, root, _, entries = big
    directory = Directory(DEFAULT_PROFILE, blocks.__getitem__, root)
    whole = [c for c, _ in directory.iterate()]
    assert len(whole) == len(set(whole)) == len(entries)
    assert whole == sorted(whole, key=murmur3_x64_64)
    paged = []
    cursor = None
    while page := list(itertools.islice(Directory(DEFAULT_PROFILE, blocks.__getitem__, root).iterate(cursor), 3000)):
        paged += [c for c, _ in page]
        cursor = page[-1][0]
    assert paged == whole
    directory.remove(whole[100])
    assert [c for c, _ in itertools.islice(directory.iterate(whole[100]), 5)] == whole[101:106]


def test_one_change_reads_and_writes_only_its_path(big):
    blocks, root, _, _ = big
    reads, writes = [], []

    def get(cid):
        reads.append(cid)
        return blocks[cid]

    directory = Directory(DEFAULT_PROFILE, get, root)
    directory.set(b"name-012345", OTHER, 54321)
    new, _ = directory.flush(lambda c, b: (writes.append(c), blocks.put(c, b)))
    assert len(reads) <= 4
    assert len(writes) <= 4
    assert directory.lookup(b"name-012345") == Link(b"name-012345", OTHER, 54321)
    directory.set(b"name-012345", TARGET, 12345)
    assert directory.flush(blocks.put) == (root, big[2])
    assert new != root


def test_a_removal_proves_the_size_is_over_the_threshold_without_reading_the_tree(big):
    blocks, root, _, entries = big
    reads = []

    def get(cid):
        reads.append(cid)
        return blocks[cid]

    directory = Directory(DEFAULT_PROFILE, get, root)
    directory.remove(b"name-012345")
    directory.flush(blocks.put)
    first = len(reads)
    assert first < len(blocks) / 4
    for name, _, _ in entries[:100]:
        directory.remove(name)
        directory.flush(blocks.put)
    # The slack found once serves the next hundred: only paths are read.
    assert len(reads) - first < 300


def test_an_edit_that_changes_nothing_writes_nothing(big):
    blocks, root, tsize, _ = big
    directory = Directory(DEFAULT_PROFILE, blocks.__getitem__, root)
    directory.set(b"name-000001", TARGET, 1)
    assert directory.remove(b"absent") is False

    def refuse(cid, block):
        raise AssertionError("nothing changed")

    assert directory.flush(refuse) == (root, tsize)


def test_a_failed_flush_can_be_repeated(big):
    blocks, root, _, _ = big
    directory = Directory(DEFAULT_PROFILE, blocks.__getitem__, root)
    for i in range(50):
        directory.set(b"extra-%d" % i, TARGET, i)
    left = 20

    def flaky(cid, block):
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError("full")
        blocks.put(cid, block)

    with pytest.raises(OSError, match="full"):
        directory.flush(flaky)
    entries = [*big[3], *((b"extra-%d" % i, TARGET, i) for i in range(50))]
    assert directory.flush(blocks.put) == Directory.bulk(DEFAULT_PROFILE, entries, blocks.put)


def test_a_base_of_another_profile_is_rewritten_whole_on_change():
    blocks = Blocks()
    entries = {b"n-%05d" % i: (TARGET, i) for i in range(9000)}
    old, _ = Directory.bulk(PROFILES["unixfs-v0-2015"], ((n, *v) for n, v in entries.items()), blocks.put)
    directory = Directory(DEFAULT_PROFILE, blocks.__getitem__, old)
    assert directory.flush(blocks.put)[0] == old
    directory.remove(b"n-00000")
    del entries[b"n-00000"]
    assert directory.flush(blocks.put) == Directory.bulk(
        DEFAULT_PROFILE, ((n, *v) for n, v in entries.items()), blocks.put
    )


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0", b"x" * 256])
def test_illegal_names_are_refused_on_the_way_in(name):
    with pytest.raises(InvalidPath):
        Directory(DEFAULT_PROFILE, {}.__getitem__, None).set(name, TARGET, 1)
    with pytest.raises(InvalidPath):
        Directory.bulk(DEFAULT_PROFILE, [(name, TARGET, 1)], lambda c, b: None)


def test_bulk_refuses_a_name_given_twice():
    for count in (2, 9000):
        entries = [(b"n%d" % (i % (count - 1)), TARGET, 1) for i in range(count)]
        with pytest.raises(AlreadyExists):
            Directory.bulk(DEFAULT_PROFILE, entries, lambda c, b: None)


def test_a_file_is_no_directory():
    blocks = Blocks()
    raw = build_bytes(b"x", DEFAULT_PROFILE, blocks.put).cid
    node = build_bytes(b"x", PROFILES["unixfs-v0-2015"], blocks.put).cid
    with pytest.raises(FormatError):
        Directory(DEFAULT_PROFILE, blocks.__getitem__, raw).lookup(b"a")
    with pytest.raises(InvalidInput):
        Directory(DEFAULT_PROFILE, blocks.__getitem__, node).lookup(b"a")


# Arriving trees.


def plain(blocks, links):
    block = dag_pb.join(DIRECTORY_DATA, [dag_pb.link_bytes(c.binary, n, t) for n, c, t in links])
    cid = CID.of(block, DAG_PB)
    blocks[cid] = block
    return cid


def shard(blocks, slots, fanout=256):
    bitmap = sum(1 << number for number, _, _, _ in slots)
    fields = [dag_pb.link_bytes(c.binary, b"%02X" % number + name, t) for number, name, c, t in slots]
    block = dag_pb.join(hamt_data(bitmap, fanout), fields)
    cid = CID.of(block, DAG_PB)
    blocks[cid] = block
    return cid, len(block) + sum(t for *_, t in slots)


def slot_of(name, depth=0):
    return murmur3_x64_64(name) >> 56 - 8 * depth & 255


@pytest.fixture
def store():
    blocks = Blocks()
    blocks[TARGET] = b"target"
    return blocks


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ([b"a", b"a"], FormatError),
        ([b"b", b"a"], FormatError),
        ([b".."], InvalidPath),
        ([b"a/b"], InvalidPath),
        ([b"a\0b"], InvalidPath),
        ([b""], InvalidPath),
    ],
)
def test_bad_names_in_an_arriving_directory_are_refused(store, names, error):
    root = plain(store, [(n, TARGET, 6) for n in names])
    with pytest.raises(error):
        check_tree(root, store.__getitem__)


def test_an_entry_in_the_wrong_place_of_a_hamt_is_refused(store):
    good, _ = shard(store, [(slot_of(b"name"), b"name", TARGET, 6)])
    assert check_tree(good, store.__getitem__).entries == 1
    wrong, _ = shard(store, [(slot_of(b"name") ^ 1, b"name", TARGET, 6)])
    with pytest.raises(FormatError, match="place"):
        check_tree(wrong, store.__getitem__)


def test_malformed_shards_are_refused(store):
    number = slot_of(b"name")
    lone, tsize = shard(store, [(slot_of(b"name", 1), b"name", TARGET, 6)])
    bitmap = dag_pb.join(hamt_data(3, 256), [dag_pb.link_bytes(TARGET.binary, b"00x", 6)])
    prefix = dag_pb.join(hamt_data(1 << number, 256), [dag_pb.link_bytes(TARGET.binary, b"zzname", 6)])
    fanout = dag_pb.join(hamt_data(1, 7), [dag_pb.link_bytes(TARGET.binary, b"0x", 6)])
    roots = [shard(store, [(number, b"", lone, tsize)])[0]]
    for block in (bitmap, prefix, fanout):
        cid = CID.of(block, DAG_PB)
        store[cid] = block
        roots.append(cid)
    for root in roots:
        with pytest.raises(FormatError):
            check_tree(root, store.__getitem__)


def test_a_shard_with_a_wrong_size_in_its_link_is_refused():
    blocks = Blocks()
    blocks[TARGET] = b"target"
    root, _ = Directory.bulk(DEFAULT_PROFILE, ((b"f%05d" % i, TARGET, 6) for i in range(9000)), blocks.put)
    assert check_tree(root, blocks.__getitem__).entries == 9000
    data, fields = dag_pb.split_links(blocks[root])
    cid, name, tsize = dag_pb.parse_link(fields[0])
    block = dag_pb.join(data, [dag_pb.link_bytes(cid, name, tsize + 1), *fields[1:]])
    lying = CID.of(block, DAG_PB)
    blocks[lying] = block
    with pytest.raises(FormatError, match="size"):
        check_tree(lying, blocks.__getitem__)


def test_a_hamt_deeper_than_its_hash_is_refused(store):
    node = shard(store, [(1, b"", TARGET, 6), (2, b"", TARGET, 6)])
    for _ in range(10):
        node = shard(store, [(1, b"", *node), (2, b"", *node)])
    with pytest.raises((BudgetExceeded, FormatError)):
        check_tree(node[0], store.__getitem__)
    directory = Directory(DEFAULT_PROFILE, store.__getitem__, node[0])
    with pytest.raises((BudgetExceeded, FormatError)):
        list(directory.iterate())


def test_directories_that_repeat_are_counted_without_being_walked_again(store):
    cid, tsize = plain(store, [(b"f", TARGET, 6)]), 100
    for _ in range(12):
        cid = plain(store, [(b"%03d" % i, cid, tsize) for i in range(100)])
    report = None
    with pytest.raises(BudgetExceeded):
        report = check_tree(cid, store.__getitem__)
    assert report is None


def test_too_deep_directories_and_foreign_codecs_are_refused(store):
    cid = plain(store, [])
    for _ in range(300):
        cid = plain(store, [(b"d", cid, 1)])
    with pytest.raises(BudgetExceeded):
        check_tree(cid, store.__getitem__)
    foreign = CID.of(b"\xa0", DAG_CBOR)
    with pytest.raises(FormatError):
        check_tree(plain(store, [(b"x", foreign, 1)]), store.__getitem__)


def test_a_built_tree_checks_and_is_reported():
    blocks = Blocks()
    small = build_bytes(b"hello", DEFAULT_PROFILE, blocks.put)
    large = build_file(io.BytesIO(bytes(3_000_000)), DEFAULT_PROFILE, blocks.put)
    inner = Directory(DEFAULT_PROFILE, blocks.__getitem__, None)
    inner.set(b"small", small.cid, small.tsize)
    cid, tsize = inner.flush(blocks.put)
    root = Directory(DEFAULT_PROFILE, blocks.__getitem__, None)
    root.set(b"inner", cid, tsize)
    root.set(b"again", cid, tsize)
    root.set(b"large", large.cid, large.tsize)
    report = check_tree(root.flush(blocks.put)[0], blocks.__getitem__)
    assert (report.entries, report.content_bytes) == (5, 10 + 3_000_000)
    assert report.blocks == len(blocks)
    assert report.block_bytes == sum(map(len, blocks.values()))
