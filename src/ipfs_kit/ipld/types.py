"""Callables through which the pure functions of this layer reach blocks."""

from __future__ import annotations

from collections.abc import Callable

from ipfs_kit.ipld.cid import CID

Get = Callable[[CID], bytes]
"""Returns a verified block; raises ``BlockNotFound``."""

Put = Callable[[CID, bytes], object]
"""Keeps a block whose CID was just computed from these bytes."""


def inlined(get: Get) -> Get:
    """Return ``get`` extended by identity CIDs, whose blocks are in the CIDs themselves and in no store."""

    def get_any(cid: CID) -> bytes:
        return cid.digest if cid.is_identity else get(cid)

    return get_any
