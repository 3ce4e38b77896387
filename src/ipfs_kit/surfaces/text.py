"""Text from outside made safe to show: names, messages and content of others cannot steer a terminal or a reader."""

from __future__ import annotations

import unicodedata

_KEEP = {"\n", "\t"}


def safe(text: str, *, lines: bool = False) -> str:
    """Escape control, bidirectional and unpaired characters (decision 32).

    Args:
        text: Anything.
        lines: Keep line feeds and tabs.

    Returns:
        Text whose every hidden character is written as an escape such as ``\\x1b``.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() or (lines and char in _KEEP) else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(char) == "Zs":
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def human_size(size: int) -> str:
    """A byte count as people read it, in binary units."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
