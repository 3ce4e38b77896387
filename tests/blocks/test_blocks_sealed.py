"""Sealed blocks: plaintext above, ciphertext below, one domain's key opens them and nothing else does."""

from __future__ import annotations

import functools
import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.blocks.memory import MemoryStore
from ipfs_kit.blocks.sealed import OVERHEAD_BYTES, SealedStore, is_sealed, links_of
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.errors import BlockNotFound, Expired, IntegrityError, InvalidInput
from ipfs_kit.ipld import codecs, dag_cbor, links
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import (
    PROFILES,
    Directory,
    Kind,
    build_bytes,
    build_file,
    build_symlink,
    entry_of,
    open_file,
    read_symlink,
)
from ipfs_kit.keys import KeyRing

KEY = bytes(range(32))
PROFILE = PROFILES["unixfs-v1-2025"]


@pytest.fixture
def packs(tmp_path: Path) -> Iterator[PackStore]:
    with PackStore.open(tmp_path / "store") as store:
        yield store


@given(st.binary(max_size=2000), st.sampled_from([codecs.RAW, codecs.DAG_PB, codecs.DAG_CBOR, codecs.DAG_JSON]))
def test_block_comes_back_and_seals_the_same_each_time(data: bytes, codec: int) -> None:
    inner = MemoryStore()
    store = SealedStore(inner, KEY)
    cid = store.seal_block(data, codec)
    assert store.get(cid) == data
    assert codecs.plain_codec(cid.codec) == codec
    assert is_sealed(cid)
    assert store.size(cid) == len(data) == inner.size(cid) - OVERHEAD_BYTES
    assert store.seal_block(data, codec) == cid == store.address(CID.of(data, codec), data)
    assert len(list(inner.cids())) == 1
    cid.check(inner.get(cid))


def test_stored_bytes_hold_no_plaintext_and_domains_share_nothing() -> None:
    inner = MemoryStore()
    data = b"a canary that must never be seen" * 10
    one, two = SealedStore(inner, KEY), SealedStore(inner, bytes(32))
    assert one.seal_block(data, codecs.RAW) != two.seal_block(data, codecs.RAW)
    assert all(b"canary" not in inner.get(cid) for cid in inner.cids())
    with pytest.raises(IntegrityError, match="does not open"):
        two.get(one.seal_block(data, codecs.RAW))


def test_equal_bytes_of_two_codecs_get_two_nonces() -> None:
    inner = MemoryStore()
    store = SealedStore(inner, KEY)
    cids = [store.seal_block(b"same", codec) for codec in (codecs.RAW, codecs.DAG_CBOR)]
    assert inner.get(cids[0])[:12] != inner.get(cids[1])[:12]


def test_plain_addresses_are_absent_and_refused_for_put() -> None:
    store = SealedStore(MemoryStore(), KEY)
    plain = CID.of(b"x")
    assert not store.has(plain)
    with pytest.raises(BlockNotFound):
        store.get(plain)
    with pytest.raises(BlockNotFound):
        store.size(plain)
    with pytest.raises(InvalidInput, match=r"link\(\)"):
        store.put(plain, b"x")
    with pytest.raises(InvalidInput, match="cannot be sealed"):
        store.seal_block(b"x", codecs.GIT_RAW)
    with pytest.raises(IntegrityError):
        store.put(store.address(plain, b"y"), b"x")


def test_put_under_the_sealed_address_follows_the_store_contract() -> None:
    store = SealedStore(MemoryStore(), KEY)
    items = [(store.address(CID.of(data), data), data) for data in (b"a", b"b", b"a")]
    assert store.put_many(items) == 2
    assert not store.put(*items[0])
    assert store.has_many([items[0][0], CID.of(b"a"), items[1][0]]) == [True, False, True]
    assert list(store.get_many([items[1][0]])) == [items[1]]
    assert store.delete(items[0][0])
    assert not store.has(items[0][0])
    assert list(store.cids()) == [items[1][0]]


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_files_directories_and_links_work_end_to_end(packs: PackStore, profile: str) -> None:
    settings = PROFILES[profile]
    store = SealedStore(packs.domain("d-test"), KEY)
    content = random.Random(7).randbytes(5 * settings.chunk_size // 2 + 17)
    large = build_file(io.BytesIO(content), settings, store.link)
    small = build_bytes(b"small", settings, store.link)
    symlink = build_symlink(b"../target", settings, store.link)
    tree = Directory(settings, store.get, None)
    for name, entry in ((b"large", large), (b"small", small), (b"link", symlink)):
        tree.set(name, entry.cid, entry.tsize)
    root, _ = tree.flush(store.link)
    assert is_sealed(root)
    assert not any(cid.codec in (codecs.RAW, codecs.DAG_PB) for cid in packs.cids())
    packs.sync()
    again = Directory(settings, store.get, root)
    assert sorted(link.name for _, link in again.iterate(None)) == [b"large", b"link", b"small"]
    found = again.lookup(b"large")
    assert found is not None
    reader = open_file(found.cid, store.get)
    assert reader.read() == content
    reader.seek(settings.chunk_size + 5)
    assert reader.read(10) == content[settings.chunk_size + 5 : settings.chunk_size + 15]
    assert read_symlink(symlink.cid, store.get) == b"../target"
    assert entry_of(small.cid, store.get).kind is Kind.FILE
    assert entry_of(root, store.get).kind is Kind.DIR
    assert set(links.links(root, store.get(root))) == {large.cid, small.cid, symlink.cid}


def test_sharded_directory_is_pure_and_editable_when_sealed() -> None:
    store = SealedStore(MemoryStore(), KEY)
    leaf = build_bytes(b"x", PROFILE, store.link)
    names = [b"a rather long file name number %06d" % number for number in range(5000)]
    tree = Directory(PROFILE, store.get, None)
    for name in names:
        tree.set(name, leaf.cid, leaf.tsize)
    root, tsize = tree.flush(store.link)
    other = build_bytes(b"y", PROFILE, store.link)
    edited = Directory(PROFILE, store.get, root)
    edited.set(names[17], other.cid, other.tsize)
    changed, _ = edited.flush(store.link)
    assert changed != root
    back = Directory(PROFILE, store.get, changed)
    back.set(names[17], leaf.cid, leaf.tsize)
    assert back.flush(store.link) == (root, tsize)
    assert sum(1 for _ in Directory(PROFILE, store.get, root).iterate(None)) == 5000


def test_destroyed_key_makes_every_read_expired(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys", create=True)
    domain = ring.new_domain_key()
    inner = MemoryStore()
    store = SealedStore(inner, functools.partial(ring.domain_key, domain))
    cid = store.seal_block(b"secret", codecs.RAW)
    assert store.get(cid) == b"secret"
    ring.destroy(domain)
    for attempt in (
        lambda: store.get(cid),
        lambda: list(store.get_many([cid])),
        lambda: store.link(CID.of(b"x"), b"x"),
    ):
        with pytest.raises(Expired):
            attempt()
    assert inner.has(cid)
    ring.close()


def test_children_of_stored_blocks_are_found_through_the_key_of_their_domain() -> None:
    inner = MemoryStore()
    store = SealedStore(inner, KEY)
    leaf = store.seal_block(b"leaf", codecs.RAW)
    node = store.seal_block(dag_cbor.encode({"leaf": leaf}), codecs.DAG_CBOR)
    find = links_of({"d": KEY}.get)
    assert find(node, inner.get(node), "d") == [leaf]
    assert find(leaf, inner.get(leaf), "d") == []
    plain = dag_cbor.encode([CID.of(b"x")])
    assert find(CID.of(plain, codecs.DAG_CBOR), plain, None) == [CID.of(b"x")]
    for domain in ("gone", None):
        with pytest.raises(Expired):
            find(node, inner.get(node), domain)


def test_builders_keep_their_own_address_when_put_answers_something_else() -> None:
    inner = MemoryStore()
    entry = build_file(io.BytesIO(b"x" * 3_000_000), PROFILE, inner.put)
    assert open_file(entry.cid, inner.get).read() == b"x" * 3_000_000
    assert entry.cid.codec == codecs.DAG_PB
