"""Repair of the block layer, from the findings of ``blocks.check``.

Nothing is thrown away: damaged bytes are copied to ``lost+found/`` in the store's directory before the pack that holds
them goes. A damaged pack is replaced in an order that a crash cannot hurt: its good blocks are marked condemned, which
lets them be stored anew; syncing points the index at the copies and clears the marks; only then is the pack unlinked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from ipfs_kit.blocks import recovery
from ipfs_kit.blocks._base import cid_of
from ipfs_kit.blocks.check import Fault, Finding, good_frames
from ipfs_kit.blocks.index import OPEN, Txn
from ipfs_kit.blocks.pack_files import mapped, scan
from ipfs_kit.blocks.pack_layout import (
    Kind,
    decode_start,
    encode_sidecar,
    kind_of,
    pack_name,
    sidecar_name,
)
from ipfs_kit.durable.files import create_idempotent, make_dirs, remove
from ipfs_kit.durable.locks import Lease
from ipfs_kit.errors import FormatError, IntegrityError

if TYPE_CHECKING:
    from ipfs_kit.blocks.store import PackStore

_LEASE_WAIT_S: Final = 30.0
_COPY_BATCH: Final = 256


class Mend:
    """One repair of one store.

    Args:
        store: The store, open for writing.
    """

    def __init__(self, store: PackStore) -> None:
        self._store = store
        self._dir = os.path.join(store.directory, "packs")
        self._done: list[str] = []

    def run(self, findings: Sequence[Finding]) -> list[str]:
        """Mend what the findings name and say what was done."""
        # Nobody may collect garbage meanwhile: marks serve the rescue of blocks here.
        lease = Lease(self._store.directory, "gc")
        try:
            lease.acquire(_LEASE_WAIT_S)
            self._store.sync()
            broken = {f.pack_id for f in findings if f.fault in (Fault.BLOCK_DAMAGED, Fault.PACK_HEADER)}
            self._unlist(findings, broken)
            self._find_copies(findings)
            for finding in findings:
                if finding.fault is Fault.BLOCK_DAMAGED:
                    self._set_aside(finding)
            for pack_id in sorted(filter(None, broken)):
                self._replace(pack_id)
            for finding in findings:
                if finding.fault is Fault.SIDECAR and finding.pack_id is not None and finding.pack_id not in broken:
                    self._sidecar(finding.pack_id)
            return self._done
        finally:
            lease.close()

    # -- index rows that lead nowhere

    def _unlist(self, findings: Iterable[Finding], broken: set[int | None]) -> None:
        """Take rows off the index whose block is damaged or gone, so that the block can be stored again."""
        missing = {f.pack_id for f in findings if f.fault is Fault.PACK_MISSING}
        suspects = {f.key for f in findings if f.fault in (Fault.BLOCK_DAMAGED, Fault.INDEX_WRONG) and f.key}
        for key, place in self._store.index.multihashes():
            if place.pack_id in broken or place.pack_id in missing:
                suspects.add(key)
        lost = [key for key in suspects if self._is_lost(key)]
        if lost:
            self._store.update_index(lambda txn: [txn.remove(key) for key in lost])
            self._done.append(f"took {len(lost)} damaged or lost blocks off the index, so that they can be added again")
        for pack_id in filter(None, missing):
            recovery.drop_pack(self._store.index, self._dir, pack_id)
            self._done.append(f"forgot the missing pack {pack_name(pack_id)}")

    def _is_lost(self, key: bytes) -> bool:
        place = self._store.index.lookup(key)
        if place is None:
            return False
        try:
            with mapped(os.path.join(self._dir, pack_name(place.pack_id))) as view:
                data = bytes(view[place.offset : place.offset + place.length])
        except FileNotFoundError:
            return True
        try:
            cid_of(place.codec, key).check(data)
        except IntegrityError:
            return True
        return False

    def _find_copies(self, findings: Iterable[Finding]) -> None:
        """List blocks that the index lost, or whose listed copy is gone, from any pack that holds them."""
        if not any(f.fault is not Fault.UNKNOWN_FILE and f.fault is not Fault.SIDECAR for f in findings):
            return
        wanted = {f.key for f in findings if f.key}
        everything = any(f.fault is Fault.PIN_INCOMPLETE or not f.key for f in findings)
        rows: dict[int, list[recovery.Row]] = {}
        for pack_id, frame in good_frames(self._store):
            key = frame.cid.multihash
            if (everything or key in wanted) and self._store.index.lookup(key) is None:
                rows.setdefault(pack_id, []).append((key, frame.offset, frame.length, frame.cid.codec))
        known = self._store.index.pack_rows()
        count = 0
        for pack_id, found in rows.items():
            row = known.get(pack_id)
            inside = [r for r in found if row is not None and r[1] + r[2] <= row.indexed_to]

            def fill(txn: Txn, pack_id: int = pack_id, inside: list[recovery.Row] = inside) -> None:
                recovery.index_rows(txn, pack_id, sorted(inside))

            self._store.update_index(fill)
            count += len(inside)
        if count:
            self._done.append(f"listed {count} whole blocks that lie in the packs and were not in the index")

    # -- damaged packs

    def _set_aside(self, finding: Finding) -> None:
        """Keep a copy of damaged bytes under a name that says where they were."""
        if finding.pack_id is None:
            return
        target = os.path.join(self._store.directory, "lost+found")
        try:
            with mapped(os.path.join(self._dir, pack_name(finding.pack_id))) as view:
                data = bytes(view[finding.offset : finding.offset + finding.length])
        except FileNotFoundError:
            return
        if not data:
            return
        make_dirs(target, 0o700)
        name = f"{pack_name(finding.pack_id)}.{finding.offset}"
        create_idempotent(os.path.join(target, name), data, mode=0o600)
        self._done.append(f"copied {len(data)} damaged bytes to lost+found/{name}")

    def _replace(self, pack_id: int) -> None:
        """Store a damaged pack's good live blocks anew and drop the pack."""
        row = self._store.index.pack_rows().get(pack_id)
        if row is None:
            return
        owner = self._store._release_for_compaction(pack_id)  # noqa: SLF001  one layer; as ``compact`` does
        if owner is None and row.state == OPEN and self._header_ok(pack_id):
            self._done.append(
                f"left {pack_name(pack_id)} as it is: another program writes to it; close it and repair again"
            )
            return
        try:
            moved = self._copy_live(pack_id)
        finally:
            if owner is not None:
                owner.close()
        if self._store.index.pack_rows()[pack_id].live_blocks:
            self._done.append(f"left {pack_name(pack_id)} as it is: not all of its blocks could be copied")
            return
        recovery.drop_pack(self._store.index, self._dir, pack_id)
        self._done.append(f"replaced {pack_name(pack_id)}: {moved} good blocks are in a new pack")

    def _header_ok(self, pack_id: int) -> bool:
        return self._start(pack_id)[0]

    def _start(self, pack_id: int) -> tuple[bool, str | None, int]:
        """Whether the header is whole, the key domain, and where frames start."""
        with mapped(os.path.join(self._dir, pack_name(pack_id))) as view:
            try:
                descriptor, first = decode_start(bytes(view[:1024]))
            except (FormatError, IntegrityError):
                return False, None, 0
        return True, descriptor.domain, first

    def _copy_live(self, pack_id: int) -> int:
        whole, domain, first = self._start(pack_id)
        if not whole and kind_of(pack_id) is Kind.SEALED:
            return 0  # the domain stood in the header; without it the blocks would land among open ones
        moved = 0
        with mapped(os.path.join(self._dir, pack_name(pack_id))) as view:
            frames = scan(view, first).frames
            for start in range(0, len(frames), _COPY_BATCH):
                live = []
                for frame in frames[start : start + _COPY_BATCH]:
                    place = self._store.index.lookup(frame.cid.multihash)
                    if place is not None and (place.pack_id, place.offset) == (pack_id, frame.offset):
                        live.append((frame, place))
                self._store.condemn(frame.cid.multihash for frame, _ in live)
                items = [
                    (cid_of(place.codec, frame.cid.multihash), bytes(view[frame.offset : frame.offset + frame.length]))
                    for frame, place in live
                ]
                self._store.put_in(domain, items, verify=True)
                moved += len(live)
            self._store.sync()
        self._store.forget_rescued(self._store.rescued())
        return moved

    # -- sidecars

    def _sidecar(self, pack_id: int) -> None:
        path = os.path.join(self._dir, pack_name(pack_id))
        try:
            with mapped(path) as view:
                _, first = decode_start(bytes(view[:1024]))
                found = scan(view, first)
                size = len(view)
        except FileNotFoundError:
            return
        if found.damaged or found.end != size:
            return  # verification names the damage as well
        rows = [(f.cid.multihash, f.offset, f.length, f.cid.codec) for f in found.frames]
        target = os.path.join(self._dir, sidecar_name(pack_id))
        remove(target)
        create_idempotent(target, encode_sidecar(pack_id, size, rows))
        self._done.append(f"wrote {sidecar_name(pack_id)} anew")
