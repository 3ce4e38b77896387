"""How full a bucket is, and how full it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.settings import Quota
from ipfs_kit.ipld import CID
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import with_value
from ipfs_kit.operations.places import READ, WRITE, Touch
from ipfs_kit.operations.toolsets.bucket import Name


def _name(bound: Mapping[str, Any]) -> str:
    return str(bound["name"])


@dataclass(frozen=True, slots=True)
class BucketStatus:
    """A bucket's working state against its settings.

    Args:
        name: The bucket.
        branch: Branch of the default workspace.
        head: Its commit; None before the first.
        files: Files and links in the default workspace.
        size_bytes: Their content bytes.
        quota_bytes: Most content bytes a session may hold; None for no limit.
        quota_entries: Most files and links; None for no limit.
        free_bytes: Content bytes that still fit; None for no limit.
        free_entries: Files and links that still fit; None for no limit.
        protected: Patterns of protected branches.
        rules: Names of the rules of commits.
    """

    name: str
    branch: str
    head: CID | None
    files: int
    size_bytes: int
    quota_bytes: int | None
    quota_entries: int | None
    free_bytes: int | None
    free_entries: int | None
    protected: list[str]
    rules: list[str]


@dataclass(frozen=True, slots=True)
class QuotaInfo:
    """The quota of a bucket; None is no limit.

    Args:
        size_bytes: Most content bytes.
        entries: Most files and links.
    """

    size_bytes: int | None
    entries: int | None


@operation("bucket.status", Mode.READ, "bucket:read", target=_name, places=(Touch("name", READ, whole=True),))
def bucket_status(ctx: Context, name: Name) -> BucketStatus:
    """Show how full a bucket is, its quota, its protected branches and its rules."""
    buckets = ctx.engine.buckets
    info, settings = buckets.info(name), buckets.settings(name)
    quota = settings.quota
    return BucketStatus(
        info.name,
        info.branch,
        info.head,
        info.files,
        info.size_bytes,
        quota.size_bytes,
        quota.entries,
        None if quota.size_bytes is None else max(0, quota.size_bytes - info.size_bytes),
        None if quota.entries is None else max(0, quota.entries - info.files),
        [each.branch for each in settings.protections],
        [rule.name for rule in settings.rules],
    )


@operation(
    "bucket.set_quota",
    Mode.WRITE,
    "bucket:admin",
    idempotent=True,
    undo="ref",
    target=_name,
    places=(Touch("name", WRITE, whole=True),),
)
def bucket_set_quota(
    ctx: Context,
    name: Name,
    size_bytes: Annotated[
        int | None, Arg("most content bytes a session may hold; no limit when left out", minimum=0)
    ] = None,
    entries: Annotated[int | None, Arg("most files and links; no limit when left out", minimum=0)] = None,
) -> QuotaInfo:
    """Set what a bucket's sessions may hold; what is there already stays, but cannot grow beyond it."""
    done: QuotaInfo = ctx.commit(
        lambda: with_value(
            ctx.engine.buckets.change_settings(name, lambda settings: settings.with_quota(Quota(size_bytes, entries))),
            lambda settings: QuotaInfo(settings.quota.size_bytes, settings.quota.entries),
        )
    )
    return done
