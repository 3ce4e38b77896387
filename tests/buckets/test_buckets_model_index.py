"""The metadata index against a plain dictionary."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.buckets import index as index_module
from ipfs_kit.buckets.index import Index, Item
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Kind

names = st.one_of(
    st.integers(0, 400).map(lambda n: b"f%03d" % n),
    st.binary(min_size=1, max_size=3).filter(lambda b: b not in (b".", b"..") and b"/" not in b and b"\0" not in b),
)
items = st.integers(0, 50).map(lambda n: Item(CID.of(b"%d" % n).binary, Kind.FILE, n, n))
edits = st.lists(st.tuples(names, st.one_of(st.none(), items)), max_size=120)


class Blocks(dict):
    def put(self, cid, data):
        self[cid] = data

    def get(self, cid):
        return self[cid]


def build(pairs, blocks):
    return Index(blocks.__getitem__).update(None, pairs, blocks.put)


@settings(max_examples=150, deadline=None)
@given(st.lists(edits, min_size=1, max_size=6))
def test_any_edit_history_gives_the_index_of_a_clean_build(rounds):
    old = index_module.RUN_TARGET, index_module.RUN_MAX
    index_module.RUN_TARGET, index_module.RUN_MAX = 4, 9
    try:
        blocks = Blocks()
        index, root, model = Index(blocks.__getitem__), None, {}
        for round_ in rounds:
            root = index.update(root, round_, blocks.put)
            for name, item in round_:
                model.pop(name, None) if item is None else model.__setitem__(name, item)
            assert dict(index.iterate(root)) == model
            assert [name for name, _ in index.iterate(root)] == sorted(model)
            assert root == build(model.items(), blocks)
            assert index.totals(root) == (len(model), len(model), sum(item.size for item in model.values()))
    finally:
        index_module.RUN_TARGET, index_module.RUN_MAX = old


@settings(max_examples=80, deadline=None)
@given(edits, edits, names)
def test_diff_names_exactly_what_differs_and_lookup_and_paging_agree(first, second, name):
    blocks = Blocks()
    index = Index(blocks.__getitem__)
    left = index.update(None, first, blocks.put)
    right = index.update(left, second, blocks.put)
    one, other = dict(index.iterate(left)), dict(index.iterate(right))
    expected = [(n, one.get(n), other.get(n)) for n in sorted({*one, *other}) if one.get(n) != other.get(n)]
    assert list(index.diff(left, right)) == expected
    assert index.lookup(right, name) == other.get(name)
    assert [n for n, _ in index.iterate(right, name)] == [n for n in sorted(other) if n > name]


def test_one_change_in_a_large_folder_writes_few_nodes():
    blocks = Blocks()
    index = Index(blocks.__getitem__)
    item = Item(CID.of(b"x").binary, Kind.FILE, 1, 1)
    root = index.update(None, ((b"%06d" % n, item) for n in range(30_000)), blocks.put)
    before = len(blocks)
    index.update(root, [(b"015000x", item)], blocks.put)
    assert len(blocks) - before <= 6
