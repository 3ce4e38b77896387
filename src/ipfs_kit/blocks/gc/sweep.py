"""The plain mark-and-sweep that incremental collection must agree with; also the dry run of a read-only store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ipfs_kit.blocks._base import cid_of
from ipfs_kit.blocks.gc.counts import LinksOf, child_keys, pack_domain, plain_links
from ipfs_kit.errors import BlockNotFound, Expired, IntegrityError

if TYPE_CHECKING:
    from ipfs_kit.blocks.store import PackStore
    from ipfs_kit.ipld.cid import CID


def root_keys(roots: Iterable[CID], links_of: LinksOf = plain_links) -> set[bytes]:
    """The multihashes of roots; an identity CID stands for what it links to."""
    keys: set[bytes] = set()
    for cid in roots:
        if cid.is_identity:
            keys.update(child_keys(links_of, cid, cid.digest, None) or ())
        else:
            keys.add(cid.multihash)
    return keys


def full_check(
    store: PackStore,
    roots: Iterable[CID],
    links_of: LinksOf = plain_links,
    progress: Callable[[int], object] | None = None,
) -> set[bytes]:
    """Walk everything reachable from the roots and return what is left over.

    Args:
        store: The store.
        roots: What must stay.
        links_of: The children of a stored block.
        progress: Told how many blocks were walked.

    Returns:
        Multihashes of the garbage.
    """
    places = dict(store.index.multihashes())
    domains: dict[int, str | None] = {}
    stack = [key for key in root_keys(roots, links_of) if key in places]
    reached = set(stack)
    done = 0
    while stack:
        key = stack.pop()
        place = places[key]
        cid = cid_of(place.codec, key)
        if place.pack_id not in domains:
            domains[place.pack_id] = pack_domain(store, place.pack_id)
        try:
            children = child_keys(links_of, cid, store.get(cid), domains[place.pack_id]) or ()
        except (BlockNotFound, Expired, IntegrityError):
            children = ()
        for child in children:
            if child in places and child not in reached:
                reached.add(child)
                stack.append(child)
        done += 1
        if progress is not None:
            progress(done)
    return places.keys() - reached
