"""Shell completion: scripts whose words come from the command table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ipfs_kit.errors import InvalidInput
from ipfs_kit.operations.catalogue import CATALOGUE
from ipfs_kit.surfaces.cli.commands import COMMANDS, GROUPS, Command

GLOBALS = ("--store", "--json", "--quiet", "--read-only", "--lock-timeout")


def print_completion(arguments: Sequence[str]) -> int:
    """Print the completion script of a shell.

    Args:
        arguments: The shell's name.

    Returns:
        Exit status 0.

    Raises:
        InvalidInput: The shell is not one of bash, zsh, fish.
    """
    shells = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if len(arguments) != 1 or arguments[0] not in shells:
        raise InvalidInput('completion takes one of bash, zsh, fish; for example: eval "$(ipfs-kit completion bash)"')
    sys.stdout.write(shells[arguments[0]]())
    return 0


def _first_words() -> list[str]:
    return sorted({key[0] for key in COMMANDS})


def _second_words(group: str) -> list[str]:
    return [key[1] for key in COMMANDS if key[0] == group and len(key) == 2]


def _options(command: Command) -> list[str]:
    names = [command.operation] if command.operation else list(command.choices)
    found = {f"--{p.name.replace('_', '-')}" for name in names for p in CATALOGUE[name].params if not p.arg.positional}
    return sorted(found) + list(GLOBALS)


def _bash() -> str:
    cases = [f"    {group}) words='{' '.join(_second_words(group))}' ;;" for group in GROUPS]
    options = [
        f"    '{' '.join(key)}') words='{' '.join(_options(command))}' ;;"
        for key, command in COMMANDS.items()
        if command.operation
    ]
    return "\n".join(
        [
            "_ipfs_kit() {",
            '  local current=${COMP_WORDS[COMP_CWORD]} first=${COMP_WORDS[1]} words=""',
            '  if [ "$COMP_CWORD" = 1 ]; then',
            f"    words='{' '.join(_first_words())} {' '.join(GLOBALS)}'",
            '  elif [ "${current#-}" != "$current" ]; then',
            '    local key=$first; case " '
            + " ".join(GROUPS)
            + ' " in *" $first "*) key="$first ${COMP_WORDS[2]}" ;; esac',
            '    case "$key" in',
            *options,
            "    esac",
            '  elif [ "$COMP_CWORD" = 2 ]; then',
            '    case "$first" in',
            *cases,
            "    esac",
            "  fi",
            '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
            '  [ -n "$words" ] || COMPREPLY=($(compgen -f -- "$current"))',
            "}",
            "complete -o filenames -F _ipfs_kit ipfs-kit",
            "",
        ]
    )


def _zsh() -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash()


def _fish() -> str:
    lines = [f"complete -c ipfs-kit -n __fish_use_subcommand -a '{word}'" for word in _first_words()]
    for group in GROUPS:
        lines += [
            f"complete -c ipfs-kit -n '__fish_seen_subcommand_from {group}' -a '{word}'"
            for word in _second_words(group)
        ]
    lines += [f"complete -c ipfs-kit -l {name.removeprefix('--')}" for name in GLOBALS]
    return "\n".join(lines) + "\n"
