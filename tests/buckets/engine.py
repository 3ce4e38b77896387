"""A real store for the bucket tests: state file, packs, keys, ledger and buckets in one directory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipfs_kit.blocks.holds import HOLDS_SCHEMA
from ipfs_kit.blocks.pins import PINS_SCHEMA
from ipfs_kit.blocks.store import PackStore
from ipfs_kit.buckets import SCHEMAS, Buckets
from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import Stale
from ipfs_kit.keys.ring import KeyRing
from ipfs_kit.ledger import SCHEMAS as LEDGER_SCHEMAS
from ipfs_kit.ledger import Draft, Effect
from ipfs_kit.ledger.ledger import Ledger

SECOND = 1_000_000_000


class Clock:
    """A clock that rises by a millisecond with each look, and further on demand."""

    def __init__(self, start_ns: int = 1_800_000_000 * SECOND) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        self.now_ns += 1_000_000
        return self.now_ns


class Engine:
    """One process's open store.

    Args:
        directory: The store.
        clock: Shared between engines of one test.
    """

    def __init__(self, directory: Path, clock: Callable[[], int] | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.clock = clock or Clock()
        schemas = [*SCHEMAS, *LEDGER_SCHEMAS, PINS_SCHEMA, HOLDS_SCHEMA]
        self.state = StateDB.open(directory / "state.db", schemas, now=self.clock)
        self.blocks = PackStore.open(directory, self.state)
        self.keys = KeyRing.open(directory / "keys", create=True)
        self.ledger = Ledger.open(directory, self.state, self.keys, sync_blocks=self.blocks.sync, now_ns=self.clock)
        self.buckets = Buckets(self.state, self.blocks, self.keys, self.clock)
        self.index = -1

    def run(self, prepare: Callable[[], Effect]) -> Any:
        """Apply an effect as the dispatcher does; the op's index is left in ``index``."""
        for attempt in itertools.count():
            with self.buckets.window():
                effect = prepare()
                ticket = self.ledger.submit(Draft(self.ledger.new_op_id(), 0, "someone", "python", "test"), effect)
                try:
                    receipt = ticket.result(60)
                except Stale:
                    if attempt == 8:
                        raise
                    continue
            self.index = receipt.index
            return receipt.value
        raise AssertionError("unreachable: the loop counts without end")

    def close(self) -> None:
        """Close everything, in the order the kit does."""
        self.buckets.close()
        self.ledger.close()
        self.blocks.close()
        self.keys.close()
        self.state.close()

    def abandon(self) -> None:
        """Close without a checkpoint, as a killed process leaves its session."""
        self.ledger.close()
        self.blocks.close()
        self.keys.close()
        self.state.close()
