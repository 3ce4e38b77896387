"""One bucket's row, its block store and what is shared between its sessions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import BucketKind, BucketStructure, BucketType
from ipfs_kit.buckets.tree import View
from ipfs_kit.errors import Expired, InvalidInput
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.links import links
from ipfs_kit.ipld.unixfs import PROFILES, Profile

if TYPE_CHECKING:
    from ipfs_kit.blocks import BlockStore
    from ipfs_kit.blocks.sealed import SealedStore
    from ipfs_kit.buckets.settings import Settings
    from ipfs_kit.buckets.workspace import Snapshot
    from ipfs_kit.durable.state import StateDB

HELD_MAX = 8_192
"""Blocks of working trees held in memory, about 8 kB each."""
STATES_REMEMBERED = 16
"""Past states of sessions kept as roots, so that paging through one does not replay it for each page."""
BUCKET_COLUMNS = (
    "id, uid, name, type, structure, kind, profile, domain, metadata, created_ns, created_op, dropped_ns, dropped_op"
)
_FIELD = "session"
_SEALING_ID = b"ipfs-kit/buckets/1"


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A row of ``buckets``."""

    id: int
    uid: str
    """Random surrogate: what refs and commits call the bucket."""
    name: str
    type: BucketType
    structure: BucketStructure
    kind: BucketKind
    profile: str
    domain: str | None
    metadata: Mapping[str, Any]
    created_ns: int
    created_op: int
    dropped_ns: int | None
    dropped_op: int | None

    @staticmethod
    def of(row: tuple[Any, ...]) -> BucketRow:
        """The row of a query for ``BUCKET_COLUMNS``."""
        ident, uid, name, type_, structure, kind, profile, domain, metadata, *rest = row
        return BucketRow(
            ident,
            uid,
            name,
            BucketType(type_),
            BucketStructure(structure),
            BucketKind(kind),
            profile,
            domain,
            dag_cbor.decode(metadata),
            *rest,
        )


class Space:
    """One bucket, open in this process; safe to use from any thread.

    Args:
        row: The bucket.
        state: The store's state file.
        blocks: Where the blocks of an open bucket live.
        sealed: Where those of a sealed bucket live, under its key.
        sealer: Encrypts the working state of a sealed bucket at rest.
    """

    def __init__(
        self, row: BucketRow, state: StateDB, blocks: BlockStore, sealed: SealedStore | None, sealer: Sealer | None
    ) -> None:
        self.row = row
        self.state = state
        self.blocks = blocks if sealed is None else sealed
        self._sealed = sealed
        self._sealer = sealer
        self._held: dict[bytes, bytes] = {}
        self._kept: dict[bytes, bytes] = {}
        self._states: OrderedDict[tuple[int, int], Snapshot] = OrderedDict()
        self.settings: tuple[bytes, Settings] | None = None
        """The newest row of settings this process decoded."""
        self._guard = threading.Lock()
        self.view = View(profile_of(row.profile), self.get, self.keep)

    @property
    def name(self) -> str:
        """Name of the bucket."""
        return self.row.name

    @property
    def profile(self) -> Profile:
        """Shape of its UnixFS nodes."""
        return self.view.profile

    def get(self, cid: CID) -> bytes:
        """A block, also one that is not in the store yet."""
        data = self._held.get(cid.binary) or self._kept.get(cid.binary)
        return data if data is not None else self.blocks.get(cid)

    def put(self, cid: CID, data: bytes) -> CID:
        """Store a block whose CID was just computed from these bytes;
        returns the CID to link to (another when sealed).
        """
        if self._sealed is not None:
            return self._sealed.link(cid, data)
        self.blocks.put(cid, data, verify=False)
        return cid

    def address(self, cid: CID, data: bytes) -> CID:
        """The CID a block would be linked by, storing nothing."""
        return cid if self._sealed is None else self._sealed.address(cid, data)

    def hold(self, cid: CID, data: bytes) -> CID:
        """Keep a block of a working tree in memory until :meth:`persist` finds that something durable will name it."""
        if self._sealed is not None:
            cid = self._sealed.address(cid, data)
        self._held[cid.binary] = data
        if len(self._held) > HELD_MAX and not self.state.read_only:
            # Flushes that nothing named left these behind; the store's collector takes those that nothing ever names.
            for key, block in list(self._held.items()):
                self.blocks.put(CID(key), block, verify=False)
                self._held.pop(key, None)
        return cid

    def keep(self, cid: CID, data: bytes) -> CID:
        """Keep a block that a read derived: in the store, or in memory when the store takes no writes."""
        if not self.state.read_only:
            return self.put(cid, data)
        if self._sealed is not None:
            cid = self._sealed.address(cid, data)
        self._kept[cid.binary] = data
        return cid

    def persist(self, *items: Item) -> bool:
        """Move every held block reachable from these to the store; whether there was any."""
        if not self._held:
            return False
        return self.persist_named(
            cid for item in items for cid in ((item.cid,) if item.meta is None else (item.cid, item.meta))
        )

    def persist_named(self, cids: Iterable[CID | None]) -> bool:
        """:meth:`persist` by CID: an answer must name no folder that only this process's memory holds."""
        if not self._held:
            return False
        stack = [cid for cid in cids if cid is not None]
        moved: list[bytes] = []
        seen: set[bytes] = set()
        while stack:
            cid = stack.pop()
            data = self._held.get(cid.binary)
            if data is None or cid.binary in seen:
                continue
            seen.add(cid.binary)
            self.blocks.put(cid, data, verify=False)
            moved.append(cid.binary)
            stack.extend(links(cid, data))
        for key in moved:
            self._held.pop(key, None)
        return bool(moved)

    def publish(self, *items: Item) -> None:
        """Make folders whose CIDs are about to be told to someone readable by these CIDs.

        Costs one put for each node changed since the last time, a few microseconds; naming a folder lazily would cost
        every reader of blocks a look into the sessions instead. A store open for reading only keeps them in memory.
        """
        if self._held and not self.state.read_only:
            self.persist(*items)

    def remembered(self, session: int, seq: int) -> Snapshot | None:
        """A past state computed before."""
        with self._guard:
            return self._states.get((session, seq))

    def remember(self, session: int, snapshot: Snapshot) -> None:
        """Keep a past state."""
        with self._guard:
            self._states[session, snapshot.seq] = snapshot
            if len(self._states) > STATES_REMEMBERED:
                self._states.popitem(last=False)

    def seal(self, data: bytes) -> bytes:
        """Working state as it may lie in ``state.db``."""
        return data if self._sealer is None else self._sealer.seal(data)

    def unseal(self, data: bytes) -> bytes:
        """Working state from ``state.db``."""
        return data if self._sealer is None else self._sealer.unseal(data)


class Sealer:
    """Seals rows of ``state.db`` under a bucket's key, so that destroying the key destroys names as well [18].

    Args:
        key: The bucket's key.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, data: bytes) -> bytes:
        """Encrypt."""
        from ipfs_kit.keys import sealing

        return sealing.seal(self._key, _SEALING_ID, _FIELD, data)

    def unseal(self, data: bytes) -> bytes:
        """Decrypt."""
        from ipfs_kit.keys import sealing

        return sealing.unseal(self._key, _SEALING_ID, _FIELD, data)


def profile_of(name: str) -> Profile:
    """A profile by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    try:
        return PROFILES[name]
    except KeyError as exc:
        raise InvalidInput(f"no profile named {name!a}; choose one of {', '.join(PROFILES)}") from exc


def missing_key(name: str) -> Expired:
    """The error of reading a sealed bucket whose key is gone."""
    return Expired(f"the key of sealed bucket {name!r} was destroyed; its content cannot be read any more", bucket=name)
