"""A pool of killable children, each of which runs one user query (decision 28; ``docs/guide/sql.md``).

The parent never parses the query and never loads the engine: hostile text meets only a process that is about to die.
One idle child stands ready, so that a query does not wait for the engine's import.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import (
    BudgetExceeded,
    Cancelled,
    Denied,
    InternalError,
    InvalidInput,
    KitError,
    MissingExtra,
    Stale,
    Timeout,
    Unavailable,
    Unsupported,
)
from ipfs_kit.ledger import _sandbox_child as child

_ERRORS: Final[Mapping[str, type[KitError]]] = {
    "invalid_input": InvalidInput,
    "denied": Denied,
    "budget_exceeded": BudgetExceeded,
    "timeout": Timeout,
    "missing_extra": MissingExtra,
    "stale": Stale,
    "internal": InternalError,
}
_START_S: Final = 60.0
"""Longest wait for a child's imports on a loaded machine."""
CHECK_S: Final = 0.1
"""How often a query under way looks whether it was cancelled."""
_SQL_BYTES_MAX: Final = 64 * 1024
_PARAMS_BYTES_MAX: Final = 1 << 20
_ASK_MAX: Final = 1 << 20
"""Most ids one query may ask keys or names for, in all."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one query may use.

    Args:
        rows: Most rows returned; more set ``truncated``.
        bytes: Most bytes returned.
        wall_s: Seconds until the child is killed.
        memory_bytes: The engine's memory limit; the process's address space is bounded above it.
        threads: Engine threads.
    """

    rows: int = 10_000
    bytes: int = 16 << 20
    wall_s: float = 10.0
    memory_bytes: int = 512 << 20
    threads: int = 2

    def __post_init__(self) -> None:
        if not (0 < self.rows <= 10_000_000 and 0 < self.bytes <= 1 << 30 and 0 < self.wall_s <= 3600):
            raise InvalidInput("query limits: 1 to 10 million rows, up to 1 GiB, up to an hour")
        if not (16 << 20 <= self.memory_bytes <= 1 << 40 and 1 <= self.threads <= 64):
            raise InvalidInput("query limits: at least 16 MiB of memory and 1 to 64 threads")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a child returned: Arrow IPC streams, the first of them the bare schema message."""

    parts: list[bytearray]
    rows: int
    truncated: bool
    walls: tuple[str, ...]


Lookup = Callable[[list[str]], Mapping[str, bytes | str | None]]


class _Child:
    """One child process and the two ends that tie it to us."""

    def __init__(self) -> None:
        if not sys.executable:
            raise Unsupported("SQL needs a Python executable to start its sandbox, and this process names none")
        ours, theirs = socket.socketpair()
        read_end, self._lifeline = os.pipe()
        script = os.path.abspath(child.__file__)
        environment = {
            "PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC", "MALLOC_ARENA_MAX": "2",
            "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        }  # fmt: skip
        try:
            self._process = subprocess.Popen(  # the command line carries two descriptor numbers, nothing of the query
                [sys.executable, "-I", "-B", script, str(theirs.fileno()), str(read_end)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), read_end),
                close_fds=True,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as exc:
            ours.close()
            os.close(self._lifeline)
            raise Unavailable(f"the SQL sandbox does not start: {exc.strerror}; free memory or processes") from exc
        finally:
            theirs.close()
            os.close(read_end)
        self.sock = ours
        self.born = time.monotonic()

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> int:
        """End it, whatever it does, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self.sock.close()
        status = self._process.wait()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return status

    def reap(self, wait_s: float) -> int:
        """Let it end by itself for a moment, so that its status tells why; then kill it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(wait_s)
        return self.kill() if self._process.returncode is None else self._closed()

    def _closed(self) -> int:
        status = self._process.returncode
        self.kill()
        return status


class Sandbox:
    """Starts, feeds and ends the children; safe to use from any thread.

    Args:
        warm: Children kept ready between queries; 0 starts each one when it is needed.
        concurrent: Most queries at once; more wait for their turn within their own time limit.
    """

    def __init__(self, *, warm: int = 1, concurrent: int = 4) -> None:
        if not (0 <= warm <= 16 and 1 <= concurrent <= 64):
            raise InvalidInput("a sandbox keeps 0 to 16 warm children and runs 1 to 64 queries at once")
        self._warm = warm
        self._turns = threading.BoundedSemaphore(concurrent)
        self._guard = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False
        self._pid = os.getpid()

    def prepare(self) -> None:
        """Start the idle children now; returns at once, they load in the background."""
        while True:
            with self._guard:
                if self._closed or self._pid != os.getpid() or len(self._idle) >= self._warm:
                    return
                self._idle.append(_Child())

    def pids(self) -> list[int]:
        """Process ids of the children alive."""
        with self._guard:
            return [c.pid for c in (*self._idle, *self._busy)]

    def run(
        self,
        request: dict[str, Any],
        tail: bytes | memoryview | None,
        limits: Limits,
        *,
        keys: Lookup | None = None,
        names: Lookup | None = None,
        check: Callable[[], None] | None = None,
    ) -> Answer:
        """Run one query.

        Args:
            request: What ``_sandbox_child`` reads; limits are added here.
            tail: The live tail as an Arrow IPC stream.
            limits: Bounds.
            keys: Gives the sealing keys this principal may use, of the ids a query touches.
            names: Gives the names this principal may read.
            check: Called every ``CHECK_S`` while the child works; what it raises ends the query and its process.

        Raises:
            InvalidInput: The text is not one SELECT that the engine accepts.
            Denied: It asks for something that is walled off.
            Timeout: The time limit passed.
            BudgetExceeded: Memory, or the query itself, went over its bound.
            Stale: A segment went away; take a new snapshot and try again.
            MissingExtra: duckdb, pyarrow or numpy is not installed.
        """
        if len(request["sql"].encode("utf-8", "surrogatepass")) > _SQL_BYTES_MAX:
            raise BudgetExceeded(f"a query has at most {_SQL_BYTES_MAX} bytes")
        if request.get("params") and len(json.dumps(request["params"])) > _PARAMS_BYTES_MAX:
            raise BudgetExceeded(f"the parameters of a query have at most {_PARAMS_BYTES_MAX} bytes")
        if not self._turns.acquire(timeout=limits.wall_s):
            raise Timeout("other queries held every sandbox for the whole time limit: try again")
        try:
            worker = self._take()
            try:
                return self._converse(worker, request, tail, limits, {"keys": keys, "names": names}, check)
            finally:
                worker.kill()
                with self._guard:
                    self._busy.discard(worker)
        finally:
            self._turns.release()
            # After the answer, so that the replacement's imports do not compete with the query.
            self.prepare()

    def close(self) -> None:
        """End every child; queries under way fail with ``Cancelled``."""
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for worker in idle:
            worker.kill()
        for worker in busy:
            with contextlib.suppress(OSError):
                os.kill(worker.pid, signal.SIGKILL)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _take(self) -> _Child:
        while True:
            with self._guard:
                if self._closed:
                    raise Cancelled("the SQL sandbox is closed: open the store again")
                if self._pid != os.getpid():
                    # Children belong to the process that started them; a forked copy starts its own.
                    self._idle, self._busy, self._pid = [], set(), os.getpid()
                worker = self._idle.pop(0) if self._idle else _Child()
                self._busy.add(worker)
            if worker.alive():
                return worker
            # One that already ended still holds its reason (a missing package) in the channel.
            if time.monotonic() - worker.born < _START_S and self._has_words(worker):
                return worker
            worker.kill()
            with self._guard:
                self._busy.discard(worker)

    @staticmethod
    def _has_words(worker: _Child) -> bool:
        worker.sock.settimeout(0.0)
        try:
            return bool(worker.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _converse(
        self, worker: _Child, request: dict[str, Any], tail: bytes | memoryview | None, limits: Limits,
        lookups: dict[str, Lookup | None], check: Callable[[], None] | None,
    ) -> Answer:  # fmt: skip
        try:
            self._expect_ready(worker)
            deadline = time.monotonic() + limits.wall_s
            bounds = {name: getattr(limits, name) for name in Limits.__slots__}
            source = str(Path(child.__file__).parents[2])
            worker.sock.settimeout(limits.wall_s)
            child.send_json(worker.sock, request | {"limits": bounds, "tail": tail is not None, "source": source})
            if tail is not None:
                child.send(worker.sock, child.ARROW, tail)
            return self._listen(worker, deadline, limits, lookups, check)
        except KitError:
            raise  # some of ours are ValueError or KeyError too
        except TimeoutError as exc:
            raise Timeout(
                f"the query ran over {limits.wall_s:g} s and was stopped: narrow it, or raise the limit"
            ) from exc
        except (EOFError, ConnectionError) as exc:
            raise self._obituary(worker, limits) from exc
        except (ValueError, KeyError, UnicodeDecodeError) as exc:
            raise InternalError(f"the SQL sandbox broke its protocol: {exc}") from exc

    def _expect_ready(self, worker: _Child) -> None:
        worker.sock.settimeout(_START_S)
        message = json.loads(child.receive(worker.sock, 1 << 20)[1])
        if "error" in message:
            raise _ERRORS[message["error"]](message["message"])

    def _listen(
        self, worker: _Child, deadline: float, limits: Limits, lookups: dict[str, Lookup | None],
        check: Callable[[], None] | None,
    ) -> Answer:  # fmt: skip
        parts: list[bytearray] = []
        walls: tuple[str, ...] = ()
        size = asked = 0
        size_max = 2 * limits.bytes + (4 << 20)
        while True:
            worker.sock.settimeout(_waited(worker.sock, deadline, check))
            kind, payload = child.receive(worker.sock, size_max)
            if kind == child.ARROW:
                size += len(payload)
                if size > size_max:
                    raise ValueError("more bytes than the limit")
                parts.append(payload)
                continue
            message = json.loads(payload)
            if "ask" in message:
                asked += len(message["ids"])
                if asked > _ASK_MAX:
                    raise BudgetExceeded(f"the query touches more than {_ASK_MAX} subjects: narrow it")
                child.send_json(worker.sock, {"found": _look_up(lookups[message["ask"]], message["ids"])})
            elif "error" in message:
                raise _ERRORS.get(message["error"], InternalError)(message["message"])
            elif "done" in message:
                return Answer(parts, message["rows"], message["truncated"], walls)
            else:
                walls = tuple(message.get("walls", ()))

    def _obituary(self, worker: _Child, limits: Limits) -> KitError:
        """Why a child went without a word."""
        status = worker.reap(5.0)
        if self._closed:
            return Cancelled("the store was closed while the query ran")
        if status in (-signal.SIGALRM, -signal.SIGXCPU):
            return Timeout(f"the query ran over {limits.wall_s:g} s and was stopped: narrow it, or raise the limit")
        if status < 0:
            return BudgetExceeded(
                f"the query's process was ended by signal {-status}, as happens when it needs more than its "
                f"{limits.memory_bytes >> 20} MiB or nests too deeply: narrow it",
                signal=-status,
            )
        return Unavailable(f"the SQL sandbox ended early (status {status}): try again", status=status)


def _waited(sock: socket.socket, deadline: float, check: Callable[[], None] | None) -> float:
    """Wait until the child says something; the seconds left then.

    Raises:
        TimeoutError: It said nothing until the deadline.
    """
    heard = select.poll()
    heard.register(sock, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if heard.poll(1000 * (left if check is None else min(left, CHECK_S))):
            return max(0.001, deadline - time.monotonic())
        if check is not None:
            check()
    raise TimeoutError


def _look_up(lookup: Lookup | None, ids: list[str]) -> dict[str, str | None]:
    found = lookup(ids) if lookup is not None else {}
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value for name, value in found.items()
    }
