"""Snapshots of working states, replayed one from the other."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.buckets.index import unpack_item
from ipfs_kit.buckets.space import BUCKET_COLUMNS, BucketRow, Space
from ipfs_kit.buckets.tree import Tree, View
from ipfs_kit.buckets.workspace import pack_root, row_digest, unpack_steps
from ipfs_kit.errors import Expired, KitError
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.operations.replay.findings import ReplayReport, RowFault
from ipfs_kit.operations.replay.rows import SLACK_NS, Query

if TYPE_CHECKING:
    from ipfs_kit.buckets import Buckets
    from ipfs_kit.operations.replay.tables import TablesReplay

_COLUMNS: Final = "session, seq, op_index, time_ns, root, head"

_STEP: Final = "SELECT 1 FROM effects WHERE session=? AND seq=?"


class SnapshotsReplay:
    """Compares each snapshot with the one before it and the effects between them.

    Args:
        buckets: Opens the working states.
        tables: What the records say of each session's first snapshot.
        report: Where mismatches go.
        kept_since_ns: Snapshots of before may have expired.
        now_ns: The present time.
    """

    def __init__(
        self, buckets: Buckets, tables: TablesReplay, report: ReplayReport, kept_since_ns: int, now_ns: int
    ) -> None:
        self._buckets = buckets
        self._tables = tables
        self._report = report
        self._kept_since_ns = kept_since_ns
        self._now_ns = now_ns

    def compare(self, query: Query) -> None:
        """Compare the snapshots of every session whose bucket can be opened."""
        sessions = query(
            "SELECT sessions.id, buckets.name, buckets.id FROM sessions JOIN buckets ON buckets.id=sessions.bucket "
            "ORDER BY sessions.id"
        )
        for session, name, bucket in sessions:
            try:
                self._session(query, self._space(bucket), session)
            except Expired:
                self._report.unknown += 1  # its key was destroyed, too
            except (KitError, ValueError, TypeError) as exc:
                what = f"the working state cannot be replayed: {exc}"
                self._report.add(RowFault.DIFFERS, f"snapshots session={session} of bucket {name}", what, None)
        rows = query("SELECT DISTINCT session FROM snapshots WHERE session NOT IN (SELECT id FROM sessions) LIMIT 1000")
        for (session,) in rows:
            self._report.add(RowFault.EXTRA, f"snapshots session={session}", "there is no such session", None)

    def _space(self, bucket: int) -> Space:
        rows = self._buckets.state.query(f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE id=?", (bucket,))  # noqa: S608
        if not rows:
            raise Expired("the bucket expired a moment ago")
        return self._buckets.space(BucketRow.of(rows[0]))

    def _session(self, query: Query, space: Space, session: int) -> None:
        rows = query(f"SELECT {_COLUMNS} FROM snapshots WHERE session=? ORDER BY seq", (session,))  # noqa: S608
        if self._first(session, rows):
            for before, after in pairwise(rows):
                self._pair(query, space, before, after)

    def _first(self, session: int, rows: list[tuple[Any, ...]]) -> bool:
        """Compare the first snapshot with what made the session; whether there is one to go on from."""
        made = self._tables.first_snapshot(session)
        where = f"snapshots session={session} seq=0"
        if made is None:
            self._report.unknown += 1
            return bool(rows)
        op, time_ns, digest = made
        if not rows or rows[0][1] != 0:
            if not rows or time_ns >= self._kept_since_ns:
                self._report.add(RowFault.MISSING, where, f"the first state, of op {op}, is not there", op)
            else:
                self._report.unknown += 1  # expired; what follows is derived from the oldest one kept
            return bool(rows)
        self._report.rows += 1
        if row_digest(rows[0]) != digest:
            what = f"its columns are not those that op {op} recorded (their digest differs)"
            self._report.add(RowFault.DIFFERS, where, what, op)
            return False
        return True

    def _pair(self, query: Query, space: Space, before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
        session, start, stop = after[0], before[1], after[1]
        where = f"snapshots session={session} seq={stop}"
        scratch: dict[bytes, bytes] = {}
        address = getattr(space.blocks, "address", None)  # a sealed bucket addresses ciphertext

        def get(cid: CID) -> bytes:
            found = scratch.get(cid.binary)
            return space.get(cid) if found is None else found

        def put(cid: CID, data: bytes) -> CID:
            named: CID = cid if address is None else address(cid, data)
            scratch[named.binary] = data
            return named

        tree = Tree(View(space.profile, get, put), put, unpack_item(dag_cbor.decode(space.unseal(before[4]))))
        head, at, op, time_ns = before[5], start, before[2], before[3]
        for seq, op_index, at_ns, payload, moved in query(
            "SELECT seq, op_index, time_ns, payload, head FROM effects WHERE session=? AND seq>? AND seq<=? ORDER BY seq",
            (session, start, stop),
        ):
            if seq != at + 1:
                break
            tree.apply(unpack_steps(space.unseal(payload)))
            at, op, time_ns, head = seq, op_index, at_ns, moved if moved is not None else head
        if at != stop:
            last = self._tables.last_step(session)
            if last is not None and stop > last and not query(_STEP, (session, stop)):
                what = f"it claims {stop} steps, but {last} were recorded"
                self._report.add(RowFault.EXTRA, where, what, None)
                return
            # Where a step is missing has been noted if it may not be; past the horizon nothing can be derived.
            self._report.unknown += 1
            return
        self._report.rows += 1
        wrong = [
            name
            for name, good in (
                ("root", space.unseal(after[4]) == pack_root(tree.flush())),
                ("head", after[5] == head),
                ("op_index", after[2] == op),
                ("time_ns", time_ns - SLACK_NS <= after[3] <= self._now_ns + SLACK_NS),
            )
            if not good
        ]
        if wrong:
            what = f"{', '.join(wrong)} not what the steps up to {stop}, the last by op {op}, lead to"
            self._report.add(RowFault.DIFFERS, where, what, op)
