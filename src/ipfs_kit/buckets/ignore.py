"""Ignore rules of an import, with the meaning of gitignore(5).

A rule without a slash (other than at its end) matches at any depth, one with a slash from the folder of its file;
``*``, ``?`` and ``[…]`` match within one name, ``**`` any number of names; a slash at the end means folders only;
``!`` takes back; the last matching rule decides; what lies below an ignored folder is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.paths import text_of
from ipfs_kit.errors import BudgetExceeded, InvalidInput

IGNORE_FILE = b".kitignore"
"""Read in every folder of an import; itself imported like any other file."""
RULES_MAX = 10_000
"""Rules of one file: each name of the tree is tried against each."""
RULE_CHARS_MAX = 1_024
IGNORE_BYTES_MAX = 1024 * 1024
_ANY = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an ignore file."""

    parts: tuple[re.Pattern[str] | None, ...]
    """One pattern per name; None is ``**``."""
    anchored: bool
    folders_only: bool
    negated: bool

    def matches(self, path: Sequence[str], is_dir: bool) -> bool:
        """Whether the rule matches a path relative to the folder of its file."""
        if self.folders_only and not is_dir:
            return False
        if not self.anchored:
            pattern = self.parts[0]
            return pattern is not None and pattern.match(path[-1]) is not None
        return _match(self.parts, path)


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules in force in one folder, outermost first; each group with the depth of its folder."""

    groups: tuple[tuple[int, tuple[Rule, ...]], ...] = ()

    def below(self, depth: int, rules: tuple[Rule, ...]) -> Rules:
        """With the rules of a folder at a depth added."""
        return Rules((*self.groups, (depth, rules))) if rules else self

    def ignores(self, path: Sequence[bytes], is_dir: bool) -> bool:
        """Whether an entry is left out; its parents are known not to be."""
        if not self.groups:
            return False
        names = [text_of(name) for name in path]
        for depth, rules in reversed(self.groups):
            for rule in reversed(rules):
                if rule.matches(names[depth:], is_dir):
                    return not rule.negated
        return False


def parse_rules(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Rules of the lines of an ignore file.

    Raises:
        BudgetExceeded: too many or too long.
        InvalidInput: a line is no rule.
    """
    rules: list[Rule] = []
    for line in lines:
        rule = _parse(line)
        if rule is not None:
            rules.append(rule)
        if len(rules) > RULES_MAX:
            raise BudgetExceeded(f"an ignore file has more than {RULES_MAX} rules; use fewer, wider ones")
    return tuple(rules)


def parse_file(data: bytes) -> tuple[Rule, ...]:
    """Rules of the bytes of an ignore file.

    Raises:
        BudgetExceeded: it is larger than 1 MiB or has too many rules.
    """
    if len(data) > IGNORE_BYTES_MAX:
        raise BudgetExceeded(f"an ignore file is larger than {IGNORE_BYTES_MAX} bytes")
    return parse_rules(text_of(data).split("\n"))


def _parse(line: str) -> Rule | None:
    if len(line) > RULE_CHARS_MAX:
        raise BudgetExceeded(f"an ignore rule is longer than {RULE_CHARS_MAX} characters")
    text = _stripped(line.rstrip("\r"))
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text[1:] if negated else text
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    if not text:
        return None
    anchored = "/" in text or text == "**"
    names = text.lstrip("/").split("/")
    return Rule(tuple(_ANY if name == "**" else _pattern(name) for name in names), anchored, folders_only, negated)


def _stripped(line: str) -> str:
    """Without spaces at the end, unless a backslash keeps the last."""
    stripped = line.rstrip(" ")
    return stripped + " " if stripped.endswith("\\") and len(stripped) < len(line) else stripped


def _pattern(name: str) -> re.Pattern[str]:
    out: list[str] = []
    at = 0
    while at < len(name):
        if name[at] == "\\" and at + 1 < len(name):
            # fnmatch knows no backslash; a set of one character says the same.
            out.append(f"[{name[at + 1]}]" if name[at + 1] in "*?[" else name[at + 1])
            at += 2
        else:
            out.append(name[at])
            at += 1
    try:
        # The regular expressions that translate() makes match in linear time per star.
        return re.compile(translate("".join(out)))
    except re.error as exc:
        raise InvalidInput(f"the ignore rule {name!a} does not parse") from exc


def _match(parts: tuple[re.Pattern[str] | None, ...], path: Sequence[str]) -> bool:
    """Match names against parts with ``**`` as any number of names; a final ``**`` needs one at least."""
    reached = {0}
    for at, part in enumerate(parts):
        if part is _ANY:
            low = min(reached, default=len(path) + 1)
            reached = set(range(low + (at == len(parts) - 1), len(path) + 1))
        else:
            reached = {place + 1 for place in reached if place < len(path) and part.match(path[place])}
        if not reached:
            return False
    return len(path) in reached
