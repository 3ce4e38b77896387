"""What to remove: pure, from counts and roots alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import field
from typing import Final, Protocol

from ipfs_kit._dataclasses import dataclass

BLOCKS_MAX: Final = 1_000_000
"""Blocks condemned in one run; the rest waits for the next, so memory stays bounded."""
UNREFERENCED: Final = "nothing refers to it"
BELOW: Final = "only garbage refers to it"
KEY_DESTROYED: Final = "its key was destroyed"


class Inventory(Protocol):
    """What the planner may ask about stored blocks, by multihash."""

    def unreferenced(self) -> Iterable[bytes]:
        """Blocks that no stored block links to."""

    def orphaned(self) -> Iterable[bytes]:
        """Blocks of key domains whose key was destroyed."""

    def references(self, key: bytes) -> int:
        """How many stored blocks link to a block."""

    def children(self, key: bytes) -> Sequence[bytes]:
        """The blocks that a block links to, each once; none when they cannot be known."""

    def size(self, key: bytes) -> int | None:
        """A block's length in bytes; None when it is not stored."""


@dataclass(frozen=True, slots=True)
class GcPlan:
    """Blocks to condemn, and why.

    Args:
        made_ns: When it was made.
        condemn: Multihashes, each block before those below it.
        bytes: Their total length.
        reasons: How many were condemned for each reason.
        complete: False when the limit cut it short.
    """

    made_ns: int
    condemn: list[bytes] = field(default_factory=list)
    bytes: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    complete: bool = True


def plan(inventory: Inventory, roots: Collection[bytes], now_ns: int, *, blocks_max: int = BLOCKS_MAX) -> GcPlan:
    """Find all garbage by taking unreferenced blocks away in thought, then what only they referred to.

    Args:
        inventory: The stored blocks and their counts.
        roots: Multihashes that must stay, with everything below them.
        now_ns: The present time, written into the plan.
        blocks_max: Largest plan.

    Returns:
        The plan; the same garbage as a mark-and-sweep from the roots would find.
    """
    condemned: list[bytes] = []
    taken: set[bytes] = set()
    left: dict[bytes, int] = {}
    reasons: dict[str, int] = {}
    total = 0
    complete = True

    def take(start: bytes, reason: str) -> None:
        nonlocal total
        stack = [(start, reason)]
        while stack:
            key, why = stack.pop()
            if key in taken or key in roots:
                continue
            size = inventory.size(key)
            if size is None:
                continue
            taken.add(key)
            condemned.append(key)
            total += size
            reasons[why] = reasons.get(why, 0) + 1
            for child in inventory.children(key):
                count = left.get(child)
                left[child] = count = (inventory.references(child) if count is None else count) - 1
                if count == 0:
                    stack.append((child, BELOW))

    for source, reason in ((inventory.orphaned(), KEY_DESTROYED), (inventory.unreferenced(), UNREFERENCED)):
        for key in source:
            if len(condemned) >= blocks_max:
                complete = False
                break
            take(key, reason)
    return GcPlan(now_ns, condemned, total, reasons, complete)
