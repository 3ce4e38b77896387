"""Sampling of recorded reads: one in so many is recorded, the others are counted (docs/design/009-spine-gaps.md)."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

from ipfs_kit.errors import KitError
from ipfs_kit.ledger import Draft
from ipfs_kit.ledger.record import BUFFERED, BULK, new_op_id
from ipfs_kit.ledger.select import Where
from ipfs_kit.ledger.streams.settings import sampled_streams

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

LEFT_OUT: Final = "ledger.reads_left_out"
"""What the counts are recorded as, one record an operation; nobody can call it."""
ONE_IN: Final = "one_in"
"""Key of ``ext``: a recorded read stands for about so many."""
SAMPLED: Final = "sampled"
"""The ack of a read that was answered and counted, not recorded."""


class Sampling:
    """Which reads of a process are recorded, and how many were not.

    Of each operation the first read is recorded and then every nth, so that the same calls leave the same records.

    Args:
        engine: The open store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._token = -1
        self._rates: dict[str, int] = {}
        self._seen: Counter[str] = Counter()
        self._left_out: Counter[tuple[str, int]] = Counter()
        self._guard = threading.Lock()

    def leaves_out(self, draft: Draft) -> bool:
        """Whether a read that succeeded is only counted; one that is recorded learns what it stands for."""
        token = self._engine.sealed_names.token  # the dispatcher asked for it when this call began
        if token != self._token:
            self._token, self._rates = token, sampled_streams(self._engine.state)
        one_in = self._rates.get(draft.stream) if self._rates else None
        if one_in is None:
            return False
        with self._guard:
            seen = self._seen[draft.operation]
            self._seen[draft.operation] += 1
            if seen % one_in:
                self._left_out[draft.operation, one_in] += 1
                return True
        draft.ext = draft.ext | {ONE_IN: one_in}
        return False

    def settle(self) -> None:
        """Record what was left out since it was last recorded."""
        if not self._left_out:
            return
        with self._guard:
            counts, self._left_out = self._left_out, Counter()
        for (operation, one_in), count in sorted(counts.items()):
            try:
                self._engine.ledger.submit(self._draft(operation, one_in, count))
            except KitError:
                with self._guard:
                    self._left_out[operation, one_in] += count
                raise
        self._engine.ledger.flush()  # buffered, they would not yet be seen by who asks next

    def counted(self, since_ns: int | None = None, until_ns: int | None = None) -> dict[str, int]:
        """Reads that were left out, by operation.

        Args:
            since_ns: Recorded at or after, nanoseconds since 1970.
            until_ns: Recorded before.
        """
        found: Counter[str] = Counter()
        where = Where(operation=frozenset({LEFT_OUT}), since_ns=since_ns, until_ns=until_ns)
        for _, record in self._engine.ledger.select(BULK, where):
            args = self._engine.ledger.open_record(record).args
            if args:
                found[str(args["operation"])] += int(args["left_out"])
        return dict(found)

    def _draft(self, operation: str, one_in: int, count: int) -> Draft:
        """The op: done by the store itself and about no person, so that nothing in it is sealed."""
        return Draft(
            op_id=new_op_id(self._engine.clock(), os.urandom),
            time_ns=0,
            actor=self._engine.ledger.node,
            surface="system",
            operation=LEFT_OUT,
            log=BULK,
            ack=BUFFERED,
            stream="ledger",
            args={"operation": operation, "left_out": count, ONE_IN: one_in},
        )
