"""Rows that never change once written, ``effects``, ``ref_effects`` and ``bucket_settings``, compared a stretch of the
log at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ipfs_kit.buckets.guards import settings_are_kept, settings_digest
from ipfs_kit.buckets.workspace import row_digest
from ipfs_kit.operations.replay.changes import RefMove, SessionRow, SettingsRow
from ipfs_kit.operations.replay.findings import ReplayReport, RowFault, Unreadable

Query = Callable[..., list[tuple[Any, ...]]]
SLACK_NS: Final = 3_600 * 1_000_000_000
"""A row's time is taken when its transaction begins, its record's when it ends; a clock may step in between."""


class RowsReplay:
    """Compares the rows of a stretch with what its ops recorded, then forgets both.

    Args:
        query: Reads ``state.db``.
        unreadable: Ops that could not be read.
        report: Where mismatches go.
        kept_since_ns: Rows of before may have expired.
    """

    def __init__(self, query: Query, unreadable: Unreadable, report: ReplayReport, kept_since_ns: int) -> None:
        self._query = query
        self._unreadable = unreadable
        self._report = report
        self._kept_since_ns = kept_since_ns
        self._sessions: dict[tuple[int, int], tuple[int, int, bytes | None]] = {}
        self._refs: dict[tuple[int, str, int], tuple[int, RefMove]] = {}
        self._settings: dict[tuple[int, int], bytes] = {}
        self._settings_kept = settings_are_kept(query)

    def apply(self, op: int, time_ns: int, change: Any) -> None:
        """Take one change of an op."""
        if isinstance(change, SessionRow):
            self._sessions[change.session, change.seq] = (op, time_ns, change.digest)
        elif isinstance(change, RefMove):
            self._refs[change.bucket, change.name, op] = (time_ns, change)
        elif isinstance(change, SettingsRow):
            self._settings[change.bucket, op] = change.digest

    def compare(self, start: int, stop: int) -> None:
        """Compare the rows of ops ``[start, stop)`` with the changes taken since the last time."""
        for row in self._query(
            "SELECT session, seq, op_index, time_ns, payload, head FROM effects WHERE op_index>=? AND op_index<?",
            (start, stop),
        ):
            self._session_row(row)
        for (session, seq), (op, time_ns, _) in self._sessions.items():
            if not self._may_be_gone(session, seq, time_ns):
                what = f"the step that op {op} recorded is not there"
                self._report.add(RowFault.MISSING, f"effects session={session} seq={seq}", what, op)
        self._sessions.clear()
        for ref_row in self._query(
            "SELECT op_index, bucket, ref, time_ns, before, after FROM ref_effects WHERE op_index>=? AND op_index<?",
            (start, stop),
        ):
            self._ref_row(ref_row)
        for bucket, name, op in self._refs:
            if self._query("SELECT 1 FROM buckets WHERE id=?", (bucket,)):
                what = f"the move that op {op} recorded is not there"
                self._report.add(RowFault.MISSING, f"ref_effects bucket={bucket} ref={name} op_index={op}", what, op)
        self._refs.clear()
        self._compare_settings(start, stop)

    def compare_beyond(self, stop: int) -> None:
        """Rows of ops that the log does not have."""
        for table, key in (
            ("effects", "session"),
            ("ref_effects", "bucket"),
            ("snapshots", "session"),
            *((("bucket_settings", "bucket"),) if self._settings_kept else ()),
        ):
            rows = self._query(
                f"SELECT {key}, op_index FROM {table} WHERE op_index<0 OR op_index>=? LIMIT 1000",  # noqa: S608 - constants
                (stop,),
            )
            for ident, op in rows:
                what = f"names op {op}, which the main log with {stop} records does not have"
                self._report.add(RowFault.EXTRA, f"{table} {key}={ident} op_index={op}", what, None)

    def _compare_settings(self, start: int, stop: int) -> None:
        if not self._settings_kept:
            return  # made before settings were, and open for reading only
        for row in self._query(
            "SELECT bucket, op_index, time_ns, value FROM bucket_settings WHERE op_index>=? AND op_index<?",
            (start, stop),
        ):
            bucket, op = row[:2]
            where = f"bucket_settings bucket={bucket} op_index={op}"
            digest = self._settings.pop((bucket, op), None)
            if digest is None:
                if op in self._unreadable:
                    self._report.unknown += 1
                else:
                    self._report.add(RowFault.EXTRA, where, f"op {op}, which it names, set nothing", op)
                continue
            self._report.rows += 1
            if settings_digest(row) != digest:
                what = f"its columns are not those that op {op} recorded (their digest differs)"
                self._report.add(RowFault.DIFFERS, where, what, op)
        for bucket, op in self._settings:
            if self._query("SELECT 1 FROM buckets WHERE id=?", (bucket,)):
                what = f"the settings that op {op} recorded are not there"
                self._report.add(RowFault.MISSING, f"bucket_settings bucket={bucket} op_index={op}", what, op)
        self._settings.clear()

    def _session_row(self, row: tuple[Any, ...]) -> None:
        session, seq, op = row[:3]
        where = f"effects session={session} seq={seq}"
        expected = self._sessions.get((session, seq))
        if expected is None or expected[0] != op:
            if op in self._unreadable:
                self._report.unknown += 1
            else:
                self._report.add(RowFault.EXTRA, where, f"op {op}, which it names, recorded no such step", op)
            return
        del self._sessions[session, seq]
        if expected[2] is None:
            self._report.unknown += 1
            return
        self._report.rows += 1
        if row_digest(row) != expected[2]:
            what = f"its columns are not those that op {op} recorded (their digest differs)"
            self._report.add(RowFault.DIFFERS, where, what, op)

    def _ref_row(self, row: tuple[Any, ...]) -> None:
        op, bucket, name, time_ns, before, after = row
        where = f"ref_effects bucket={bucket} ref={name} op_index={op}"
        expected = self._refs.pop((bucket, name, op), None)
        if expected is None:
            if op in self._unreadable:
                self._report.unknown += 1
            else:
                self._report.add(RowFault.EXTRA, where, f"op {op}, which it names, did not move this ref", op)
            return
        recorded_ns, move = expected
        columns = {"before": (before, _binary(move.before)), "after": (after, _binary(move.after))}
        if self._report.compare(where, columns, op) and abs(time_ns - recorded_ns) > SLACK_NS:
            what = f"time_ns is {time_ns}, more than an hour from {recorded_ns}, when op {op} was recorded"
            self._report.add(RowFault.DIFFERS, where, what, op)

    def _may_be_gone(self, session: int, seq: int, time_ns: int) -> bool:
        """Whether a recorded step may have expired: with its bucket, or covered by a snapshot before the horizon.

        A session's own row is compared elsewhere; here its absence alone explains that of its steps.
        """
        rows = self._query(
            "SELECT (SELECT min(seq) FROM snapshots WHERE session=sessions.id) FROM sessions WHERE id=?", (session,)
        )
        if not rows:
            return True
        return time_ns < self._kept_since_ns and rows[0][0] is not None and seq <= rows[0][0]


def _binary(cid: Any) -> bytes | None:
    return None if cid is None else cid.binary
