r"""Names that are not UTF-8 as text that any JSON reader keeps, and back (docs/design/009-spine-gaps.md).

A component of a path that is not UTF-8 is written in double quotes: its characters as they are, each other byte as
``\xNN`` in lower case, ``\`` as ``\\`` and ``"`` as ``\"``. So ``caf`` and the byte E9 are ``"caf\xe9"``. A component that
happens to look exactly like that is quoted once more; every other text stands for itself, so nothing is ambiguous and
names without such bytes never change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit.operations.places import Touch

if TYPE_CHECKING:
    from ipfs_kit.operations.catalogue import Operation

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\\\|\\"|\\x[89a-f][0-9a-f])*"', re.DOTALL)
_PIECE: Final = re.compile(r"\\(?:x([89a-f][0-9a-f])|(.))|([^\\]+)", re.DOTALL)
_ODD: Final = re.compile("[\udc80-\udcff]")
_REFERENCES: Final = frozenset({"path", "source", "destination", "left", "right", "root", "cid"})
"""Arguments that hold a path below a CID where no place is declared."""


def quote(text: str) -> str:
    """A path, or any text of a result, without bytes that are no characters.

    Args:
        text: Text in which bytes that are not UTF-8 stand as surrogate escapes; ``/`` parts components.
    """
    if text.isascii() and '"' not in text:
        return text
    return "/".join(_quoted(part) for part in text.split("/"))


def unquote(text: str) -> str:
    """What ``quote`` was given."""
    if '"' not in text:
        return text
    head, colon, tail = text.partition(":/")  # of BUCKET:/path, the path alone has names
    if colon and "/" not in head:
        return f"{head}{colon}{unquote(tail)}"
    return "/".join(_unquoted(part) for part in text.split("/"))


def unquote_names(operation: Operation, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of a call with quoted names as the bytes they stand for; text of other arguments stays.

    Args:
        operation: What is called.
        given: Its arguments, unchecked.
    """
    if not any(isinstance(value, str) and "\\" in value for value in given.values()):
        return given
    places = operation.places
    named = {at.argument for at in places if isinstance(at, Touch)} if isinstance(places, tuple) else _REFERENCES
    local = {param.name for param in operation.params if param.arg.local}
    return {
        name: unquote(value) if isinstance(value, str) and name in named - local else value
        for name, value in given.items()
    }


def _quoted(part: str) -> str:
    try:
        part.encode("utf-8")
    except UnicodeEncodeError:
        raw = part.encode("utf-8", "surrogateescape")
    else:
        return part if _raw(part) is None else _escaped(part.encode("utf-8"))
    return _escaped(raw)


def _unquoted(part: str) -> str:
    raw = _raw(part)
    return part if raw is None else raw.decode("utf-8", "surrogateescape")


def _escaped(raw: bytes) -> str:
    shown = raw.decode("utf-8", "surrogateescape").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + _ODD.sub(lambda odd: f"\\x{ord(odd.group()) - 0xDC00:02x}", shown) + '"'


def _raw(part: str) -> bytes | None:
    """The bytes that a quoted component stands for; None where the text is no quoted component and means itself."""
    outermost: bytes | None = None
    while len(part) > 2 and _QUOTED.fullmatch(part):
        raw = b"".join(
            bytes.fromhex(byte) if byte else (mark or plain).encode("utf-8", "surrogateescape")
            for byte, mark, plain in _PIECE.findall(part[1:-1])
        )
        if _escaped(raw) != part:
            return None  # spelled otherwise than ``quote`` spells it
        outermost = raw if outermost is None else outermost
        try:
            part = raw.decode("utf-8")
        except UnicodeDecodeError:
            return outermost
    return None
