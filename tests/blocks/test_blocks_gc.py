"""Garbage collection: what goes, what stays, and that it never differs from a plain mark-and-sweep."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ipfs_kit.blocks import sealed
from ipfs_kit.blocks.gc import Collector, GcPlan, full_check, plan
from ipfs_kit.blocks.sealed import SealedStore
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.durable import faults
from ipfs_kit.durable.locks import Lease
from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import IntegrityError, KitError, LockTimeout
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import CBOR, DAG_CBOR, IDENTITY, RAW
from ipfs_kit.keys import KeyRing


class World:
    """A store with a set of roots that tests change at will."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.roots: set[CID] = set()
        self.open()

    def open(self) -> None:
        self.state = StateDB.open(self.path / "state.db", [])
        self.store = PackStore.open(self.path, self.state)
        self.collector = Collector(self.store, self.state, lambda: list(self.roots))

    def close(self) -> None:
        self.store.close()
        self.state.close()

    def leaf(self, text: str | bytes) -> CID:
        data = text.encode() if isinstance(text, str) else text
        cid = CID.of(data)
        self.store.put(cid, data)
        return cid

    def node(self, *children: CID, tag: object = None) -> CID:
        data = dag_cbor.encode([tag, list(children)])
        cid = CID.of(data, DAG_CBOR)
        self.store.put(cid, data)
        return cid

    def present(self) -> set[CID]:
        return set(self.store.cids())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


class Paper:
    """An inventory on paper: block -> children."""

    def __init__(self, blocks: dict[bytes, list[bytes]], orphans: tuple[bytes, ...] = ()) -> None:
        self.blocks = blocks
        self.orphans = orphans

    def unreferenced(self) -> list[bytes]:
        return [key for key in self.blocks if not self.references(key)]

    def orphaned(self) -> tuple[bytes, ...]:
        return self.orphans

    def references(self, key: bytes) -> int:
        return sum(key in children for children in self.blocks.values())

    def children(self, key: bytes) -> list[bytes]:
        return self.blocks[key]

    def size(self, key: bytes) -> int | None:
        return 10 if key in self.blocks else None


def test_plan_takes_whole_garbage_and_leaves_what_roots_reach() -> None:
    paper = Paper({b"r": [b"s"], b"s": [], b"g": [b"h", b"s"], b"h": [b"i", b"gone"], b"i": []})
    assert plan(paper, {b"r"}, 7) == GcPlan(
        7, [b"g", b"h", b"i"], 30, {"nothing refers to it": 1, "only garbage refers to it": 2}
    )


def test_plan_stops_below_a_root_inside_garbage() -> None:
    paper = Paper({b"g": [b"r"], b"r": [b"c"], b"c": []})
    assert plan(paper, {b"r"}, 0).condemn == [b"g"]


def test_plan_takes_blocks_of_a_destroyed_key_whatever_refers_to_them() -> None:
    found = plan(Paper({b"p": [b"c"], b"c": []}, orphans=(b"c", b"p")), {b"p"}, 0)
    assert found.condemn == [b"c"]
    assert found.reasons == {"its key was destroyed": 1}


def test_plan_of_limited_size_says_so() -> None:
    found = plan(Paper({bytes([n]): [] for n in range(9)}), (), 0, blocks_max=4)
    assert (len(found.condemn), found.complete) == (4, False)


def test_garbage_goes_and_everything_below_roots_stays(world: World) -> None:
    shared = world.leaf("shared")
    kept = world.node(world.leaf("a"), shared)
    gone = world.node(world.node(world.leaf("b")), shared)
    loose = world.leaf("loose")
    world.roots = {kept}
    report = world.collector.collect(1)
    assert report.condemned == report.removed == 4
    assert report.reasons == {"nothing refers to it": 2, "only garbage refers to it": 2}
    assert world.present() == {kept, shared, CID.of(b"a")}
    assert not world.store.has(gone)
    assert not world.store.has(loose)
    assert list(world.store.condemned()) == []
    again = world.collector.collect(2)
    assert (again.condemned, again.removed) == (0, 0)


def test_dry_run_says_the_same_and_removes_nothing(world: World) -> None:
    world.node(world.leaf("a"))
    dry = world.collector.collect(1, dry_run=True)
    assert (dry.dry_run, dry.condemned, dry.removed) == (True, 2, 0)
    assert len(world.present()) == 2
    real = world.collector.collect(1)
    assert (real.condemned, real.condemned_bytes) == (dry.condemned, dry.condemned_bytes)


def test_dry_run_of_a_read_only_store_sweeps(world: World) -> None:
    kept = world.node(world.leaf("a"))
    world.leaf("b")
    world.close()
    with PackStore.open(world.path, read_only=True) as store:
        state = StateDB.open(world.path / "state.db", [], read_only=True)
        report = Collector(store, state, lambda: [kept]).collect(1, dry_run=True)
        assert (report.condemned, report.condemned_bytes) == (1, 1)
        state.close()
    world.open()


def test_blocks_seen_in_an_open_window_stay_until_it_closes(world: World) -> None:
    child = world.leaf("child")
    world.store.sync()
    with world.store.window():
        assert world.store.has(child)
        report = world.collector.collect(1)
        assert (report.awaiting_writers, report.removed) == (1, 0)
        parent = world.node(child)
        world.store.sync()
        with world.state.transaction() as tx:
            world.store.retain(tx, [parent])
            world.roots.add(parent)
    report = world.collector.collect(2)
    assert (report.kept, report.removed) == (1, 0)
    assert world.present() == {parent, child}


def test_block_put_again_while_condemned_is_kept_with_its_descendants(world: World) -> None:
    leaf = world.leaf("leaf")
    middle = world.node(leaf)
    top = world.node(middle)
    world.store.sync()
    with world.store.window():
        assert world.collector.collect(1).awaiting_writers == 3
    with world.store.window():
        assert not world.store.has(top)
        assert world.node(middle) == top
        world.store.sync()
        world.roots.add(top)
    report = world.collector.collect(2)
    assert report.removed == 0
    assert world.present() == {leaf, middle, top}
    assert list(world.store.condemned()) == []


def test_retained_block_is_taken_back_with_its_descendants(world: World) -> None:
    leaf = world.leaf("leaf")
    top = world.node(leaf)
    world.store.sync()
    with world.store.window():
        world.collector.collect(1)
    with world.state.transaction() as tx:
        world.store.retain(tx, [top])
        world.roots.add(top)
    world.collector.collect(2)
    assert world.present() == {leaf, top}


def test_block_removed_and_stored_again_is_counted_anew(world: World) -> None:
    leaf = world.leaf("leaf")
    top = world.node(leaf)
    world.collector.collect(1)
    assert world.present() == set()
    assert (world.leaf("leaf"), world.node(leaf)) == (leaf, top)
    world.roots.add(top)
    world.collector.collect(2)
    assert world.present() == {leaf, top}
    world.roots.clear()
    world.collector.collect(3)
    assert world.present() == set()


def test_links_of_a_block_first_stored_as_raw_are_counted_once_it_is_known_as_a_node(world: World) -> None:
    leaf = world.leaf("leaf")
    data = dag_cbor.encode([leaf])
    world.leaf(data)
    world.collector.collect(1, dry_run=True)
    node = CID.of(data, DAG_CBOR)
    world.store.put(node, data)
    world.roots.add(node)
    world.collector.collect(2)
    assert {cid.multihash for cid in world.present()} == {leaf.multihash, node.multihash}


@pytest.mark.parametrize("codec", [CBOR, 0x1234567])
def test_links_are_found_under_an_unknown_codec_too(world: World, codec: int) -> None:
    leaf = world.leaf("leaf")
    data = dag_cbor.encode([leaf])
    node = CID.of(data, codec)
    world.store.put(node, data)
    world.roots.add(node)
    world.collector.collect(1)
    assert world.store.has(leaf)


def test_links_inside_identity_addresses_hold(world: World) -> None:
    leaf, other = world.leaf("leaf"), world.leaf("other")
    inline = CID.of(dag_cbor.encode([leaf]), DAG_CBOR, IDENTITY)
    world.roots = {world.node(inline), CID.of(dag_cbor.encode([other]), DAG_CBOR, IDENTITY)}
    world.collector.collect(1)
    assert {leaf, other} <= world.present()


def test_damaged_node_stops_collection_with_advice(world: World) -> None:
    node = world.node(world.leaf("leaf"))
    world.store.sync()
    place = world.store.index.lookup(node.multihash)
    assert place is not None
    (pack,) = (world.path / "packs").glob("dag-*.car")
    with pack.open("r+b") as file:
        file.seek(place.offset)
        file.write(b"\xff")
    with pytest.raises(IntegrityError, match="repair"):
        world.collector.collect(1)


def test_packs_of_mostly_garbage_are_rewritten_and_readable(world: World) -> None:
    kept = [world.leaf(os.urandom(5000)) for _ in range(10)]
    for _ in range(40):
        world.leaf(os.urandom(5000))
    top = world.node(*kept)
    world.roots.add(top)
    world.store.sync()
    before = sum(path.stat().st_size for path in (world.path / "packs").glob("*.car"))
    report = world.collector.collect(1)
    assert report.removed == 40
    assert report.compacted >= 1
    assert report.freed_bytes > 40 * 5000 * 0.9
    after = sum(path.stat().st_size for path in (world.path / "packs").glob("*.car"))
    assert after < before - 40 * 5000 * 0.9
    world.close()
    world.open()
    assert world.present() == {top, *kept}
    for cid in kept:
        world.store.get(cid)


def test_one_collector_at_a_time(world: World) -> None:
    lease = Lease(world.path, "gc")
    lease.acquire(0)
    with pytest.raises(LockTimeout):
        world.collector.collect(1)
    lease.release()
    lease.close()
    world.collector.collect(1)


def test_cost_follows_what_is_new(world: World) -> None:
    world.roots.add(world.node(*[world.leaf(str(number)) for number in range(500)]))
    world.collector.collect(1)
    counts = world.collector._counts()
    assert counts.fold() == 0
    world.leaf("one more")
    world.store.sync()
    assert counts.fold() == 1


def test_sealed_blocks_are_followed_through_their_key_and_go_with_it(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys", create=True)
    world = World(tmp_path)
    domain = ring.new_domain_key()
    store = SealedStore(world.store.domain(domain), functools.partial(ring.domain_key, domain))
    leaf = store.seal_block(b"leaf" * 100, RAW)
    middle = store.seal_block(dag_cbor.encode([leaf]), DAG_CBOR)
    top = store.seal_block(dag_cbor.encode([middle]), DAG_CBOR)
    loose = store.seal_block(b"loose", RAW)
    plain = world.leaf("plain")
    world.roots = {top, plain}
    collector = Collector(
        world.store,
        world.state,
        lambda: world.roots,
        links_of=sealed.links_of(ring.domain_key),
        key_alive=lambda name: ring.domain_key(name) is not None,
    )
    collector.collect(1)
    assert world.present() == {leaf, middle, top, plain}
    assert not world.store.has(loose)
    ring.destroy(domain)
    report = collector.collect(2)
    assert report.reasons == {"its key was destroyed": 2}
    assert world.present() == {top, plain}
    world.roots = {plain}
    collector.collect(3)
    assert world.present() == {plain}
    assert not list((tmp_path / "packs").glob("sealed-*"))
    world.close()
    ring.close()


def test_blocks_below_a_deleted_one_are_found_again(world: World) -> None:
    leaf = world.leaf("a")
    top = world.node(leaf)
    assert (world.collector.references(leaf), world.collector.references(top)) == (1, 0)
    world.store.delete(top)
    assert world.collector.collect(1).removed == 1
    assert world.present() == set()


def test_counts_lost_with_the_index_are_counted_anew(world: World) -> None:
    top = world.node(world.leaf("a"))
    world.leaf("b")
    world.roots.add(top)
    world.store.sync()
    world.collector.collect(1, dry_run=True)
    world.close()
    shutil.rmtree(world.path / "cache")
    world.open()
    assert world.collector.collect(2).removed == 1
    assert world.present() == {top, CID.of(b"a")}


def test_collection_cut_short_at_any_durable_call_loses_nothing_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, reached = 0, True
    while reached:
        world = World(tmp_path / str(stop))
        kept = [world.leaf(os.urandom(3000)) for _ in range(5)]
        top = world.node(*kept)
        world.node(*[world.leaf(os.urandom(3000)) for _ in range(20)], tag="garbage")
        world.roots.add(top)
        world.store.sync()
        calls = itertools.count()

        def hook(operation: str, path: str, limit: int = stop, calls: Iterator[int] = calls) -> None:
            if next(calls) >= limit:
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(faults, "hook", hook)
        reached = False
        try:
            world.collector.collect(1)
        except (KitError, OSError):
            reached = True
        monkeypatch.setattr(faults, "hook", None)
        world.close()
        world.open()
        assert world.present() >= {top, *kept}
        for cid in (top, *kept):
            world.store.get(cid)
        world.collector.collect(2)
        assert world.present() == {top, *kept}
        assert full_check(world.store, world.roots) == set()
        world.close()
        stop += 1
    assert stop > 5


class Model(RuleBasedStateMachine):
    """Random DAGs, roots, collections and reopenings against the plain mark-and-sweep."""

    blocks: Bundle[CID] = Bundle("blocks")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="kit-gc-")
        self.world = World(Path(self.directory))
        self.serial = itertools.count()

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self.directory)

    @rule(target=blocks, number=st.integers(0, 15))
    def put_leaf(self, number: int) -> CID:
        return self.world.leaf(f"leaf {number}" * 50)

    @rule(target=blocks, children=st.lists(blocks, max_size=4), tag=st.integers(0, 2))
    def put_node(self, children: list[CID], tag: int) -> CID:
        alive = [child for child in children if self.world.store.has(child)]
        return self.world.node(*alive, tag=tag)

    @rule(cid=blocks)
    def pin(self, cid: CID) -> None:
        if self.world.store.has(cid):
            self.world.roots.add(cid)

    @rule(cid=blocks)
    def unpin(self, cid: CID) -> None:
        self.world.roots.discard(cid)

    @rule()
    def sync(self) -> None:
        self.world.store.sync()

    @rule()
    def collect(self) -> None:
        world = self.world
        world.store.sync()
        garbage = full_check(world.store, world.roots)
        before = {cid.multihash for cid in world.present()}
        dry = world.collector.collect(1, dry_run=True)
        report = world.collector.collect(1)
        assert dry.condemned == report.removed == len(garbage)
        assert {cid.multihash for cid in world.present()} == before - garbage
        assert full_check(world.store, world.roots) == set()

    @rule()
    def collect_beside_a_window(self) -> None:
        world = self.world
        world.store.sync()
        marked = {key for key, _ in world.store.condemned()}
        present = {cid.multihash for cid in world.present()}
        with world.store.window():
            world.collector.collect(1)
            # What was condemned before the window opened counts as absent in it, so it may go.
            assert {cid.multihash for cid in world.present()} >= present - marked

    @rule()
    def reopen(self) -> None:
        self.world.close()
        self.world.open()

    @rule()
    def lose_the_index(self) -> None:
        self.world.close()
        shutil.rmtree(Path(self.directory) / "cache")
        self.world.open()

    @invariant()
    def everything_below_roots_is_there(self) -> None:
        world = self.world
        stack, seen = list(world.roots), set()
        while stack:
            cid = stack.pop()
            if cid not in seen:
                seen.add(cid)
                stack += [] if cid.codec == RAW else dag_cbor.decode_links(world.store.get(cid))


@pytest.mark.slow
def test_incremental_collection_equals_mark_and_sweep() -> None:
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
