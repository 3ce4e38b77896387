"""What reads, file operations and version operations share: rows, spaces, sessions and the frame of an effect."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ipfs_kit.buckets import guards
from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.buckets.paths import Location, Path, Ref, as_location, as_ref, check_bucket_name
from ipfs_kit.buckets.refs import SqliteRefStore
from ipfs_kit.buckets.space import BUCKET_COLUMNS, BucketRow, Sealer, Space, missing_key
from ipfs_kit.buckets.tree import Step, Tree
from ipfs_kit.buckets.workspace import DEFAULT_SESSION, Head, Planned, Workspace, op_index_of
from ipfs_kit.errors import BlockNotFound, BucketNotFound, InvalidInput, ReadOnly, RefNotFound, Stale, Unsupported
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ipld.unixfs import Kind
from ipfs_kit.ledger import Effect, Outcome

if TYPE_CHECKING:
    from ipfs_kit.blocks import BlockStore
    from ipfs_kit.blocks.sealed import SealedStore
    from ipfs_kit.durable.state import StateDB, Tx
    from ipfs_kit.keys import KeyRing

EFFECT_INLINE_BYTES = 12_288
"""Larger effects become a block, so that the record stays under 32 KiB [12]."""
PAGE_MAX = 1_000
"""Most entries of one page."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one effect does to one session, decided under the lock."""

    steps: tuple[Step, ...]
    value: Any
    before: CID | None = None
    after: CID | None = None
    head: Head | None = None


class BucketsBase:
    """State shared by the parts of :class:`~ipfs_kit.buckets.Buckets`; see there for the arguments."""

    def __init__(
        self,
        state: StateDB,
        blocks: BlockStore,
        keys: KeyRing | None,
        now: Callable[[], int],
        *,
        op_at_time: Callable[[int], int] | None = None,
        horizon_days: int = 30,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.state = state
        self.blocks = blocks
        self.keys = keys
        self.now = now
        self.random = random
        self.refs = SqliteRefStore(state)
        self.horizon_ns = horizon_days * 86_400 * 1_000_000_000
        self._op_at_time = op_at_time
        self._guard = threading.Lock()
        self._spaces: dict[int, Space] = {}
        self._workspaces: dict[int, Workspace] = {}
        self._found: dict[tuple[str, str], tuple[int, Workspace]] = {}
        self.hooks = guards.Hooks()

    def window(self) -> AbstractContextManager[object]:
        """A write window: blocks put or found inside it survive garbage collection until it closes [5]."""
        window = getattr(self.blocks, "window", None)
        return window() if window is not None else nullcontext()

    # -- rows and sessions -----------------------------------------------------------------------------------------

    def row(self, name: str, *, op: int | None = None) -> BucketRow:
        """The bucket of a name now, or as it was after an op.

        Raises:
            BucketNotFound: there is (or was) none.
        """
        check_bucket_name(name)
        if op is None:
            rows = self.state.query(_BUCKET_NOW, (name,))
        else:
            rows = self.state.query(_BUCKET_THEN, (name, op, op, op, op))
        if not rows:
            raise BucketNotFound(f"no bucket named {name!r}; create it with: bucket create {name}", bucket=name)
        return BucketRow.of(rows[0])

    def space(self, row: BucketRow) -> Space:
        """The open bucket of a row.

        Raises:
            Expired: the bucket is sealed and its key was destroyed.
        """
        if row.kind is BucketKind.SEALED:
            self._domain_key(row)  # even a space that is open here must not outlive its key
        with self._guard:
            space = self._spaces.get(row.id)
            if space is None:
                space = self._spaces[row.id] = self.open_space(row)
            return space

    def open_space(self, row: BucketRow) -> Space:
        """A bucket's store and sealer, made anew."""
        if row.kind is not BucketKind.SEALED:
            return Space(row, self.state, self.blocks, None, None)
        key = self._domain_key(row)
        return Space(row, self.state, self.blocks, self._sealed_store(row), Sealer(key))

    def workspace(self, bucket: str, session: str | None = None) -> Workspace:
        """A live session of a live bucket.

        Raises:
            BucketNotFound: no such bucket.
            RefNotFound: no such session.
        """
        name = session or DEFAULT_SESSION
        token = self.state.changed()
        known = self._found.get((bucket, name))
        if known is not None and known[0] == token:
            return known[1]
        row = self.row(bucket)
        ident = self.session_id(row, name)
        space = self.space(row)
        with self._guard:
            workspace = self._workspaces.get(ident)
            if workspace is None:
                workspace = self._workspaces[ident] = Workspace(space, ident, name)
            self._found[bucket, name] = (token, workspace)
        return workspace

    def session_id(self, row: BucketRow, name: str, *, op: int | None = None) -> int:
        """Row id of a session now, or as it was after an op.

        Raises:
            RefNotFound: there is (or was) none.
        """
        if op is None:
            rows = self.state.query(
                "SELECT id FROM sessions WHERE bucket=? AND name=? AND dropped_op IS NULL", (row.id, name)
            )
        else:
            rows = self.state.query(_SESSION_THEN, (row.id, name, op, op))
        if not rows:
            raise RefNotFound(f"bucket {row.name!r} has no session {name!r}; list sessions or create it", session=name)
        return int(rows[0][0])

    def resolve_time(self, ref: Ref) -> Ref:
        """The reference with its time, if any, turned into the largest op index recorded by then [23]."""
        if ref.time_ns is None:
            return ref
        if self._op_at_time is not None:
            return ref.at_op(self._op_at_time(ref.time_ns))
        rows = self.state.query(
            "SELECT max(op_index) FROM (SELECT op_index FROM effects WHERE time_ns<=? UNION ALL "
            "SELECT op_index FROM snapshots WHERE time_ns<=? UNION ALL SELECT op_index FROM ref_effects WHERE time_ns<=?)",
            (ref.time_ns, ref.time_ns, ref.time_ns),
        )
        if rows[0][0] is None:
            raise RefNotFound("nothing was recorded by that time")
        return ref.at_op(int(rows[0][0]))

    def _domain_key(self, row: BucketRow) -> bytes:
        if self.keys is None:
            raise Unsupported(f"bucket {row.name!r} is sealed and this store was opened without its keys")
        key = self.keys.domain_key(row.domain or "")
        if key is None:
            raise missing_key(row.name)
        return key

    def _sealed_store(self, row: BucketRow) -> SealedStore:
        from ipfs_kit.blocks.sealed import SealedStore

        assert self.keys is not None
        domain = getattr(self.blocks, "domain", None)
        inner: BlockStore = domain(row.domain) if domain is not None else self.blocks
        # The ring is asked each time, so that a key destroyed by another process is gone here at once.
        return SealedStore(inner, partial(self.keys.domain_key, row.domain or ""))

    # -- effects ---------------------------------------------------------------------------------------------------

    def live(self, at: str | Location) -> tuple[Workspace, Location]:
        """The session that a mutation works on.

        Raises:
            ReadOnly: the location names a commit, a head or the past.
        """
        location = as_location(at)
        if not location.ref.live:
            raise ReadOnly(f"{location.ref} is a fixed state; write to a session ({location.bucket}:/…) and commit it")
        return self.workspace(location.bucket, location.ref.session), location

    def live_ref(self, ref: str | Ref) -> Workspace:
        """The session of a reference that must be live.

        Raises:
            ReadOnly: it names a commit, a head or the past.
        """
        found = as_ref(ref)
        return self.live(Location(found, ()))[0]

    def effect(self, workspace: Workspace, target: str, decide: Callable[[Tree], Decision]) -> Effect:
        """An effect on one session.

        Args:
            workspace: The session.
            target: What the record says it was done to.
            decide: Runs under the lock on the caught-up tree; raises when its premise is gone.
        """
        workspace.prepare()

        def run(tx: Tx) -> Outcome:
            with workspace.lock:
                self.check_open(tx, workspace)
                decision = decide(workspace.catch_up(tx))
                return self.apply(tx, workspace, decision, target)

        return run

    def effect_on_two(
        self, one: Workspace, other: Workspace, target: str, decide: Callable[[Tree, Tree], tuple[Decision, Decision]]
    ) -> Effect:
        """An effect on two sessions; its value is the second decision's."""
        one.prepare()
        other.prepare()

        def run(tx: Tx) -> Outcome:
            with ExitStack() as held:
                for workspace in sorted((one, other), key=lambda each: each.session):
                    held.enter_context(workspace.lock)
                    self.check_open(tx, workspace)
                first, second = decide(one.catch_up(tx), other.catch_up(tx))
                left = self.apply(tx, one, first, target)
                try:
                    right = self.apply(tx, other, second, target)
                except BaseException:
                    one.invalidate()
                    raise
            right.effect = [left.effect, right.effect]
            right.on_abort = partial(forget, (one, other))
            return right

        return run

    def check_open(self, tx: Tx, workspace: Workspace) -> None:
        """Under the lock: the session was not dropped since it was looked up.

        Raises:
            Stale: it was; preparing again tells what is missing.
        """
        rows = tx.execute("SELECT 1 FROM sessions WHERE id=? AND dropped_op IS NULL", (workspace.session,))
        if not rows:
            self._found.clear()
            raise Stale(f"session {workspace.name!r} of bucket {workspace.space.name!r} was dropped meanwhile")

    def apply(self, tx: Tx, workspace: Workspace, decision: Decision, target: str) -> Outcome:
        """Record and perform a decision; the caller holds the workspace's lock."""
        effect = None
        if decision.steps:
            guards.check_room(guards.settings_now(tx.execute, workspace.space), workspace, decision.steps)
        if decision.steps or decision.head is not None:
            placed = [step.after for step in decision.steps if step.after is not None]
            workspace.space.persist(*placed)
            self.retain(tx, workspace.space, [item.cid for item in placed])
            effect = self.describe(workspace, decision.steps)
            effect.append(workspace.record(tx, Planned(decision.steps, decision.head), op_index_of(tx)))
        elif workspace.space.persist_named((decision.before, decision.after)):
            # Nothing changed, but the answer and the record name a folder: it must be there as long as they are.
            workspace.space.blocks.sync()
        return Outcome(
            value=decision.value,
            effect=effect,
            before=decision.before,
            after=decision.after,
            # Names in a sealed bucket must not outlive its key, so the record names the bucket alone.
            target=target if workspace.space.row.kind is BucketKind.OPEN else workspace.space.name,
            on_abort=workspace.invalidate,
        )

    def expect_room(self, workspace: Workspace, path: Path, size: int | None) -> int | None:
        """Before content is stored: whether it could be put at a path, and the most bytes that could.

        Args:
            workspace: The session.
            path: Where.
            size: Content bytes; None when they are not known yet.

        Returns:
            The most content bytes that fit there; None when nothing limits them.

        Raises:
            QuotaExceeded: It does not fit. Whether it still fits when it is linked, the effect decides.
        """
        space = workspace.space
        settings = guards.settings_now(self.state.query, space)
        if settings.quota.unlimited:
            return None
        with workspace.lock:
            tree = workspace.tree()
            held = workspace.totals()
            kind = tree.kind(path)
            old = tree.lookup(path) if kind is not None and kind is not Kind.DIR else None
        before = old.size if old is not None else 0
        guards.check_totals(settings, space, held, 0 if kind is not None else 1, (size or 0) - before)
        most = settings.quota.size_bytes
        return max(before, most - held[1] + before) if most is not None else None

    def retain(self, tx: Tx, space: Space, cids: Sequence[CID]) -> None:
        """Inside the transaction: the blocks about to be named are there and no longer marked as garbage [5].

        Raises:
            Stale: one was collected since it was prepared.
        """
        retain = getattr(self.blocks, "retain", None)
        if retain is None or space.row.kind is BucketKind.SEALED:
            return
        try:
            retain(tx, cids)
        except BlockNotFound as exc:
            raise Stale("a prepared block was collected meanwhile; hold window() from preparation to commit") from exc

    def describe(self, workspace: Workspace, steps: Sequence[Step]) -> list[Any]:
        """The lossless effect for the op's record: ``[bucket id, session id, seq, steps]``, steps by CID when large [8];
        ``apply`` adds the digest of the row.
        """
        space = workspace.space
        place = [space.row.id, workspace.session, workspace.seq + 1]
        if space.row.kind is BucketKind.SEALED:
            # Names of a sealed bucket stay under its key: the sealed row of ``effects`` holds them.
            return [*place, [[None, _cid(step.before), _cid(step.after)] for step in steps]]
        told: list[Any] = [[b"/".join(step.path), _cid(step.before), _cid(step.after)] for step in steps]
        if sum(len(step.path) * 32 + 96 for step in steps) < EFFECT_INLINE_BYTES // 4:
            return [*place, told]
        data = dag_cbor.encode(told)
        if len(data) <= EFFECT_INLINE_BYTES:
            return [*place, told]
        cid = CID.of(data, DAG_CBOR)
        space.put(cid, data)
        space.blocks.sync()
        return [*place, cid]


def forget(workspaces: Iterable[Workspace]) -> None:
    """Drop what several sessions hold in memory after a transaction that did not commit."""
    for workspace in workspaces:
        workspace.invalidate()


def _cid(item: Any) -> CID | None:
    return item.cid if item is not None else None


def page_limit(limit: int) -> int:
    """A page size within bounds.

    Raises:
        InvalidInput: below 1.
    """
    if limit < 1:
        raise InvalidInput("limit must be 1 or more")
    return min(limit, PAGE_MAX)


def metadata_bytes(metadata: Mapping[str, Any] | None) -> bytes:
    """Bucket metadata as stored.

    Raises:
        InvalidInput: it is no mapping of dag-cbor values, or larger than 64 KiB.
    """
    data = dag_cbor.encode(dict(metadata or {}))
    if len(data) > 65_536:
        raise InvalidInput("bucket metadata takes more than 64 KiB; store it as a file in the bucket")
    return data


_BUCKET_NOW = f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name=? AND dropped_op IS NULL"  # noqa: S608 - constant text
_BUCKET_THEN = (
    f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE name=? AND created_op<=? "  # noqa: S608 - constant text
    "AND (dropped_op IS NULL OR dropped_op>?) AND NOT EXISTS (SELECT 1 FROM revivals WHERE bucket=buckets.id "
    "AND session=0 AND revivals.dropped_op<=? AND op_index>?) ORDER BY id DESC LIMIT 1"
)
_SESSION_THEN = (
    "SELECT id FROM sessions WHERE bucket=? AND name=? AND created_op<=? AND (dropped_op IS NULL OR dropped_op>?) "
    "ORDER BY id DESC LIMIT 1"
)
