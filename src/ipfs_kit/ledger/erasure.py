"""Erasure: a person's key is destroyed, and whatever keeps something of them in the clear forgets it (decision 20).

Op records stay, byte for byte: what they sealed under the key is noise from then on, and proofs over them still verify.
Whoever keeps personal data outside of records registers an ``Erasable``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ipfs_kit.durable.state import StateDB
from ipfs_kit.errors import InvalidInput
from ipfs_kit.keys import KeyRing
from ipfs_kit.ledger import record_holds
from ipfs_kit.ledger.record import LOGS
from ipfs_kit.ledger.select import Where

if TYPE_CHECKING:
    from ipfs_kit.ledger.ledger import Ledger

_CHUNK: Final = 4 << 20


class Erasable(Protocol):
    """Something that keeps personal data."""

    name: str
    """What it is, for the record of an erasure; never a person's."""

    def erase(self, subject: str) -> int:
        """Forget a person, given by surrogate id; how many things went. Called again after a crash."""

    def residues(self, needles: Sequence[bytes]) -> Iterator[str]:
        """Where any of these bytes still lie."""


class Erasure:
    """The registry of what forgets.

    Args:
        erasables: What is known from the start, in order; the key comes first, since all else may be repeated.
    """

    def __init__(self, erasables: Iterable[Erasable]) -> None:
        self._erasables = list(erasables)

    def register(self, erasable: Erasable) -> None:
        """Add what keeps personal data.

        Raises:
            InvalidInput: Its name is taken.
        """
        if any(each.name == erasable.name for each in self._erasables):
            raise InvalidInput(f"{erasable.name!r} is registered already")
        self._erasables.append(erasable)

    def erase(self, subject: str) -> dict[str, int]:
        """Let everything forget a person; how many things went, by name."""
        return {each.name: each.erase(subject) for each in self._erasables}

    def residues(self, needles: Sequence[bytes]) -> list[str]:
        """Where any of these bytes still lie, as ``NAME: PLACE``."""
        if not needles or any(len(needle) < 4 for needle in needles):
            raise InvalidInput("give needles of at least four bytes: shorter ones are found by chance")
        return [f"{each.name}: {place}" for each in self._erasables for place in each.residues(needles)]


def hold_on(ledger: Ledger, holds: Sequence[record_holds.RecordHold], subject: str) -> record_holds.RecordHold | None:
    """The hold that keeps a record of a person, or None.

    Args:
        ledger: The ledger.
        holds: Holds that bind now.
        subject: Surrogate id.
    """
    for hold in holds:
        where = Where(
            subject=frozenset({subject}),
            stream=None if hold.stream is None else frozenset({hold.stream}),
            since_ns=hold.since_ns,
            until_ns=hold.until_ns,
        )
        if any(True for log in LOGS for _ in ledger.select(log, where)):
            return hold
    return None


def on_record(ledger: Ledger, subject: str) -> bool:
    """Whether a record was sealed under a person's key, also when the key is gone; ``subject`` is a surrogate id."""
    where = Where(subject=frozenset({subject}))
    return any(True for log in LOGS for _ in ledger.select(log, where))


class KeyOf:
    """The person's key and name in the ring.

    Args:
        keys: The key ring.
    """

    name = "key"

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def erase(self, subject: str) -> int:
        """Destroy the key: overwritten, not only unlinked; every process finds it gone at its next call."""
        return self._keys.destroy_many([subject])

    def residues(self, needles: Sequence[bytes]) -> Iterator[str]:
        """Names that are still in the ring; its files are wrapped, so a scan of them would find nothing."""
        for surrogate, name in self._keys.subjects():
            if any(needle in name.encode("utf-8", "surrogatepass") for needle in needles):
                yield surrogate


class IdempotencyRows:
    """Results kept for repeated calls of the person; they are sealed under the key, and go with it.

    Args:
        state: ``state.db``.
    """

    name = "kept results"

    def __init__(self, state: StateDB) -> None:
        self._state = state

    def erase(self, subject: str) -> int:
        """Delete them."""
        with self._state.transaction() as tx:
            return len(tx.execute("DELETE FROM idempotency WHERE principal = ? RETURNING 1", (subject,)))

    def residues(self, needles: Sequence[bytes]) -> Iterator[str]:
        """Nothing of it is in the clear."""
        return iter(())


class FileScan:
    """Every byte of every file of the store: nothing to erase, only to find.

    Args:
        directory: The store's directory.
    """

    name = "files"

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)

    def erase(self, subject: str) -> int:
        """What files hold of a person is sealed."""
        return 0

    def residues(self, needles: Sequence[bytes]) -> Iterator[str]:
        """Files that hold any of the bytes as they are."""
        keep = max(map(len, needles)) - 1
        for folder, _, names in os.walk(self._directory):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and _holds(path, needles, keep):
                    yield os.path.relpath(path, self._directory)


def _holds(path: str, needles: Sequence[bytes], keep: int) -> bool:
    with open(path, "rb") as file:
        held = b""
        while chunk := file.read(_CHUNK):
            held = held[-keep:] + chunk if keep else chunk
            if any(needle in held for needle in needles):
                return True
    return False
