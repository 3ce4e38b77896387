"""Logs of the store: read, rotated, stored as versions, compared and restored; every call is one recorded operation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipfs_kit import KitError, to_json
from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS, OFF, Adapter
from ipfs_kit_py._shape import shape

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "LogManager"]

PAGE = 10_000


class LogManager(Adapter):
    """Recorded log lines and the files of the folder of logs.

    Args:
        enable_dataset_storage: Allow sets of logs to be stored.
        ipfs_client: A Kit whose store is used; anything else is kept as an attribute.
        storage_path: The store's directory; the default store when left out.
    """

    def __init__(
        self, enable_dataset_storage: bool = False, ipfs_client: Any = None, *, storage_path: str | Path | None = None
    ) -> None:
        super().__init__(__name__, storage_path, ipfs_client, enable_dataset_storage, stream="logs")

    def log(self, level: str, message: str, component: str = "", **details: Any) -> str | None:
        """Record one line, secrets masked; returns its op id."""
        from ipfs_kit.monitoring.logs.lines import clean, details_of, level_of

        event = {"level": level_of(level), "message": clean(message), "component": clean(component, 200)}
        return self.call("stream.append", stream="logs", events=[{**event, "details": details_of(details)}]).op_id

    def get_logs(
        self,
        component: str | None = None,
        level: str | None = None,
        since: float | None = None,
        until: float | None = None,
        text: str | None = None,
        limit: int = 1_000,
    ) -> list[dict[str, Any]]:
        """Recorded lines, newest first: of a part, from a level upwards, within a time, with a text."""
        given = {"component": [component] if component else None, "level": level, "since": since, "until": until}
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(found) < limit:
            page = self.call("logs.query", **given, text=text, cursor=cursor, limit=min(PAGE, limit - len(found))).value
            found += [{**to_json(row), "timestamp": row.time} for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                break
        return found

    def list_log_files(self) -> list[dict[str, Any]]:
        """The logs of the folder of logs, with their rotated files."""
        return [to_json(each) for each in self.call("logs.list").value.logs]

    def tail(self, name: str, lines: int = 100, cursor: str | None = None) -> dict[str, Any]:
        """The newest lines of a log file, or those after a cursor; data: name, lines, cursor."""
        return self._do("tail", lambda: self.call("logs.tail", name=name, limit=lines, cursor=cursor))

    def rotate(self, name: str | None = None, **limits: Any) -> dict[str, Any]:
        """Rotate log files that are due; limits are arguments of the operation ``logs.rotate``."""
        return self._do("rotate", lambda: self.call("logs.rotate", name=name, **limits))

    def store_logs_as_dataset(self, component: str | None = None, version: str | None = None) -> dict[str, Any]:
        """Store a version of the logs; data: version, cid, commit, files, size. A failure when storage is off."""
        if not self.enable_dataset_storage:
            return {"success": False, "error": OFF}
        return self._do("store_logs_as_dataset", lambda: self.call("logs.store", component=component, version=version))

    def list_versions(self) -> list[dict[str, Any]]:
        """Stored versions, newest first."""
        return [to_json(each) for each in self.call("logs.versions", limit=1_000).value.versions]

    def diff_versions(self, left: str, right: str) -> dict[str, Any]:
        """How two versions differ, file by file; data: files with added and removed lines."""
        return self._do("diff_versions", lambda: self.call("logs.diff", left=left, right=right))

    def restore_version(self, version: str, target_path: str | Path, overwrite: bool = False) -> dict[str, Any]:
        """Write a version to a folder; data: path, files, size."""
        given = {"version": version, "destination": str(target_path), "overwrite": overwrite}
        return self._do("restore_version", lambda: self.call("logs.restore", **given))

    def _do(self, name: str, work: Callable[[], Any]) -> dict[str, Any]:
        try:
            done = work()
        except KitError as error:
            return shape(name, error=error)
        return shape(name, to_json(done.value), done.op_id)
