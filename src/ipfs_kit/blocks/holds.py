"""Holds: what must not be removed, why, and until when; deletes and garbage collection obey them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable.state import Schema, StateDB, Tx
from ipfs_kit.errors import Held, InvalidInput, NotFound
from ipfs_kit.ipld.cid import CID

HOLDS_SCHEMA: Final = Schema(
    "holds",
    1,
    (
        """
        CREATE TABLE holds(
          id INTEGER PRIMARY KEY AUTOINCREMENT, cid BLOB, bucket TEXT, reason TEXT, since_ns INTEGER, until_ns INTEGER,
          CHECK((cid IS NULL) <> (bucket IS NULL))
        )
        """,
        "CREATE INDEX holds_by_cid ON holds(cid) WHERE cid IS NOT NULL",
        "CREATE INDEX holds_by_bucket ON holds(bucket) WHERE bucket IS NOT NULL",
    ),
)
_REASON_MAX: Final = 1000
_PAGE_MAX: Final = 1000
_SELECT: Final = "SELECT id, cid, bucket, reason, since_ns, until_ns FROM holds "


@dataclass(frozen=True, slots=True)
class Hold:
    """One hold.

    Args:
        id: Its number.
        cid: The DAG it keeps, or None.
        bucket: The bucket it keeps whole, or None.
        reason: Why, in the words of whoever placed it.
        since_ns: When it was placed.
        until_ns: When it lapses by itself; None means when it is released.
    """

    id: int
    cid: CID | None
    bucket: str | None
    reason: str
    since_ns: int
    until_ns: int | None

    def active(self, now_ns: int) -> bool:
        """Whether it still binds."""
        return self.until_ns is None or self.until_ns > now_ns


class Holds:
    """The holds of one store; changes are effects to run inside a state transaction.

    Args:
        state: The store's state file, opened with ``HOLDS_SCHEMA``.
    """

    def __init__(self, state: StateDB) -> None:
        self._state = state

    def add(self, target: CID | str, reason: str, now_ns: int, until_ns: int | None = None) -> Callable[[Tx], Hold]:
        """Prepare a hold.

        Args:
            target: A CID, whose whole DAG is kept, or a bucket's name.
            reason: Why; shown to whoever is refused.
            now_ns: The present time.
            until_ns: When it lapses; None means never.

        Returns:
            The effect, which returns the hold.

        Raises:
            InvalidInput: No reason, or it lapses before it begins.
        """
        if not reason.strip() or len(reason) > _REASON_MAX:
            raise InvalidInput(f"a hold needs a reason of 1 to {_REASON_MAX} characters")
        if until_ns is not None and until_ns <= now_ns:
            raise InvalidInput("the hold would lapse before it begins: give a later time")
        cid, bucket = (target, None) if isinstance(target, CID) else (None, target)

        def effect(tx: Tx) -> Hold:
            binary = cid.binary if cid is not None else None
            values = (binary, bucket, reason, now_ns, until_ns)
            rows = tx.execute(
                "INSERT INTO holds(cid, bucket, reason, since_ns, until_ns) VALUES(?,?,?,?,?) RETURNING id", values
            )
            return Hold(int(rows[0][0]), cid, bucket, reason, now_ns, until_ns)

        return effect

    def release(self, hold_id: int) -> Callable[[Tx], Hold]:
        """Prepare the release of a hold.

        Returns:
            The effect, which returns the hold as it was and raises ``NotFound`` when there is none.
        """

        def effect(tx: Tx) -> Hold:
            rows = tx.execute(
                "DELETE FROM holds WHERE id=? RETURNING id, cid, bucket, reason, since_ns, until_ns", (hold_id,)
            )
            if not rows:
                raise NotFound(f"no hold number {hold_id}: list the holds to see their numbers", hold=hold_id)
            return _hold(rows[0])

        return effect

    def list(self, *, after: int = 0, limit: int = 100) -> list[Hold]:
        """Holds in order of number, lapsed ones included.

        Args:
            after: The last number of the page before.
            limit: At most 1,000.
        """
        rows = self._state.query(_SELECT + "WHERE id>? ORDER BY id LIMIT ?", (after, min(max(limit, 1), _PAGE_MAX)))
        return [_hold(row) for row in rows]

    def on(self, target: CID | str, now_ns: int, tx: Tx | None = None) -> Hold | None:
        """A hold that binds a CID or bucket now, or None.

        Args:
            target: The CID or bucket's name itself; a block below a held root is kept by the collector, not named here.
            now_ns: The present time.
            tx: Look inside this transaction.
        """
        column, value = ("cid", target.binary) if isinstance(target, CID) else ("bucket", target)
        sql = (
            _SELECT + f"WHERE {column}=? AND (until_ns IS NULL OR until_ns>?) ORDER BY until_ns IS NOT NULL, id LIMIT 1"
        )
        rows = tx.execute(sql, (value, now_ns)) if tx is not None else self._state.query(sql, (value, now_ns))
        return _hold(rows[0]) if rows else None

    def refuse(self, target: CID | str, now_ns: int, tx: Tx | None = None) -> None:
        """Stop a removal that a hold forbids.

        Raises:
            Held: There is a binding hold; the message says which and why.
        """
        hold = self.on(target, now_ns, tx)
        if hold is not None:
            until = "until it is released" if hold.until_ns is None else f"until {hold.until_ns} ns"
            raise Held(
                f"{target} is held {until} (hold {hold.id}: {hold.reason}); release the hold first", hold=hold.id
            )

    def roots(self, now_ns: int) -> Iterator[CID]:
        """The CIDs that binding holds keep; held buckets are kept by whoever knows their refs."""
        for (binary,) in self._state.query(
            "SELECT DISTINCT cid FROM holds WHERE cid IS NOT NULL AND (until_ns IS NULL OR until_ns>?)", (now_ns,)
        ):
            yield CID(binary)

    def buckets(self, now_ns: int) -> Sequence[str]:
        """The names of buckets that binding holds keep."""
        rows = self._state.query(
            "SELECT DISTINCT bucket FROM holds WHERE bucket IS NOT NULL AND (until_ns IS NULL OR until_ns>?)", (now_ns,)
        )
        return sorted(str(row[0]) for row in rows)


def _hold(row: tuple[object, ...]) -> Hold:
    number, cid, bucket, reason, since_ns, until_ns = row
    return Hold(
        int(str(number)),
        CID(cid) if isinstance(cid, bytes) else None,
        None if bucket is None else str(bucket),
        str(reason),
        int(str(since_ns)),
        None if until_ns is None else int(str(until_ns)),
    )
