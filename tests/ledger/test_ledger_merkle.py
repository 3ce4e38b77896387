"""Trees, tiles and their names, against a naive RFC 6962 tree."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.errors import IntegrityError
from ipfs_kit.ledger import check, layout, merkle
from ipfs_kit.ledger.record import CID_PREFIX
from ipfs_kit.ledger.tiles import Growth, TileFiles, remove_partials

# Certificate Transparency's reference entries and roots (RFC 6962 test data of certificate-transparency-go).
ENTRIES = [
    bytes.fromhex(h)
    for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def naive(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return merkle.node_hash(naive(leaves[:half]), naive(leaves[half:]))


def nodes_of(leaves: list[bytes]) -> merkle.Nodes:
    return lambda level, index: naive(leaves[index << level : (index + 1) << level])


def leaf(number: int) -> bytes:
    return merkle.leaf_hash(number.to_bytes(4, "big"))


def entry(number: int) -> bytes:
    return CID_PREFIX + sha256(number.to_bytes(4, "big")).digest()


def test_roots_are_those_of_certificate_transparency() -> None:
    leaves = [merkle.leaf_hash(data) for data in ENTRIES]
    for size, root in ROOTS.items():
        assert merkle.root(nodes_of(leaves), size).hex() == root


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 130).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1), st.integers(0, size)))
)
def test_proofs_hold_and_only_for_their_place(case: tuple[int, int, int]) -> None:
    size, index, old = case
    leaves = [leaf(n) for n in range(size)]
    nodes, root = nodes_of(leaves), naive(leaves)
    path = merkle.inclusion_path(nodes, index, size)
    assert merkle.root_from_inclusion(leaves[index], index, size, path) == root
    assert check.climb(leaves[index], index, size, path) == root
    assert check.climb(leaves[index], (index + 1) % size, size, path) != root or size == 1
    assert merkle.root_from_inclusion(leaves[index], index, size, [*path, root]) is None
    consistency = merkle.consistency_path(nodes, old, size)
    assert merkle.check_consistency(old, naive(leaves[:old]), size, root, consistency)
    assert not merkle.check_consistency(old, leaf(999), size, root, consistency)
    if consistency:
        assert not merkle.check_consistency(old, naive(leaves[:old]), size, root, [leaf(7), *consistency[1:]])


def test_names_are_those_of_tlog_tiles() -> None:
    assert layout.tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert layout.tile_path(2, 0, 1) == "tile/2/000.p/1"
    assert layout.bundle_path(1000, 255) == "tile/entries/x001/000.p/255"
    # The specification's own example: a tree of 70,000.
    assert [layout.full_tiles(n, 70_000) for n in range(3)] == [273, 1, 0]
    assert [layout.partial_width(n, 70_000) for n in range(3)] == [112, 17, 1]
    assert layout.levels(256) == 2


@pytest.mark.parametrize("steps", [[1], [256], [1, 254, 1, 1], [300, 300], [255, 257, 1], [65_536 + 257]])
def test_a_tree_grown_in_steps_equals_one_built_at_once(tmp_path: Path, steps: list[int]) -> None:
    files, size = TileFiles(str(tmp_path)), 0
    for step in steps:
        growth = Growth(files, size)
        growth.add([entry(n) for n in range(size, size + step)])
        growth.finish()
        remove_partials(str(tmp_path), size, size + step)
        size += step
    leaves = [merkle.leaf_hash(entry(n)) for n in range(size)]
    files = TileFiles(str(tmp_path))
    assert Growth(files, size).root() == naive(leaves) == merkle.root(files.nodes(size), size)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    expected = {layout.bundle_path(n) for n in range(size // 256)}
    for level in range(layout.levels(size)):
        expected |= {layout.tile_path(level, n) for n in range(layout.full_tiles(level, size))}
        if width := layout.partial_width(level, size):
            expected.add(layout.tile_path(level, layout.full_tiles(level, size), width))
    if size % 256:
        expected.add(layout.bundle_path(size // 256, size % 256))
    assert names == expected


def test_a_narrower_tree_is_read_from_a_wider_tile(tmp_path: Path) -> None:
    files = TileFiles(str(tmp_path))
    growth = Growth(files, 0)
    growth.add([entry(n) for n in range(20)])
    growth.finish()
    leaves = [merkle.leaf_hash(entry(n)) for n in range(20)]
    assert merkle.root(files.nodes(13), 13) == naive(leaves[:13])


def test_a_missing_or_short_tile_is_named(tmp_path: Path) -> None:
    files = TileFiles(str(tmp_path))
    with pytest.raises(IntegrityError, match=r"tile/0/000\.p/5"):
        files.hashes(0, 0, 5)
    (tmp_path / "tile/0/000.p").mkdir(parents=True)
    (tmp_path / "tile/0/000.p/5").write_bytes(b"short")
    with pytest.raises(IntegrityError, match="bytes instead of 160"):
        files.hashes(0, 0, 5)
