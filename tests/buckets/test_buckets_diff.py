from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from history_trees import PAIRS, TINY, Blocks, Model, bare, build
from hypothesis import given, settings

from ipfs_kit.buckets.diff import (
    Change,
    ChangeKind,
    _sorted_names,
    diff,
    diff_page,
    find_renames,
    folder_pairs,
    steps,
)
from ipfs_kit.buckets.tree import Tree
from ipfs_kit.errors import FormatError, InvalidInput
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import PROFILES, Directory, Link, build_bytes
from ipfs_kit.ipld.unixfs.compare import diff_links


def expected(left: Model, right: Model, path: tuple[bytes, ...] = ()) -> Iterator[tuple[tuple[bytes, ...], str]]:
    """The changes between two models, by looking at everything."""
    for name in sorted(left.keys() | right.keys()):
        one, other, where = left.get(name), right.get(name), (*path, name)
        below = [value if isinstance(value, dict) else {} for value in (one, other)]
        if one is None or other is None:
            yield where, "added" if one is None else "removed"
        elif isinstance(one, dict) != isinstance(other, dict):
            yield where, "type_changed"
        elif not isinstance(one, dict) and one != other:
            content = [value[0] if isinstance(value, tuple) else value for value in (one, other)]
            yield where, "meta" if content[0] == content[1] else "modified"
        yield from expected(below[0], below[1], where)


@pytest.mark.slow
@given(PAIRS)
@settings(max_examples=150, deadline=None)
def test_diff_names_exactly_what_a_full_comparison_names_in_path_order(pair: tuple[Model, Model]) -> None:
    blocks = Blocks()
    view = blocks.view()
    left, right = build(view, blocks, pair[0]), build(view, blocks, pair[1])
    found = [(change.parts, change.kind.value) for change in diff(view, left, right)]
    assert found == list(expected(*pair))
    assert [parts for parts, _ in found] == sorted(parts for parts, _ in found)


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_applying_the_diff_to_the_left_tree_gives_the_right_root_bit_for_bit(pair: tuple[Model, Model]) -> None:
    blocks = Blocks()
    view = blocks.view()
    left, right = build(view, blocks, pair[0]), build(view, blocks, pair[1])
    for expand in (False, True):
        tree = Tree(view, blocks.put, left)
        tree.apply(steps(diff(view, left, right, expand=expand)))
        assert tree.flush() == right


@pytest.mark.slow
@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_without_indexes_the_links_give_the_same_changes_of_content(pair: tuple[Model, Model]) -> None:
    blocks = Blocks()
    view = blocks.view()
    left, right = build(view, blocks, pair[0]), build(view, blocks, pair[1])
    wanted = [(path, kind) for path, kind in expected(*pair) if kind != "meta"]
    for one, other in ((bare(left), bare(right)), (left, bare(right)), (bare(left), right)):
        found = [(change.parts, change.kind.value) for change in diff(view, one, other)]
        assert [entry for entry in found if entry[1] != "meta"] == wanted


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_pages_of_any_size_join_to_the_whole_diff(pair: tuple[Model, Model]) -> None:
    blocks = Blocks()
    view = blocks.view()
    left, right = build(view, blocks, pair[0]), build(view, blocks, pair[1])
    whole = list(diff(view, left, right))
    for limit in (1, 3):
        found: list[Change] = []
        cursor = None
        while True:
            page = diff_page(view, left, right, limit=limit, after=cursor)
            assert len(page.changes) <= limit
            found += page.changes
            cursor = page.cursor
            if cursor is None:
                break
        assert found == whole


def test_a_page_needs_a_positive_limit() -> None:
    blocks = Blocks()
    view = blocks.view()
    with pytest.raises(InvalidInput):
        diff_page(view, None, None, limit=0)


def test_equal_trees_are_compared_without_reading_a_block() -> None:
    blocks = Blocks()
    view = blocks.view()
    tree = build(view, blocks, {b"d": {b"f": b"x"}})
    blocks.reads = 0
    assert list(diff(view, tree, tree)) == []
    assert list(diff(view, bare(tree), bare(tree))) == []
    assert blocks.reads == 0


def test_a_change_deep_down_reads_only_the_folders_on_its_way() -> None:
    blocks = Blocks()
    model: Model = {b"%02d" % i: {b"%02d" % j: {b"f": b"%d" % (i * j)} for j in range(20)} for i in range(20)}
    left = build(blocks.view(), blocks, model)
    model[b"07"][b"11"][b"f"] = b"changed"
    right = build(blocks.view(), blocks, model)
    blocks.reads = 0
    changes = list(diff(blocks.view(), left, right))
    assert [change.path for change in changes] == ["/07/11/f"]
    assert blocks.reads <= 12


def test_a_time_that_moved_is_a_change_of_metadata_alone() -> None:
    blocks = Blocks()
    view = blocks.view()
    left = build(view, blocks, {b"f": b"x"})
    item = view.child(left, b"f")
    assert item is not None
    right = view.edit(left, [(b"f", replace(item, mtime_ns=5))], blocks.put)
    assert right.binary == left.binary
    assert [(change.path, change.kind) for change in diff(view, left, right)] == [("/f", ChangeKind.META)]


def test_a_moved_folder_is_one_rename() -> None:
    blocks = Blocks()
    view = blocks.view()
    left = build(view, blocks, {b"a": {b"f": b"x", b"g": b"y"}, b"k": b"keep"})
    right = build(view, blocks, {b"z": {b"f": b"x", b"g": b"y"}, b"k": b"new"})
    found = list(find_renames(diff(view, left, right)))
    assert [(c.path, c.kind.value, c.source) for c in found] == [
        ("/k", "modified", None),
        ("/z", "renamed", (b"a",)),
    ]
    tree = Tree(view, blocks.put, left)
    tree.apply(steps(found))
    assert tree.flush() == right


def test_each_removed_file_is_the_source_of_one_rename_at_most() -> None:
    blocks = Blocks()
    view = blocks.view()
    left = build(view, blocks, {b"a": b"same", b"e": b""})
    right = build(view, blocks, {b"b": b"same", b"c": b"same", b"f": b""})
    kinds = [(c.path, c.kind.value) for c in find_renames(diff(view, left, right))]
    assert kinds == [("/b", "renamed"), ("/c", "added"), ("/e", "removed"), ("/f", "added")]


def test_more_changes_than_rename_detection_holds_come_as_they_are() -> None:
    blocks = Blocks()
    view = blocks.view()
    left, right = build(view, blocks, {b"a": b"1", b"b": b"2"}), build(view, blocks, {b"c": b"1", b"d": b"2"})
    changes = list(diff(view, left, right))
    assert list(find_renames(changes, limit=2)) == changes


def test_names_are_sorted_in_bounded_selections() -> None:
    names = [bytes([b]) for b in os.urandom(64)]
    names = list(dict.fromkeys(name for name in names if name != b"\0"))
    walks = 0

    def walk() -> Iterator[tuple[bytes, Link | None, Link | None]]:
        nonlocal walks
        walks += 1
        return ((name, None, None) for name in names)

    assert [name for name, _, _ in _sorted_names(walk, 10)] == sorted(names)
    assert walks == -(-len(names) // 10)


# -- links of sharded directories --------------------------------------------------------------------------------


def directory(blocks: Blocks, names: dict[bytes, CID], profile=TINY, base: CID | None = None) -> CID:
    folder = Directory(profile, blocks.get, base)
    for name, cid in names.items():
        folder.set(name, cid, 5)
    return folder.flush(blocks.put)[0]


@pytest.mark.parametrize(("before", "after"), [(3, 3), (3, 40), (40, 3), (40, 40), (40, 300), (0, 40), (40, 0)])
def test_links_are_compared_across_the_sharding_threshold(before: int, after: int) -> None:
    blocks = Blocks()
    cids = [build_bytes(b"%d" % i, TINY, blocks.put).cid for i in range(3)]
    left = {b"name-%d" % i: cids[i % 2] for i in range(before)}
    right = {b"name-%d" % i: cids[i % 3] for i in range(after)}
    found = {
        name: (one.cid if one else None, other.cid if other else None)
        for name, one, other in diff_links(blocks.get, directory(blocks, left), directory(blocks, right))
    }
    wanted = {n: (left.get(n), right.get(n)) for n in left.keys() | right.keys() if left.get(n) != right.get(n)}
    assert found == wanted


def test_directories_of_two_fanouts_are_compared_by_looking_names_up() -> None:
    blocks = Blocks()
    cid = build_bytes(b"x", TINY, blocks.put).cid
    wide = replace(TINY, hamt_fanout=256)
    names = {b"name-%d" % i: cid for i in range(40)}
    left = directory(blocks, names)
    right = directory(blocks, {**names, b"new": cid}, wide)
    assert [(n, one is None) for n, one, _ in diff_links(blocks.get, left, right)] == [(b"new", True)]
    assert [(n, one is None) for n, one, _ in diff_links(blocks.get, right, left)] == [(b"new", False)]


def test_a_file_is_refused_where_a_directory_must_be() -> None:
    blocks = Blocks()
    cid = build_bytes(b"x", TINY, blocks.put).cid
    with pytest.raises(InvalidInput):
        list(diff_links(blocks.get, cid, directory(blocks, {})))


def test_a_shard_that_links_itself_ends_with_an_error() -> None:
    # A store that answers any CID with one shard stands for an identity-hash cycle.
    blocks = Blocks()
    cid = build_bytes(b"x", TINY, blocks.put).cid
    root = directory(blocks, {b"n%d" % i: cid for i in range(300)})
    shard = next(data for data in blocks.held.values() if len(data) > 100 and data != blocks.held[root])
    empty = directory(blocks, {})

    def get(address: CID) -> bytes:
        return blocks.held[address] if address in (root, empty) else blocks.held[root]

    assert shard is not None
    with pytest.raises(FormatError):
        list(diff_links(get, root, empty))


def test_a_hundred_changes_in_a_large_sharded_directory_read_only_their_shards() -> None:
    blocks = Blocks()
    profile = PROFILES["unixfs-v1-2025"]
    cid = build_bytes(b"x", profile, blocks.put).cid
    other = build_bytes(b"y", profile, blocks.put).cid
    left = directory(blocks, {b"name-%06d" % i: cid for i in range(20_000)}, profile)
    changed = {b"name-%06d" % (i * 199): other for i in range(100)}
    right = directory(blocks, changed, profile, left)
    blocks.reads = 0
    began = time.perf_counter()
    found = {name for name, _, _ in diff_links(blocks.get, left, right)}
    assert time.perf_counter() - began < 5
    assert found == changed.keys()
    assert blocks.reads <= 2 + 2 * 100 * 2


def test_folder_pairs_of_an_unindexed_folder_come_sorted() -> None:
    blocks = Blocks()
    view = blocks.view()
    one = build(view, blocks, {b"%d" % i: b"x" for i in range(40)})
    names = [name for name, _, _ in folder_pairs(view, None, bare(one))]
    assert names == sorted(names)
    assert len(names) == 40
