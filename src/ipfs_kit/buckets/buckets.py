"""``Buckets``: versioned filesystems over one block store.

Reads are plain methods. Each mutation prepares outside the lock (blocks written) and returns an ``Effect``; the
caller holds ``window()`` from before the call until the effect's ticket is done, so that garbage collection spares
what was prepared, and calls the method again when the effect raises ``Stale``. ``Location`` arguments are
``Location`` values or text: ``BUCKET[@ref][@op:N|@time:T][#session][:/path]``; mutations take only live sessions
(``B:/p`` or ``B#session:/p``).
"""

from __future__ import annotations

from ipfs_kit.buckets.building import BuildingOps
from ipfs_kit.buckets.files import FileOps
from ipfs_kit.buckets.transfer import TransferOps
from ipfs_kit.buckets.upkeep import UpkeepOps


class Buckets(FileOps, BuildingOps, TransferOps, UpkeepOps):
    """All buckets of one store; safe to use from any thread.

    Args:
        state: The store's ``state.db``, opened with ``ipfs_kit.buckets.SCHEMAS`` among its schemas.
        blocks: The block store.
        keys: Key ring: seals commit messages and sealed buckets; None gives a store that cannot commit.
        now: Wall clock in nanoseconds.
        op_at_time: The largest index of the main log recorded by a time; without it the effects' own times are used.
        horizon_days: How long uncommitted states stay readable [6].
        random: Source of random bytes.
    """
