"""Fault injection at every durable call: count them, make the n-th fail, or die there (``durable.faults.hook``)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ipfs_kit.durable import faults

KILL_VARIABLE = "IPFS_KIT_TEST_KILL_AT"
"""Environment variable that ``install_from_environment`` reads in a child: the number of the call to die at."""


@dataclass(slots=True)
class Recorder:
    """Counts durable calls and, at a chosen one, fails or dies.

    Args:
        fail_at: Number of the first call to fail, from 1; None for none.
        kill_at: Number of the call to end the process at, as ``kill -9`` does; None for none.
        error: The errno of a failing call.
        sticky: Every later call fails too, as on a full disk.
        match: Only operations for which this is true are counted.
    """

    fail_at: int | None = None
    kill_at: int | None = None
    error: int = errno.EIO
    sticky: bool = False
    match: Callable[[str, str], bool] | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, operation: str, path: str) -> None:
        """Take note of one call, then let it pass, fail or be the last."""
        if self.match is not None and not self.match(operation, path):
            return
        self.calls.append((operation, path))
        number = len(self.calls)
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail_at is not None and (number == self.fail_at or (self.sticky and number > self.fail_at)):
            raise OSError(self.error, os.strerror(self.error), path)


@contextmanager
def injected(recorder: Recorder) -> Iterator[Recorder]:
    """Install a recorder for a block; state files must be opened inside it for SQLite's calls to be seen."""
    before = faults.hook
    faults.hook = recorder
    try:
        yield recorder
    finally:
        faults.hook = before


def install_from_environment() -> Recorder | None:
    """In a child process: die at the durable call that the environment names.

    Returns:
        The recorder, or None when the variable is not set.
    """
    text = os.environ.get(KILL_VARIABLE)
    if text is None:
        return None
    recorder = Recorder(kill_at=int(text))
    faults.hook = recorder
    return recorder


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child of the crash sweep ended.

    Args:
        killed: It died at the chosen call.
        code: Its exit status otherwise.
        output: What it wrote before: its acknowledgements.
        errors: What it wrote to standard error.
    """

    killed: bool
    code: int
    output: str
    errors: str


def run_until_call(script: str, arguments: Sequence[str], number: int, *, timeout_s: float = 60.0) -> ChildEnd:
    """Run a script in a process that is killed at its n-th durable call.

    The script must call ``install_from_environment`` first, and flush its standard output after each acknowledgement.

    Args:
        script: Python source.
        arguments: Passed as ``sys.argv[1:]``.
        number: The call to die at, from 1.
        timeout_s: Bound on the run.
    """
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, KILL_VARIABLE: str(number)},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return ChildEnd(done.returncode == -signal.SIGKILL, done.returncode, done.stdout, done.stderr)


def fork_until_call(work: Callable[[Callable[[str], None]], None], number: int) -> ChildEnd:
    """Run a function in a forked child that is killed at its n-th durable call; much faster than a new interpreter.

    The parent must hold no open store and run no other threads.

    Args:
        work: Receives a function that passes an acknowledgement to the parent, line by line.
        number: The call to die at, from 1.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.close(reading)
            faults.hook = Recorder(kill_at=number)
            work(lambda line: _send(writing, line))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        output = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return ChildEnd(code == -signal.SIGKILL, code, output, "")


def _send(fd: int, line: str) -> None:
    os.write(fd, line.encode() + b"\n")
