"""``--follow``: prints ops as they are recorded, or sends them on, until interrupted."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ipfs_kit.errors import InvalidInput, Timeout, Unavailable
from ipfs_kit.operations.catalogue import CATALOGUE
from ipfs_kit.operations.follow import FEED_ROWS, FEED_WAIT_S, SEND, Follower
from ipfs_kit.operations.results import to_json
from ipfs_kit.operations.toolsets.ledger import OpInfo
from ipfs_kit.surfaces.cli.call import parser_for
from ipfs_kit.surfaces.cli.commands import Command
from ipfs_kit.surfaces.cli.main import Globals
from ipfs_kit.surfaces.text import safe

if TYPE_CHECKING:
    from ipfs_kit.operations.kit import Kit

_OURS = {"limit", "wait_s", "last"}
"""Arguments that following decides itself, or that have another name on the command line."""


def parser(key: tuple[str, ...], command: Command) -> argparse.ArgumentParser:
    """The options of a command with ``--follow``.

    Args:
        key: The command's words.
        command: Its entry in the table.

    Returns:
        A parser that raises ``InvalidInput``.
    """
    words = parser_for((*key, "--follow"), CATALOGUE[command.live], without=_OURS)
    if command.live == SEND:
        words.description = "Send what waits, then what is recorded, by any process, until interrupted."
        words.add_argument("-f", "--follow", action="store_true", required=True, help="keep sending what is recorded")
        words.add_argument("--every-s", type=float, default=5.0, help="seconds between two sendings (default 5)")
        return words
    words.description = "Print ops as they are recorded, by any process, until interrupted; --json prints one a line."
    words.add_argument("-f", "--follow", action="store_true", required=True, help="keep printing what is recorded")
    words.add_argument("-n", "--limit", type=int, default=20, metavar="LIMIT", help="ops to begin with (default 20)")
    return words


def run_follow(key: tuple[str, ...], command: Command, words: Sequence[str], options: Globals) -> int:
    """Follow until interrupted or until the reader of standard output has gone.

    Args:
        key: The command's words.
        command: Its entry in the table.
        words: What follows them.
        options: Global options.

    Returns:
        Never in practice; an interrupt is raised.
    """
    from ipfs_kit.operations.kit import Kit

    chosen = parser(key, command).parse_args(words)
    given = {
        param.name: getattr(chosen, param.name)
        for param in CATALOGUE[command.live].params
        if param.name not in _OURS and hasattr(chosen, param.name)
    }
    with Kit.open(
        Kit.store_path(options.store),
        create=False,
        read_only=options.read_only,
        surface="cli",
        lock_timeout_s=options.lock_timeout_s,
    ) as kit:
        if command.live == SEND:
            _keep_sending(kit, given, chosen.every_s, options)
        extra = {"limit": 1} if "cursor" in given else {"last": chosen.limit}
        while True:
            page = kit.call_with(command.live, {**given, **extra}).value
            for row in page.ops:
                line = json.dumps(to_json(row), ensure_ascii=False) if options.json else safe(line_of(row))
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
            given["cursor"] = page.cursor
            extra = {"limit": FEED_ROWS, "wait_s": FEED_WAIT_S}


def _keep_sending(kit: Kit, given: Mapping[str, Any], every_s: float, options: Globals) -> NoReturn:
    """Send to a receiver whenever something was recorded; one that is away is tried again, and misses nothing."""
    if not 0.1 <= every_s <= 3_600:
        raise InvalidInput("--every-s takes 0.1 to 3600 seconds")
    pause, follower = threading.Event(), None
    while True:
        try:
            sent = kit.call_with(SEND, given).value
        except (Timeout, Unavailable) as error:
            follower = None  # what waits is sent as soon as the receiver is back, without waiting for more
            sys.stderr.write(f"ipfs-kit: {safe(error.message, lines=True)}\n")
        else:
            follower = Follower.of(kit.engine.ledger, None, None, sent.cursor)
            shown = json.dumps(to_json(sent), ensure_ascii=False)
            sys.stdout.write(f"{shown if options.json else f'sent {sent.records} records'}\n")
            sys.stdout.flush()
        pause.wait(every_s)
        while follower is not None and not follower.wait(1, FEED_WAIT_S, lambda: None):
            continue


def line_of(row: OpInfo) -> str:
    """One op as a line: place, time, what was called, how it ended, what it was about or what an event says."""
    about = row.target or ""
    if row.operation == "stream.append":
        about = f"{row.stream} {json.dumps(to_json(row.args), ensure_ascii=False)}"
    status = row.status if row.phase == "whole" else f"{row.status} ({row.phase})"
    failed = f": {row.error}" if row.error else ""
    return (
        f"{row.op:<12} {row.time[:23]}Z  {row.operation:<20} {status:<8} {row.actor_name or row.actor}  {about}{failed}"
    )
