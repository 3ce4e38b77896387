"""Commits taken to another place: cherry-pick, reset, rebase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from ipfs_kit.buckets.model import Committed
from ipfs_kit.buckets.rewrite import Rebased
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import PAST, WRITE, Touch
from ipfs_kit.operations.toolsets.versions import Bucket, Message, Override, Strategy, allow_override


def _bucket(bound: Mapping[str, Any]) -> str:
    return str(bound["bucket"])


@operation(
    "versions.cherry_pick",
    Mode.WRITE,
    "versions:write",
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE | PAST, whole=True),),
)
def versions_cherry_pick(
    ctx: Context,
    bucket: Bucket,
    commit: Annotated[str, Arg("the commit whose changes to bring", positional=True)],
    message: Message = "",
    strategy: Strategy = None,
    override: Override = False,
) -> Committed:
    """Commit to the session's branch what another commit changed; conflicting paths stop all of it and are named."""
    allow_override(ctx, bucket, override)
    with ctx.engine.buckets.window():
        done: Committed = ctx.commit(
            lambda: ctx.engine.buckets.cherry_pick(
                bucket, commit, message or None, author=ctx.draft.actor, strategy=strategy, override=override
            )
        )
    return done


@operation(
    "versions.reset",
    Mode.WRITE,
    "versions:write",
    destructive=True,
    undo="merge",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True, state="target"),),
)
def versions_reset(
    ctx: Context,
    bucket: Bucket,
    target: Annotated[str, Arg("branch, tag or commit the branch shall name", positional=True)],
    hard: Annotated[bool, Arg("also take its content, and discard uncommitted changes")] = False,
    override: Override = False,
) -> Committed:
    """Make the session's branch name another commit; without hard the session keeps its content as uncommitted changes."""
    allow_override(ctx, bucket, override)
    with ctx.engine.buckets.window():
        done: Committed = ctx.commit(lambda: ctx.engine.buckets.reset(bucket, target, hard=hard, override=override))
    return done


@operation(
    "versions.rebase",
    Mode.WRITE,
    "versions:write",
    destructive=True,
    undo="ref",
    target=_bucket,
    places=(Touch("bucket", WRITE, whole=True, state="onto"),),
)
def versions_rebase(
    ctx: Context,
    bucket: Bucket,
    onto: Annotated[str, Arg("branch, tag or commit to replay the session's own commits on", positional=True)],
    strategy: Strategy = None,
    override: Override = False,
) -> Rebased:
    """Replay the commits of the session's branch on another one; the first conflict stops all of it and is named."""
    allow_override(ctx, bucket, override)
    with ctx.engine.buckets.window():
        done: Rebased = ctx.commit(
            lambda: ctx.engine.buckets.rebase(
                bucket, onto, author=ctx.draft.actor, strategy=strategy, override=override
            )
        )
    return done
