"""Content archives (CAR): move graphs between stores with every block verified."""

from __future__ import annotations

import os
from collections.abc import Iterator
from time import time_ns
from typing import Annotated

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.ipld import CID, car
from ipfs_kit.ipld.resolve import resolve
from ipfs_kit.ipld.walk import blocks as walk_blocks
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import add_pin, pins_effect
from ipfs_kit.operations.places import Everywhere


@dataclass(frozen=True, slots=True)
class CarInfo:
    """What was written to or read from an archive.

    Args:
        cid: Its first root.
        roots: All its roots.
        blocks: Number of blocks.
        size: Bytes of the blocks.
    """

    cid: CID | None
    roots: list[CID]
    blocks: int
    size: int


@operation("car.export", Mode.READ, "block:read", places=Everywhere("reads any graph by its CID"))
def car_export(
    ctx: Context,
    path: Annotated[str, Arg("a CID, or CID/path: the archive's root", positional=True)],
    output: Annotated[str, Arg("file to write; it must not exist yet", local=True, positional=True)],
    version: Annotated[int, Arg("CAR format version", minimum=1, maximum=2)] = 1,
) -> CarInfo:
    """Write the whole graph below a path to a CAR file that any IPFS tool can read."""
    root = resolve(ctx.engine.blocks.get, path).cid
    count = size = 0

    def blocks() -> Iterator[tuple[CID, bytes]]:
        nonlocal count, size
        for cid, data in walk_blocks([root], ctx.engine.blocks.get):
            count += 1
            size += len(data)
            if count % 256 == 0:
                ctx.progress(size, unit="bytes")
            yield cid, data

    try:
        out = open(output, "xb")  # noqa: SIM115 - closed by the with below; only opening is translated
    except OSError as exc:
        raise InvalidInput(f"cannot write {output}: {exc.strerror}; name a new file in a folder you may write") from exc
    try:
        with out:
            car.write_car(out, [root], blocks(), version=version)
    except BaseException:
        os.unlink(output)
        raise
    return CarInfo(root, [root], count, size)


@operation(
    "car.import",
    Mode.WRITE,
    "block:write",
    idempotent=True,
    undo="inverse",
    places=Everywhere("stores blocks outside all buckets"),
)
def car_import(
    ctx: Context,
    path: Annotated[str, Arg("CAR file to read", local=True, positional=True)],
    pin: Annotated[bool, Arg("keep each root from garbage collection")] = True,
) -> CarInfo:
    """Store the blocks of a CAR file after verifying each, and pin its roots once their graphs are complete."""
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed by the with below; only opening is translated
    except OSError as exc:
        raise NotFound(f"cannot read {path}: {exc.strerror}") from exc
    with stream, ctx.engine.blocks.window():
        reader = car.read_car(stream)
        totals = [0, 0]

        def verified() -> Iterator[tuple[CID, bytes]]:
            for cid, data in reader:
                totals[0] += 1
                totals[1] += len(data)
                if totals[0] % 256 == 0:
                    ctx.progress(totals[1], unit="bytes")
                yield cid, data

        ctx.engine.blocks.put_many(verified(), verify=False)
        roots = list(reader.roots)

        def prepare() -> Effect:
            pins = [add_pin(ctx.engine.pins.add(root, now_ns=time_ns())) for root in roots] if pin else []
            info = CarInfo(roots[0] if roots else None, roots, totals[0], totals[1])
            if pins:
                return pins_effect(pins, info, after=info.cid)
            return lambda tx: Outcome(info, effect={"pins": [], "roots": roots}, after=info.cid)

        info: CarInfo = ctx.commit(prepare)
    return info
