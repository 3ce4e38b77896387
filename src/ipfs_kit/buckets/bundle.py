"""A bucket with its history as one CAR: which blocks it takes, and what its manifest says.

The CAR's root is a dag-cbor map::

    {"format": "ipfs-kit/bucket", "version": 1, "uid": text, "name": text, "type": text, "structure": text,
     "profile": text, "metadata": bytes, "created_ns": int, "branch": text, "refs": [[text, link]], "since": [link]}

``since`` names commits whose history and trees the receiver has already; it is empty in a whole export. Settings of the
bucket stay behind: they are the policy of a store. Messages and metadata of commits stay sealed under their authors'
keys, which no CAR carries. ``bundle_import`` reads it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import commits
from ipfs_kit.buckets.buckets import Buckets
from ipfs_kit.buckets.model import BucketKind, BucketStructure, BucketType
from ipfs_kit.buckets.paths import Ref, check_bucket_name
from ipfs_kit.buckets.refs import BRANCHES, TAGS, check_bucket_id, check_full_name
from ipfs_kit.buckets.space import Space, profile_of
from ipfs_kit.errors import FormatError, InvalidInput, KitError, RefNotFound, Unsupported
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ipld.walk import walk

FORMAT: Final = "ipfs-kit/bucket"
VERSION: Final = 1
REFS_MAX: Final = 10_000
"""Branches and tags of one CAR."""
SINCE_MAX: Final = 100
MANIFEST_BYTES_MAX: Final = 2 * 1024 * 1024
_KEYS: Final = frozenset(
    (
        "format",
        "version",
        "uid",
        "name",
        "type",
        "structure",
        "profile",
        "metadata",
        "created_ns",
        "branch",
        "refs",
        "since",
    )
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a CAR of a bucket holds.

    Args:
        uid: The bucket's surrogate id, which its commits name.
        name: Its name where it comes from.
        type: What it is for.
        structure: Views kept beside the file tree.
        profile: Shape of its UnixFS nodes.
        metadata: Labels of the bucket, as stored.
        created_ns: When it was made.
        branch: Branch of its default workspace.
        refs: Full names of branches and tags, each with its commit.
        since: Commits the receiver has already.
    """

    uid: str
    name: str
    type: str
    structure: str
    profile: str
    metadata: bytes
    created_ns: int
    branch: str
    refs: tuple[tuple[str, CID], ...]
    since: tuple[CID, ...]

    def encode(self) -> tuple[CID, bytes]:
        """Address and bytes of the block."""
        data = dag_cbor.encode(
            {
                "format": FORMAT,
                "version": VERSION,
                "uid": self.uid,
                "name": self.name,
                "type": self.type,
                "structure": self.structure,
                "profile": self.profile,
                "metadata": self.metadata,
                "created_ns": self.created_ns,
                "branch": self.branch,
                "refs": [list(each) for each in self.refs],
                "since": list(self.since),
            }
        )
        return CID.of(data, DAG_CBOR), data


def decode_manifest(data: bytes) -> Manifest:
    """The manifest of a block, every field checked.

    Raises:
        FormatError: It is none, or of a newer version.
    """
    try:
        row: Any = dag_cbor.decode(data) if len(data) <= MANIFEST_BYTES_MAX else None
    except InvalidInput as exc:
        raise FormatError("the first root of the CAR is no manifest of a bucket") from exc
    if not isinstance(row, dict) or row.get("format") != FORMAT:
        raise FormatError(
            "the CAR does not hold a bucket: its first root is no manifest; use car.import for other CARs"
        )
    if row.get("version") != VERSION or row.keys() != _KEYS:
        raise FormatError("the CAR was written by a newer build; upgrade ipfs-kit-py")
    try:
        manifest = Manifest(
            check_bucket_id(row["uid"]),
            check_bucket_name(row["name"]),
            BucketType(row["type"]).value,
            BucketStructure(row["structure"]).value,
            profile_of(row["profile"]).name,
            row["metadata"],
            row["created_ns"],
            row["branch"],
            tuple((check_full_name(name), commit) for name, commit in row["refs"]),
            tuple(row["since"]),
        )
        _check(manifest)
    except (KitError, ValueError, TypeError) as exc:
        raise FormatError(f"the manifest of the CAR has a field of the wrong form: {exc}") from exc
    return manifest


def _check(manifest: Manifest) -> None:
    names = [name for name, _ in manifest.refs]
    if len(names) > REFS_MAX or len(set(names)) != len(names) or not names:
        raise ValueError(f"it names no branch or tag, one twice, or more than {REFS_MAX}")
    if not all(name.startswith((BRANCHES, TAGS)) for name in names):
        raise ValueError("a ref is neither branch nor tag")
    if len(manifest.since) > SINCE_MAX or not all(isinstance(each, CID) for each in manifest.since):
        raise ValueError(f"since must name at most {SINCE_MAX} commits")
    if not all(isinstance(commit, CID) for _, commit in manifest.refs):
        raise ValueError("a ref names no commit")
    if type(manifest.metadata) is not bytes or len(manifest.metadata) > 65_536:
        raise ValueError("metadata must be bytes")
    if not isinstance(dag_cbor.decode(manifest.metadata), dict):
        raise ValueError("metadata must be a map")
    if type(manifest.created_ns) is not int or not 0 <= manifest.created_ns < 1 << 63:
        raise ValueError("created_ns must be nanoseconds")
    check_full_name(BRANCHES + manifest.branch)


def plan_export(buckets: Buckets, bucket: str, *, refs: Sequence[str] = (), since: Sequence[str] = ()) -> Manifest:
    """What an export of a bucket will hold.

    Args:
        buckets: The store's buckets.
        bucket: The bucket.
        refs: Branches and tags to take; all when empty.
        since: Branches, tags or commits that the receiver has.

    Raises:
        Unsupported: The bucket is sealed.
        RefNotFound: There is no such ref, or nothing is committed yet.
    """
    row = buckets.row(bucket)
    if row.kind is BucketKind.SEALED:
        raise Unsupported(
            f"bucket {bucket!r} is sealed: its blocks mean nothing without its key, which no CAR may carry; copy what may "
            "leave to an open bucket and export that"
        )
    if len(since) > SINCE_MAX:
        raise InvalidInput(f"since names at most {SINCE_MAX} states")
    found = [(name, commit) for name, commit in all_refs(buckets, row.uid) if not refs or _short(name) in refs]
    missing = set(refs) - {_short(name) for name, _ in found}
    if missing or not found:
        what = f"no branch or tag {sorted(missing)[0]!r}" if missing else "no commit yet; commit first"
        raise RefNotFound(f"bucket {bucket!r} has {what}")
    if len(found) > REFS_MAX:
        raise InvalidInput(f"bucket {bucket!r} has more than {REFS_MAX} branches and tags: name those to take")
    told = tuple(dict.fromkeys(buckets.commit_of(Ref.parse(f"{bucket}@{each}"))[1] for each in since))
    branch = buckets.workspace(bucket).head().branch
    made = (row.type.value, row.structure.value, row.profile, dag_cbor.encode(dict(row.metadata)), row.created_ns)
    return Manifest(row.uid, row.name, *made, branch, tuple(found), told)


def all_refs(buckets: Buckets, uid: str) -> Iterator[tuple[str, CID]]:
    """Full names of a bucket's branches and tags, each with its commit."""
    after: str | None = None
    while True:
        page = buckets.refs.list(uid, "", after=after, limit=1000)
        for ref in page.refs:
            if ref.value.commit is not None and ref.name.startswith((BRANCHES, TAGS)):
                yield ref.name, ref.value.commit
        after = page.cursor
        if after is None:
            return


def _short(name: str) -> str:
    return name.partition("/")[2]


def export_blocks(
    space: Space, manifest: Manifest, progress: Callable[[int, int], object]
) -> Iterator[tuple[CID, bytes]]:
    """The blocks of an export: the manifest, then each commit, newest first, with what its tree adds.

    Args:
        space: The bucket.
        manifest: What it holds.
        progress: Called with commits and bytes given so far; may raise to stop.
    """
    yield manifest.encode()
    seen: set[bytes] = set()
    for cid, commit in commits.walk(space.get, manifest.since):
        seen.add(cid.binary)
        if cid in manifest.since:
            # Structure alone is read: what the receiver has need not be loaded to be left out.
            for _ in walk(_roots(commit), space.get, seen=seen, load_raw=False):
                pass
    count = size = 0
    for cid, commit in commits.walk(space.get, [head for _, head in manifest.refs]):
        if cid.binary in seen:
            continue
        count += 1
        seen.add(cid.binary)
        data = space.get(cid)
        size += len(data)
        yield cid, data
        for visit in walk(_roots(commit), space.get, seen=seen):
            if visit.data is not None:
                size += len(visit.data)
                yield visit.cid, visit.data
        progress(count, size)


def _roots(commit: commits.Commit) -> list[CID]:
    return [commit.root] if commit.meta is None else [commit.root, commit.meta]
