"""Buckets and sessions as such: create, list, inspect, drop, erase the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ipfs_kit.buckets import guards
from ipfs_kit.buckets.base import metadata_bytes, page_limit
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import BucketInfo, BucketKind, BucketStructure, BucketType
from ipfs_kit.buckets.paths import check_bucket_name, check_ref_name, check_session_name
from ipfs_kit.buckets.refs import BRANCHES, branch_ref
from ipfs_kit.buckets.space import BUCKET_COLUMNS, BucketRow, Space, profile_of
from ipfs_kit.buckets.versions import VersionOps
from ipfs_kit.buckets.workspace import (
    DEFAULT_BRANCH,
    DEFAULT_SESSION,
    Head,
    newest_snapshot,
    op_index_of,
    pack_head,
    pack_root,
    row_digest,
)
from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import (
    AlreadyExists,
    BucketNotFound,
    Conflict,
    Expired,
    IntegrityError,
    InvalidInput,
    NotEmpty,
    Protected,
    RefNotFound,
    Stale,
    Unsupported,
)
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ledger import Effect, Outcome


class LifecycleOps(VersionOps):
    """What is done to buckets and sessions as a whole."""

    def create(
        self,
        name: str,
        *,
        type: str = "general",  # noqa: A002 - the word callers use
        structure: str = "hybrid",
        kind: str = "open",
        profile: str = "unixfs-v1-2025",
        metadata: Mapping[str, Any] | None = None,
    ) -> Effect:
        """Make a bucket with an empty default workspace on branch ``main``. Value: :class:`BucketInfo`.

        Args:
            name: Its name.
            type: One of :class:`BucketType`.
            structure: One of :class:`BucketStructure`.
            kind: ``open`` or ``sealed``; cannot be changed later [19].
            profile: Shape of its UnixFS nodes; cannot be changed later.
            metadata: Anything to remember about it.

        Raises:
            AlreadyExists: (from the effect) there is one of this name.
        """
        row = BucketRow(
            -1,
            self.random(12).hex(),
            check_bucket_name(name),
            _choice(BucketType, type, "type"),
            _choice(BucketStructure, structure, "structure"),
            _choice(BucketKind, kind, "kind"),
            profile_of(profile).name,
            self._new_domain() if kind == BucketKind.SEALED else None,
            dag_cbor.decode(metadata_bytes(metadata)),
            self.now(),
            -1,
            None,
            None,
        )
        space = self.open_space(row)
        root = space.view.empty(space.put)

        def run(tx: Tx) -> Outcome:
            if tx.execute("SELECT 1 FROM buckets WHERE name=? AND dropped_op IS NULL", (name,)):
                raise AlreadyExists(f"bucket {name!r} exists; choose another name", bucket=name)
            self.retain(tx, space, [root.cid])
            _, effect = self.insert_bucket(tx, row, space, root, Head(DEFAULT_BRANCH, None))
            return Outcome(value=_fresh(row, root.cid), effect=effect, after=root.cid, target=name)

        return run

    def insert_bucket(
        self, tx: Tx, row: BucketRow, space: Space, root: Item, head: Head
    ) -> tuple[BucketRow, list[Any]]:
        """Insert a bucket and its default workspace.

        Args:
            tx: The transaction.
            row: The bucket, without an id.
            space: Seals what is sealed.
            root: State of the workspace, its blocks stored.
            head: What the workspace builds on.

        Returns:
            The row with its id, and the effect for the op's record.
        """
        index = op_index_of(tx)
        made = (row.name, row.type.value, row.structure.value, row.kind.value, row.profile, row.domain)
        values = (*made, metadata_bytes(row.metadata), row.created_ns)
        tx.execute(
            "INSERT INTO buckets(uid, name, type, structure, kind, profile, domain, metadata, created_ns, created_op) "
            "VALUES(?,?,?,?,?,?,?,?,?,?)",
            (row.uid, *values, index),
        )
        ident = tx.execute("SELECT id FROM buckets WHERE uid=?", (row.uid,))[0][0]
        session = self._insert_session(tx, ident, DEFAULT_SESSION, space, pack_root(root), head, index)
        return replace(row, id=ident, created_op=index), ["create", ident, row.uid, [*session], [*values]]

    def delete(self, name: str, *, force: bool = False) -> Effect:
        """Drop a bucket with its sessions and refs; it stays readable at ``@op:N`` before, within the horizon.

        Args:
            name: The bucket.
            force: Drop it even when it holds something.

        Raises:
            NotEmpty: (from the effect) it holds files or commits and ``force`` is off.
            Protected: (from the effect) a protected branch in it names a commit.
        """
        row = self.row(name)
        info = self._info(row)

        def run(tx: Tx) -> Outcome:
            rows = tx.execute("SELECT id FROM buckets WHERE name=? AND dropped_op IS NULL", (name,))
            if not rows:
                raise BucketNotFound(f"no bucket named {name!r}", bucket=name)
            if rows[0][0] != row.id:
                raise Stale(f"bucket {name!r} was replaced meanwhile")
            self._require_unprotected(tx, row)
            if not force and not self._unused(tx, row):
                raise NotEmpty(f"bucket {name!r} is not empty; pass force to drop it and all in it", bucket=name)
            index = op_index_of(tx)
            tx.execute("UPDATE buckets SET dropped_op=?, dropped_ns=? WHERE id=?", (index, tx.began_ns, row.id))
            tx.execute("UPDATE sessions SET dropped_op=? WHERE bucket=? AND dropped_op IS NULL", (index, row.id))
            return Outcome(value=info, effect=["delete", row.id, row.uid, tx.began_ns], before=info.root, target=name)

        return run

    def uids(self) -> frozenset[str]:
        """Surrogate ids of the buckets there are."""
        return frozenset(uid for (uid,) in self.state.query("SELECT uid FROM buckets WHERE dropped_op IS NULL"))

    def undelete(self, bucket_id: int, dropped_op: int) -> Effect:
        """Bring back a dropped bucket and the sessions dropped with it: the inverse of :meth:`delete`.

        Raises:
            AlreadyExists: (from the effect) its name is taken again.
            Expired: (from the effect) it is gone.
        """

        def run(tx: Tx) -> Outcome:
            rows = tx.execute(
                f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE id=? AND dropped_op=?",  # noqa: S608 - constant text
                (bucket_id, dropped_op),
            )
            if not rows:
                raise Expired("the dropped bucket is no longer there to bring back")
            row = BucketRow.of(rows[0])
            if tx.execute("SELECT 1 FROM buckets WHERE name=? AND dropped_op IS NULL", (row.name,)):
                raise AlreadyExists(f"bucket {row.name!r} exists again; delete that one first", bucket=row.name)
            tx.execute("UPDATE buckets SET dropped_op=NULL, dropped_ns=NULL WHERE id=?", (row.id,))
            tx.execute("UPDATE sessions SET dropped_op=NULL WHERE bucket=? AND dropped_op=?", (row.id, dropped_op))
            self._revived(tx, row.id, 0, dropped_op)
            return Outcome(value=row.name, effect=["undelete", row.id, row.uid], target=row.name)

        return run

    def session_undrop(self, session: int, dropped_op: int) -> Effect:
        """Bring back a dropped session: the inverse of :meth:`session_drop`.

        Raises:
            AlreadyExists: (from the effect) its name is taken again.
            Expired: (from the effect) it is gone, or its bucket is.
        """

        def run(tx: Tx) -> Outcome:
            rows = tx.execute(
                "SELECT sessions.bucket, sessions.name FROM sessions JOIN buckets ON buckets.id=sessions.bucket "
                "WHERE sessions.id=? AND sessions.dropped_op=? AND buckets.dropped_op IS NULL",
                (session, dropped_op),
            )
            if not rows:
                raise Expired("the dropped session is no longer there to bring back")
            bucket, name = rows[0]
            if tx.execute("SELECT 1 FROM sessions WHERE bucket=? AND name=? AND dropped_op IS NULL", (bucket, name)):
                raise AlreadyExists(f"session {name!r} exists again; drop that one first", session=name)
            tx.execute("UPDATE sessions SET dropped_op=NULL WHERE id=?", (session,))
            self._revived(tx, bucket, session, dropped_op)
            return Outcome(value=name, effect=["session_undrop", session], target=name)

        return run

    def _revived(self, tx: Tx, bucket: int, session: int, dropped_op: int) -> None:
        tx.execute(
            "INSERT INTO revivals(op_index, bucket, session, dropped_op, time_ns) VALUES(?,?,?,?,?)",
            (op_index_of(tx), bucket, session, dropped_op, tx.began_ns),
        )

    def list(self, *, after: str | None = None, limit: int = 1000) -> tuple[tuple[BucketInfo, ...], str | None]:
        """One page of buckets by name, and the cursor for the next."""
        limit = page_limit(limit)
        rows = self.state.query(
            f"SELECT {BUCKET_COLUMNS} FROM buckets WHERE dropped_op IS NULL AND name>? ORDER BY name LIMIT ?",  # noqa: S608 - constant text
            (after or "", limit + 1),
        )
        found = tuple(self._info(BucketRow.of(row)) for row in rows[:limit])
        return found, found[-1].name if len(rows) > limit else None

    def count(self) -> int:
        """How many buckets there are; reads no block, so that a damaged bucket counts too."""
        return int(self.state.query("SELECT count(*) FROM buckets WHERE dropped_op IS NULL")[0][0])

    def info(self, name: str) -> BucketInfo:
        """One bucket with its true counts.

        Raises:
            BucketNotFound: there is none.
        """
        return self._info(self.row(name), flush=True)

    def exists(self, name: str) -> bool:
        """Whether there is a bucket of this name."""
        check_bucket_name(name)
        return bool(self.state.query("SELECT 1 FROM buckets WHERE name=? AND dropped_op IS NULL", (name,)))

    def session_create(self, bucket: str, name: str, *, branch: str = DEFAULT_BRANCH) -> Effect:
        """Make a named session at the head of a branch. Value: its name.

        Raises:
            AlreadyExists: (from the effect) there is one of this name.
            RefNotFound: the branch has no commit, and it is not the default workspace's own.
        """
        row = self.row(bucket)
        check_session_name(name)
        check_ref_name(branch)
        space = self.space(row)
        value = self.refs.get(row.uid, branch_ref(branch))
        if value is not None and value.commit is not None:
            root = self.commit_root(space, value.commit)
        elif branch == DEFAULT_BRANCH:
            root = space.view.empty(space.put)
        else:
            raise RefNotFound(f"bucket {bucket!r} has no branch {branch!r}; create it first", ref=branch)
        head = Head(branch, value.commit if value is not None else None)

        def run(tx: Tx) -> Outcome:
            if tx.execute("SELECT 1 FROM sessions WHERE bucket=? AND name=? AND dropped_op IS NULL", (row.id, name)):
                raise AlreadyExists(f"bucket {bucket!r} has a session {name!r}; drop it first", session=name)
            self.retain(tx, space, [root.cid])
            session = self._insert_session(tx, row.id, name, space, pack_root(root), head, op_index_of(tx))
            effect = ["session", row.id, name, [*session]]
            return Outcome(value=name, effect=effect, after=root.cid, target=f"{bucket}#{name}")

        return run

    def session_drop(self, bucket: str, name: str, *, force: bool = False) -> Effect:
        """Drop a named session.

        Raises:
            Conflict: (from the effect) it has uncommitted changes and ``force`` is off, or it is the default workspace.
        """
        if name == DEFAULT_SESSION:
            raise InvalidInput("the default workspace lasts as long as its bucket")
        workspace = self.workspace(bucket, name)

        def run(tx: Tx) -> Outcome:
            with workspace.lock:
                self.check_open(tx, workspace)
                root = workspace.catch_up(tx).flush()
                workspace.space.persist(root)
                if not force and not self.is_clean(workspace.space, root, workspace.now_head()):
                    raise Conflict(f"session {name!r} has uncommitted changes; commit them or pass force", session=name)
                tx.execute("UPDATE sessions SET dropped_op=? WHERE id=?", (op_index_of(tx), workspace.session))
            return Outcome(
                value=name, effect=["session_drop", workspace.session], before=root.cid, target=f"{bucket}#{name}"
            )

        return run

    def erase_key(self, name: str) -> str:
        """Destroy the key of a sealed bucket: from now on nothing in it can be read by anyone [19, 20].

        This changes the key directory, not ``state.db``: the dispatcher records an intent before and an outcome after
        [8]. It cannot be undone; repeating it does no harm.

        Returns:
            The id of the destroyed key.

        Raises:
            InvalidInput: the bucket is open.
        """
        row = self.row(name)
        if row.kind is not BucketKind.SEALED or row.domain is None:
            raise InvalidInput(f"bucket {name!r} is open: its blocks have no key; delete it instead", bucket=name)
        if self.keys is None:
            raise Unsupported("this store was opened without its keys")
        self.keys.destroy(row.domain)
        with self._guard:
            self._spaces.pop(row.id, None)
            self._workspaces = {key: each for key, each in self._workspaces.items() if each.space.row.id != row.id}
            self._found.clear()
        return row.domain

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _new_domain(self) -> str:
        if self.keys is None:
            raise Unsupported("a sealed bucket needs a key ring and this store was opened without one")
        return self.keys.new_domain_key()

    def _insert_session(
        self, tx: Tx, bucket: int, name: str, space: Space, root: bytes, head: Head, index: int
    ) -> tuple[int, bytes]:
        """Insert a session and its first snapshot; returns its id and the snapshot's digest for the op's record."""
        tx.execute("INSERT INTO sessions(bucket, name, created_op) VALUES(?,?,?)", (bucket, name, index))
        ident = tx.execute("SELECT last_insert_rowid()")[0][0]
        row = (ident, 0, index, tx.began_ns, space.seal(root), pack_head(head))
        tx.execute("INSERT INTO snapshots(session, seq, op_index, time_ns, root, head) VALUES(?,?,?,?,?,?)", row)
        return ident, row_digest(row)

    def _require_unprotected(self, tx: Tx, row: BucketRow) -> None:
        """A bucket does not go while a protected branch in it names a commit."""
        if not tx.execute("SELECT 1 FROM bucket_settings WHERE bucket=? LIMIT 1", (row.id,)):
            return
        try:
            settings = guards.settings_now(tx.execute, self.space(row))
        except Expired:
            return  # nothing in it can be read any more
        if not settings.protections:
            return
        rows = tx.execute("SELECT name FROM refs WHERE bucket=? AND live=1 AND name LIKE 'heads/%'", (row.uid,))
        kept = guards.protected_branch(settings, [name.removeprefix(BRANCHES) for (name,) in rows])
        if kept is not None:
            raise Protected(
                f"bucket {row.name!r} holds the protected branch {kept!r}: remove its protection first "
                "(versions.unprotect)",
                bucket=row.name,
                branch=kept,
            )

    def _unused(self, tx: Tx, row: BucketRow) -> bool:
        if tx.execute("SELECT 1 FROM refs WHERE bucket=? AND live=1 LIMIT 1", (row.uid,)):
            return False
        for ident, name in tx.execute("SELECT id, name FROM sessions WHERE bucket=? AND dropped_op IS NULL", (row.id,)):
            del ident
            workspace = self.workspace(row.name, name)
            with workspace.lock:
                if not workspace.catch_up(tx).is_empty(()):
                    return False
        return True

    def _info(self, row: BucketRow, *, flush: bool = False) -> BucketInfo:
        try:
            space = self.space(row)
        except (Expired, IntegrityError):  # the key is destroyed or lost: a list must still name the bucket
            return BucketInfo(
                row.name, row.type, row.structure, row.kind, row.profile, row.created_ns, DEFAULT_BRANCH, None, None,
                0, 0, row.metadata,
            )  # fmt: skip
        if flush:
            snapshot = self.workspace(row.name).flushed()
        else:
            snapshot = newest_snapshot(space, self.session_id(row, DEFAULT_SESSION), self.state.query)
        totals = space.view.index.totals(space.view.meta_of(snapshot.root))
        value = self.refs.get(row.uid, branch_ref(snapshot.head.branch))
        return BucketInfo(
            row.name,
            row.type,
            row.structure,
            row.kind,
            row.profile,
            row.created_ns,
            snapshot.head.branch,
            value.commit if value is not None else None,
            snapshot.root.cid,
            totals.files,
            totals.size_bytes,
            row.metadata,
        )


def _fresh(row: BucketRow, root: CID) -> BucketInfo:
    """A bucket that was just made."""
    named = (row.name, row.type, row.structure, row.kind, row.profile, row.created_ns)
    return BucketInfo(*named, DEFAULT_BRANCH, None, root, 0, 0, row.metadata)


def _choice(kind: Any, value: str, what: str) -> Any:
    try:
        return kind(value)
    except ValueError as exc:
        raise InvalidInput(f"{what} must be one of {', '.join(each.value for each in kind)}, not {value!a}") from exc
