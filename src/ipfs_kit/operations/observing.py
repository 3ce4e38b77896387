"""Watched folders as the ledger has them, and which operations wrote files there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import Lease, make_dirs, rebuildable
from ipfs_kit.errors import IntegrityError, NotFound
from ipfs_kit.ledger import Ledger, Where
from ipfs_kit.ledger.record import INTENT, LOGS, MAIN
from ipfs_kit.monitoring.observer.snapshot import Difference, Snapshot
from ipfs_kit.operations.catalogue import CATALOGUE

WATCH: Final = "observer.watch"
UNWATCH: Final = "observer.unwatch"
REGISTERED_MAX: Final = 10_000
"""Registrations read; folders registered before so many others are forgotten."""
PLACES_MAX: Final = 1_000
WRITERS: Final = frozenset({"destination", "output", "directory"})
"""Arguments that name what an operation writes on this machine."""
CLOCK_SLACK_NS: Final = 20_000_000
"""Times of files lag behind the clock by up to a tick of the kernel."""
CALLS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Place:
    """A watched folder.

    Args:
        path: The folder, absolute.
        bucket: What it was checked out of; None when that was not said.
        ignore: Rules of what is left out.
        since: When it was registered, nanoseconds since 1970.
    """

    path: str
    bucket: str | None
    ignore: tuple[str, ...]
    since: int


class Observed:
    """The watched folders of one store; their snapshots lie in ``cache/observer`` and may be removed at any time.

    Args:
        directory: The store's directory.
        ledger: Its ledger, which alone knows what is watched.
        lock_timeout_s: Longest wait for another process that compares the same folder.
    """

    name = "snapshots"

    def __init__(self, directory: str | os.PathLike[str], ledger: Ledger, lock_timeout_s: float) -> None:
        self._folder = os.path.join(os.fspath(directory), "cache", "observer")
        self._ledger = ledger
        self._timeout_s = lock_timeout_s

    def places(self) -> dict[str, Place]:
        """The watched folders by path: what the newest record about each says; an erased one is forgotten."""
        found: dict[str, Place | None] = {}
        where = Where(operation=frozenset({WATCH, UNWATCH}), status=frozenset({"ok"}))
        for seen, (_, record) in enumerate(self._ledger.select(MAIN, where, newest_first=True)):
            if seen >= REGISTERED_MAX:
                break
            args = self._ledger.open_record(record).args
            path = args.get("path") if args and record.phase != INTENT else None
            if args is None or not isinstance(path, str) or path in found:
                continue
            ignore = tuple(str(rule) for rule in args.get("ignore") or ())
            place = Place(path, args.get("bucket"), ignore, record.time_ns)
            found[path] = place if record.operation == WATCH else None
        return {path: place for path, place in sorted(found.items()) if place is not None}

    def place(self, path: str) -> Place:
        """One watched folder.

        Raises:
            NotFound: It is not watched.
        """
        found = self.places().get(path)
        if found is None:
            raise NotFound(f"{path} is not watched: 'ipfs-kit observer watch FOLDER' begins")
        return found

    @contextmanager
    def snapshot(self, path: str, *, anew: bool = False) -> Iterator[Snapshot]:
        """The snapshot of a folder, for this caller alone.

        Args:
            path: The folder.
            anew: Discard what is there.
        """
        with self._lease(path):
            if anew:
                rebuildable.discard(self._file(path))
            try:
                with Snapshot(self._file(path)) as opened:
                    yield opened
            except IntegrityError as exc:
                rebuildable.discard(self._file(path))
                raise IntegrityError(
                    f"the snapshot of {path} was damaged and is discarded: compare again, which begins anew"
                ) from exc

    def discard(self, path: str) -> None:
        """Remove the snapshot of a folder."""
        with self._lease(path):
            rebuildable.discard(self._file(path))

    @contextmanager
    def _lease(self, path: str) -> Iterator[None]:
        make_dirs(self._folder, 0o700)
        lease = Lease(self._folder, _name(path))
        lease.acquire(self._timeout_s)
        try:
            yield
        finally:
            lease.release()

    def has_snapshot(self, path: str) -> bool:
        """Whether a folder was compared before, as far as the cache knows."""
        return os.path.exists(self._file(path))

    def erase(self, subject: str) -> int:
        """Remove the snapshots of folders that nobody watches any more, since the person who did is forgotten."""
        return self.sweep()

    def residues(self, needles: Sequence[bytes]) -> Iterator[str]:
        """Nothing of its own: files are searched as files."""
        return iter(())

    def sweep(self) -> int:
        """Remove snapshots of folders that are not watched; how many went."""
        kept = {f"{_name(path)}.db" for path in self.places()} if os.path.isdir(self._folder) else set()
        gone = [name for name in _databases(self._folder) if name not in kept]
        for name in gone:
            rebuildable.discard(os.path.join(self._folder, name))
        return len(gone)

    def _file(self, path: str) -> str:
        return os.path.join(self._folder, f"{_name(path)}.db")


def _name(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _databases(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".db"))
    except FileNotFoundError:
        return []


@dataclass(frozen=True, slots=True)
class Call:
    """An operation that wrote to this machine's disk.

    Args:
        op: ``LOG:INDEX``.
        start_ns: When it began.
        stop_ns: When it had ended.
        target: What it wrote, as the caller named it.
    """

    op: str
    start_ns: int
    stop_ns: int
    target: str


class Inside:
    """Tells changes that operations of this store made from those that other programs made.

    A change is an operation's when it stands at or below what the operation wrote and its times fall into the call.

    Args:
        ledger: The ledger.
        since_ns: The comparison before; None when there was none.
    """

    def __init__(self, ledger: Ledger, since_ns: int | None) -> None:
        self._ledger, self._since_ns = ledger, since_ns
        self._calls: list[Call] | None = None

    def op_of(self, place: str, difference: Difference) -> str | None:
        """The operation that made a change; None when none did, or when that cannot be told: a file that is gone."""
        seen = difference.after
        if seen is None or not (seen.ctime_ns or seen.mtime_ns):
            return None
        if self._calls is None:
            self._calls = list(self._found())
        path = os.path.join(place, os.fsdecode(difference.path))
        for call in self._calls:
            within = call.start_ns - CLOCK_SLACK_NS <= seen.ctime_ns <= call.stop_ns + CLOCK_SLACK_NS
            if within and _below(path, call.target):
                return call.op
        return None

    def _found(self) -> Iterator[Call]:
        chosen = {
            name: [param.name for param in CATALOGUE[name].params if param.arg.local and param.name in WRITERS]
            for name in CATALOGUE
        }
        operations = frozenset(name for name, arguments in chosen.items() if arguments)
        # A call that ended before the last comparison cannot have made what is new since.
        since = None if self._since_ns is None else self._since_ns - CLOCK_SLACK_NS
        where = Where(operation=operations, since_ns=since)
        for log in LOGS:
            for count, (index, record) in enumerate(self._ledger.select(log, where, newest_first=True)):
                if count >= CALLS_MAX:
                    break
                args = self._ledger.open_record(record).args or {}
                for name in chosen[record.operation]:
                    if isinstance(args.get(name), str) and record.phase != INTENT:
                        start = record.time_ns - record.duration_us * 1000  # it is recorded when it has ended
                        yield Call(f"{log}:{index}", start, record.time_ns, args[name])


def _below(path: str, target: str) -> bool:
    """Whether a path is a target or stands below it; a relative target may stand anywhere."""
    wanted = os.path.normpath(os.path.expanduser(target))
    if os.path.isabs(wanted):
        return path == wanted or path.startswith(wanted.rstrip("/") + "/")
    while wanted.startswith("../"):
        wanted = wanted[3:]
    return wanted in (".", "..") or f"/{wanted}/" in f"{path}/"
