"""Entries and transactions of the published journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipfs_kit import to_json
from ipfs_kit.errors import Conflict
from ipfs_kit_py._journal import BUCKET, ENTRIES_MAX, NO_CHANGE, change, remembered
from ipfs_kit_py._journal_datasets import JournalDatasets
from ipfs_kit_py._journal_words import Due, JournalEntryStatus, JournalOperationType, word


class JournalEntries(JournalDatasets):
    """What is entered into a journal, alone or in a transaction."""

    current_transaction: str | None = None
    _due: Due

    def create_checkpoint(self) -> bool:
        """Make the state a version that recovery can fall back to."""
        self.call("journal.checkpoint", journal=BUCKET)
        self._due.done()
        return True

    def add_journal_entry(
        self,
        operation_type: JournalOperationType | str,
        path: str,
        data: Any = None,
        metadata: Mapping[str, Any] | None = None,
        status: JournalEntryStatus | str = JournalEntryStatus.PENDING,
    ) -> str:
        """Record an entry and return its id; a completed one changes the file system in the same op."""
        kind, details = word(operation_type), remembered(self, data, metadata)
        if word(status) == "completed" and kind not in NO_CHANGE:
            return self.change(kind, path, **change(self, kind, details))
        given = {"kind": kind, "path": path, "status": word(status), "details": details}
        entered = self.call("journal.add", journal=BUCKET, transaction=self.current_transaction, **given)
        return str(entered.value.entry_id)

    def change(self, kind: str, path: str, **given: Any) -> str:
        """Change the file system and record it, in one op; returns the entry's id."""
        entered = self.call(
            "journal.apply", journal=BUCKET, kind=kind, path=path, transaction=self.current_transaction, **given
        )
        if self._due.count() and self.current_transaction is None:
            self.create_checkpoint()
        return str(entered.value.entry_id)

    def update_entry_status(self, entry_id: str, status: JournalEntryStatus | str, result: Any = None) -> bool:
        """Say how a pending entry ended; completing it makes its change. False when there is no such entry pending."""
        found = next((each for each in self._pending() if each.entry_id == entry_id), None)
        if found is None:
            return False
        if word(status) == "completed" and found.operation_type not in NO_CHANGE:
            given = change(self, found.operation_type, found.details)
            self.change(found.operation_type, found.path, entry=entry_id, **given)
            return True
        details = {} if result is None else {"result": to_json(result)}
        given = {"kind": found.operation_type, "path": found.path, "status": word(status), "details": details}
        self.call("journal.add", journal=BUCKET, entry=entry_id, **given)
        return True

    def begin_transaction(self) -> str:
        """Begin a transaction, which later entries belong to, and return its id."""
        if self.current_transaction is not None:
            raise Conflict("a transaction is open: commit it or roll it back first")
        self.current_transaction = self.call("journal.begin", journal=BUCKET).value.transaction_id
        return str(self.current_transaction)

    def commit_transaction(self) -> bool:
        """Make all the transaction changed seen at once."""
        return self._end("journal.commit")

    def rollback_transaction(self) -> bool:
        """Take everything of the transaction back."""
        return self._end("journal.rollback")

    def _end(self, name: str) -> bool:
        if self.current_transaction is None:
            return False
        self.call(name, journal=BUCKET, transaction=self.current_transaction)
        self.current_transaction = None
        return True

    def entries(self) -> list[Any]:
        """Every entry as it stands, newest first."""
        return list(self.call("journal.entries", journal=BUCKET, limit=ENTRIES_MAX).value.entries)

    def _pending(self) -> list[Any]:
        return [each for each in self.entries() if each.status == "pending"]
