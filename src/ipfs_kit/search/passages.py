"""From bytes of a file to passages that can be found and cited: text, Markdown, HTML, source code, tables, Word files.

Every passage names the bytes of the file it came from. Parsers are pure, linear in their input and bounded; what does not
parse gives no passages and a reason, never an exception.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import KitError

READ_BYTES_MAX: Final = 16 << 20
"""Bytes of one file that are read (16 MiB); the rest of a longer one cannot be found, and its outcome says so."""
PASSAGE_BYTES: Final = 1_000
"""A passage ends at the first blank line or heading behind this many bytes."""
PASSAGE_BYTES_MAX: Final = 1_800
"""A passage never has more; longer lines are cut at a space, else between characters."""
HEADING_CHARS_MAX: Final = 200
_SNIFFED: Final = 8_192

INDEXED: Final = "indexed"
CUT: Final = "cut"
BINARY: Final = "binary"
EMPTY: Final = "empty"
DAMAGED: Final = "damaged"


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a file.

    Args:
        start: First byte of the file it was made from.
        stop: One past the last.
        heading: The heading it stands under; empty when there is none.
        text: Its words as a reader sees them.
    """

    start: int
    stop: int
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file as passages.

    Args:
        outcome: ``indexed``, ``cut`` (only the first 16 MiB), ``binary``, ``empty`` or ``damaged``.
        title: Its title; empty when it has none.
        passages: In order of their bytes.
    """

    outcome: str
    title: str
    passages: list[Passage]


_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "markdown": (".md", ".markdown", ".mdx"),
    "html": (".html", ".htm", ".xhtml"),
    "python": (".py", ".pyi"),
    "csv": (".csv", ".tsv"),
    "docx": (".docx",),
}
_BY_SUFFIX: Final = {suffix: name for name, suffixes in _FORMATS.items() for suffix in suffixes}
_BY_TYPE: Final = {
    "text/markdown": "markdown",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/x-python": "python",
    "text/csv": "csv",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
}


def format_of(name: bytes, content_type: str | None) -> str:
    """How a file is parsed, by its media type or else by the end of its name; ``text`` when neither says.

    Args:
        name: Last component of the path.
        content_type: Media type kept with the file.
    """
    if content_type is not None and (found := _BY_TYPE.get(content_type.partition(";")[0].strip().lower())):
        return found
    dot = name.rfind(b".")
    return _BY_SUFFIX.get(name[dot:].decode("utf-8", "replace").lower(), "text") if dot > 0 else "text"


def parse(form: str, data: bytes, size: int) -> Parsed:
    """The passages of a file.

    Args:
        form: What ``format_of`` gave.
        data: Its first bytes, at most ``READ_BYTES_MAX``.
        size: Bytes of the whole file.
    """
    if not data:
        return Parsed(EMPTY, "", [])
    outcome = INDEXED if len(data) == size else CUT
    if form == "docx":
        from ipfs_kit.search.docx import docx

        if outcome == CUT:
            return Parsed(DAMAGED, "", [])
        try:
            return Parsed(outcome, *docx(data))
        except KitError:
            return Parsed(DAMAGED, "", [])
    if b"\0" in data[:_SNIFFED]:
        return Parsed(BINARY, "", [])
    title, passages = _PARSERS.get(form, _text)(data)
    return Parsed(outcome if passages else EMPTY, title, passages)


def shown(data: bytes) -> str:
    """Bytes as text: what is no UTF-8 is replaced, control characters but line ends and tabs become spaces."""
    return _CONTROLS.sub(" ", data.decode("utf-8", "replace"))


_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _lines(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = data.find(b"\n", start, stop)
        end = stop if end < 0 else end + 1
        yield start, end
        start = end


def _cuts(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """A span as spans of at most ``PASSAGE_BYTES_MAX``, cut at a space where there is one, never inside a character."""
    while stop - start > PASSAGE_BYTES_MAX:
        end = data.rfind(b" ", start + PASSAGE_BYTES, start + PASSAGE_BYTES_MAX) + 1
        if end <= 0:
            end = start + PASSAGE_BYTES_MAX
            while data[end] & 0xC0 == 0x80 and end > start + PASSAGE_BYTES_MAX - 4:
                end -= 1
        yield start, end
        start = end
    if start < stop:
        yield start, stop


def _split(data: bytes, heading_of: Callable[[bytes], str | None], first_heading: str = "") -> list[Passage]:
    """Lines gathered into passages that end at headings and blank lines."""
    found: list[Passage] = []
    heading, begin, end = first_heading, 0, 0

    def close() -> None:
        nonlocal begin
        for start, stop in _cuts(data, begin, end):
            text = shown(data[start:stop]).strip()
            if text:
                found.append(Passage(start, stop, heading, text))
        begin = end

    for start, stop in _lines(data, 0, len(data)):
        line = data[start:stop]
        new = heading_of(line)
        if new is not None:
            close()
            heading = new[:HEADING_CHARS_MAX]
        elif stop - begin > PASSAGE_BYTES_MAX or (not line.strip() and start - begin >= PASSAGE_BYTES):
            close()
        end = stop
    close()
    return found


def _text(data: bytes) -> tuple[str, list[Passage]]:
    return "", _split(data, lambda _: None)


_ATX: Final = re.compile(rb"(#{1,6})[ \t]+(\S.*?)[ \t#]*\r?\n?$")


def _markdown(data: bytes) -> tuple[str, list[Passage]]:
    fenced = b""
    title = ""

    def heading(line: bytes) -> str | None:
        nonlocal fenced, title
        start = line.lstrip()[:3]
        if start in (b"```", b"~~~"):
            fenced = b"" if fenced == start else fenced or start
            return None
        match = None if fenced else _ATX.match(line)
        if match is None:
            return None
        text = shown(match[2])
        if not title and len(match[1]) == 1:
            title = text[:HEADING_CHARS_MAX]
        return text

    passages = _split(data, heading)
    return title, passages


_DEFINITION: Final = re.compile(rb"(?:async[ \t]+)?(?:def|class)[ \t]+(\w{1,100})")
_METHOD: Final = re.compile(rb"[ \t]{1,8}(?:async[ \t]+)?def[ \t]+(\w{1,100})")


def _python(data: bytes) -> tuple[str, list[Passage]]:
    owner = ""

    def heading(line: bytes) -> str | None:
        nonlocal owner
        if match := _DEFINITION.match(line):
            owner = shown(match[1])
            return owner
        if owner and (match := _METHOD.match(line)):
            return f"{owner}.{shown(match[1])}"
        return None

    return "", _split(data, heading)


def _csv(data: bytes) -> tuple[str, list[Passage]]:
    end = data.find(b"\n")
    header = shown(data[: end if 0 <= end < PASSAGE_BYTES_MAX else 0]).strip()
    return "", _split(data, lambda _: None, header[:HEADING_CHARS_MAX])


_TAG: Final = re.compile(rb"</?([A-Za-z][A-Za-z0-9]{0,20})")
_HIDDEN: Final = {name: re.compile(rb"</" + name, re.IGNORECASE) for name in (b"script", b"style", b"template")}
_INLINE: Final = frozenset(b"a abbr b bdi bdo cite code em i kbd mark q s samp small span strong sub sup u var".split())


class _Html:
    """Reads HTML in one pass: the text between tags, gathered into passages at block elements and headings."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._passages: list[Passage] = []
        self._parts: list[str] = []
        self._size = 0
        self._begin = self._end = 0
        self._heading = self._title = ""
        self._into: str | None = None

    def read(self) -> tuple[str, list[Passage]]:
        data, at = self._data, 0
        while True:
            tag = data.find(b"<", at)
            self._take(at, len(data) if tag < 0 else tag)
            if tag < 0:
                break
            if data.startswith(b"<!--", tag):
                end = data.find(b"-->", tag)
                at = end + 3
            else:
                end = data.find(b">", tag)
                at = end + 1
                if end >= 0 and (match := _TAG.match(data, tag)):
                    at = self._element(match[1].lower(), data[tag + 1] == 0x2F, at)
            if end < 0:
                break
        self._close()
        return self._title, self._passages

    def _element(self, name: bytes, ends: bool, at: int) -> int:
        if not ends and name in _HIDDEN:
            match = _HIDDEN[name].search(self._data, at)
            return len(self._data) if match is None else match.start()
        if name in _INLINE:
            return at
        heading = name == b"title" or (len(name) == 2 and name[:1] == b"h" and name[1:].isdigit())
        if heading and not ends:
            self._close()
            self._into = ""
        elif heading and self._into is not None:
            text = " ".join("".join(self._parts).split())[:HEADING_CHARS_MAX]
            if name == b"title":
                self._title, self._parts, self._size = text, [], 0
                self._begin = at
            else:
                self._heading = text
                self._title = self._title or text
            self._into = None
        elif self._size >= PASSAGE_BYTES:
            self._close()
        else:
            self._parts.append("\n")
        return at

    def _take(self, start: int, stop: int) -> None:
        if start >= stop:
            return
        for begin, end in _cuts(self._data, start, stop):
            if self._size + end - begin > PASSAGE_BYTES_MAX:
                self._close()
            if not self._parts:
                self._begin = begin
            self._parts.append(html.unescape(shown(self._data[begin:end])))
            self._size += end - begin
            self._end = end

    def _close(self) -> None:
        text = re.sub(r"[ \t\r\n]*\n[ \t\r\n]*", "\n", _CONTROLS.sub(" ", "".join(self._parts))).strip()
        if text:
            self._passages.append(Passage(self._begin, self._end, self._heading, text))
        self._parts, self._size = [], 0


def _html(data: bytes) -> tuple[str, list[Passage]]:
    return _Html(data).read()


_PARSERS: Final[Mapping[str, Callable[[bytes], tuple[str, list[Passage]]]]] = {
    "markdown": _markdown,
    "html": _html,
    "python": _python,
    "csv": _csv,
}
