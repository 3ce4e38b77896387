from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from history_trees import TINY, Blocks, Model, build, read
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.buckets.commits import (
    COMMIT_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    Commit,
    changes_path,
    decode,
    is_ancestor,
    load,
    log,
    merge_bases,
    order_after,
    seal_message,
    seal_metadata,
    walk,
)
from ipfs_kit.buckets.merge import merge_commits
from ipfs_kit.errors import (
    BudgetExceeded,
    FormatError,
    IntegrityError,
    InvalidInput,
    MergeConflict,
    RefNotFound,
)
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_PB
from ipfs_kit.ipld.resolve import resolve

KEY = bytes(range(32))
NONCE = b"n" * 16
ROOT = CID.of(b"root", DAG_PB)
META = CID.of(b"meta", DAG_CBOR)


def make(**fields: Any) -> Commit:
    values: dict[str, Any] = {
        "bucket": "b0", "root": ROOT, "meta": META, "parents": (), "author": "s1", "time_ns": 5, "order_ns": 5,
        "profile": "unixfs-v1-2025", "nonce": NONCE,
    }  # fmt: skip
    return Commit(**{**values, **fields})


class Graph:
    """Commits in memory, made in order; each names its parents by number."""

    def __init__(self) -> None:
        self.blocks = Blocks()
        self.cids: list[CID] = []

    def add(self, *parents: int, time_ns: int | None = None, **fields: Any) -> CID:
        time_ns = len(self.cids) * 10 if time_ns is None else time_ns
        cids = tuple(self.cids[parent] for parent in parents)
        order_ns = order_after(time_ns, [load(self.blocks.get, cid) for cid in cids])
        nonce = b"%016d" % len(self.cids)
        cid, data = make(parents=cids, time_ns=time_ns, order_ns=order_ns, nonce=nonce, **fields).encode()
        self.blocks.put(cid, data)
        self.cids.append(cid)
        return cid

    def number(self, cid: CID) -> int:
        return self.cids.index(cid)

    def ancestors(self, cid: CID) -> set[CID]:
        """A commit and all before it, by the definition."""
        found: set[CID] = set()
        todo = [cid]
        while todo:
            here = todo.pop()
            if here not in found:
                found.add(here)
                todo += load(self.blocks.get, here).parents
        return found

    def bases(self, one: CID, other: CID) -> set[CID]:
        common = self.ancestors(one) & self.ancestors(other)
        return {cid for cid in common if not any(cid != more and cid in self.ancestors(more) for more in common)}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    graph = Graph()
    for number in range(draw(st.integers(1, 14))):
        parents = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        graph.add(*sorted(parents), time_ns=draw(st.integers(-3, 30)))
    return graph


# -- the block ---------------------------------------------------------------------------------------------------


def test_a_commit_survives_encoding_and_has_one_address() -> None:
    commit = make(
        parents=(CID.of(b"p", DAG_CBOR),), message=seal_message(KEY, NONCE, "hé"), ext={"tsize": 7, "a": [1, None]}
    )
    cid, data = commit.encode()
    assert decode(data) == commit
    assert cid == CID.of(data, DAG_CBOR)
    assert make(ext={"b": 1, "a": 2}).encode() == make(ext={"a": 2, "b": 1}).encode()


def test_message_and_metadata_are_ciphertext_at_rest_and_open_with_the_key_alone() -> None:
    message, metadata = seal_message(KEY, NONCE, "moved Ada's file"), seal_metadata(KEY, NONCE, {"ticket": "A-1"})
    _, data = make(message=message, metadata=metadata).encode()
    assert b"Ada" not in data
    assert b"ticket" not in data
    commit = decode(data)
    assert commit.open_message(KEY) == "moved Ada's file"
    assert commit.open_metadata(KEY) == {"ticket": "A-1"}
    assert commit.open_message(None) is None
    assert commit.open_metadata(None) is None
    with pytest.raises(IntegrityError):
        commit.open_message(bytes(32))
    with pytest.raises(IntegrityError):
        replace(commit, message=commit.metadata).open_message(KEY)


def test_an_empty_message_is_no_message() -> None:
    assert seal_message(KEY, NONCE, "") is None
    assert seal_metadata(KEY, NONCE, {}) is None
    assert make().open_message(None) == ""
    assert make().open_metadata(None) == {}


def test_messages_and_metadata_are_bounded() -> None:
    with pytest.raises(BudgetExceeded):
        seal_message(KEY, NONCE, "x" * (MESSAGE_BYTES_MAX + 1))
    with pytest.raises(BudgetExceeded):
        seal_metadata(KEY, NONCE, {"k": "x" * 70_000})
    with pytest.raises(BudgetExceeded):
        make(ext={"k": b"x" * COMMIT_BYTES_MAX}).encode()
    with pytest.raises(BudgetExceeded):
        decode(b"\xa0" * (COMMIT_BYTES_MAX + 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"bucket": ""},
        {"author": "x" * 200},
        {"profile": "mine"},
        {"root": None},
        {"meta": "x"},
        {"parents": (CID.of(b"p", DAG_CBOR),) * 2},
        {"parents": tuple(CID.of(bytes([n]), DAG_CBOR) for n in range(17))},
        {"time_ns": 1 << 63, "order_ns": 1 << 63},
        {"time_ns": True},
        {"order_ns": 4},
        {"nonce": b"short"},
        {"message": b"plain"},
        {"metadata": "plain"},
    ],
)
def test_commits_of_another_form_are_refused_both_ways(fields: dict[str, Any]) -> None:
    commit = make(**fields)
    with pytest.raises(InvalidInput):
        commit.encode()
    row = dag_cbor.decode(make().encode()[1])
    assert isinstance(row, dict)
    names = {"time_ns": "time", "order_ns": "order"}
    row.update({names.get(k, k): list(v) if isinstance(v, tuple) else v for k, v in fields.items()})
    if fields.get("time_ns", 0) == 1 << 63:
        row.update(time=(1 << 63), order=(1 << 63))
    with pytest.raises(FormatError):
        decode(dag_cbor.encode(row))


@given(st.binary(max_size=200))
def test_any_other_bytes_are_no_commit(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


@pytest.mark.parametrize("change", [{"schema": 2}, {"extra": 1}, {"ext": []}, {"parents": None}])
def test_unknown_versions_and_fields_are_refused(change: dict[str, Any]) -> None:
    row = dag_cbor.decode(make().encode()[1])
    assert isinstance(row, dict)
    with pytest.raises(FormatError):
        decode(dag_cbor.encode({**row, **change}))


def test_a_folder_is_no_commit() -> None:
    with pytest.raises(FormatError, match="name a commit"):
        load(Blocks().get, ROOT)


def test_ipld_paths_lead_from_a_commit_into_its_tree() -> None:
    blocks = Blocks()
    root = build(blocks.view(), blocks, {b"d": {b"f": b"x"}})
    cid, data = make(root=root.cid, meta=root.meta).encode()
    blocks.put(cid, data)
    view = blocks.view()
    file = view.lookup(root, (b"d", b"f"))
    assert file is not None
    assert resolve(blocks.get, f"{cid}/root/d/f").cid == file.cid


# -- walks -------------------------------------------------------------------------------------------------------


def test_the_order_never_falls_below_the_time_or_a_parent() -> None:
    parent = make(time_ns=100, order_ns=100)
    assert order_after(50, [parent]) == 101
    assert order_after(500, [parent]) == 500
    assert order_after(7, []) == 7


@given(graphs())
@settings(max_examples=80, deadline=None)
def test_the_log_names_every_ancestor_once_children_before_parents(graph: Graph) -> None:
    head = graph.cids[-1]
    found = log(graph.blocks.get, head, limit=100)
    cids = [cid for cid, _ in found.commits]
    assert found.cursor is None
    assert set(cids) == graph.ancestors(head)
    assert len(cids) == len(set(cids))
    for at, (_, commit) in enumerate(found.commits):
        assert all(cids.index(parent) > at for parent in commit.parents)
    orders = [commit.order_ns for _, commit in found.commits]
    assert orders == sorted(orders, reverse=True)
    assert [cid for cid, _ in walk(graph.blocks.get, [head])] == cids


@given(graphs(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_pages_of_the_log_join_by_cursor_and_by_last_commit(graph: Graph, limit: int) -> None:
    get, head = graph.blocks.get, graph.cids[-1]
    whole = log(get, head, limit=100).commits
    by_cursor: list[Any] = []
    heads: Any = head
    while heads is not None:
        page = log(get, heads, limit=limit)
        by_cursor += page.commits
        heads = page.cursor
    assert tuple(by_cursor) == whole
    by_commit: list[Any] = []
    after = None
    while True:
        page = log(get, head, limit=limit, after=after)
        by_commit += page.commits
        if len(page.commits) < limit:
            break
        after = page.commits[-1][0]
    assert tuple(by_commit) == whole


def test_a_page_after_a_commit_of_another_history_is_refused() -> None:
    graph = Graph()
    graph.add()
    graph.add()
    with pytest.raises(RefNotFound):
        log(graph.blocks.get, graph.cids[0], after=graph.cids[1])
    with pytest.raises(InvalidInput):
        log(graph.blocks.get, graph.cids[0], limit=0)


def test_the_log_of_a_path_names_the_commits_that_changed_it() -> None:
    graph = Graph()
    for number, parents in enumerate([(), (0,), (1,), (1,), (2, 3)]):
        graph.add(*parents, ext={"f": ["a", "a", "b", "a", "b"][number]})
    touches = changes_path(lambda commit: commit.ext["f"])
    page = log(graph.blocks.get, graph.cids[-1], touches=touches)
    # 3 took the content of its parent; the merge took that of one of its parents.
    assert [graph.number(cid) for cid, _ in page.commits] == [2, 0]


def test_a_filter_that_keeps_nothing_ends_the_page_with_a_cursor() -> None:
    graph = Graph()
    graph.add()
    for number in range(20):
        graph.add(number)
    page = log(graph.blocks.get, graph.cids[-1], touches=lambda commit, parents: False, scan_max=5)
    assert (page.commits, page.scanned) == ((), 5)
    assert page.cursor == (graph.cids[15],)


@given(graphs())
@settings(max_examples=80, deadline=None)
def test_ancestry_equals_its_definition(graph: Graph) -> None:
    get = graph.blocks.get
    for one, other in itertools.product(graph.cids[-4:], graph.cids):
        assert is_ancestor(get, other, one) == (other in graph.ancestors(one))


@given(graphs())
@settings(max_examples=120, deadline=None)
def test_merge_bases_equal_their_definition_in_either_order(graph: Graph) -> None:
    get = graph.blocks.get
    for one, other in itertools.combinations(graph.cids[-5:], 2):
        found = merge_bases(get, [one], [other])
        assert set(found) == graph.bases(one, other)
        assert found == merge_bases(get, [other], [one])


def test_merge_bases_read_no_further_than_the_base() -> None:
    graph = Graph()
    graph.add()
    for number in range(200):
        graph.add(number)
    graph.add(200)
    graph.add(200)
    graph.blocks.reads = 0
    assert merge_bases(graph.blocks.get, [graph.cids[-1]], [graph.cids[-2]]) == (graph.cids[200],)
    assert graph.blocks.reads <= 5


def test_a_parent_that_does_not_come_first_is_a_fault() -> None:
    graph = Graph()
    graph.add(time_ns=100)
    cid, data = make(parents=(graph.cids[0],), time_ns=5, order_ns=50).encode()
    graph.blocks.put(cid, data)
    with pytest.raises(FormatError):
        log(graph.blocks.get, cid)
    with pytest.raises(FormatError):
        list(walk(graph.blocks.get, [cid]))


def test_walks_longer_than_allowed_end_with_an_error() -> None:
    graph = Graph()
    graph.add()
    for number in range(10):
        graph.add(number)
    with pytest.raises(BudgetExceeded):
        list(walk(graph.blocks.get, [graph.cids[-1]], walk_max=5))


# -- merging commits ---------------------------------------------------------------------------------------------


class Versions(Graph):
    """A graph whose commits have trees."""

    def save(self, model: Model, *parents: int) -> int:
        root = build(self.blocks.view(), self.blocks, model)
        self.add(*parents, root=root.cid, meta=root.meta)
        return len(self.cids) - 1

    def merge(self, ours: int, theirs: int) -> Model:
        get, put = self.blocks.get, self.blocks.put
        result, bases = merge_commits(TINY, get, put, self.cids[ours], self.cids[theirs])
        self.bases_found = [self.number(base) for base in bases]
        return read(self.blocks.view(), self.blocks, result.require())


def criss_cross(versions: Versions, first: Model, left: Model, right: Model, both: Model) -> tuple[int, int]:
    """Two heads whose best common ancestors are ``left`` and ``right``, each merged into the other as ``both``."""
    start = versions.save(first)
    one, other = versions.save(left, start), versions.save(right, start)
    return versions.save(both, one, other), versions.save(both, other, one)


def test_a_merge_of_commits_starts_from_their_common_ancestor() -> None:
    versions = Versions()
    start = versions.save({b"a": b"0", b"b": b"0"})
    ours = versions.save({b"a": b"1", b"b": b"0"}, start)
    theirs = versions.save({b"a": b"0", b"b": b"2"}, start)
    assert versions.merge(ours, theirs) == {b"a": b"1", b"b": b"2"}
    assert versions.bases_found == [start]


def test_unrelated_histories_merge_over_nothing() -> None:
    versions = Versions()
    one, other = versions.save({b"a": b"1"}), versions.save({b"b": b"2"})
    assert versions.merge(one, other) == {b"a": b"1", b"b": b"2"}
    assert versions.bases_found == []


def test_a_criss_cross_history_merges_over_its_virtual_base_without_false_conflicts() -> None:
    versions = Versions()
    heads = criss_cross(
        versions, {b"x": b"0", b"y": b"0"}, {b"x": b"1", b"y": b"0"}, {b"x": b"0", b"y": b"1"}, {b"x": b"1", b"y": b"1"}
    )
    ours = versions.save({b"x": b"2", b"y": b"1"}, heads[0])
    theirs = versions.save({b"x": b"1", b"y": b"2"}, heads[1])
    assert versions.merge(ours, theirs) == {b"x": b"2", b"y": b"2"}
    assert len(versions.bases_found) == 2


def test_a_criss_cross_history_never_undoes_a_revert_silently() -> None:
    # Over the left base alone theirs would win, over the right base alone ours: neither may win unasked.
    versions = Versions()
    heads = criss_cross(versions, {b"x": b"0"}, {b"x": b"1"}, {b"x": b"2"}, {b"x": b"1"})
    ours = versions.save({b"x": b"2"}, heads[0])
    writes = versions.blocks.writes
    with pytest.raises(MergeConflict):
        versions.merge(ours, heads[1])
    assert versions.blocks.writes == writes


def test_the_blocks_of_a_virtual_base_are_never_stored() -> None:
    versions = Versions()
    heads = criss_cross(
        versions, {b"x": b"0", b"y": b"0"}, {b"x": b"1", b"y": b"0"}, {b"x": b"0", b"y": b"1"}, {b"x": b"1", b"y": b"1"}
    )
    writes = versions.blocks.writes
    assert versions.merge(*heads) == {b"x": b"1", b"y": b"1"}
    assert versions.blocks.writes == writes
