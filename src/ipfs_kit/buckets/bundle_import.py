"""A bucket from a CAR: into a new bucket, or what came since into the one it belongs to (see ``bundle``)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, BinaryIO, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import commits
from ipfs_kit.buckets.buckets import Buckets
from ipfs_kit.buckets.bundle import Manifest, all_refs
from ipfs_kit.buckets.bundle_check import Checker, Shelf, read_manifest
from ipfs_kit.buckets.model import BucketKind, BucketStructure, BucketType
from ipfs_kit.buckets.paths import check_bucket_name
from ipfs_kit.buckets.refs import BRANCHES, check_full_name
from ipfs_kit.buckets.space import BucketRow, Space
from ipfs_kit.buckets.workspace import DEFAULT_BRANCH, Head
from ipfs_kit.durable import Lease, make_dirs
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import AlreadyExists, BudgetExceeded, Conflict, NotFound, RefConflict, RefNotFound, Stale
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ledger import Effect, Outcome

REFS_MAX: Final = 100
"""Refs that one import makes or moves: each is told in the op's record, which holds at most 32 KiB."""


@dataclass(frozen=True, slots=True)
class BundleImported:
    """What came of an import.

    Args:
        bucket: The bucket.
        cid: Root of the CAR.
        created: Whether the bucket is new.
        refs: Branches and tags that were made or moved.
        commits: Commits checked.
        blocks: Blocks taken over, those that were there already included.
        size: Their bytes.
    """

    bucket: str
    cid: CID
    created: bool
    refs: list[str]
    commits: int
    blocks: int
    size: int


class BundleImport:
    """One import; use it as a context manager, from checking to the end of the effect.

    Args:
        buckets: The store's buckets.
        folder: Where notes lie meanwhile; a folder of the cache.
        source: The CAR, open for reading at any offset.
        lock_timeout_s: Longest wait for another import into this store.
        name: Name of the new bucket; the one it had when None.
        expected: Root that the CAR must have; None for any.
        prefix: Put before the names of all branches and tags, such as ``theirs/``.
    """

    def __init__(
        self,
        buckets: Buckets,
        folder: str,
        source: BinaryIO,
        *,
        lock_timeout_s: float,
        name: str | None = None,
        expected: CID | None = None,
        prefix: str = "",
    ) -> None:
        self._buckets = buckets
        self._name = check_bucket_name(name) if name is not None else None
        self._expected = expected
        self._prefix = prefix
        make_dirs(folder, 0o700)
        # One at a time: what a killed import left in the folder is nobody's then.
        self._lease = Lease(folder, "import")
        self._lease.acquire(lock_timeout_s)
        try:
            self._shelf = Shelf(os.path.join(folder, "import.shelf"), source)
        except BaseException:
            self._lease.release()
            raise
        self._stored = 0
        self._size = 0
        self.cid: CID
        self.manifest: Manifest
        self.commits = 0
        self._named: list[tuple[str, CID]] = []

    def __enter__(self) -> BundleImport:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._shelf.close()
        finally:
            self._lease.release()

    def run(self, progress: Callable[[int, str], object]) -> None:
        """Check all of it, then store the blocks that its refs reach; nothing names them yet.

        The caller holds ``window()`` from here to the end of the effect.

        Args:
            progress: Told how far it is; may raise to stop, and then nothing has changed.

        Raises:
            KitError: Something does not hold; nothing was stored.
        """
        roots = self._shelf.fill(progress)
        self.cid, self.manifest = read_manifest(self._shelf, roots, self._expected)
        self._named = [(self._full(name), commit) for name, commit in self.manifest.refs]
        row = self._known()
        self._require_few(row)
        if row is None and self.manifest.since:
            raise NotFound(
                "the CAR holds only what came since some commits, of a bucket that is not here; import a whole export first"
            )
        stored = None
        if row is not None:
            self._matching(row)
            space = self._buckets.space(row)
            stored = space.get
            for cid in self.manifest.since:
                self._own(space, cid)
        checker = Checker(self._shelf, self.manifest, stored if self.manifest.since else None, progress)
        checker.run()
        self.commits = checker.commits
        self._shelf.index()
        for cid, data in self._shelf.followed():
            if cid == self.cid:
                continue
            self._buckets.blocks.put(cid, data, verify=False)
            self._stored += 1
            self._size += len(data)
            if self._stored % 256 == 0:
                progress(self._size, "storing blocks")

    def effect(self, *, override: bool = False) -> Effect:
        """Make the bucket and its refs, or move those of the bucket it belongs to. Value: :class:`BundleImported`.

        Args:
            override: Also move protected branches.

        Raises:
            RefConflict: A branch here has commits that the CAR's does not.
            AlreadyExists: The name is taken.
        """
        row = self._known()
        return self._update(row, override) if row is not None else self._create()

    def _require_few(self, row: BucketRow | None) -> None:
        here = dict(all_refs(self._buckets, row.uid)) if row is not None else {}
        moving = [full for full, commit in self._named if here.get(full) != commit]
        if len(moving) > REFS_MAX:
            raise BudgetExceeded(
                f"the CAR would make or move {len(moving)} branches and tags, and one import at most {REFS_MAX}: export them "
                "in parts (refs), and import one after the other"
            )

    # -- a new bucket ---------------------------------------------------------------------------------------------

    def _create(self) -> Effect:
        manifest, buckets = self.manifest, self._buckets
        name = self._name or manifest.name
        metadata = dag_cbor.decode(manifest.metadata)
        row = BucketRow(
            -1, manifest.uid, name, BucketType(manifest.type), BucketStructure(manifest.structure), BucketKind.OPEN,
            manifest.profile, None, metadata, manifest.created_ns, -1, None, None,
        )  # fmt: skip
        space = buckets.open_space(row)
        branches = {full.removeprefix(BRANCHES): commit for full, commit in self._named if full.startswith(BRANCHES)}
        branch = next((each for each in (manifest.branch, DEFAULT_BRANCH) if each in branches), None)
        base = branches[branch] if branch is not None else None
        root = buckets.commit_root(space, base) if base is not None else space.view.empty(space.put)
        head = Head(branch or DEFAULT_BRANCH, base)

        def run(tx: Tx) -> Outcome:
            if tx.execute("SELECT 1 FROM buckets WHERE name=? AND dropped_op IS NULL", (name,)):
                raise AlreadyExists(f"bucket {name!r} exists; give the import another name", bucket=name)
            self._unused_uid(tx)
            buckets.retain(tx, space, [root.cid])
            made, effect = buckets.insert_bucket(tx, row, space, root, head)
            fresh = buckets.open_space(made)
            moves = [
                ["branch", buckets.swap(tx, fresh, full, None, commit, override=True)] for full, commit in self._named
            ]
            value = self._value(name, True, [full for full, _ in self._named])
            return Outcome(value, [effect, *moves], after=base, target=name)

        return run

    def _unused_uid(self, tx: Tx) -> None:
        rows = tx.execute("SELECT name, dropped_op FROM buckets WHERE uid=?", (self.manifest.uid,))
        if rows and rows[0][1] is None:
            raise Stale("the bucket was made meanwhile")
        if rows:
            raise Conflict(
                f"this bucket was here as {rows[0][0]!r} and was deleted by op {rows[0][1]}: undo that, and import again"
            )

    # -- a bucket that is here ------------------------------------------------------------------------------------

    def _update(self, row: BucketRow, override: bool) -> Effect:
        buckets = self._buckets
        space = buckets.space(row)
        self._matching(row)
        moving = []
        for full, commit in self._named:
            value = buckets.refs.get(row.uid, full)
            now = value.commit if value is not None else None
            if now == commit:
                continue
            if now is not None:
                self._require_forward(space, full, now, commit)
                if full.startswith(BRANCHES):
                    head = Head(full.removeprefix(BRANCHES), now)
                    buckets.admit(space, head, buckets.commit_root(space, now), buckets.commit_root(space, commit))
            moving.append((full, now, commit))

        def run(tx: Tx) -> Outcome:
            if not tx.execute("SELECT 1 FROM buckets WHERE id=? AND dropped_op IS NULL", (row.id,)):
                raise Stale("the bucket was dropped meanwhile")
            moves: list[Any] = []
            for full, was, commit in moving:
                current = buckets.refs.read_in(tx, row.uid, full)
                if (current.commit if current is not None else None) != was:
                    raise Stale(f"{full} moved meanwhile")
                moves.append(["branch", buckets.swap(tx, space, full, current, commit, override=override)])
            value = self._value(row.name, False, [full for full, _, _ in moving])
            return Outcome(value, moves or None, target=row.name)

        return run

    def _require_forward(self, space: Space, full: str, now: CID, commit: CID) -> None:
        if not commits.is_ancestor(space.get, now, commit):
            raise RefConflict(
                f"{full} of bucket {space.name!r} has commits that the CAR's does not: import with a prefix, such as "
                "theirs/, and merge",
                ref=full,
            )

    def _matching(self, row: BucketRow) -> None:
        if self._name is not None and self._name != row.name:
            raise Conflict(f"this bucket is here already as {row.name!r}; import it without a name")
        if row.kind is not BucketKind.OPEN or row.profile != self.manifest.profile:
            raise Conflict(
                f"bucket {row.name!r} has the CAR's id and another kind or profile; it is not the same bucket"
            )

    def _own(self, space: Space, cid: CID) -> None:
        """A commit the CAR builds on must be one of the bucket's own, and reached by a ref: then its tree is whole."""
        for name in self._refs_of(space):
            if commits.is_ancestor(space.get, cid, name):
                return
        raise RefNotFound(
            f"the CAR builds on commit {cid}, which bucket {space.name!r} lacks; import an earlier one first"
        )

    def _refs_of(self, space: Space) -> list[CID]:
        return [commit for _, commit in all_refs(self._buckets, space.row.uid)]

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _known(self) -> BucketRow | None:
        rows = self._buckets.state.query(
            "SELECT name FROM buckets WHERE uid=? AND dropped_op IS NULL", (self.manifest.uid,)
        )
        return self._buckets.row(rows[0][0]) if rows else None

    def _full(self, name: str) -> str:
        if not self._prefix:
            return name
        space, _, short = name.partition("/")
        return check_full_name(f"{space}/{self._prefix}{short}")

    def _value(self, bucket: str, created: bool, refs: list[str]) -> BundleImported:
        return BundleImported(bucket, self.cid, created, refs, self.commits, self._stored, self._size)
