"""Buckets: versioned filesystems with a name."""

from __future__ import annotations

from typing import Annotated, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.model import BucketInfo, BucketKind, BucketStructure, BucketType
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, WRITE, Nowhere, Touch

Name = Annotated[str, Arg("the bucket's name", positional=True)]


@dataclass(frozen=True, slots=True)
class BucketPage:
    """A page of buckets; pass ``cursor`` to continue, None when this was the last."""

    buckets: list[BucketInfo]
    cursor: str | None


def _name(bound: Any) -> str:
    return str(bound["name"])


@operation(
    "bucket.create",
    Mode.WRITE,
    "bucket:write",
    undo="ref",
    target=_name,
    aliases=("create_bucket",),
    places=(Touch("name", WRITE, whole=True),),
)
def bucket_create(
    ctx: Context,
    name: Name,
    type: Annotated[BucketType, Arg("what it is for")] = BucketType.GENERAL,  # noqa: A002 - the published name
    structure: Annotated[BucketStructure, Arg("views kept beside the file tree")] = BucketStructure.HYBRID,
    kind: Annotated[
        BucketKind, Arg("open: plain IPFS addresses; sealed: encrypted under a key that can be destroyed")
    ] = BucketKind.OPEN,
    profile: Annotated[str, Arg("how files become blocks")] = "unixfs-v1-2025",
    metadata: Annotated[dict[str, Any] | None, Arg("labels kept with the bucket")] = None,
) -> BucketInfo:
    """Create an empty bucket."""
    info: BucketInfo = ctx.commit(
        lambda: ctx.engine.buckets.create(
            name, type=type.value, structure=structure.value, kind=kind.value, profile=profile, metadata=metadata
        )
    )
    return info


@operation(
    "bucket.list",
    Mode.READ,
    "bucket:read",
    aliases=("get_buckets",),
    places=Nowhere("shows only the buckets the caller may read"),
)
def bucket_list(
    ctx: Context,
    cursor: Annotated[str | None, Arg("where to continue")] = None,
    limit: Annotated[int, Arg("buckets per page", minimum=1, maximum=10_000)] = 1000,
) -> BucketPage:
    """List the buckets of the store by name; callers confined to some see those alone."""
    named = ctx.principal.buckets("bucket:read")
    if named is not None:
        here = [name for name in named if name > (cursor or "") and ctx.engine.buckets.exists(name)]
        infos = [ctx.engine.buckets.info(name) for name in here[:limit]]
        return BucketPage(infos, here[limit - 1] if len(here) > limit else None)
    found, after = ctx.engine.buckets.list(after=cursor, limit=limit)
    return BucketPage(list(found), after)


@operation(
    "bucket.info",
    Mode.READ,
    "bucket:read",
    target=_name,
    aliases=("get_bucket_details",),
    places=(Touch("name", READ, whole=True),),
)
def bucket_info(ctx: Context, name: Name) -> BucketInfo:
    """Return what is known of a bucket: type, head, files, bytes."""
    return ctx.engine.buckets.info(name)


@operation(
    "bucket.delete",
    Mode.WRITE,
    "bucket:delete",
    destructive=True,
    undo="ref",
    target=_name,
    aliases=("delete_bucket",),
    places=(Touch("name", WRITE, whole=True),),
)
def bucket_delete(
    ctx: Context, name: Name, force: Annotated[bool, Arg("also when it still holds files or commits")] = False
) -> BucketInfo:
    """Delete a bucket; its blocks stay until garbage collection finds them unused and past the undo horizon."""
    info: BucketInfo = ctx.commit(lambda: ctx.engine.buckets.delete(name, force=force))
    return info


@operation(
    "bucket.erase",
    Mode.WRITE,
    "bucket:erase",
    destructive=True,
    target=_name,
    external=True,
    irreversible="the key is destroyed; no copy of the content can be decrypted again",
    places=(Touch("name", WRITE, whole=True),),
)
def bucket_erase(ctx: Context, name: Name) -> BucketInfo:
    """Destroy the key of a sealed bucket, so that nothing in it can ever be read again."""
    info = ctx.engine.buckets.info(name)
    ctx.announce({"erase": name})
    ctx.engine.buckets.erase_key(name)
    return info
