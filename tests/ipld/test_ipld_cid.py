"""CIDs, multibase, varints and multihashes against the reference packages and against hostile input."""

from __future__ import annotations

import copy
import hashlib
import pickle

import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.errors import FormatError, IntegrityError, InvalidCid, InvalidInput, KitError, Unsupported
from ipfs_kit.ipld import CID, codecs, multibase, multihash, varint

BASES = sorted(multibase.PREFIXES)
HELLO = b"hello world"
digests = st.binary(min_size=32, max_size=32)

# text, codec, version: from the specifications and from public content.
KNOWN = [
    ("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e", codecs.RAW, 1),
    ("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n", codecs.DAG_PB, 0),
    ("bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", codecs.DAG_PB, 1),
    ("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", codecs.DAG_PB, 0),
    ("bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua", codecs.DAG_CBOR, 1),
    ("baguqeera6mfu3g6n722vx7dbitpnbiyqnwah4ddy4b5c3rwzxc5pntqcupta", codecs.DAG_JSON, 1),
]


@pytest.mark.parametrize(("text", "codec", "version"), KNOWN)
def test_known_cids_parse_and_print_unchanged(text: str, codec: int, version: int) -> None:
    cid = CID.parse(text)
    assert (str(cid), cid.codec, cid.version, cid.hash_code) == (text, codec, version, codecs.SHA2_256)
    assert bytes(multiformats.CID.decode(text)) == cid.binary == bytes(cid)


def test_cid_of_content_matches_the_published_address() -> None:
    assert str(CID.of(HELLO)) == KNOWN[0][0]
    assert str(CID.of(b"", codecs.DAG_PB, version=0)) == KNOWN[1][0]
    assert CID.of(b"", codecs.DAG_PB, version=0).to_v1() == CID.parse(KNOWN[2][0])
    assert CID.parse(KNOWN[2][0]).to_v0() == CID.parse(KNOWN[1][0])


@given(digests, st.sampled_from([codecs.RAW, codecs.DAG_PB, codecs.DAG_CBOR, codecs.DAG_JSON]), st.sampled_from(BASES))
def test_every_base_round_trips_and_agrees_with_the_reference(digest: bytes, codec: int, base: str) -> None:
    cid = CID.from_digest(digest, codec)
    text = cid.encode(base)
    assert CID.parse(text) == cid
    assert bytes(multiformats.CID.decode(text)) == cid.binary
    assert (cid.digest, cid.codec, cid.multihash) == (digest, codec, b"\x12\x20" + digest)


@given(digests)
def test_version_0_text_agrees_with_the_reference(digest: bytes) -> None:
    cid = CID(b"\x12\x20" + digest)
    assert str(cid) == str(multiformats.CID("base58btc", 0, "dag-pb", ("sha2-256", digest)))
    assert CID.parse(str(cid)) == cid == cid.to_v1().to_v0()
    assert cid != cid.to_v1()


@given(st.sampled_from(BASES), st.binary(max_size=64))
def test_multibase_round_trips_and_agrees_with_the_reference(base: str, data: bytes) -> None:
    text = multibase.encode(base, data)
    assert multibase.decode(text) == (base, data)
    assert multiformats.multibase.get(base).decode(text) == data


@given(st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=70))
def test_any_text_is_a_cid_in_canonical_form_or_refused(text: str) -> None:
    try:
        cid = CID.parse(text)
    except InvalidCid:
        return
    assert cid == CID(cid.binary)


@given(st.binary(max_size=48) | digests.map(lambda d: b"\x01\x55\x12\x20" + d[:31]))
def test_any_bytes_are_a_cid_or_refused(data: bytes) -> None:
    try:
        cid = CID(data)
    except InvalidCid:
        return
    assert CID.parse(str(cid)).binary == data
    assert CID.from_digest(cid.digest, cid.codec, cid.hash_code, cid.version) == cid


DIGEST = hashlib.sha256(HELLO).digest()


@pytest.mark.parametrize(
    "binary",
    [
        b"",
        b"\x01",
        b"\x01\x55\x12",
        b"\x00\x55\x12\x20" + DIGEST,
        b"\x02\x55\x12\x20" + DIGEST,
        b"\x81\x00\x55\x12\x20" + DIGEST,  # version not minimal
        b"\x01\xd5\x00\x12\x20" + DIGEST,  # codec not minimal
        b"\x01\x55\x12\x20" + DIGEST + b"\0",
        b"\x01\x55\x12\x20" + DIGEST[:-1],
        b"\x01\x55\x12\x1f" + DIGEST[:-1],  # truncated digest of a known hash
        b"\x12\x20" + DIGEST[:-1],
        b"\x12\x20" + DIGEST + b"\0",
        b"\x12\x1f" + DIGEST[:-1],
        b"\x01\x55\x00\x81\x01" + bytes(129),  # identity over the budget
        b"\x01" + b"\xff" * 12,
        b"\xff" * 1000,
    ],
    ids=lambda b: b[:8].hex() + f"-{len(b)}",
)
def test_malformed_binary_is_refused(binary: bytes) -> None:
    with pytest.raises(InvalidCid):
        CID(binary)


RAW_TEXT = KNOWN[0][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "z",
        "Qm",
        "/ipfs/" + RAW_TEXT,
        " " + RAW_TEXT,
        RAW_TEXT + "\n",
        RAW_TEXT + "=",
        RAW_TEXT[:20] + "_" + RAW_TEXT[20:],
        RAW_TEXT[:-1] + "f",  # non-zero trailing bits
        RAW_TEXT[:10] + RAW_TEXT[10].upper() + RAW_TEXT[11:],
        RAW_TEXT[:-1],
        RAW_TEXT + "a",
        KNOWN[1][0][:-1] + "0",  # 0 is outside base58
        KNOWN[1][0][:-1],
        "z" + KNOWN[1][0],  # a version 0 CID with a multibase prefix
        multibase.encode("base32", CID.parse(KNOWN[1][0]).binary),
        "x" + RAW_TEXT[1:],
        "b" + "a" * 100_000,
        "z" + "z" * 1_000_000,
        "ｂafy",
    ],
    ids=lambda t: f"{t[:16]!r}-{len(t)}",
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCid):
        CID.parse(text)


def test_text_and_other_types_are_no_binary_cid() -> None:
    for value in (RAW_TEXT, 5, None, [1]):
        with pytest.raises(InvalidCid):
            CID(value)  # type: ignore[arg-type]
    assert CID(memoryview(CID.of(HELLO).binary)) == CID.of(HELLO)  # type: ignore[arg-type]


def test_identity_cid_carries_its_block_up_to_the_budget() -> None:
    cid = CID.of(b"tiny", codecs.RAW, codecs.IDENTITY)
    assert cid.is_identity
    assert cid.digest == b"tiny"
    cid.check(b"tiny")
    with pytest.raises(IntegrityError):
        cid.check(b"tinY")
    assert CID.parse(str(CID.of(bytes(128), hash_code=codecs.IDENTITY))).digest == bytes(128)
    with pytest.raises(InvalidCid):
        CID.of(bytes(129), hash_code=codecs.IDENTITY)


@pytest.mark.parametrize("code", [c for c in codecs.DIGEST_SIZES if multihash.can_digest(c) and c != codecs.SHA1])
def test_each_hash_function_checks_its_blocks(code: int) -> None:
    cid = CID.of(HELLO, hash_code=code)
    cid.check(HELLO)
    assert len(cid.digest) == codecs.DIGEST_SIZES[code]
    with pytest.raises(IntegrityError):
        cid.check(HELLO + b"!")


def test_git_objects_verify_but_new_sha1_addresses_are_refused() -> None:
    cid = CID.from_digest(hashlib.sha1(HELLO, usedforsecurity=False).digest(), codecs.GIT_RAW, codecs.SHA1)
    cid.check(HELLO)
    with pytest.raises(InvalidInput, match="sha1"):
        CID.of(HELLO, codecs.GIT_RAW, codecs.SHA1)


def test_hash_we_cannot_compute_is_unsupported_not_wrong() -> None:
    cid = CID.from_digest(bytes(32), codecs.RAW, codecs.KECCAK_256)
    with pytest.raises(Unsupported):
        cid.check(HELLO)
    unknown = CID.from_digest(bytes(20), codecs.RAW, 0x1234)
    assert CID.parse(str(unknown)) == unknown
    with pytest.raises(Unsupported):
        unknown.check(HELLO)


def test_version_0_holds_only_dag_pb_with_sha2_256() -> None:
    for args in ((codecs.RAW, codecs.SHA2_256, 0), (codecs.DAG_PB, codecs.BLAKE3, 0), (codecs.RAW, codecs.SHA2_256, 2)):
        with pytest.raises(InvalidCid):
            CID.of(HELLO, *args)
    with pytest.raises(InvalidCid):
        CID.parse(KNOWN[1][0]).encode("base32")
    with pytest.raises(InvalidInput):
        CID.of(HELLO).encode("base1024")


def test_cid_is_an_immutable_value() -> None:
    cid = CID.of(HELLO)
    for action in (lambda: setattr(cid, "binary", b""), lambda: delattr(cid, "binary"), lambda: setattr(cid, "x", 1)):
        with pytest.raises(AttributeError):
            action()
    with pytest.raises(TypeError):
        type("Sub", (CID,), {})
    assert pickle.loads(pickle.dumps(cid)) == cid
    assert copy.copy(cid) is cid is copy.deepcopy(cid)
    assert {cid: 1}[CID(cid.binary)] == 1
    assert cid != cid.binary
    assert repr(cid) == f"CID({RAW_TEXT!r})"
    assert "raw" in cid.describe()


@given(st.lists(digests, min_size=2, max_size=8))
def test_order_is_that_of_the_binary_form(parts: list[bytes]) -> None:
    cids = [CID.from_digest(part) for part in parts]
    assert [c.binary for c in sorted(cids)] == sorted(c.binary for c in cids)
    assert cids[0] <= cids[0] >= cids[0]


@given(st.integers(0, varint.MAX_VALUE))
def test_varint_round_trips(value: int) -> None:
    data = varint.encode(value)
    assert varint.decode(b"\xff" + data + b"\x00", 1) == (value, 1 + len(data))
    assert varint.size(value) == len(data)
    assert data == multiformats.varint.encode(value)


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x00", b"\xff\x00", b"\xff" * 9, b"\x80" * 8 + b"\x80\x01", b"\xff" * 4096]
)
def test_malformed_varint_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        varint.decode(data)


def test_varint_out_of_range_is_refused() -> None:
    for value in (-1, 1 << 63):
        with pytest.raises(InvalidInput):
            varint.encode(value)


def test_names_and_numbers_of_codecs_agree() -> None:
    assert codecs.codec_code("dag-cbor") == codecs.codec_code("0x71") == codecs.DAG_CBOR
    assert codecs.codec_name(0x71) == "dag-cbor"
    assert codecs.hash_name(codecs.hash_code("blake3")) == "blake3"
    assert codecs.codec_name(0x99999) == "0x99999"
    for name in ("nope", "0x", "0xzz", "0x_1", ""):
        with pytest.raises(KitError):
            codecs.codec_code(name)
    for code, name in codecs.CODEC_NAMES.items():
        assert multiformats.multicodec.get(name).code == code
    for code, name in codecs.HASH_NAMES.items():
        assert multiformats.multicodec.get(name).code == code
