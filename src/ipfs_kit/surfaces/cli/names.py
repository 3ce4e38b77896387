"""Names for shell completion, read straight from ``state.db``: opening a store takes longer than a key press may."""

from __future__ import annotations

import re
import shlex
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from ipfs_kit.operations.store_path import store_path

MOST: Final = 500
"""Names offered at once."""
# Shells expand what they are offered: nothing but these characters may reach them, whatever a damaged store holds.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._/+-]+")
_BUCKETS: Final = (
    "SELECT name FROM buckets WHERE dropped_op IS NULL AND name>=? AND name<?||char(1114111) ORDER BY name LIMIT ?"
)
_REFS: Final = (
    "SELECT refs.name FROM refs JOIN buckets ON buckets.uid=refs.bucket WHERE buckets.name=? AND dropped_op IS NULL "
    "AND live=1 ORDER BY refs.name LIMIT ?"
)


def print_names(arguments: Sequence[str]) -> int:
    """Print what may follow, one word a line; nothing where there is no store to look into.

    Args:
        arguments: The command line up to the cursor, as one word.
    """
    line = arguments[0] if arguments else ""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    word = "" if line[-1:].isspace() or not words else words[-1]
    state = store_path(_store_in(words)) / "state.db"
    try:
        sys.stdout.write("".join(f"{found}\n" for found in _following(state, word)))
    except sqlite3.Error:
        return 1
    return 0


def _store_in(words: Sequence[str]) -> str | None:
    for number, word in enumerate(words):
        if word == "--store" and number + 1 < len(words):
            return words[number + 1]
        if word.startswith("--store="):
            return word.removeprefix("--store=")
    return None


def _following(state: Path, word: str) -> Iterator[str]:
    if not state.exists() or ":" in word:
        return
    bucket, at, ref = word.partition("@")
    with closing(sqlite3.connect(f"{state.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)) as db:
        if at:
            names = (name.partition("/")[2] for (name,) in db.execute(_REFS, (bucket, MOST)))
            yield from (f"{bucket}@{name}" for name in names if name.startswith(ref) and _PLAIN.fullmatch(name))
            return
        for (name,) in db.execute(_BUCKETS, (word, word, MOST)):
            if _PLAIN.fullmatch(name):
                yield name
                yield f"{name}:/"
