"""Log files rotated by size and age, compressed, and capped in number.

A rotated file keeps its content under a name with the time; it is compressed one rotation later, because a writer in
another process may add to it until it notices.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ipfs_kit.durable import create_idempotent, make_dirs, remove
from ipfs_kit.durable.files import move
from ipfs_kit.durable.locks import FileLock
from ipfs_kit.errors import StorageFailed
from ipfs_kit.monitoring.logs.lines import parse
from ipfs_kit.monitoring.logs.reader import generations, text_of

BYTES_MAX: Final = 16 << 20
AGE_MAX_S: Final = 86_400.0
KEEP: Final = 14
FILE_MODE: Final = 0o600
"""Log lines are for their owner."""
LOCK_TIMEOUT_S: Final = 10.0
LOCK_SUFFIX: Final = ".lock"
COMPRESSED_MAX: Final = 256 << 20
"""A larger file stays as it is: it is compressed in memory."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a log is rotated and what stays.

    Args:
        max_bytes: Rotate when the file is as large.
        max_age_s: Rotate when its first line is as old; None does not look at age.
        keep: Rotated files kept; the oldest beyond are removed.
        compress: Whether rotated files are compressed, one rotation later.
    """

    max_bytes: int = BYTES_MAX
    max_age_s: float | None = AGE_MAX_S
    keep: int = KEEP
    compress: bool = True


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did; names of files."""

    name: str
    rotated_to: str | None
    compressed: list[str]
    removed: list[str]


def born_s(path: Path) -> float | None:
    """When a log's first line was written, by its own words; else when the file was last written to."""
    try:
        with path.open("rb") as stream:
            first = stream.readline(1 << 14)
            changed = os.fstat(stream.fileno()).st_mtime
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageFailed(f"cannot read {path}: {exc.strerror}") from exc
    if not first:
        return None
    told = parse(text_of(first.rstrip(b"\r\n")), changed).get("event_time")
    return changed if told is None else float(told)


def is_due(path: Path, limits: Limits, now_s: float) -> bool:
    """Whether a log is to be rotated."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size == 0:
        return False
    if size >= limits.max_bytes:
        return True
    born = born_s(path) if limits.max_age_s is not None else None
    return born is not None and limits.max_age_s is not None and now_s - born >= limits.max_age_s


def rotate(path: Path, limits: Limits, now_ns: int, *, force: bool = False, inode: int | None = None) -> Rotated:
    """Rotate a log if it is due, compress what was rotated before, and remove what is beyond the cap.

    Args:
        path: The file being written.
        limits: When, and what stays.
        now_ns: The time.
        force: Rotate a log that is not empty, due or not.
        inode: Rotate this very file only: another process may have done it meanwhile.

    Raises:
        StorageFailed: The disk refused; what was not done is done by the next rotation.
        LockTimeout: Another process is rotating it.
    """
    lock = FileLock(str(path) + LOCK_SUFFIX)
    with lock.acquire(LOCK_TIMEOUT_S):
        target: Path | None = None
        here = path.stat() if path.exists() else None
        wanted = here is not None and here.st_size > 0 and inode in (None, here.st_ino)
        if wanted and (force or is_due(path, limits, now_ns / 1e9)):
            target = _free_name(path, now_ns)
            with path.open("rb") as held:
                # Writers hold it shared while they append: whoever comes later finds the name gone and opens anew.
                fcntl.flock(held, fcntl.LOCK_EX)
                move(path, target)
        compressed = _compress(path) if limits.compress else []
        removed = []
        for old in generations(path)[: -limits.keep or None]:
            remove(old)
            removed.append(old.name)
        return Rotated(path.name, target.name if target else None, compressed, removed)


def _free_name(path: Path, now_ns: int) -> Path:
    stamp = datetime.fromtimestamp(now_ns // 1_000 / 1_000_000, UTC).strftime("%Y%m%dT%H%M%S.%f")
    taken = {old.name.removesuffix(".gz") for old in generations(path)}
    for number in range(10_000):
        name = f"{path.name}.{stamp}" + (f"-{number:04}" if number else "")
        if name not in taken:
            return path.with_name(name)
    raise StorageFailed(f"{path.name} was rotated ten thousand times in a microsecond: look at its limits")


def _compress(path: Path) -> list[str]:
    """Compress every rotated file but the newest; a crash leaves the plain file, the compressed one, or both equal."""
    done = []
    for old in generations(path)[:-1]:
        if old.suffix == ".gz" or old.stat().st_size > COMPRESSED_MAX:
            continue
        with old.open("rb") as stream:
            data = gzip.compress(stream.read(), 6, mtime=0)
        create_idempotent(str(old) + ".gz", data, mode=FILE_MODE)
        remove(old)
        done.append(old.name)
    return done


class RotatingFile:
    """A log file that several processes may append to, line by line.

    Args:
        path: The file; its folder is made.
        limits: When it is rotated.
        now_ns: The clock.
    """

    def __init__(self, path: Path, limits: Limits, now_ns: Callable[[], int]) -> None:
        make_dirs(path.parent, 0o700)
        self.path, self.limits, self._now_ns = path, limits, now_ns
        self._guard = threading.Lock()
        self._fd: int | None = None
        self._born_s: float | None = None

    def write(self, line: bytes) -> None:
        """Append one line, rotating first when it is due.

        Raises:
            StorageFailed: The disk refused.
        """
        with self._guard:
            try:
                self._write(line)
            except OSError as exc:
                raise StorageFailed(f"cannot write {self.path}: {exc.strerror}") from exc

    def _write(self, line: bytes) -> None:
        fd = self._held()
        try:
            self._append(fd, line)
        finally:
            if self._fd is not None:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _append(self, fd: int, line: bytes) -> None:
        now_s = self._now_ns() / 1e9
        size, limits = os.fstat(fd).st_size, self.limits
        old = self._born_s is not None and limits.max_age_s is not None and now_s - self._born_s >= limits.max_age_s
        if size and (size + len(line) > limits.max_bytes or old):
            inode = os.fstat(fd).st_ino
            self._close()
            rotate(self.path, limits, self._now_ns(), force=True, inode=inode)
            fd = self._held()
        if self._born_s is None:
            self._born_s = now_s
        data = line + b"\n"
        while data:
            data = data[os.write(fd, data) :]

    def _held(self) -> int:
        """The file that bears the name now, kept from being rotated until the lock is let go.

        Without it a line could go to a file that a follower has just left behind.
        """
        while True:
            fd = self._reopened()
            fcntl.flock(fd, fcntl.LOCK_SH)
            if self._reopened() == fd:
                return fd

    def _reopened(self) -> int:
        """The descriptor of the file that bears the name now."""
        if self._fd is not None:
            try:
                at = os.stat(self.path)
                if at.st_ino == os.fstat(self._fd).st_ino:
                    return self._fd
            except FileNotFoundError:
                self._born_s = None
            self._close()
        self._born_s = born_s(self.path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        return self._fd

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def close(self) -> None:
        """Release the file."""
        with self._guard:
            self._close()
