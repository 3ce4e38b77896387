"""What a finished command says beside its result, and the exit status it earns."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ipfs_kit.operations.results import Result
from ipfs_kit.surfaces.text import safe

if TYPE_CHECKING:
    from ipfs_kit.surfaces.cli.main import Globals

EXIT_PARTIAL = 8
"""``get`` wrote what it could and left entries out; the table in ``errors`` ends at 7 for failures as a whole."""
PARTIAL = frozenset({"files.get", "store.get"})
"""Operations whose result is incomplete when it lists problems."""
LINES_MAX = 100
"""Entries named on standard error; ``--json`` lists the rest."""


def conclude(name: str, result: Result, options: Globals) -> int:
    """Write notes to standard error and choose the exit status.

    Args:
        name: The operation.
        result: What it returned.
        options: Global options.

    Returns:
        0, or ``EXIT_PARTIAL``.
    """
    if result.op_id is None and not options.json and not options.quiet:
        why = "the store is open for reading only" if options.read_only else result.warning or "this needs no store"
        sys.stderr.write(f"ipfs-kit: nothing was recorded: {why}\n")
    if name not in PARTIAL or not result.value.problems_count:
        return 0
    if not options.json:
        value = result.value
        shown = value.problems[:LINES_MAX]
        lines = [f"ipfs-kit: left out: {safe(f'{p.path}: {p.reason}: {p.detail}'.rstrip(': '))}\n" for p in shown]
        if value.problems_count > len(shown):
            lines.append(f"ipfs-kit: left out: {value.problems_count - len(shown)} more\n")
        sys.stderr.write("".join(lines))
    return EXIT_PARTIAL
