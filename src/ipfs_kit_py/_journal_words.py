"""Words of the published journal, and when its next checkpoint is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any


class JournalOperationType(Enum):
    """What an entry says was done."""

    CREATE = "create"
    DELETE = "delete"
    RENAME = "rename"
    WRITE = "write"
    TRUNCATE = "truncate"
    METADATA = "metadata"
    CHECKPOINT = "checkpoint"
    MOUNT = "mount"
    UNMOUNT = "unmount"
    DATASET = "dataset"


class JournalEntryStatus(Enum):
    """How an entry stands."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


def word(value: Any) -> str:
    """The text of an enum's member, or the text itself."""
    return str(value.value) if isinstance(value, Enum) else str(value)


class Due:
    """Tells when the next checkpoint is due: after so many seconds or entries."""

    def __init__(self, interval_s: float, entries: int, now: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._entries, self._now = interval_s, entries, now
        self.done()

    def done(self) -> None:
        """A checkpoint was made."""
        self._at, self._count = self._now(), 0

    def count(self) -> bool:
        """Count an entry; whether a checkpoint is due."""
        self._count += 1
        return self._count >= self._entries or self._now() - self._at >= self._interval_s


def dataset_id(path: str | Path) -> str:
    """Name of a dataset: that of its file or folder."""
    return Path(path).name
