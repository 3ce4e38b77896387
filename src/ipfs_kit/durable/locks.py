"""Locks between processes: ``flock`` with a bounded, fair wait that names the holder.

The kernel queues blocked ``flock`` calls and wakes them in turn; polling with ``LOCK_NB`` loses to whoever polls more
often (decision 2). A lock belongs to an open file description, so the kernel releases it when the last descriptor
closes, however the process ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from ipfs_kit.durable import faults
from ipfs_kit.durable.files import PathLike, storage_failed
from ipfs_kit.errors import InvalidName, LockTimeout, StorageFailed

if TYPE_CHECKING:
    from types import TracebackType

# One page-cache write per exclusive acquisition, padded so that a shorter text never leaves an older one's tail.
_HOLDER_BYTES: Final = 240
_LEASE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z")


class Holder(NamedTuple):
    """Who wrote its name into a lock file last."""

    pid: int
    command: str
    alive: bool

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})" + ("" if self.alive else ", which has ended")


class _Waiter(threading.Thread):
    """Blocks in ``flock`` for a caller that may give up; then it alone owns the descriptor and closes it."""

    def __init__(self, fd: int, operation: int) -> None:
        super().__init__(name="ipfs-kit-lock-wait", daemon=True)
        self._fd = fd
        self._operation = operation
        self._guard = threading.Lock()
        self._abandoned = False
        self.done = threading.Event()
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            while True:
                try:
                    fcntl.flock(self._fd, self._operation)
                    break
                except InterruptedError:
                    continue
        except OSError as exc:
            self.error = exc
        with self._guard:
            if self._abandoned:
                os.close(self._fd)
            else:
                self.done.set()

    def abandon(self) -> bool:
        """Give up; False when the lock came in meanwhile and is the caller's after all."""
        with self._guard:
            if self.done.is_set():
                return False
            self._abandoned = True
            return True


class Held:
    """Releases its lock at the end of a ``with`` block."""

    __slots__ = ("_lock",)

    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def __enter__(self) -> FileLock:
        return self._lock

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


class FileLock:
    """One ``flock`` on one file; each object is held by one owner at a time, whichever thread it is in.

    Threads that share the object queue for it; it is not re-entrant. Forked children inherit nothing: the descriptor
    is closed in the child without unlocking the parent.

    Args:
        path: The lock file; created when absent, never removed.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = os.fspath(path)
        self._mutex = threading.Lock()
        self._fd = -1
        self._pid = os.getpid()
        self._held = False

    @property
    def held(self) -> bool:
        """Whether some thread of this process holds the lock through this object."""
        return self._held and self._pid == os.getpid()

    def acquire(self, timeout_s: float | None = 30.0, shared: bool = False) -> Held:
        """Take the lock, waiting in the kernel's queue.

        Args:
            timeout_s: Longest wait in seconds; 0 tries once, None waits for ever.
            shared: Allow other shared holders.

        Returns:
            A guard for ``with lock.acquire(5):``; it may be ignored and ``release`` called instead.

        Raises:
            LockTimeout: Somebody held it past the limit; the message names the holder.
            StorageFailed: The lock file cannot be opened.
        """
        self._after_fork()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._mutex.acquire(timeout=-1 if timeout_s is None else timeout_s):
            raise LockTimeout(
                f"{self.path} is held by another thread of this process for more than {timeout_s:g} s",
                path=self.path,
                pid=os.getpid(),
            )
        try:
            self._lock(fcntl.LOCK_SH if shared else fcntl.LOCK_EX, deadline, timeout_s)
            if not shared:
                self._write_holder()
            self._held = True
        except BaseException:
            self._mutex.release()
            raise
        return Held(self)

    def try_acquire(self, shared: bool = False) -> bool:
        """Take the lock if nobody is in the way.

        Returns:
            True when it is now held.
        """
        try:
            self.acquire(0, shared)
        except LockTimeout:
            return False
        return True

    def release(self) -> None:
        """Let go; the descriptor stays open for the next acquisition."""
        if not self._held:
            raise StorageFailed(f"{self.path} is not held", path=self.path)
        self._held = False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        finally:
            self._mutex.release()

    def close(self) -> None:
        """Release and close; the object may be used again."""
        if self._held:
            self.release()
        with self._mutex:
            if self._fd >= 0:
                fd, self._fd = self._fd, -1
                os.close(fd)

    def orphan(self) -> None:
        """In a forked child: close the inherited descriptor, which leaves the parent's lock alone."""
        self._after_fork()

    def holder(self) -> Holder | None:
        """The last exclusive holder that wrote its name, or None."""
        return read_holder(self.path)

    def _lock(self, operation: int, deadline: float | None, timeout_s: float | None) -> None:
        try:
            if self._fd < 0:
                if faults.hook is not None:
                    faults.hook("lock", self.path)
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._fd, operation | fcntl.LOCK_NB)
                return
            except OSError as exc:
                if exc.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
            if deadline is not None and deadline <= time.monotonic():
                raise self._timeout(timeout_s)
            self._wait(operation, deadline, timeout_s)
        except OSError as exc:
            raise storage_failed("lock", self.path, exc) from exc

    def _wait(self, operation: int, deadline: float | None, timeout_s: float | None) -> None:
        waiter = _Waiter(self._fd, operation)
        waiter.start()
        try:
            arrived = waiter.done.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except BaseException:
            # Interrupted by a signal handler: hand the descriptor over, or give back a lock that came in.
            if waiter.abandon():
                self._fd = -1
            else:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            raise
        if not arrived and waiter.abandon():
            self._fd = -1
            raise self._timeout(timeout_s)
        if waiter.error is not None:
            raise waiter.error

    def _timeout(self, timeout_s: float | None) -> LockTimeout:
        holder = self.holder()
        who = str(holder) if holder is not None else "another process"
        return LockTimeout(
            f"{self.path} is held by {who}; waited {timeout_s or 0:g} s: try again or raise --lock-timeout",
            path=self.path,
            pid=holder.pid if holder is not None else None,
        )

    def _write_holder(self) -> None:
        text = _holder_text(os.getpid())
        try:
            os.pwrite(self._fd, text, 0)
        except OSError as exc:
            # A full disk must not stop a lock: the name is a courtesy to whoever waits.
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                fcntl.flock(self._fd, fcntl.LOCK_UN)
                raise storage_failed("lock", self.path, exc) from exc

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
            self._held = False
            self._mutex = threading.Lock()
            self._pid = os.getpid()

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_text_of: dict[int, bytes] = {}


def _holder_text(pid: int) -> bytes:
    text = _text_of.get(pid)
    if text is None:
        command = _program()
        line = f"{pid} {''.join(c if c.isprintable() else '?' for c in command)}"
        raw = line.encode("utf-8", "replace")[: _HOLDER_BYTES - 1]
        text = raw.ljust(_HOLDER_BYTES - 1) + b"\n"
        _text_of.clear()
        _text_of[pid] = text
    return text


def _program() -> str:
    """What runs, without its arguments: they name paths, and a lock file stays in the clear for ever."""
    given = sys.argv[0] if sys.argv else ""
    if given in ("", "-c", "-m"):
        return os.path.basename(sys.executable) or "python"
    name = os.path.basename(given)
    return os.path.basename(os.path.dirname(given)) if name == "__main__.py" else name


def read_holder(path: PathLike) -> Holder | None:
    """Read who last took a lock file exclusively.

    Args:
        path: The lock file.

    Returns:
        The holder, or None when nobody has written a name.
    """
    try:
        with open(path, "rb") as file:
            line = file.read(_HOLDER_BYTES)
    except OSError:
        return None
    pid, _, command = line.decode("utf-8", "replace").strip().partition(" ")
    if not pid.isdigit():
        return None
    return Holder(int(pid), command, os.path.exists(f"/proc/{pid}"))


class Lease(FileLock):
    """A named exclusive right to one kind of maintenance on a store, given up when the process ends.

    Args:
        path: The store's directory.
        name: Lower-case name of the work, for example ``"gc"``; the file is ``<name>.lock``.
    """

    def __init__(self, path: PathLike, name: str) -> None:
        if not _LEASE_NAME.match(name):
            raise InvalidName(f"{name!r} is no lease name: use lower-case letters, digits, dots and dashes")
        super().__init__(os.path.join(os.fspath(path), f"{name}.lock"))
        self.name = name
