"""Pins by the records, compared with the table ``pins``."""

from __future__ import annotations

from typing import Any, NamedTuple

from ipfs_kit.durable.state import Snapshot
from ipfs_kit.ipld.cid import CID
from ipfs_kit.operations.replay.findings import ReplayReport, RowFault, Unreadable

Key = tuple[str | None, bytes]
"""A pin's name and nothing, or no name and the pinned CID."""


class _Pin(NamedTuple):
    op: int
    row: tuple[Any, ...]
    """id, cid, kind, name, added_ns."""


class PinsReplay:
    """The pins that must be there now: one entry for each, whatever came and went before.

    Args:
        unreadable: Ops that could not be read.
        report: Where mismatches go.
    """

    def __init__(self, unreadable: Unreadable, report: ReplayReport) -> None:
        self._unreadable = unreadable
        self._report = report
        self._pins: dict[Key, _Pin] = {}

    def apply(self, op: int, effect: Any) -> None:
        """Take one op's effect."""
        steps = effect.get("pins") if isinstance(effect, dict) else None
        for step in steps or ():
            cid: CID = step["cid"]
            key = _key(step["name"], cid.binary)
            if step["change"] == "add":
                self._pins[key] = _Pin(
                    op, (step.get("id"), cid.binary, step["kind"], step["name"], step.get("added_ns"))
                )
            elif step["change"] == "remove":
                self._pins.pop(key, None)

    def compare(self, view: Snapshot) -> None:
        """Compare with the table, both ways; forgets what was taken."""
        report = self._report
        for row in view.iterate("SELECT id, cid, kind, name, added_ns FROM pins ORDER BY id"):
            ident, cid, kind, name, added_ns = row
            where = f"pins id={ident}"
            expected = self._pins.pop(_key(name, cid), None)
            if expected is None:
                if self._unreadable.after(-1):
                    report.unknown += 1
                else:
                    report.add(RowFault.EXTRA, where, f"no op made this pin of {_shown(cid)}", None)
                continue
            if self._unreadable.after(expected.op):
                report.unknown += 1
                continue
            op, (id_then, cid_then, kind_then, _, added_then) = expected
            columns = {"cid": (cid, cid_then), "kind": (kind, kind_then)}
            if id_then is not None:
                columns |= {"id": (ident, id_then), "added_ns": (added_ns, added_then)}
            report.compare(where, columns, op)
        for expected in self._pins.values():
            if self._unreadable.after(expected.op):
                report.unknown += 1
                continue
            ident, cid, _, name, _ = expected.row
            where = f"pins id={ident}"
            label = "" if name is None else f" named {name!a}"
            what = f"the pin of {_shown(cid)}{label}, made by op {expected.op}, is not there"
            report.add(RowFault.MISSING, where, what, expected.op)
        self._pins.clear()


def _key(name: str | None, cid: bytes) -> Key:
    return (name, b"") if name is not None else (None, cid)


def _shown(cid: Any) -> str:
    try:
        return str(CID(cid))
    except (ValueError, TypeError):
        return "bytes that are no CID"
