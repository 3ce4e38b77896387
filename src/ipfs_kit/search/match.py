"""What people type, as a query of SQLite's FTS5: words, "phrases", prefixes, exclusions; nothing else gets through."""

from __future__ import annotations

import re
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import InvalidInput

QUERY_CHARS_MAX: Final = 1_000
TERMS_MAX: Final = 32
_TERM: Final = re.compile(r'(-?)(?:"([^"]*)"|([^\s"]+))')
_WORD: Final = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Match:
    """A query as understood.

    Args:
        wanted: Words and phrases to find, as typed; a word ending in ``*`` is a prefix.
        excluded: What must not occur in a passage.
        every: Whether all of ``wanted`` must occur in one passage, rather than any.
    """

    wanted: tuple[str, ...]
    excluded: tuple[str, ...]
    every: bool

    @property
    def fts(self) -> str:
        """The expression for ``MATCH``: quoted strings joined by AND, OR and NOT."""
        wanted = (" AND " if self.every else " OR ").join(_quoted(term) for term in self.wanted)
        if not self.excluded:
            return wanted
        return f"({wanted}) NOT ({' OR '.join(_quoted(term) for term in self.excluded)})"


def understand(text: str, *, every: bool = False) -> Match:
    """Read a query.

    Args:
        text: Words, ``"a phrase"``, ``prefix*``, ``-without``; at most 1,000 characters and 32 terms.
        every: Whether all terms must occur together.

    Raises:
        InvalidInput: It is too long, or names nothing to look for.
    """
    if len(text) > QUERY_CHARS_MAX:
        raise InvalidInput(f"a query has at most {QUERY_CHARS_MAX} characters; this has {len(text)}")
    wanted: list[str] = []
    excluded: list[str] = []
    for minus, phrase, word in _TERM.findall(text):
        term = phrase or word
        if _WORD.search(term):
            (excluded if minus else wanted).append(term if word else f'"{term}"')
    if not wanted:
        raise InvalidInput('the query names no word to look for: give words, "a phrase", or a prefix like vers*')
    if len(wanted) + len(excluded) > TERMS_MAX:
        raise InvalidInput(f"a query has at most {TERMS_MAX} terms: give fewer words")
    return Match(tuple(dict.fromkeys(wanted)), tuple(dict.fromkeys(excluded)), every)


def _quoted(term: str) -> str:
    phrase = len(term) > 1 and term[0] == term[-1] == '"'
    bare = term[1:-1] if phrase else term.rstrip("*")
    prefix = "*" if not phrase and term.endswith("*") else ""
    return '"' + bare.replace('"', '""').replace("\0", " ") + '"' + prefix
