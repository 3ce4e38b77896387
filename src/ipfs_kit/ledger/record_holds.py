"""Holds on records: a stream and a range of time that must neither expire nor be erased, why, and until when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable.state import Schema, Tx
from ipfs_kit.errors import Held, InvalidInput, NotFound
from ipfs_kit.ledger.batches import Querying

SCHEMA: Final = Schema(
    "ledger_holds",
    1,
    (
        """CREATE TABLE ledger_holds(
            id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT, since_ns INTEGER, until_ns INTEGER, reason TEXT NOT NULL,
            placed_ns INTEGER NOT NULL, lapses_ns INTEGER)""",
    ),
)
_REASON_MAX: Final = 1000
_COLUMNS: Final = "id, stream, since_ns, until_ns, reason, placed_ns, lapses_ns"


@dataclass(frozen=True, slots=True)
class RecordHold:
    """One hold on records.

    Args:
        id: Its number.
        stream: The stream it keeps; None keeps all.
        since_ns: Records made at or after this time; None from the beginning.
        until_ns: Records made before this time; None without end.
        reason: Why, in the words of whoever placed it.
        placed_ns: When it was placed.
        lapses_ns: When it lapses by itself; None means when it is released.
    """

    id: int
    stream: str | None
    since_ns: int | None
    until_ns: int | None
    reason: str
    placed_ns: int
    lapses_ns: int | None

    def active(self, now_ns: int) -> bool:
        """Whether it still binds."""
        return self.lapses_ns is None or self.lapses_ns > now_ns

    def covers(self, stream: str, time_min: int, time_max: int) -> bool:
        """Whether records of a stream made between two times, both included, may fall under it.

        Args:
            stream: Their stream; empty when they are of several.
            time_min: Of the oldest.
            time_max: Of the newest.
        """
        return (
            (self.stream is None or not stream or self.stream == stream)
            and (self.since_ns is None or time_max >= self.since_ns)
            and (self.until_ns is None or time_min < self.until_ns)
        )

    def refusal(self, what: str) -> Held:
        """The error for whoever would remove what it keeps."""
        return Held(f"{what} is held (hold {self.id}: {self.reason}); release the hold first", hold=self.id)


def add(
    stream: str | None,
    since_ns: int | None,
    until_ns: int | None,
    reason: str,
    now_ns: int,
    lapses_ns: int | None = None,
) -> Callable[[Tx], RecordHold]:
    """Prepare a hold.

    Args:
        stream: The stream kept; None keeps all.
        since_ns: From when.
        until_ns: Up to when.
        reason: Why; shown to whoever is refused.
        now_ns: The present time.
        lapses_ns: When it lapses; None means never.

    Returns:
        The effect, which returns the hold.

    Raises:
        InvalidInput: No reason, no time in the range, or it lapses before it begins.
    """
    if not reason.strip() or len(reason) > _REASON_MAX:
        raise InvalidInput(f"a hold needs a reason of 1 to {_REASON_MAX} characters")
    if since_ns is not None and until_ns is not None and since_ns >= until_ns:
        raise InvalidInput("the range of the hold is empty: it must end after it begins")
    if lapses_ns is not None and lapses_ns <= now_ns:
        raise InvalidInput("the hold would lapse before it begins: give a later time")

    def effect(tx: Tx) -> RecordHold:
        values = (stream, since_ns, until_ns, reason, now_ns, lapses_ns)
        rows = tx.execute(
            "INSERT INTO ledger_holds(stream, since_ns, until_ns, reason, placed_ns, lapses_ns) VALUES(?,?,?,?,?,?) "
            "RETURNING id",
            values,
        )
        return RecordHold(int(rows[0][0]), *values)

    return effect


def release(hold_id: int) -> Callable[[Tx], RecordHold]:
    """Prepare the release of a hold.

    Returns:
        The effect, which returns the hold as it was and raises ``NotFound`` when there is none.
    """

    def effect(tx: Tx) -> RecordHold:
        rows = tx.execute(f"DELETE FROM ledger_holds WHERE id = ? RETURNING {_COLUMNS}", (hold_id,))  # noqa: S608 - constant columns
        if not rows:
            raise NotFound(f"no hold number {hold_id} on records: 'ipfs-kit ledger holds' lists them", hold=hold_id)
        return RecordHold(*rows[0])

    return effect


def listed(db: Querying, *, after: int = 0, limit: int = 1000) -> list[RecordHold]:
    """Holds in order of number, lapsed ones included.

    Args:
        db: ``state.db``.
        after: The last number of the page before.
        limit: Most returned.
    """
    rows = db.query(f"SELECT {_COLUMNS} FROM ledger_holds WHERE id > ? ORDER BY id LIMIT ?", (after, limit))  # noqa: S608 - constant columns
    return [RecordHold(*row) for row in rows]


def binding(rows: Sequence[Sequence[Any]], now_ns: int) -> list[RecordHold]:
    """The holds among rows that still bind."""
    return [hold for hold in (RecordHold(*row) for row in rows) if hold.active(now_ns)]


def active(db: Querying, now_ns: int) -> list[RecordHold]:
    """Every hold that binds now."""
    return binding(db.query(f"SELECT {_COLUMNS} FROM ledger_holds ORDER BY id"), now_ns)  # noqa: S608 - constant columns


def active_in(tx: Tx, now_ns: int) -> list[RecordHold]:
    """Every hold that binds now, inside a transaction."""
    return binding(tx.execute(f"SELECT {_COLUMNS} FROM ledger_holds ORDER BY id"), now_ns)  # noqa: S608 - constant columns
