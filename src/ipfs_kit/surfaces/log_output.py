"""Where a server's own log lines go; only a server that was asked installs handlers."""

from __future__ import annotations

import logging
import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ipfs_kit.errors import InvalidInput
from ipfs_kit.operations.catalogue import Surface
from ipfs_kit.operations.kit import Kit


def add_options(words: ArgumentParser) -> None:
    """The options that ``log_output`` reads."""
    words.add_argument(
        "--log-to-store", action="store_true", help="record log lines in the stream logs, secrets masked"
    )
    words.add_argument(
        "--log-file", metavar="NAME", help="also write them to this rotating file in the folder of logs (see logs list)"
    )
    words.add_argument("--log-level", metavar="LEVEL", default="INFO", help="lowest level logged (default INFO)")


@contextmanager
def log_output(kit: Kit, options: Namespace, component: str) -> Iterator[None]:
    """Install the handlers asked for while a server runs; at the end every line logged is recorded.

    Args:
        kit: The open store.
        options: Parsed options of ``add_options``.
        component: What the lines are found under.

    Raises:
        InvalidInput: There is no such level, or the store is open for reading only.
    """
    if not options.log_to_store and not options.log_file:
        yield
        return
    from ipfs_kit.monitoring.logs.handler import FileHandler, StreamHandler
    from ipfs_kit.monitoring.logs.lines import LEVELS
    from ipfs_kit.monitoring.logs.places import at, folder
    from ipfs_kit.monitoring.logs.rotate import Limits, RotatingFile

    if options.log_level.upper() not in LEVELS:
        raise InvalidInput(f"--log-level takes one of {', '.join(LEVELS)}, not {options.log_level[:40]!r}")
    if options.log_to_store and kit.engine.read_only:
        raise InvalidInput("--log-to-store needs the store opened for writing: leave out --read-only")
    level = logging.getLevelNamesMapping()[options.log_level.upper()]
    handlers: list[logging.Handler] = []
    if options.log_to_store:

        def append(events: list[dict[str, Any]]) -> object:
            given = {"stream": "logs", "events": events, "ack": "fsync"}
            return kit.call_with("stream.append", given, surface=Surface.SYSTEM)

        handlers.append(StreamHandler(append, component=component, level=level))
    if options.log_file:
        file = RotatingFile(at(folder(os.environ), options.log_file), Limits(), time.time_ns)
        handlers.append(FileHandler(file, component=component, level=level))
    root = logging.getLogger()
    before = root.level
    root.setLevel(min(level, before))
    for handler in handlers:
        root.addHandler(handler)
    logging.getLogger("ipfs_kit.server").info("%s: serving %s", component, kit.engine.path)
    try:
        yield
    finally:
        logging.getLogger("ipfs_kit.server").info("%s: ended", component)
        root.setLevel(before)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
