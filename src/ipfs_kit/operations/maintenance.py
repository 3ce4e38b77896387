"""Work done beside the calls of a long-lived process: snapshots, batches by age, sealing, expiry.

Sealing is CPU-bound Python, so it runs in a process of its own (decision 11); killed at any moment, it leaves the
records where they were.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from ipfs_kit.errors import KitError
from ipfs_kit.ledger import record_holds, retention
from ipfs_kit.ledger.batches import Querying
from ipfs_kit.ledger.record import LOGS
from ipfs_kit.ledger.segments import SealPolicy
from ipfs_kit.ledger.streams.settings import streams_in_force
from ipfs_kit.operations.batching import Batcher

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

_log = logging.getLogger(__name__)

INTERVAL_S = 5.0
"""How often a process looks for idle sessions and full tails."""
EXPIRY_FIRST_S = 60.0
"""How long after its start a process first looks for records beyond the limits of their streams."""
EXPIRY_INTERVAL_S = 3_600.0
"""And how often from then on."""
SEAL_AGE_MIN_S = 3_600.0
"""A tail is not sealed for its age sooner than this, whatever the limits of streams."""
STOP_S = 10.0
"""How long a sealing process may take to end when its store is closed."""


class Maintenance:
    """One background thread of an engine.

    Args:
        engine: The open store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._sealer: subprocess.Popen[bytes] | None = None
        self._can_seal = True
        self._batcher = Batcher(engine)
        self._expiry_at = time.monotonic() + EXPIRY_FIRST_S
        self._thread = threading.Thread(target=self._run, name="ipfs-kit-maintenance", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a sealing process under way is stopped."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._sealer is not None and self._sealer.poll() is None:
            self._sealer.terminate()
            try:
                self._sealer.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._sealer.kill()
                self._sealer.wait()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                if not self._engine.has_room() or self._engine.freeze:
                    continue
                self._engine.forget_erased()
                self._engine.keep_reserve()
                self._engine.buckets.checkpoint()
                self._engine.sampling.settle()
                self._batcher.run(time.time_ns())
                self._seal_if_due()
            except KitError as error:
                if self._engine.failed:
                    return
                _log.warning("upkeep will be tried again: %s", error.message)

    def _seal_if_due(self) -> None:
        if self._sealer is not None:
            if self._sealer.poll() is None:
                return
            # A failed sealing (no pyarrow, a full disk) is not repeated every few seconds.
            self._can_seal = self._sealer.returncode == 0
            self._sealer = None
        segments = self._engine.ledger.segments
        expiry = time.monotonic() >= self._expiry_at and self._expiry_due()
        if expiry or (
            self._can_seal and any(segments.due(log, seal_policy(self._engine.state), time.time_ns()) for log in LOGS)
        ):
            command = [
                sys.executable,
                "-m",
                "ipfs_kit.operations.maintenance",
                str(self._engine.path),
                *(["expire"] if expiry else []),
            ]
            self._sealer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def _expiry_due(self) -> bool:
        """Whether anything may expire now; asked once an interval."""
        self._expiry_at = time.monotonic() + EXPIRY_INTERVAL_S
        engine, now_ns = self._engine, time.time_ns()
        holds = record_holds.active(engine.state, now_ns)
        found = retention.plan(engine.ledger.segments.registered(), streams_in_force(engine.state), holds, now_ns)
        return any(verdict.hold is None for verdict in found)


def seal_policy(state: Querying) -> SealPolicy:
    """When a tail is sealed: sooner than by default where a stream keeps its records for less than four weeks.

    Args:
        state: ``state.db``.
    """
    default = SealPolicy()
    kept = [stream.keep_s for stream in streams_in_force(state).values() if stream.keep_s is not None]
    # Only what is sealed expires, a file at a time: a quarter of the time kept is how late that may be.
    age_s = min([default.age_s, *(max(SEAL_AGE_MIN_S, keep_s / 4) for keep_s in kept)])
    return SealPolicy(age_s=age_s)


def seal_due(path: str, *, expire: bool = False) -> int:
    """Seal what is due in a store, and let expire what may; the body of the sealing process.

    Args:
        path: The store's directory.
        expire: Whether to call ``ledger.expire`` as well.

    Returns:
        Exit status: 0, or 1 when sealing is not possible now.
    """
    from ipfs_kit.operations.kit import Kit

    with Kit.open(path, create=False, surface="system") as kit:
        try:
            for log in LOGS:
                kit.engine.ledger.segments.seal(log, seal_policy(kit.engine.state), time.time_ns())
        except KitError as error:
            _log.warning("sealing stopped: %s", error.message)
            return 1
        try:
            while expire and kit.call("ledger.expire").value.more:
                continue
        except KitError as error:
            _log.warning("what is beyond its limits stays for now: %s", error.message)
    return 0


if __name__ == "__main__":
    sys.exit(seal_due(sys.argv[1], expire="expire" in sys.argv[2:]))
