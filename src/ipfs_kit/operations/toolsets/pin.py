"""Pins: what garbage collection must keep."""

from __future__ import annotations

from time import time_ns
from typing import Annotated, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.blocks.pins import Pin
from ipfs_kit.buckets.paths import looks_like_cid
from ipfs_kit.ipld import CID
from ipfs_kit.ipld.resolve import resolve
from ipfs_kit.ledger import Effect
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import add_pin, pins_effect, remove_pin
from ipfs_kit.operations.places import Everywhere

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
    cursor: int | None


@operation(
    "pin.add",
    Mode.WRITE,
    "pin:write",
    idempotent=True,
    undo="inverse",
    aliases=("add_pin",),
    places=Everywhere("keeps any graph by its CID"),
)
def pin_add(
    ctx: Context,
    path: Reference,
    kind: Annotated[Kind, Arg("keep the whole graph, or one block")] = "recursive",
    name: Annotated[str | None, Arg("a unique label")] = None,
    replace: Annotated[bool, Arg("let the label move from another CID")] = False,
) -> PinInfo:
    """Keep a graph (or one block) from garbage collection, after checking that it is complete."""
    cid = resolve(ctx.engine.blocks.get, path).cid
    with ctx.engine.blocks.window():

        def prepare() -> Effect:
            step = ctx.engine.pins.add(
                cid,
                kind,
                name,
                now_ns=time_ns(),
                replace=replace,
                progress=lambda done, _: ctx.progress(done, unit="blocks"),
            )
            return pins_effect([add_pin(step)], PinInfo(cid, kind, name), after=cid)

        info: PinInfo = ctx.commit(prepare)
    return info


@operation(
    "pin.rm",
    Mode.WRITE,
    "pin:write",
    destructive=True,
    undo="inverse",
    aliases=("remove_pin",),
    places=Everywhere("lets go of any graph by its CID"),
)
def pin_rm(
    ctx: Context, pin: Annotated[str, Arg("a pinned CID, CID/path, or the label of a pin", positional=True)]
) -> PinInfo:
    """Stop keeping a graph; its blocks stay until garbage collection finds them unused."""
    target: CID | str = resolve(ctx.engine.blocks.get, pin).cid if looks_like_cid(pin.partition("/")[0]) else pin
    info = PinInfo(target, "any", None) if isinstance(target, CID) else _info(ctx.engine.pins.get(target))
    removed: PinInfo = ctx.commit(
        lambda: pins_effect([remove_pin(ctx.engine.pins.remove(target, now_ns=time_ns()))], info, before=info.cid)
    )
    return removed


@operation(
    "pin.list", Mode.READ, "pin:read", aliases=("get_pins",), places=Everywhere("lists pins of all content"), quick=True
)
def pin_list(
    ctx: Context,
    kind: Annotated[Kind | None, Arg("only pins of this kind")] = None,
    cursor: Annotated[int, Arg("where to continue", minimum=0)] = 0,
    limit: Annotated[int, Arg("pins per page", minimum=1, maximum=1000)] = 1000,
) -> PinPage:
    """List pins, a page at a time."""
    found = ctx.engine.pins.list(kind=kind, after=cursor, limit=limit)
    return PinPage([_info(pin) for pin in found], found[-1].id if len(found) == limit else None)


def _info(pin: Pin) -> PinInfo:
    return PinInfo(pin.cid, str(pin.kind), pin.name)
