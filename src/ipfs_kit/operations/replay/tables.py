"""Rows that ops change again and again: ``buckets``, ``sessions``, ``refs``; one entry for each, whatever it went through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ipfs_kit.buckets.refs import NONCES_KEPT, RefValue
from ipfs_kit.durable.state import Snapshot
from ipfs_kit.errors import KitError
from ipfs_kit.operations.replay import changes as ch
from ipfs_kit.operations.replay.findings import ReplayReport, RowFault, Unreadable
from ipfs_kit.operations.replay.revivals import RevivalsReplay

_BUCKET: Final = "name, type, structure, kind, profile, domain, metadata, created_ns"


@dataclass(slots=True)
class _Bucket:
    uid: str
    columns: tuple[Any, ...]
    created_op: int
    last: int
    time_ns: int
    dropped_op: int | None = None
    dropped_ns: int | None = None


@dataclass(slots=True)
class _Session:
    bucket: int
    name: str
    created_op: int
    created_ns: int
    digest: bytes
    last: int
    seq: int = 0
    dropped_op: int | None = None


@dataclass(slots=True)
class _Ref:
    commit: bytes | None
    generation: int
    last: int
    nonces: tuple[bytes, ...]
    """Those of the last 17 swaps, newest first."""


class TablesReplay:
    """The buckets, sessions and refs that must be there now.

    Args:
        unreadable: Ops that could not be read.
        report: Where mismatches go.
        kept_since_ns: Buckets dropped before may have expired.
    """

    def __init__(self, unreadable: Unreadable, report: ReplayReport, kept_since_ns: int) -> None:
        self._unreadable = unreadable
        self._report = report
        self._kept_since_ns = kept_since_ns
        self._buckets: dict[int, _Bucket] = {}
        self._sessions: dict[int, _Session] = {}
        self._refs: dict[tuple[int, str], _Ref] = {}
        self._revivals = RevivalsReplay(unreadable, report, kept_since_ns)

    def apply(self, op: int, time_ns: int, change: ch.Change) -> None:
        """Take one change of an op."""
        match change:
            case ch.RefMove(name, _, after, bucket, nonce):
                ref = self._refs.get((bucket, name))
                generation, nonces = (ref.generation, ref.nonces) if ref is not None else (0, ())
                commit = after.binary if after is not None else None
                self._refs[bucket, name] = _Ref(commit, generation + 1, op, (nonce, *nonces)[: NONCES_KEPT + 1])
            case ch.SessionRow(_, session, seq) if session in self._sessions:
                self._sessions[session].seq = seq
            case ch.BucketMade(bucket, uid, columns):
                self._buckets[bucket] = _Bucket(uid, columns, op, op, time_ns)
            case ch.BucketDropped(bucket, dropped_ns):
                self._drop_bucket(op, time_ns, bucket, dropped_ns)
            case ch.BucketBack(bucket):
                self._bring_back(op, time_ns, bucket)
            case ch.SessionMade(session, bucket, name, digest):
                self._sessions[session] = _Session(bucket, name, op, time_ns, digest, op)
            case ch.SessionDropped(session) if session in self._sessions:
                self._sessions[session].dropped_op = self._sessions[session].last = op
            case ch.SessionBack(session) if session in self._sessions:
                back = self._sessions[session]
                self._revivals.add(op, time_ns, back.bucket, session, back.dropped_op)
                self._sessions[session].dropped_op, self._sessions[session].last = None, op

    def _drop_bucket(self, op: int, time_ns: int, bucket: int, dropped_ns: int) -> None:
        found = self._buckets.get(bucket)
        if found is None:
            return
        found.dropped_op, found.dropped_ns, found.last, found.time_ns = op, dropped_ns, op, time_ns
        for session in self._sessions.values():
            if session.bucket == bucket and session.dropped_op is None:
                session.dropped_op = session.last = op

    def _bring_back(self, op: int, time_ns: int, bucket: int) -> None:
        found = self._buckets.get(bucket)
        if found is None:
            return
        self._revivals.add(op, time_ns, bucket, 0, found.dropped_op)
        for session in self._sessions.values():
            if session.bucket == bucket and session.dropped_op == found.dropped_op:
                session.dropped_op, session.last = None, op
        found.dropped_op, found.dropped_ns, found.last, found.time_ns = None, None, op, time_ns

    def first_snapshot(self, session: int) -> tuple[int, int, bytes] | None:
        """Op, time and digest of a session's first snapshot; None when its making could not be read."""
        found = self._sessions.get(session)
        return None if found is None else (found.created_op, found.created_ns, found.digest)

    def last_step(self, session: int) -> int | None:
        """Number of a session's last recorded step; None when records after it could not be read."""
        found = self._sessions.get(session)
        return None if found is None or self._unreadable.after(found.created_op) else found.seq

    def compare(self, view: Snapshot) -> None:
        """Compare with the tables, both ways; forgets what was taken."""
        uids = self._compare_buckets(view)
        self._compare_sessions(view, set(uids.values()))
        self._compare_refs(view, uids)
        self._revivals.compare(view, set(uids.values()))

    def _compare_buckets(self, view: Snapshot) -> dict[str, int]:
        report, uids = self._report, {}
        for row in view.query(f"SELECT id, uid, {_BUCKET}, created_op, dropped_ns, dropped_op FROM buckets"):  # noqa: S608
            ident, uid, *columns = row
            *made, created_op, dropped_ns, dropped_op = columns
            where, uids[uid] = f"buckets id={ident}", ident
            expected = self._buckets.pop(ident, None)
            if expected is None:
                self._extra(where, created_op, "made no such bucket")
                continue
            names = ("uid", *_BUCKET.split(", "), "created_op")
            then = (expected.uid, *expected.columns, expected.created_op)
            pairs = dict(zip(names, zip((uid, *made, created_op), then, strict=True), strict=True))
            if not report.compare(where, pairs, expected.created_op):
                continue
            drops = {"dropped_op": (dropped_op, expected.dropped_op), "dropped_ns": (dropped_ns, expected.dropped_ns)}
            self._changing(where, drops, dropped_op, expected.last)
        for ident, gone in self._buckets.items():
            if gone.dropped_op is not None and gone.time_ns < self._kept_since_ns:
                continue  # expired
            if self._unreadable.after(gone.last):
                report.unknown += 1
                continue
            what = f"the bucket {gone.columns[0]!a}, made by op {gone.created_op}, is not there"
            report.add(RowFault.MISSING, f"buckets id={ident}", what, gone.last)
        return uids

    def _compare_sessions(self, view: Snapshot, buckets: set[int]) -> None:
        for ident, bucket, name, created_op, dropped_op in view.iterate(
            "SELECT id, bucket, name, created_op, dropped_op FROM sessions"
        ):
            where = f"sessions id={ident}"
            expected = self._sessions.get(ident)
            if expected is None:
                self._extra(where, created_op, "made no such session")
                continue
            pairs = {
                "bucket": (bucket, expected.bucket),
                "name": (name, expected.name),
                "created_op": (created_op, expected.created_op),
            }
            if self._report.compare(where, pairs, expected.created_op):
                self._changing(where, {"dropped_op": (dropped_op, expected.dropped_op)}, dropped_op, expected.last)
        present = {ident for (ident,) in view.iterate("SELECT id FROM sessions")}
        for ident, gone in self._sessions.items():
            if ident not in present and gone.bucket in buckets:
                what = f"the session {gone.name!a}, made by op {gone.created_op}, is not there"
                self._report.add(RowFault.MISSING, f"sessions id={ident}", what, gone.last)

    def _compare_refs(self, view: Snapshot, uids: dict[str, int]) -> None:
        for uid, name, generation, live, data in view.iterate("SELECT bucket, name, generation, live, value FROM refs"):
            where = f"refs bucket={uid} name={name}"
            try:
                value = RefValue.decode(data)
            except KitError as exc:
                self._report.add(RowFault.DIFFERS, where, f"its value does not parse: {exc.message}", None)
                continue
            cited = int.from_bytes(value.op_id)
            bucket = uids.get(uid)
            expected = None if bucket is None else self._refs.pop((bucket, name), None)
            if expected is None:
                self._extra(where, cited, "moved no such ref")
                continue
            commit = value.commit.binary if value.commit is not None else None
            pairs = {
                "commit": (commit, expected.commit),
                "op_id": (cited, expected.last),
                "generation of its value": (value.generation, expected.generation),
                "generation": (generation, expected.generation),
                "live": (live, int(expected.commit is not None)),
                "nonces": ((value.nonce, *value.nonces), expected.nonces),
            }
            if self._unreadable.after(-1):
                # Moves that cannot be read also count in the generation and among the swaps.
                pairs = {key: pairs[key] for key in ("commit", "op_id", "live")}
            self._changing(where, pairs, cited, expected.last)
        present = set(uids.values())
        for (bucket, name), gone in self._refs.items():
            if bucket in present:
                what = f"the ref, last moved by op {gone.last}, is not there"
                self._report.add(RowFault.MISSING, f"refs bucket id={bucket} name={name}", what, gone.last)

    def _changing(self, where: str, pairs: dict[str, tuple[Any, Any]], cited: int | None, last: int) -> None:
        """Compare columns that ops change; an unreadable op that may have been the last one makes them unknown."""
        if any(found != then for found, then in pairs.values()) and self._unreadable.explains(cited, last):
            self._report.unknown += 1
        else:
            self._report.compare(where, pairs, last)

    def _extra(self, where: str, cited: int, what: str) -> None:
        if cited in self._unreadable:
            self._report.unknown += 1
        else:
            self._report.add(RowFault.EXTRA, where, f"op {cited}, which it names, {what}", cited)
