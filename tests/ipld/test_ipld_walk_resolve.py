"""DAG walks and path resolution: order, sharing, budgets and hostile DAGs."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from ipfs_kit.errors import BlockNotFound, BudgetExceeded, FormatError, InvalidCid, InvalidPath, PathNotFound
from ipfs_kit.ipld import CID, Budgets, car, codecs, dag_cbor, dag_json, dag_pb
from ipfs_kit.ipld.resolve import Resolved, get_value, resolve, split_path
from ipfs_kit.ipld.unixfs import DEFAULT_PROFILE, Directory, build_bytes, build_symlink
from ipfs_kit.ipld.walk import blocks, walk


class Blocks(dict[CID, bytes]):
    """A store of blocks that counts what it hands out."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[CID] = []

    def fetch(self, cid: CID) -> bytes:
        self.reads.append(cid)
        if cid not in self:
            raise BlockNotFound(f"no block {cid}")
        return self[cid]

    def put(self, cid: CID, data: bytes) -> None:
        self[cid] = data

    def cbor(self, obj: Any) -> CID:
        cid, data = dag_cbor.block(obj)
        self[cid] = data
        return cid

    def raw(self, data: bytes) -> CID:
        cid = CID.of(data)
        self[cid] = data
        return cid


@pytest.fixture
def store() -> Blocks:
    return Blocks()


def test_walk_visits_each_block_once_in_depth_first_order(store: Blocks) -> None:
    leaf, other = store.raw(b"leaf"), store.raw(b"other")
    left, right = store.cbor([leaf, other]), store.cbor({"x": leaf})
    root = store.cbor([left, right, left])
    visits = list(walk([root, left, root], store.fetch))
    assert [(v.cid, v.depth) for v in visits] == [(root, 0), (left, 1), (leaf, 2), (other, 2), (right, 1)]
    assert all(v.data == store[v.cid] for v in visits)
    assert len(store.reads) == 5


def test_walk_shares_its_visited_set_and_skips_what_the_caller_refuses(store: Blocks) -> None:
    leaf = store.raw(b"leaf")
    kept, refused = store.cbor([leaf]), store.cbor({"x": leaf, "y": store.raw(b"hidden")})
    root = store.cbor([kept, refused])
    seen: set[bytes] = set()
    found = [v.cid for v in walk([root], store.fetch, seen=seen, enter=lambda cid: cid != refused)]
    assert found == [root, kept, leaf]
    assert list(walk([root], store.fetch, seen=seen)) == []


def test_walk_does_not_load_raw_blocks_when_told_so(store: Blocks) -> None:
    root = store.cbor([store.raw(b"a"), store.raw(b"b")])
    visits = list(walk([root], store.fetch, load_raw=False))
    assert [v.data is None for v in visits] == [False, True, True]
    assert store.reads == [root]


def test_identity_cids_are_followed_without_the_store(store: Blocks) -> None:
    leaf = store.raw(b"leaf")
    inline = CID.of(dag_cbor.encode([leaf]), codecs.DAG_CBOR, codecs.IDENTITY)
    root = store.cbor([inline])
    assert [v.cid for v in walk([root], store.fetch)] == [root, leaf]
    assert [v.cid for v in walk([root], store.fetch, yield_identity=True)] == [root, inline, leaf]
    assert inline not in store.reads
    assert resolve(store.fetch, f"{root}/0/0") == Resolved(leaf)
    assert get_value(store.fetch, f"{inline}/0") == b"leaf"


def test_chain_deeper_than_the_budget_is_refused(store: Blocks) -> None:
    cid = store.raw(b"end")
    for _ in range(1500):
        cid = store.cbor([cid])
    with pytest.raises(BudgetExceeded, match="deep"):
        list(walk([cid], store.fetch))
    assert len(list(walk([cid], store.fetch, budgets=replace(Budgets(), dag_depth=1500)))) == 1501


def test_repeating_dag_costs_its_distinct_blocks_only(store: Blocks) -> None:
    cid = store.raw(b"end")
    for _ in range(5):
        cid = store.cbor([cid] * 1024)
    assert len(list(walk([cid], store.fetch))) == 6
    with pytest.raises(BudgetExceeded):
        list(walk([cid], store.fetch, budgets=replace(Budgets(), dag_nodes=5)))
    with pytest.raises(BudgetExceeded):
        list(walk([cid], store.fetch, budgets=replace(Budgets(), links_per_node=1000)))


def test_missing_and_malformed_blocks_end_the_walk(store: Blocks) -> None:
    root = store.cbor([CID.of(b"absent")])
    with pytest.raises(BlockNotFound):
        list(walk([root], store.fetch))
    bad = CID.of(b"\xff", codecs.DAG_CBOR)
    store[bad] = b"\xff"
    with pytest.raises(FormatError):
        list(walk([bad], store.fetch))


def test_walked_dag_exports_as_a_car_and_reads_back(store: Blocks) -> None:
    root = store.cbor({"a": store.raw(b"a"), "b": store.cbor([store.raw(b"b")])})
    out = io.BytesIO()
    car.write_car(out, [root], blocks([root], store.fetch))
    reader = car.read_car(out.getvalue())
    assert reader.roots == [root]
    assert dict(reader) == dict(store)


# ---------------------------------------------------------------- paths


@pytest.fixture
def tree(store: Blocks) -> CID:
    """root/{docs/{read me.txt,ü}, link, big/… (sharded)}"""
    profile = DEFAULT_PROFILE
    docs = Directory(profile, store.fetch, None)
    for name in (b"read me.txt", "ü".encode(), b"\xff\xfe"):
        entry = build_bytes(b"content of " + name, profile, store.put)
        docs.set(name, entry.cid, entry.tsize)
    big = Directory(profile, store.fetch, None)
    entry = build_bytes(b"same", profile, store.put)
    for i in range(6000):
        big.set(b"a long enough name of a file %05d" % i, entry.cid, entry.tsize)
    root = Directory(profile, store.fetch, None)
    root.set(b"docs", *docs.flush(store.put))
    root.set(b"big", *big.flush(store.put))
    link = build_symlink(b"docs", profile, store.put)
    root.set(b"link", link.cid, link.tsize)
    return root.flush(store.put)[0]


def test_unixfs_names_resolve_through_plain_and_sharded_directories(store: Blocks, tree: CID) -> None:
    cid = CID.of(b"content of read me.txt")
    for path in (f"{tree}/docs/read me.txt", f"/ipfs/{tree}/docs/read me.txt/", f"ipfs://{tree}/docs/read me.txt"):
        assert resolve(store.fetch, path) == Resolved(cid)
    assert resolve(store.fetch, f"{tree}/docs/ü").cid == CID.of("content of ü".encode())
    assert resolve(store.fetch, f"{tree}/docs/\udcff\udcfe").cid == CID.of(b"content of \xff\xfe")
    store.reads.clear()
    assert resolve(store.fetch, f"{tree}/big/a long enough name of a file 04711").cid == CID.of(b"same")
    assert len(store.reads) < 12
    assert get_value(store.fetch, f"{tree}/docs/read me.txt") == b"content of read me.txt"
    assert isinstance(get_value(store.fetch, str(tree)), dag_pb.PBNode)


@pytest.mark.parametrize(
    "rest", ["nope", "docs/nope", "docs/read me.txt/x", "link/read me.txt", "big/nope", "docs/ü/x", "Links/0/Hash"]
)
def test_names_that_lead_nowhere_are_not_found(store: Blocks, tree: CID, rest: str) -> None:
    with pytest.raises(PathNotFound):
        resolve(store.fetch, f"{tree}/{rest}")


@pytest.mark.parametrize("rest", ["docs//x", "/docs", "..", "docs/../docs", "."])
def test_paths_with_empty_or_dot_names_are_refused(store: Blocks, tree: CID, rest: str) -> None:
    with pytest.raises(InvalidPath):
        resolve(store.fetch, f"{tree}/{rest}")


def test_values_resolve_across_links_and_end_inside_a_block(store: Blocks, tree: CID) -> None:
    inner_cid, inner = dag_json.block({"list": [10, {"tree": tree}], "..": 1})
    store[inner_cid] = inner
    root = store.cbor({"a": {"b": inner_cid}, "n": None, "": 1})
    assert resolve(store.fetch, f"{root}/a/b") == Resolved(inner_cid)
    assert resolve(store.fetch, f"{root}/a") == Resolved(root, ("a",))
    assert resolve(store.fetch, f"{root}/a/b/list/0") == Resolved(inner_cid, ("list", "0"))
    assert resolve(store.fetch, f"{root}/a/b/list/1/tree/docs/ü").cid == CID.of("content of ü".encode())
    assert get_value(store.fetch, f"{root}/n") is None
    assert get_value(store.fetch, f"{root}/a/b/list/0") == 10
    assert get_value(store.fetch, f"{root}/a/b/..") == 1
    assert get_value(store.fetch, f"{root}/a/b")["list"][0] == 10
    for rest in (
        "x",
        "a/x",
        "n/x",
        "a/b/list/2",
        "a/b/list/00",
        "a/b/list/-1",
        "a/b/list/x",
        "a/b/list/0/x",
        "a/b/list/٣",
    ):
        with pytest.raises(PathNotFound):
            resolve(store.fetch, f"{root}/{rest}")


def test_cid_alone_resolves_without_reading(store: Blocks) -> None:
    cid = CID.of(b"absent")
    assert resolve(store.fetch, cid) == resolve(store.fetch, str(cid)) == Resolved(cid)
    assert store.reads == []
    with pytest.raises(PathNotFound):
        resolve(store.fetch, f"{cid}/x")


def test_named_links_of_other_dag_pb_nodes_resolve(store: Blocks) -> None:
    leaf = store.raw(b"leaf")
    data = dag_pb.encode(dag_pb.PBNode(b"not unixfs", [dag_pb.PBLink(leaf, b"name", 4)]))
    cid = CID.of(data, codecs.DAG_PB)
    store[cid] = data
    assert resolve(store.fetch, f"{cid}/name") == Resolved(leaf)
    with pytest.raises(PathNotFound):
        resolve(store.fetch, f"{cid}/other")


def test_paths_are_bounded() -> None:
    cid = CID.of(b"x")
    for path in (f"{cid}/" + "a" * 5000, f"{cid}/" + "é" * 2500, f"{cid}" + "/a" * 300):
        with pytest.raises(BudgetExceeded):
            split_path(path)
    for path in ("", "/", "a/b", "/ipns/x", f"/ipfs/ipfs/{cid}"):
        with pytest.raises(InvalidCid):
            split_path(path)
