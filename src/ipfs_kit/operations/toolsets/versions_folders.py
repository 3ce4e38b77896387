"""Versions of a folder outside the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.model import Change, Committed, Problem
from ipfs_kit.ipld import CID
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, WRITE, Touch
from ipfs_kit.operations.toolsets.versions import Bucket, Message, Override, allow_override

Folder = Annotated[str, Arg("local folder", local=True, positional=True)]
State = Annotated[str, Arg("BUCKET[@branch|@tag|@commit|@op:N|@time:T]", positional=True)]
Ignore = Annotated[list[str] | None, Arg("patterns to leave out, in gitignore form")]


def _bucket(bound: Mapping[str, Any]) -> str:
    return str(bound["bucket"])


def _state(bound: Mapping[str, Any]) -> str:
    return str(bound["state"])


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What a snapshot of a folder came to.

    Args:
        bucket: The bucket.
        branch: The branch it went to.
        commit: The version; the one before when nothing changed.
        root: CID of the folder's content.
        created: Whether a commit was made.
        changed: Paths that differed from the version before.
        files: Files and links in the folder.
        size: Their bytes.
        read: Files and links that had to be read.
        read_bytes: Their bytes.
        ignored: Entries left out by rules; a folder counts once.
        problems_count: How many could not be read.
        problems: The first of them, with the reason.
    """

    bucket: str
    branch: str
    commit: CID | None
    root: CID
    created: bool
    changed: int
    files: int
    size: int
    read: int
    read_bytes: int
    ignored: int
    problems_count: int
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class FolderStatus:
    """How a folder differs from a version.

    Args:
        state: The version.
        root: CID the folder's content has.
        clean: Whether nothing differs.
        changes: Paths that differ: what the folder added, removed or modified.
        count: How many differ.
        truncated: Whether more differ than are named.
        files: Files and links in the folder.
        size: Their bytes.
        read: Files and links that had to be read.
        problems_count: How many could not be read.
        problems: The first of them, with the reason.
    """

    state: str
    root: CID
    clean: bool
    changes: list[Change]
    count: int
    truncated: bool
    files: int
    size: int
    read: int
    problems_count: int
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class FolderRestored:
    """What bringing a version back into a folder came to.

    Args:
        folder: The folder.
        state: The version.
        root: CID of its content.
        changed: Paths that differed.
        files: Files and links written.
        size: Their bytes.
        problems_count: How many paths could not be brought back.
        problems: The first of them, with the reason.
    """

    folder: str
    state: str
    root: CID
    changed: int
    files: int
    size: int
    problems_count: int
    problems: list[Problem]


@operation(
    "versions.snapshot",
    Mode.WRITE,
    "versions:write",
    idempotent=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True),),
)
def versions_snapshot(
    ctx: Context,
    folder: Folder,
    bucket: Bucket,
    message: Message = "",
    metadata: Annotated[dict[str, Any] | None, Arg("values kept with the commit")] = None,
    force: Annotated[bool, Arg("make a version also when nothing changed", flag="f")] = False,
    ignore: Ignore = None,
    override: Override = False,
) -> SnapshotInfo:
    """Make a local folder the bucket's next version; reads only files that may have changed since the last time."""
    allow_override(ctx, bucket, override)
    last: list[Any] = []

    def prepare() -> Any:
        effect, *last[:] = ctx.engine.folders.snapshot(
            folder,
            bucket,
            message,
            author=ctx.draft.actor,
            metadata=metadata,
            force=force,
            ignore=tuple(ignore or ()),
            override=override,
            progress=lambda _files, done: ctx.progress(done, unit="bytes"),
        )
        return effect

    with ctx.engine.buckets.window():
        done: Committed = ctx.commit(prepare)
    report, changed = last
    return SnapshotInfo(
        *(done.bucket, done.branch, done.commit, done.root, done.created, changed, report.files, report.size),
        *(report.read, report.read_bytes, report.ignored, report.problems_count, report.problems),
    )


@operation("versions.folder_status", Mode.READ, "files:read", target=_state, places=(Touch("state", READ, whole=True),))
def versions_folder_status(
    ctx: Context,
    folder: Folder,
    state: State,
    limit: Annotated[int, Arg("most changes listed", minimum=1, maximum=10_000)] = 1000,
    ignore: Ignore = None,
) -> FolderStatus:
    """Compare a local folder with a version, by default the last; stores nothing."""
    found = ctx.engine.folders.compare(
        folder,
        state,
        limit=limit,
        ignore=tuple(ignore or ()),
        progress=lambda _files, done: ctx.progress(done, unit="bytes"),
    )
    report = found.report
    return FolderStatus(
        *(
            state,
            found.root,
            not found.count and not report.problems_count,
            list(found.changes),
            found.count,
            found.truncated,
        ),
        *(report.files, report.size, report.read, report.problems_count, report.problems),
    )


@operation(
    "versions.folder_restore",
    Mode.WRITE,
    "files:read",
    destructive=True,
    external=True,
    irreversible="it changes files outside the store; take a snapshot of the folder first, and restore that",
    target=_state,
    places=(Touch("state", READ, whole=True),),
)
def versions_folder_restore(
    ctx: Context,
    folder: Folder,
    state: State,
    force: Annotated[bool, Arg("discard what the folder holds and no version does", flag="f")] = False,
    ignore: Ignore = None,
) -> FolderRestored:
    """Make a local folder hold what a version holds, writing and removing only what differs."""
    ctx.announce({"restore": folder, "state": state})
    root, changed, report = ctx.engine.folders.restore(
        folder,
        state,
        force=force,
        ignore=tuple(ignore or ()),
        progress=lambda _files, done: ctx.progress(done, unit="bytes"),
    )
    return FolderRestored(
        *(folder, state, root, changed, report.files + report.links, report.bytes),
        *(report.problems_count, report.problems),
    )
