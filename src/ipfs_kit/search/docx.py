"""Words of a Word file (ECMA-376 part 1, WordprocessingML): its paragraphs, from ``word/document.xml`` alone."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import Final

from ipfs_kit.errors import FormatError
from ipfs_kit.search.passages import HEADING_CHARS_MAX, PASSAGE_BYTES, PASSAGE_BYTES_MAX, Passage, shown

_PART: Final = "word/document.xml"
_INFLATED_MAX: Final = 64 << 20
"""Most that the document may inflate to (64 MiB)."""
_ENTRIES_MAX: Final = 10_000
# Read as a flat run of tags: no entities are declared, nothing is nested, nothing outside is fetched.
_PIECES: Final = re.compile(
    rb"<w:t(?:[ \t][^<>]{0,200})?>([^<]*)</w:t>"
    rb'|<w:pStyle[ \t]+w:val="((?:Heading|Title)[^"<>]{0,20})"'
    rb"|(<w:(?:tab|br)/>)|(</w:p>)"
)


def docx(data: bytes) -> tuple[str, list[Passage]]:
    """Title and passages of a Word file; every passage cites the whole file, since its bytes are compressed.

    Raises:
        FormatError: It is no such file, or it inflates beyond the bound.
    """
    import html

    title = heading = ""
    found: list[Passage] = []
    held: list[str] = []
    line: list[str] = []
    size, is_heading = 0, False

    def close() -> None:
        nonlocal size
        text = "\n".join(held).strip()
        held.clear()
        size = 0
        cuts = range(0, len(text), PASSAGE_BYTES_MAX)
        found.extend(Passage(0, len(data), heading, text[at : at + PASSAGE_BYTES_MAX]) for at in cuts)

    for piece in _PIECES.finditer(_document(data)):
        if piece[1] is not None:
            line.append(html.unescape(shown(piece[1])))
        elif piece[2] is not None:
            is_heading = True
        elif piece[3] is not None:
            line.append(" ")
        else:
            text = "".join(line).strip()
            line.clear()
            if is_heading and text:
                close()
                heading = text[:HEADING_CHARS_MAX]
                title = title or heading
            is_heading = False
            if text:
                held.append(text)
                size += len(text)
            if size >= PASSAGE_BYTES:
                close()
    held.append("".join(line))
    close()
    return title, found


def _document(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if len(archive.infolist()) > _ENTRIES_MAX:
                raise FormatError("the Word file has too many parts")
            with archive.open(_PART) as part:
                content = part.read(_INFLATED_MAX + 1)
    except (zipfile.BadZipFile, KeyError, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as exc:
        raise FormatError("this is no Word file") from exc
    if len(content) > _INFLATED_MAX:
        raise FormatError("the Word file inflates to more than 64 MiB")
    return content
