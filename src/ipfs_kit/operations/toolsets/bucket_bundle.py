"""Whole buckets with their history, from store to store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import Denied, FormatError, InvalidInput, NotFound
from ipfs_kit.ipld import CID, car
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import PAST, READ, Everywhere, Touch
from ipfs_kit.operations.toolsets.bucket import Name
from ipfs_kit.operations.toolsets.versions import ADMIN


def _name(bound: Mapping[str, Any]) -> str:
    return str(bound["name"])


@dataclass(frozen=True, slots=True)
class BundleInfo:
    """What an export wrote.

    Args:
        bucket: The bucket.
        cid: Root of the CAR; give it to the receiver by another way, to be checked with ``expect``.
        refs: Branches and tags in it.
        since: Commits the receiver must have.
        commits: Commits in it.
        blocks: Blocks in it.
        size: Bytes of the file.
    """

    bucket: str
    cid: CID
    refs: list[str]
    since: list[CID]
    commits: int
    blocks: int
    size: int


@dataclass(frozen=True, slots=True)
class BundleImportInfo:
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


@operation("bucket.export", Mode.READ, "bucket:read", target=_name, places=(Touch("name", READ | PAST, whole=True),))
def bucket_export(
    ctx: Context,
    name: Name,
    output: Annotated[str, Arg("CAR file to write; it must not exist yet", local=True, positional=True)],
    refs: Annotated[list[str] | None, Arg("branches and tags to take; all when left out")] = None,
    since: Annotated[
        list[str] | None, Arg("branches, tags or commits the receiver has: leave out what they hold")
    ] = None,
) -> BundleInfo:
    """Write a bucket with all its commits, branches and tags to one CAR file; sealed buckets are refused."""
    from ipfs_kit.buckets.bundle import export_blocks, plan_export

    buckets = ctx.engine.buckets
    manifest = plan_export(buckets, name, refs=refs or (), since=since or ())
    space = buckets.space(buckets.row(name))
    counts = [0, 0]

    def told(commits: int, size: int) -> None:
        counts[0] = commits
        ctx.progress(size, unit="bytes")

    def blocks() -> Iterator[tuple[CID, bytes]]:
        for cid, data in export_blocks(space, manifest, told):
            counts[1] += 1
            yield cid, data

    try:
        out = open(output, "xb")  # noqa: SIM115 - closed by the with below; only opening is translated
    except OSError as exc:
        raise InvalidInput(f"cannot write {output}: {exc.strerror}; name a new file in a folder you may write") from exc
    root = manifest.encode()[0]
    try:
        with out:
            size = car.write_car(out, [root], blocks())
    except BaseException:
        os.unlink(output)
        raise
    names = [full.partition("/")[2] for full, _ in manifest.refs]
    return BundleInfo(name, root, names, list(manifest.since), counts[0], counts[1], size)


@operation(
    "bucket.import",
    Mode.WRITE,
    "bucket:write",
    idempotent=True,
    undo="ref",
    places=Everywhere("makes or moves the bucket that the file names"),
)
def bucket_import(
    ctx: Context,
    path: Annotated[str, Arg("CAR file of bucket.export", local=True, positional=True)],
    name: Annotated[str | None, Arg("name of the new bucket; the one it had when left out")] = None,
    expect: Annotated[CID | None, Arg("root the file must have, as the export told it")] = None,
    prefix: Annotated[str, Arg("put before its branches and tags, such as theirs/")] = "",
    override: Annotated[bool, Arg("also move protected branches; needs the scope bucket:admin")] = False,
) -> BundleImportInfo:
    """Take over a bucket with its history: every block, commit and tree is checked before anything is stored."""
    from ipfs_kit.buckets.bundle_import import BundleImport

    if override and not ctx.principal.may(ADMIN):
        raise Denied(
            f"bucket.import with override needs the scope {ADMIN!r}: ask the store's owner for it", scope=ADMIN
        )
    engine = ctx.engine
    try:
        source = open(path, "rb")  # noqa: SIM115 - closed by the with below; only opening is translated
    except OSError as exc:
        raise NotFound(f"cannot read {path}: {exc.strerror}") from exc
    folder = os.path.join(os.fspath(engine.path), "cache", "import")
    with (
        source,
        engine.buckets.window(),
        BundleImport(
            engine.buckets,
            folder,
            source,
            lock_timeout_s=engine.state.lock_timeout_s,
            name=name,
            expected=expect,
            prefix=prefix,
        ) as bundle,
    ):
        try:
            bundle.run(lambda done, note: ctx.progress(done, unit="bytes", note=note))
        except FormatError as exc:
            raise FormatError(
                f"{path} is no whole CAR of a bucket: {exc.message}. Nothing was stored; copy or export it again"
            ) from exc
        done = ctx.commit(lambda: bundle.effect(override=override))
    return BundleImportInfo(done.bucket, done.cid, done.created, done.refs, done.commits, done.blocks, done.size)
