"""Entry of the ``ipfs-kit`` command: global options, one operation, its rendering, its exit status."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import SURFACE_CODES, ErrorKind, InternalError, InvalidInput, KitError, StorageFailed
from ipfs_kit.surfaces.cli.commands import COMMANDS, GROUPS, Command, find

EXIT_INTERRUPTED = 130
"""Shell convention for a process ended by SIGINT."""
EXIT_PIPE = 141
"""Shell convention for a process ended by SIGPIPE."""


@dataclass(slots=True)
class Globals:
    """Options that stand before or after the command.

    Args:
        store: Store directory; None means the environment or the default.
        json: Print results as JSON.
        quiet: No progress and no notes.
        lock_timeout_s: Seconds to wait for another process's lock.
        read_only: Open the store for reading only; nothing is recorded.
    """

    store: str | None = None
    json: bool = False
    quiet: bool = False
    lock_timeout_s: float = 30.0
    read_only: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: Words after the program's name; those of the process when left out.

    Returns:
        Exit status: 0, or the code of the error's kind.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    options = Globals()
    _take_standard_descriptors()
    try:
        status = _run(words, options)
        sys.stdout.flush()
        return status
    except KitError as error:
        return _fail(error, options)
    except BrokenPipeError:
        # The reader went away: what is left to print has nobody to read it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        sys.stderr.write("ipfs-kit: interrupted; 'ipfs-kit ledger tail' shows what was done\n")
        return EXIT_INTERRUPTED
    except OSError as exc:
        # Operations raise KitErrors: what comes here is the terminal, a full device behind stdout, or the store's path.
        about = f" {exc.filename}" if exc.filename else " its output"
        return _fail(StorageFailed(f"the command could not use{about}: {exc.strerror}"), options)
    except Exception as exc:
        at = traceback.extract_tb(exc.__traceback__)[-1]
        place = f"{os.path.basename(at.filename)}:{at.lineno}"
        return _fail(InternalError(f"unexpected {type(exc).__name__} at {place}: {exc}; please report this"), options)


def _take_standard_descriptors() -> None:
    """Give closed standard streams a null device: else a file of the store gets their number and stray output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            taken = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(taken, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 - for good


def _run(words: list[str], options: Globals) -> int:
    rest = _take_globals(words, options)
    if not rest or rest[0] in {"help", "-h", "--help"}:
        return _help(rest[1:])
    if rest[0] in {"--version", "version"}:
        from ipfs_kit._version import __version__

        sys.stdout.write(f"ipfs-kit {__version__}\n")
        return 0
    found = find(rest)
    if found is None:
        return _unknown(rest)
    key, command, arguments = found
    if not command.operation and command.pick is None:
        return _program(key[0], list(arguments), options)
    from ipfs_kit.surfaces.cli.call import run_operation

    return run_operation(key, command, list(arguments), options)


def _take_globals(words: list[str], options: Globals) -> list[str]:
    """Split off global options wherever they stand before ``--``; one meaning on every command."""
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            return [*rest, "--", *queue]
        name, eq, inline = word.partition("=")
        if name in {"--store", "--lock-timeout"}:
            if not eq and not queue:
                raise InvalidInput(f"{name} needs a value")
            value = inline if eq else queue.pop(0)
            if name == "--store":
                options.store = value
            else:
                options.lock_timeout_s = _seconds(value)
        elif word == "--json":
            options.json = True
        elif word == "--quiet":
            options.quiet = True
        elif word == "--read-only":
            options.read_only = True
        else:
            rest.append(word)
    return rest


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError as exc:
        raise InvalidInput(f"--lock-timeout takes seconds, not {text!r}") from exc
    if not 0 <= value <= 86_400:
        raise InvalidInput("--lock-timeout takes 0 to 86400 seconds")
    return value


def _program(name: str, arguments: list[str], options: Globals) -> int:
    if name == "mcp":
        from ipfs_kit.surfaces.mcp.stdio import run_stdio

        return run_stdio(arguments, options.store, options.lock_timeout_s, read_only=options.read_only)
    if name == "serve":
        from ipfs_kit.surfaces.http.serve import run_serve

        return run_serve(arguments, options.store, options.lock_timeout_s, read_only=options.read_only)
    if name == "mount":
        from ipfs_kit.surfaces.fuse.command import run_mount

        return run_mount(arguments, options)
    if name == "observe":
        from ipfs_kit.surfaces.cli.observe import run_observe

        return run_observe(arguments, options)
    if name == "witness":
        from ipfs_kit.surfaces.witness.serve import run_witness

        return run_witness(arguments)
    from ipfs_kit.surfaces.cli.completion import print_completion

    return print_completion(arguments)


def _help(words: list[str]) -> int:
    from ipfs_kit.surfaces.cli.help import command_help, overview

    found = find(words) if words else None
    if found is not None:
        sys.stdout.write(command_help(found[0], found[1]))
    else:
        sys.stdout.write(overview(words[0] if words and words[0] in GROUPS else None))
    return 0


def _unknown(words: list[str]) -> NoReturn:
    import difflib

    if words[0] in GROUPS:
        verbs = [key[1] for key in COMMANDS if key[0] == words[0] and len(key) == 2]
        raise InvalidInput(f"'ipfs-kit {words[0]}' needs one of: {', '.join(verbs)}")
    near = difflib.get_close_matches(words[0], {key[0] for key in COMMANDS}, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InvalidInput(f"there is no command {words[0]!r}{hint} (ipfs-kit help lists all)")


def _fail(error: KitError, options: Globals) -> int:
    code = SURFACE_CODES[error.kind].exit
    if options.json:
        from ipfs_kit.operations.results import to_json

        shown: dict[str, Any] = {
            "error": {"kind": str(error.kind), "message": error.message, "details": to_json(error.details)}
        }
        sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
    else:
        from ipfs_kit.surfaces.text import safe

        sys.stderr.write(f"ipfs-kit: {safe(error.message, lines=True)}\n")
        if error.kind is ErrorKind.CANCELLED:
            from ipfs_kit.surfaces.cli.interrupts import AGAIN

            sys.stderr.write(f"ipfs-kit: {AGAIN}\n")
    return code


__all__ = ["Command", "Globals", "main"]
