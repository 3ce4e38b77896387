"""Verification names each fault of the block layer; repair mends what can be mended and loses nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipfs_kit.blocks.check import CheckReport, Fault, repair, verify
from ipfs_kit.blocks.pins import PINS_SCHEMA, Pins
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import IntegrityError
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR


class World:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.open()
        self.leaves = [self.leaf(os.urandom(2000)) for _ in range(20)]
        data = dag_cbor.encode(self.leaves)
        self.top = CID.of(data, DAG_CBOR)
        self.store.put(self.top, data)
        self.sealed_leaf = CID.of(b"sealed")
        self.store.domain("d-one").put(self.sealed_leaf, b"sealed")
        self.store.sync()
        with self.state.transaction() as tx:
            self.pins.add(self.top, now_ns=1)(tx)

    def open(self) -> None:
        self.state = StateDB.open(self.path / "state.db", [PINS_SCHEMA])
        self.store = PackStore.open(self.path, self.state)
        self.pins = Pins(self.state, self.store)

    def close(self) -> None:
        self.store.close()
        self.state.close()

    def leaf(self, data: bytes) -> CID:
        cid = CID.of(data)
        self.store.put(cid, data)
        return cid

    def verify(self) -> CheckReport:
        return verify(self.store, self.pins)

    def faults(self) -> set[Fault]:
        return {finding.fault for finding in self.verify().findings}

    def place(self, cid: CID) -> tuple[Path, int, int]:
        place = self.store.index.lookup(cid.multihash)
        assert place is not None
        return Path(self.store._files.path(place.pack_id)), place.offset, place.length

    def flip(self, cid: CID, at: int = 0) -> None:
        path, offset, _ = self.place(cid)
        with path.open("r+b") as file:
            file.seek(offset + at)
            byte = file.read(1)[0]
            file.seek(offset + at)
            file.write(bytes([byte ^ 1]))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.close()


def test_sound_store_verifies_clean_and_says_what_it_read(world: World) -> None:
    seen: list[tuple[int, int]] = []
    report = verify(world.store, world.pins, progress=lambda done, total: seen.append((done, total)))
    assert report.findings == []
    assert (report.packs, report.unlisted) == (3, 0)
    assert report.blocks >= 22
    assert seen[-1][0] == seen[-1][1] == report.bytes
    assert verify(world.store, world.pins, full=False).findings == []
    assert repair(world.store, []) == []


def test_read_only_store_is_verified_as_well(world: World) -> None:
    world.close()
    with PackStore.open(world.path, read_only=True) as store:
        assert verify(store).findings == []
    world.open()


@pytest.mark.parametrize("number", [0, 10, 19])
def test_flipped_bit_is_named_set_aside_and_the_block_can_be_added_again(world: World, number: int) -> None:
    cid = world.leaves[number]
    data = world.store.get(cid)
    world.flip(cid, 100)
    report = world.verify()
    (damage,) = [finding for finding in report.findings if finding.fault is Fault.BLOCK_DAMAGED]
    assert str(cid) in damage.what
    assert "add the content again" in damage.mend
    assert Fault.INDEX_WRONG in {finding.fault for finding in report.findings}
    assert Fault.PIN_INCOMPLETE not in {finding.fault for finding in report.findings}
    done = repair(world.store, report.findings)
    assert any("lost+found" in line for line in done)
    assert any("replaced" in line for line in done)
    (aside,) = (world.path / "lost+found").iterdir()
    assert len(aside.read_bytes()) >= 2000
    assert world.faults() == {Fault.PIN_INCOMPLETE}
    assert world.leaf(data) == cid
    assert world.verify().findings == []
    for leaf in world.leaves:
        world.store.get(leaf)


def test_damaged_framing_and_header_lose_no_other_block(world: World) -> None:
    path, offset, _ = world.place(world.leaves[5])
    with path.open("r+b") as file:
        file.seek(offset - 38)
        file.write(b"\xff" * 60)
        file.seek(10)
        file.write(b"\xff" * 8)
    assert {Fault.BLOCK_DAMAGED, Fault.PACK_HEADER} <= world.faults()
    repair(world.store, world.verify().findings)
    assert world.faults() == {Fault.PIN_INCOMPLETE}
    for number, leaf in enumerate(world.leaves):
        assert world.store.has(leaf) == (number != 5)


def test_repaired_store_stays_sound_after_reopening(world: World) -> None:
    world.flip(world.leaves[3])
    repair(world.store, world.verify().findings)
    world.close()
    shutil.rmtree(world.path / "cache")
    world.open()
    assert world.faults() == {Fault.PIN_INCOMPLETE}
    assert list(world.store.condemned()) == []


def test_block_with_another_copy_is_healed_from_it(world: World) -> None:
    cid = world.leaves[7]
    data = world.store.get(cid)
    world.store.condemn([cid.multihash])
    with world.store.window():
        world.leaf(data)
        world.store.sync()
    assert verify(world.store).unlisted == 1
    world.flip(cid)
    repair(world.store, world.verify().findings)
    assert world.verify().findings == []
    assert world.store.get(cid) == data


def test_row_that_leads_nowhere_is_found_and_mended_from_the_pack(world: World) -> None:
    cid = world.leaves[2]
    place = world.store.index.lookup(cid.multihash)
    assert place is not None
    world.store.update_index(lambda txn: txn.set(cid.multihash, place._replace(offset=place.offset + 7)))
    report = world.verify()
    assert {finding.fault for finding in report.findings} == {Fault.INDEX_WRONG}
    repair(world.store, report.findings)
    assert world.verify().findings == []
    assert world.store.get(cid)


def test_block_the_index_lost_is_found_again_when_a_pin_needs_it(world: World) -> None:
    cid = world.leaves[2]
    world.store.delete(cid)
    assert world.faults() == {Fault.PIN_INCOMPLETE}
    done = repair(world.store, world.verify().findings)
    assert done == ["listed 1 whole blocks that lie in the packs and were not in the index"]
    assert world.verify().findings == []


def test_missing_pack_is_named_and_forgotten(world: World) -> None:
    path, _, _ = world.place(world.leaves[0])
    world.close()
    path.unlink()
    world.open()
    assert Fault.PACK_MISSING in world.faults()
    repair(world.store, world.verify().findings)
    assert world.faults() == {Fault.PIN_INCOMPLETE}
    with pytest.raises(KeyError):
        world.store.get(world.leaves[0])


def test_truncated_pack_is_named(world: World) -> None:
    path, offset, length = world.place(world.leaves[-1])
    with path.open("r+b") as file:
        file.truncate(offset + length // 2)
    assert Fault.BLOCK_DAMAGED in world.faults()
    repair(world.store, world.verify().findings)
    assert world.faults() == {Fault.PIN_INCOMPLETE}
    assert all(world.store.has(leaf) for leaf in world.leaves[:-1])


def test_unknown_file_is_named_and_left_alone(world: World) -> None:
    (world.path / "packs" / "notes.txt").write_text("mine", encoding="ascii")
    report = world.verify()
    assert [(finding.fault, finding.where) for finding in report.findings] == [(Fault.UNKNOWN_FILE, "packs/notes.txt")]
    repair(world.store, report.findings)
    assert (world.path / "packs" / "notes.txt").read_text(encoding="ascii") == "mine"


@pytest.mark.parametrize("damage", ["flip", "remove", "other"])
def test_sidecar_is_checked_and_written_anew(world: World, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ipfs_kit.blocks.pack_writer.PACK_BYTES_MAX", 10_000)
    for _ in range(30):
        world.leaf(os.urandom(1000))
    world.store.sync()
    world.leaf(b"opens the next pack")
    world.store.sync()
    side = next((world.path / "packs").glob("leaf-*.idx"))
    if damage == "flip":
        side.write_bytes(side.read_bytes()[:-1] + b"?")
    else:
        side.unlink()
    report = world.verify()
    assert {finding.fault for finding in report.findings} == {Fault.SIDECAR}
    done = repair(world.store, report.findings)
    assert done == [f"wrote {side.name} anew"]
    assert world.verify().findings == []


def test_tail_of_a_killed_writer_is_no_fault(world: World) -> None:
    path, _, _ = world.place(world.leaves[0])
    with path.open("ab") as file:
        file.write(b"\x99\x0ftorn")
    assert world.verify().findings == []
    world.close()
    world.open()
    assert world.verify().findings == []


def test_damaged_block_is_never_returned(world: World) -> None:
    world.flip(world.leaves[1])
    with pytest.raises(IntegrityError):
        world.store.get(world.leaves[1])
