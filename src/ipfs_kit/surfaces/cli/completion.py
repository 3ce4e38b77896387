"""Shell completion: scripts whose words come from the command table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ipfs_kit.errors import InvalidInput
from ipfs_kit.surfaces.cli.commands import COMMANDS, GROUPS, Command

GLOBALS = ("--store", "--json", "--quiet", "--read-only", "--lock-timeout")


def print_completion(arguments: Sequence[str]) -> int:
    """Print the completion script of a shell.

    Args:
        arguments: The shell's name; or ``words`` and a command line, for the names that may follow.

    Returns:
        Exit status 0.

    Raises:
        InvalidInput: The shell is not one of bash, zsh, fish.
    """
    if arguments[:1] == ["words"]:
        from ipfs_kit.surfaces.cli.names import print_names

        return print_names(arguments[1:])
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
    from ipfs_kit.operations.catalogue import CATALOGUE  # every toolset: only where a script is made

    names = [command.operation] if command.operation else list(command.choices)
    found = {f"--{p.name.replace('_', '-')}" for name in names for p in CATALOGUE[name].params if not p.arg.positional}
    return sorted(found) + list(GLOBALS)


def _bash() -> str:
    return _BASH.format(
        groups=" ".join(GROUPS),
        globals=" ".join(GLOBALS),
        first=" ".join(_first_words()),
        second="\n".join(f"      {group}) words='{' '.join(_second_words(group))}' ;;" for group in GROUPS),
        options="\n".join(
            f"      '{' '.join(key)}') words='{' '.join(_options(command))}' ;;"
            for key, command in COMMANDS.items()
            if command.operation or command.choices
        ),
    )


# Bash parts words at ':' and '@' too: what is already typed of a name is cut off again from what is offered.
_BASH = """\
_ipfs_kit() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} first="" second="" words="" line word cut i skip=0
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [ $skip = 1 ]; then skip=0; continue; fi
    case "${{COMP_WORDS[i]}}" in
      --store|--lock-timeout) skip=1 ;;
      -*) ;;
      *) if [ -z "$first" ]; then first=${{COMP_WORDS[i]}}; elif [ -z "$second" ]; then second=${{COMP_WORDS[i]}}; fi ;;
    esac
  done
  COMPREPLY=()
  if [ $skip = 1 ]; then
    COMPREPLY=($(compgen -f -- "$current"))
    return
  fi
  case " {groups} " in
    *" $first "*) [ -z "$second" ] || first="$first $second" ;;
    *) second=none ;;
  esac
  if [ "${{current#-}}" != "$current" ]; then
    words='{globals}'
    case "$first" in
{options}
    esac
  elif [ -z "$first" ]; then
    words='{first}'
  elif [ -z "$second" ]; then
    case "$first" in
{second}
    esac
  fi
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    return
  fi
  line=${{COMP_LINE:0:${{COMP_POINT:-0}}}}
  [ -n "$line" ] || line="${{COMP_WORDS[*]}}"
  word=${{line##* }}
  COMPREPLY=($(compgen -W "$(ipfs-kit completion words "$line" 2>/dev/null)" -- "$word"))
  case "$current" in
    :|@) cut=$word ;;
    *) cut=${{word%"$current"}} ;;
  esac
  [ -z "$cut" ] || COMPREPLY=("${{COMPREPLY[@]#"$cut"}}")
  COMPREPLY+=($(compgen -f -- "$current"))
}}
complete -o filenames -F _ipfs_kit ipfs-kit
"""


def _zsh() -> str:
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash()


def _fish() -> str:
    lines = [f"complete -c ipfs-kit -n __fish_use_subcommand -f -a '{word}'" for word in _first_words()]
    for group in GROUPS:
        others = " ".join(_second_words(group))
        lines.append(
            f"complete -c ipfs-kit -n '__fish_seen_subcommand_from {group}; and not __fish_seen_subcommand_from {others}' "
            f"-f -a '{others}'"
        )
    for key, command in COMMANDS.items():
        if command.operation or command.choices:
            seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in key)
            names = sorted(set(_options(command)) - set(GLOBALS))
            lines += [f"complete -c ipfs-kit -n '{seen}' -l {name.removeprefix('--')}" for name in names]
    lines += [f"complete -c ipfs-kit -l {name.removeprefix('--')}" for name in GLOBALS]
    known = "(ipfs-kit completion words (commandline -cp | string collect) 2>/dev/null)"
    lines.append(f"complete -c ipfs-kit -n 'not __fish_use_subcommand' -a '{known}'")
    return "\n".join(lines) + "\n"
