"""Verification and repair of the block layer: packs, sidecars, index, pins.

``verify`` reads every byte and changes nothing. Bytes behind the indexed part of a pack are no fault: they belong to a
writer that is at work, or to one that was killed before anything was acknowledged. A stored frame that the index does
not list is no fault either: it is garbage, or a second copy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.blocks._base import cid_of
from ipfs_kit.blocks.gc.counts import LinksOf, child_keys, pack_domain, plain_links
from ipfs_kit.blocks.index import DOOMED, SEALED, PackRow
from ipfs_kit.blocks.pack_files import Scan, mapped, scan
from ipfs_kit.blocks.pack_layout import (
    Frame,
    decode_frame,
    decode_sidecar,
    decode_start,
    kind_of,
    pack_name,
    parse_name,
    sidecar_name,
)
from ipfs_kit.durable.files import is_temporary, storage_failed
from ipfs_kit.errors import BlockNotFound, Expired, FormatError, IntegrityError, KitError
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW

if TYPE_CHECKING:
    from ipfs_kit.blocks.pins import Pins
    from ipfs_kit.blocks.store import PackStore

FINDINGS_MAX: Final = 10_000
"""Findings kept; a store damaged worse than this needs its backup, not a longer list."""
Progress = Callable[[int, int], object]


class Fault(StrEnum):
    """What can be wrong; values are stable."""

    PACK_HEADER = "pack_header"
    PACK_MISSING = "pack_missing"
    BLOCK_DAMAGED = "block_damaged"
    INDEX_WRONG = "index_wrong"
    SIDECAR = "sidecar"
    UNKNOWN_FILE = "unknown_file"
    PIN_INCOMPLETE = "pin_incomplete"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Args:
        fault: Its kind.
        where: File, offset, CID or pin.
        what: What is wrong with it, in words.
        mend: What to do.
        pack_id: The pack it is in, or None.
        offset: Where in the pack the damage starts.
        length: How long the damaged stretch is.
        key: The block's multihash, where known.
    """

    fault: Fault
    where: str
    what: str
    mend: str
    pack_id: int | None = None
    offset: int = 0
    length: int = 0
    key: bytes = b""


@dataclass(slots=True)
class CheckReport:
    """What verification looked at and found.

    Args:
        findings: Everything that is wrong; empty when all is well.
        packs: Packs read.
        blocks: Frames whose hash was checked.
        bytes: Bytes of packs.
        unlisted: Frames the index does not list: garbage and second copies.
        complete: False when the list of findings was cut off.
    """

    findings: list[Finding] = field(default_factory=list)
    packs: int = 0
    blocks: int = 0
    bytes: int = 0
    unlisted: int = 0
    complete: bool = True


def verify(
    store: PackStore,
    pins: Pins | None = None,
    *,
    links_of: LinksOf = plain_links,
    full: bool = True,
    progress: Progress | None = None,
) -> CheckReport:
    """Check packs, sidecars, index and pins; change nothing.

    Args:
        store: The store, also one that is open for reading only.
        pins: Its pins, whose promises are checked.
        links_of: The children of a stored block, sealed ones included.
        full: Hash every block; False checks headers, sidecars, files and pins only.
        progress: Told of bytes done and in all.

    Returns:
        The report.
    """
    if not store.read_only:
        store.sync()
    return _Check(store, links_of, full, progress).run(pins)


class _Check:
    def __init__(self, store: PackStore, links_of: LinksOf, full: bool, progress: Progress | None) -> None:
        self._store = store
        self._links_of = links_of
        self._full = full
        self._progress = progress
        self._dir = os.path.join(store.directory, "packs")
        self.report = CheckReport()
        self._domains: dict[int, str | None] = {}
        self._matched = 0
        self._total = 0

    def run(self, pins: Pins | None) -> CheckReport:
        rows = {i: row for i, row in self._store.index.pack_rows().items() if row.state != DOOMED}
        present = self._files(rows)
        self._total = sum(row.indexed_to for row in rows.values())
        for pack_id, row in sorted(rows.items()):
            if pack_id in present:
                self._pack(pack_id, row)
            elif pack_id in self._store.index.pack_rows():
                self._missing(pack_id, row)
        if self._full:
            self._index(rows)
        if pins is not None:
            self._pins(pins)
        return self.report

    def _found(self, finding: Finding) -> None:
        if len(self.report.findings) < FINDINGS_MAX:
            self.report.findings.append(finding)
        else:
            self.report.complete = False

    def _files(self, rows: dict[int, PackRow]) -> set[int]:
        """The packs that are there; names unknown files."""
        try:
            names = set(os.listdir(self._dir))
        except OSError as exc:
            raise storage_failed("list", self._dir, exc) from exc
        packs = {pack_id for pack_id in map(parse_name, names) if pack_id is not None}
        known = {pack_name(i) for i in packs} | {sidecar_name(i) for i in packs | rows.keys()}
        for name in sorted(names - known):
            if not is_temporary(name):
                self._found(
                    Finding(Fault.UNKNOWN_FILE, f"packs/{name}", "this file belongs to no pack", "move it elsewhere")
                )
        return packs

    def _missing(self, pack_id: int, row: PackRow) -> None:
        name = pack_name(pack_id)
        what = f"the file is gone, and with it {row.live_blocks} blocks"
        mend = "restore the file from a backup, or repair to take its blocks off the index and add their source again"
        self._found(Finding(Fault.PACK_MISSING, f"packs/{name}", what, mend, pack_id))

    # -- one pack

    def _pack(self, pack_id: int, row: PackRow) -> None:
        name = pack_name(pack_id)
        try:
            with mapped(os.path.join(self._dir, name)) as view:
                self._mapped(pack_id, row, view)
        except FileNotFoundError:
            return  # compacted meanwhile: its blocks are in another pack
        self.report.packs += 1

    def _mapped(self, pack_id: int, row: PackRow, view: memoryview) -> None:
        name = pack_name(pack_id)
        try:
            descriptor, first = decode_start(bytes(view[:1024]))
            if descriptor.pack_id != pack_id:
                raise FormatError("its descriptor names another pack")
        except (FormatError, IntegrityError) as exc:
            mend = "repair saves its blocks into a new pack"
            self._found(Finding(Fault.PACK_HEADER, f"packs/{name}", exc.message, mend, pack_id))
            first = 0
        end = min(row.indexed_to, len(view))
        if row.indexed_to > len(view):
            what = f"{row.indexed_to - len(view)} bytes at its end are missing"
            self._damage(pack_id, len(view), row.indexed_to - len(view), what)
        self.report.bytes += end
        if self._full:
            with view[:end] as part:
                found = scan(part, first)
                self._frames(pack_id, found, part)
            if row.state == SEALED and not found.damaged:
                self._sidecar(pack_id, len(view), found)
        elif row.state == SEALED:
            self._sidecar(pack_id, len(view), None)
        if self._progress is not None:
            self._progress(self.report.bytes, self._total)

    def _frames(self, pack_id: int, found: Scan, part: memoryview) -> None:
        lookup = self._store.index.lookup
        for frame in found.frames:
            place = lookup(frame.cid.multihash)
            if place is not None and (place.pack_id, place.offset, place.length) == (
                pack_id,
                frame.offset,
                frame.length,
            ):
                self._matched += 1
            else:
                self.report.unlisted += 1
        self.report.blocks += len(found.frames)
        starts = list(found.damaged)
        if found.end < len(part) and found.end not in starts:
            starts.append(found.end)
        for start in starts:
            frame_at = _frame_at(part, start)
            length = frame_at.offset + frame_at.length - start if frame_at is not None else 1
            what = "the bytes are damaged"
            if frame_at is not None:
                what = f"block {frame_at.cid} is damaged"
            self._damage(pack_id, start, length, what, frame_at.cid.multihash if frame_at is not None else b"")

    def _damage(self, pack_id: int, offset: int, length: int, what: str, key: bytes = b"") -> None:
        where = f"packs/{pack_name(pack_id)} at {offset}"
        mend = "repair sets the bytes aside; then add the content again, or restore the pack from a backup"
        self._found(Finding(Fault.BLOCK_DAMAGED, where, what, mend, pack_id, offset, length, key))

    def _sidecar(self, pack_id: int, size: int, found: Scan | None) -> None:
        name = sidecar_name(pack_id)
        try:
            with open(os.path.join(self._dir, name), "rb") as file:
                side_id, side_size, rows = decode_sidecar(file.read())
            wrong = side_id != pack_id or side_size != size
            if found is not None and not wrong:
                wrong = list(rows) != sorted((f.cid.multihash, f.offset, f.length, f.cid.codec) for f in found.frames)
            what = "it does not match its pack" if wrong else ""
        except FileNotFoundError:
            what = "it is missing" if os.path.exists(os.path.join(self._dir, pack_name(pack_id))) else ""
        except FormatError as exc:
            what = exc.message
        except OSError as exc:
            raise storage_failed("read", name, exc) from exc
        if what:
            self._found(Finding(Fault.SIDECAR, f"packs/{name}", what, "repair writes it anew", pack_id))

    # -- index and pins

    def _index(self, rows: dict[int, PackRow]) -> None:
        """Every row must lead to a block; rows are looked at singly only when the sums do not agree."""
        if self._matched == self._store.index.count():
            return
        for key, place in self._store.index.multihashes():
            row = rows.get(place.pack_id)
            if row is not None and place.offset >= row.indexed_to:
                continue  # stored after this check began
            try:
                self._store.get(cid_of(place.codec, key))
            except (BlockNotFound, IntegrityError):
                if self._store.index.lookup(key) != place:
                    continue
                where = f"block {cid_of(place.codec, key)}"
                what = f"the index says {pack_name(place.pack_id)} at {place.offset}, where it is not"
                mend = "repair looks for another copy; if there is none, add the content again"
                self._found(Finding(Fault.INDEX_WRONG, where, what, mend, place.pack_id, place.offset, key=key))

    def _pins(self, pins: Pins) -> None:
        """Walk each pin's DAG once over all; what is shared is walked once."""
        seen: set[bytes] = set()
        after = 0
        while page := pins.list(after=after, limit=1000):
            for pin in page:
                missing = self._missing_below(pin.cid.multihash, seen, deep=str(pin.kind) == "recursive")
                if missing is not None:
                    where = f"pin {pin.name or pin.cid}"
                    what = f"block {missing} below {pin.cid} is not here"
                    mend = "repair looks for it in the packs; if it is in none, fetch it or remove the pin"
                    self._found(Finding(Fault.PIN_INCOMPLETE, where, what, mend, key=_key_of(missing)))
            after = page[-1].id

    def _missing_below(self, root: bytes, seen: set[bytes], *, deep: bool) -> str | None:
        stack = [root]
        while stack:
            key = stack.pop()
            if key in seen or key[:1] == b"\0":
                continue
            place = self._store.index.lookup(key)
            if place is None:
                return str(cid_of(RAW, key))
            if not deep:
                return None
            seen.add(key)
            cid = cid_of(place.codec, key)
            if kind_of(place.pack_id).name == "LEAF":
                continue
            try:
                data = self._store.get(cid)
                stack += child_keys(self._links_of, cid, data, self._domain(place.pack_id)) or ()
            except Expired:
                continue  # its key was destroyed on purpose
            except KitError:
                return str(cid)
        return None

    def _domain(self, pack_id: int) -> str | None:
        if pack_id not in self._domains:
            self._domains[pack_id] = pack_domain(self._store, pack_id)
        return self._domains[pack_id]


def _key_of(text: str) -> bytes:
    return CID.parse(text).multihash


def _frame_at(view: memoryview, start: int) -> Frame | None:
    try:
        return decode_frame(view, start, len(view))
    except (FormatError, IntegrityError):
        return None


def good_frames(store: PackStore) -> Iterator[tuple[int, Frame]]:
    """Every undamaged frame of every pack, listed or not, for repairs."""
    directory = os.path.join(store.directory, "packs")
    for pack_id in sorted(filter(None, map(parse_name, os.listdir(directory)))):
        try:
            with mapped(os.path.join(directory, pack_name(pack_id))) as view:
                try:
                    _, first = decode_start(bytes(view[:1024]))
                except (FormatError, IntegrityError):
                    first = 0
                found = scan(view, first)
        except FileNotFoundError:
            continue
        for frame in found.frames:
            yield pack_id, frame


def repair(store: PackStore, findings: Sequence[Finding]) -> list[str]:
    """Mend what can be mended; see ``blocks.mend``.

    Args:
        store: The store, open for writing.
        findings: From ``verify``.

    Returns:
        What was done, one line each; verify again to see what remains.

    Raises:
        LockTimeout: Another process collects garbage or repairs.
    """
    from ipfs_kit.blocks.mend import Mend

    return Mend(store).run(findings)
