"""Manifests: the identity of a batch of records (decision 15), independent of segments and of pyarrow.

A manifest is a dag-cbor block ``ledger/<log>/manifests/<its CID>``: a map with ``v`` (1), ``log``, ``origin``,
``first``, ``last``, ``count``, ``size`` and ``root`` (the tree right after ``last``), ``records`` (CIDs as links, in
order) and ``prev`` (link to the manifest before, or null). Consecutive manifests cover a log without gaps.
"""

from __future__ import annotations

import os
from typing import Any, Final

from ipfs_kit.durable import StateDB, create_idempotent, make_dirs
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ledger import merkle
from ipfs_kit.ledger.layout import MANIFESTS, TILE_WIDTH, full_tiles, partial_width
from ipfs_kit.ledger.tiles import TileFiles

RECORDS_MAX: Final = 4_096
"""Records of one manifest: about 170 kB, well within what other tools accept as a block."""


def extend(directory: str, state: StateDB, files: TileFiles, log: str, origin: str, size: int) -> CID | None:
    """Write the manifests that are missing up to a published size; the caller holds the publishing lease.

    Args:
        directory: ``ledger/<log>``.
        state: ``state.db``.
        files: The log's tiles.
        log: ``main`` or ``bulk``.
        origin: The log's origin.
        size: The published size.

    Returns:
        CID of the last manifest; None for an empty log.
    """
    rows = state.query(
        "SELECT first_index + count, cid FROM ledger_manifests WHERE log = ? ORDER BY first_index DESC LIMIT 1", (log,)
    )
    first, last = rows[0] if rows else (0, None)
    previous = None if last is None else CID(last)
    made: list[tuple[str, int, int, bytes]] = []
    while first < size:
        stop = min(size, first + RECORDS_MAX)
        body = _manifest(files, log, origin, first, stop, size, previous)
        data = dag_cbor.encode(body)
        previous = CID.of(data, DAG_CBOR)
        path = os.path.join(directory, MANIFESTS, str(previous))
        make_dirs(os.path.dirname(path))
        create_idempotent(path, data)
        made.append((log, first, stop - first, previous.binary))
        first = stop
    if made:
        with state.transaction() as tx:
            tx.executemany(
                "INSERT OR REPLACE INTO ledger_manifests(log, first_index, count, cid) VALUES(?, ?, ?, ?)", made
            )
    return previous


def _manifest(
    files: TileFiles, log: str, origin: str, first: int, stop: int, size: int, previous: CID | None
) -> dict[str, Any]:
    records: list[CID] = []
    for bundle in range(first // TILE_WIDTH, (stop - 1) // TILE_WIDTH + 1):
        entries = files.entries(bundle, TILE_WIDTH if bundle < full_tiles(0, size) else partial_width(0, size))
        base = bundle * TILE_WIDTH
        records += [CID(entry) for entry in entries[max(0, first - base) : stop - base]]
    return {
        "v": 1,
        "log": log,
        "origin": origin,
        "first": first,
        "last": stop - 1,
        "count": stop - first,
        "size": stop,
        "root": merkle.root(files.nodes(size), stop),
        "records": records,
        "prev": previous,
    }
