"""Writes into the middle and at the end of files: the CID of a clean build, and few blocks for it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.errors import BudgetExceeded
from ipfs_kit.ipld.unixfs import PROFILES, build_file, open_file, splice

V1 = replace(PROFILES["unixfs-v1-2025"], chunk_size=4, max_links=3)
V0 = replace(PROFILES["unixfs-v0-2015"], chunk_size=4, max_links=3)
CDC = PROFILES["unixfs-v1-cdc"]


class Blocks(dict):
    """Blocks by CID, counting what is read and stored."""

    def __init__(self):
        super().__init__()
        self.reads, self.writes = set(), {}

    def put(self, cid, data):
        self[cid] = data
        self.writes[cid] = len(data)
        return cid

    def get(self, cid):
        self.reads.add(cid)
        return self[cid]

    def forget(self):
        self.reads, self.writes = set(), {}


def built(data, profile, blocks=None):
    return build_file(io.BytesIO(data), profile, (blocks if blocks is not None else Blocks()).put)


def patched(old, data, start, truncate):
    base = old.ljust(start, b"\0")
    return base[:start] + data + (b"" if truncate else base[start + len(data) :])


@settings(max_examples=400, deadline=None)
@given(
    old=st.integers(0, 130),
    data=st.binary(max_size=60),
    start=st.integers(0, 160),
    truncate=st.booleans(),
    profile=st.sampled_from([V1, V0, CDC]),
    foreign=st.sampled_from([None, V1, V0, replace(V1, max_links=2), replace(V1, chunk_size=5), CDC]),
)
def test_a_patched_file_is_the_file_built_clean_and_all_its_blocks_are_there(
    old, data, start, truncate, profile, foreign
):
    content = bytes(1 + number % 250 for number in range(old))
    blocks = Blocks()
    before = built(content, foreign or profile, blocks)
    after = splice(before.cid, old, data, start, truncate, profile, blocks.get, blocks.put)
    expected = patched(content, data, start, truncate)
    assert after == built(expected, profile)
    with open_file(after.cid, blocks.__getitem__) as stream:
        assert stream.read() == expected


def test_an_append_reads_and_writes_the_right_edge_alone():
    for profile in (V1, V0):
        for leaves in (1, 3, 9, 27, 28, 80, 81, 82, 2_000):
            blocks = Blocks()
            size = leaves * 4 - 2
            before = built(bytes(size), profile, blocks)
            blocks.forget()
            splice(before.cid, size, b"12345", size, False, profile, blocks.get, blocks.put)
            levels = 8  # 3**7 leaves
            assert len(blocks.reads) <= 2 * levels + 1
            assert len(blocks.writes) <= levels + 2 + 1


def test_a_hole_stores_its_zeros_once():
    blocks = Blocks()
    before = built(b"x", PROFILES["unixfs-v1-2025"], blocks)
    blocks.forget()
    made = splice(before.cid, 1, b"y", 1 << 37, False, PROFILES["unixfs-v1-2025"], blocks.get, blocks.put)
    assert made.size == (1 << 37) + 1
    assert len(blocks.writes) < 10
    with open_file(made.cid, blocks.get) as stream:
        stream.seek((1 << 37) - 2)
        assert stream.read() == b"\0\0y"


def test_a_hole_above_the_limit_is_refused():
    with pytest.raises(BudgetExceeded, match="hole"):
        splice(built(b"", V1).cid, 0, b"x", (1 << 40) + 1, False, V1, {}.__getitem__, dict)
