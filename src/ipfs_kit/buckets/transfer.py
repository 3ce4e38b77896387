"""Local files and folders into buckets and back."""

from __future__ import annotations

import os
from typing import Any

from ipfs_kit.buckets.exporter import ExportReport, export_item
from ipfs_kit.buckets.importer import ImportReport, import_path
from ipfs_kit.buckets.paths import Location
from ipfs_kit.buckets.reads import ReadOps


class TransferOps(ReadOps):
    """Imports and exports."""

    def import_local(self, bucket: str, local: str | bytes | os.PathLike[str], **options: Any) -> ImportReport:
        """Store a local file or folder under a bucket's profile without linking it; pass ``report.item`` to
        ``put_entry``.

        Args:
            bucket: Whose profile and key to use.
            local: What to import.
            options: ``ignore``, ``use_ignore_files``, ``keep_mode``, ``progress`` of :func:`import_path`.
        """
        space = self.space(self.row(bucket))
        return import_path(local, space.view, space.put, **options)

    def export_local(self, at: str | Location, target: str | os.PathLike[str], **options: Any) -> ExportReport:
        """Write a file or a folder's contents to a local path.

        Args:
            at: What, in any state.
            target: Where.
            options: ``overwrite``, ``allow_collisions``, ``progress`` of :func:`export_item`.
        """
        item, space, _ = self.item_with_space(at)
        return export_item(item, space.view, target, **options)
