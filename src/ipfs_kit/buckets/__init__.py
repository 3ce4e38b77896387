"""A versioned filesystem over blocks: buckets, sessions, trees, refs, commits, merge, time travel and undo."""

from __future__ import annotations

from ipfs_kit.buckets.buckets import Buckets
from ipfs_kit.buckets.guards import Proposal, ProposedChange
from ipfs_kit.buckets.index import Index, Item
from ipfs_kit.buckets.model import (
    Applied,
    BucketInfo,
    BucketKind,
    BucketStructure,
    BucketType,
    Change,
    Committed,
    Finding,
    Page,
    Problem,
    Stat,
    Status,
)
from ipfs_kit.buckets.paths import Location, Ref
from ipfs_kit.buckets.refs import REFS_SCHEMA
from ipfs_kit.buckets.schema import BUCKETS_SCHEMA
from ipfs_kit.buckets.versions import LogEntry

SCHEMAS = (BUCKETS_SCHEMA, REFS_SCHEMA)
"""Schemas to open ``state.db`` with."""

__all__ = [
    "SCHEMAS",
    "Applied",
    "BucketInfo",
    "BucketKind",
    "BucketStructure",
    "BucketType",
    "Buckets",
    "Change",
    "Committed",
    "Finding",
    "Index",
    "Item",
    "Location",
    "LogEntry",
    "Page",
    "Problem",
    "Proposal",
    "ProposedChange",
    "Ref",
    "Stat",
    "Status",
]
