"""Secrets out of log lines, before anything is written; every pattern runs in linear time.

A value that begins and never ends is masked to the end of the text: what is doubtful is left out.
"""

from __future__ import annotations

import re
from typing import Any, Final

MASK: Final = "***"
DEPTH_MAX: Final = 12
_WORDS: Final = (
    r"password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key|"
    r"credential|authorization|cookie|session[_-]?id"
)
_NAMED: Final = re.compile(rf"(?i)(?:{_WORDS})|^(?:auth|key|pass)$")
_START: Final = r"(?<![A-Za-z0-9_-])"
"""A token starts where no longer run of its letters does, so that no run is scanned twice."""

_PEM: Final = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)")
_PEM_BEGIN: Final = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")
_PEM_END: Final = re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY-----")
_HEADER: Final = re.compile(r"(?i)((?:proxy-)?authorization|(?:set-)?cookie)(\s{0,3}[:=]\s{0,3})[^\r\n\"']{1,}+")
_SCHEME: Final = re.compile(r"(?i)\b(bearer|basic|digest|negotiate)(\s{1,3})(?=[^\s]{6})[A-Za-z0-9._~+/=-]++")
_USERINFO: Final = re.compile(r"(?i)(?<=://)[^\s/@:\"']{0,256}:[^\s/@\"']{1,512}@")
_TOKENS: Final = re.compile(
    _START + r"(?:(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_[A-Za-z0-9_]{20,}+|glpat-[A-Za-z0-9_-]{16,}+"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,}+|sk-[A-Za-z0-9_-]{16,}+|[sr]k_live_[A-Za-z0-9]{16,}+|hf_[A-Za-z0-9]{20,}+"
    r"|AIza[0-9A-Za-z_-]{35}|eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)?)"
)
_PAIR: Final = re.compile(
    rf"(?i)(?<![\w.-])([\w.-]{{0,48}}?(?:{_WORDS})[\w.-]{{0,24}}+)((?:\\?[\"'])?\s{{0,3}}[:=]\s{{0,3}})"
    r"(\"(?:[^\"\\]|\\.)*+\"?|'(?:[^'\\]|\\.)*+'?|\\\"(?:[^\"\\]|\\[^\"])*+(?:\\\")?|[^\s,;&\"'{}\[\]]++)",
    re.DOTALL,
)


def redact(text: str) -> str:
    """The same text with what looks like a secret masked.

    Masked are private keys, authorization and cookie headers, passwords in URLs, tokens of known forms, and values
    whose name says that they are secret.

    Args:
        text: Any text; a secret that it only begins with, or only ends with, is not recognised by its form.
    """
    if "-----BEGIN" in text:
        text = _PEM.sub(MASK, text)
    text = _HEADER.sub(rf"\1\2{MASK}", text)
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    if "://" in text:
        text = _USERINFO.sub(f"{MASK}@", text)
    text = _TOKENS.sub(MASK, text)
    return _PAIR.sub(_mask_pair, text)


def _mask_pair(found: re.Match[str]) -> str:
    value = found[3]
    quote = '\\"' if value.startswith('\\"') else value[0] if value[0] in "\"'" else ""
    return f"{found[1]}{found[2]}{quote}{MASK}{quote}"


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret."""
    return _NAMED.search(name[:200]) is not None


def redact_value(value: Any, depth: int = 0) -> Any:
    """The same JSON value, texts redacted, everything under a secret's name masked, deep nesting cut.

    Args:
        value: Mappings, lists, texts, numbers; anything else becomes its redacted ``str``.
        depth: How deep it lies.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, str):
        return redact(value)
    if depth >= DEPTH_MAX:
        return "(nested too deep)"
    if isinstance(value, dict):
        return {
            redact(str(name)): MASK if is_secret_name(str(name)) else redact_value(item, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item, depth + 1) for item in value]
    return redact(str(value))


class LineRedactor:
    """Redacts a text line by line; a private key spread over several lines is masked whole."""

    def __init__(self) -> None:
        self._inside = False

    def line(self, text: str) -> str:
        """The next line, redacted."""
        if self._inside:
            end = _PEM_END.search(text)
            if end is None:
                return MASK
            self._inside = False
            return MASK + self.line(text[end.end() :])
        begins = [found.end() for found in _PEM_BEGIN.finditer(text)]
        self._inside = bool(begins) and _PEM_END.search(text, begins[-1]) is None
        return redact(text)
