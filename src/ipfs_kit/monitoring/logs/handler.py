"""Handlers of the standard library's logging: into the stream ``logs`` in batches, and into a rotating file.

The library never installs them: a server does when asked, and so may a program.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from ipfs_kit.errors import InvalidInput, KitError
from ipfs_kit.monitoring.logs.lines import LEVELS, clean, details_of, level_of
from ipfs_kit.monitoring.logs.rotate import RotatingFile

BATCH: Final = 500
CAPACITY: Final = 20_000
"""Lines that may wait; a writer of more waits too."""
INTERVAL_S: Final = 1.0
WAIT_MAX_S: Final = 30.0
"""Longest wait of a writer: longer would be a deadlock with whoever holds what the store waits for."""
_USUAL: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

Append = Callable[[list[dict[str, Any]]], object]


def event_of(record: logging.LogRecord, component: str = "") -> dict[str, Any]:
    """A log record as an event of the stream ``logs``, secrets taken out.

    Args:
        record: What was logged.
        component: Which part wrote it; the first word of the logger's name when left out.
    """
    try:
        message = record.getMessage()
    except Exception as exc:  # arguments of the caller's own classes may raise anything
        message = f"{record.msg!r} (arguments not shown: {type(exc).__name__})"
    name = record.name[:200]
    event: dict[str, Any] = {
        "level": record.levelname if record.levelname in LEVELS else level_of(record.levelno),
        "message": clean(message),
        "component": clean(component or name.partition(".")[0], 200),
        "logger": clean(name, 200),
        "source": clean(record.pathname, 500),
        "line": record.lineno,
        "event_time": record.created,
    }
    if record.exc_info and record.exc_info[0] is not None:
        event["exception"] = clean(logging.Formatter().formatException(record.exc_info))
    extra = {key: value for key, value in vars(record).items() if key not in _USUAL}
    if extra:
        try:
            event["details"] = details_of(extra)
        except Exception as exc:  # as above: their str() is the caller's code
            event["details"] = {"not_shown": type(exc).__name__}
    return event


class StreamHandler(logging.Handler):
    """Sends log records to a stream from a thread of its own; ``flush`` returns once all of them are recorded.

    What cannot be recorded now is kept and tried again; a writer waits while too many wait. What is logged while a batch
    is being sent, by the thread that sends it, is counted in ``own`` and not sent: it would never end.

    Args:
        append: Records events durably, or raises a ``KitError`` and records none.
        component: Which part writes; the first word of the logger's name when left out.
        level: Lowest level sent.
        batch: Lines that are sent at once.
        capacity: Lines that may wait.
        interval_s: Longest time a line waits for others.
        wait_max_s: Longest time a writer waits for room; the line is lost after it, counted, and told in the stream.
    """

    def __init__(
        self,
        append: Append,
        *,
        component: str = "",
        level: int = logging.INFO,
        batch: int = BATCH,
        capacity: int = CAPACITY,
        interval_s: float = INTERVAL_S,
        wait_max_s: float = WAIT_MAX_S,
    ) -> None:
        super().__init__(level)
        self._append, self._component = append, component
        self._batch, self._capacity, self._interval_s, self._wait_max_s = batch, capacity, interval_s, wait_max_s
        self._waiting: deque[dict[str, Any]] = deque()
        self._room = threading.Condition()
        self._sending = threading.RLock()
        self._sender: int | None = None
        self._closed = False
        self._failures = 0
        self.own = 0
        self.lost = 0
        self._told_lost = 0
        self.last_error: KitError | None = None
        self._thread = threading.Thread(target=self._run, name="logs-to-store", daemon=True)
        self._thread.start()

    def createLock(self) -> None:  # noqa: N802 - the standard library's name
        """No lock: writers wait for room each on their own, and the sender must be able to log."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit a record that the filters let through; the standard library's takes the lock, since 3.13 unasked."""
        passed: bool | logging.LogRecord = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record, waiting while too many wait."""
        if self._sender == threading.get_ident():
            self.own += 1
            return
        try:
            event = event_of(record, self._component)
        except RecursionError:
            self.handleError(record)
            return
        # A thread of the store that waited here would wait for itself: its few lines get room beyond the usual.
        inner = record.name.startswith("ipfs_kit.")
        capacity, timeout = (2 * self._capacity, 0.0) if inner else (self._capacity, self._wait_max_s)
        with self._room:
            if not self._room.wait_for(lambda: len(self._waiting) < capacity or self._closed, timeout=timeout):
                self.lost += 1
                return
            self._waiting.append(event)
            if len(self._waiting) >= self._batch:
                self._room.notify_all()

    def _run(self) -> None:
        while True:
            with self._room:
                pause = min(self._interval_s * 2**self._failures, 60.0)
                self._room.wait_for(
                    lambda: self._closed or (not self._failures and len(self._waiting) >= self._batch), timeout=pause
                )
                if self._closed:
                    return
            self._send_all()

    def _send_all(self) -> bool:
        """Send what waits, batch by batch, until one fails."""
        with self._sending:
            self._sender = threading.get_ident()
            try:
                while True:
                    if not self._tell_lost():
                        return False
                    with self._room:
                        taken = [self._waiting[at] for at in range(min(self._batch, len(self._waiting)))]
                    if not taken:
                        return True
                    sent = self._send(taken)
                    with self._room:
                        for _ in range(sent):
                            self._waiting.popleft()
                        self._room.notify_all()
                    if sent < len(taken):
                        return False
            finally:
                self._sender = None

    def _tell_lost(self) -> bool:
        missing = self.lost - self._told_lost
        if missing:
            message = f"{missing} log lines were lost: the store took none for {self._wait_max_s:.0f} s"
            if not self._send([{"level": "ERROR", "message": message, "component": "logs"}]):
                return False
            self._told_lost += missing
        return True

    def _send(self, events: Sequence[dict[str, Any]]) -> int:
        """Send events; how many of them, from the first on, need not be sent again."""
        try:
            self._append(list(events))
        except InvalidInput as error:
            self.last_error = error
            if len(events) > 1:
                for at, event in enumerate(events):
                    if not self._send([event]):
                        return at
            elif "cannot be recorded" not in events[0]["message"]:  # a line no record can hold leaves a trace
                return self._send([{"level": "ERROR", "message": f"a line cannot be recorded: {error.message[:500]}"}])
        except KitError as error:
            self.last_error = error
            self._failures = min(self._failures + 1, 10)
            return 0
        self._failures = 0
        return len(events)

    def flush(self) -> None:
        """Record everything logged so far; what cannot be recorded stays, and ``last_error`` says why."""
        self._send_all()

    def close(self) -> None:
        """Record what waits and end; what the store refuses now is lost and counted."""
        with self._room:
            self._closed = True
            self._room.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        self._send_all()
        self.lost += len(self._waiting)
        self._waiting.clear()
        super().close()


class FileHandler(logging.Handler):
    """Writes log records as JSON lines to a rotating file.

    Args:
        file: The file.
        component: Which part writes.
        level: Lowest level written.
    """

    def __init__(self, file: RotatingFile, *, component: str = "", level: int = logging.INFO) -> None:
        super().__init__(level)
        self._file, self._component = file, component

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; a refusal is told as the standard library tells it, and the program goes on."""
        try:
            event = event_of(record, self._component)
            self._file.write(json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=str).encode())
        except (KitError, RecursionError):
            self.handleError(record)

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        super().close()
