"""A frozen store takes no changes from anybody until it is thawed; the mark is a file, so every process sees it at once."""

from __future__ import annotations

import json
import os
from typing import Final

from ipfs_kit.durable.files import PathLike, create_exclusive, remove
from ipfs_kit.errors import AlreadyExists, Conflict, InvalidInput, NotFound, ReadOnly

NAME: Final = "frozen"
_REASON_MAX: Final = 1000


class Freeze:
    """The mark of one store.

    Args:
        directory: The store's directory.
    """

    def __init__(self, directory: PathLike) -> None:
        self._path = os.path.join(os.fspath(directory), NAME)

    def __bool__(self) -> bool:
        return os.path.exists(self._path)

    def reason(self) -> str:
        """Why the store is frozen; empty when it is not, or the mark does not tell."""
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.loads(file.read(1 << 14))
        except (OSError, ValueError):
            return ""
        return str(found.get("reason", "")) if isinstance(found, dict) else ""

    def refusal(self) -> ReadOnly:
        """The error for whoever would change something."""
        return ReadOnly(f"the store is frozen ({self.reason()}): 'ipfs-kit ledger unfreeze' lets changes in again")

    def set(self, reason: str) -> None:
        """Freeze, durably.

        Raises:
            InvalidInput: No reason.
            Conflict: It is frozen already.
        """
        if not reason.strip() or len(reason) > _REASON_MAX:
            raise InvalidInput(f"freezing needs a reason of 1 to {_REASON_MAX} characters")
        try:
            create_exclusive(self._path, json.dumps({"reason": reason}).encode())
        except AlreadyExists as exc:
            raise Conflict(f"the store is frozen already ({self.reason()})") from exc

    def lift(self) -> str:
        """Thaw, durably.

        Returns:
            Why it was frozen.

        Raises:
            NotFound: It is not frozen.
        """
        reason = self.reason()
        if not remove(self._path):
            raise NotFound("the store is not frozen")
        return reason
