"""Snapshots of a folder outside the store: a bucket's branch holds its versions; see ``folder_scan`` for what is read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.buckets import Buckets
from ipfs_kit.buckets.exporter import ExportReport, Writer
from ipfs_kit.buckets.folder_scan import Known, Scan, ScanReport, kind_of
from ipfs_kit.buckets.guards import check_totals, settings_now
from ipfs_kit.buckets.index import Item, Put
from ipfs_kit.buckets.model import Change
from ipfs_kit.buckets.paths import Ref, format_path
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.tree import Step, Tree
from ipfs_kit.durable import Lease, make_dirs, rebuildable
from ipfs_kit.errors import Conflict, IntegrityError, InvalidInput
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ledger import Effect

CHANGES_MAX: Final = 10_000
"""Changes named in one answer."""
FLUSH_EVERY: Final = 50_000
"""Changed paths after which folders are written, so that memory stays bounded however many change."""
Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class FolderChanges:
    """How a folder differs from a version.

    Args:
        changes: Paths, before is the version's and after the folder's.
        truncated: Whether more differ than are named.
        count: How many differ.
        root: CID the folder's content has.
        report: What the scan came across.
    """

    changes: tuple[Change, ...]
    truncated: bool
    count: int
    root: CID
    report: ScanReport


class FolderTracker:
    """Tracks folders of this machine in buckets.

    Args:
        directory: The store's directory.
        buckets: Its buckets.
        read_only: Whether nothing may be written, also not to the cache: then every file is read.
        lock_timeout_s: Longest wait for another scan of the same folder.
    """

    def __init__(
        self, directory: str | os.PathLike[str], buckets: Buckets, read_only: bool, lock_timeout_s: float
    ) -> None:
        self._store = os.path.realpath(os.fspath(directory))
        self._folder = os.path.join(self._store, "cache", "folders")
        self._buckets = buckets
        self._read_only = read_only
        self._timeout_s = lock_timeout_s

    # -- looking --------------------------------------------------------------------------------------------------

    def compare(
        self,
        folder: str,
        state: str,
        *,
        limit: int = 1000,
        ignore: tuple[str, ...] = (),
        progress: Progress = lambda files, done: None,
    ) -> FolderChanges:
        """How a folder differs from a version; stores nothing.

        Args:
            folder: On disk.
            state: ``BUCKET[@ref]``; a session stands for the commit it builds on.
            limit: Most changes named.
            ignore: Further rules.
            progress: Called with files looked at and bytes read; may raise to stop.
        """
        space, base = self._base(state)
        found: list[Change] = []
        count = 0
        with self._scan(folder, space, space.address, ignore, progress) as scan:
            tree = Tree(space.view, space.hold, base)
            for step in scan.steps(folder, base):
                tree.apply((step,))
                count += 1
                if count % FLUSH_EVERY == 0:
                    tree.flush()
                if len(found) < min(limit, CHANGES_MAX):
                    found.append(_change(step))
            root = tree.flush().cid
        return FolderChanges(tuple(found), count > len(found), count, root, scan.report)

    # -- taking ---------------------------------------------------------------------------------------------------

    def snapshot(
        self,
        folder: str,
        bucket: str,
        message: str,
        *,
        author: str,
        metadata: dict[str, Any] | None = None,
        force: bool = False,
        ignore: tuple[str, ...] = (),
        override: bool = False,
        progress: Progress = lambda files, done: None,
    ) -> tuple[Effect, ScanReport, int]:
        """Commit what a folder holds now.

        Args:
            folder: On disk.
            bucket: ``BUCKET[#session]`` without uncommitted changes; its branch takes the commit.
            message: Of the commit.
            author: Surrogate id.
            metadata: Values kept with the commit.
            force: Make a commit also when nothing changed.
            ignore: Further rules.
            override: Also where the branch is protected against commits.
            progress: Called with files looked at and bytes read; may raise to stop.

        Returns:
            The effect (value: :class:`Committed`), what the scan came across, and how many paths changed.
        """
        buckets = self._buckets
        workspace, snapshot = buckets.settled(Ref.parse(bucket))
        space = workspace.space
        count = 0
        settings = settings_now(buckets.state.query, space)
        held = space.view.index.totals(space.view.meta_of(snapshot.root))
        with self._scan(folder, space, space.put, ignore, progress) as scan:
            tree = Tree(space.view, space.put, snapshot.root)
            for step in scan.steps(folder, snapshot.root):
                tree.apply((step,))
                count += 1
                if count % FLUSH_EVERY == 0:
                    tree.flush()
                # What cannot be committed need not be stored to its end.
                grown = (scan.report.files - held.files, scan.report.size - held.size_bytes)
                check_totals(settings, space, (held.files, held.size_bytes), *grown)
            root = tree.flush()
        effect = buckets.commit_built(
            workspace, snapshot, root, message, author=author, metadata=metadata, force=force, override=override
        )
        return effect, scan.report, count

    # -- bringing back --------------------------------------------------------------------------------------------

    def restore(
        self,
        folder: str,
        state: str,
        *,
        force: bool = False,
        ignore: tuple[str, ...] = (),
        progress: Progress = lambda files, done: None,
    ) -> tuple[CID, int, ExportReport]:
        """Make a folder hold what a version holds; what rules ignore is left alone.

        Args:
            folder: On disk; it is made when absent.
            state: ``BUCKET[@ref]``.
            force: Discard what the folder holds beyond the head of the bucket's default branch.
            ignore: Further rules.
            progress: Called with files looked at and bytes read; may raise to stop.

        Returns:
            Root of the version, how many paths differed, and what was written.

        Raises:
            Conflict: The folder has changes that no version has, and ``force`` is off.
        """
        space, target = self._base(state)
        os.makedirs(folder, exist_ok=True)
        if not force:
            self._require_kept(folder, Ref.parse(state).bucket, ignore, progress)
        steps: list[Step] = []
        with self._scan(folder, space, space.address, ignore, progress) as scan:
            for step in scan.steps(folder, target):
                steps.append(step)
                if len(steps) > RESTORED_MAX:
                    raise InvalidInput(
                        f"more than {RESTORED_MAX} paths differ: get the version into an empty folder instead (files.get)"
                    )
        with Writer(folder, space.view, progress) as writer:
            # What the folder has and the version lacks goes first, the innermost first of all.
            for step in reversed(steps):
                if step.after is not None and (step.before is None or step.before.kind is not step.after.kind):
                    writer.remove(step.path, step.after.is_dir)
            for step in steps:
                if step.before is not None:
                    writer.write(step.path, step.before)
        writer.report.problems[:0] = scan.report.problems
        writer.report.problems_count += scan.report.problems_count
        return target.cid, len(steps), writer.report

    def _require_kept(self, folder: str, bucket: str, ignore: tuple[str, ...], progress: Progress) -> None:
        if self._buckets.workspace(bucket).head().base is None:
            return
        with os.scandir(folder) as entries:
            if next(entries, None) is None:
                return
        found = self.compare(folder, bucket, limit=5, ignore=ignore, progress=progress)
        if found.count:
            named = ", ".join(f"{change.path} ({change.change})" for change in found.changes)
            more = " and more" if found.truncated else ""
            raise Conflict(
                f"{folder} has changes that no version holds: {named}{more}; take a snapshot first, or pass force to "
                "discard them",
                paths=[change.path for change in found.changes],
            )

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _base(self, state: str) -> tuple[Space, Item]:
        ref = Ref.parse(state)
        buckets = self._buckets
        if not ref.live:
            return buckets.fixed(ref)
        workspace = buckets.live_ref(ref)
        return workspace.space, buckets.base_root(workspace.space, workspace.head())

    @contextmanager
    def _scan(self, folder: str, space: Space, put: Put, ignore: tuple[str, ...], progress: Progress) -> Iterator[Scan]:
        if "\0" in folder:
            raise InvalidInput("a path holds no NUL")
        real = os.path.realpath(folder)
        if os.path.commonpath((real, self._store)) in (real, self._store):
            raise InvalidInput(f"{folder} holds the store itself, or lies in it: track another folder")
        with self._known(f"{space.row.uid}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:16]}") as known:
            yield Scan(space.view, put, known, self._buckets.now, ignore=ignore, progress=progress)

    @contextmanager
    def _known(self, name: str) -> Iterator[Known]:
        """What was read before of one folder, while nobody else looks at it."""
        if self._read_only:
            known = Known(":memory:")
            try:
                yield known
            finally:
                known.close()
            return
        make_dirs(self._folder, 0o700)
        path = os.path.join(self._folder, name + ".db")
        lease = Lease(self._folder, name)
        lease.acquire(self._timeout_s)
        try:
            try:
                known = Known(path)
            except IntegrityError:
                rebuildable.discard(path)
                known = Known(path)
            try:
                yield known
            finally:
                known.close()
        finally:
            lease.release()

    def sweep(self) -> int:
        """Remove figures of buckets that are no more; how many went."""
        try:
            names = [name for name in os.listdir(self._folder) if name.endswith(".db")]
        except FileNotFoundError:
            return 0
        here = self._buckets.uids() if names else frozenset()
        gone = [name for name in names if name.partition("-")[0] not in here]
        for name in gone:
            rebuildable.discard(os.path.join(self._folder, name))
        return len(gone)


RESTORED_MAX: Final = 1_000_000
"""Paths one restore changes."""


def _change(step: Step) -> Change:
    before, after = step.before, step.after
    return Change(
        format_path(step.path),
        kind_of(step),
        before.cid if before is not None else None,
        after.cid if after is not None else None,
    )
