"""Opening a pack store: taking up what dead owners left, and filling a new index from the packs alone."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.blocks.index import DOOMED, OPEN, SEALED, Index, PackRow, Place, Txn
from ipfs_kit.blocks.pack_files import mapped, scan
from ipfs_kit.blocks.pack_layout import decode_sidecar, decode_start, pack_name, parse_name, sidecar_name
from ipfs_kit.blocks.pack_writer import PackWriter
from ipfs_kit.durable.files import remove, storage_failed
from ipfs_kit.errors import FormatError
from ipfs_kit.ipld.codecs import RAW

Row = tuple[bytes, int, int, int]


@dataclass(slots=True)
class PackContent:
    """What one pack file holds.

    Args:
        rows: Multihash, offset, length and codec of each good block.
        end: Where the good part ends.
        sealed: It takes no more blocks.
    """

    rows: list[Row]
    end: int
    sealed: bool


def list_packs(directory: str) -> list[int]:
    """The ids of all pack files in a directory."""
    try:
        names = os.listdir(directory)
    except OSError as exc:
        raise storage_failed("list", directory, exc) from exc
    return sorted(pack_id for pack_id in map(parse_name, names) if pack_id is not None)


def index_rows(txn: Txn, pack_id: int, rows: Iterable[Row]) -> list[bytes]:
    """List durable blocks of one pack.

    A block already listed elsewhere keeps its place, unless it was condemned, or is now known under a codec with links.

    Returns:
        The multihashes whose condemned mark was cleared.
    """
    rescued: list[bytes] = []
    marks = txn.lmdb.stat(txn.marks)["entries"]
    get, put, blocks = txn.lmdb.get, txn.lmdb.put, txn.blocks
    live_bytes = live_blocks = 0
    for multihash, offset, length, codec in rows:
        if get(multihash, db=blocks) is None:
            put(multihash, Place(pack_id, offset, length, codec).pack(), db=blocks)
            live_bytes += length
            live_blocks += 1
            continue
        marked = bool(marks) and txn.lmdb.delete(multihash, db=txn.marks)
        place = txn.get(multihash)
        if marked:
            rescued.append(multihash)
        if place is not None and (marked or place.codec == RAW != codec):
            txn.set(multihash, Place(pack_id, offset, length, codec))
    row = txn.pack(pack_id)
    row.live_bytes += live_bytes
    row.live_blocks += live_blocks
    return rescued


def rebuild(index: Index, directory: str, *, read_only: bool) -> None:
    """Fill an empty index from sidecars and, where there is none, from verified scans.

    Args:
        index: The new index.
        directory: The packs.
        read_only: Cut off no torn tails.
    """
    for pack_id in list_packs(directory):
        content = _content(directory, pack_id, read_only=read_only)
        if content is None:
            continue
        found: PackContent = content

        def fill(txn: Txn, pack_id: int = pack_id, found: PackContent = found) -> None:
            index_rows(txn, pack_id, sorted(found.rows))
            row = txn.pack(pack_id)
            row.state = SEALED if found.sealed else OPEN
            row.indexed_to = found.end

        index.update(fill)


def _content(directory: str, pack_id: int, *, read_only: bool) -> PackContent | None:
    path = os.path.join(directory, pack_name(pack_id))
    try:
        with open(os.path.join(directory, sidecar_name(pack_id)), "rb") as file:
            _, size, rows = decode_sidecar(file.read())
        if os.stat(path).st_size == size:
            return PackContent(list(rows), size, sealed=True)
    except (FileNotFoundError, FormatError):
        pass  # no sidecar, or a damaged one: the pack itself says what it holds
    except OSError as exc:
        raise storage_failed("read", path, exc) from exc
    sealed = os.path.exists(os.path.join(directory, sidecar_name(pack_id)))
    try:
        if not sealed and not read_only:
            writer = PackWriter.adopt(directory, pack_id)
            if writer is None:
                PackWriter.discard_stub(directory, pack_id)
                return None
            try:
                found = writer.recover(0)
            finally:
                writer.close()
        else:
            with mapped(path) as view:
                _, first = decode_start(view[:1024])
                found = scan(view, first)
    except (FormatError, FileNotFoundError):
        return None  # not even a header: its creator died first, or it is damaged and verify names it
    rows_found = [(f.cid.multihash, f.offset, f.length, f.cid.codec) for f in found.frames]
    return PackContent(rows_found, found.end, sealed or bool(found.damaged))


def take_up_tails(index: Index, directory: str) -> None:
    """Index what dead owners appended and never indexed, and finish what they began to remove."""
    rows = index.pack_rows()
    present = list_packs(directory)
    for pack_id in present:
        row = rows.get(pack_id)
        if row is not None and row.state == SEALED:
            continue
        if row is not None and row.state == DOOMED:
            drop_pack(index, directory, pack_id)
            continue
        try:
            size = os.stat(os.path.join(directory, pack_name(pack_id))).st_size
        except FileNotFoundError:
            continue
        sealed = os.path.exists(os.path.join(directory, sidecar_name(pack_id)))
        if row is None or size > row.indexed_to or sealed:
            _take_up(index, directory, pack_id, row)
    for pack_id in rows.keys() - set(present):
        if rows[pack_id].state == DOOMED:
            drop_pack(index, directory, pack_id)


def _take_up(index: Index, directory: str, pack_id: int, row: PackRow | None) -> None:
    if os.path.exists(os.path.join(directory, sidecar_name(pack_id))):
        content = _content(directory, pack_id, read_only=False)
        if content is None:
            return
        rows, end, sealed = content.rows, content.end, True
    else:
        writer = PackWriter.adopt(directory, pack_id)
        if writer is None:
            if row is None:
                PackWriter.discard_stub(directory, pack_id)
            return
        try:
            rows, end, sealed = recover_into(writer, row.indexed_to if row is not None else 0)
            commit_tail(index, pack_id, rows, end, sealed=sealed)
        finally:
            writer.close()
        return
    commit_tail(index, pack_id, rows, end, sealed=sealed)


def recover_into(writer: PackWriter, indexed_to: int) -> tuple[list[Row], int, bool]:
    """Recover an adopted pack's tail and make what was found durable before it is listed.

    Returns:
        The rows, where the good part ends, and whether damage forbids appending.
    """
    found = writer.recover(indexed_to)
    writer.sync_all()
    return (
        [(f.cid.multihash, f.offset, f.length, f.cid.codec) for f in found.frames],
        found.end,
        bool(found.damaged),
    )


def commit_tail(index: Index, pack_id: int, rows: list[Row], end: int, *, sealed: bool) -> None:
    """List a recovered tail."""

    def fill(txn: Txn) -> None:
        index_rows(txn, pack_id, rows)
        row = txn.pack(pack_id)
        row.indexed_to = max(row.indexed_to, end)
        row.state = SEALED if sealed else row.state

    index.update(fill)


def drop_pack(index: Index, directory: str, pack_id: int) -> None:
    """Unlink a doomed pack and its sidecar, then forget it."""
    remove(os.path.join(directory, pack_name(pack_id)), sync=False)
    remove(os.path.join(directory, sidecar_name(pack_id)))
    index.update(lambda txn: txn.drop_pack(pack_id))
