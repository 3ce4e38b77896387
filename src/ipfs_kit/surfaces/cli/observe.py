"""``ipfs-kit observe``: the operating system tells what changes in watched folders, and each change is recorded."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ipfs_kit.buckets.ignore import Rules, parse_rules
from ipfs_kit.errors import InvalidInput, MissingExtra, StorageFailed
from ipfs_kit.operations.results import to_json
from ipfs_kit.surfaces.cli.main import Globals
from ipfs_kit.surfaces.cli.watching import change_line
from ipfs_kit.surfaces.parsing import Parser
from ipfs_kit.surfaces.text import safe

if TYPE_CHECKING:
    from ipfs_kit.operations.kit import Kit

PATHS_MAX = 1_000
"""More paths than this at once are a storm: the whole folder is compared."""
GATHER_MS = 400
"""Changes that follow each other are gathered for so long at most."""
STEP_MS = 50
RESCAN_S = 600.0
"""A queue of the system may overflow unseen: everything is compared this often besides."""
LOOK_MS = 1_000


def parser() -> Parser:
    """The options of ``ipfs-kit observe``."""
    words = Parser(prog="ipfs-kit observe", description="Follow the watched folders until interrupted.")
    words.add_argument("folder", nargs="*", help="watched folders; all of them when left out")
    words.add_argument("--rescan-s", type=float, default=RESCAN_S, help="seconds after which all is compared again")
    return words


def run_observe(words: Sequence[str], options: Globals) -> int:
    """Follow the watched folders until interrupted.

    Args:
        words: Folders; all watched ones when there are none.
        options: Global options.

    Returns:
        Never in practice; an interrupt is raised.

    Raises:
        MissingExtra: The package that listens to the system is not installed.
        InvalidInput: Nothing is watched.
    """
    chosen = parser().parse_args(list(words))
    if not 1 <= chosen.rescan_s <= 86_400:
        raise InvalidInput("--rescan-s takes 1 to 86400 seconds")
    from ipfs_kit.operations.kit import Kit

    with Kit.open(
        Kit.store_path(options.store), create=False, surface="cli", lock_timeout_s=options.lock_timeout_s
    ) as kit:
        places = {os.path.realpath(os.path.expanduser(each)) for each in chosen.folder}
        watched = {place.path: place.ignore for place in kit.observer.watched().places}
        if unknown := sorted(places - watched.keys()):
            raise InvalidInput(f"{unknown[0]} is not watched: 'ipfs-kit observer watch FOLDER' first")
        if not watched:
            raise InvalidInput("nothing is watched: 'ipfs-kit observer watch FOLDER' first")
        follow(kit, {place: watched[place] for place in sorted(places or watched)}, chosen.rescan_s, options)
    return 0


def follow(kit: Kit, places: Mapping[str, Sequence[str]], rescan_s: float, options: Globals) -> None:
    """Compare folders whenever the system tells of changes in them, and print what changed.

    Args:
        kit: The open store.
        places: Watched folders, absolute, with their rules of what is left out.
        rescan_s: Seconds after which all of them are compared besides.
        options: Global options.
    """
    store = os.path.realpath(kit.engine.path)
    rules = {place: Rules().below(0, parse_rules(lines)) for place, lines in places.items()}

    def wanted(place: str, below: str) -> bool:
        path = os.path.join(place, below)
        return not f"{path}/".startswith(f"{store}/") and not left_out(rules[place], below)

    for place, only in events(tuple(places), rescan_s, wanted):
        found = kit.observer.scan(place, only=only)
        for one in found.changes:
            line = json.dumps(to_json(one), ensure_ascii=False) if options.json else safe(change_line(one))
            sys.stdout.write(line + "\n")
        more = found.added + found.modified + found.deleted - len(found.changes)
        if more and not options.json:
            sys.stdout.write(f"… and {more} more, recorded: ipfs-kit observer changes\n")
        sys.stdout.flush()


def events(
    places: Sequence[str], rescan_s: float, wanted: Callable[[str, str], bool], stop: threading.Event | None = None
) -> Iterator[tuple[str, list[str] | None]]:
    """Folders in which something may have changed, each with the paths below it, or None for all of it.

    Every folder comes once at the beginning, after it is being listened to: nothing falls in between.

    Args:
        places: Folders, absolute.
        rescan_s: Seconds after which every folder comes again with None.
        wanted: Whether a path below a folder is of interest: recording a change must not be a change.
        stop: Ends the iteration when set.

    Raises:
        MissingExtra: The package that listens to the system is not installed.
        StorageFailed: The system does not take so many folders.
    """
    try:
        from watchfiles import watch
    except ModuleNotFoundError as exc:
        raise MissingExtra(
            "following folders needs watchfiles: pip install 'ipfs-kit-py[watch]'", package="watchfiles"
        ) from exc
    looks = max(1, int(rescan_s * 1000 / LOOK_MS))
    try:
        told = watch(
            *places, watch_filter=None, debounce=GATHER_MS, step=STEP_MS, rust_timeout=LOOK_MS, yield_on_timeout=True,
            stop_event=stop, ignore_permission_denied=True, raise_interrupt=True,
        )  # fmt: skip
        quiet = 0
        for round_, changes in enumerate(told):
            if round_ == 0 or quiet >= looks:
                quiet = 0
                yield from ((place, None) for place in places)
            quiet = quiet + 1
            yield from by_place(places, [path for _, path in changes], wanted)
    except OSError as exc:
        raise StorageFailed(
            f"the system does not watch these folders: {exc}; raise fs.inotify.max_user_watches, or compare from time to "
            "time with 'ipfs-kit observer scan'"
        ) from exc


def left_out(rules: Rules, path: str) -> bool:
    """Whether rules leave out a path or a folder it stands in."""
    parts = os.fsencode(path).split(b"/")
    return any(rules.ignores(parts[:depth], True) for depth in range(1, len(parts))) or rules.ignores(parts, False)


def by_place(
    places: Sequence[str], paths: Sequence[str], wanted: Callable[[str, str], bool]
) -> Iterator[tuple[str, list[str] | None]]:
    """Changed paths by the folder they stand in; None for all of a folder when they are too many."""
    for place in places:
        head = place.rstrip("/") + "/"
        found = {path[len(head) :] for path in paths if path.startswith(head)}
        below = sorted(path for path in found if wanted(place, path))
        if place in paths or len(below) > PATHS_MAX:
            yield place, None
        elif below:
            yield place, below
