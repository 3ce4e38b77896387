"""The verifier's view of what is not kept any more: every gap must have been recorded as an expiry, and nothing else.

Part of the independent verifier: nothing here is shared with the writer. The op ``ledger.expire`` is in clear, so no key is
needed to compare the rows of ``ledger_expired`` with what the log says went.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ipfs_kit.errors import KitError
from ipfs_kit.ipld import CID, dag_cbor

Query = Callable[..., list[tuple[Any, ...]]]
Named = set[tuple[Any, ...]]
"""``(log, first, stop, family, count, sha256, why)`` of every file that an op of the log says expired."""

_MARK = b"ledger.expire"
_OPERATION, _SUBJECT, _EFFECT, _STATUS = 7, 9, 12, 13


def names_of(records: Sequence[bytes | None]) -> Iterator[tuple[Any, ...]]:
    """The files that these records say expired."""
    for record in records:
        if record is None or _MARK not in record:
            continue
        try:
            row = dag_cbor.decode(record)
            if (
                row[_OPERATION] != "ledger.expire"
                or row[_STATUS] != "ok"
                or row[_SUBJECT] is not None
                or not row[_EFFECT]
            ):
                continue
            found = [tuple(each) for each in dag_cbor.decode(row[_EFFECT])["expired"]]
            yield from (each for each in found if all(isinstance(value, str | int | bytes) for value in each))
        except (KitError, KeyError, IndexError, TypeError, ValueError):
            continue  # it proves nothing, so what it should have named is a fault


def expired_files(query: Query, log: str) -> list[str]:
    """Names of the files that expired: they may lie there until they are swept."""
    if not query("SELECT 1 FROM sqlite_master WHERE name = 'ledger_expired'"):
        return []
    rows = query("SELECT name, manifest FROM ledger_expired WHERE log = ?", (log,))
    return [file for name, manifest in rows for file in (name, f"{CID(manifest)}.manifest")]


class Gaps:
    """Counts the records that are not kept, span by span, and compares them with what was recorded as expired.

    Args:
        query: Reads ``state.db``.
        log: ``main`` or ``bulk``.
        sealed_upto: Records sealed.
    """

    def __init__(self, query: Query, log: str, sealed_upto: int) -> None:
        self._log = log
        self._sealed_upto = sealed_upto
        self._known = bool(query("SELECT 1 FROM sqlite_master WHERE name = 'ledger_expired'"))
        kept = gone = []
        if self._known:
            kept = query("SELECT first_index, stop, count FROM ledger_segments WHERE log = ?", (log,))
            gone = query(
                "SELECT first_index, stop, family, count, sha256, why FROM ledger_expired WHERE log = ?", (log,)
            )
        self._gone = gone
        spans: dict[int, int] = {}
        self._kept: dict[int, int] = {}
        self._expired: dict[int, int] = {}
        for first, stop, count in kept:
            spans[first] = max(stop, spans.get(first, 0))
            self._kept[first] = self._kept.get(first, 0) + count
        for first, stop, _, count, *_ in gone:
            spans[first] = max(stop, spans.get(first, 0))
            self._expired[first] = self._expired.get(first, 0) + count
        self._firsts = sorted(spans)
        self._stops = [spans[first] for first in self._firsts]
        self._missing: dict[int, int] = {}

    def take(self, base: int, records: Sequence[bytes | None]) -> None:
        """Count what is not there among neighbouring records."""
        if base >= self._sealed_upto or None not in records:
            return
        for index, record in enumerate(records, base):
            if record is None and index < self._sealed_upto:
                at = bisect_right(self._firsts, index) - 1
                first = self._firsts[at] if at >= 0 and index < self._stops[at] else -1
                self._missing[first] = self._missing.get(first, 0) + 1

    def faults(self, named: Named) -> Iterator[str]:
        """What is missing without having expired, and what expired without an op that says so.

        Args:
            named: The files that ops of the log name.
        """
        if not self._known:
            return
        for first, stop, family, count, digest, why in self._gone:
            if (self._log, first, stop, family, count, digest, why) not in named:
                yield (
                    f"state.db says that {count} records of stream {family} from {first} to {stop - 1} expired, but no op "
                    "of the log does: restore them from a backup"
                )
        if self._missing.get(-1):
            yield f"{self._missing[-1]} sealed records lie in no segment: restore state.db and ledger/ from a backup"
        for first, stop in zip(self._firsts, self._stops, strict=True):
            expired, missing = self._expired.get(first, 0), self._missing.get(first, 0)
            if missing != expired:
                yield (
                    f"{missing} records from {first} to {stop - 1} are missing, of which {expired} expired: "
                    "restore ledger/ from a backup"
                )
            elif self._kept.get(first, 0) + expired != stop - first:
                yield f"the segments of records {first} to {stop - 1} do not hold them all: restore state.db from a backup"
