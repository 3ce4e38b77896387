"""Help: an overview by topic, and the page of one command, both derived from the catalogue."""

from __future__ import annotations

import textwrap

from ipfs_kit.errors import SURFACE_CODES
from ipfs_kit.operations.catalogue import CATALOGUE
from ipfs_kit.surfaces.cli.call import parser_for
from ipfs_kit.surfaces.cli.commands import COMMANDS, Command
from ipfs_kit.surfaces.cli.outcome import EXIT_PARTIAL
from ipfs_kit.surfaces.cli.tables import terminal_columns
from ipfs_kit.surfaces.parsing import Parser

_TITLE = """\
usage: ipfs-kit [--store DIR] [--json] [--quiet] [--read-only] [--lock-timeout SECONDS] COMMAND …

Files, versions and the provable record of everything done to them, in one content-addressed store.

"""
_FOOT = """
A path in a bucket is BUCKET:/path; reads also take BUCKET@branch, @tag, @commit, @op:N, @time:T and BUCKET#session.
--read-only opens the store for reading only: changes are refused, and nothing is recorded, which every result says.
The store is --store DIR, else $IPFS_KIT_STORE, else $XDG_DATA_HOME/ipfs-kit.
'ipfs-kit help COMMAND' explains one command.
"""


def overview(group: str | None) -> str:
    """List commands with one line each.

    Args:
        group: Only the commands of this first word.

    Returns:
        Text ending in a line feed.
    """
    lines, room = [], terminal_columns()
    for key, command in COMMANDS.items():
        if group is None or key[0] == group:
            lines.append(_summary_line(" ".join(key), summary_of(command), room))
    codes: dict[int, list[str]] = {}
    for kind, code in SURFACE_CODES.items():
        codes.setdefault(code.exit, []).append(kind.value)
    shown = {code: kinds[0].replace("_", " ") for code, kinds in codes.items()} | {EXIT_PARTIAL: "get left entries out"}
    exits = "\nexit status: 0 done; " + "; ".join(f"{code} {text}" for code, text in sorted(shown.items())) + "\n"
    title, foot = _TITLE, exits + _FOOT
    if room is not None:
        title, foot = ("\n".join(textwrap.fill(line, room - 1) for line in text.split("\n")) for text in (title, foot))
    return title + "\n".join(lines) + "\n" + (foot if group is None else "")


def _summary_line(name: str, summary: str, room: int | None) -> str:
    line = f"  {name:<20} {summary}"
    if room is None or len(line) < room:
        return line
    indent = 23 if room >= 60 else 6
    told = textwrap.fill(summary, room - 1, initial_indent=" " * indent, subsequent_indent=" " * indent)
    return f"  {name:<20} {told.lstrip()}" if indent == 23 else f"  {name}\n{told}"


def summary_of(command: Command) -> str:
    """One line about a command."""
    if command.operation:
        return CATALOGUE[command.operation].summary
    if command.choices:
        return CATALOGUE[command.choices[0]].summary
    return command.help


def command_help(key: tuple[str, ...], command: Command) -> str:
    """The page of one command; verbs that serve two kinds of object show both forms.

    Args:
        key: The command's words.
        command: Its entry in the table.

    Returns:
        Text ending in a line feed.
    """
    names = [command.operation] if command.operation else list(command.choices)
    if not names:
        return program_help(key[0], command)
    pages = [parser_for(key, CATALOGUE[name]).format_help() for name in names]
    if command.live:
        from ipfs_kit.surfaces.cli.follow import parser

        pages.append(parser(key, command).format_help())
    return "\n".join(pages)


def program_help(name: str, command: Command) -> str:
    """The page of a command that is no operation.

    Args:
        name: Its word.
        command: Its entry in the table.

    Returns:
        Text ending in a line feed.
    """
    parser = program_parser(name)
    if parser is not None:
        return parser.format_help()
    return f"usage: ipfs-kit {name} bash|zsh|fish\n\n{command.help}\n"


def program_parser(name: str) -> Parser | None:
    """The options of a command that is no operation; None for the one that takes a shell's name."""
    if name == "mcp":
        from ipfs_kit.surfaces.mcp import stdio

        return stdio.parser()
    if name == "mount":
        from ipfs_kit.surfaces.fuse import command

        return command.parser()
    if name == "observe":
        from ipfs_kit.surfaces.cli import observe

        return observe.parser()
    if name == "witness":
        from ipfs_kit.surfaces.witness import serve as witness

        return witness.parser()
    if name == "serve":
        from ipfs_kit.surfaces.http import serve

        return serve.parser()
    return None
