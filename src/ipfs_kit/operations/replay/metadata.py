"""Statements of the metadata index by the records, compared with the table ``metadata_statements``, an op at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ipfs_kit.ipld.cid import CID
from ipfs_kit.operations.replay.findings import ReplayReport, RowFault, Unreadable
from ipfs_kit.search.metadata.statements import Statement

Query = Callable[..., list[tuple[Any, ...]]]
_COLUMNS: Final = "cid, node, version, removed, record"
_PAGE: Final = 1_000


class MetadataReplay:
    """Compares the statements that name an op with what that op recorded; holds those of one op at a time.

    Args:
        query: Reads ``state.db``.
        unreadable: Ops that could not be read.
        report: Where mismatches go.
    """

    def __init__(self, query: Query, unreadable: Unreadable, report: ReplayReport) -> None:
        self._query = query
        self._unreadable = unreadable
        self._report = report
        self._changed: set[int] = set()
        # A store made before the index was, and open for reading only, has no such table.
        self._kept = bool(query("SELECT 1 FROM sqlite_schema WHERE name='metadata_statements'"))

    def apply(self, op: int, effect: Any) -> None:
        """Take one op's effect and compare its rows at once."""
        changes = effect.get("metadata") if isinstance(effect, dict) else None
        if not changes or not self._kept:
            return
        self._changed.add(op)
        expected = {(bytes(change[0]), str(change[1])): bytes(change[2]) for change in changes}
        after = (b"", "")
        while True:
            rows = self._query(
                f"SELECT {_COLUMNS} FROM metadata_statements WHERE op_index=? AND (cid, node)>(?,?) "  # noqa: S608 - constants
                "ORDER BY cid, node LIMIT ?",
                (op, *after, _PAGE),
            )
            for row in rows:
                self._compare(op, Statement(row[0], row[1], row[2], bool(row[3]), row[4]), expected)
            if len(rows) < _PAGE:
                break
            after = (rows[-1][0], rows[-1][1])
        for cid, node in expected:
            found = self._query("SELECT op_index FROM metadata_statements WHERE cid=? AND node=?", (cid, node))
            if not found:
                what = f"the statement that op {op} recorded is not there"
                self._report.add(RowFault.MISSING, _where(cid, node), what, op)
            elif found[0][0] < op:
                what = f"it names op {found[0][0]}, but op {op} changed it since"
                self._report.add(RowFault.DIFFERS, _where(cid, node), what, op)

    def _compare(self, op: int, row: Statement, expected: dict[tuple[bytes, str], bytes]) -> None:
        digest = expected.pop((row.cid, row.node), None)
        where = _where(row.cid, row.node)
        if digest is None:
            self._report.add(RowFault.EXTRA, where, f"op {op}, which it names, stated nothing of the kind", op)
            return
        self._report.rows += 1
        if row.digest() != digest:
            what = f"its columns are not those that op {op} recorded (their digest differs)"
            self._report.add(RowFault.DIFFERS, where, what, op)

    def compare(self, start: int, stop: int) -> None:
        """Rows that name ops of ``[start, stop)`` which changed no statement."""
        changed, self._changed = self._changed, set()
        if not self._kept:
            return
        for op, count in self._query(
            "SELECT op_index, count(*) FROM metadata_statements WHERE op_index>=? AND op_index<? GROUP BY op_index",
            (start, stop),
        ):
            if op in self._unreadable:
                self._report.unknown += count
            elif op not in changed:
                what = f"op {op}, which {count} rows name, changed no statement"
                self._report.add(RowFault.EXTRA, f"metadata_statements op_index={op}", what, op)

    def compare_beyond(self, stop: int) -> None:
        """Rows of ops that the log does not have."""
        if not self._kept:
            return
        for cid, node, op in self._query(
            "SELECT cid, node, op_index FROM metadata_statements WHERE op_index<0 OR op_index>=? LIMIT 1000", (stop,)
        ):
            what = f"names op {op}, which the main log with {stop} records does not have"
            self._report.add(RowFault.EXTRA, _where(cid, node), what, None)


def _where(cid: bytes, node: str) -> str:
    try:
        shown = str(CID(cid))
    except (ValueError, TypeError):
        shown = "bytes that are no CID"
    return f"metadata_statements cid={shown} node={node}"
