"""What the ledger's tests share: a real store's state, keys and ledger in a temporary directory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipfs_kit import ledger
from ipfs_kit.durable import StateDB, Tx
from ipfs_kit.keys import KeyRing
from ipfs_kit.ledger import Draft, Ledger, Outcome


@dataclass
class Store:
    """An open ledger with what it stands on."""

    path: Path
    state: StateDB
    keys: KeyRing
    ledger: Ledger
    subject: str

    def draft(self, **fields: Any) -> Draft:
        """A draft as the dispatcher makes it."""
        given: dict[str, Any] = {
            "op_id": self.ledger.new_op_id(),
            "time_ns": time.time_ns(),
            "actor": self.subject,
            "subject": self.subject,
            "surface": "python",
            "operation": "files.put",
            "stream": "files",
            "target": "docs:/secret-name.txt",
            "args": {"path": "docs:/secret-name.txt", "bytes": 12},
        }
        return Draft(**{**given, **fields})

    def record(self, count: int, log: str = "main", batch: int = 0) -> None:
        """Record this many operations; ``batch`` of them at a time."""
        if batch:
            for start in range(0, count, batch):
                drafts = [self.draft(log=log) for _ in range(min(batch, count - start))]
                self.ledger.submit_many(drafts).result(30)
            return
        for ticket in [self.ledger.submit(self.draft(log=log)) for _ in range(count)]:
            ticket.result(30)

    def close(self) -> None:
        """Close everything in the right order."""
        self.ledger.close()
        self.keys.close()
        self.state.close()


def open_store(path: Path, **options: Any) -> Store:
    """Open or create a store below ``path``."""
    read_only = bool(options.get("read_only"))
    path.mkdir(exist_ok=True)
    keys = KeyRing.open(path / "keys", not read_only, read_only=read_only)
    state = StateDB.open(
        path / "state.db", ledger.SCHEMAS, read_only=read_only, lock_timeout_s=options.pop("lock_timeout_s", 30.0)
    )
    options.setdefault("sync_blocks", lambda: None)
    opened = Ledger.open(path / "ledger", state, keys, **options)
    return Store(path, state, keys, opened, "" if read_only else keys.subject_for("alice"))


def noting(value: str) -> Any:
    """An effect that writes a row of the test's own table."""

    def effect(tx: Tx) -> Outcome:
        tx.execute("CREATE TABLE IF NOT EXISTS notes(value TEXT, op INTEGER)")
        tx.execute("INSERT INTO notes VALUES(?, ?)", (value, tx.op_index))
        return Outcome(value=value, effect=["note", value])

    return effect


def notes(store: Store) -> list[tuple[Any, ...]]:
    """Rows that effects wrote."""
    if not store.state.query("SELECT 1 FROM sqlite_master WHERE name = 'notes'"):
        return []
    return store.state.query("SELECT value, op FROM notes ORDER BY op")
