"""Pins and holds: what they promise, what they refuse, and how they read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ipfs_kit.blocks.holds import HOLDS_SCHEMA, Holds
from ipfs_kit.blocks.pins import PINS_SCHEMA, PinKind, Pins, PinState
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import AlreadyExists, BlockNotFound, BudgetExceeded, Held, InvalidInput, InvalidName, NotFound
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.budgets import Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR


@dataclass
class World:
    state: StateDB
    store: PackStore
    pins: Pins
    holds: Holds

    def leaf(self, text: str) -> CID:
        cid = CID.of(text.encode())
        self.store.put(cid, text.encode())
        return cid

    def node(self, *children: CID, put: bool = True) -> CID:
        data = dag_cbor.encode(list(children))
        cid = CID.of(data, DAG_CBOR)
        if put:
            self.store.put(cid, data)
        return cid

    def pin(self, cid: CID, kind: str = "recursive", name: str | None = None, replace: bool = False) -> bool:
        with self.store.window():
            effect = self.pins.add(cid, kind, name, now_ns=1, replace=replace)
            with self.state.transaction() as tx:
                return effect(tx).changed

    def unpin(self, target: CID | str, now_ns: int = 1) -> CID:
        with self.state.transaction() as tx:
            return self.pins.remove(target, now_ns=now_ns)(tx).pin.cid


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with PackStore.open(tmp_path) as store:
        state = StateDB.open(tmp_path / "state.db", [PINS_SCHEMA, HOLDS_SCHEMA])
        holds = Holds(state)
        yield World(state, store, Pins(state, store, holds=holds), holds)
        state.close()


def test_recursive_pin_is_listed_and_removed(world: World) -> None:
    root = world.node(world.leaf("a"), world.leaf("b"))
    assert world.pin(root)
    assert not world.pin(root)
    (pin,) = world.pins.list()
    assert (pin.cid, pin.kind, pin.name, pin.added_ns) == (root, PinKind.RECURSIVE, None, 1)
    assert list(world.pins.roots()) == [root]
    assert world.unpin(root) == root
    assert world.pins.count() == 0
    with pytest.raises(NotFound):
        world.unpin(root)


def test_incomplete_dag_is_refused_but_may_be_pinned_directly(world: World) -> None:
    missing = CID.of(b"never stored")
    root = world.node(world.leaf("a"), missing)
    with pytest.raises(BlockNotFound, match="incomplete") as caught:
        world.pin(root)
    assert caught.value.details["missing"] == str(missing)
    assert world.pin(root, "direct")
    with pytest.raises(BlockNotFound):
        world.pin(missing, "direct")


def test_recursive_supersedes_direct_and_not_the_other_way(world: World) -> None:
    root = world.node(world.leaf("a"))
    assert world.pin(root, "direct")
    assert world.pin(root, "recursive")
    assert not world.pin(root, "direct")
    assert [pin.kind for pin in world.pins.list()] == [PinKind.RECURSIVE]


def test_names_are_unique_and_move_only_when_told(world: World) -> None:
    one, two = world.leaf("1"), world.leaf("2")
    world.pin(one, name="release")
    with pytest.raises(AlreadyExists, match="release"):
        world.pin(two, name="release")
    assert world.pin(two, name="release", replace=True)
    assert world.pins.get("release").cid == two
    world.pin(two, name="other")
    with pytest.raises(NotFound, match="other, release"):
        world.unpin(two)
    assert world.unpin("release") == two
    with pytest.raises(NotFound):
        world.pins.get("release")
    for bad in ("", "x" * 256, "a\nb"):
        with pytest.raises(InvalidName):
            world.pin(two, name=bad)


def test_pages_hold_every_pin_once(world: World) -> None:
    cids = [world.leaf(str(number)) for number in range(25)]
    for cid in cids:
        world.pin(cid, "direct")
    seen, after = [], 0
    while page := world.pins.list(after=after, limit=10):
        seen += [pin.cid for pin in page]
        after = page[-1].id
    assert seen == cids
    assert world.pins.list(kind="recursive") == []


def test_pin_state_tells_direct_recursive_indirect_and_none(world: World) -> None:
    leaf, other = world.leaf("a"), world.leaf("b")
    middle = world.node(leaf)
    root = world.node(middle)
    world.pin(root)
    world.pin(other, "direct")
    assert world.pins.is_pinned(root) is PinState.RECURSIVE
    assert world.pins.is_pinned(other) is PinState.DIRECT
    assert world.pins.is_pinned(leaf) is PinState.INDIRECT
    assert world.pins.is_pinned(leaf, indirect=False) is PinState.NO
    assert world.pins.is_pinned(world.leaf("c")) is PinState.NO


def test_deep_dags_are_walked_without_recursion_and_within_the_budget(world: World) -> None:
    cid = world.leaf("bottom")
    for _ in range(3000):
        cid = world.node(cid)
    seen: list[tuple[int, int]] = []
    with world.state.transaction() as tx, world.store.window():
        world.pins.add(cid, now_ns=1, progress=lambda blocks, size: seen.append((blocks, size)))(tx)
    assert seen[-1][0] == 3001
    small = Pins(world.state, world.store, budgets=Budgets(dag_nodes=100))
    with pytest.raises(BudgetExceeded):
        small.add(cid, now_ns=1)


def test_broken_promises_are_named(world: World) -> None:
    leaf = world.leaf("a")
    root = world.node(leaf)
    world.pin(root)
    assert list(world.pins.incomplete()) == []
    world.store.delete(leaf)
    assert [(pin.cid, cid) for pin, cid in world.pins.incomplete()] == [(root, leaf)]


def test_pinning_takes_condemned_blocks_back(world: World) -> None:
    leaf = world.leaf("a")
    root = world.node(leaf)
    world.store.sync()
    world.store.condemn([root.multihash, leaf.multihash])
    world.pin(root)
    assert list(world.store.condemned()) == []


def test_hold_forbids_unpinning_until_it_lapses_or_is_released(world: World) -> None:
    root = world.leaf("evidence")
    world.pin(root)
    with world.state.transaction() as tx:
        lapsing = world.holds.add(root, "audit 7", now_ns=10, until_ns=100)(tx)
    with pytest.raises(Held, match="audit 7"):
        world.unpin(root, now_ns=50)
    assert list(world.holds.roots(50)) == [root]
    assert list(world.holds.roots(100)) == []
    with world.state.transaction() as tx:
        lasting = world.holds.add(root, "court", now_ns=50)(tx)
        world.holds.release(lapsing.id)(tx)
    with pytest.raises(Held, match="court"):
        world.unpin(root, now_ns=10**18)
    with world.state.transaction() as tx:
        assert world.holds.release(lasting.id)(tx) == lasting
    assert world.unpin(root, now_ns=50) == root
    with pytest.raises(NotFound), world.state.transaction() as tx:
        world.holds.release(lasting.id)(tx)


def test_bucket_holds_are_listed_and_checked_by_name(world: World) -> None:
    with world.state.transaction() as tx:
        hold = world.holds.add("ledger-2025", "seven years", now_ns=1)(tx)
    assert world.holds.buckets(2) == ["ledger-2025"]
    assert world.holds.list() == [hold]
    assert hold.active(5)
    with pytest.raises(Held):
        world.holds.refuse("ledger-2025", 2)
    world.holds.refuse("another", 2)
    for reason, until in (("", None), ("x", 1)):
        with pytest.raises(InvalidInput):
            world.holds.add("b", reason, now_ns=1, until_ns=until)
