"""Settings of whole processes that are ours: servers and the command, never the library."""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL_S = 0.0005
"""How long a thread may hold the interpreter: the committer's tenth of a millisecond must not wait five for a busy reader."""


def tune_server() -> None:
    """Favour short waits over throughput, and spare what is loaded for good from every collection of the garbage collector."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
