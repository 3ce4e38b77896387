"""Pins: what garbage collection must keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ipfs_kit.ipld import CID, resolve
from ipfs_kit.ledger import Effect
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import pin_effect

Kind = Literal["recursive", "direct"]
Reference = Annotated[str, Arg("a CID, or CID/path", positional=True)]


@dataclass(frozen=True, slots=True)
class PinInfo:
    """One pin.

    Args:
        cid: What is pinned.
        kind: ``recursive`` keeps everything below it, ``direct`` only the block itself.
        name: A label, or None.
    """

    cid: CID
    kind: str
    name: str | None


@dataclass(frozen=True, slots=True)
class PinPage:
    """A page of pins; pass ``cursor`` to continue, None when this was the last."""

    pins: list[PinInfo]
    cursor: str | None


@operation("pin.add", Mode.WRITE, "pin:write", idempotent=True, undo="inverse", aliases=("add_pin",))
def pin_add(
    ctx: Context,
    path: Reference,
    kind: Annotated[Kind, Arg("keep the whole graph, or one block")] = "recursive",
    name: Annotated[str | None, Arg("a label")] = None,
) -> PinInfo:
    """Keep a graph (or one block) from garbage collection."""
    cid = resolve(ctx.engine.blocks.get, path).cid

    def prepare() -> Effect:
        add = ctx.engine.pins.add(cid, kind, name, progress=lambda done: ctx.progress(done, unit="blocks"))
        return pin_effect(add, PinInfo(cid, kind, name), after=cid)

    info: PinInfo = ctx.commit(prepare)
    return info


@operation("pin.rm", Mode.WRITE, "pin:write", destructive=True, undo="inverse", aliases=("remove_pin",))
def pin_rm(
    ctx: Context, path: Reference, kind: Annotated[Kind | None, Arg("which of its pins; all when left out")] = None
) -> PinInfo:
    """Stop keeping a graph; its blocks stay until garbage collection finds them unused."""
    cid = resolve(ctx.engine.blocks.get, path).cid
    info: PinInfo = ctx.commit(
        lambda: pin_effect(ctx.engine.pins.remove(cid, kind), PinInfo(cid, kind or "all", None), before=cid)
    )
    return info


@operation("pin.list", Mode.READ, "pin:read", aliases=("get_pins",))
def pin_list(
    ctx: Context,
    kind: Annotated[Kind | None, Arg("only pins of this kind")] = None,
    cursor: Annotated[str | None, Arg("where to continue")] = None,
    limit: Annotated[int, Arg("pins per page", minimum=1, maximum=10_000)] = 1000,
) -> PinPage:
    """List pins, a page at a time."""
    page = ctx.engine.pins.list(kind=kind, cursor=cursor, limit=limit)
    return PinPage([PinInfo(pin.cid, str(pin.kind), pin.name) for pin in page.pins], page.cursor)
