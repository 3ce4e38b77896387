"""Rows of ``revivals``: which op brought back what another had dropped."""

from __future__ import annotations

from ipfs_kit.durable.state import Snapshot
from ipfs_kit.operations.replay.findings import ReplayReport, RowFault, Unreadable
from ipfs_kit.operations.replay.rows import SLACK_NS


class RevivalsReplay:
    """The revivals that must be there now.

    Args:
        unreadable: Ops that could not be read.
        report: Where mismatches go.
        kept_since_ns: Revivals before may have expired.
    """

    def __init__(self, unreadable: Unreadable, report: ReplayReport, kept_since_ns: int) -> None:
        self._unreadable = unreadable
        self._report = report
        self._kept_since_ns = kept_since_ns
        self._expected: dict[tuple[int, int, int], tuple[int | None, int]] = {}

    def add(self, op: int, time_ns: int, bucket: int, session: int, dropped_op: int | None) -> None:
        """Expect one row.

        Args:
            op: The op that brought it back.
            time_ns: When that was recorded.
            bucket: Row id of the bucket.
            session: Row id of the session; 0 for the bucket itself.
            dropped_op: The op that had dropped it; None when that could not be read.
        """
        self._expected[bucket, session, op] = (dropped_op, time_ns)

    def compare(self, view: Snapshot, buckets: set[int]) -> None:
        """Compare with the table, both ways; forgets what was taken.

        Args:
            view: ``state.db``.
            buckets: Row ids of the buckets that are there.
        """
        for op, bucket, session, dropped_op, time_ns in view.iterate(
            "SELECT op_index, bucket, session, dropped_op, time_ns FROM revivals"
        ):
            where = f"revivals bucket={bucket} session={session} op={op}"
            expected = self._expected.pop((bucket, session, op), None)
            if expected is None:
                if op in self._unreadable:
                    self._report.unknown += 1
                else:
                    what = f"op {op}, which it names, brought nothing of the kind back"
                    self._report.add(RowFault.EXTRA, where, what, op)
                continue
            then, recorded_ns = expected
            if then is None:
                self._report.unknown += 1
                continue
            same = self._report.compare(where, {"dropped_op": (dropped_op, then)}, op)
            if same and abs(time_ns - recorded_ns) > SLACK_NS:
                what = f"time_ns is {time_ns}, more than an hour from {recorded_ns}, when op {op} was recorded"
                self._report.add(RowFault.DIFFERS, where, what, op)
        for (bucket, session, op), (_, recorded_ns) in self._expected.items():
            if bucket not in buckets or recorded_ns < self._kept_since_ns:
                continue  # expired
            where = f"revivals bucket={bucket} session={session} op={op}"
            self._report.add(RowFault.MISSING, where, f"what op {op} brought back has no row", op)
