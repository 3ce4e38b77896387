"""Running garbage collection beside writers (decision 5).

A run, and what each step guards:

1. Fold new blocks into the counts; plan; *condemn*: the whole garbage gets a mark. From here on a writer that puts a
   marked block finds it absent and stores it anew, which clears its mark when that store is synced.
2. Begin a new epoch, and wait for writers whose window opened before: they may have seen a block without its mark and
   rely on it. If some are still open, the run ends and the next one goes on here.
3. Under the state lock, a bounded batch at a time: fold what was stored meanwhile, look at the roots again, and remove
   blocks that still carry a mark, have no parent and are no root; then what only they referred to. A block stored
   anew keeps its descendants, because it counts as their parent. No reference can be committed meanwhile.
4. Marks that are left belong to blocks in use again; they are cleared. Packs that are half garbage are rewritten.

Marks, counts and removals are index transactions, so a process killed anywhere leaves a state that the next run goes on
from. Descendants of a removed block are removed by the same run when they carry a mark, else by a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.blocks.gc.counts import EdgeCounts, LinksOf, plain_links
from ipfs_kit.blocks.gc.plan import BLOCKS_MAX, GcPlan, plan
from ipfs_kit.blocks.gc.sweep import full_check, root_keys
from ipfs_kit.durable.locks import Lease
from ipfs_kit.errors import IntegrityError, LockTimeout

if TYPE_CHECKING:
    from ipfs_kit.blocks.index import Txn
    from ipfs_kit.blocks.pack_gc import PackStat
    from ipfs_kit.blocks.store import PackStore
    from ipfs_kit.durable.state import StateDB
    from ipfs_kit.ipld.cid import CID

# Blocks removed under one hold of the state lock: some tens of milliseconds.
_BATCH: Final = 1000
_LEASE_WAIT_S: Final = 10.0
Progress = Callable[[int, int], object]
Roots = Callable[[], Iterable["CID"]]


@dataclass(slots=True)
class GcReport:
    """What a run did.

    Args:
        dry_run: Nothing was removed.
        condemned: Blocks marked, or in a dry run to be marked.
        condemned_bytes: Their bytes.
        removed: Blocks removed from the index.
        removed_bytes: Their bytes, given back to the disk as packs are rewritten.
        kept: Condemned blocks that came into use again.
        compacted: Packs rewritten or dropped.
        freed_bytes: Bytes given back to the disk.
        awaiting_writers: Condemned blocks left for the next run, because earlier writers are still open.
        reasons: How many blocks were condemned for each reason.
        problems: Packs that could not be rewritten, and why.
    """

    dry_run: bool = False
    condemned: int = 0
    condemned_bytes: int = 0
    removed: int = 0
    removed_bytes: int = 0
    kept: int = 0
    compacted: int = 0
    freed_bytes: int = 0
    awaiting_writers: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Collector:
    """Collects the garbage of one store.

    Args:
        store: The store.
        state: Its commit point; its lock keeps references from being committed while blocks are removed.
        roots: Gives every CID that must stay, with all below it: refs, pins, sessions, holds, plans, recent ops.
        links_of: The children of a stored block; ``sealed.links_of(ring.domain_key)`` where there are sealed buckets.
        key_alive: Whether a key domain still has its key.
    """

    def __init__(
        self,
        store: PackStore,
        state: StateDB,
        roots: Roots,
        *,
        links_of: LinksOf = plain_links,
        key_alive: Callable[[str], bool] = lambda domain: True,
    ) -> None:
        self._store = store
        self._state = state
        self._roots = roots
        self._links_of = links_of
        self._key_alive = key_alive

    def collect(
        self,
        now_ns: int,
        *,
        dry_run: bool = False,
        wait_s: float = 0.0,
        recount: bool = False,
        blocks_max: int = BLOCKS_MAX,
        progress: Progress | None = None,
    ) -> GcReport:
        """Find garbage and remove it.

        Args:
            now_ns: The present time.
            dry_run: Only say what would be removed.
            wait_s: How long to wait for writers that began earlier.
            recount: Count all references anew first, as after repairs.
            blocks_max: Most blocks condemned in this run.
            progress: Told of blocks removed and to be removed.

        Raises:
            LockTimeout: Another process is collecting.
        """
        if dry_run and self._store.read_only:
            return self._dry_sweep()
        lease = Lease(self._store.directory, "gc")
        try:
            lease.acquire(0)
            self._store.sync()
            counts = self._counts()
            counts.fold()
            if recount or counts.outdated():
                counts.reset()
                counts.fold()
            if dry_run:
                return _report(
                    plan(counts, root_keys(self._roots(), self._links_of), now_ns, blocks_max=blocks_max), True
                )
            report = GcReport()
            if self._any_condemned() and not self._finish(counts, report, wait_s, progress):
                return report
            self._condemn(counts, report, now_ns, blocks_max)
            if self._any_condemned() and not self._finish(counts, report, wait_s, progress):
                return report
            self._compact(report)
            return report
        finally:
            lease.close()

    def references(self, cid: CID) -> int:
        """How many stored blocks link to a block.

        Raises:
            LockTimeout: Another process is collecting.
        """
        lease = Lease(self._store.directory, "gc")
        try:
            lease.acquire(_LEASE_WAIT_S)
            self._store.sync()
            counts = self._counts()
            counts.fold()
            return counts.references(cid.multihash)
        finally:
            lease.close()

    def _counts(self) -> EdgeCounts:
        return EdgeCounts(self._store, self._links_of, self._key_alive)

    def _dry_sweep(self) -> GcReport:
        garbage = full_check(self._store, self._roots(), self._links_of)
        places = (self._store.index.lookup(key) for key in garbage)
        return GcReport(True, len(garbage), sum(place.length for place in places if place is not None))

    def _any_condemned(self) -> bool:
        return next(iter(self._store.condemned()), None) is not None

    def _condemn(self, counts: EdgeCounts, report: GcReport, now_ns: int, blocks_max: int) -> None:
        found = plan(counts, root_keys(self._roots(), self._links_of), now_ns, blocks_max=blocks_max)
        report.condemned += self._store.condemn(found.condemn)
        report.condemned_bytes += found.bytes
        report.reasons = found.reasons

    # -- removing

    def _finish(self, counts: EdgeCounts, report: GcReport, wait_s: float, progress: Progress | None) -> bool:
        """Remove what is condemned; False when earlier writers must close first."""
        marks = dict(self._store.condemned())
        if not self._writers_gone(max(marks.values()), wait_s):
            report.awaiting_writers = len(marks)
            return False
        rescued = self._store.rescued()
        sweep = _Removal(self._store, counts, marks.keys(), set(counts.orphaned()))
        roots: set[bytes] = set()
        token: int | None = None
        while sweep.work:
            with self._state.transaction():
                self._store.sync()
                counts.fold()
                present = self._state.changed()
                if token != present:
                    roots, token = root_keys(self._roots(), self._links_of), present
                sweep.step(roots)
            if progress is not None:
                progress(sweep.removed, len(marks))
        with self._state.transaction():
            self._store.sync()
            counts.fold()
            report.kept += self._unmark(marks.keys())
            self._store.forget_rescued(rescued)
        report.removed += sweep.removed
        report.removed_bytes += sweep.removed_bytes
        return True

    def _writers_gone(self, marked_in: int, wait_s: float) -> bool:
        try:
            if self._store.epoch() <= marked_in:
                self._store.advance_epoch(wait_s)
        except LockTimeout:
            return False
        return self._store.old_windows_closed(wait_s)

    def _unmark(self, keys: Iterable[bytes]) -> int:
        """Clear what marks are left: these blocks have a parent, or are roots, again."""
        wanted = list(keys)

        def clear(txn: Txn) -> int:
            return sum(bool(txn.lmdb.delete(key, db=txn.marks)) for key in wanted)

        return int(self._store.update_index(clear))

    # -- compaction

    def _compact(self, report: GcReport) -> None:
        # Packs with the least to copy first: on a full disk the emptied ones give the room that the others need.
        for stat in sorted(self._store.pack_stats(), key=lambda stat: stat.live_bytes):
            if not self._worth(stat):
                continue
            if not self._store.room_to_copy(stat.live_bytes + 200 * stat.live_blocks):
                report.problems.append(
                    f"{stat.name} keeps its garbage: copying what is in use needs more free disk space"
                )
                continue
            try:
                freed = self._store.compact(stat.pack_id)
            except IntegrityError as exc:
                report.problems.append(f"{stat.name} keeps its garbage: {exc.message}")
                continue
            if freed is not None:
                report.compacted += 1
                report.freed_bytes += freed

    def _worth(self, stat: PackStat) -> bool:
        if stat.garbage_bytes == 0:
            return False
        if stat.domain is not None and not self._key_alive(stat.domain):
            return True  # erasure: whatever no root names goes at once
        return 2 * stat.garbage_bytes >= stat.size_bytes


class _Removal:
    """Removes condemned blocks batch by batch, each one after all its parents."""

    def __init__(self, store: PackStore, counts: EdgeCounts, marked: Iterable[bytes], orphans: set[bytes]) -> None:
        self._store = store
        self._counts = counts
        self._orphans = orphans
        self.work = [key for key in marked if key in orphans or counts.references(key) == 0]
        self.removed = 0
        self.removed_bytes = 0

    def step(self, roots: set[bytes]) -> None:
        """Remove the next batch; the caller holds the state lock and has folded."""
        batch = [(key, self._counts.children(key)) for key in self.work[-_BATCH:] if key not in roots]
        del self.work[-_BATCH:]
        freed, removed, size = self._store.update_index(self._removing(batch))
        self.work += freed
        self.removed += removed
        self.removed_bytes += size

    def _removing(self, batch: list[tuple[bytes, Sequence[bytes]]]) -> Callable[[Txn], tuple[list[bytes], int, int]]:
        def change(txn: Txn) -> tuple[list[bytes], int, int]:
            freed: list[bytes] = []
            removed = size = 0
            for key, children in batch:
                if txn.lmdb.get(key, db=txn.marks) is None:
                    continue
                if key not in self._orphans and self._counts.count_in(txn, key):
                    continue
                place = txn.get(key)
                if place is None or not txn.remove(key):
                    continue
                removed, size = removed + 1, size + place.length
                bare = self._counts.take_out(txn, key, children)
                freed += [child for child in bare if txn.lmdb.get(child, db=txn.marks) is not None]
            return freed, removed, size

        return change


def _report(found: GcPlan, dry_run: bool) -> GcReport:
    return GcReport(dry_run, len(found.condemn), found.bytes, reasons=found.reasons)
