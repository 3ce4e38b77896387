"""What a replay finds, and which ops it could not read."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

FAULTS_MAX: Final = 1_000
"""Mismatches named; more are counted. A state.db of another time differs everywhere."""
_SHOWN: Final = 120


class RowFault(StrEnum):
    """How a row of ``state.db`` disagrees with the records; values are stable."""

    MISSING = "row_missing"
    EXTRA = "row_extra"
    DIFFERS = "row_differs"
    UNREADABLE = "records_unreadable"
    """The log itself could not be read to its end, so later rows were not compared."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One row that is not what the records say.

    Args:
        fault: Its kind.
        where: Table and key of the row.
        what: What is wrong, with the op that says otherwise.
        mend: What to do.
    """

    fault: RowFault
    where: str
    what: str
    mend: str


@dataclass(slots=True)
class ReplayReport:
    """What a replay looked at and found.

    Args:
        mismatches: Rows that disagree, bounded.
        more: How many more there were.
        ops: Records read.
        rows: Rows compared.
        unknown: Rows that cannot be derived, because a record they follow from was erased or is not kept any more.
    """

    mismatches: list[Mismatch] = field(default_factory=list)
    more: int = 0
    ops: int = 0
    rows: int = 0
    unknown: int = 0

    def add(self, fault: RowFault, where: str, what: str, op: int | None) -> None:
        """Note a mismatch; ``op`` is the op that says otherwise."""
        if len(self.mismatches) >= FAULTS_MAX:
            self.more += 1
            return
        mend = "restore state.db from its backup"
        if op is not None:
            mend += f", or put the row back to what 'ipfs-kit ledger show {op}' says"
        self.mismatches.append(Mismatch(fault, f"state.db, {where}", what, mend))

    def compare(self, where: str, columns: dict[str, tuple[Any, Any]], op: int) -> bool:
        """Note the first column whose value differs; ``columns`` maps its name to (found, expected)."""
        self.rows += 1
        for name, (found, expected) in columns.items():
            if found != expected:
                what = f"{name} is {_shown(found)}, but op {op} says {_shown(expected)}"
                self.add(RowFault.DIFFERS, where, what, op)
                return False
        return True


class Unreadable:
    """Ops whose effect cannot be read: their key was destroyed, or their record is not kept any more."""

    def __init__(self) -> None:
        # Neighbours share one range, so that a pruned log costs two numbers and not one for each op.
        self._starts = array("q")
        self._stops = array("q")

    def add(self, op: int) -> None:
        """Note an op; they come in order."""
        if self._stops and self._stops[-1] == op:
            self._stops[-1] = op + 1
        else:
            self._starts.append(op)
            self._stops.append(op + 1)

    def __contains__(self, op: object) -> bool:
        at = bisect_right(self._starts, op) - 1 if isinstance(op, int) else -1
        return at >= 0 and op < self._stops[at]  # type: ignore[operator]  # an int, or at is -1

    def after(self, op: int) -> bool:
        """Whether any op after this one is unreadable."""
        return bool(self._stops) and self._stops[-1] - 1 > op

    def explains(self, cited: int | None, last: int) -> bool:
        """Whether an unreadable op may have made a row what it is.

        Args:
            cited: The op that the row names as its own, or None.
            last: The last readable op that changed it; -1 for none.
        """
        return cited in self or (cited is None and self.after(last))


def _shown(value: Any) -> str:
    text = value.hex() if isinstance(value, bytes) else ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
