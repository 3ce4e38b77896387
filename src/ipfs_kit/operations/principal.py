"""Who is calling: set by authentication only, never by an argument."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ipfs_kit.buckets.paths import Path, check_bucket_name, is_within, parse_path
from ipfs_kit.errors import Denied, InvalidInput
from ipfs_kit.operations.catalogue import Operation

_NARROWED = re.compile(r"(?:\*|[a-z]+:(?:\*|[a-z]+))@")


@dataclass(frozen=True, slots=True)
class Grant:
    """A scope that holds at one place only: ``files:read@BUCKET/path``.

    Args:
        scope: The part before the ``@``: an exact scope, ``toolset:*`` or ``*``.
        bucket: The bucket.
        path: Folder or file below whose path it holds; the empty tuple is the whole bucket.
    """

    scope: str
    bucket: str
    path: Path

    @staticmethod
    def parse(text: str) -> Grant:
        """Read a narrowed scope; the path is taken byte for byte, as the buckets layer takes it.

        Raises:
            InvalidInput: It is none, or its bucket or path is not allowed.
        """
        scope, _, place = text.partition("@")
        bucket, _, path = place.partition("/")
        if not _NARROWED.match(text) or not place:
            raise InvalidInput(
                f"the scope {text[:200]!a} is not understood: write TOOLSET:VERB@BUCKET/path, TOOLSET:*@BUCKET or *@BUCKET"
            )
        return Grant(scope, check_bucket_name(bucket), parse_path(path))

    def gives(self, scope: str) -> bool:
        """Whether it gives a scope, somewhere."""
        return self.scope in ("*", scope, f"{scope.partition(':')[0]}:*")

    def covers(self, bucket: str, path: Path) -> bool:
        """Whether a place lies within its own, compared by whole components."""
        return bucket == self.bucket and is_within(path, self.path)


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Args:
        name: Stable name; kept only sealed, records carry a random surrogate.
        scopes: Permissions held: exact scopes, ``toolset:*`` or ``*``, each followed by ``@BUCKET/path`` to hold there only.

    Raises:
        InvalidInput: A narrowed scope does not parse.
    """

    name: str
    scopes: frozenset[str] = frozenset({"*"})
    grants: tuple[Grant, ...] = field(init=False, repr=False, compare=False, default=())
    """The narrowed scopes; empty for a caller whose every call needs no look at places."""

    def __post_init__(self) -> None:
        narrowed = sorted(scope for scope in self.scopes if "@" in scope)
        parsed = tuple(Grant.parse(scope) for scope in narrowed)
        object.__setattr__(self, "grants", () if "*" in self.scopes else parsed)

    def may(self, scope: str) -> bool:
        """Whether a scope is held everywhere."""
        return "*" in self.scopes or scope in self.scopes or f"{scope.partition(':')[0]}:*" in self.scopes

    def may_at(self, scope: str, bucket: str, path: Path) -> bool:
        """Whether a scope is held at a place."""
        return self.may(scope) or any(grant.gives(scope) and grant.covers(bucket, path) for grant in self.grants)

    def may_somewhere(self, scope: str) -> bool:
        """Whether a scope is held at any place at all."""
        return self.may(scope) or any(grant.gives(scope) for grant in self.grants)

    def buckets(self, scope: str) -> list[str] | None:
        """Names of the buckets a scope is held for as a whole, sorted; None means all."""
        if self.may(scope):
            return None
        return sorted({grant.bucket for grant in self.grants if grant.gives(scope) and not grant.path})


LOCAL = Principal("local")
"""The owner of the process, who can read the store's files anyway."""


def authorise(principal: Principal, operation: Operation, target: str | None) -> None:
    """Refuse a call whose principal lacks the operation's scope.

    Args:
        principal: The caller.
        operation: What is called.
        target: The object named by the arguments. Whether a narrowed scope holds there, ``scopes.judge`` decides next.

    Raises:
        Denied: The scope is not held.
    """
    if not principal.may_somewhere(operation.scope):
        about = f" on {target}" if target else ""
        raise Denied(
            f"{operation.name}{about} needs the scope {operation.scope!r}: ask the store's owner for it",
            scope=operation.scope,
        )
