"""Ops as they are recorded: one page of a live tail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.follow import FOLLOW, WAIT_MAX_S, Follower
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.ledger import OpInfo


@dataclass(frozen=True, slots=True)
class FollowPage:
    """Ops recorded since a cursor, in order of time.

    Args:
        ops: Each once; an intent and its outcome are two.
        cursor: Where the next page begins; always given, since more may come.
    """

    ops: list[OpInfo]
    cursor: str


@operation(FOLLOW, Mode.READ, "ledger:read", places=Everywhere("shows records of all callers"))
def ledger_follow(
    ctx: Context,
    stream: Annotated[str | None, Arg("only this family of ops, such as audit or bucket; all when left out")] = None,
    log: Annotated[str | None, Arg("main: changes, denials and audit; bulk: reads and measurements; both")] = None,
    cursor: Annotated[str | None, Arg("continue after this cursor; without it, from the present end")] = None,
    last: Annotated[int, Arg("without a cursor: ops before the end to begin with", minimum=0, maximum=10_000)] = 0,
    limit: Annotated[int, Arg("most ops to return", minimum=1, maximum=10_000)] = 1_000,
    wait_s: Annotated[float, Arg("seconds to wait for the first op", minimum=0, maximum=WAIT_MAX_S)] = 0.0,
) -> FollowPage:
    """Return the ops recorded since a cursor, waiting for the first; records of this operation are left out."""
    follower = Follower.of(ctx.engine.ledger, stream, log, cursor)
    found = follower.last(last) if cursor is None and last else []
    if not found:
        found = follower.wait(limit, wait_s, ctx.check_cancelled)
    return FollowPage([ctx.engine.views.op(*each) for each in found], follower.cursor)
