"""The audit trail of a store under its published names; every event is one op of the stream ``audit``."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS, Adapter
from ipfs_kit_py._audit_events import AuditEvent, AuditEventType, AuditSeverity, word
from ipfs_kit_py._audit_words_data import AuditWords

__all__ = ["HAS_ACCELERATE", "HAS_DATASETS", "AuditEvent", "AuditEventType", "AuditLogger", "AuditSeverity"]

PAGE = 10_000
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}


class AuditLogger(AuditWords, Adapter):
    """Records what matters to security, and finds it again after a restart.

    Args:
        log_file: A file that gets each event as one line of JSON besides; it is no store, nothing is read from it.
        log_level: Least level of the events that Python's logging is told of.
        enable_dataset_storage: Gather events into batches with a CID.
        ipfs_client: A Kit whose store is used; anything else is kept as an attribute.
        storage_path: The store's directory; the default store when left out.
    """

    def __init__(
        self,
        log_file: str | Path | None = None,
        log_level: int = logging.INFO,
        enable_dataset_storage: bool = False,
        ipfs_client: Any = None,
        *,
        storage_path: str | Path | None = None,
    ) -> None:
        super().__init__(__name__, storage_path, ipfs_client, enable_dataset_storage, stream="audit")
        self.log_file = None if log_file is None else Path(log_file)
        self.log_level = log_level
        self._writing = threading.Lock()
        self._cleared = -1

    def log(
        self,
        event_type: Any,
        action: str,
        user_id: str | None = None,
        ip_address: str | None = None,
        resource_id: str | None = None,
        resource_type: str | None = None,
        status: str | None = None,
        details: dict[str, Any] | None = None,
        request_id: str | None = None,
    ) -> str | None:
        """Record an event and return its op id."""
        known = json.loads(json.dumps(details or {}, default=str))
        event = AuditEvent(
            word(event_type), action, user_id=user_id, ip_address=ip_address, resource_id=resource_id,
            resource_type=resource_type, status=status, details=known, request_id=request_id,
        )  # fmt: skip
        given = event.to_dict()
        severity = "warning" if status in ("failure", "denied") or action in ("revoke", "delete") else "info"
        severity = "error" if status == "error" else severity
        given["event_time"] = given.pop("timestamp")
        done = self.call("stream.append", stream="audit", events=[{**given, "severity": severity}])
        if self.log_file is not None:
            with self._writing:
                self.log_file.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                with os.fdopen(file, "a", encoding="utf-8", errors="backslashreplace") as out:
                    out.write(event.to_json() + "\n")
        if _LEVELS[severity] >= self.log_level:
            logging.getLogger(__name__).log(_LEVELS[severity], "audit %s %s", event.event_type, json.dumps(action))
        return done.op_id

    def get_recent_events(
        self, limit: int | None = None, event_type: Any = None, user_id: str | None = None
    ) -> list[dict[str, Any]]:
        """Events newest first, from the whole history and not from memory; all when no limit is given."""
        types = None if event_type is None else [word(event_type)]
        users = None if user_id is None else [user_id]
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while limit is None or len(found) < limit:
            size = PAGE if limit is None else min(PAGE, limit - len(found))
            page = self.call("audit.query", types=types, users=users, denials=False, limit=size, cursor=cursor).value
            for row in page.rows:
                if row.index <= self._cleared:
                    return found
                when = row.time_ns / 1e9 if row.event_time is None else row.event_time
                names = AuditEvent.__dataclass_fields__.keys() - {"timestamp"}
                found.append({**{name: getattr(row, name) for name in names}, "timestamp": when, "op_id": row.op_id})
            cursor = page.cursor
            if cursor is None:
                break
        return found

    def clear_cache(self) -> None:
        """Begin this object's recent events anew; what was recorded stays, and another object shows it."""
        newest = self.call("audit.query", denials=False, limit=1).value.rows
        self._cleared = newest[0].index if newest else self._cleared
