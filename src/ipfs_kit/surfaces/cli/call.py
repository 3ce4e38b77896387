"""Turns words into arguments of one operation, calls it, and renders what it returns."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from ipfs_kit.errors import InvalidInput, NoSpace, NotFound
from ipfs_kit.operations.arguments import Param
from ipfs_kit.operations.catalogue import CATALOGUE, Mode, Operation
from ipfs_kit.surfaces.cli.commands import Command
from ipfs_kit.surfaces.parsing import Parser

if TYPE_CHECKING:
    from pathlib import Path

    from ipfs_kit.operations.kit import Kit
    from ipfs_kit.surfaces.cli.main import Globals

STDIN_BYTES_MAX = 64 << 20
"""Most content read into one argument from a file or standard input (64 MiB); ``add`` and ``put`` stream instead."""

ACK = "--ack"
"""The option that says what to wait for."""
CONTENT = "content"
"""Name of the positional word for content that no parameter has."""


def run_operation(key: tuple[str, ...], command: Command, words: Sequence[str], options: Globals) -> int:
    """Run the operation of a command.

    Args:
        key: The command's words.
        command: Its entry in the table.
        words: What follows them.
        options: Global options.

    Returns:
        Exit status 0, or that of a result with entries left out; errors are raised.
    """
    if {"-h", "--help"} & set(words):
        from ipfs_kit.surfaces.cli.help import command_help

        sys.stdout.write(command_help(key, command))
        return 0
    if command.live and {"-f", "--follow"} & set(words):
        from ipfs_kit.surfaces.cli.follow import run_follow

        return run_follow(key, command, words, options)
    name = command.pick(positional_words(command, words)) if command.pick else command.operation
    operation = CATALOGUE[name]
    namespace = parser_for(key, operation).parse_args(words)
    given = _given(operation, namespace)
    extra = {"idempotency_key": namespace.idempotency_key, "ack": getattr(namespace, "_ack", None)}
    if given.get("ack") == "witnessed":
        # An operation with an acknowledgement of its own has one option for both.
        extra["ack"] = given.pop("ack")
    return _called(operation, given, extra, options)


def _called(operation: Operation, given: dict[str, Any], extra: dict[str, Any], options: Globals) -> int:
    from ipfs_kit.operations.kit import Kit
    from ipfs_kit.surfaces.cli import storeless
    from ipfs_kit.surfaces.cli.interrupts import interrupted
    from ipfs_kit.surfaces.cli.outcome import conclude
    from ipfs_kit.surfaces.cli.progress import Reporter
    from ipfs_kit.surfaces.cli.render import render

    with Reporter(enabled=not options.quiet and not options.json and _draws()) as reporter:
        store = Kit.store_path(options.store)
        if storeless.runs_without(operation.name, given, store, read_only=options.read_only):
            result = storeless.call(operation, given, store, reporter)
            reporter.finish()
            render(operation, result, options.json)
            return conclude(operation.name, result, options)
        with interrupted() as cancelled, _opened(Kit, store, operation, options) as kit:
            result = kit.call_with(operation.name, given, progress=reporter, cancelled=cancelled, **extra)
            reporter.finish()
            render(operation, result, options.json)
    return conclude(operation.name, result, options)


def _opened(kit: type[Kit], store: Path, operation: Operation, options: Globals) -> Kit:
    """Open the store; where there is no room even for that, a command that only reads gets it for reading only."""
    wait_s = options.lock_timeout_s
    try:
        return kit.open(
            store,
            create=operation.name == "store.init",
            read_only=options.read_only,
            surface="cli",
            lock_timeout_s=wait_s,
        )
    except NoSpace:
        if operation.mode is not Mode.READ:
            raise
        sys.stderr.write("ipfs-kit: the disk is full: run 'ipfs-kit gc' or free disk space\n")
        options.read_only = True
        return kit.open(store, read_only=True, surface="cli", lock_timeout_s=wait_s)


def _draws() -> bool:
    """Whether standard error can rewrite a line in place."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def positional_words(command: Command, words: Sequence[str]) -> list[str]:
    """The words that are neither options nor values of options.

    Args:
        command: The command, whose operations say which options take a value.
        words: What follows the command.
    """
    takes_value = {"--idempotency-key", ACK}
    for name in command.choices:
        for param in CATALOGUE[name].params:
            if param.bare is not bool and not param.arg.positional:
                takes_value.add(f"--{param.name.replace('_', '-')}")
                takes_value.add(f"-{param.arg.flag}")
    found, skip = [], False
    for word in words:
        if not skip and not word.startswith("-"):
            found.append(word)
        skip = not skip and word in takes_value
    return found


def parser_for(key: tuple[str, ...], operation: Operation, without: Collection[str] = ()) -> argparse.ArgumentParser:
    """Build the parser of one command from the operation's parameters.

    Args:
        key: The command's words.
        operation: What it calls.
        without: Parameters that are no options of this command.

    Returns:
        A parser that raises ``InvalidInput``.
    """
    parser = Parser(
        prog=f"ipfs-kit {' '.join(key)}", description=operation.description, add_help=False, allow_abbrev=False
    )
    for param in operation.params:
        if param.name in without:
            continue
        if param.arg.positional:
            _add_positional(parser, param)
        else:
            _add_option(parser, param)
    if takes_content(operation):
        parser.add_argument(
            CONTENT,
            nargs="?",
            metavar="FILE|-",
            help="the content; standard input when nothing is given and it is piped",
        )
    repeat = "repeat safely: the same key returns the first result"
    # Reads repeat safely without a key; one given by a script that always does is no error.
    shown = repeat if operation.mode is Mode.WRITE else argparse.SUPPRESS
    parser.add_argument("--idempotency-key", metavar="KEY", help=shown)
    if operation.mode is Mode.WRITE and not any(param.name == "ack" for param in operation.params):
        parser.add_argument(
            ACK, dest="_ack", choices=["fsync", "witnessed"], help="wait for the disk, or for the witnesses too"
        )
    return parser


def takes_content(operation: Operation) -> bool:
    """Whether an operation takes content either as text or as bytes, as ``write`` and ``append`` do."""
    return {"text", "data"} <= {param.name for param in operation.params if param.arg.content}


def _add_positional(parser: argparse.ArgumentParser, param: Param) -> None:
    extra: dict[str, Any] = {} if param.required else {"nargs": "?", "default": argparse.SUPPRESS}
    metavar = "FILE|-" if param.arg.content else param.name.upper()
    parser.add_argument(param.name, metavar=metavar, help=param.arg.help, **extra)


def _add_option(parser: argparse.ArgumentParser, param: Param) -> None:
    names = [f"--{param.name.replace('_', '-')}"]
    if param.arg.flag:
        names.insert(0, f"-{param.arg.flag}")
    if param.bare is bool:
        parser.add_argument(
            *names,
            dest=param.name,
            help=param.arg.help,
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
        )
        return
    extra: dict[str, Any] = {"action": "append"} if get_origin(param.bare) is list else {}
    choices = choices_of(param)
    if choices:
        extra["metavar"] = "{" + ",".join(choices) + "}"
    elif param.arg.content:
        extra["metavar"] = "TEXT" if param.bare is str else "FILE|-"
    else:
        extra["metavar"] = "KEY=VALUE" if get_origin(param.bare) is dict else param.name.upper()
    if get_origin(param.bare) is dict:
        extra["action"] = "append"
    parser.add_argument(
        *names, dest=param.name, help=param.arg.help, default=argparse.SUPPRESS, required=param.required, **extra
    )


def choices_of(param: Param) -> list[str]:
    """The words a parameter allows, or an empty list when it is free."""
    kind = param.bare
    if get_origin(kind) is Literal:
        return [str(choice) for choice in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(member.value) for member in kind]
    return []


def _given(operation: Operation, namespace: argparse.Namespace) -> dict[str, Any]:
    given = {}
    for param in operation.params:
        if hasattr(namespace, param.name):
            given[param.name] = _value(param, getattr(namespace, param.name))
    if takes_content(operation):
        _add_content(operation, given, getattr(namespace, CONTENT))
    return given


def _add_content(operation: Operation, given: dict[str, Any], source: str | None) -> None:
    """Content given by position, else by option, else what is piped in; an empty pipe is empty content."""
    named = any(param.arg.content and param.name in given for param in operation.params)
    if source is not None and named:
        raise InvalidInput("give the content once: as FILE or -, with --data FILE, or with --text TEXT")
    if source is None and not named:
        if sys.stdin.isatty():
            raise InvalidInput("no content: give FILE or - for standard input, --text TEXT, or pipe it in")
        source = "-"
    if source is not None:
        given["data"] = read_source(source)


def _value(param: Param, raw: Any) -> Any:
    kind = param.bare
    if kind is int:
        try:
            return int(raw)
        except ValueError as exc:
            raise InvalidInput(f"--{param.name} takes a whole number, not {raw!r}") from exc
    if kind is float:
        try:
            return float(raw)
        except ValueError as exc:
            raise InvalidInput(f"--{param.name} takes a number, not {raw!r}") from exc
    if get_origin(kind) is dict:
        return dict(_pair(param, item) for item in raw)
    if get_origin(kind) is list and get_origin(get_args(kind)[0]) is dict:
        return [each for item in raw for each in _objects(param, item)]
    if param.arg.content and (kind is bytes or param.arg.positional):
        data = read_source(raw)
        return data if kind is bytes else data.decode("utf-8", "surrogateescape")
    return raw


def _pair(param: Param, text: str) -> tuple[str, Any]:
    name, eq, value = text.partition("=")
    if not eq:
        raise InvalidInput(f"--{param.name} takes KEY=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _objects(param: Param, text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"--{param.name} takes a JSON object, or an array of them: {exc}") from exc
    return value if isinstance(value, list) else [value]


def read_source(name: str) -> bytes:
    """Read content named on the command line: a file, or ``-`` for standard input.

    Raises:
        NotFound: The file cannot be read.
        InvalidInput: It is larger than 64 MiB.
    """
    try:
        if name == "-":
            data = sys.stdin.buffer.read(STDIN_BYTES_MAX + 1)
        else:
            with open(name, "rb") as stream:
                data = stream.read(STDIN_BYTES_MAX + 1)
    except OSError as exc:
        raise NotFound(f"cannot read {os.fspath(name)}: {exc.strerror}") from exc
    if len(data) > STDIN_BYTES_MAX:
        raise InvalidInput(f"{name} is larger than {STDIN_BYTES_MAX} bytes: use add or put, which stream")
    return data
