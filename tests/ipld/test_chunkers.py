"""Chunk boundaries: exact, independent of how the stream was read, and pinned."""

from __future__ import annotations

import io
import random
from hashlib import sha256

import pytest

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ipld.chunkers import CDC_V1, CdcParameters, content_defined, fixed, read_full
from ipfs_kit.ipld.unixfs import PROFILES, build_file

DATA = random.Random(2026).randbytes(20_000_000)


class Dribble(io.BytesIO):
    def read(self, size=-1, /):
        return super().read(min(size, 99_991))


def test_fixed_chunks_have_one_size_but_the_last():
    assert [len(c) for c in fixed(io.BytesIO(bytes(10)), 4)] == [4, 4, 2]
    assert [len(c) for c in fixed(io.BytesIO(bytes(8)), 4)] == [4, 4]
    assert list(fixed(io.BytesIO(b""), 4)) == []


def test_read_full_joins_short_reads():
    assert read_full(Dribble(DATA), 1_000_000) == DATA[:1_000_000]
    with pytest.raises(InvalidInput):
        read_full(io.StringIO("text"), 3)


def test_content_defined_chunks_are_pinned_and_within_bounds():
    chunks = list(content_defined(io.BytesIO(DATA)))
    assert b"".join(chunks) == DATA
    lengths = [len(c) for c in chunks]
    assert all(CDC_V1.min_bytes <= n <= CDC_V1.max_bytes for n in lengths[:-1])
    assert lengths == PINNED_LENGTHS


def test_content_defined_cuts_do_not_depend_on_reading():
    one_window = [len(c) for c in content_defined(io.BytesIO(DATA))]
    assert [len(c) for c in content_defined(Dribble(DATA))] == one_window


def test_an_insertion_leaves_the_other_chunks_alone():
    before = {sha256(c).digest() for c in content_defined(io.BytesIO(DATA))}
    changed = DATA[:7_000_000] + b"inserted" + DATA[7_000_000:]
    after = {sha256(c).digest() for c in content_defined(io.BytesIO(changed))}
    assert len(after - before) <= 3


def test_constant_bytes_are_cut_at_the_maximum():
    lengths = {len(c) for c in list(content_defined(io.BytesIO(bytes(9_000_000))))[:-1]}
    assert lengths == {CDC_V1.max_bytes}


def test_the_cdc_profile_is_pinned():
    cid = build_file(io.BytesIO(DATA), PROFILES["unixfs-v1-cdc"], lambda c, b: None).cid
    assert str(cid) == PINNED_CID


def test_senseless_parameters_are_refused():
    with pytest.raises(InvalidInput):
        list(content_defined(io.BytesIO(b"x"), CdcParameters(1024, 512, 4096, 1)))


PINNED_LENGTHS = [
    723670,
    150217,
    685758,
    819026,
    551624,
    630993,
    672447,
    560167,
    273570,
    685181,
    635392,
    544377,
    683752,
    687729,
    762725,
    305407,
    629346,
    543193,
    566296,
    805987,
    844243,
    698055,
    876377,
    259860,
    830689,
    534340,
    920214,
    554332,
    593246,
    547199,
    597111,
    694956,
    132521,
]
PINNED_CID = "bafybeief54akit2vd3wvjnouoee2jkmrsjmef4qehiqjpnyhugv5ktmq6m"
