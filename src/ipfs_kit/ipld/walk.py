"""Walk a DAG without recursion, each block once, within budgets (used by GC, verify and CAR export)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ipfs_kit.errors import BudgetExceeded
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import RAW
from ipfs_kit.ipld.links import links
from ipfs_kit.ipld.types import Get


class Visit(NamedTuple):
    """One block met on a walk."""

    cid: CID
    data: bytes | None
    """The block; None for a raw block that the walk was told not to load."""
    depth: int
    """Links from the root on the path by which the block was first met; 0 for a root."""


def walk(
    roots: Iterable[CID],
    get: Get,
    *,
    budgets: Budgets = DEFAULT,
    seen: set[bytes] | None = None,
    load_raw: bool = True,
    yield_identity: bool = False,
    enter: Callable[[CID], bool] | None = None,
) -> Iterator[Visit]:
    """Yield every block reachable from ``roots``, depth first, parents before children, each CID once.

    This is the order in which trustless gateways send blocks, so a CAR written from it can be read back as a stream.

    Args:
        roots: Where to start, in order.
        get: Block source; whatever it raises ends the walk. Never called for identity CIDs.
        budgets: Bounds on depth, distinct nodes and links per node.
        seen: Binary CIDs to treat as visited; the walk adds to it, so several walks can share one.
        load_raw: Whether to fetch raw blocks, which have no links; marking for GC needs only their addresses.
        yield_identity: Whether to yield identity CIDs too; their links are followed in any case.
        enter: Called with each new CID; False leaves out the block and everything below it.

    Raises:
        BudgetExceeded: The DAG is deeper or larger than allowed.
        FormatError: A block does not parse by its codec.
        BlockNotFound: A block is absent.
    """
    visited = set[bytes]() if seen is None else seen
    nodes = 0
    stack: list[Iterator[CID]] = [iter(roots)]
    while stack:
        cid = next(stack[-1], None)
        if cid is None:
            stack.pop()
            continue
        binary = cid.binary
        if binary in visited or (enter is not None and not enter(cid)):
            continue
        visited.add(binary)
        nodes += 1
        if nodes > budgets.dag_nodes:
            raise BudgetExceeded(f"DAG holds more than {budgets.dag_nodes} blocks")
        depth = len(stack) - 1
        if depth > budgets.dag_depth:
            raise BudgetExceeded(f"DAG is more than {budgets.dag_depth} links deep at {cid}")
        codec = cid.codec
        identity = cid.is_identity
        if identity:
            data: bytes | None = cid.digest
        else:
            data = get(cid) if load_raw or codec != RAW else None
        if yield_identity or not identity:
            yield Visit(cid, data, depth)
        if codec != RAW and data is not None:
            children = links(cid, data, budgets)
            if children:
                stack.append(iter(children))


def blocks(roots: Iterable[CID], get: Get, *, budgets: Budgets = DEFAULT) -> Iterator[tuple[CID, bytes]]:
    """Yield ``(CID, block)`` for everything reachable, ready for ``write_car``."""
    for visit in walk(roots, get, budgets=budgets):
        if visit.data is not None:
            yield visit.cid, visit.data
