"""Upkeep: snapshots, expiry of history, roots for garbage collection, and what ``verify`` checks of this layer."""

from __future__ import annotations

from collections.abc import Iterator

from ipfs_kit.buckets import commits
from ipfs_kit.buckets.base import BucketsBase
from ipfs_kit.buckets.index import Get, Item, unpack_item
from ipfs_kit.buckets.model import Finding
from ipfs_kit.buckets.refs import RefValue
from ipfs_kit.buckets.space import BUCKET_COLUMNS, BucketRow, Space
from ipfs_kit.buckets.tree import Tree
from ipfs_kit.buckets.workspace import Workspace, newest_snapshot, unpack_steps
from ipfs_kit.errors import Expired, IntegrityError, KitError
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.links import links
from ipfs_kit.ipld.unixfs import Directory, Kind

ROWS_AT_ONCE = 500
"""Rows read at a time, so that a long history needs bounded memory."""


class UpkeepOps(BucketsBase):
    """What keeps the layer small and checks it."""

    def checkpoint(self, *, at_least: int = 1) -> int:
        """Record a snapshot of every open session with unsaved effects; call it on idle and before closing.

        Args:
            at_least: Only sessions with this many effects since their last snapshot.

        Returns:
            How many sessions got one.
        """
        if self.state.read_only or self.state.failed:
            return 0
        with self._guard:
            open_now = [each for each in self._workspaces.values() if each.unsaved >= at_least]
        flushed = []
        for workspace in open_now:
            try:
                flushed.append((workspace, workspace.flushed()))
            except Expired:
                self._let_go(workspace)  # its key was destroyed, by whichever process: nothing of it is left to keep
        if not flushed:
            return 0
        for workspace, _ in flushed:
            workspace.space.blocks.sync()
        done = 0
        with self.state.transaction() as tx:
            for workspace, snapshot in flushed:
                with workspace.lock:
                    # A state whose last effect never committed must not become a snapshot.
                    if workspace.contains(tx, snapshot):
                        workspace.checkpoint(tx, snapshot)
                        done += 1
        return done

    def _let_go(self, workspace: Workspace) -> None:
        with self._guard:
            self._workspaces.pop(workspace.session, None)
            self._spaces.pop(workspace.space.row.id, None)
            self._found.clear()

    def close(self) -> None:
        """Snapshot what is unsaved and forget the sessions; the store itself stays open."""
        self.checkpoint()
        with self._guard:
            self._workspaces.clear()
            self._spaces.clear()
            self._found.clear()

    def expire(self, now_ns: int) -> int:
        """Drop history older than the horizon: effects and snapshots that no kept state is replayed from [6].

        Returns:
            How many effects went.
        """
        limit = now_ns - self.horizon_ns
        with self.state.transaction() as tx:
            before = tx.execute("SELECT count(*) FROM effects")[0][0]
            # Per session the newest snapshot not newer than the limit stays: every kept effect is replayed from there.
            tx.execute(
                "DELETE FROM effects WHERE time_ns<? AND seq<=(SELECT max(seq) FROM snapshots AS kept "
                "WHERE kept.session=effects.session AND kept.time_ns<?)",
                (limit, limit),
            )
            tx.execute(
                "DELETE FROM snapshots WHERE time_ns<? AND seq<(SELECT max(seq) FROM snapshots AS kept "
                "WHERE kept.session=snapshots.session AND kept.time_ns<?)",
                (limit, limit),
            )
            tx.execute("DELETE FROM revivals WHERE time_ns<?", (limit,))
            gone = tx.execute("SELECT id FROM buckets WHERE dropped_ns IS NOT NULL AND dropped_ns<?", (limit,))
            for (bucket,) in gone:
                sessions = "SELECT id FROM sessions WHERE bucket=?"
                tx.execute(f"DELETE FROM effects WHERE session IN ({sessions})", (bucket,))  # noqa: S608 - constant text
                tx.execute(f"DELETE FROM snapshots WHERE session IN ({sessions})", (bucket,))  # noqa: S608 - constant text
                tx.execute("DELETE FROM sessions WHERE bucket=?", (bucket,))
                tx.execute("DELETE FROM revivals WHERE bucket=?", (bucket,))
                tx.execute("DELETE FROM ref_effects WHERE bucket=?", (bucket,))
                tx.execute("DELETE FROM bucket_settings WHERE bucket=?", (bucket,))
                tx.execute("DELETE FROM refs WHERE bucket=(SELECT uid FROM buckets WHERE id=?)", (bucket,))
                tx.execute("DELETE FROM buckets WHERE id=?", (bucket,))
            return int(before - tx.execute("SELECT count(*) FROM effects")[0][0])

    # -- roots ----------------------------------------------------------------------------------------------------

    def roots(self, now_ns: int) -> Iterator[CID]:
        """Every CID of this layer that garbage collection must keep with all below it [6].

        Commits that refs name or named inside the horizon, bases of sessions, snapshots, and both sides of every effect
        that is still replayed or inside the horizon. Sealed buckets whose key is gone have none.
        """
        for row in self._rows():
            try:
                space = self.space(row)
            except Expired:
                continue
            for (data,) in self.state.query("SELECT value FROM refs WHERE bucket=? AND live=1", (row.uid,)):
                commit = RefValue.decode(data).commit
                if commit is not None:
                    yield commit
            for before, after in self.state.query(
                "SELECT before, after FROM ref_effects WHERE bucket=? AND time_ns>=?",
                (row.id, now_ns - self.horizon_ns),
            ):
                yield from (CID(each) for each in (before, after) if each is not None)
            for (session,) in self.state.query("SELECT id FROM sessions WHERE bucket=?", (row.id,)):
                yield from self._session_roots(space, session)

    def _session_roots(self, space: Space, session: int) -> Iterator[CID]:
        # All kept rows count: ``expire`` is what removes those outside the horizon.
        for _, root, head in self._pages("SELECT seq, root, head FROM snapshots WHERE session=? AND seq>?", session):
            yield from _cids(unpack_item(dag_cbor.decode(space.unseal(root))))
            yield from _head_cids(head)
        for _, payload, head in self._pages(
            "SELECT seq, payload, head FROM effects WHERE session=? AND seq>?", session
        ):
            for step in unpack_steps(space.unseal(payload)):
                for item in (step.before, step.after):
                    if item is not None:
                        yield from _cids(item)
            if head is not None:
                yield from _head_cids(head)

    def _pages(self, sql: str, session: int) -> Iterator[tuple[int, bytes, bytes]]:
        after = -1
        while True:
            rows = self.state.query(f"{sql} ORDER BY seq LIMIT {ROWS_AT_ONCE}", (session, after))
            yield from rows
            if len(rows) < ROWS_AT_ONCE:
                return
            after = rows[-1][0]

    def _rows(self) -> Iterator[BucketRow]:
        for row in self.state.query(f"SELECT {BUCKET_COLUMNS} FROM buckets ORDER BY id"):  # noqa: S608 - constant text
            yield BucketRow.of(row)

    # -- verify ---------------------------------------------------------------------------------------------------

    def verify(self) -> Iterator[Finding]:
        """Check this layer: every ref's commit and tree complete, every session replayable, both trees in agreement.

        Blocks are read once however many roots share them. Writes nothing.
        """
        seen: set[bytes] = set()
        for row in self._rows():
            try:
                space = self.space(row)
            except Expired:
                continue
            except KitError as exc:
                yield Finding(f"bucket {row.name}", str(exc), "restore keys/ from its newest backup")
                continue
            remedy = "restore the missing blocks from a backup or replica, or restore the path from an earlier commit"
            rows = self.state.query("SELECT name, value FROM refs WHERE bucket=? AND live=1", (row.uid,))
            for name, data in rows:
                try:
                    commit = RefValue.decode(data).commit
                    if commit is not None:
                        self._verify_commits(space, commit, seen)
                except KitError as exc:
                    yield Finding(f"bucket {row.name} {name}", str(exc), remedy)
            for session, name in self.state.query(
                "SELECT id, name FROM sessions WHERE bucket=? AND dropped_op IS NULL", (row.id,)
            ):
                try:
                    self._verify_session(space, session, seen)
                except KitError as exc:
                    yield Finding(f"bucket {row.name} session {name}", str(exc), remedy)

    def _verify_commits(self, space: Space, head: CID, seen: set[bytes]) -> None:
        for cid, commit in commits.walk(space.get, [head]):
            if cid.binary in seen:
                continue
            seen.add(cid.binary)
            item = Item(commit.root.binary, Kind.DIR, 0, 0, meta=commit.meta)
            self._verify_tree(space, item, seen)

    def _verify_session(self, space: Space, session: int, seen: set[bytes]) -> None:
        start = newest_snapshot(space, session, self.state.query)
        scratch: dict[bytes, bytes] = {}
        view = type(space.view)(
            space.profile,
            lambda cid: scratch[cid.binary] if cid.binary in scratch else space.get(cid),
            lambda cid, data: scratch.__setitem__(cid.binary, data),
        )
        tree = Tree(view, view.keep, start.root)
        rows = self.state.query(
            "SELECT payload FROM effects WHERE session=? AND seq>? ORDER BY seq", (session, start.seq)
        )
        for (payload,) in rows:
            tree.apply(unpack_steps(space.unseal(payload)))
        self._verify_tree(space, tree.flush(), seen, scratch)

    def _verify_tree(
        self, space: Space, root: Item, seen: set[bytes], scratch: dict[bytes, bytes] | None = None
    ) -> None:
        """Read every block of a tree and compare each folder's links with its index."""
        known = scratch or {}

        def get(cid: CID) -> bytes:
            return known[cid.binary] if cid.binary in known else space.blocks.get(cid)

        view = type(space.view)(space.profile, get, lambda cid, data: None)
        stack = [("", root)]
        while stack:
            where, item = stack.pop()
            if item.is_dir and item.meta is not None:
                if item.binary + item.meta.binary in seen:
                    continue
                seen.add(item.binary + item.meta.binary)
                linked = {
                    link.name: link.cid.binary for _, link in Directory(space.profile, get, item.cid).iterate(None)
                }
                for name, child in view.children(item):
                    if linked.pop(name, None) != child.binary:
                        raise IntegrityError(
                            f"the index of {where or '/'} does not agree with its UnixFS folder at {name!a}"
                        )
                    stack.append((f"{where}/{name.decode('utf-8', 'backslashreplace')}", child))
                if linked:
                    raise IntegrityError(
                        f"the index of {where or '/'} lacks {len(linked)} entries of its UnixFS folder"
                    )
            else:
                _read_all(get, item.cid, seen)


def _read_all(get: Get, cid: CID, seen: set[bytes]) -> None:
    stack = [cid]
    while stack:
        at = stack.pop()
        if at.binary in seen:
            continue
        seen.add(at.binary)
        data = get(at)
        stack.extend(links(at, data))


def _cids(item: Item) -> Iterator[CID]:
    yield item.cid
    if item.meta is not None:
        yield item.meta


def _head_cids(head: bytes) -> Iterator[CID]:
    _, base, merging = dag_cbor.decode(head)
    yield from (cid for cid in (base, merging) if cid is not None)
