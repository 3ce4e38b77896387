"""The verbs of the published journal manager: each one entry with its change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit import KitError
from ipfs_kit_py._shape import shape

if TYPE_CHECKING:
    from ipfs_kit_py.filesystem_journal import FilesystemJournal


class FilesystemJournalManager:
    """Files and folders of a journal.

    Args:
        journal: The journal.
        wal: Kept as an attribute, like ``fs_interface``: the store's own log is the journal's.
    """

    def __init__(self, journal: FilesystemJournal, wal: Any = None, fs_interface: Any = None) -> None:
        self.journal, self.wal, self.fs_interface = journal, wal, fs_interface

    def _do(self, name: str, kind: str, path: str, **given: Any) -> dict[str, Any]:
        try:
            entry = self.journal.change(kind, path, **given)
        except KitError as error:
            return shape(name, {"path": path}, error=error)
        return shape(name, {"path": path, "entry_id": entry}, entry)

    def create_file(self, path: str, content: bytes | str, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Create a file; data: path, entry_id."""
        return self._do("create_file", "create", path, data=_bytes(content), metadata=_labels(metadata))

    def create_directory(self, path: str, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Create a folder; its metadata is kept by a second entry."""
        done = self._do("create_directory", "create", path, directory=True)
        return done if not metadata or not done["success"] else self.update_metadata(path, metadata)

    def delete(self, path: str) -> dict[str, Any]:
        """Delete a file, or a folder with all it holds."""
        return self._do("delete", "delete", path)

    def rename(self, old_path: str, new_path: str) -> dict[str, Any]:
        """Give a file or folder another path."""
        return self._do("rename", "rename", old_path, target=new_path)

    def write_file(self, path: str, content: bytes | str, metadata: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Write a file whole."""
        return self._do("write_file", "write", path, data=_bytes(content), metadata=_labels(metadata))

    def update_metadata(self, path: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the metadata of a path."""
        return self._do("update_metadata", "metadata", path, metadata=dict(metadata))

    def mount(
        self, path: str, cid: str, is_directory: bool = False, metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Let a path stand for content named by CID."""
        given = {"target": str(cid), "directory": is_directory, "metadata": _labels(metadata)}
        return self._do("mount", "mount", path, **given)

    def unmount(self, path: str) -> dict[str, Any]:
        """Take a mount away."""
        return self._do("unmount", "unmount", path)

    def get_journal_stats(self) -> dict[str, Any]:
        """Entries by status and kind, counted from the journal; data: journal_size, entries_by_status, entries_by_type."""
        try:
            entries = self.journal.entries()
        except KitError as error:
            return shape("get_journal_stats", error=error)
        checkpoints = [each.time_ns / 1e9 for each in entries if each.operation_type == "checkpoint"]
        data = {
            "journal_size": len(entries),
            "entries_by_status": dict(Counter(each.status for each in entries)),
            "entries_by_type": dict(Counter(each.operation_type for each in entries)),
            "last_checkpoint": max(checkpoints, default=None),
            "current_transaction": self.journal.current_transaction,
        }
        return shape("get_journal_stats", data)


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else bytes(content)


def _labels(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return dict(metadata) if metadata else None
