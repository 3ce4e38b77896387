"""Folders outside the store, watched: what changed there, by whom, and figures of the whole with what they advise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ipfs_kit.buckets.ignore import Rules, parse_rules
from ipfs_kit.errors import InvalidInput, NotFound, StorageFailed
from ipfs_kit.ledger import Where
from ipfs_kit.ledger.record import BULK
from ipfs_kit.ledger.streams.registry import APPEND, TEXT_MAX, stream_named
from ipfs_kit.monitoring.observer.snapshot import Comparison, Difference, Snapshot
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.observing import PLACES_MAX, UNWATCH, WATCH, Inside, Place
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.stream import append_beside, stream_query
from ipfs_kit.operations.views import iso_time

STREAM = "vfs_observer"
EVENTS_MAX = 10_000
"""Changes of one comparison that are recorded one by one; the others are counted in one event."""
SHOWN_MAX = 1_000
REPEATED_MAX = 100_000
COMPARED, BEGUN = "compared_ns", "begun_at"
HERE = Everywhere("tells of folders of this machine")
KEPT = "what was recorded stays recorded; 'observer unwatch' ends the watching"

Folder = Annotated[str, Arg("the folder", local=True, positional=True)]


@dataclass(frozen=True, slots=True)
class Watched:
    """A watched folder.

    Args:
        path: The folder, absolute.
        bucket: What it was checked out of; None when that was not said.
        ignore: Rules of what is left out.
        since: When it was registered, UTC, ISO 8601.
        compared: When it was last compared; None when its snapshot is gone, and the next comparison begins anew.
        files: Files in the snapshot; None without one.
        folders: Folders in it.
        size: Bytes of the files.
        present: Whether the folder is there.
    """

    path: str
    bucket: str | None
    ignore: list[str]
    since: str
    compared: str | None
    files: int | None
    folders: int | None
    size: int | None
    present: bool


@dataclass(frozen=True, slots=True)
class Observation:
    """One change.

    Args:
        op: Where it is recorded, ``LOG:INDEX``; None in the answer of the comparison that found it.
        time: When it was found, UTC, ISO 8601.
        place: The watched folder; None once erased.
        path: Path below it.
        change: ``added``, ``modified`` or ``deleted``; ``more`` for one event that counts what was not recorded singly.
        origin: ``inside`` when an operation of this store made it, else ``outside``; a file that is gone is ``outside``.
        made_by: The operation that made it, ``LOG:INDEX``.
        size: Bytes after the change.
        details: Its kind, modification time, and what else is known.
    """

    op: str | None
    time: str
    place: str | None
    path: str | None
    change: str | None
    origin: str | None
    made_by: str | None
    size: int | None
    details: dict[str, Any]


@operation(WATCH, Mode.WRITE, "observer:write", irreversible=KEPT, places=HERE)
def observer_watch(
    ctx: Context,
    path: Folder,
    bucket: Annotated[str | None, Arg("what it was checked out of, for example BUCKET:/path")] = None,
    ignore: Annotated[list[str] | None, Arg("rules of what is left out, as in a .kitignore")] = None,
) -> Watched:
    """Watch a folder from now on: what is in it is taken down, and later comparisons tell what changed.

    Raises:
        NotFound: There is no such folder.
    """
    folder = _absolute(path)
    if not os.path.isdir(folder):
        raise NotFound(f"there is no folder {folder}")
    rules = tuple(ignore or ())
    parse_rules(rules)
    others = ctx.engine.observed.places()
    if folder not in others and len(others) >= PLACES_MAX:
        raise InvalidInput(f"{PLACES_MAX} folders are watched: end one with 'ipfs-kit observer unwatch'")
    place = Place(folder, bucket, rules, ctx.draft.time_ns)
    with ctx.engine.observed.snapshot(folder, anew=True) as snapshot:
        _baseline(ctx, place, snapshot)
        ctx.draft.args = {"path": folder, "bucket": bucket, "ignore": list(rules)}
        return _watched(place, snapshot)


@operation(UNWATCH, Mode.WRITE, "observer:write", idempotent=True, irreversible="watch it again", places=HERE)
def observer_unwatch(ctx: Context, path: Folder) -> Watched:
    """End the watching of a folder and remove its snapshot; what was recorded stays.

    Raises:
        NotFound: It is not watched.
    """
    place = ctx.engine.observed.place(_absolute(path))
    ctx.draft.args = {"path": place.path}
    ctx.engine.observed.discard(place.path)
    return _watched(place, None)


@dataclass(frozen=True, slots=True)
class WatchedList:
    """The watched folders, by path."""

    places: list[Watched]


@operation("observer.watched", Mode.READ, "observer:read", places=HERE)
def observer_watched(ctx: Context) -> WatchedList:
    """List the watched folders with what their snapshots hold."""
    found = []
    for place in ctx.engine.observed.places().values():
        if ctx.engine.read_only or not ctx.engine.observed.has_snapshot(place.path):
            found.append(_watched(place, None))
            continue
        with ctx.engine.observed.snapshot(place.path) as snapshot:
            found.append(_watched(place, snapshot))
    return WatchedList(found)


@dataclass(frozen=True, slots=True)
class Comparisons:
    """What a comparison found.

    Args:
        changes: The first changes, up to 1,000; all are recorded.
        added: How many there were.
        modified: The same.
        deleted: The same.
        inside: Those of them that operations of this store made.
        entries: Entries looked at.
        begun: Folders that had no snapshot: what they hold was taken down, what changed before is not known.
        problems: Path and reason of what could not be read, the first 100; it counts as unchanged.
        problems_count: How many in all.
    """

    changes: list[Observation]
    added: int
    modified: int
    deleted: int
    inside: int
    entries: int
    begun: list[str]
    problems: list[tuple[str, str]]
    problems_count: int


@operation("observer.scan", Mode.WRITE, "observer:write", irreversible=KEPT, places=HERE)
def observer_scan(
    ctx: Context,
    path: Annotated[str | None, Arg("the watched folder; every one when left out", local=True, positional=True)] = None,
    only: Annotated[list[str] | None, Arg("look at these paths below it alone, and at all below them")] = None,
) -> Comparisons:
    """Compare watched folders with their snapshots and record each change in the stream ``vfs_observer``.

    A change is recorded once, also when the process is killed in between; after a power failure it may be recorded twice.

    Raises:
        NotFound: The folder is not watched, or not there: a disk that is not mounted must not look like deleted files.
    """
    if only is not None and path is None:
        raise InvalidInput("paths to look at stand below a folder: name it, too")
    observed = ctx.engine.observed
    chosen = list(observed.places().values()) if path is None else [observed.place(_absolute(path))]
    below = None if only is None else [_relative(each) for each in only]
    done = _Done(ctx)
    for place in chosen:
        if not os.path.isdir(place.path):
            if path is not None:
                raise NotFound(f"{place.path} is not there: mount it, or end with 'ipfs-kit observer unwatch'")
            done.missing(place)
            continue
        with observed.snapshot(place.path) as snapshot:
            if snapshot.about(COMPARED) is None:
                _baseline(ctx, place, snapshot)
                done.begun.append(place.path)
            else:
                done.compare(place, snapshot, below)
    return done.result()


@dataclass(frozen=True, slots=True)
class ObservationPage:
    """Changes, newest first; pass ``cursor`` to continue, None when this was the last page."""

    changes: list[Observation]
    cursor: str | None


@operation("observer.changes", Mode.READ, "observer:read", places=HERE)
def observer_changes(
    ctx: Context,
    path: Annotated[str | None, Arg("only this watched folder", positional=True)] = None,
    change: Annotated[Literal["added", "modified", "deleted", "more"] | None, Arg("only this")] = None,
    origin: Annotated[Literal["inside", "outside"] | None, Arg("only what came from there")] = None,
    text: Annotated[str | None, Arg("text that some field must contain, without regard to case")] = None,
    since: Annotated[float | None, Arg("found at or after, seconds since 1970")] = None,
    until: Annotated[float | None, Arg("found before, seconds since 1970")] = None,
    limit: Annotated[int, Arg("most changes to return", minimum=1, maximum=10_000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> ObservationPage:
    """Return recorded changes of watched folders, newest first, over the whole history."""
    given = {"place": None if path is None else _absolute(path), "change": change, "origin": origin}
    match = {name: value for name, value in given.items() if value is not None}
    page = stream_query(ctx, STREAM, since, until, None, match, text, False, limit, cursor)
    return ObservationPage(
        [
            _observation(row.event or {}, row.time or "", row.op, erased=row.erased)
            for row in page.rows
            if row.operation == APPEND
        ],
        page.cursor,
    )


# -- comparing ---------------------------------------------------------------------------------------------------------


class _Done:
    """What comparisons of one call found."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._family = stream_named(STREAM)
        self.shown: list[Observation] = []
        self.counts = {"added": 0, "modified": 0, "deleted": 0, "inside": 0}
        self.met = Comparison()
        self.begun: list[str] = []

    def missing(self, place: Place) -> None:
        """Note a folder that is not there."""
        self.met.problem(os.fsencode(place.path), FileNotFoundError(2, "the folder is not there"))

    def compare(self, place: Place, snapshot: Snapshot, only: list[bytes] | None) -> None:
        """Compare one folder and record what changed.

        The mark is set first, the events are recorded next, the snapshot moves last: after a crash in between the
        events that are there are found by the mark, and not recorded again.
        """
        ctx, now_ns = self._ctx, self._ctx.draft.time_ns
        before_ns = snapshot.about(COMPARED)
        mark = snapshot.about(BEGUN)
        known = set() if mark is None else set(self._recorded(place, mark))
        ctx.engine.ledger.flush(
            BULK
        )  # reads are acknowledged before they are in the log, and they may have written here
        if mark is None:
            snapshot.note(begun_at=ctx.engine.ledger.size(BULK))
        inside = Inside(ctx.engine.ledger, before_ns)
        events: list[dict[str, Any]] = []
        more = {"added": 0, "modified": 0, "deleted": 0}
        with snapshot.transaction():
            for one in self._differences(place, snapshot, only):
                made_by = inside.op_of(place.path, one)
                self.counts[one.change] += 1
                self.counts["inside"] += made_by is not None
                if len(events) == EVENTS_MAX:
                    more[one.change] += 1
                    continue
                event = _event(place, one, made_by)
                if _key(event) not in known:
                    events.append(self._family.check(event))
                if len(self.shown) < SHOWN_MAX:
                    self.shown.append(_observation(event, iso_time(now_ns), None))
            if any(more.values()):
                rest = {"place": place.path, "bucket": place.bucket, "path": "", "change": "more", "details": more}
                events.append(self._family.check(rest))
            append_beside(ctx, self._family, events)
            snapshot.note(compared_ns=now_ns, begun_at=None)

    def _differences(self, place: Place, snapshot: Snapshot, only: list[bytes] | None) -> Iterator[Difference]:
        return snapshot.compare(
            os.fsencode(place.path), now_ns=self._ctx.draft.time_ns, rules=_rules(place),
            without=[os.fsencode(os.path.realpath(self._ctx.engine.path))], only=only, met=self.met,
            check=lambda seen: self._ctx.progress(seen, None, "entries", place.path),
        )  # fmt: skip

    def _recorded(self, place: Place, mark: int) -> Iterator[tuple[Any, ...]]:
        """Keys of events that a comparison recorded before it was cut short."""
        ledger = self._ctx.engine.ledger
        where = Where(stream=frozenset({STREAM}), operation=frozenset({APPEND}))
        for seen, (_, record) in enumerate(ledger.select(BULK, where, mark)):
            if seen >= REPEATED_MAX:
                return
            event = ledger.open_record(record).args
            if event and event.get("place") == place.path:
                yield _key(event)

    def result(self) -> Comparisons:
        """All of it."""
        problems = [(_text(path), why) for path, why in self.met.problems]
        return Comparisons(
            self.shown, **self.counts, entries=self.met.entries, begun=self.begun, problems=problems,
            problems_count=self.met.problems_count,
        )  # fmt: skip


def _baseline(ctx: Context, place: Place, snapshot: Snapshot) -> None:
    met = Comparison()
    with snapshot.transaction():
        found = snapshot.compare(
            os.fsencode(place.path), now_ns=ctx.draft.time_ns, rules=_rules(place),
            without=[os.fsencode(os.path.realpath(ctx.engine.path))], met=met,
            check=lambda seen: ctx.progress(seen, None, "entries", place.path),
        )  # fmt: skip
        for _ in found:  # all of it is how the folder begins
            continue
        if met.problems and met.problems[0][0] == b"":
            raise StorageFailed(f"{place.path} cannot be read: {met.problems[0][1]}")
        snapshot.note(compared_ns=ctx.draft.time_ns, begun_at=None)


def _rules(place: Place) -> Rules:
    return Rules().below(0, parse_rules(place.ignore))


def _event(place: Place, one: Difference, made_by: str | None) -> dict[str, Any]:
    seen = one.after or one.before
    details: dict[str, Any] = {"kind": seen.kind if seen else "unknown"}
    if one.after is not None and one.after.mtime_ns:
        details["mtime_ns"] = one.after.mtime_ns
    if one.before is not None and one.after is not None and (one.before.size, one.before.mtime_ns) == (
        one.after.size, one.after.mtime_ns,
    ):  # fmt: skip
        details["note"] = "size and modification time are the same: permissions, owner, name or quick edits"
    try:
        path = one.path.decode()
    except UnicodeDecodeError:
        path, details["path_hex"] = _text(one.path), one.path.hex()
    return {
        "place": place.path, "bucket": place.bucket, "path": path[:TEXT_MAX], "change": one.change,
        "origin": "outside" if made_by is None else "inside", "op": made_by,
        "size": one.after.size if one.after is not None and one.after.kind != "dir" else None, "details": details,
    }  # fmt: skip


def _key(event: dict[str, Any]) -> tuple[Any, ...]:
    details = event.get("details") or {}
    return (event.get("path", ""), event["change"], event.get("size"), details.get("mtime_ns"), details.get("path_hex"))


def _observation(event: dict[str, Any], time: str, op: str | None, *, erased: bool = False) -> Observation:
    def text(name: str, default: str) -> str | None:
        return None if erased else str(event.get(name, default))

    return Observation(
        op, time, text("place", ""), text("path", ""), text("change", ""), text("origin", "outside"), event.get("op"),
        event.get("size"), event.get("details") or {},
    )  # fmt: skip


def _watched(place: Place, snapshot: Snapshot | None) -> Watched:
    compared = None if snapshot is None else snapshot.about(COMPARED)
    files, folders, size = (None, None, None) if snapshot is None or compared is None else snapshot.figures()
    return Watched(
        place.path, place.bucket, list(place.ignore), iso_time(place.since),
        None if compared is None else iso_time(compared), files, folders, size, os.path.isdir(place.path),
    )  # fmt: skip


def _absolute(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def _relative(path: str) -> bytes:
    made = os.path.normpath(path)
    if os.path.isabs(made) or made.split("/")[0] == ".." or "\0" in made:
        raise InvalidInput(f"{path[:200]!r} does not stand below the folder: give a relative path without '..'")
    return b"" if made == "." else os.fsencode(made)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
