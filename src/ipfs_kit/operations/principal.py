"""Who is calling: set by authentication only, never by an argument."""

from __future__ import annotations

from dataclasses import dataclass

from ipfs_kit.errors import Denied
from ipfs_kit.operations.catalogue import Operation


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller.

    Args:
        name: Stable name; kept only sealed, records carry a random surrogate.
        scopes: Permissions held: exact scopes, ``toolset:*`` or ``*``.
    """

    name: str
    scopes: frozenset[str] = frozenset({"*"})

    def may(self, scope: str) -> bool:
        """Whether a scope is held."""
        return "*" in self.scopes or scope in self.scopes or f"{scope.partition(':')[0]}:*" in self.scopes


LOCAL = Principal("local")
"""The owner of the process, who can read the store's files anyway."""


def authorise(principal: Principal, operation: Operation, target: str | None) -> None:
    """Refuse a call whose principal lacks the operation's scope.

    Args:
        principal: The caller.
        operation: What is called.
        target: The object named by the arguments; scopes of today do not narrow by it, a replacement hook may.

    Raises:
        Denied: The scope is not held.
    """
    if not principal.may(operation.scope):
        about = f" on {target}" if target else ""
        raise Denied(
            f"{operation.name}{about} needs the scope {operation.scope!r}: ask the store's owner for it",
            scope=operation.scope,
        )
