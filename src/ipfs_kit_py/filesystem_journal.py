"""A journalled file system over one bucket: entries, transactions, checkpoints and recovery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipfs_kit import KitError, to_json
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._journal import BUCKET, ensure_journal, entry_row, fs_state
from ipfs_kit_py._journal_entries import JournalEntries
from ipfs_kit_py._journal_manager import FilesystemJournalManager
from ipfs_kit_py._journal_words import Due, JournalEntryStatus, JournalOperationType
from ipfs_kit_py._shape import shape

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "FilesystemJournal",
    "FilesystemJournalManager",
    "JournalEntryStatus",
    "JournalOperationType",
]


class FilesystemJournal(JournalEntries):
    """Entries recorded in the stream ``journal``, each with the change it tells of.

    Args:
        base_path: The store's directory; the default store when left out.
        checkpoint_interval: Seconds, and ``max_journal_size`` entries, after which a checkpoint is made.
        auto_recovery: Recover when the journal is opened. The other options are published ones kept as attributes:
            every entry is synced, so ``sync_interval`` has nothing to do.
    """

    def __init__(
        self,
        base_path: str | Path | None = None,
        sync_interval: float = 5,
        checkpoint_interval: float = 60,
        max_journal_size: int = 1000,
        auto_recovery: bool = True,
        wal: Any = None,
        enable_ipfs_datasets: bool = False,
        ipfs_client: Any = None,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        super().__init__(__name__, base_path or storage_path, ipfs_client, enable_ipfs_datasets, stream="journal")
        self.base_path, self.sync_interval, self.checkpoint_interval = (
            self.storage_path,
            sync_interval,
            checkpoint_interval,
        )
        self.max_journal_size, self.auto_recovery, self.wal = max_journal_size, auto_recovery, wal
        self.enable_ipfs_datasets = enable_ipfs_datasets
        self._due = Due(checkpoint_interval, max_journal_size)
        ensure_journal(self)
        self.last_recovery = self.recover() if auto_recovery else None

    def recover(self) -> dict[str, Any]:
        """Check everything, rebuild what is damaged and roll back what was left open; data says what was found."""
        try:
            done = self.call("journal.recover", journal=BUCKET)
        except KitError as error:
            return shape("recover", error=error)
        self.current_transaction = None
        return shape("recover", to_json(done.value), done.op_id)

    def get_fs_state(self) -> dict[str, dict[str, Any]]:
        """Type, size, CID and metadata of every path."""
        return fs_state(self, self.current_transaction)

    def get_pending_journal_entries(self) -> list[dict[str, Any]]:
        """Entries that nothing has settled, oldest first."""
        return [entry_row(each) for each in reversed(self._pending())]
