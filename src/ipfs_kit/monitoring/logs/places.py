"""Where log files lie, and which logs a folder holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipfs_kit.errors import InvalidInput, StorageFailed
from ipfs_kit.monitoring.logs.reader import GENERATIONS_MAX, files_of, generations, log_of
from ipfs_kit.monitoring.logs.rotate import LOCK_SUFFIX

ENVIRONMENT: Final = "IPFS_KIT_LOGS_PATH"


@dataclass(frozen=True, slots=True)
class LogFile:
    """One log of the folder.

    Args:
        name: Name of the file being written.
        size: Bytes of all its files, as they lie.
        files: Its files, oldest first.
        changed_s: When it was last written to, seconds since 1970.
    """

    name: str
    size: int
    files: list[str]
    changed_s: float


def folder(environment: Mapping[str, str]) -> Path:
    """Where log files lie: ``$IPFS_KIT_LOGS_PATH``, else ``$XDG_STATE_HOME/ipfs-kit/logs``."""
    if chosen := environment.get(ENVIRONMENT):
        return Path(chosen)
    state = environment.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return Path(state) / "ipfs-kit" / "logs"


def at(directory: Path, name: str) -> Path:
    """A log of the folder.

    Raises:
        InvalidInput: The name is not that of a file in it.
    """
    if not name or len(name.encode("utf-8", "replace")) > 200 or "/" in name or "\0" in name or name in (".", ".."):
        raise InvalidInput(f"{name[:80]!r} is no name of a log: 'ipfs-kit logs list' names them")
    return directory / name


def logs(directory: Path) -> list[LogFile]:
    """The logs of a folder by name; rotated files count to the log they come from.

    Raises:
        StorageFailed: The folder cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageFailed(f"cannot list {directory}: {exc.strerror}") from exc
    names = [name for name in names[:GENERATIONS_MAX] if not name.endswith(LOCK_SUFFIX) and not name.startswith(".")]
    # A log whose present file was just renamed is found by what was rotated.
    all_names = {*names, *(log for name in names if (log := log_of(name)) is not None)}
    rotated = {old.name for name in all_names for old in generations(directory / name)}
    found = []
    for name in sorted(all_names - rotated):
        files = files_of(directory / name)
        try:
            facts = [each.stat() for each in files]
        except FileNotFoundError:
            continue  # rotated this moment: the next call sees it
        size, changed = sum(fact.st_size for fact in facts), max(fact.st_mtime for fact in facts)
        found.append(LogFile(name, size, [each.name for each in files], changed))
    return found
