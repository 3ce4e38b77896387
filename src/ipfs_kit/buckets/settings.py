"""What a bucket demands of changes: a quota, protected branches and rules for what may be committed.

Settings are rows of ``bucket_settings``, one for each change, never changed once written: the newest counts, older ones
say what held before and serve undo. A row of a sealed bucket is sealed under its key. Form: ``docs/format/buckets.md``.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import field, replace
from fnmatch import fnmatchcase
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.diff import Change
from ipfs_kit.buckets.ignore import Rules, parse_rules
from ipfs_kit.buckets.index import Item
from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.unixfs import Kind

FORMAT: Final = 1
RULES_MAX: Final = 100
"""Rules of one bucket: each changed path of a commit is tried against each."""
PATTERNS_MAX: Final = 100
"""Patterns of one field of a rule."""
PROTECTIONS_MAX: Final = 100
TEXT_CHARS_MAX: Final = 256
SETTINGS_BYTES_MAX: Final = 262_144
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LIMIT_MAX: Final = (1 << 63) - 1
KINDS: Final = frozenset({"file", "dir", "symlink"})


@dataclass(frozen=True, slots=True)
class Quota:
    """The most a working session of a bucket may hold.

    Args:
        size_bytes: Content bytes of its files and links, each path counted; None for no limit.
        entries: Files and links; None for no limit.
    """

    size_bytes: int | None = None
    entries: int | None = None

    @property
    def unlimited(self) -> bool:
        """Whether nothing is limited."""
        return self.size_bytes is None and self.entries is None


@dataclass(frozen=True, slots=True)
class Protection:
    """Branches that only move forward.

    Args:
        branch: A name, or a pattern with ``*`` and ``?``.
        merges_only: Whether nothing but a merge of another branch may move them.
    """

    branch: str
    merges_only: bool = False

    def covers(self, branch: str) -> bool:
        """Whether a branch is protected by this."""
        return fnmatchcase(branch, self.branch)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a commit may bring at some paths.

    Args:
        name: Its name in refusals.
        paths: The paths it is for, as patterns of gitignore(5); all when empty.
        branches: The branches it is for, names or patterns with ``*`` and ``?``; all when empty.
        deny: Nothing may be added or changed there.
        max_bytes: Largest file; None for no limit.
        types: Allowed media types, such as ``image/*``: that kept with the file, else what its name says; all when
            empty.
        kinds: Allowed kinds, of ``file``, ``dir``, ``symlink``; all when empty.
        advice: What the refusal tells people to do.
    """

    name: str
    paths: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    deny: bool = False
    max_bytes: int | None = None
    types: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a bucket, as they were set last.

    Args:
        quota: What it may hold.
        protections: Protected branches.
        rules: Rules of commits, by name.
        op_index: The op that set them; -1 when nothing was ever set.
    """

    quota: Quota = field(default_factory=Quota)
    protections: tuple[Protection, ...] = ()
    rules: tuple[Rule, ...] = ()
    op_index: int = -1

    def encode(self) -> bytes:
        """The stored form.

        Raises:
            BudgetExceeded: It is too large.
        """
        data = dag_cbor.encode(
            [
                FORMAT,
                [self.quota.size_bytes, self.quota.entries],
                [[each.branch, each.merges_only] for each in self.protections],
                [
                    [
                        *(rule.name, list(rule.paths), list(rule.branches), rule.deny, rule.max_bytes),
                        *(list(rule.types), list(rule.kinds), rule.advice),
                    ]
                    for rule in self.rules
                ],
            ]
        )
        if len(data) > SETTINGS_BYTES_MAX:
            raise BudgetExceeded(
                f"the settings of one bucket take more than {SETTINGS_BYTES_MAX} bytes; drop some rules"
            )
        return data

    @staticmethod
    def decode(data: bytes, op_index: int) -> Settings:
        """The settings of a stored form.

        Raises:
            FormatError: It does not parse.
        """
        try:
            form, quota, protections, rules = dag_cbor.decode(data)
            if form != FORMAT:
                raise FormatError("the settings of a bucket were written by a newer build; upgrade ipfs-kit-py")
            return Settings(
                Quota(*quota),
                tuple(Protection(*each) for each in protections),
                tuple(
                    Rule(name, tuple(paths), tuple(branches), deny, most, tuple(types), tuple(kinds), advice)
                    for name, paths, branches, deny, most, types, kinds, advice in rules
                ),
                op_index,
            )
        except (ValueError, TypeError) as exc:
            raise FormatError("the settings of a bucket do not parse; run verify") from exc

    def at(self, op_index: int) -> Settings:
        """The same, set by another op."""
        return replace(self, op_index=op_index)

    def protecting(self, branch: str) -> Protection | None:
        """What protects a branch: the strictest of those that cover it."""
        found = [each for each in self.protections if each.covers(branch)]
        return max(found, key=lambda each: each.merges_only, default=None)

    def with_quota(self, quota: Quota) -> Settings:
        """With another quota.

        Raises:
            InvalidInput: A limit is below 0.
        """
        for what, limit in (("bytes", quota.size_bytes), ("entries", quota.entries)):
            if limit is not None and not 0 <= limit <= _LIMIT_MAX:
                raise InvalidInput(f"the quota of {what} must be from 0 to 2**63-1; leave it out for no limit")
        return replace(self, quota=quota)

    def with_protection(self, protection: Protection) -> Settings:
        """With branches protected; another protection of the same pattern is replaced.

        Raises:
            InvalidInput: The pattern is none.
            BudgetExceeded: There are too many.
        """
        _check_texts("branch", (protection.branch,))
        kept = tuple(each for each in self.protections if each.branch != protection.branch)
        if len(kept) >= PROTECTIONS_MAX:
            raise BudgetExceeded(f"a bucket has at most {PROTECTIONS_MAX} protections; use patterns")
        return replace(self, protections=tuple(sorted((*kept, protection), key=lambda each: each.branch)))

    def without_protection(self, branch: str) -> Settings | None:
        """Without the protection of a pattern; None when there is none."""
        kept = tuple(each for each in self.protections if each.branch != branch)
        return replace(self, protections=kept) if len(kept) < len(self.protections) else None

    def with_rule(self, rule: Rule) -> Settings:
        """With a rule; one of the same name is replaced.

        Raises:
            InvalidInput: A field is malformed, or the rule demands nothing.
            BudgetExceeded: There are too many.
        """
        _check_rule(rule)
        kept = tuple(each for each in self.rules if each.name != rule.name)
        if len(kept) >= RULES_MAX:
            raise BudgetExceeded(f"a bucket has at most {RULES_MAX} rules; drop some")
        return replace(self, rules=tuple(sorted((*kept, rule), key=lambda each: each.name)))

    def without_rule(self, name: str) -> Settings | None:
        """Without the rule of a name; None when there is none."""
        kept = tuple(each for each in self.rules if each.name != name)
        return replace(self, rules=kept) if len(kept) < len(self.rules) else None


class Judge:
    """The rules of one branch, ready to be asked about changes.

    Args:
        settings: Of the bucket.
        branch: What the commit goes to.
    """

    def __init__(self, settings: Settings, branch: str) -> None:
        self._rules = [
            (rule, Rules(((0, parse_rules(rule.paths)),)) if rule.paths else None)
            for rule in settings.rules
            if not rule.branches or any(fnmatchcase(branch, pattern) for pattern in rule.branches)
        ]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def refusal(self, change: Change) -> tuple[str, str] | None:
        """The rule that a change breaks and why; None when it breaks none. Removing breaks no rule."""
        item = change.after
        if item is None or not change.parts:
            return None
        for rule, patterns in self._rules:
            if patterns is not None and not _within(patterns, change):
                continue
            why = _broken(rule, change, item)
            if why is not None:
                return rule.name, f"{why}; {rule.advice}" if rule.advice else why
        return None


def _within(patterns: Rules, change: Change) -> bool:
    """Whether a path or a folder it is in matches."""
    for depth in range(1, len(change.parts) + 1):
        is_dir = depth < len(change.parts) or (change.after is not None and change.after.is_dir)
        if patterns.ignores(change.parts[:depth], is_dir):
            return True
    return False


def _broken(rule: Rule, change: Change, item: Item) -> str | None:
    if rule.deny:
        return "nothing may be added or changed there"
    if rule.kinds and item.kind.value not in rule.kinds:
        return f"it is a {item.kind.value}, and only {', '.join(rule.kinds)} may be there"
    if item.kind is not Kind.FILE:
        return None
    if rule.max_bytes is not None and item.size > rule.max_bytes:
        return f"it has {item.size} bytes, more than {rule.max_bytes}"
    if rule.types:
        name = change.parts[-1].decode("utf-8", "replace")
        media = (item.attrs or {}).get("type") or mimetypes.guess_type(name)[0]
        if media is None or not any(fnmatchcase(media.lower(), pattern.lower()) for pattern in rule.types):
            return f"its media type is {media or 'unknown'}, and only {', '.join(rule.types)} may be there"
    return None


def _check_rule(rule: Rule) -> None:
    if not _NAME.fullmatch(rule.name):
        raise InvalidInput("a rule's name has 1 to 64 letters, digits, dots, dashes or underscores")
    _check_texts("path pattern", rule.paths)
    _check_texts("branch", rule.branches)
    _check_texts("media type", rule.types)
    parse_rules(rule.paths)
    unknown = set(rule.kinds) - KINDS
    if unknown:
        raise InvalidInput(f"{sorted(unknown)[0][:40]!a} is no kind: use {', '.join(sorted(KINDS))}")
    if len(rule.advice) > TEXT_CHARS_MAX:
        raise InvalidInput(f"the advice of a rule has at most {TEXT_CHARS_MAX} characters")
    if rule.max_bytes is not None and not 0 <= rule.max_bytes <= _LIMIT_MAX:
        raise InvalidInput("max_bytes must be from 0 to 2**63-1")
    if not (rule.deny or rule.types or rule.kinds or rule.max_bytes is not None):
        raise InvalidInput("the rule demands nothing: give deny, max_bytes, types or kinds")


def _check_texts(what: str, texts: Sequence[str]) -> None:
    if len(texts) > PATTERNS_MAX:
        raise BudgetExceeded(f"a rule has at most {PATTERNS_MAX} of each kind of pattern")
    for text in texts:
        if not isinstance(text, str) or not 1 <= len(text) <= TEXT_CHARS_MAX or not text.isprintable():
            raise InvalidInput(f"a {what} has 1 to {TEXT_CHARS_MAX} printable characters")
