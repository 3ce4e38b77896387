"""What a handler sees of its call: the engine, the caller, and the one way to change state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import Cancelled, Conflict, InternalError, Stale
from ipfs_kit.ledger import Draft, Effect, Receipt
from ipfs_kit.operations.catalogue import Operation, Surface
from ipfs_kit.operations.principal import Principal

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

PREPARE_ATTEMPTS = 8
"""How often work is prepared anew when the state moved: losing eight races is a hot spot the caller should see."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long operation has come.

    Args:
        done: Units finished.
        total: Units in all; None when unknown.
        unit: What is counted, for example ``bytes`` or ``files``.
        note: What is being worked on.
    """

    done: int
    total: int | None = None
    unit: str = ""
    note: str = ""


class Context:
    """One call in progress.

    Args:
        engine: The open store.
        operation: What was called.
        principal: Who called.
        surface: By which surface.
        draft: The record being prepared.
        submit: Sends the record, with or without an effect, and waits for its receipt.
        progress: Receives reports of long work, if the surface shows them.
        cancelled: Set by the surface to stop long work.
    """

    def __init__(
        self,
        engine: Engine,
        operation: Operation,
        principal: Principal,
        surface: Surface,
        draft: Draft,
        submit: Callable[[Draft, Effect | None], Receipt],
        progress: Callable[[Progress], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> None:
        self.engine = engine
        self.operation = operation
        self.principal = principal
        self.surface = surface
        self.draft = draft
        self.receipt: Receipt | None = None
        self.intent: Receipt | None = None
        self._submit = submit
        self._progress = progress
        self._cancelled = cancelled

    def commit(self, prepare: Callable[[], Effect]) -> Any:
        """Apply one effect together with this operation's record, in one transaction.

        Args:
            prepare: Does the work outside the lock (hashing, writing blocks) and returns the effect; called again when
                the effect raises ``Stale``.

        Returns:
            The outcome's value.

        Raises:
            Conflict: The state kept moving during eight attempts.
        """
        if self.receipt is not None:
            raise InternalError(f"{self.operation.name} tried to commit twice: one operation is one record")
        for _ in range(PREPARE_ATTEMPTS):
            self.check_cancelled()
            effect = prepare()
            try:
                self.receipt = self._submit(self.draft, effect)
            except Stale:
                continue
            return self.receipt.value
        raise Conflict(f"{self.operation.name}: others kept changing the same place; try again when it is quieter")

    def announce(self, effect: Any) -> None:
        """Record durably that an effect outside ``state.db`` is about to happen.

        Args:
            effect: What is about to be done, dag-cbor types; the outcome is recorded under the same op id.
        """
        self.intent = self._submit(self.draft.as_intent(effect), None)

    def progress(self, done: int, total: int | None = None, unit: str = "", note: str = "") -> None:
        """Report progress, and stop here if the caller cancelled.

        Raises:
            Cancelled: The caller asked to stop.
        """
        self.check_cancelled()
        if self._progress is not None:
            self._progress(Progress(done, total, unit, note))

    def check_cancelled(self) -> None:
        """Stop here if the caller cancelled.

        Raises:
            Cancelled: The caller asked to stop.
        """
        if self._cancelled is not None and self._cancelled.is_set():
            raise Cancelled(f"{self.operation.name} was cancelled before it took effect")
