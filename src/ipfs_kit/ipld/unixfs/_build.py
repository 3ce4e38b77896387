"""Files into balanced DAGs (the layout of Kubo's ``balanced`` importer), streamed in bounded memory."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Final

from ipfs_kit.ipld import chunkers, varint
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs._data import file_node_data
from ipfs_kit.ipld.unixfs._entry import Entry, Kind, linked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from ipfs_kit.ipld.chunkers import Readable
    from ipfs_kit.ipld.unixfs._entry import Put
    from ipfs_kit.ipld.unixfs._profiles import Profile

_RAW_HEAD: Final = b"\x01\x55\x12\x20"

_JOB_BYTES: Final = 1024 * 1024
"""Bytes hashed per task: long enough (0.8 ms) that handing it to a thread costs little beside it."""

_JOBS_IN_FLIGHT: Final = 8
"""Tasks read but not yet stored; with the largest chunks (2 MiB) this holds at most 24 MiB."""

_JOBS_INLINE: Final = 2
"""Files of so few tasks are hashed in place: starting threads would take longer."""

_Hashed = list[tuple[bytes, bytes, int]]
"""Block, digest and content size of each leaf."""


def build_bytes(data: bytes, profile: Profile, put: Put) -> Entry:
    """Store small content that is already in memory.

    Args:
        data: The content; above one chunk it takes the same way as a stream.
        profile: Import settings.
        put: Called with every block, children before parents.
    """
    size = len(data)
    if size > profile.chunk_size or profile.chunker != "fixed":
        return build_file(BytesIO(data), profile, put)
    return _build_leaf(data, profile, put)


def _build_leaf(data: bytes, profile: Profile, put: Put) -> Entry:
    if profile.raw_leaves:
        cid = CID(_RAW_HEAD + sha256(data).digest())
        cid = linked(put(cid, data), cid)
        return Entry(cid, len(data), Kind.FILE, len(data))
    block = _dag_pb_leaf(data)
    cid = CID(profile.cid_head + sha256(block).digest())
    cid = linked(put(cid, block), cid)
    return Entry(cid, len(block), Kind.FILE, len(data))


def build_file(
    stream: Readable,
    profile: Profile,
    put: Put,
    *,
    hash_pool: Executor | None = None,
    progress: Callable[[int], object] | None = None,
) -> Entry:
    """Store a stream as a file of any size; at most a few dozen MiB are in memory.

    Args:
        stream: Blocking binary stream, read to its end.
        profile: Import settings.
        put: Called in the calling thread with every block, children before parents; drop them for only-hash.
        hash_pool: Threads that hash leaves; by default a pool of this call's own, started for larger files only.
        progress: Called in the calling thread with the content bytes stored so far; an exception from it cancels.

    Raises:
        InvalidInput: The stream is not a blocking binary one.
    """
    if profile.chunker == "fastcdc":
        chunks = chunkers.content_defined(stream, chunkers.CDC_BY_AVERAGE[profile.chunk_size])
    else:
        chunks = chunkers.fixed(stream, profile.chunk_size)
    first = next(chunks, b"")
    second = next(chunks, None)
    if second is None:
        entry = _build_leaf(first, profile, put)
        if progress is not None:
            progress(entry.size)
        return entry
    tree = _Tree(profile, put)
    done = 0
    for leaves in _hash_leaves(_jobs(first, second, chunks), profile, hash_pool):
        for block, digest, size in leaves:
            tree.add_leaf(block, digest, size)
            done += size
        if progress is not None:
            progress(done)
    return tree.finish()


def _dag_pb_leaf(content: bytes) -> bytes:
    """Return the whole dag-pb block of a File node that holds its content inline, with one copy of the content."""
    if not content:
        return b"\x0a\x04\x08\x02\x18\x00"
    size = varint.encode(len(content))
    total = varint.encode(len(content) + 2 * len(size) + 4)
    return b"\x0a%b\x08\x02\x12%b%b\x18%b" % (total, size, content, size)


def _hash_raw(chunks: list[bytes]) -> _Hashed:
    return [(chunk, sha256(chunk).digest(), len(chunk)) for chunk in chunks]


def _hash_dag_pb(chunks: list[bytes]) -> _Hashed:
    out = []
    for chunk in chunks:
        block = _dag_pb_leaf(chunk)
        out.append((block, sha256(block).digest(), len(chunk)))
    return out


def _jobs(first: bytes, second: bytes, chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    job = [first, second]
    size = len(first) + len(second)
    for chunk in chunks:
        if size >= _JOB_BYTES:
            yield job
            job = []
            size = 0
        job.append(chunk)
        size += len(chunk)
    yield job


def _hash_leaves(jobs: Iterator[list[bytes]], profile: Profile, pool: Executor | None) -> Iterator[_Hashed]:
    """Hash jobs on the pool, a bounded number ahead, and yield the results in order."""
    work = _hash_raw if profile.raw_leaves else _hash_dag_pb
    pending: deque[Future[_Hashed]] = deque()
    own: ThreadPoolExecutor | None = None
    count = 0
    try:
        for job in jobs:
            count += 1
            if pool is None and count > _JOBS_INLINE:
                pool = own = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="ipfs-kit-hash")
            if pool is None:
                yield work(job)
                continue
            pending.append(pool.submit(work, job))
            if len(pending) >= _JOBS_IN_FLIGHT:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        if own is not None:
            own.shutdown(wait=True)


class Level:
    """One unfinished node: links are added from the left, then it is written."""

    __slots__ = ("blocksizes", "count", "filesize", "links", "tsize")

    def __init__(self) -> None:
        self.links = bytearray()
        self.blocksizes = bytearray()
        self.count = 0
        self.filesize = 0
        self.tsize = 0

    def add(self, cid: bytes, tsize: int, size: int) -> None:
        """Link a child of ``size`` content bytes."""
        tail = varint.encode(tsize)
        # PBLink: hash, empty name, tsize; its length always fits one byte.
        self.links += b"\x12%c\x0a%c%b\x12\x00\x18%b" % (len(cid) + len(tail) + 5, len(cid), cid, tail)
        self.blocksizes += b"\x20" + varint.encode(size)
        self.count += 1
        self.filesize += size
        self.tsize += tsize

    def write(self, head: bytes, put: Put) -> tuple[CID, int]:
        """Store the node; returns its CID and its tsize.

        Args:
            head: Bytes before the digest of its CID.
            put: Stores a block.
        """
        data = file_node_data(self.filesize, bytes(self.blocksizes))
        block = b"%b\x0a%b%b" % (bytes(self.links), varint.encode(len(data)), data)
        cid = CID(head + sha256(block).digest())
        return linked(put(cid, block), cid), self.tsize + len(block)


class _Tree:
    """A balanced DAG filled from the left; every node is written as soon as it is full and has a right neighbour."""

    def __init__(self, profile: Profile, put: Put) -> None:
        self._put = put
        self._max_links = profile.max_links
        self._node_head = profile.cid_head
        self._leaf_head = _RAW_HEAD if profile.raw_leaves else profile.cid_head
        self._levels = [Level()]

    def add_leaf(self, block: bytes, digest: bytes, size: int) -> None:
        cid = CID(self._leaf_head + digest)
        cid = linked(self._put(cid, block), cid)
        self._add(0, cid.binary, len(block), size)

    def _add(self, height: int, cid: bytes, tsize: int, size: int) -> None:
        levels = self._levels
        if height == len(levels):
            levels.append(Level())
        level = levels[height]
        if level.count == self._max_links:
            node, node_tsize = level.write(self._node_head, self._put)
            self._add(height + 1, node.binary, node_tsize, level.filesize)
            level = levels[height] = Level()
        level.add(cid, tsize, size)

    def finish(self) -> Entry:
        height = 0
        while True:
            level = self._levels[height]
            cid, tsize = level.write(self._node_head, self._put)
            if height == len(self._levels) - 1:
                return Entry(cid, tsize, Kind.FILE, level.filesize)
            self._add(height + 1, cid.binary, tsize, level.filesize)
            height += 1
