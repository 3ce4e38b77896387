"""CARv1 and CARv2: round trips, golden bytes, hostile files, recovery of torn files, ipfs-car as a peer."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.errors import BudgetExceeded, FormatError, IntegrityError, InvalidInput, KitError
from ipfs_kit.ipld import CID, Budgets, car, codecs, dag_cbor, varint

Items = list[tuple[CID, bytes]]


def block(data: bytes, codec: int = codecs.RAW, hash_code: int = codecs.SHA2_256) -> tuple[CID, bytes]:
    return CID.of(data, codec, hash_code), data


BLOCKS: st.SearchStrategy[Items] = st.lists(
    st.builds(
        block,
        st.binary(max_size=120),
        st.sampled_from([codecs.RAW, codecs.DAG_JSON, codecs.GIT_RAW, 0x300001]),
        st.sampled_from([codecs.SHA2_256, codecs.BLAKE3, codecs.SHA2_512, codecs.IDENTITY]),
    )
    | st.binary(max_size=60).map(lambda d: (CID.of(d, codecs.DAG_PB, version=0), d)),
    max_size=12,
)


class Pipe:
    """A stream that cannot seek and returns short reads."""

    def __init__(self, data: bytes, step: int = 7) -> None:
        self._file = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def made(items: Items, version: int = 1, roots: int = 1, **options: bool) -> bytes:
    out = io.BytesIO()
    total = car.write_car(out, [cid for cid, _ in items[:roots]], items, version, **options)
    assert total == out.tell() == len(out.getvalue())
    return out.getvalue()


@given(BLOCKS, st.sampled_from([1, 2]), st.booleans(), st.integers(1, 300))
def test_what_is_written_is_read_back_from_a_pipe(items: Items, version: int, index: bool, step: int) -> None:
    data = made(items, version, index=index)
    reader = car.read_car(Pipe(data, step), check_index=True)
    assert (reader.version, reader.roots) == (version, [cid for cid, _ in items[:1]])
    assert list(reader) == items
    assert reader.block_count == len(items)


def test_version_1_bytes_follow_the_specification() -> None:
    cid, data = block(b"hello")
    header = bytes.fromhex("a265726f6f747381d82a582500") + cid.binary + bytes.fromhex("6776657273696f6e01")
    assert made([(cid, data)]) == bytes((len(header),)) + header + bytes((41,)) + cid.binary + b"hello"


def test_version_2_layout_follows_the_specification() -> None:
    items = [block(b"hello"), block(b"world")]
    inner = made(items)
    data = made(items, 2)
    assert data[:11] == bytes.fromhex("0aa16776657273696f6e02")
    characteristics, offset, size, index_at = struct.unpack("<16sQQQ", data[11:51])
    assert (characteristics[0], offset, size, index_at) == (0x80, 51, len(inner), 51 + len(inner))
    assert data[offset:index_at] == inner
    index = data[index_at:]
    assert index[:2] == varint.encode(0x0401)
    assert struct.unpack_from("<IQIIQ", index, 2) == (1, codecs.SHA2_256, 1, 40, 80)
    entries = sorted((cid.digest, section.offset) for (cid, _), section in zip(items, sections(inner), strict=True))
    assert index[30:] == b"".join(digest + struct.pack("<Q", at) for digest, at in entries)


def sections(data: bytes) -> Iterator[car.Section]:
    file = io.BytesIO(data)
    _, start = car.read_header(file)
    return car.scan(file, start)


@given(BLOCKS)
def test_scan_finds_every_section_without_loading_blocks(items: Items) -> None:
    data = made(items)
    found = list(sections(data))
    assert [(s.cid, data[s.data_offset : s.end]) for s in found] == items
    for section, (cid, body) in zip(found, items, strict=True):
        assert section.end - section.offset == car.section_size(cid, len(body))
        prefix = car.section_prefix(cid, len(body))
        assert data[section.offset : section.end] == prefix + body


def test_scan_reads_little_of_a_file_of_large_blocks() -> None:
    read = 0

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            nonlocal read
            part = super().read(size)
            read += len(part)
            return part

    items = [block(bytes([i]) * 1_000_000) for i in range(20)]
    file = Counted(made(items))
    _, start = car.read_header(file)
    assert [s.cid for s in car.scan(file, start)] == [cid for cid, _ in items]
    assert read < 400_000


@given(BLOCKS, st.data())
def test_torn_file_recovers_to_the_last_good_section(items: Items, draw: st.DataObject) -> None:
    items = [block(b"first"), *((cid, data) for cid, data in items if not cid.is_identity)]
    data = made(items)
    file = io.BytesIO(data)
    roots, start = car.read_header(file)
    ends = [start] + [s.end for s in car.scan(file, start)]
    cut = draw.draw(st.integers(start, len(data)))
    tail = draw.draw(st.sampled_from([b"", bytes(1), bytes(4096), b"\xff" * 50, b"\x05abc"]))
    found = car.recover(io.BytesIO(data[:cut] + tail), start)
    good = max(end for end in ends if end <= cut)
    # A cut block may be completed by its own first bytes; that section is then good, and verified.
    if found.end == good:
        assert (found.reason is None) == (cut + len(tail) == good)
    else:
        assert (data[:cut] + tail)[: found.end] == data[: found.end]
    assert [s.cid for s in found.sections] == [cid for cid, _ in items[: len(found.sections)]]
    assert roots == [items[0][0]]


def test_identity_section_ends_the_good_part_because_it_vouches_only_for_itself() -> None:
    items = [block(b"first"), block(b"\x01\x01", hash_code=codecs.IDENTITY)]
    data = made(items)
    _, start = car.read_header(io.BytesIO(data))
    for torn in (data, data[:-2] + bytes(2), data[:-4] + bytes(100)):
        assert [s.cid for s in car.recover(io.BytesIO(torn), start).sections] == [items[0][0]]


def test_block_of_old_bytes_ends_the_good_part() -> None:
    items = [block(bytes([i]) * 100) for i in range(5)]
    data = bytearray(made(items))
    _, start = car.read_header(io.BytesIO(data))
    third = list(sections(bytes(data)))[2]
    data[third.data_offset + 50] ^= 1
    found = car.recover(io.BytesIO(data), start)
    assert found.end == third.offset
    assert found.reason is not None
    assert str(third.cid) in found.reason


@given(BLOCKS.filter(len), st.sampled_from([1, 2]), st.data())
def test_no_changed_byte_yields_a_wrong_block(items: Items, version: int, draw: st.DataObject) -> None:
    data = bytearray(made(items, version))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        for cid, body in car.read_car(bytes(data), check_index=True):
            cid.check(body)
    except KitError:
        return


@given(st.binary(max_size=200))
def test_any_bytes_are_a_car_or_refused(data: bytes) -> None:
    for body in (data, made([block(b"x")]) + data, made([block(b"x")], 2)[:51] + data):
        try:
            for cid, found in car.read_car(body, check_index=True):
                cid.check(found)
        except KitError:
            continue


def frame(obj: object) -> bytes:
    body = dag_cbor.encode(obj)
    return varint.encode(len(body)) + body


A, A_DATA = block(b"a")
HEADER = car.encode_header([A])
REFUSED = {
    "empty": b"",
    "zero header": b"\x00",
    "header cut": HEADER[:-1],
    "header varint cut": b"\x80",
    "no map": frame([1]),
    "no version": frame({"roots": []}),
    "no roots": frame({"version": 1}),
    "version 3": frame({"roots": [], "version": 3}),
    "version true": frame({"roots": [], "version": True}),
    "roots of text": frame({"roots": ["x"], "version": 1}),
    "extra field": frame({"roots": [], "version": 1, "x": 1}),
    "zero padding": HEADER + bytes(10),
    "section cut": HEADER + car.section_prefix(A, 1),
    "section varint cut": HEADER + b"\x80",
    "section varint not minimal": HEADER + b"\xa5\x00" + A.binary + b"a",
    "section shorter than its cid": HEADER + b"\x05" + A.binary + b"a",
    "cid of version 2": HEADER + b"\x26\x02" + A.binary[1:] + b"a",
    "wrong block": HEADER + car.section_prefix(A, 1) + b"b",
    "pragma alone": bytes.fromhex("0aa16776657273696f6e02"),
    "version 2 unfinished": bytes.fromhex("0aa16776657273696f6e02") + bytes(40) + HEADER,
    "version 2 in version 2": made([], 2)[:51] + made([], 2),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_malformed_car_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        list(car.read_car(data))
    with pytest.raises(IntegrityError):
        list(car.read_car(Pipe(data, 1)))


BOMBS = {
    "header of 2^62 bytes": b"\xff" * 8 + b"\x3f",
    "section of 2^62 bytes": HEADER + b"\xff" * 8 + b"\x3f" + A.binary,
    "roots": frame({"roots": [A] * 600, "version": 1}),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_claimed_sizes_over_budget_are_refused_at_once(data: bytes) -> None:
    with pytest.raises(BudgetExceeded):
        list(car.read_car(data))


def test_block_count_and_section_size_have_budgets() -> None:
    data = made([block(bytes([i]) * 50) for i in range(5)])
    with pytest.raises(BudgetExceeded):
        list(car.read_car(data, replace(Budgets(), car_blocks=4)))
    with pytest.raises(BudgetExceeded):
        list(car.read_car(data, replace(Budgets(), car_section_bytes=80)))
    with pytest.raises(BudgetExceeded):
        made([block(bytes(9 * 1024 * 1024))])


def test_writer_refuses_a_block_that_is_not_its_cid() -> None:
    with pytest.raises(IntegrityError):
        made([(A, b"b")])
    with pytest.raises(InvalidInput):
        made([], 3)

    class Sink:
        def write(self, data: bytes, /) -> int:
            return len(data)

    assert car.write_car(Sink(), [A], [(A, A_DATA)]) == len(made([(A, A_DATA)]))
    with pytest.raises(InvalidInput, match="seekable"):
        car.write_car(Sink(), [A], [(A, A_DATA)], 2)


def test_stream_is_read_once() -> None:
    reader = car.read_car(made([(A, A_DATA)]))
    assert list(reader) == [(A, A_DATA)]
    with pytest.raises(FormatError, match="once"):
        list(reader)


@given(BLOCKS)
def test_index_finds_every_block(items: Items) -> None:
    inner = made(items)
    found = list(sections(inner))
    index = car.decode_index(car.encode_index((s.cid, s.offset) for s in found))
    assert len(index) == len(found)
    for section in found:
        assert section.offset in index.find(section.cid)
    assert index.find(CID.of(b"\xff" * 200)) == []
    assert {entry.offset for entry in index} == {s.offset for s in found}


def test_index_of_the_older_format_is_read_and_checked() -> None:
    items = [block(b"hello"), block(b"world")]
    data = made(items, 2)
    _, offset, size, index_at = struct.unpack("<16sQQQ", data[11:51])
    found = list(sections(data[offset : offset + size]))
    entries = sorted(s.cid.digest + struct.pack("<Q", s.offset) for s in found)
    older = varint.encode(0x0400) + struct.pack("<IIQ", 1, 40, 80) + b"".join(entries)
    index = car.decode_index(older)
    assert [index.find(s.cid) for s in found] == [[s.offset] for s in found]
    assert list(car.read_car(data[:index_at] + older, check_index=True)) == items


def test_wrong_index_is_ignored_unless_asked_for() -> None:
    items = [block(b"hello"), block(b"world")]
    data = made(items, 2)
    wrong = data[:-8] + struct.pack("<Q", 3)
    assert list(car.read_car(wrong)) == items
    with pytest.raises(IntegrityError, match="index"):
        list(car.read_car(wrong, check_index=True))
    short = data[: struct.unpack("<Q", data[43:51])[0]] + car.encode_index([])
    with pytest.raises(IntegrityError, match="fully indexed"):
        list(car.read_car(short, check_index=True))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        varint.encode(0x0401),
        varint.encode(0x0401) + struct.pack("<I", 1),
        varint.encode(0x0400) + struct.pack("<IIQ", 1, 40, 1 << 60),
        varint.encode(0x0400) + struct.pack("<IIQ", 1, 0, 0),
        varint.encode(0x0400) + struct.pack("<IIQ", 1, 1 << 31, 0),
        varint.encode(0x0400) + struct.pack("<I", 1 << 31),
        varint.encode(0x0400) + struct.pack("<IIQ", 1, 9, 18) + b"\x02" + bytes(8) + b"\x01" + bytes(8),
        varint.encode(0x0400) + struct.pack("<IIQ", 1, 9, 10) + bytes(10),
        car.encode_index([(A, 1)]) + b"\0",
    ],
)
def test_malformed_index_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        car.decode_index(data)


def test_unknown_index_format_is_refused() -> None:
    with pytest.raises(InvalidInput):
        car.decode_index(varint.encode(0x0402) + bytes(8))
    with pytest.raises(BudgetExceeded):
        car.decode_index(varint.encode(0x0401) + struct.pack("<I", 1 << 31))
    with pytest.raises(BudgetExceeded):
        car.decode_index(bytes(100), replace(Budgets(), car_index_bytes=99))


def tool() -> str | None:
    for folder in (Path(__file__).resolve().parents[2] / "node_modules/.bin", Path("/tmp/ipfs-car/node_modules/.bin")):
        if (folder / "ipfs-car").exists():
            return str(folder / "ipfs-car")
    return shutil.which("ipfs-car")


@pytest.mark.slow
@pytest.mark.skipif(tool() is None, reason="the npm tool ipfs-car is not installed (npm install ipfs-car)")
def test_ipfs_car_reads_ours_and_we_read_its(tmp_path: Path) -> None:
    command = tool()
    assert command is not None
    content = bytes(range(256)) * 8000
    (tmp_path / "in.bin").write_bytes(content)
    subprocess.run(
        [command, "pack", "in.bin", "--no-wrap", "--output", "theirs.car"],
        cwd=tmp_path,
        check=True,
        timeout=120,
        capture_output=True,
    )
    with (tmp_path / "theirs.car").open("rb") as file:
        reader = car.read_car(file)
        items = list(reader)
    assert b"".join(data for cid, data in items if cid.codec == codecs.RAW) == content
    with (tmp_path / "ours.car").open("wb") as out:
        car.write_car(out, reader.roots, items)
    listed = subprocess.run(
        [command, "roots", "ours.car"], cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True
    )
    assert listed.stdout.split() == [str(cid) for cid in reader.roots]
    blocks = subprocess.run(
        [command, "blocks", "ours.car"], cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True
    )
    assert blocks.stdout.split() == [str(cid) for cid, _ in items]
