"""Building and reading files: exact ranges, foreign layouts, hostile DAGs, cancel."""

from __future__ import annotations

import contextlib
import io
import random
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.errors import BlockNotFound, BudgetExceeded, FormatError, InvalidInput
from ipfs_kit.ipld import dag_pb
from ipfs_kit.ipld.budgets import Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_PB, IDENTITY, RAW
from ipfs_kit.ipld.unixfs import (
    DEFAULT_PROFILE,
    PROFILES,
    FileReader,
    Kind,
    Profile,
    build_bytes,
    build_file,
    build_symlink,
    check_tree,
    decode_data,
    entry_of,
    iter_range,
    open_file,
    read_symlink,
)
from ipfs_kit.ipld.unixfs._data import file_node_data
from ipfs_kit.ipld.varint import encode as varint


class Blocks(dict):
    def put(self, cid, data):
        self[cid] = bytes(data)

    def get_block(self, cid):
        try:
            return self[cid]
        except KeyError as exc:
            raise BlockNotFound(f"no block {cid}") from exc

    def node(self, data: bytes, children: list[tuple[CID, int]]) -> CID:
        block = dag_pb.join(data, [dag_pb.link_bytes(c.binary, b"", t) for c, t in children])
        cid = CID.of(block, DAG_PB)
        self[cid] = block
        return cid

    def raw(self, data: bytes) -> CID:
        cid = CID.of(data)
        self[cid] = data
        return cid


SMALL = Profile("small", 1, True, "fixed", 16, 3, 256, 262_144, "block")
SMALL_V0 = Profile("small-v0", 0, False, "fixed", 16, 3, 256, 262_144, "links")


def sizes_field(*sizes: int) -> bytes:
    return b"".join(b"\x20" + varint(s) for s in sizes)


@pytest.mark.parametrize("profile", [SMALL, SMALL_V0], ids=lambda p: p.name)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 48, 49, 144, 145, 432, 433, 1000])
def test_a_file_reads_back_and_its_tree_checks(profile, size):
    blocks = Blocks()
    content = random.Random(size).randbytes(size)
    entry = build_file(io.BytesIO(content), profile, blocks.put)
    assert (entry.size, entry.kind) == (size, Kind.FILE)
    assert entry.tsize >= sum(len(b) for b in blocks.values())
    assert open_file(entry.cid, blocks.get_block).read() == content
    assert entry_of(entry.cid, blocks.get_block) == entry
    assert check_tree(entry.cid, blocks.get_block).content_bytes == size
    assert build_bytes(content, profile, blocks.put) == entry
    for cid, block in blocks.items():
        cid.check(block)


@given(
    size=st.integers(0, 700),
    moves=st.lists(st.tuples(st.integers(0, 800), st.integers(0, 300)), max_size=12),
    v0=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_any_seek_and_read_equals_the_bytes(size, moves, v0):
    blocks = Blocks()
    content = random.Random(size).randbytes(size)
    cid = build_file(io.BytesIO(content), SMALL_V0 if v0 else SMALL, blocks.put).cid
    reader = FileReader(cid, blocks.get_block)
    for offset, length in moves:
        assert reader.seek(offset) == offset
        assert reader.read(length) == content[offset : offset + length]
        buffer = bytearray(length)
        reader.seek(offset)
        count = reader.readinto(buffer)
        assert buffer[:count] == content[offset : offset + length]
        assert b"".join(iter_range(cid, blocks.get_block, offset, length)) == content[offset : offset + length]


def test_a_range_touches_only_the_blocks_it_needs():
    blocks = Blocks()
    content = random.Random(3).randbytes(16 * 27)
    cid = build_file(io.BytesIO(content), SMALL, blocks.put).cid
    seen = []

    def get(c):
        seen.append(c)
        return blocks[c]

    assert b"".join(iter_range(cid, get, 200, 4)) == content[200:204]
    assert len(seen) == 4
    reader = FileReader(cid, get)
    reader.seek(-3, io.SEEK_END)
    assert reader.read() == content[-3:]
    assert len(seen) == 8


def test_wrapped_in_a_buffered_reader_it_reads_lines():
    blocks = Blocks()
    text = "".join(f"line {i}\n" for i in range(500))
    cid = build_file(io.BytesIO(text.encode()), SMALL, blocks.put).cid
    with io.TextIOWrapper(io.BufferedReader(open_file(cid, blocks.get_block)), encoding="utf-8") as lines:
        assert "".join(lines) == text


def test_every_profile_reads_back_across_chunks_and_threads():
    content = random.Random(9).randbytes(5_500_001)
    for profile in PROFILES.values():
        blocks = Blocks()
        seen = []
        entry = build_file(io.BytesIO(content), profile, blocks.put, progress=seen.append)
        assert open_file(entry.cid, blocks.get_block).read() == content
        assert seen[-1] == len(content)
        assert seen == sorted(seen)


def test_a_stream_that_reads_in_dribbles_gives_the_same_cid():
    content = random.Random(4).randbytes(3_000_000)

    class Dribble(io.BytesIO):
        def read(self, size=-1, /):
            return super().read(min(size, 70_001))

    for profile in PROFILES.values():
        whole = build_file(io.BytesIO(content), profile, lambda c, b: None)
        assert build_file(Dribble(content), profile, lambda c, b: None) == whole


def test_progress_that_raises_cancels_and_stops_reading():
    class Stop(Exception):
        pass

    source = io.BytesIO(bytes(40_000_000))

    def progress(done):
        raise Stop

    with pytest.raises(Stop):
        build_file(source, DEFAULT_PROFILE, lambda c, b: None, progress=progress)
    assert source.tell() < 20_000_000


def test_a_failing_put_surfaces():
    def put(cid, block):
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        build_file(io.BytesIO(bytes(10_000_000)), DEFAULT_PROFILE, put)


def test_a_non_blocking_stream_is_refused():
    class NonBlocking:
        def read(self, size, /):
            return None

    with pytest.raises(InvalidInput):
        build_file(NonBlocking(), DEFAULT_PROFILE, lambda c, b: None)


def test_identity_cids_inline_data_and_mixed_leaves_are_readable():
    blocks = Blocks()
    inline = CID.of(b"inline", RAW, IDENTITY)
    assert open_file(inline, blocks.get_block).read() == b"inline"
    leaf = build_bytes(b"dag-pb leaf", SMALL_V0, blocks.put).cid
    # Data in an inner node comes before its children, and an empty child is passed over.
    data = b"\x08\x02\x12\x04head" + b"\x18" + varint(4 + 6 + 0 + 11) + sizes_field(6, 0, 11)
    root = blocks.node(data, [(inline, 6), (blocks.raw(b""), 0), (leaf, 20)])
    reader = open_file(root, blocks.get_block)
    assert reader.read() == b"headinlinedag-pb leaf"
    assert b"".join(iter_range(root, blocks.get_block, 3, 8)) == b"dinlined"
    assert check_tree(root, blocks.get_block).content_bytes == 21


def test_a_trickle_layout_is_readable():
    blocks = Blocks()

    def leaf(data):
        return blocks.node(b"\x08\x00\x12" + varint(len(data)) + data + b"\x18" + varint(len(data)), [])

    sub = blocks.node(file_node_data(6, sizes_field(3, 3)), [(leaf(b"ccc"), 1), (leaf(b"ddd"), 1)])
    root = blocks.node(file_node_data(12, sizes_field(3, 3, 6)), [(leaf(b"aaa"), 1), (leaf(b"bbb"), 1), (sub, 1)])
    assert open_file(root, blocks.get_block).read() == b"aaabbbcccddd"


def test_a_bomb_reads_a_range_in_bounded_work_and_is_refused_by_the_check():
    blocks = Blocks()
    cid, size = blocks.raw(b"x" * 1000), 1000
    for _ in range(4):
        cid = blocks.node(file_node_data(size * 1000, sizes_field(*[size] * 1000)), [(cid, size)] * 1000)
        size *= 1000
    with pytest.raises(BudgetExceeded):
        open_file(cid, blocks.get_block)
    wide = Budgets(logical_bytes=1 << 62)
    assert b"".join(iter_range(cid, blocks.get_block, size - 5, 5, wide)) == b"x" * 5
    with pytest.raises(BudgetExceeded, match="bomb"):
        check_tree(cid, blocks.get_block, wide)


def test_a_chain_deeper_than_the_budget_is_refused():
    blocks = Blocks()
    cid = blocks.raw(b"z")
    for _ in range(80):
        cid = blocks.node(file_node_data(1, sizes_field(1)), [(cid, 1)])
    with pytest.raises(BudgetExceeded):
        open_file(cid, blocks.get_block).read()
    with pytest.raises(BudgetExceeded):
        check_tree(cid, blocks.get_block)


@pytest.mark.parametrize(
    "data",
    [
        file_node_data(5, sizes_field(3)),
        file_node_data(3, sizes_field(3, 0)),
        file_node_data(9, sizes_field(9)),
    ],
    ids=["sum", "count", "child"],
)
def test_sizes_that_do_not_add_up_are_refused(data):
    blocks = Blocks()
    root = blocks.node(data, [(blocks.raw(b"abc"), 3)])
    with pytest.raises(FormatError):
        open_file(root, blocks.get_block).read()
    with pytest.raises(FormatError):
        check_tree(root, blocks.get_block)


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\x08", b"\x08\x06", b"\x08\x02\x08\x02", b"\x08\x02\x12\x05ab", b"\x0a\x01\x02", b"\x08\x02\x48\x01",
        b"\x08\x82\x00", b"\x08\x02\x42\x02\x10\x00", b"\x18\x00",
    ],
)  # fmt: skip
def test_malformed_data_is_refused(message):
    with pytest.raises(FormatError):
        decode_data(message)


def test_mode_and_mtime_of_other_writers_are_understood():
    data = decode_data(b"\x08\x02\x18\x00\x38\xa4\x03\x42\x07\x08\x05\x15\x01\x00\x00\x00")
    assert (data.mode, data.mtime) == (0o644, (5, 1))


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_random_bytes_never_escape_the_error_tree(message):
    blocks = Blocks()
    block = CID.of(message, DAG_PB)
    blocks[block] = message
    for act in (
        decode_data,
        lambda m: entry_of(block, blocks.get_block),
        lambda m: check_tree(block, blocks.get_block),
    ):
        with contextlib.suppress(FormatError, BudgetExceeded, BlockNotFound, InvalidInput):
            act(message)


def test_symlinks_stay_data():
    blocks = Blocks()
    entry = build_symlink(b"../../etc/passwd", DEFAULT_PROFILE, blocks.put)
    assert (entry.kind, entry.size) == (Kind.SYMLINK, 16)
    assert read_symlink(entry.cid, blocks.get_block) == b"../../etc/passwd"
    assert entry_of(entry.cid, blocks.get_block) == entry
    with pytest.raises(InvalidInput):
        open_file(entry.cid, blocks.get_block)
    with pytest.raises(InvalidInput):
        build_symlink(b"a\0b", DEFAULT_PROFILE, blocks.put)
    with pytest.raises(InvalidInput):
        read_symlink(build_bytes(b"x", SMALL_V0, blocks.put).cid, blocks.get_block)


def test_a_closed_reader_and_bad_seeks_are_refused():
    blocks = Blocks()
    reader = open_file(build_bytes(b"abc", SMALL, blocks.put).cid, blocks.get_block)
    with pytest.raises(InvalidInput):
        reader.seek(-1)
    assert reader.seek(10) == 10
    assert reader.read(5) == b""
    reader.close()
    with pytest.raises(InvalidInput):
        reader.read(1)


def test_a_missing_leaf_is_named():
    blocks = Blocks()
    cid = build_file(io.BytesIO(bytes(range(100))), SMALL, blocks.put).cid
    del blocks[CID.from_digest(sha256(bytes(range(16))).digest())]
    with pytest.raises(BlockNotFound):
        open_file(cid, blocks.get_block).read()
