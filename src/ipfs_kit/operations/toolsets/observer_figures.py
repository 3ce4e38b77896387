"""Figures of the virtual file system: measured from records, indexes, snapshots and this machine, or None."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.errors import InvalidInput
from ipfs_kit.monitoring import health
from ipfs_kit.monitoring.health import BUILT_IN
from ipfs_kit.monitoring.observer.figures import (
    AccessPatterns,
    CachePerformance,
    Recommendation,
    patterns,
    recommendations,
)
from ipfs_kit.monitoring.vfs_rows import Wanted
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.toolsets.observer import HERE, observer_watched
from ipfs_kit.operations.toolsets.vfs_journal import COUNTED_MAX, gathered

INDEXES_MAX = 1_000
"""Buckets whose indexes are looked at."""


@dataclass(frozen=True, slots=True)
class TextIndexes:
    """The full-text indexes there are.

    Args:
        indexes: How many.
        files: Files in them.
        passages: Passages that can be found.
        size: Bytes on disk.
        buckets: Buckets looked at.
    """

    indexes: int
    files: int
    passages: int
    size: int
    buckets: int


@dataclass(frozen=True, slots=True)
class FilesystemMetrics:
    """Sizes of the store and of what is watched.

    Args:
        blocks: Blocks stored.
        store_size: Bytes of all packs on disk.
        buckets: Buckets.
        disk_free: Bytes free on the store's disk.
        watched_folders: Folders watched.
        watched_files: Files in their snapshots; None when no snapshot is there.
        watched_size: Bytes of those.
    """

    blocks: int
    store_size: int
    buckets: int
    disk_free: int
    watched_folders: int
    watched_files: int | None
    watched_size: int | None


@dataclass(frozen=True, slots=True)
class ResourceUtilization:
    """What of this machine is in use, percent; None where it does not tell."""

    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None


@dataclass(frozen=True, slots=True)
class ObserverFigures:
    """All groups; None for what this store does not have or nobody measured.

    Args:
        hours: The window of what comes from records.
        cache_performance: Hits and misses that programs recorded in the VFS journal.
        vector_index_status: Vector indexes; None: this store has none.
        text_index_status: Full-text indexes.
        knowledge_base_status: The knowledge graph; None: this store has none.
        filesystem_metrics: Sizes.
        access_patterns: Reads and writes of this store's files and of journal entries.
        resource_utilization: This machine.
        recommendations: What the figures advise.
        truncated: There were more rows in the window than were counted.
    """

    hours: float
    cache_performance: CachePerformance
    vector_index_status: dict[str, int] | None
    text_index_status: TextIndexes
    knowledge_base_status: dict[str, int] | None
    filesystem_metrics: FilesystemMetrics
    access_patterns: AccessPatterns
    resource_utilization: ResourceUtilization
    recommendations: list[Recommendation]
    truncated: bool


@operation("observer.figures", Mode.READ, "observer:read", places=HERE)
def observer_figures(
    ctx: Context,
    hours: Annotated[float, Arg("how far back records are read")] = 24.0,
) -> ObserverFigures:
    """Measure caches, indexes, files, access and this machine, and say what the figures advise."""
    if not 0 < hours <= 24 * 366 * 100:
        raise InvalidInput("hours is a number greater than 0, and no more than 100 years")
    rows = gathered(ctx, Wanted(), True, time.time_ns() / 1e9 - hours * 3600, None)
    cache, access = patterns(islice(rows, COUNTED_MAX))
    truncated = next(rows, None) is not None
    machine = _machine(ctx)
    advice = recommendations(
        {
            "hit_rate": cache.hit_rate,
            "read_ms_mean": access.read_ms_mean,
            "memory_percent": machine.memory_percent,
            "cpu_percent": machine.cpu_percent,
            "disk_percent": machine.disk_percent,
        }
    )
    return ObserverFigures(
        hours, cache, None, _indexes(ctx), None, _filesystem(ctx), access, machine, advice, truncated
    )


def _machine(ctx: Context) -> ResourceUtilization:
    checks = {check.id: check for check in BUILT_IN}
    found = (
        health.cpu(checks["system_cpu"]),
        health.memory(checks["system_memory"]),
        health.disk(checks["system_disk"], ctx.engine.path),
    )
    return ResourceUtilization(*(each.details.get("percent") for each in found))


def _indexes(ctx: Context) -> TextIndexes:
    buckets, _ = ctx.engine.buckets.list(limit=INDEXES_MAX)
    open_ones = [info.name for info in buckets if info.kind is not BucketKind.SEALED]
    held = [counts for name in open_ones for _, counts in ctx.engine.indexes.status(name)]
    return TextIndexes(
        len(held), sum(each.files for each in held), sum(each.passages for each in held),
        sum(each.size_bytes for each in held), len(open_ones),
    )  # fmt: skip


def _filesystem(ctx: Context) -> FilesystemMetrics:
    store = ctx.engine.views.store()
    places = observer_watched(ctx).places
    known = [place for place in places if place.files is not None]
    return FilesystemMetrics(
        store.blocks, store.size, store.buckets, store.free, len(places),
        sum(place.files or 0 for place in known) if known else None,
        sum(place.size or 0 for place in known) if known else None,
    )  # fmt: skip
