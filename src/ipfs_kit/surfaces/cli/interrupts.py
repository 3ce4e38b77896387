"""Ctrl-C on the command line: the first stops the operation where it may stop, the second at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = (
    "run the same command again: what it had stored is not stored twice, and 'ipfs-kit gc' removes what stays unused"
)
"""How to go on after an operation that was stopped before it took effect."""


@contextmanager
def interrupted() -> Iterator[threading.Event]:
    """The event that Ctrl-C sets; long work looks at it between its steps, and its record says ``cancelled``."""
    event = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        sys.stderr.write("\nipfs-kit: stopping; Ctrl-C once more stops at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield event  # whoever started us ignores it, or has a handler of their own
        return
    signal.signal(signal.SIGINT, on_signal)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
