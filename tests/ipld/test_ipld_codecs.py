"""dag-cbor, dag-json, dag-pb and links: round trips, the reference encoder, published fixtures and hostile bytes."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from typing import Any

import dag_cbor as reference
import multiformats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput, KitError
from ipfs_kit.ipld import CID, Budgets, codecs, dag_cbor, dag_json, dag_pb
from ipfs_kit.ipld.links import links

CIDS = st.builds(
    CID.from_digest, st.binary(min_size=32, max_size=32), st.sampled_from([codecs.RAW, codecs.DAG_PB, codecs.DAG_CBOR])
) | st.binary(min_size=32, max_size=32).map(lambda d: CID(b"\x12\x20" + d))
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.binary(max_size=40)
    | CIDS
)
NODES = st.recursive(SCALARS, lambda n: st.lists(n, max_size=5) | st.dictionaries(TEXT, n, max_size=5), max_leaves=20)
A = CID.of(b"a")


def same(a: Any, b: Any) -> bool:
    """Equality that tells -0.0 from 0.0, True from 1 and int from float."""
    if type(a) is not type(b):
        return False
    if type(a) is list:
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return struct.pack(">d", a) == struct.pack(">d", b) if type(a) is float else a == b


def to_reference(node: Any) -> Any:
    if type(node) is CID:
        return multiformats.CID.decode(node.binary)
    if type(node) is list:
        return [to_reference(n) for n in node]
    if type(node) is dict:
        return {k: to_reference(v) for k, v in node.items()}
    return node


@given(NODES)
def test_dag_cbor_round_trips_and_equals_the_reference_encoder(node: Any) -> None:
    data = dag_cbor.encode(node)
    assert same(dag_cbor.decode(data), node)
    assert data == reference.encode(to_reference(node))


@given(st.binary(max_size=60))
def test_any_bytes_are_canonical_dag_cbor_or_refused(data: bytes) -> None:
    try:
        node = dag_cbor.decode(data)
    except FormatError:
        return
    assert dag_cbor.encode(node) == data


@given(NODES, st.data())
def test_a_changed_byte_never_gives_two_encodings_of_one_value(node: Any, draw: st.DataObject) -> None:
    data = bytearray(dag_cbor.encode(node))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        changed = dag_cbor.decode(bytes(data))
    except FormatError:
        return
    assert dag_cbor.encode(changed) == bytes(data)


LINK = b"\xd8\x2a\x58\x25\x00" + A.binary
HOSTILE_CBOR = {
    "empty": b"",
    "trailing": b"\x00\x00",
    "indefinite list": b"\x9f\xff",
    "indefinite map": b"\xbf\xff",
    "indefinite bytes": b"\x5f\x41\x61\xff",
    "indefinite text": b"\x7f\x61\x61\xff",
    "break": b"\xff",
    "reserved length": b"\x1c",
    "long zero": b"\x18\x00",
    "long 23": b"\x18\x17",
    "wide 255": b"\x19\x00\xff",
    "wide 65535": b"\x1a\x00\x00\xff\xff",
    "wide 2^32-1": b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff",
    "long negative": b"\x38\x00",
    "long text length": b"\x78\x01a",
    "long list length": b"\x98\x01\x00",
    "unsorted keys": b"\xa2\x61b\x00\x61a\x00",
    "longer key first": b"\xa2\x62aa\x00\x61b\x00",
    "repeated key": b"\xa2\x61a\x00\x61a\x01",
    "bytes key": b"\xa1\x41a\x00",
    "int key": b"\xa1\x00\x00",
    "other tag": b"\xc1\x00",
    "bignum tag": b"\xc2\x41\x01",
    "self-describing tag": b"\xd9\xd9\xf7\x00",
    "long tag 42": b"\xd9\x00\x2a" + LINK[2:],
    "tag on text": b"\xd8\x2a\x61a",
    "tag on nothing": b"\xd8\x2a",
    "link without prefix": b"\xd8\x2a\x58\x24" + A.binary,
    "empty link": b"\xd8\x2a\x40",
    "link of prefix only": b"\xd8\x2a\x41\x00",
    "link too short": b"\xd8\x2a\x58\x24\x00" + A.binary[:-1],
    "link with tail": b"\xd8\x2a\x58\x26\x00" + A.binary + b"\0",
    "half float": b"\xf9\x3c\x00",
    "single float": b"\xfa\x3f\x80\x00\x00",
    "nan": b"\xfb\x7f\xf8" + bytes(6),
    "infinity": b"\xfb\x7f\xf0" + bytes(6),
    "minus infinity": b"\xfb\xff\xf0" + bytes(6),
    "undefined": b"\xf7",
    "simple value": b"\xe0",
    "simple byte": b"\xf8\x20",
    "long false": b"\xf8\x14",
    "bad utf-8": b"\x61\xff",
    "surrogate in utf-8": b"\x63\xed\xa0\x80",
    "cut text": b"\x65abc",
    "cut list": b"\x83\x00\x00",
    "cut map": b"\xa1\x61a",
    "cut float": b"\xfb\x3f",
    "huge bytes": b"\x5b" + b"\xff" * 8,
    "huge list": b"\x9b" + b"\xff" * 8,
    "huge map": b"\xbb\x7f" + b"\xff" * 7,
    "huge list with some bytes": b"\x9a\x7f\xff\xff\xff" + bytes(5000),
}


@pytest.mark.parametrize("data", HOSTILE_CBOR.values(), ids=HOSTILE_CBOR.keys())
def test_non_canonical_dag_cbor_is_refused(data: bytes) -> None:
    for body in (data, b"\x82\x00" + data, b"\x82" + b"\x59\x01\x00" + bytes(256) + data):
        with pytest.raises(FormatError):
            dag_cbor.decode(body)
    with pytest.raises(FormatError):
        dag_cbor.decode_links(data)


def test_deep_or_bloated_dag_cbor_is_refused_before_it_costs_memory() -> None:
    deep = b"\x81" * 4_000_000 + b"\x00"
    # Each list claims as many items as bytes remain: built naively this takes terabytes.
    claims = b"".join(b"\x9a" + struct.pack(">I", 4_000_000 - 5 * i - 5) for i in range(100_000))
    for data in (deep, claims + bytes(3_000_000), b"\x80" * 200, b"\x9a\x00\x20\x00\x00" + bytes(2_097_152)):
        with pytest.raises((BudgetExceeded, FormatError)):
            dag_cbor.decode(data)
    with pytest.raises(BudgetExceeded):
        dag_cbor.decode(b"\x5a\x00\x50\x00\x00" + bytes(0x500000))
    limit = Budgets().cbor_depth
    assert dag_cbor.decode(b"\x81" * limit + b"\x00")
    with pytest.raises(BudgetExceeded):
        dag_cbor.decode(b"\x81" * (limit + 1) + b"\x00")


def test_many_random_bytes_inside_strings_are_no_depth() -> None:
    node = [bytes([0x80]) * 1000, {"k": [bytes(range(256)), A] * 50}]
    assert dag_cbor.decode(dag_cbor.encode(node)) == node


def test_values_without_a_dag_cbor_form_are_refused() -> None:
    cycle: list[Any] = []
    cycle.append([cycle])
    loop: dict[str, Any] = {}
    loop["self"] = {"again": loop}
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    wide: list[Any] = []
    for _ in range(60):
        wide = [wide, wide]
    bad = [
        math.nan,
        math.inf,
        1 << 64,
        -(1 << 64) - 1,
        {1: 2},
        {b"k": 1},
        {1, 2},
        object(),
        bytearray(b"x"),
        "\ud800",
        1j,
    ]
    for value in [*bad, *([v] for v in bad), cycle, loop, deep, wide]:
        with pytest.raises(InvalidInput):
            dag_cbor.encode(value)
        with pytest.raises(InvalidInput):
            dag_json.encode(value)


def test_bytes_that_look_like_a_cid_stay_bytes() -> None:
    node = {"bytes": A.binary, "link": A, "text": str(A)}
    for codec in (dag_cbor, dag_json):
        back = codec.decode(codec.encode(node))
        assert back == node
        assert [type(back[k]) for k in ("bytes", "link", "text")] == [bytes, CID, str]


def test_tuples_are_written_as_lists() -> None:
    assert dag_cbor.encode((1, (2, {"k": (3,)}))) == dag_cbor.encode([1, [2, {"k": [3]}]])
    assert dag_json.encode((1, (2,))) == b"[1,[2]]"


def test_block_addresses_what_it_encodes() -> None:
    for codec, code in ((dag_cbor, codecs.DAG_CBOR), (dag_json, codecs.DAG_JSON)):
        cid, data = codec.block({"a": 1})
        cid.check(data)
        assert cid.codec == code


# ---------------------------------------------------------------- dag-json


def reserved(node: Any) -> bool:
    if type(node) is list:
        return any(map(reserved, node))
    if type(node) is dict:
        return "/" in node or any(map(reserved, node.values()))
    return False


@given(NODES)
def test_dag_json_round_trips(node: Any) -> None:
    if reserved(node):
        return
    data = dag_json.encode(node)
    assert same(dag_json.decode(data), node)
    json.loads(data)


@given(st.binary(max_size=30) | st.text(alphabet='{}[]",:/\\u0d8bytes 1-.e\n', max_size=30).map(str.encode))
def test_any_bytes_are_dag_json_or_refused(data: bytes) -> None:
    try:
        node = dag_json.decode(data)
    except FormatError:
        return
    assert same(dag_json.decode(dag_json.encode(node)), node)


# What @ipld/dag-json prints for these values.
PRINTED = [
    (0.0, "0.0"),
    (-0.0, "-0.0"),
    (1.0, "1.0"),
    (-0.5, "-0.5"),
    (8.940696716308594e-8, "8.940696716308594e-8"),
    (1e-7, "1e-7"),
    (0.000001, "0.000001"),
    (1e20, "100000000000000000000.0"),
    (1e21, "1e+21"),
    (1.5e300, "1.5e+300"),
    (123456789012345680.0, "123456789012345680.0"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (123.456, "123.456"),
    (12e-5, "0.00012"),
]


@pytest.mark.parametrize(("value", "text"), PRINTED)
def test_floats_print_as_in_ecmascript(value: float, text: str) -> None:
    assert dag_json.encode(value) == text.encode()
    assert same(dag_json.decode(text.encode()), value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_printed_floats_read_back_exactly(value: float) -> None:
    text = dag_json.float_text(value)
    assert same(float(text), value)
    assert "." in text or "e" in text


def test_dag_json_sorts_keys_by_bytes_and_wraps_links_and_bytes() -> None:
    node = {"b": b"\xfb\xff", "aa": A, "é": [], "Z": {}, "": None, "😀": 1, "\uffff": 2}
    assert dag_json.encode(node).decode() == (
        '{"":null,"Z":{},"aa":{"/":"' + str(A) + '"},"b":{"/":{"bytes":"+/8"}},"é":[],"\uffff":2,"😀":1}'
    )


HOSTILE_JSON = [
    b"",
    b" 1",
    b"1 ",
    b"[1, 2]",
    b"{}{}",
    b"[1,]",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"01",
    b"18446744073709551616",
    b"-18446744073709551617",
    b"9" * 100_000,
    b'"\xff"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'{"\\ud800":1}',
    b'"\n"',
    b'"' + b"a" * 100_000,
    b'"' + b"\\" * 100_001,
    b'{"b":1,"a":2}',
    b'{"a":1,"a":2}',
    b"\xef\xbb\xbf1",
    b"'a'",
    b'{"/":"nope"}',
    b'{"/":""}',
    b'{"/":"%b","a":1}' % str(A).encode(),
    b'{"/":"%b"}' % A.encode("base36").encode(),
    b'{"/":{"bytes":"AA=="}}',
    b'{"/":{"bytes":"AB"}}',
    b'{"/":{"bytes":"A"}}',
    b'{"/":{"bytes":"-_8"}}',
    b'{"/":{"bytes":"AA","z":1}}',
    b'{"/":{"bytes":"AA"},"z":1}',
    b'{"/":{"bytes":"\xc3\xa9"}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", HOSTILE_JSON, ids=lambda d: repr(d[:24]) + str(len(d)))
def test_hostile_dag_json_is_refused(data: bytes) -> None:
    with pytest.raises((FormatError, BudgetExceeded)):
        dag_json.decode(data)
    with pytest.raises((FormatError, BudgetExceeded)):
        dag_json.decode(b"[0," + data + b"]")


def test_reserved_key_is_free_where_no_reader_can_mistake_it() -> None:
    for node in (
        {"/": 1},
        {"/": None},
        {"/": {"a": "x"}},
        {"/": {"bytes": 1}},
        {"/": ["x"]},
        {"!": 1, "/": "x"},
        {"bytes": "AA"},
    ):
        assert dag_json.decode(dag_json.encode(node)) == node
    for node in ({"/": "x"}, {"/": "x", "z": 1}, {"/": {"bytes": "AA"}}, {"/": {"bytes": "AA", "z": 1}}):
        with pytest.raises(InvalidInput):
            dag_json.encode(node)
        with pytest.raises(InvalidInput):
            dag_json.encode([node])


def test_json_budgets_bound_size_depth_and_items() -> None:
    small = replace(Budgets(), json_bytes=64, json_depth=3, json_items=10)
    for data in (b'"' + b"a" * 64 + b'"', b"[[[[[[0]]]]]]", b"[0,0,0,0,0,0,0,0,0,0,0]"):
        with pytest.raises(BudgetExceeded):
            dag_json.decode(data, small)
    with pytest.raises(BudgetExceeded):
        dag_json.encode("a" * 64, small)


# ---------------------------------------------------------------- dag-pb

# From ipld/codec-fixtures (Apache-2.0 or MIT): inputs every dag-pb reader must refuse.
REFUSED_PB = {
    "link without hash": "1200",
    "data and link without hash": "12000a050001020304",
    "zero hash": "12020a00",
    "just a name": "120b1209736f6d65206e616d65",
    "just a size": "120318f207",
    "data between links": "12240a221220cf92fdefcdc34cac009c8b05eb662be0618db9de55ecd42785e9ec6712f8df650a04080218"
    "0612240a221220cf92fdefcdc34cac009c8b05eb662be0618db9de55ecd42785e9ec6712f8df65",
    "unknown field": "1a00",
    "wrong wire type": "0800",
    "data twice": "0a000a00",
    "cut data": "0a05aa",
    "cut link": "1224",
    "link length cut": "12",
    "data length cut": "0a",
    "link length not minimal": "1280000a00",
    "hash twice": "12480a221220" + "cf" * 32 + "0a221220" + "cf" * 32,
    "name before hash": "12261200" + "0a221220" + "cf" * 32,
    "size before name": "12281800" + "0a221220" + "cf" * 32 + "1200",
    "unknown link field": "12260a221220" + "cf" * 32 + "2200",
    "hash is no cid": "12040a02ffff",
    "huge length": "12ffffffffffffffff7f",
    "size over 63 bits": "122f0a221220" + "cf" * 32 + "18ffffffffffffffffff01",
}


@pytest.mark.parametrize("text", REFUSED_PB.values(), ids=REFUSED_PB.keys())
def test_malformed_dag_pb_is_refused(text: str) -> None:
    data = bytes.fromhex(text)
    with pytest.raises(FormatError):
        dag_pb.decode(data)
    with pytest.raises(FormatError):
        links(CID.of(data, codecs.DAG_PB), data)


def test_both_field_orders_read_and_one_is_written() -> None:
    # From ipld/codec-fixtures.
    early = bytes.fromhex(
        "0a02080112330a24015512205891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03120968656c6c6f2e7478741806"
    )
    node = dag_pb.decode(early)
    assert node == dag_pb.PBNode(b"\x08\x01", (dag_pb.PBLink(CID.of(b"hello\n"), b"hello.txt", 6),))
    canonical = dag_pb.encode(node)
    assert str(CID.of(canonical, codecs.DAG_PB)) == "bafybeigdcg7pksx2zk5336vrfsktjodlr4rbfz37qr3koc5xboxe5ekv24"
    data, raw = dag_pb.split_links(early)
    assert dag_pb.join(data, raw) == canonical
    assert dag_pb.decode(b"") == dag_pb.PBNode()
    assert dag_pb.decode(b"\x0a\x00") == dag_pb.PBNode(b"")


PB_LINKS = st.builds(
    dag_pb.PBLink,
    CIDS | st.binary(max_size=128).map(lambda d: CID.of(d, hash_code=codecs.IDENTITY)),
    st.none() | st.binary(max_size=200),
    st.none() | st.integers(0, (1 << 63) - 1),
)


@given(st.none() | st.binary(max_size=300), st.lists(PB_LINKS, max_size=8))
def test_dag_pb_round_trips_sorted_by_name(data: bytes | None, children: list[dag_pb.PBLink]) -> None:
    block = dag_pb.encode(dag_pb.PBNode(data, children))
    node = dag_pb.decode(block)
    assert node.data == data
    assert list(node.links) == sorted(children, key=lambda link: link.name or b"")
    assert dag_pb.encode(node) == block
    payload, raw = dag_pb.split_links(block)
    assert payload == (data or b"")
    assert dag_pb.join(data, raw) == block
    assert [dag_pb.link_name(r) for r in raw] == [link.name or b"" for link in node.links]
    assert [dag_pb.link_cid(r) for r in raw] == [link.cid.binary for link in node.links]
    assert links(CID.of(block, codecs.DAG_PB), block) == [link.cid for link in node.links]


@given(CIDS, st.binary(max_size=200), st.integers(0, (1 << 63) - 1) | st.integers(0, 20_000))
def test_raw_links_round_trip(cid: CID, name: bytes, tsize: int) -> None:
    raw = dag_pb.link_bytes(cid.binary, name, tsize)
    assert raw == dag_pb.encode_link(dag_pb.PBLink(cid, name, tsize))
    assert dag_pb.parse_link(raw) == (cid.binary, name, tsize)
    assert dag_pb.link_name(raw) == name


@given(st.binary(max_size=80))
def test_any_bytes_are_dag_pb_or_refused(data: bytes) -> None:
    try:
        node = dag_pb.decode(data)
    except FormatError:
        return
    assert dag_pb.decode(dag_pb.encode(node)).data == node.data


@given(st.binary(max_size=60))
def test_any_raw_link_parses_or_is_refused(raw: bytes) -> None:
    for read in (dag_pb.parse_link, dag_pb.link_name, dag_pb.link_cid, dag_pb.decode_link):
        try:
            read(raw)
        except FormatError:
            continue


def test_too_many_links_are_refused() -> None:
    few = replace(Budgets(), links_per_node=3)
    raw = dag_pb.link_bytes(A.binary, b"", 1)
    assert len(dag_pb.decode(raw * 3, few).links) == 3
    for data, codec in (
        (raw * 4, codecs.DAG_PB),
        (dag_cbor.encode([A] * 4), codecs.DAG_CBOR),
        (dag_json.encode([A] * 4), codecs.DAG_JSON),
    ):
        with pytest.raises(BudgetExceeded):
            links(CID.of(data, codec), data, few)


# ---------------------------------------------------------------- links


@given(NODES)
def test_links_are_found_in_order_of_appearance(node: Any) -> None:
    def collect(value: Any) -> list[CID]:
        if type(value) is CID:
            return [value]
        children = value if type(value) is list else value.values() if type(value) is dict else ()
        return [cid for child in children for cid in collect(child)]

    data = dag_cbor.encode(node)
    # Decoding restores the canonical key order, in which links appear in the bytes.
    assert links(CID.of(data, codecs.DAG_CBOR), data) == collect(dag_cbor.decode(data))
    if not reserved(node):
        data = dag_json.encode(node)
        assert links(CID.of(data, codecs.DAG_JSON), data) == collect(dag_json.decode(data))


def test_raw_and_unknown_codecs_have_no_links() -> None:
    data = dag_cbor.encode([A])
    for codec in (codecs.RAW, codecs.CBOR, codecs.GIT_RAW, 0x9999):
        assert links(CID.of(data, codec), data) == []


def test_every_error_is_one_of_ours() -> None:
    for data in HOSTILE_CBOR.values():
        for codec in (codecs.DAG_CBOR, codecs.DAG_JSON, codecs.DAG_PB):
            try:
                links(CID.of(data, codec), data)
            except KitError:
                continue
