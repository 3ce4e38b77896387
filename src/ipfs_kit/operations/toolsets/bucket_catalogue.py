"""The catalogue of buckets: counts, sizes, growth, search."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.model import BucketInfo
from ipfs_kit.errors import BudgetExceeded
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Nowhere
from ipfs_kit.search.bucket_index import BucketFigures, figures, matches

BUCKETS_MAX: Final = 10_000
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    """Buckets of one type or structure: how many, their files and bytes."""

    buckets: int
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class BucketCatalogue:
    """Buckets and their sums; the sums are those of the buckets listed.

    Args:
        buckets: The buckets, by name.
        files: Files of all.
        size: Bytes of all.
        by_type: Sums by type.
        by_structure: Sums by structure.
        unreadable: Buckets without figures, because their key was destroyed.
    """

    buckets: list[BucketFigures]
    files: int
    size: int
    by_type: dict[str, Group]
    by_structure: dict[str, Group]
    unreadable: int


@operation(
    "bucket.catalogue",
    Mode.READ,
    "bucket:read",
    aliases=("get_bucket_index", "get_bucket_index_info"),
    places=Nowhere("shows only the buckets the caller may read"),
)
def bucket_catalogue(
    ctx: Context,
    text: Annotated[str | None, Arg("only buckets that hold this text", positional=True)] = None,
    within: Annotated[Literal["all", "name", "type", "structure", "metadata"], Arg("where the text is sought")] = "all",
    days: Annotated[int, Arg("growth over so many days; 0 leaves it out", minimum=0, maximum=3_650)] = 7,
) -> BucketCatalogue:
    """Count files and bytes of every bucket, now and some days ago, with sums by type and structure.

    Raises:
        BudgetExceeded: There are more than 10,000 buckets.
    """
    since = ctx.engine.clock() - days * 86_400 * 10**9 if days and ctx.principal.may("bucket:read") else None
    found: list[BucketFigures] = []
    for info in _readable(ctx):
        if matches(info, text, within):
            ctx.progress(len(found), unit="buckets")
            found.append(figures(ctx.engine.buckets, info, since))
    return BucketCatalogue(
        found,
        sum(each.files or 0 for each in found),
        sum(each.size or 0 for each in found),
        _grouped([(each.type, each) for each in found]),
        _grouped([(each.structure, each) for each in found]),
        sum(each.files is None for each in found),
    )


def _readable(ctx: Context) -> list[BucketInfo]:
    buckets, named = ctx.engine.buckets, ctx.principal.buckets("bucket:read")
    if named is not None:
        return [buckets.info(name) for name in named if buckets.exists(name)]
    infos: list[BucketInfo] = []
    after = None
    while True:
        page, after = buckets.list(after=after, limit=_PAGE)
        infos += page
        if len(infos) > BUCKETS_MAX:
            raise BudgetExceeded(f"there are more than {BUCKETS_MAX} buckets: page through them with bucket.list")
        if after is None:
            return infos


def _grouped(named: list[tuple[str, BucketFigures]]) -> dict[str, Group]:
    count, files, size = Counter[str](), Counter[str](), Counter[str]()
    for name, each in named:
        count[name] += 1
        files[name] += each.files or 0
        size[name] += each.size or 0
    return {name: Group(count[name], files[name], size[name]) for name in sorted(count)}
