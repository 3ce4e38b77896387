"""Help: an overview by topic, and the page of one command, both derived from the catalogue."""

from __future__ import annotations

from ipfs_kit.errors import SURFACE_CODES
from ipfs_kit.operations.catalogue import CATALOGUE
from ipfs_kit.surfaces.cli.call import parser_for
from ipfs_kit.surfaces.cli.commands import COMMANDS, Command

_TITLE = """\
usage: ipfs-kit [--store DIR] [--json] [--quiet] [--lock-timeout SECONDS] COMMAND …

Files, versions and the provable record of everything done to them, in one content-addressed store.

"""
_FOOT = """
A path in a bucket is BUCKET:/path; reads also take BUCKET@branch, @tag, @commit, @op:N, @time:T and BUCKET#session.
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
    lines = []
    for key, command in COMMANDS.items():
        if group is None or key[0] == group:
            lines.append(f"  {' '.join(key):<20} {summary_of(command)}")
    codes: dict[int, list[str]] = {}
    for kind, code in SURFACE_CODES.items():
        codes.setdefault(code.exit, []).append(kind.value)
    exits = (
        "\nexit status: 0 done; "
        + "; ".join(f"{code} {kinds[0].replace('_', ' ')}" for code, kinds in sorted(codes.items()))
        + "\n"
    )
    return _TITLE + "\n".join(lines) + "\n" + (exits + _FOOT if group is None else "")


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
        return f"usage: ipfs-kit {' '.join(key)}\n\n{command.help}\n"
    return "\n".join(parser_for(key, CATALOGUE[name]).format_help() for name in names)
