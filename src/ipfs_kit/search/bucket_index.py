"""The catalogue of buckets: true counts and sizes of each, now and before, from the sums that every tree carries.

Nothing is kept: the index of a folder holds the sums of all below it, so that the figures of a bucket cost the same
whatever it holds, and cannot differ from its content.
"""

from __future__ import annotations

import json
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import Buckets
from ipfs_kit.buckets.model import BucketInfo, BucketKind
from ipfs_kit.buckets.paths import Location, Ref
from ipfs_kit.errors import Expired, NotFound

SEARCHES: Final = ("all", "name", "type", "structure", "metadata")


@dataclass(frozen=True, slots=True)
class BucketFigures:
    """One bucket of the catalogue.

    Args:
        name: Its name.
        type: What it is for.
        structure: How it is organised beside the tree.
        kind: ``open`` or ``sealed``.
        created_ns: When it was made, nanoseconds since 1970.
        files: Files and links in its working state; None when its key was destroyed.
        size: Their content bytes, likewise.
        files_grown: By how many files it grew since the moment asked for; None when that state is no longer kept, or
            nobody asked.
        size_grown: By how many bytes, likewise.
    """

    name: str
    type: str
    structure: str
    kind: str
    created_ns: int
    files: int | None
    size: int | None
    files_grown: int | None
    size_grown: int | None


def figures(buckets: Buckets, info: BucketInfo, since_ns: int | None) -> BucketFigures:
    """The figures of one bucket.

    Args:
        buckets: All buckets.
        info: The bucket.
        since_ns: Moment to compare with, nanoseconds since 1970; None compares with nothing.
    """
    head = (info.name, info.type.value, info.structure.value, info.kind.value, info.created_ns)
    try:
        now = _totals(buckets, Location(Ref(info.name), ()))
    except Expired:
        return BucketFigures(*head, None, None, None, None)
    if since_ns is None:
        return BucketFigures(*head, *now, None, None)
    if info.created_ns > since_ns:
        return BucketFigures(*head, *now, *now)
    try:
        before = _totals(buckets, Location(Ref(info.name, time_ns=since_ns), ()))
    except NotFound:
        return BucketFigures(*head, *now, None, None)
    return BucketFigures(*head, *now, now[0] - before[0], now[1] - before[1])


def _totals(buckets: Buckets, at: Location) -> tuple[int, int]:
    item, space, _ = buckets.item_with_space(at)
    totals = space.view.index.totals(space.view.meta_of(item))
    return totals.files, totals.size_bytes


def matches(info: BucketInfo, text: str | None, where: str) -> bool:
    """Whether a bucket's name, type, structure or metadata holds a text, without regard to case.

    Args:
        info: The bucket.
        text: What is sought; None matches everything.
        where: One of ``SEARCHES``.
    """
    if text is None:
        return True
    told = "" if info.kind is BucketKind.SEALED and not info.metadata else json.dumps(dict(info.metadata), default=str)
    parts = {"name": info.name, "type": info.type.value, "structure": info.structure.value, "metadata": told}
    wanted = parts.values() if where == "all" else (parts[where],)
    return any(text.casefold() in part.casefold() for part in wanted)
