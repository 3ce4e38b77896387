"""Versions of buckets: commit, compare, branch, merge, go back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.model import Applied, Change, Committed, Status
from ipfs_kit.buckets.paths import Location
from ipfs_kit.buckets.refs import RefPage
from ipfs_kit.errors import Denied
from ipfs_kit.ipld import CID
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import undo_effect, with_value
from ipfs_kit.operations.places import PAST, READ, WRITE, OfOp, Touch

Bucket = Annotated[str, Arg("the bucket, or BUCKET#session", positional=True)]
State = Annotated[str, Arg("BUCKET[@branch|@tag|@commit|@op:N|@time:T][:/path]", positional=True)]
Message = Annotated[str, Arg("what was done and why", flag="m")]


Override = Annotated[bool, Arg("also where the branch is protected; needs the scope bucket:admin")]
Strategy = Annotated[Literal["ours", "theirs"] | None, Arg("decide conflicts for one side instead of refusing them")]


def _bucket(bound: Mapping[str, Any]) -> str:
    return str(bound["bucket"])


def allow_override(ctx: Context, bucket: str, override: bool) -> None:
    """Refuse to override protected branches to callers who may not administer the bucket.

    Raises:
        Denied: ``bucket:admin`` is not held there.
    """
    if override and not ctx.principal.may_at(ADMIN, Location.parse(bucket).bucket, ()):
        raise Denied(
            f"{ctx.operation.name} with override needs the scope {ADMIN!r}: ask the store's owner for it, or leave "
            "override out",
            scope=ADMIN,
        )


ADMIN = "bucket:admin"
"""The scope that settings of a bucket, and overriding them, need."""


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """One commit; the message opens only while its author's key exists.

    Args:
        cid: The commit.
        root: UnixFS root of the bucket's content.
        parents: Commits before it.
        time: UTC, ISO 8601.
        author: The author's name; None once their key is destroyed.
        message: What was done; None once the author's key is destroyed.
        metadata: Values kept with it; None once the author's key is destroyed.
    """

    cid: CID
    root: CID
    parents: list[CID]
    time: str
    author: str | None
    message: str | None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LogPage:
    """Commits, newest first; pass ``cursor`` to continue, None when this was the last page.

    A page of commits chosen by path or metadata may hold fewer than asked for, or none, and still have a cursor: then
    as many were looked at as one call may.
    """

    commits: list[CommitInfo]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class DiffInfo:
    """What differs between two states.

    Args:
        changes: Paths with CIDs before and after.
        truncated: Whether more differ than were asked for.
    """

    changes: list[Change]
    truncated: bool


@dataclass(frozen=True, slots=True)
class RefInfo:
    """A branch or tag.

    Args:
        name: Its name.
        cid: The commit it names.
    """

    name: str
    cid: CID | None


@dataclass(frozen=True, slots=True)
class RefList:
    """Branches or tags by name."""

    refs: list[RefInfo]


def ref_list(page: RefPage) -> RefList:
    """Refs without their namespace."""
    return RefList([RefInfo(ref.name.partition("/")[2], ref.value.commit) for ref in page.refs])


@operation("versions.status", Mode.READ, "files:read", target=_bucket, places=(Touch("bucket", READ, whole=True),))
def versions_status(
    ctx: Context, bucket: Bucket, limit: Annotated[int, Arg("most changes listed", minimum=1, maximum=100_000)] = 1000
) -> Status:
    """Compare the working session with the last commit of its branch."""
    return ctx.engine.buckets.status(bucket, limit=limit)


@operation(
    "versions.commit",
    Mode.WRITE,
    "versions:write",
    idempotent=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def versions_commit(
    ctx: Context,
    bucket: Bucket,
    message: Message = "",
    metadata: Annotated[dict[str, Any] | None, Arg("values kept with the commit")] = None,
    override: Override = False,
) -> Committed:
    """Make the working session the branch's next version; succeeds without a new commit when nothing changed."""
    allow_override(ctx, bucket, override)
    with ctx.engine.buckets.window():
        done: Committed = ctx.commit(
            lambda: ctx.engine.buckets.commit(
                bucket, message, author=ctx.draft.actor, metadata=metadata, override=override
            )
        )
    return done


@operation("versions.log", Mode.READ, "files:read", places=(Touch("state", READ | PAST, whole=True),))
def versions_log(
    ctx: Context,
    state: State,
    limit: Annotated[int, Arg("commits per page", minimum=1, maximum=10_000, flag="n")] = 50,
    cursor: Annotated[CID | None, Arg("where to continue")] = None,
    metadata: Annotated[dict[str, Any] | None, Arg("only commits that carry these values")] = None,
) -> LogPage:
    """List commits, newest first; with a path, those that changed it or anything below it."""
    engine = ctx.engine
    location = Location.parse(state)
    if not location.path and not metadata:
        found = engine.buckets.log(location.ref, limit=limit, after=cursor)
        commits = [engine.views.commit(commit) for commit in found]
        return LogPage(commits, str(commits[-1].cid) if len(commits) == limit else None)
    kept: list[CommitInfo] = []
    looked, after = 0, cursor
    while True:
        page = engine.histories.log(
            location, limit=1000 if metadata else limit - len(kept), after=after, progress=_filed(ctx)
        )
        looked += page.scanned
        for entry in page.commits:
            after = entry.cid
            if _carries(entry.metadata, metadata):
                kept.append(engine.views.commit(entry))
            if len(kept) == limit:
                last = page.cursor is None and entry is page.commits[-1]
                return LogPage(kept, None if last else str(after))
        after = page.cursor
        if after is None or looked >= SCAN_MAX:
            return LogPage(kept, None if after is None else str(after))


SCAN_MAX = 10_000
"""Commits looked at for one page of a log chosen by path or metadata."""


def _filed(ctx: Context) -> Callable[[int], None]:
    return lambda done: ctx.progress(done, unit="commits", note="filing commits by path")


def _carries(found: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None) -> bool:
    """Whether metadata holds every value that is wanted; text from a command line equals a number it spells."""
    if not wanted:
        return True
    return found is not None and all(
        key in found and (found[key] == value or str(found[key]) == value) for key, value in wanted.items()
    )


@dataclass(frozen=True, slots=True)
class BlameInfo:
    """One entry of a folder and the commit that changed it last.

    Args:
        path: The entry.
        kind: ``file``, ``dir`` or ``symlink``.
        cid: CID of its content.
        commit: The newest commit that changed it or anything below it; None when too many were looked at to tell.
    """

    path: str
    kind: str
    cid: CID
    commit: CommitInfo | None


@dataclass(frozen=True, slots=True)
class BlameList:
    """Entries of a folder by name; pass ``cursor`` to continue, None when these were the last."""

    entries: list[BlameInfo]
    cursor: str | None


@operation("versions.blame", Mode.READ, "files:read", places=(Touch("state", READ | PAST, whole=True),))
def versions_blame(
    ctx: Context,
    state: Annotated[str, Arg("folder: BUCKET[@branch|@tag|@commit|@op:N|@time:T][:/path]", positional=True)],
    limit: Annotated[int, Arg("entries per page", minimum=1, maximum=1000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("where to continue")] = None,
) -> BlameList:
    """List the entries of a folder, each with the newest commit that changed it or anything below it."""
    found = ctx.engine.histories.blame(Location.parse(state), after=cursor, limit=limit, progress=_filed(ctx))
    commit = ctx.engine.views.commit
    rows = [
        BlameInfo(each.path, each.kind, each.cid, commit(each.commit) if each.commit is not None else None)
        for each in found.entries
    ]
    return BlameList(rows, found.cursor)


@operation("versions.diff", Mode.READ, "files:read", places=(Touch("left", READ), Touch("right", READ)))
def versions_diff(
    ctx: Context,
    left: Annotated[
        str,
        Arg("state before: BUCKET[@ref][:/path]; with one state, its last commit is compared with it", positional=True),
    ],
    right: Annotated[str | None, Arg("state after", positional=True)] = None,
    limit: Annotated[int, Arg("most changes listed", minimum=1, maximum=100_000)] = 1000,
) -> DiffInfo:
    """List the paths that differ between two states; with one bucket, between its last commit and its session."""
    if right is None:
        status = ctx.engine.buckets.status(left, limit=limit)
        return DiffInfo(list(status.changes), status.truncated)
    changes, truncated = ctx.engine.buckets.diff(left, right, limit=limit)
    return DiffInfo(list(changes), truncated)


Name = Annotated[str, Arg("its name", positional=True)]
At = Annotated[str | None, Arg("the state it names; the present head when left out", positional=True)]


@operation(
    "versions.branch_create",
    Mode.WRITE,
    "versions:write",
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True, state="at"),),
)
def branch_create(ctx: Context, bucket: Bucket, name: Name, at: At = None) -> RefInfo:
    """Create a branch."""
    info: RefInfo = ctx.commit(
        lambda: with_value(ctx.engine.buckets.branch_create(bucket, name, at=at), lambda cid: RefInfo(name, cid))
    )
    return info


@operation(
    "versions.branch_list",
    Mode.READ,
    "files:read",
    target=_bucket,
    places=(Touch("bucket", READ | PAST, whole=True),),
    quick=True,
)
def branch_list(ctx: Context, bucket: Bucket) -> RefList:
    """List the branches of a bucket."""
    return ref_list(ctx.engine.buckets.branches(bucket))


@operation(
    "versions.branch_delete",
    Mode.WRITE,
    "versions:write",
    destructive=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def branch_delete(
    ctx: Context,
    bucket: Bucket,
    name: Name,
    force: Annotated[bool, Arg("also when its commits are on no other branch")] = False,
    override: Override = False,
) -> RefInfo:
    """Delete a branch."""
    allow_override(ctx, bucket, override)
    info: RefInfo = ctx.commit(
        lambda: with_value(
            ctx.engine.buckets.branch_delete(bucket, name, force=force, override=override),
            lambda cid: RefInfo(name, cid),
        )
    )
    return info


@operation(
    "versions.tag_create",
    Mode.WRITE,
    "versions:write",
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True, state="at"),),
)
def tag_create(ctx: Context, bucket: Bucket, name: Name, at: At = None) -> RefInfo:
    """Give a commit a lasting name."""
    info: RefInfo = ctx.commit(
        lambda: with_value(ctx.engine.buckets.tag_create(bucket, name, at=at), lambda cid: RefInfo(name, cid))
    )
    return info


@operation(
    "versions.tag_list",
    Mode.READ,
    "files:read",
    target=_bucket,
    places=(Touch("bucket", READ | PAST, whole=True),),
    quick=True,
)
def tag_list(ctx: Context, bucket: Bucket) -> RefList:
    """List the tags of a bucket."""
    return ref_list(ctx.engine.buckets.tags(bucket))


@operation(
    "versions.tag_delete",
    Mode.WRITE,
    "versions:write",
    destructive=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def tag_delete(ctx: Context, bucket: Bucket, name: Name) -> RefInfo:
    """Delete a tag."""
    info: RefInfo = ctx.commit(
        lambda: with_value(ctx.engine.buckets.tag_delete(bucket, name), lambda cid: RefInfo(name, cid))
    )
    return info


@operation(
    "versions.checkout",
    Mode.WRITE,
    "versions:write",
    destructive=True,
    undo="merge",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True, state="target"),),
)
def versions_checkout(
    ctx: Context,
    bucket: Bucket,
    target: Annotated[str, Arg("branch, tag, commit or op:N", positional=True)],
    force: Annotated[bool, Arg("discard uncommitted changes", flag="f")] = False,
) -> Any:
    """Switch the working session to a branch, or restore an earlier state into it."""
    with ctx.engine.buckets.window():
        return ctx.commit(lambda: ctx.engine.buckets.checkout(bucket, target, force=force))


@operation(
    "versions.restore",
    Mode.WRITE,
    "versions:write",
    destructive=True,
    undo="merge",
    target=lambda b: str(b["path"]),
    places=(Touch("path", WRITE, state="source"),),
)
def versions_restore(
    ctx: Context,
    path: Annotated[str, Arg("BUCKET:/path to bring back", positional=True)],
    source: Annotated[str, Arg("branch, tag, commit or op:N to take it from", positional=True)],
    force: Annotated[bool, Arg("discard uncommitted changes of this path", flag="f")] = False,
) -> Applied:
    """Bring one path back from another state."""
    with ctx.engine.buckets.window():
        applied: Applied = ctx.commit(lambda: ctx.engine.buckets.restore(path, source, force=force))
    return applied


@operation(
    "versions.merge",
    Mode.WRITE,
    "versions:write",
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True, state="source"),),
)
def versions_merge(
    ctx: Context,
    bucket: Bucket,
    source: Annotated[str, Arg("branch, tag or commit to merge", positional=True)],
    message: Message = "",
    strategy: Strategy = None,
) -> Committed:
    """Merge another branch by three-way comparison; conflicting paths stop all of it and are named."""
    with ctx.engine.buckets.window():
        done: Committed = ctx.commit(
            lambda: ctx.engine.buckets.merge(bucket, source, message or None, author=ctx.draft.actor, strategy=strategy)
        )
    return done


@operation(
    "versions.revert",
    Mode.WRITE,
    "versions:write",
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE | PAST, whole=True),),
)
def versions_revert(
    ctx: Context,
    bucket: Bucket,
    commit: Annotated[str, Arg("the commit to take back", positional=True)],
    message: Message = "",
    override: Override = False,
) -> Committed:
    """Make a new commit that takes back what another commit changed."""
    allow_override(ctx, bucket, override)
    with ctx.engine.buckets.window():
        done: Committed = ctx.commit(
            lambda: ctx.engine.buckets.revert(
                bucket, commit, message or None, author=ctx.draft.actor, override=override
            )
        )
    return done


@operation("versions.undo", Mode.WRITE, "versions:write", undo="merge", places=OfOp("op"))
def versions_undo(
    ctx: Context,
    op: Annotated[str, Arg("the op to take back: its index in the main log, or its id", positional=True)],
    override: Override = False,
) -> Any:
    """Take one operation back by a new one; anything changed since at the same place stops it."""
    if override and not ctx.principal.may(ADMIN):
        raise Denied(
            f"versions.undo with override needs the scope {ADMIN!r} everywhere: ask the store's owner for it",
            scope=ADMIN,
        )
    with ctx.engine.buckets.window():
        return ctx.commit(lambda: undo_effect(ctx.engine, op, ctx.principal, override=override))
