"""Signed checkpoints kept after newer ones replaced them: older heads that a log must still extend.

Each is put into ``state.db`` by the transaction that moves the high-water mark past it, so keeping costs no sync of its
own. What lies far back is thinned to one per doubling of the distance: a log of any length keeps under a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ipfs_kit.durable import Schema, StateDB, Tx
from ipfs_kit.ledger.checkpoint import Checkpoint

SCHEMA: Final = Schema(
    "checkpoints",
    1,
    (
        """CREATE TABLE ledger_checkpoints(
            log TEXT NOT NULL, size INTEGER NOT NULL, note TEXT NOT NULL, PRIMARY KEY(log, size)) WITHOUT ROWID""",
    ),
)
NEWEST_KEPT: Final = 8
"""Kept whatever lies between them."""


def keep(tx: Tx, log: str, replaced: Checkpoint) -> None:
    """Keep a signed checkpoint that is about to be replaced, and thin the older ones."""
    tx.execute(
        "INSERT OR REPLACE INTO ledger_checkpoints(log, size, note) VALUES(?, ?, ?)",
        (log, replaced.size, replaced.text),
    )
    sizes = [
        size for (size,) in tx.execute("SELECT size FROM ledger_checkpoints WHERE log = ? ORDER BY size DESC", (log,))
    ]
    for size in surplus(sizes):
        tx.execute("DELETE FROM ledger_checkpoints WHERE log = ? AND size = ?", (log, size))


def surplus(sizes: Sequence[int]) -> list[int]:
    """Which of the kept sizes may go.

    Args:
        sizes: Newest first.

    Returns:
        All but the newest ones and, of the others, the oldest in each doubling of the distance to the newest.
    """
    going = []
    older = sizes[NEWEST_KEPT:]
    for at, size in enumerate(older[:-1]):
        if (sizes[0] - size).bit_length() == (sizes[0] - older[at + 1]).bit_length():
            going.append(size)
    return going


def newest(state: StateDB, log: str) -> str | None:
    """The note of the newest kept checkpoint of a log."""
    rows = state.query("SELECT note FROM ledger_checkpoints WHERE log = ? ORDER BY size DESC LIMIT 1", (log,))
    return str(rows[0][0]) if rows else None
