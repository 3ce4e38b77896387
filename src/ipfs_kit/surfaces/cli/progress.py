"""Progress of long work on a terminal: one line on standard error, rewritten in place."""

from __future__ import annotations

import shutil
import sys
import time

from ipfs_kit.operations.context import Progress
from ipfs_kit.surfaces.text import human_size, safe

SHOW_AFTER_S = 0.4
"""Work shorter than this shows nothing."""
REDRAW_S = 0.1
"""At most ten redraws a second."""
BAR_CELLS = 24
"""Width of the bar."""


class Reporter:
    """Draws progress reports; silent when not enabled.

    Args:
        enabled: Whether standard error is a terminal that wants it.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._started_s = time.monotonic()
        self._drawn_s = 0.0
        self._visible = False

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.finish()

    def __call__(self, progress: Progress) -> None:
        """Draw one report, unless the last one is too fresh."""
        now_s = time.monotonic()
        if not self._enabled or now_s - self._started_s < SHOW_AFTER_S or now_s - self._drawn_s < REDRAW_S:
            return
        self._drawn_s, self._visible = now_s, True
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r\x1b[K" + line_of(progress, now_s - self._started_s)[:width])
        sys.stderr.flush()

    def finish(self) -> None:
        """Remove the line."""
        if self._visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._visible = False


def line_of(progress: Progress, elapsed_s: float) -> str:
    """One report as text: bar when the total is known, amount, rate, note.

    Args:
        progress: The report.
        elapsed_s: Seconds since the work began.

    Returns:
        A line without line feed.
    """
    rate = progress.done / elapsed_s if elapsed_s > 0 else 0.0
    if progress.unit == "bytes":
        amount, speed = human_size(progress.done), f"{human_size(int(rate))}/s"
        total = human_size(progress.total) if progress.total else ""
    else:
        amount, speed, total = (
            f"{progress.done:,}",
            f"{rate:,.0f} {progress.unit}/s",
            f"{progress.total:,}" if progress.total else "",
        )
    text = f"{amount} of {total}" if total else amount
    if progress.total:
        share = min(1.0, progress.done / progress.total)
        filled = int(share * BAR_CELLS)
        text = f"[{'#' * filled}{'-' * (BAR_CELLS - filled)}] {share:4.0%} {text}"
    return f"{text}  {speed}  {safe(progress.note)}".rstrip()
