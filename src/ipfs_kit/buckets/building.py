"""A commit of a state that was built outside any session: snapshots of folders, versions of datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.paths import Ref
from ipfs_kit.buckets.resolving import same_state
from ipfs_kit.buckets.rewrite import RewriteOps
from ipfs_kit.buckets.versions import Moving
from ipfs_kit.buckets.workspace import Head, Snapshot, Workspace
from ipfs_kit.errors import Conflict
from ipfs_kit.ledger import Effect


class BuildingOps(RewriteOps):
    """Commits that bring a whole state, in one step."""

    def settled(self, ref: str | Ref) -> tuple[Workspace, Snapshot]:
        """A session with nothing uncommitted, and its present state to build the next one on.

        Args:
            ref: A live session.

        Raises:
            Conflict: It has uncommitted changes.
        """
        workspace = self.live_ref(ref)
        snapshot = workspace.flushed()
        if not self.is_clean(workspace.space, snapshot.root, snapshot.head):
            raise Conflict(
                f"bucket {workspace.space.name!r} has uncommitted changes of its own; commit or discard them first"
            )
        return workspace, snapshot

    def commit_built(
        self,
        workspace: Workspace,
        snapshot: Snapshot,
        root: Item,
        message: str,
        *,
        author: str = "",
        metadata: Mapping[str, Any] | None = None,
        force: bool = False,
        override: bool = False,
    ) -> Effect:
        """Make a state the session's next commit. Value: :class:`Committed`.

        Args:
            workspace: Session whose branch takes the commit.
            snapshot: What ``settled`` gave; the effect raises ``Stale`` when the session moved since.
            root: The state; its blocks are stored.
            message: Sealed under the author's key.
            author: Surrogate id; empty means the key ring's own ``local``.
            metadata: Anything to remember, sealed likewise.
            force: Make a commit also when nothing changed.
            override: Also where the branch is protected against commits.
        """
        space, head = workspace.space, snapshot.head
        if same_state(root, snapshot.root) and not (force and (head.base is not None or not workspace.seq)):
            return self.nothing(workspace, head, root)
        settings = self.admit(space, head, snapshot.root, root)
        parents = (head.base,) if head.base is not None else ()
        cid = self.write_commit(space, root, parents, message, author, metadata)
        moving = Moving("snapshot", override=override, settings=settings.op_index)
        return self.move_branch(workspace, snapshot, cid, root, Head(head.branch, cid), moving)
