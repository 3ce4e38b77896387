"""Mirrors of the published logs, and freezing a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ipfs_kit.ledger.mirror import Mirror, Mirrored
from ipfs_kit.ledger.record import LOGS, MAIN
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere


@dataclass(frozen=True, slots=True)
class MirrorInfo:
    """A mirror after a run.

    Args:
        directory: Where it is.
        logs: What was done to each log.
        checked: Whether every root was derived anew from the mirror's own entries.
    """

    directory: str
    logs: list[Mirrored]
    checked: bool


@operation("ledger.mirror", Mode.READ, "ledger:read", places=Everywhere("copies the whole ledger"))
def ledger_mirror(
    ctx: Context,
    directory: Annotated[str, Arg("the mirror; made when absent", local=True, positional=True)],
    check: Annotated[bool, Arg("read back the whole mirror and derive its roots anew")] = False,
) -> MirrorInfo:
    """Copy what was published since the last run into a directory that anyone can serve and verify.

    A mirror only ever follows a history that extends what it has.

    Raises:
        IntegrityError: This store's history is not the one the mirror has seen; nothing was overwritten.
    """
    ledger = ctx.engine.ledger
    mirror = Mirror(ledger.directory, directory, {log: ledger.vkey(log) for log in LOGS})
    with ledger.publishing() as sizes, ledger.segments.sealing():
        done = mirror.update(sizes, ledger.segments.files)
    if check:
        mirror.check()
    return MirrorInfo(directory, done, check)


@dataclass(frozen=True, slots=True)
class FreezeInfo:
    """Whether a store is frozen.

    Args:
        frozen: Whether it takes no changes.
        reason: Why it is, or was.
        size: Records of the main log when this was called.
        root: Root of its tree then, hex.
    """

    frozen: bool
    reason: str
    size: int
    root: str


@operation(
    "ledger.freeze",
    Mode.WRITE,
    "ledger:admin",
    external=True,
    irreversible="let changes in again with ledger unfreeze",
    places=Everywhere("stops all changes"),
)
def ledger_freeze(
    ctx: Context, reason: Annotated[str, Arg("why, shown to whoever is refused", positional=True)]
) -> FreezeInfo:
    """Refuse every change to the store, from any process, until it is thawed; reads go on, and refusals are recorded."""
    head = ctx.engine.ledger.checkpoint(MAIN)
    ctx.announce({"freeze": head.size})
    ctx.engine.freeze.set(reason)
    return FreezeInfo(True, reason, head.size, head.root.hex())


@operation(
    "ledger.unfreeze",
    Mode.WRITE,
    "ledger:admin",
    external=True,
    irreversible="freeze it again with ledger freeze",
    places=Everywhere("lets changes in"),
)
def ledger_unfreeze(ctx: Context) -> FreezeInfo:
    """Let changes in again."""
    head = ctx.engine.ledger.checkpoint(MAIN)
    ctx.announce({"unfreeze": head.size})
    return FreezeInfo(False, ctx.engine.freeze.lift(), head.size, head.root.hex())
