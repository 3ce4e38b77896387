"""What the buckets layer answers with: frozen values, names as text, CIDs as CIDs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.ipld.cid import CID


class BucketType(StrEnum):
    """What a bucket is for; views and defaults of later layers follow it, storage does not."""

    GENERAL = "general"
    DATASET = "dataset"
    KNOWLEDGE = "knowledge"
    MEDIA = "media"
    ARCHIVE = "archive"
    TEMP = "temp"


class BucketStructure(StrEnum):
    """How the contents are organised beside the file tree, which every bucket has."""

    UNIXFS = "unixfs"
    GRAPH = "graph"
    VECTOR = "vector"
    HYBRID = "hybrid"


class BucketKind(StrEnum):
    """Whether blocks are plain or encrypted under a key that can be destroyed [19]."""

    OPEN = "open"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """One bucket as it stands."""

    name: str
    type: BucketType
    structure: BucketStructure
    kind: BucketKind
    profile: str
    created_ns: int
    branch: str
    """Branch the default workspace is on."""
    head: CID | None
    """Latest commit of that branch."""
    root: CID | None
    """Root of the default workspace at its last snapshot; ``Buckets.root`` computes the present one."""
    files: int
    """Files in the default workspace at its last snapshot, links included."""
    size_bytes: int
    """Their content bytes."""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of one entry."""

    path: str
    name: str
    kind: str
    """``file``, ``dir`` or ``symlink``."""
    cid: CID
    size: int
    """Content bytes of a file, target length of a link, 0 for a folder."""
    tsize: int
    """Serialized bytes of the whole DAG below."""
    mtime_ns: int | None = None
    mode: int | None = None
    content_type: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    """Where a symbolic link points; None for all else, and in listings."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing, in byte order of names."""

    entries: tuple[Stat, ...]
    cursor: str | None
    """Pass as ``after`` for the next page; None at the end."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between two states."""

    path: str
    change: str
    """``added``, ``removed``, ``modified`` or ``metadata``."""
    before: CID | None
    after: CID | None


@dataclass(frozen=True, slots=True)
class Status:
    """The working session against the head of its branch."""

    bucket: str
    session: str
    branch: str
    head: CID | None
    root: CID
    clean: bool
    changes: tuple[Change, ...]
    truncated: bool
    """Whether more changes exist than were asked for."""
    merging: CID | None = None


@dataclass(frozen=True, slots=True)
class Applied:
    """Result of one mutation of a working session."""

    bucket: str
    path: str
    cid: CID | None
    """CID now at the path; None when it was removed."""
    before: CID | None
    size: int = 0
    paths: int = 1
    """How many paths the change names (a relinked folder is one)."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Result of a commit, merge or revert."""

    bucket: str
    branch: str
    commit: CID | None
    """None only for a bucket that never had anything to commit."""
    root: CID
    created: bool
    """False when there was nothing to commit and ``commit`` is the head as it was."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing an import or export could not do, with the rest done."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault ``verify`` found, and how to mend it."""

    subject: str
    fault: str
    remedy: str
