"""Log files of other programs taken in once: what was taken in is known by the bytes themselves.

The last event of each chunk carries a mark: how many bytes of the log it and everything before it are, and their digest.
A file that begins with these bytes goes on after them, whatever it is called now and whether it is compressed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipfs_kit.monitoring.logs.lines import MESSAGE_MAX, clean, is_continuation, parse
from ipfs_kit.monitoring.logs.reader import LINE_BYTES_MAX, lines_from, text_of
from ipfs_kit.monitoring.logs.redact import LineRedactor

CHUNK: Final = 1_000
MARK: Final = "ingested"
"""Name of the mark among an event's details."""
_GENERATION_MAX: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of a log was taken in.

    Args:
        offset: Bytes.
        lines: Lines.
        digest: SHA-256 of these bytes' lines, hex.
    """

    offset: int
    lines: int
    digest: str

    def as_details(self) -> dict[str, Any]:
        """As recorded."""
        return {MARK: {"bytes": self.offset, "lines": self.lines, "sha256": self.digest}}

    @classmethod
    def of(cls, event: dict[str, Any] | None) -> Mark | None:
        """The mark that an event carries."""
        found = (event or {}).get("details", {}).get(MARK)
        if not isinstance(found, dict) or not all(type(found.get(name)) is int for name in ("bytes", "lines")):
            return None
        return cls(found["bytes"], found["lines"], str(found.get("sha256")))


def trace_of(path: Path, source: str) -> bytes | None:
    """Sixteen bytes that all events of one log share: of its source and its first line; None while it has none."""
    for _, line in lines_from(path, partial=path.suffix == ".gz"):
        return hashlib.sha256(b"log\0" + source.encode("utf-8", "replace") + b"\0" + line).digest()[:16]
    return None


def resume(path: Path, marks: Iterable[Mark]) -> Mark | None:
    """The mark furthest on among those whose bytes this file begins with."""
    wanted = {mark.offset: mark for mark in sorted(marks, key=lambda mark: mark.lines)}
    best = None
    running = hashlib.sha256()
    for count, (after, line) in enumerate(lines_from(path, partial=path.suffix == ".gz"), 1):
        running.update(line + b"\n")
        mark = wanted.get(after)
        if mark is not None and mark.lines == count and mark.digest == running.hexdigest():
            best = mark
        if not wanted or after >= max(wanted):
            break
    return best


def chunks(path: Path, source: str, since: Mark | None, now_s: float) -> Iterator[list[dict[str, Any]]]:
    """The events of a log after a mark, a chunk at a time, the last of each with the next mark.

    Args:
        path: The file, plain or compressed.
        source: Name under which its lines are found.
        since: Where to go on.
        now_s: The time, for forms that leave the year out.
    """
    running, redactor = hashlib.sha256(), LineRedactor()
    skip = 0 if since is None else since.lines
    events: list[dict[str, Any]] = []
    mark: Mark | None = None
    for count, (after, line) in enumerate(lines_from(path, partial=path.suffix == ".gz"), 1):
        running.update(line + b"\n")
        text = redactor.line(text_of(line)[:LINE_BYTES_MAX])
        if count <= skip:
            continue
        if events and is_continuation(text):
            _continue(events[-1], text)
        elif text.strip():
            if len(events) >= CHUNK and mark is not None:
                yield _marked(events, mark)
                events = []
            events.append(parse(text, now_s, source=source, number=count))
        mark = Mark(after, count, running.hexdigest())
    if events and mark is not None:
        yield _marked(events, mark)


def _continue(event: dict[str, Any], text: str) -> None:
    before = event.get("exception", "")
    if len(before) < MESSAGE_MAX:
        event["exception"] = clean(f"{before}\n{text}" if before else text)


def _marked(events: list[dict[str, Any]], mark: Mark) -> list[dict[str, Any]]:
    last = events[-1]
    last["details"] = {**last.get("details", {}), **mark.as_details()}
    return events
