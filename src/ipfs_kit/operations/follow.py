"""Following the logs as they grow: positions that resume, and the reader behind every live tail."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.errors import Cancelled, InvalidInput
from ipfs_kit.ledger import Record, Where
from ipfs_kit.ledger.record import LOGS
from ipfs_kit.ledger.streams.registry import stream_named

if TYPE_CHECKING:
    from ipfs_kit.ledger import Ledger
    from ipfs_kit.operations.kit import Kit
    from ipfs_kit.operations.toolsets.follow import FollowPage
    from ipfs_kit.operations.toolsets.ledger import OpInfo

FOLLOW: Final = "ledger.follow"
SEND: Final = "telemetry.otlp_send"
READERS: Final = frozenset({FOLLOW, SEND})
"""Operations that read what is new: their own records are left out, or they would wake themselves for ever."""
SCANNED_MAX: Final = 65_536
"""Records of one log looked at in one step: a family that is rare in a busy log costs bounded work and memory."""
POLL_S: Final = 0.025
WAIT_MAX_S: Final = 60
FEED_WAIT_S: Final = 30
FEED_ROWS: Final = 500

Found = tuple[str, int, Record]


def parse_cursor(text: str) -> dict[str, int]:
    """Read a cursor: the index of the next record of each log, such as ``bulk:12,main:41``.

    Raises:
        InvalidInput: It is not one.
    """
    at: dict[str, int] = {}
    for part in text.split(",", len(LOGS)):
        log, _, index = part.partition(":")
        if log not in LOGS or log in at or not (index.isascii() and index.isdecimal()) or len(index) > 18:
            raise InvalidInput("a cursor is what a page returned, such as 'bulk:12,main:41'")
        at[log] = int(index)
    return at


def cursor_text(at: Mapping[str, int]) -> str:
    """Write a cursor."""
    return ",".join(f"{log}:{at[log]}" for log in sorted(at))


def positions(page: FollowPage) -> tuple[str, list[tuple[OpInfo, str]]]:
    """The cursor before a page, and each of its ops with the cursor that continues after it."""
    end = parse_cursor(page.cursor)
    at = dict(end)
    places = [(log, int(index)) for log, _, index in (row.op.partition(":") for row in page.ops)]
    for log, index in places:
        at[log] = min(at[log], index)
    before = cursor_text(at)
    after = []
    for row, (log, index) in zip(page.ops, places, strict=True):
        at[log] = max(at[log], index + 1)
        after.append((row, cursor_text(at)))
    if after:
        # Past what was looked at and not wanted, too.
        after[-1] = (after[-1][0], page.cursor)
    return before, after


class Follower:
    """Reads what is appended to one or both logs, each record once, from positions it keeps.

    Args:
        ledger: The ledger; records of other processes on the same store are seen too.
        logs: The logs to read.
        where: The condition on records. Records of ``READERS`` never meet it.
        at: Index of the next record by log; a log left out is followed from its present end.
    """

    def __init__(self, ledger: Ledger, logs: tuple[str, ...], where: Where, at: Mapping[str, int]) -> None:
        self._ledger = ledger
        self._where = where
        self.at = {log: at[log] if log in at else ledger.size(log) for log in logs}

    @classmethod
    def of(cls, ledger: Ledger, stream: str | None, log: str | None, cursor: str | None) -> Follower:
        """The follower of a stream, a log, or all.

        Args:
            ledger: The ledger.
            stream: The family of ops; None for all.
            log: ``main`` or ``bulk``; None for both, or the one that holds the stream's events.
            cursor: Where to begin; None begins at the present end.

        Raises:
            InvalidInput: The stream, the log or the cursor is not one of this store.
        """
        if log is not None and log not in LOGS:
            raise InvalidInput(f"log is {' or '.join(LOGS)}, not {log!r}")
        where = Where()
        logs = LOGS if log is None else (log,)
        if stream is not None:
            family = stream_named(stream)
            where = Where(stream=frozenset({family.name}))
            if log is None and family.event is not None:
                logs = (family.log,)
        at = {} if cursor is None else parse_cursor(cursor)
        if others := set(at) - set(logs):
            raise InvalidInput(f"the cursor is of log {', '.join(sorted(others))}, which is not followed here")
        for name, index in at.items():
            if index > (size := ledger.size(name)):
                raise InvalidInput(f"log {name} has {size} records, so a cursor at {index} is of another store")
        return cls(ledger, logs, where, at)

    @property
    def cursor(self) -> str:
        """Where reading continues."""
        return cursor_text(self.at)

    def sizes(self) -> tuple[int, ...]:
        """Records committed to the logs; unchanged sizes mean that there is nothing new."""
        return tuple(self._ledger.size(log) for log in self.at)

    def last(self, count: int) -> list[Found]:
        """The newest records before the positions that meet the condition, oldest first; positions do not move.

        Args:
            count: Most records to return; none is looked for further back than ``SCANNED_MAX`` records.
        """

        def one(log: str) -> Iterator[Found]:
            stop = self.at[log]
            start = max(0, stop - SCANNED_MAX)
            for index, record in self._ledger.select(log, self._where, start, stop, newest_first=True):
                yield log, index, record

        newest: list[Found] = []
        for found in heapq.merge(*map(one, self.at), key=_time, reverse=True):
            if len(newest) == count:
                break
            if found[2].operation not in READERS:
                newest.append(found)
        return newest[::-1]

    def take(self, limit: int) -> list[Found]:
        """The next records in order of time; the positions move past them and past what was not wanted.

        Args:
            limit: Most records to return.
        """
        stops = {log: min(self._ledger.size(log), at + SCANNED_MAX) for log, at in self.at.items()}

        def one(log: str) -> Iterator[Found]:
            if self.at[log] < stops[log]:
                for index, record in self._ledger.select(log, self._where, self.at[log], stops[log]):
                    yield log, index, record

        found: list[Found] = []
        for each in heapq.merge(*map(one, self.at), key=_time):
            if len(found) == limit:
                return found
            self.at[each[0]] = each[1] + 1
            if each[2].operation not in READERS:
                found.append(each)
        for log, stop in stops.items():
            self.at[log] = max(self.at[log], stop)
        return found

    def ready(self) -> bool:
        """Whether a record that is wanted waits; the positions move past what is not."""
        before = dict(self.at)
        if not self.take(1):
            return False
        self.at = before
        return True

    def wait(
        self, limit: int, wait_s: float, check_cancelled: Callable[[], None], now: Callable[[], float] = time.monotonic
    ) -> list[Found]:
        """The next records, waiting for the first of them.

        Args:
            limit: Most records to return.
            wait_s: Longest wait in seconds; then the answer is empty.
            check_cancelled: Raises when the caller has gone.
            now: Monotonic seconds.
        """
        deadline = now() + wait_s
        pause = threading.Event()
        seen: tuple[int, ...] | None = None
        while True:
            sizes = self.sizes()
            if sizes != seen or any(at < size for at, size in zip(self.at.values(), sizes, strict=True)):
                seen = sizes
                if found := self.take(limit):
                    return found
            if (left := deadline - now()) <= 0:
                return []
            check_cancelled()
            pause.wait(min(POLL_S, left))


def _time(found: Found) -> int:
    return found[2].time_ns


class Feed:
    """An endless iterator over ops as they are recorded; ``cursor`` resumes after the last one taken.

    Args:
        kit: The store.
        stream: The family of ops; None for all.
        log: ``main`` or ``bulk``; None for both.
        cursor: Where to begin; None begins at the present end.
        last: Ops recorded before that to begin with.
    """

    def __init__(
        self, kit: Kit, stream: str | None = None, log: str | None = None, cursor: str | None = None, last: int = 0
    ) -> None:
        self._kit = kit
        self._closed = threading.Event()
        self._given = {"stream": stream, "log": log}
        # Asked now, so that what is recorded between this line and the first ``next`` is not missed.
        page = self._page({"cursor": cursor, "last": last})
        self.cursor, rows = positions(page)
        """Give this to a later feed: it continues after the last op this one returned."""
        self._rows, self._end = deque(rows), page.cursor

    def close(self) -> None:
        """End the iteration, from any thread."""
        self._closed.set()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> OpInfo:
        while not self._rows and not self._closed.is_set():
            try:
                page = self._page({"cursor": self._end, "limit": FEED_ROWS, "wait_s": FEED_WAIT_S})
            except Cancelled:
                if self._closed.is_set():
                    break
                raise
            self._rows.extend(positions(page)[1])
            self._end = page.cursor
            if not self._rows:
                self.cursor = page.cursor
        if self._closed.is_set():
            raise StopIteration
        row, self.cursor = self._rows.popleft()
        return row

    def _page(self, extra: Mapping[str, Any]) -> FollowPage:
        page: FollowPage = self._kit.call_with(FOLLOW, {**self._given, **extra}, cancelled=self._closed).value
        return page
