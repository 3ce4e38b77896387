"""Settings of whole processes that are ours: servers and the command, never the library."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable

SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter: the committer's tenth of a millisecond must not wait five for a busy reader."""


def tune_server() -> None:
    """Favour short waits over throughput, and spare what is loaded for good from every collection of the garbage collector."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()


def run_until_ended(serve: Callable[[], object]) -> None:
    """Run a server; SIGTERM ends it as an interrupt would, so that calls under way are told and the store is closed.

    Args:
        serve: Runs an event loop that treats SIGINT as a cancellation, and returns or raises ``KeyboardInterrupt``.

    Raises:
        KeyboardInterrupt: It was interrupted and not terminated.
    """
    terminated = False

    def terminate(_number: int, _frame: object) -> None:
        nonlocal terminated
        terminated = True
        signal.raise_signal(signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs so, and then no event loop would listen to what ``terminate`` raises.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        serve()
    except KeyboardInterrupt:
        if not terminated:
            raise
    finally:
        signal.signal(signal.SIGTERM, previous)
