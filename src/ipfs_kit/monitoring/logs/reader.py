"""Log files read across rotation, truncation and compression, in bounded memory.

A position names a file by what it begins with and by its inode, so reading goes on where it stopped also after the file
was renamed or compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from ipfs_kit.errors import FormatError, InvalidInput, NotFound, StorageFailed

LINE_BYTES_MAX: Final = 1 << 16
"""A longer line is cut here; the rest of it is passed over."""
HEAD_BYTES: Final = 64
"""Bytes at most by which a file is recognised."""
POLL_S: Final = 0.2
GENERATIONS_MAX: Final = 10_000
_LOOKS: Final = 16
"""Looks at the files of a log that is being rotated before giving up."""
_GENERATION: Final = re.compile(r"\.(\d{8}T\d{6}\.\d{6}(?:-\d{1,4})?|\d{1,6}|\d{8}|\d{4}-\d\d-\d\d)(\.gz)?")
_OURS: Final = re.compile(r"(.{1,200})\.\d{8}T\d{6}\.\d{6}(?:-\d{1,4})?(?:\.gz)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log was read.

    Args:
        inode: Inode of the file.
        offset: Bytes read of it, uncompressed.
        length: Bytes at its start by which it is recognised.
        head: Digest of these.
    """

    inode: int
    offset: int
    length: int
    head: str

    def __str__(self) -> str:
        return f"{self.inode}.{self.offset}.{self.length}.{self.head}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """A position from its text.

        Raises:
            InvalidInput: It is none.
        """
        parts = text.split(".")
        if len(parts) != 4 or not all(part.isdecimal() and len(part) < 20 for part in parts[:3]) or len(parts[3]) != 16:
            raise InvalidInput("a cursor is what a page returned")
        return cls(int(parts[0]), int(parts[1]), min(int(parts[2]), HEAD_BYTES), parts[3])


@dataclass(frozen=True, slots=True)
class Read:
    """Lines read and where reading stopped."""

    lines: list[str]
    position: Position | None


def generations(path: Path) -> list[Path]:
    """Rotated files of a log, oldest first; where one is there both plain and compressed, the plain one.

    Known are ours (``LOG.20261124T104900.000000``), numbers (a higher one is older) and dates, each with or without ``.gz``.
    """
    found: dict[str, tuple[tuple[int, str], Path]] = {}
    try:
        names = sorted(os.listdir(path.parent))[:GENERATIONS_MAX]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageFailed(f"cannot list {path.parent}: {exc.strerror}") from exc
    for name in names:
        rest = name[len(path.name) :] if name.startswith(path.name) else ""
        match = _GENERATION.fullmatch(rest)
        if match is None:
            continue
        numbered = match[1].isdecimal() and len(match[1]) < 8
        # Numbers sort before dates, the highest first: only one of the forms is in use for a log.
        key = (-int(match[1]), "") if numbered else (1, match[1])
        if match[1] not in found or not match[2]:
            found[match[1]] = (key, path.parent / name)
    return [each for _, each in sorted(found.values(), key=lambda pair: pair[0])]


def log_of(name: str) -> str | None:
    """Name of the log that a rotated file of ours comes from; None for any other file."""
    found = _OURS.fullmatch(name)
    return found[1] if found else None


def files_of(path: Path) -> list[Path]:
    """All files of a log, oldest first, the one being written last."""
    return [*generations(path), *([path] if path.exists() else [])]


def _listed(path: Path) -> list[tuple[Path, int]]:
    """The same with the inode each had, all of one moment: a rotation while looking makes us look again.

    Raises:
        FileNotFoundError: It was rotated each time.
    """
    for _ in range(_LOOKS):
        before = _inode(path)
        found = [(each, _inode(each)) for each in generations(path)]
        if _inode(path) == before and all(inode for _, inode in found):
            return [*found, *([(path, before)] if before else [])]
    raise FileNotFoundError(path)


def _inode(path: Path) -> int:
    """The inode of a file; 0 when there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _open(path: Path, inode: int | None = None) -> gzip.GzipFile | BinaryIO:
    """Open a file for reading.

    Raises:
        FileNotFoundError: It is gone, or another file bears the name now.
    """
    plain = path.open("rb")
    if inode is not None and os.fstat(plain.fileno()).st_ino != inode:
        plain.close()
        raise FileNotFoundError(path)
    if path.suffix != ".gz":
        return plain
    plain.close()
    return gzip.open(path, "rb")


def lines_from(
    path: Path, offset: int = 0, *, partial: bool = False, inode: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Lines of one file after an offset, each with the offset after it.

    Args:
        path: Plain or compressed.
        offset: Uncompressed bytes to pass over.
        partial: Also yield a last line that has no end yet.
        inode: Read this very file only.

    Raises:
        FormatError: Compressed bytes are damaged; lines before the damage were yielded.
        StorageFailed: The file cannot be read.
    """
    try:
        with closing(_open(path, inode)) as stream:
            stream.seek(offset)
            at = offset
            while piece := stream.readline(LINE_BYTES_MAX):
                at += len(piece)
                line = piece
                while not piece.endswith(b"\n") and len(piece) == LINE_BYTES_MAX:
                    piece = stream.readline(LINE_BYTES_MAX)
                    at += len(piece)
                    if not piece:
                        break
                if piece.endswith(b"\n") or partial:
                    yield at, line.rstrip(b"\r\n")
    except FileNotFoundError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise FormatError(f"{path.name} is damaged: what lies after the damage cannot be read") from exc
    except OSError as exc:
        raise StorageFailed(f"cannot read {path}: {exc.strerror}") from exc


def text_of(line: bytes) -> str:
    """A line as text: bytes that are not UTF-8 are replaced, control characters but the tab are escaped."""
    shown = line.decode("utf-8", "replace")
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in shown)


def _head(path: Path, length: int, inode: int | None = None) -> str:
    with closing(_open(path, inode)) as stream:
        return hashlib.sha256(stream.read(length)).hexdigest()[:16]


def position_at(path: Path, offset: int, inode: int | None = None) -> Position:
    """The position after so many bytes of a file, of this very one when its inode is given."""
    length = min(offset, HEAD_BYTES)
    return Position(inode or path.stat().st_ino, offset, length, _head(path, length, inode))


def _is_same(path: Path, inode: int, position: Position) -> bool:
    return position.length > 0 and _head(path, position.length, inode) == position.head


def _find(files: list[tuple[Path, int]], position: Position) -> tuple[int, int] | None:
    """Which file a position lies in, and at which byte to go on; None when none is recognised."""
    for at, (path, inode) in enumerate(files):
        if path.suffix != ".gz" and inode == position.inode:
            if path.stat().st_size >= position.offset and (position.length == 0 or _is_same(path, inode, position)):
                return at, position.offset
            if at == len(files) - 1 and not any(_is_same(*each, position) for each in files):
                return at, 0  # it was truncated: what it holds now is new
    for at, (path, inode) in enumerate(files):
        if _is_same(path, inode, position):
            return at, position.offset
    return None


def read_on(path: Path, position: Position | None, limit: int) -> Read:
    """The next whole lines of a log after a position, through rotated files into the one being written.

    Args:
        path: The file being written.
        position: Where reading stopped; None reads from the oldest line.
        limit: Most lines to return.

    Raises:
        NotFound: There is no such log.
    """
    unknown: list[tuple[Path, int]] | None = None
    for _ in range(_LOOKS):
        try:
            files = _listed(path)
            if not files:
                raise NotFound(f"there is no log {path.name}: 'ipfs-kit logs list' names them")
            found = (0, 0) if position is None else _find(files, position)
            if found is None:
                # Seen twice alike, the file is really gone, and the oldest that is left comes next.
                if files != unknown:
                    unknown = files
                    continue
                found = 0, 0
            return _read(files[found[0] :], found[1], limit)
        except FileNotFoundError:
            continue  # rotated or compressed in between: look again
    raise StorageFailed(f"{path.name} is rotated faster than it can be read: try again")


def _read(files: list[tuple[Path, int]], offset: int, limit: int) -> Read:
    lines: list[str] = []
    end = offset
    for number, (path, inode) in enumerate(files):
        end = offset if number == 0 else 0
        # The last line of a file that is not written any more needs no end.
        for after, line in lines_from(path, end, partial=number < len(files) - 1, inode=inode):
            lines.append(text_of(line))
            end = after
            if len(lines) == limit:
                return Read(lines, position_at(path, end, inode))
    return Read(lines, position_at(files[-1][0], end, files[-1][1]))


def tail(path: Path, limit: int) -> Read:
    """The newest lines of a log, oldest of them first, and the position after them."""
    for _ in range(_LOOKS):
        try:
            files = _listed(path)
            if not files:
                raise NotFound(f"there is no log {path.name}: 'ipfs-kit logs list' names them")
            return _tail(files, limit)
        except FileNotFoundError:
            continue
    raise StorageFailed(f"{path.name} is rotated faster than it can be read: try again")


def _tail(files: list[tuple[Path, int]], limit: int) -> Read:
    newest: list[str] = []
    position: Position | None = None
    for number, (path, inode) in enumerate(reversed(files)):
        start = 0 if path.suffix == ".gz" else _last_lines(path, limit - len(newest))
        kept: deque[str] = deque(maxlen=limit - len(newest))
        end = start
        for after, line in lines_from(path, start, partial=number > 0, inode=inode):
            kept.append(text_of(line))
            end = after
        if position is None:
            position = position_at(path, end, inode)
        newest[:0] = kept
        if len(newest) >= limit:
            break
    return Read(newest, position)


def _last_lines(path: Path, count: int) -> int:
    """Offset of the last so many lines of a plain file, one more at most."""
    with path.open("rb") as stream:
        at = stream.seek(0, os.SEEK_END)
        ends = 0
        while at > 0:
            size = min(at, LINE_BYTES_MAX)
            at -= size
            stream.seek(at)
            block = stream.read(size)
            cut = len(block)
            while (cut := block.rfind(b"\n", 0, cut)) >= 0:
                ends += 1
                if ends > count + 1:
                    return at + cut + 1
    return 0


def follow(
    path: Path, position: Position | None, wait: Callable[[float], bool], *, limit: int = 1_000
) -> Iterator[list[str]]:
    """Lines of a log as they come, page by page, across rotations, until told to stop.

    Args:
        path: The file being written; it need not be there yet.
        position: Where to go on; None starts at the oldest line.
        wait: Waits for so many seconds, and returns True when following is to end, for example ``Event().wait``.
        limit: Most lines of a page.
    """
    while True:
        try:
            found = read_on(path, position, limit)
        except NotFound:
            found = Read([], position)
        position = found.position
        if found.lines:
            yield found.lines
        elif wait(POLL_S):
            return
