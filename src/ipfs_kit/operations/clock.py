"""The store's clock: wall time, watched for steps (decision 23).

Records carry wall time, which people and other machines understand, but which an administrator, a time server or a
restored virtual machine can set. A step does not change the order of ops, which is their index; it is recorded, so that
whoever reads times knows where they jump.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ipfs_kit.errors import KitError
from ipfs_kit.ledger.record import MAIN, Draft, new_op_id

if TYPE_CHECKING:
    from ipfs_kit.ledger.ledger import Ledger

_log = logging.getLogger(__name__)

STEP_NS = 1_000_000_000
"""How far wall and monotonic clock must part to be recorded; slewing by a time server moves both."""
STEP_OPERATION = "system.clock_step"
"""What a step is recorded as; nobody can call it."""
_PENDING_MAX = 64
"""Steps waiting to be recorded: a clock that jumps faster than the disk follows is told by these."""
_READINGS_MAX = 16
"""Attempts to read both clocks together in a process that keeps being suspended between the two."""


def elapsed_ns() -> int:
    """Nanoseconds on a clock that nobody sets and that goes on while the machine sleeps."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the wall clock.

    Args:
        expected_ns: What it would show had it not been set.
        found_ns: What it showed.
    """

    expected_ns: int
    found_ns: int


class Clock:
    """Wall time in nanoseconds since 1970 by calling it; tells a watcher when the wall clock was set.

    Args:
        wall: The wall clock.
        monotonic: A clock that is never set.
    """

    def __init__(self, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = elapsed_ns) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._watcher: Callable[[Step], None] | None = None
        self._guard = threading.Lock()

    def watch(self, watcher: Callable[[Step], None] | None) -> None:
        """Choose who is told of steps; it is called on whichever thread asks for the time and must not wait."""
        self._watcher = watcher

    def __call__(self) -> int:
        """Read the wall clock, looking whether it was set since it was last read."""
        now_ns = self._wall()
        if abs(now_ns - self._monotonic() - self._offset) > STEP_NS:
            self._look_again()
        return now_ns

    def _look_again(self) -> None:
        """Tell a step from a process that was suspended between reading one clock and the other."""
        with self._guard:
            for _ in range(_READINGS_MAX):
                before = self._monotonic()
                found_ns = self._wall()
                if self._monotonic() - before < STEP_NS // 10:
                    break
            else:
                return
            expected_ns = before + self._offset
            if abs(found_ns - expected_ns) <= STEP_NS:
                return
            self._offset = found_ns - before
        if self._watcher is not None:
            self._watcher(Step(expected_ns, found_ns))


class StepRecorder:
    """Records the steps of a clock in the main log; the op that saw one never waits for it.

    Args:
        ledger: The store's ledger, open for writing.
        clock: Its clock.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._pending: deque[Step] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._guard = threading.Lock()

    def start(self) -> None:
        """Watch the clock; a newest record from the future means that it was set back while nobody watched."""
        self._clock.watch(self.note)
        state = self._ledger.state(MAIN)
        if state.next_index > state.sealed_upto:
            recorded_ns = self._ledger.record_at(MAIN, state.next_index - 1).time_ns
            now_ns = self._clock()
            if recorded_ns - now_ns > STEP_NS:
                self.note(Step(recorded_ns, now_ns))

    def note(self, step: Step) -> None:
        """Have a step recorded soon, on another thread: the caller may be inside a transaction."""
        with self._guard:
            if self._closed or len(self._pending) >= _PENDING_MAX:
                return
            self._pending.append(step)
            if self._thread is None:
                self._thread = threading.Thread(target=self._record_pending, name="ipfs-kit-clock-step", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Record what was noted and stop watching; called before the ledger is closed."""
        self._clock.watch(None)
        with self._guard:
            self._closed = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def _record_pending(self) -> None:
        while True:
            with self._guard:
                if not self._pending:
                    self._thread = None
                    return
                step = self._pending.popleft()
            try:
                self._ledger.submit(self._draft(step)).result()
            except KitError as error:
                # Times only: no state depends on it, and the ops around it show the same jump.
                _log.warning("a step of the wall clock could not be recorded: %s", error.message)

    def _draft(self, step: Step) -> Draft:
        """The op: done by the store itself and about no person, so that nothing in it is sealed."""
        return Draft(
            op_id=new_op_id(step.found_ns, os.urandom),
            time_ns=0,
            actor=self._ledger.node,
            surface="system",
            operation=STEP_OPERATION,
            stream="system",
            effect={"expected": step.expected_ns, "found": step.found_ns},
        )
