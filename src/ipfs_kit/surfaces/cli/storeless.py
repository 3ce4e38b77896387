"""The few commands that need no store: they run where none was made yet, and nothing is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Any, NoReturn, cast

from ipfs_kit.errors import BlockNotFound, StoreNotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Draft, Effect, Receipt
from ipfs_kit.ledger.record import BUFFERED, new_op_id
from ipfs_kit.operations.arguments import bind
from ipfs_kit.operations.catalogue import Operation, Surface
from ipfs_kit.operations.context import Context, Progress
from ipfs_kit.operations.dispatcher import cid_of
from ipfs_kit.operations.principal import LOCAL
from ipfs_kit.operations.results import Result

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

ALWAYS = frozenset({"block.cid", "system.doctor", "system.operations"})
"""Operations that look at no store."""


def runs_without(name: str, given: Mapping[str, Any], store: Path, *, read_only: bool) -> bool:
    """Whether a call is to run without a store.

    Args:
        name: Operation name.
        given: Its arguments.
        store: Where the store would be.
        read_only: Whether the store may not be written to.
    """
    hashing = name == "store.add" and bool(given.get("only_hash"))
    # Hashing writes nothing to a store, only its record: with a read-only one it runs beside it.
    return (hashing and read_only) or ((hashing or name in ALWAYS) and not (store / "state.db").exists())


def call(
    operation: Operation, given: Mapping[str, Any], store: Path, progress: Callable[[Progress], None] | None
) -> Result:
    """Run an operation without a store.

    Args:
        operation: One that ``runs_without`` allows.
        given: Its arguments.
        store: Where the store would be, for what the operation says about it.
        progress: Receives reports of long work.

    Returns:
        The value; no op id and no CIDs of a record.
    """
    now_ns = time_ns()
    draft = Draft(
        op_id=new_op_id(now_ns, os.urandom),
        time_ns=now_ns,
        actor="",
        subject=None,
        surface=str(Surface.CLI),
        operation=operation.name,
        log=operation.log,
        stream=operation.toolset,
        ack=BUFFERED,
        parent=None,
        trace=None,
    )
    engine = cast("Engine", _NoEngine(store))
    ctx = Context(engine, operation, LOCAL, Surface.CLI, draft, _refuse, progress)
    value = operation.handler(ctx, **bind(operation.params, given))
    return Result(value, None, operation.log, None, None, cid_of(value), "none")


def _refuse(draft: Draft, effect: Effect | None) -> Receipt:
    raise StoreNotFound(f"{draft.operation} would change a store, and there is none: run 'ipfs-kit init'")


class _NoEngine:
    """What the operations above touch of an engine."""

    read_only = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks = _NoBlocks()

    def room(self) -> None:
        """Nothing is set aside."""


class _NoBlocks:
    """A block store that holds nothing."""

    def window(self) -> AbstractContextManager[None]:
        """No writer, nothing to protect."""
        return nullcontext()

    def get(self, cid: CID) -> NoReturn:
        """Nothing is here.

        Raises:
            BlockNotFound: Always.
        """
        raise BlockNotFound(f"no block {cid}: there is no store here")
