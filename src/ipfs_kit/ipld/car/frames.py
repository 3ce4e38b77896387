"""The pieces of a CARv1 file (ipld.io/specs/transport/car/carv1): header, sections, and scans over them.

::

    CARv1   := varint(len) header section*        header: dag-cbor {"roots": [CID…], "version": 1}
    section := varint(len(cid) + len(data)) cid data

The pack store appends sections made here and scans its packs with ``scan``; the CAR reader and writer build on the same
functions. Offsets count bytes from the first byte of the CARv1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, FormatError, IntegrityError, InvalidCid, InvalidInput, Unsupported
from ipfs_kit.ipld import dag_cbor, varint
from ipfs_kit.ipld.budgets import DEFAULT, KIB, Budgets
from ipfs_kit.ipld.cid import CID

V2_PRAGMA: Final = bytes.fromhex("0aa16776657273696f6e02")
"""First 11 bytes of a CARv2: a CARv1 header frame that says version 2."""

_WINDOW_MIN_BYTES: Final = 4 * KIB
_WINDOW_MAX_BYTES: Final = 256 * KIB
# Lengths of CIDs that begin with these bytes; anything else is parsed field by field.
_V0_CID_BYTES: Final = 34


class Section(NamedTuple):
    """Where one block lies."""

    offset: int
    """First byte of the section, its length varint."""
    cid: CID
    data_offset: int
    """First byte of the block."""
    size: int
    """Bytes of the block."""

    @property
    def end(self) -> int:
        """Offset just past the section."""
        return self.data_offset + self.size


@dataclass(frozen=True, slots=True)
class Recovered:
    """What ``recover`` found."""

    end: int
    """Offset just past the last good section: everything from here on is torn and may be truncated."""
    sections: list[Section]
    """The good sections, in file order."""
    reason: str | None
    """Why reading stopped before the end of the file; None when the file ends cleanly."""


def encode_header(roots: Sequence[CID], budgets: Budgets = DEFAULT) -> bytes:
    """Return a CARv1 header frame, length first.

    Raises:
        BudgetExceeded: There are more roots than a reader accepts.
    """
    if len(roots) > budgets.car_roots:
        raise BudgetExceeded(f"a CAR names at most {budgets.car_roots} roots, not {len(roots)}")
    body = dag_cbor.encode({"roots": list(roots), "version": 1}, budgets)
    return varint.encode(len(body)) + body


def decode_header(body: bytes, budgets: Budgets = DEFAULT) -> list[CID]:
    """Read the body of a CARv1 header frame.

    Returns:
        The roots; some writers leave them empty.

    Raises:
        FormatError: It is not a CARv1 header.
        BudgetExceeded: It names too many roots.
    """
    header = dag_cbor.decode(body, budgets)
    if type(header) is not dict or type(header.get("version")) is not int:
        raise FormatError("not a CAR: the header is not a map with a version")
    if header["version"] != 1:
        raise FormatError(f"CAR version {header['version']} is not readable here: versions are 1 and 2")
    roots = header.get("roots")
    if type(roots) is not list or any(type(root) is not CID for root in roots) or len(header) != 2:
        raise FormatError("not a CARv1 header: it must hold version and a list of root CIDs, and nothing else")
    if len(roots) > budgets.car_roots:
        raise BudgetExceeded(f"CAR names {len(roots)} roots, more than {budgets.car_roots}")
    return roots


def section_prefix(cid: CID, size: int) -> bytes:
    """Return the bytes that precede a block of ``size`` bytes in its section."""
    binary = cid.binary
    return varint.encode(len(binary) + size) + binary


def section_size(cid: CID, size: int) -> int:
    """Return how many bytes the whole section of a block of ``size`` bytes takes."""
    body = len(cid.binary) + size
    return varint.size(body) + body


def cid_size(buffer: bytes, at: int = 0) -> int:
    """Return how many bytes the binary CID at ``at`` takes; ``CID`` checks the rest.

    Raises:
        FormatError: There is no CID there.
    """
    if buffer[at : at + 2] == b"\x12\x20":
        return _V0_CID_BYTES
    version, i = varint.decode(buffer, at)
    if version != 1:
        raise FormatError(f"a section starts with CID version {version}: versions are 0 and 1")
    _, i = varint.decode(buffer, i)
    _, i = varint.decode(buffer, i)
    digest_size, i = varint.decode(buffer, i)
    return i - at + digest_size


def split_section(body: bytes) -> tuple[CID, int]:
    """Read the CID at the front of a section body.

    Returns:
        The CID and the index of the block's first byte.

    Raises:
        FormatError: The section does not start with a CID.
    """
    # All common CIDs start with four one-byte fields; the digest length is the fourth.
    if len(body) >= 36 and body[0] == 1 and body[3] == 32 and body[1] < 0x80 and body[2] < 0x80:
        count = 36
    else:
        count = cid_size(body)
        if count > len(body):
            raise FormatError("a section is too short for its CID")
    try:
        return CID(body[:count]), count
    except InvalidCid as exc:
        raise FormatError(f"a section does not start with a CID: {exc.message}") from exc


def check_section_size(size: int, offset: int, budgets: Budgets) -> None:
    """Refuse a section length that no sound file holds."""
    if size == 0:
        raise FormatError(f"section at offset {offset} is empty (zero padding is not part of CARv1)")
    if size > budgets.car_section_bytes:
        raise BudgetExceeded(
            f"section of {size} bytes at offset {offset} is larger than {budgets.car_section_bytes}", offset=offset
        )


class _Window:
    """Small reads over a seekable file through one buffer that grows while reads stay near each other."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = 0
        self._buffer = b""
        self._want = _WINDOW_MIN_BYTES

    def at(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes at ``offset``; fewer only at the end of the file."""
        i = offset - self._start
        if i < 0 or i + count > len(self._buffer):
            near = 0 <= i <= len(self._buffer)
            self._want = min(self._want * 2, _WINDOW_MAX_BYTES) if near else _WINDOW_MIN_BYTES
            self._file.seek(offset)
            self._buffer = self._file.read(max(count, self._want))
            self._start = offset
            i = 0
        return self._buffer[i : i + count]


def read_header(file: BinaryIO, budgets: Budgets = DEFAULT) -> tuple[list[CID], int]:
    """Read the header of a seekable CARv1 file.

    Returns:
        The roots and the offset of the first section.

    Raises:
        FormatError: The file does not start with a CARv1 header.
        BudgetExceeded: The header is too large.
    """
    file.seek(0)
    head = file.read(varint.MAX_BYTES)
    size, start = varint.decode(head)
    if size > budgets.car_header_bytes:
        raise BudgetExceeded(f"CAR header of {size} bytes is larger than {budgets.car_header_bytes}")
    file.seek(start)
    body = file.read(size)
    if len(body) != size or size == 0:
        raise FormatError("CAR header is cut off")
    return decode_header(body, budgets), start + size


def scan(file: BinaryIO, offset: int, end: int | None = None, budgets: Budgets = DEFAULT) -> Iterator[Section]:
    """Iterate the sections of a seekable CARv1 file without loading their blocks.

    Args:
        file: Opened for reading; its position moves.
        offset: Offset of a section, for instance as returned by ``read_header``.
        end: Offset at which to stop; the end of the file by default.
        budgets: Bounds on section and CID sizes.

    Raises:
        FormatError: A section is malformed or runs past the end.
        BudgetExceeded: A section is too large.
    """
    if end is None:
        end = file.seek(0, 2)
    window = _Window(file)
    # The varint and the largest CID, so that one look at the window finds both.
    head_bytes = varint.MAX_BYTES + budgets.cid_bytes
    while offset < end:
        head = window.at(offset, min(head_bytes, end - offset))
        size, start = varint.decode(head)
        check_section_size(size, offset, budgets)
        if offset + start + size > end:
            raise FormatError(f"section at offset {offset} is cut off", offset=offset)
        cid, data_at = split_section(head[start : start + min(size, budgets.cid_bytes)])
        yield Section(offset, cid, offset + start + data_at, size - data_at)
        offset += start + size


def recover(file: BinaryIO, offset: int, budgets: Budgets = DEFAULT) -> Recovered:
    """Find how far a file that may have been torn by a crash is good, verifying every block on the way.

    A crash can leave a half-written section, zeros, or old bytes where the file grew before its content arrived; all of
    them end the good part at the section before. So does a section of an identity CID, which vouches only for itself.

    Args:
        file: A seekable CARv1 file opened for reading.
        offset: Offset of the first section to check.
        budgets: Bounds on section and CID sizes.
    """
    good: list[Section] = []
    reason: str | None = None
    try:
        for section in scan(file, offset, None, budgets):
            file.seek(section.data_offset)
            data = file.read(section.size)
            if len(data) != section.size:
                raise FormatError(f"section at offset {section.offset} is cut off")
            if section.cid.is_identity:
                # Zeros after a torn identity CID read as another, just as valid: such a section proves nothing.
                raise FormatError(f"section at offset {section.offset} holds an identity CID, which no pack stores")
            section.cid.check(data)
            good.append(section)
    except (IntegrityError, InvalidInput, Unsupported) as exc:
        reason = exc.message
    # FormatError is an IntegrityError and BudgetExceeded an InvalidInput: torn bytes can look like anything.
    last = good[-1].end if good else offset
    if reason is None and (size := file.seek(0, 2)) > last:
        reason = f"{size - last} bytes follow the last section"
    return Recovered(last, good, reason)
