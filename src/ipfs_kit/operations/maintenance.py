"""Work done beside the calls of a long-lived process: snapshots of idle sessions, sealing of full tails.

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
from ipfs_kit.ledger.record import LOGS
from ipfs_kit.ledger.segments import SealPolicy

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

_log = logging.getLogger(__name__)

INTERVAL_S = 5.0
"""How often a process looks for idle sessions and full tails."""
STOP_S = 10.0
"""How long a sealing process may take to end when its store is closed."""


class Maintenance:
    """One background thread of an engine.

    Args:
        engine: The open store.
        policy: When a tail is worth a segment.
    """

    def __init__(self, engine: Engine, policy: SealPolicy = SealPolicy()) -> None:  # noqa: B008 - frozen
        self._engine = engine
        self._policy = policy
        self._stop = threading.Event()
        self._sealer: subprocess.Popen[bytes] | None = None
        self._can_seal = True
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
                if not self._engine.has_room():
                    continue
                self._engine.keep_reserve()
                self._engine.buckets.checkpoint()
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
        if self._can_seal and any(segments.due(log, self._policy, time.time_ns()) for log in LOGS):
            command = [sys.executable, "-m", "ipfs_kit.operations.maintenance", str(self._engine.path)]
            self._sealer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def seal_due(path: str) -> int:
    """Seal what is due in a store; the body of the sealing process.

    Args:
        path: The store's directory.

    Returns:
        Exit status: 0, or 1 when sealing is not possible now.
    """
    from ipfs_kit.operations.kit import Kit

    with Kit.open(path, create=False, surface="system") as kit:
        try:
            for log in LOGS:
                kit.engine.ledger.segments.seal(log, SealPolicy(), time.time_ns())
        except KitError as error:
            _log.warning("sealing stopped: %s", error.message)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(seal_due(sys.argv[1]))
