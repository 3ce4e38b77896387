"""Commits: what a bucket was, when, by whom, and after what; and walks over their graph.

A commit is a dag-cbor map, so that IPLD paths such as ``COMMIT/root/docs/a.txt`` resolve with any tool::

    {"schema": 1, "bucket": text, "root": link, "meta": link | null, "parents": [link], "author": text,
     "time": int ns, "order": int ns, "profile": text, "nonce": bytes, "message": bytes | null,
     "metadata": bytes | null, "ext": {text: any}}

``bucket`` and ``author`` are random surrogates. ``message`` and ``metadata`` are sealed under the author's key,
``nonce`` and the field's name [18]; without the key they stay ciphertext while the commit's CID still checks.
``order`` is the corrected commit date: the time, or one more than the greatest ``order`` of a parent when a clock
lagged. It rises strictly along every edge, so that a queue by ``order`` meets children before parents and every walk
can stop early.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput, RefNotFound
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_PB, plain_codec
from ipfs_kit.ipld.unixfs import PROFILES
from ipfs_kit.keys import sealing

Get = Callable[[CID], bytes]

SCHEMA: Final = 1
"""First version of the map; a reader refuses others by name."""
PARENTS_MAX: Final = 16
"""Parents of one commit: two for a merge, more for an octopus made elsewhere."""
COMMIT_BYTES_MAX: Final = 262_144
"""Largest commit block, so that a walk over a hostile history stays in bounded memory."""
MESSAGE_BYTES_MAX: Final = 65_536
"""Longest message in bytes of UTF-8."""
METADATA_BYTES_MAX: Final = 65_536
"""Largest encoded metadata map."""
WALK_MAX: Final = 1_000_000
"""Commits one walk looks at: about 40 s."""
FRONTIER_MAX: Final = 4_096
"""Branches of history open at one time in a walk that hands out a cursor."""
_SURROGATE_CHARS_MAX: Final = 128
_NONCE_BYTES: Final = (8, 64)
_TIME_MAX: Final = (1 << 63) - 1
_KEYS: Final = frozenset(
    {
        *("schema", "bucket", "root", "meta", "parents", "author", "time", "order", "profile", "nonce"),
        *("message", "metadata", "ext"),
    }
)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit as stored; sealed fields are ciphertext.

    Args:
        bucket: Surrogate id of the bucket.
        root: UnixFS root of the content.
        meta: Root of the metadata index; None when there is none.
        parents: The commits before, the branch's own first.
        author: Surrogate id of the author.
        time_ns: Wall clock, nanoseconds since 1970.
        order_ns: Corrected commit date; see the module.
        profile: Name of the UnixFS profile.
        nonce: The op id (or random bytes) the sealed fields are bound to.
        message: Sealed message.
        metadata: Sealed dag-cbor map.
        ext: Facts about no person, in clear.
    """

    bucket: str
    root: CID
    meta: CID | None
    parents: tuple[CID, ...]
    author: str
    time_ns: int
    order_ns: int
    profile: str
    nonce: bytes
    message: bytes | None = None
    metadata: bytes | None = None
    ext: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def encode(self) -> tuple[CID, bytes]:
        """Address and bytes of the block.

        Raises:
            InvalidInput: a field is malformed.
            BudgetExceeded: the block would be too large.
        """
        fault = _fault(self)
        if fault is not None:
            raise InvalidInput(f"not a commit: {fault}")
        data = dag_cbor.encode(
            {
                "schema": SCHEMA,
                "bucket": self.bucket,
                "root": self.root,
                "meta": self.meta,
                "parents": list(self.parents),
                "author": self.author,
                "time": self.time_ns,
                "order": self.order_ns,
                "profile": self.profile,
                "nonce": self.nonce,
                "message": self.message,
                "metadata": self.metadata,
                "ext": dict(self.ext),
            }
        )
        if len(data) > COMMIT_BYTES_MAX:
            raise BudgetExceeded(
                f"the commit takes {len(data)} bytes, more than {COMMIT_BYTES_MAX}; shorten its metadata"
            )
        return CID.of(data, DAG_CBOR), data

    def open_message(self, key: bytes | None) -> str | None:
        """The message; "" when none was given, None when the key is gone.

        Raises:
            IntegrityError: another key, or changed bytes.
        """
        if self.message is None:
            return ""
        if key is None:
            return None
        return sealing.unseal(key, self.nonce, "commit.message", self.message).decode("utf-8", "surrogateescape")

    def open_metadata(self, key: bytes | None) -> Mapping[str, Any] | None:
        """The metadata; empty when none was given, None when the key is gone.

        Raises:
            IntegrityError: another key, or changed bytes.
        """
        if self.metadata is None:
            return {}
        if key is None:
            return None
        found = dag_cbor.decode(sealing.unseal(key, self.nonce, "commit.metadata", self.metadata))
        if not isinstance(found, dict):
            raise FormatError("the metadata of a commit is no map; run verify")
        return found


def seal_message(key: bytes, nonce: bytes, message: str) -> bytes | None:
    """A message as a commit stores it; None for an empty one.

    Args:
        key: The author's subject key.
        nonce: The commit's nonce.
        message: Text; lone surrogates survive.

    Raises:
        BudgetExceeded: longer than 64 KiB.
    """
    data = message.encode("utf-8", "surrogateescape")
    if len(data) > MESSAGE_BYTES_MAX:
        raise BudgetExceeded(f"the message has {len(data)} bytes, more than {MESSAGE_BYTES_MAX}; put it into a file")
    return sealing.seal(key, nonce, "commit.message", data) if data else None


def seal_metadata(key: bytes, nonce: bytes, metadata: Mapping[str, Any] | None) -> bytes | None:
    """Metadata as a commit stores it; None for none.

    Raises:
        BudgetExceeded: larger than 64 KiB.
        InvalidInput: it holds what dag-cbor cannot.
    """
    if not metadata:
        return None
    data = dag_cbor.encode(dict(metadata))
    if len(data) > METADATA_BYTES_MAX:
        raise BudgetExceeded(
            f"the metadata takes {len(data)} bytes, more than {METADATA_BYTES_MAX}; put it into a file"
        )
    return sealing.seal(key, nonce, "commit.metadata", data)


def order_after(time_ns: int, parents: Iterable[Commit]) -> int:
    """The corrected commit date of a commit made at ``time_ns`` after these parents."""
    return max([time_ns, *(parent.order_ns + 1 for parent in parents)])


def decode(data: bytes) -> Commit:
    """The commit of a block.

    Raises:
        FormatError: it is no commit.
        BudgetExceeded: larger than commits may be.
    """
    if len(data) > COMMIT_BYTES_MAX:
        raise BudgetExceeded(f"a commit block has {len(data)} bytes, more than {COMMIT_BYTES_MAX}")
    try:
        row: Any = dag_cbor.decode(data)
    except InvalidInput as exc:
        raise FormatError("a commit block is not dag-cbor; run verify") from exc
    if not isinstance(row, dict) or row.keys() != _KEYS:
        raise FormatError("a block does not have the fields of a commit; name a commit, or run verify")
    if row["schema"] != SCHEMA:
        raise FormatError(f"commit schema {row['schema']!a} is not one this build reads; upgrade ipfs-kit-py")
    if not isinstance(row["parents"], list) or not isinstance(row["ext"], dict):
        raise FormatError("a commit's parents or ext have the wrong form; run verify")
    commit = Commit(
        bucket=row["bucket"],
        root=row["root"],
        meta=row["meta"],
        parents=tuple(row["parents"]),
        author=row["author"],
        time_ns=row["time"],
        order_ns=row["order"],
        profile=row["profile"],
        nonce=row["nonce"],
        message=row["message"],
        metadata=row["metadata"],
        ext=row["ext"],
    )
    fault = _fault(commit)
    if fault is not None:
        raise FormatError(f"not a commit: {fault}; run verify")
    return commit


def load(get: Get, cid: CID) -> Commit:
    """Read a commit.

    Raises:
        BlockNotFound: the block is absent.
        FormatError: it is no commit.
    """
    if plain_codec(cid.codec) == DAG_PB:
        raise FormatError(f"{cid} is a file or folder, not a commit; name a commit, branch or tag")
    return decode(get(cid))


def _fault(commit: Commit) -> str | None:
    for name, value in (("bucket", commit.bucket), ("author", commit.author), ("profile", commit.profile)):
        if not isinstance(value, str) or len(value) > _SURROGATE_CHARS_MAX or (not value and name != "author"):
            return f"{name} must be text of at most {_SURROGATE_CHARS_MAX} characters"
    if commit.profile not in PROFILES:
        return f"the profile {commit.profile!a} is not known to this build"
    # Codecs are not asked for: a sealed bucket addresses ciphertext.
    if not isinstance(commit.root, CID):
        return "root must link a UnixFS directory"
    if commit.meta is not None and not isinstance(commit.meta, CID):
        return "meta must link a metadata index"
    parents = commit.parents
    if len(parents) > PARENTS_MAX or not all(isinstance(parent, CID) for parent in parents):
        return f"parents must link at most {PARENTS_MAX} commits"
    if len(set(parents)) != len(parents):
        return "a parent is named twice"
    for name, time_ns in (("time", commit.time_ns), ("order", commit.order_ns)):
        if type(time_ns) is not int or not -_TIME_MAX <= time_ns <= _TIME_MAX:
            return f"{name} must be nanoseconds in 64 bits"
    if commit.order_ns < commit.time_ns:
        return "order must not be below time"
    if type(commit.nonce) is not bytes or not _NONCE_BYTES[0] <= len(commit.nonce) <= _NONCE_BYTES[1]:
        return f"nonce must have {_NONCE_BYTES[0]} to {_NONCE_BYTES[1]} bytes"
    for name, sealed in (("message", commit.message), ("metadata", commit.metadata)):
        if sealed is not None and (type(sealed) is not bytes or len(sealed) <= sealing.OVERHEAD_BYTES):
            return f"{name} must be sealed bytes"
    return None


# -- walks -------------------------------------------------------------------------------------------------------


class History:
    """Reads commits for one walk and checks that ``order`` rises along every edge.

    Args:
        get: Bytes of a block.
        walk_max: Commits it reads before it gives up.
    """

    def __init__(self, get: Get, *, walk_max: int = WALK_MAX) -> None:
        self._get = get
        self._left = walk_max

    def commit(self, cid: CID) -> Commit:
        """One commit.

        Raises:
            BudgetExceeded: the walk is longer than allowed.
        """
        self._left -= 1
        if self._left < 0:
            raise BudgetExceeded("the history is longer than one walk may be; narrow it, or go on from a later commit")
        return load(self._get, cid)

    def parent(self, cid: CID, child: Commit) -> Commit:
        """One parent of a commit.

        Raises:
            FormatError: it does not come before its child.
        """
        found = self.commit(cid)
        if found.order_ns >= child.order_ns:
            raise FormatError(f"commit {cid} does not come before its child; run verify")
        return found


class _Frontier:
    """Commits found and not yet visited: greatest ``order`` first, each once."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._heap: list[tuple[int, bytes]] = []
        self._held: dict[bytes, Commit] = {}

    def add(self, cid: CID, child: Commit | None = None) -> None:
        """Put a commit in; one that is there stays once."""
        known = self._held.get(cid.binary)
        if known is not None:
            if child is not None and known.order_ns >= child.order_ns:
                raise FormatError(f"commit {cid} does not come before its child; run verify")
            return
        commit = self._history.parent(cid, child) if child is not None else self._history.commit(cid)
        self._held[cid.binary] = commit
        heapq.heappush(self._heap, (-commit.order_ns, cid.binary))

    def take(self) -> tuple[CID, Commit] | None:
        """Take the greatest out. Its descendants are all out already, so it never comes back."""
        if not self._heap:
            return None
        _, binary = heapq.heappop(self._heap)
        return CID(binary), self._held.pop(binary)

    def cids(self) -> list[CID]:
        """What is in it, greatest first."""
        return [CID(binary) for _, binary in sorted(self._heap)]

    def __len__(self) -> int:
        return len(self._heap)


def walk(get: Get, heads: Iterable[CID], *, walk_max: int = WALK_MAX) -> Iterator[tuple[CID, Commit]]:
    """Every commit reachable from the heads, newest first, children before parents."""
    frontier = _Frontier(History(get, walk_max=walk_max))
    for head in heads:
        frontier.add(head)
    while (found := frontier.take()) is not None:
        for parent in found[1].parents:
            frontier.add(parent, found[1])
        yield found


@dataclass(frozen=True, slots=True)
class LogPage:
    """One page of history, newest first."""

    commits: tuple[tuple[CID, Commit], ...]
    cursor: tuple[CID, ...] | None
    """Pass as ``heads`` for the next page; None at the end."""
    scanned: int
    """Commits looked at, those that a filter left out included."""


def log(
    get: Get,
    heads: CID | Iterable[CID],
    *,
    limit: int = 50,
    after: CID | None = None,
    touches: Callable[[Commit, tuple[Commit, ...]], bool] | None = None,
    scan_max: int = 10_000,
) -> LogPage:
    """One page of history: newest first, children before parents.

    Args:
        get: Bytes of a block.
        heads: Where to begin; or the cursor of the page before.
        limit: Most commits returned.
        after: Leave out everything up to this commit (walks over it; a cursor does not).
        touches: Keeps a commit, given its parents; see ``changes_path``.
        scan_max: Most commits looked at for a page, so that a filter that keeps nothing ends.

    Raises:
        RefNotFound: ``after`` is not in this history.
        BudgetExceeded: too many branches are open at once for a cursor.
    """
    if limit < 1 or scan_max < 1:
        raise InvalidInput("limit must be 1 or more")
    history = History(get)
    frontier = _Frontier(history)
    for head in [heads] if isinstance(heads, CID) else heads:
        frontier.add(head)
    found: list[tuple[CID, Commit]] = []
    scanned = 0
    waiting = after is not None
    while len(found) < limit and scanned < scan_max:
        taken = frontier.take()
        if taken is None:
            break
        cid, commit = taken
        for parent in commit.parents:
            frontier.add(parent, commit)
        if waiting:
            waiting = cid != after
            continue
        scanned += 1
        if touches is None or touches(commit, tuple(load(get, parent) for parent in commit.parents)):
            found.append(taken)
    if waiting:
        raise RefNotFound(f"{after} is not in this history; begin again without it")
    if len(frontier) > FRONTIER_MAX:
        raise BudgetExceeded(f"more than {FRONTIER_MAX} branches are open at this point; use a larger limit")
    return LogPage(tuple(found), tuple(frontier.cids()) or None, scanned)


def changes_path(entry_at: Callable[[Commit], object]) -> Callable[[Commit, tuple[Commit, ...]], bool]:
    """A filter for ``log``: commits in which a path differs from what it is in every parent.

    Args:
        entry_at: What is at the path in a commit, comparable with ``==``; None when nothing.
    """

    def touches(commit: Commit, parents: tuple[Commit, ...]) -> bool:
        here = entry_at(commit)
        if not parents:
            return here is not None
        return all(entry_at(parent) != here for parent in parents)

    return touches


_OURS: Final = 1
_THEIRS: Final = 2
_STALE: Final = 4


def merge_bases(get: Get, ours: Iterable[CID], theirs: Iterable[CID], *, walk_max: int = WALK_MAX) -> tuple[CID, ...]:
    """The best common ancestors of two sets of commits: those that are no ancestor of another common one.

    Reads only commits down to the bases. Criss-cross histories have several: they come newest first, then by CID, the
    same for both argument orders. ``merge.merge_commits`` merges them into one virtual base.

    Returns:
        Nothing when the histories share no commit.
    """
    frontier = _Frontier(History(get, walk_max=walk_max))
    marks: dict[bytes, int] = {}
    fresh = 0

    def mark_with(cid: CID, mark: int) -> int:
        """Add marks; returns by how many the commits waiting without _STALE changed."""
        before = marks.get(cid.binary)
        after = marks[cid.binary] = (before or 0) | mark
        return int(not after & _STALE) - int(before is not None and not before & _STALE)

    for side, heads in ((_OURS, ours), (_THEIRS, theirs)):
        for head in heads:
            frontier.add(head)
            fresh += mark_with(head, side)
    bases: list[CID] = []
    # ``order`` rises strictly along edges, so a commit taken out has all its marks; once only stale ones wait, every
    # further common ancestor lies behind a base.
    while fresh and (taken := frontier.take()) is not None:
        cid, commit = taken
        mark = marks.pop(cid.binary)
        fresh -= int(not mark & _STALE)
        if mark == _OURS | _THEIRS:
            bases.append(cid)
            mark |= _STALE
        for parent in commit.parents:
            frontier.add(parent, commit)
            fresh += mark_with(parent, mark)
    return tuple(bases)


def is_ancestor(get: Get, ancestor: CID, head: CID, *, walk_max: int = WALK_MAX) -> bool:
    """Whether ``ancestor`` is ``head`` or reachable from it; stops at commits older than it."""
    if ancestor == head:
        return True
    history = History(get, walk_max=walk_max)
    floor = history.commit(ancestor).order_ns
    frontier = _Frontier(history)
    frontier.add(head)
    while (taken := frontier.take()) is not None:
        cid, commit = taken
        if cid == ancestor:
            return True
        if commit.order_ns > floor:
            for parent in commit.parents:
                frontier.add(parent, commit)
    return False
