"""Checks the records of a publication in a confined process (``_records_child``)."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import IntegrityError, InternalError, Unavailable
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ledger.check import Head
from ipfs_kit.ledger.columns import need_pyarrow
from ipfs_kit.ledger.published import _records_child
from ipfs_kit.ledger.published.layout import group_spans

_MEMORY: Final = 1 << 30
_WALL_S: Final = 120.0
"""Time allowed beside what the bytes need."""
_BYTES_PER_S: Final = 256 << 10
"""A twentieth of what one core of a small machine checks."""
_LINE_BYTES_MAX: Final = 1 << 20
_WAIT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class FileChecked:
    """What came of one file.

    Args:
        log: ``main`` or ``bulk``.
        file: Its name.
        records: Records in it.
        fault: What is wrong with it; None when every record is the log's.
    """

    log: str
    file: str
    records: int
    fault: str | None


def check_records(
    directory: str,
    node: str,
    stream: str | None,
    parts: Mapping[str, tuple[Head, Sequence[str]]],
    size: int,
    tick: Callable[[int], None],
    budgets: Budgets = DEFAULT,
) -> Iterator[FileChecked]:
    """Derive every record of Parquet files and compare it with the tiles beside them.

    Args:
        directory: The publication's folder, with ``LOG/tile`` and ``LOG/segments``.
        node: The node that every record must be of.
        stream: The stream that every record must be of; None for any.
        parts: Signed head and file names by log; files of one span must be given together.
        size: Bytes of the files, for the time limit.
        tick: Told of files done, also while waiting; raises to cancel.
        budgets: Bounds.

    Raises:
        IntegrityError: The process died on a file, or ran out of time or memory.
        MissingExtra: pyarrow is not installed.
    """
    need_pyarrow()
    wanted = sum(len(names) for _, names in parts.values())
    if not wanted:
        return
    request = {
        "source": str(Path(_records_child.__file__).parents[3]),
        "directory": os.path.abspath(directory),
        "node": node,
        "stream": stream,
        "memory_bytes": _MEMORY,
        "wall_s": _WALL_S + size / _BYTES_PER_S,
        "bounds": {
            "rows": budgets.publication_group_rows,
            "bytes": budgets.publication_group_bytes,
            "span": budgets.publication_span_records,
        },
        "logs": [
            {
                "log": log,
                "size": head.size,
                "root": head.root.hex(),
                "spans": [[*span, files] for span, files in sorted(group_spans(names).items())],
            }
            for log, (head, names) in parts.items()
        ],
    }
    process = _start()
    try:
        done = _Count()
        for message in _answers(process, request, lambda: tick(done.value)):
            if "file" in message:
                done.value += 1
                yield FileChecked(message["log"], message["file"], int(message.get("records", 0)), message.get("fault"))
            if message.get("done"):
                if done.value != wanted:
                    raise InternalError(f"{done.value} of {wanted} files were checked")
                return
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _start() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # the command line carries nothing of the publication
            [sys.executable, "-I", "-B", os.path.abspath(_records_child.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                "PATH": os.defpath,
                "LC_ALL": "C.UTF-8",
                "MALLOC_ARENA_MAX": "2",
                "ARROW_DEFAULT_MEMORY_POOL": "system",
                "OMP_NUM_THREADS": "1",
            },
            cwd="/",
            start_new_session=True,
        )
    except OSError as exc:
        raise Unavailable(f"the process that checks records does not start: {exc.strerror}") from exc


class _Count:
    """How many files were answered for."""

    value = 0


def _answers(
    process: subprocess.Popen[bytes], request: dict[str, Any], tick: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError as exc:
        raise IntegrityError("the process that checks records ended before it began: try again") from exc
    for line in _lines(process.stdout, tick):
        try:
            yield json.loads(line)
        except ValueError as exc:
            raise InternalError("the process that checks records broke its protocol") from exc
    status = process.wait()
    raise IntegrityError(
        f"the process that checks records ended (status {status}): one of the files brings its reader "
        "down or needs more memory or time than is allowed; nothing was imported"
    )


def _lines(pipe: IO[bytes], tick: Callable[[], None]) -> Iterator[bytes]:
    held = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            tick()
            if not selector.select(_WAIT_S):
                continue
            part = os.read(pipe.fileno(), 1 << 16)
            if not part:
                return
            *lines, held = (held + part).split(b"\n")
            if len(held) > _LINE_BYTES_MAX:
                raise InternalError("the process that checks records broke its protocol")
            yield from lines
