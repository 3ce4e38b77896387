"""What a reference names: commits and their roots, and whether a session differs from its own."""

from __future__ import annotations

from ipfs_kit.buckets import commits
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.paths import Ref, looks_like_cid
from ipfs_kit.buckets.reads import ReadOps
from ipfs_kit.buckets.refs import branch_ref, tag_ref
from ipfs_kit.buckets.space import BucketRow, Space
from ipfs_kit.buckets.workspace import DEFAULT_SESSION, Head, Snapshot, state_at
from ipfs_kit.errors import Conflict, FormatError, InvalidCid, RefNotFound
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import Kind


class ResolveOps(ReadOps):
    """Resolves references to commits and roots."""

    # -- resolving ------------------------------------------------------------------------------------------------

    def root_of_commit(self, ref: Ref) -> tuple[Space, Item]:  # docstring inherited
        """Bucket and root of a branch, tag or commit, now or at an op."""
        space, commit = self.commit_of(ref)
        return space, self.commit_root(space, commit)

    def commit_of(self, ref: Ref) -> tuple[Space, CID]:
        """The commit a reference names.

        Raises:
            RefNotFound: there is none.
        """
        ref = self.resolve_time(ref)
        row = self.row(ref.bucket, op=ref.op)
        space = self.space(row)
        if ref.name is None:
            if ref.op is not None:
                session = self.session_id(row, ref.session or DEFAULT_SESSION, op=ref.op)
                base = state_at(space, session, ref.op).head.base
            else:
                base = self.live_ref(ref).head().base
            if base is None:
                raise RefNotFound(f"bucket {ref.bucket!r} has no commit yet")
            return space, base
        if looks_like_cid(ref.name):
            return space, self._own_commit(space, ref.name)
        for full in (branch_ref(ref.name), tag_ref(ref.name)):
            commit = self._ref_at(row, full, ref.op)
            if commit is not None:
                return space, commit
        raise RefNotFound(f"bucket {ref.bucket!r} has no branch or tag {ref.name!r}", ref=ref.name)

    def commit_root(self, space: Space, commit: CID) -> Item:
        """The root a commit names."""
        found = commits.load(space.get, commit)
        tsize = found.ext.get("tsize")
        return Item(found.root.binary, Kind.DIR, 0, tsize if isinstance(tsize, int) else 0, meta=found.meta)

    def _own_commit(self, space: Space, text: str) -> CID:
        try:
            cid = CID.parse(text)
            found = commits.load(space.get, cid)
        except (InvalidCid, FormatError) as exc:
            raise RefNotFound(f"{text[:100]!a} is no commit of bucket {space.name!r}", ref=text[:100]) from exc
        if found.bucket != space.row.uid:
            # A reference into one bucket must not read another's content by its commit's CID [31].
            raise RefNotFound(f"{text} is no commit of bucket {space.name!r}", ref=text)
        return cid

    def _ref_at(self, row: BucketRow, full: str, op: int | None) -> CID | None:
        if op is None:
            value = self.refs.get(row.uid, full)
            return value.commit if value is not None else None
        rows = self.state.query(
            "SELECT after FROM ref_effects WHERE bucket=? AND ref=? AND op_index<=? ORDER BY op_index DESC LIMIT 1",
            (row.id, full, op),
        )
        return CID(rows[0][0]) if rows and rows[0][0] is not None else None

    def _commit_named(self, row: BucketRow, at: str | None) -> CID:
        if at is None:
            base = self.workspace(row.name).head().base
            if base is None:
                raise RefNotFound(f"bucket {row.name!r} has no commit yet; commit first")
            return base
        return self.commit_of(Ref.parse(f"{row.name}@{at}"))[1]

    # -- comparing ------------------------------------------------------------------------------------------------

    def is_clean(self, space: Space, root: Item, head: Head) -> bool:
        """Whether a session's state is that of its commit."""
        return head.merging is None and same_state(self.base_root(space, head), root)

    def _require_clean(self, space: Space, snapshot: Snapshot) -> None:
        if not self.is_clean(space, snapshot.root, snapshot.head):
            raise Conflict("the session has uncommitted changes; commit them, or pass force to discard them")

    def base_root(self, space: Space, head: Head) -> Item:
        """Root of the commit a session builds on; an empty folder before the first."""
        if head.base is None:
            return space.view.empty(space.keep)
        return self.commit_root(space, head.base)


def same_state(one: Item, other: Item) -> bool:
    """Whether two roots have the same content and metadata."""
    return one.binary == other.binary and one.meta == other.meta
