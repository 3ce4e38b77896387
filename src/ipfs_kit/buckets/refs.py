"""Refs: names that move by compare-and-swap, here or on a remote [25].

A ref's value is ``[commit, generation, op id, nonce, nonces]``. The generation rises by one with every swap and
survives delete and recreate (a deleted ref is a value without commit). ``nonces`` are those of the up to 16 swaps
before the head, newest first, so a swap whose answer was lost is found again by reading: nonce present = it happened;
absent and the generation moved = it did not; moved further than the list reaches, or unreadable = unknown.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable.state import Schema, StateDB, Tx
from ipfs_kit.errors import FormatError, InvalidInput, InvalidName, RefConflict, Unavailable, Unsupported
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ipld.cid import CID

BRANCHES: Final = "heads/"
"""Namespace of branches."""
TAGS: Final = "tags/"
"""Namespace of tags."""
NONCES_KEPT: Final = 16
"""Nonces before the head: how many later swaps a lost answer may be resolved across."""
NONCE_BYTES: Final = (8, 32)
"""Shortest and longest nonce: below 8 bytes two swaps could share one by chance."""
OP_ID_BYTES_MAX: Final = 64
REF_NAME_BYTES_MAX: Final = 255
REF_VALUE_BYTES_MAX: Final = 4096
"""Largest encoded value: 17 nonces of 32 bytes, two ids and a CID need under 1 KiB."""
REFS_PAGE_MAX: Final = 1_000
ATTEMPTS_MAX: Final = 3
"""Conditional writes of one swap whose answers may get lost before the outcome is called unknown."""
# Git's own list, plus what separates parts of our locations: ``@`` (ref, moment), ``#`` (session).
_FORBIDDEN: Final = frozenset(" ~^:?*[\\@#")


@dataclass(frozen=True, slots=True)
class RefValue:
    """What a ref holds.

    Args:
        commit: The commit it names; None when it was deleted and only its generation lives on.
        generation: Number of swaps so far, from 1.
        op_id: The op that made the last swap.
        nonce: Chosen at random by the writer of the last swap.
        nonces: Those of the swaps before, newest first, at most 16.
    """

    commit: CID | None
    generation: int
    op_id: bytes
    nonce: bytes
    nonces: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The stored form: a dag-cbor list in the order of the fields."""
        return dag_cbor.encode([self.commit, self.generation, self.op_id, self.nonce, list(self.nonces)])

    @staticmethod
    def decode(data: bytes) -> RefValue:
        """The value of a stored form.

        Raises:
            FormatError: it is no value.
        """
        if len(data) > REF_VALUE_BYTES_MAX:
            raise FormatError(f"a ref value has {len(data)} bytes, more than {REF_VALUE_BYTES_MAX}")
        row: Any = dag_cbor.decode(data)
        if not isinstance(row, list) or len(row) != 5 or not isinstance(row[4], list):
            raise FormatError("a ref value is not a list of five; run verify")
        value = RefValue(row[0], row[1], row[2], row[3], tuple(row[4]))
        value._check()
        return value

    def _check(self) -> None:
        valid = (
            (self.commit is None or isinstance(self.commit, CID))
            and type(self.generation) is int
            and 1 <= self.generation < 1 << 63
            and type(self.op_id) is bytes
            and len(self.op_id) <= OP_ID_BYTES_MAX
            and len(self.nonces) == min(NONCES_KEPT, self.generation - 1)
            and all(_is_nonce(nonce) for nonce in (self.nonce, *self.nonces))
        )
        if not valid:
            raise FormatError("a ref value has a field of the wrong form; run verify")


class Outcome(StrEnum):
    """What became of a swap."""

    DONE = "done"
    NOT_DONE = "not_done"
    PENDING = "pending"
    """Not done, and nothing has moved: a request still on its way could yet arrive."""
    UNKNOWN = "unknown"


def outcome_of(current: RefValue | None, expected: int, nonce: bytes) -> Outcome:
    """What became of a swap of generation ``expected`` with ``nonce``, judging by the present value."""
    generation = current.generation if current is not None else 0
    if current is None or generation <= expected:
        # A generation below the expected one means that the store lost acknowledged swaps: nothing can be concluded.
        return Outcome.PENDING if generation == expected else Outcome.UNKNOWN
    behind = generation - (expected + 1)
    if behind == 0:
        return Outcome.DONE if current.nonce == nonce else Outcome.NOT_DONE
    if behind > len(current.nonces):
        return Outcome.UNKNOWN
    return Outcome.DONE if current.nonces[behind - 1] == nonce else Outcome.NOT_DONE


def successor(current: RefValue | None, commit: CID | None, op_id: bytes, nonce: bytes) -> RefValue:
    """The value that follows ``current``."""
    if current is None:
        return RefValue(commit, 1, op_id, nonce)
    nonces = (current.nonce, *current.nonces)[:NONCES_KEPT]
    return RefValue(commit, current.generation + 1, op_id, nonce, nonces)


@dataclass(frozen=True, slots=True)
class Ref:
    """One ref of a listing."""

    name: str
    value: RefValue


@dataclass(frozen=True, slots=True)
class RefPage:
    """One page of refs, by name."""

    refs: tuple[Ref, ...]
    cursor: str | None
    """Pass as ``after`` for the next page; None at the end."""


class RefStore(ABC):
    """Refs of many buckets, moved by compare-and-swap.

    Concurrency: of several swaps that expect one generation, from any threads, processes or machines, exactly one
    happens. Crash and retry: ``compare_and_swap`` may be called again with the same nonce; it then returns what
    happened the first time and never swaps twice. A store implements ``read``, ``write`` and ``names``; the client
    libraries below ``write`` must not retry. After more than 16 later swaps only ``probe`` tells a lost race from a
    lost answer.
    """

    @abstractmethod
    def read(self, bucket: str, name: str) -> RefValue | None:
        """The value of a ref, also of a deleted one; None when there never was one.

        Raises:
            Unavailable: the store could not be asked.
        """

    @abstractmethod
    def write(self, bucket: str, name: str, current: RefValue | None, value: RefValue) -> bool:
        """Replace ``current`` by ``value`` if the ref still holds ``current``: one atomic step, no retries.

        Returns:
            False when it holds something else.

        Raises:
            Unavailable: no answer came; the write may have happened, or happen yet.
        """

    @abstractmethod
    def names(self, bucket: str, prefix: str, after: str, limit: int) -> Sequence[tuple[str, RefValue]]:
        """At most ``limit`` refs that are not deleted, by code points, named ``prefix…`` and after ``after``."""

    def get(self, bucket: str, name: str) -> RefValue | None:
        """The value of a ref; None when it is absent or deleted."""
        value = self.read(check_bucket_id(bucket), check_full_name(name))
        return value if value is not None and value.commit is not None else None

    def generation(self, bucket: str, name: str) -> int:
        """The generation to expect in the next swap: 0 for a ref that never was; deleting does not set it back."""
        value = self.read(check_bucket_id(bucket), check_full_name(name))
        return value.generation if value is not None else 0

    def list(self, bucket: str, prefix: str = "", *, after: str | None = None, limit: int = 100) -> RefPage:
        """One page of refs whose names begin with ``prefix``."""
        if limit < 1:
            raise InvalidInput("limit must be 1 or more")
        limit = min(limit, REFS_PAGE_MAX)
        found = self.names(check_bucket_id(bucket), prefix, after or "", limit + 1)
        refs = tuple(Ref(name, value) for name, value in found[:limit])
        return RefPage(refs, refs[-1].name if len(found) > limit else None)

    def compare_and_swap(
        self, bucket: str, name: str, expected: int, commit: CID | None, *, op_id: bytes, nonce: bytes
    ) -> RefValue:
        """Move a ref from one generation to the next.

        Args:
            bucket: The bucket's surrogate id.
            name: Full name, ``heads/…`` or ``tags/…``.
            expected: The generation it must have; see ``generation``.
            commit: The commit to name; None deletes the ref.
            op_id: The op that does this.
            nonce: 8 to 32 random bytes of this swap; the same again when it is tried again.

        Returns:
            The value as swapped in, or, when a former try of this swap had happened, the present value.

        Raises:
            RefConflict: it had another generation.
            Unavailable: ``details["outcome"] == "unknown"``: no answer came and reading again did not settle it.
        """
        check_swap(bucket, name, expected, commit, op_id, nonce)
        current = self.read(bucket, name)
        done = settle(bucket, name, current, expected, nonce)
        if done is not None:
            return done
        value = successor(current, commit, op_id, nonce)
        for _ in range(ATTEMPTS_MAX):
            lost: Unavailable | None = None
            try:
                if self.write(bucket, name, current, value):
                    return value
            except Unavailable as exc:
                lost = exc
            # A refused write is looked at like a lost answer: an earlier one of ours may have arrived meanwhile.
            found, outcome = self._resolve(bucket, name, expected, nonce)
            if outcome is Outcome.DONE and found is not None:
                return found
            if outcome is Outcome.NOT_DONE:
                raise conflict(bucket, name, expected, found)
            if outcome is Outcome.UNKNOWN:
                raise _unknown(bucket, name) from lost
        raise _unknown(bucket, name)

    def probe(self, bucket: str, name: str, expected: int, nonce: bytes) -> Outcome:
        """What became of a swap whose caller died before it got the answer (an open intent of the ledger)."""
        return self._resolve(bucket, name, expected, nonce)[1]

    def _resolve(self, bucket: str, name: str, expected: int, nonce: bytes) -> tuple[RefValue | None, Outcome]:
        try:
            found = self.read(bucket, name)
        except Unavailable:
            return None, Outcome.UNKNOWN
        return found, outcome_of(found, expected, nonce)


_REFS_TABLE = """CREATE TABLE refs(
    bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, live INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY(bucket, name)) STRICT, WITHOUT ROWID"""
REFS_SCHEMA: Final = Schema("refs", 1, (_REFS_TABLE,))
"""Tables of ``SqliteRefStore``; ``live`` is 0 for a deleted ref, whose row keeps its generation."""
_AFTER_ALL: Final = "\U0010ffff"


class SqliteRefStore(RefStore):
    """Refs in ``state.db``: a swap is part of its op's own transaction.

    Args:
        state: Opened with ``REFS_SCHEMA`` among its schemas.
    """

    def __init__(self, state: StateDB) -> None:
        self._state = state

    def read(self, bucket: str, name: str) -> RefValue | None:  # noqa: D102 - docstring inherited
        return _value_of(self._state.query(_SELECT, (bucket, name)))

    def write(self, bucket: str, name: str, current: RefValue | None, value: RefValue) -> bool:  # noqa: D102 - inherited
        with self._state.transaction() as tx:
            return self._write(tx, bucket, name, current, value)

    def compare_and_swap(  # noqa: D102 - docstring inherited
        self, bucket: str, name: str, expected: int, commit: CID | None, *, op_id: bytes, nonce: bytes
    ) -> RefValue:
        # One transaction reads and writes, and its outcome is never ambiguous: a failed commit poisons the state.
        with self._state.transaction() as tx:
            return self.swap_in(tx, bucket, name, expected, commit, op_id=op_id, nonce=nonce)

    def names(self, bucket: str, prefix: str, after: str, limit: int) -> Sequence[tuple[str, RefValue]]:  # noqa: D102
        rows = self._state.query(_LIST, (bucket, after, prefix, prefix + _AFTER_ALL, limit))
        return [(name, RefValue.decode(data)) for name, data in rows]

    def read_in(self, tx: Tx, bucket: str, name: str) -> RefValue | None:
        """The value inside a transaction, its own changes included; deleted refs too."""
        return _value_of(tx.execute(_SELECT, (bucket, name)))

    def swap_in(
        self, tx: Tx, bucket: str, name: str, expected: int, commit: CID | None, *, op_id: bytes, nonce: bytes
    ) -> RefValue:
        """``compare_and_swap`` inside the op's transaction: it happens when that commits.

        Raises:
            RefConflict: the ref has another generation.
        """
        check_swap(bucket, name, expected, commit, op_id, nonce)
        current = self.read_in(tx, bucket, name)
        done = settle(bucket, name, current, expected, nonce)
        if done is not None:
            return done
        value = successor(current, commit, op_id, nonce)
        self._write(tx, bucket, name, current, value)
        return value

    def _write(self, tx: Tx, bucket: str, name: str, current: RefValue | None, value: RefValue) -> bool:
        if self.read_in(tx, bucket, name) != current:
            return False
        live = int(value.commit is not None)
        tx.execute(_UPSERT, (bucket, name, value.generation, live, value.encode()))
        return True


_SELECT = "SELECT value FROM refs WHERE bucket=? AND name=?"
_LIST = "SELECT name, value FROM refs WHERE bucket=? AND name>? AND name>=? AND name<? AND live=1 ORDER BY name LIMIT ?"
_UPSERT = "INSERT OR REPLACE INTO refs(bucket, name, generation, live, value) VALUES(?,?,?,?,?)"


def _value_of(rows: list[tuple[Any, ...]]) -> RefValue | None:
    return RefValue.decode(rows[0][0]) if rows else None


def settle(bucket: str, name: str, current: RefValue | None, expected: int, nonce: bytes) -> RefValue | None:
    """Judge a swap before it is written: the value when a former try had happened, None when it may go ahead.

    Raises:
        RefConflict: the ref has another generation.
    """
    outcome = outcome_of(current, expected, nonce)
    if outcome is Outcome.DONE:
        return current
    if outcome is not Outcome.PENDING:
        raise conflict(bucket, name, expected, current)
    return None


def conflict(bucket: str, name: str, expected: int, current: RefValue | None) -> RefConflict:
    """The error of a swap that came too late."""
    generation = current.generation if current is not None else 0
    commit = current.commit if current is not None else None
    return RefConflict(
        f"{name} moved: it has generation {generation}, not {expected}; read it, merge or rebuild, and try again",
        bucket=bucket,
        name=name,
        expected=expected,
        generation=generation,
        commit=str(commit) if commit is not None else None,
    )


def _unknown(bucket: str, name: str) -> Unavailable:
    return Unavailable(
        f"whether {name} was moved is not known: the store gave no clear answer; probe it again when it can be reached",
        bucket=bucket,
        name=name,
        outcome=Outcome.UNKNOWN.value,
    )


def require_conditional_writes(store: RefStore, bucket: str, commit: CID, nonces: tuple[bytes, bytes, bytes]) -> None:
    """Refuse a store that ignores the condition of a write, before anything is trusted to it.

    Args:
        store: The store to try.
        bucket: A scratch bucket id that nobody else uses.
        commit: Any CID.
        nonces: Three different random nonces.

    Raises:
        Unsupported: it overwrote a ref whose value was not the expected one.
    """
    name = "probe/conditional"
    base = store.read(bucket, name)
    first = successor(base, commit, b"probe", nonces[0])
    if not store.write(bucket, name, base, first):
        raise Unsupported(f"the ref store refused a write whose condition held; probe it with another id than {bucket}")
    second = successor(first, commit, b"probe", nonces[1])
    late = successor(base, commit, b"probe", nonces[2])
    if store.write(bucket, name, base, late) or not store.write(bucket, name, first, second):
        raise Unsupported("the ref store ignores conditions (If-Match, If-None-Match); use a store that honours them")
    if store.write(bucket, name, first, late) or store.read(bucket, name) != second:
        raise Unsupported("the ref store ignores conditions (If-Match); use a store that honours them")


def check_swap(bucket: str, name: str, expected: int, commit: CID | None, op_id: bytes, nonce: bytes) -> None:
    """Refuse arguments that no swap can have.

    Raises:
        InvalidInput: one is malformed.
    """
    check_bucket_id(bucket)
    check_full_name(name)
    if type(expected) is not int or expected < 0:
        raise InvalidInput("the expected generation is a number from 0 (a ref that never was)")
    if commit is not None and not isinstance(commit, CID):
        raise InvalidInput("a ref names a commit CID, or None to be deleted")
    if not isinstance(op_id, bytes) or len(op_id) > OP_ID_BYTES_MAX:
        raise InvalidInput(f"an op id has at most {OP_ID_BYTES_MAX} bytes")
    if not _is_nonce(nonce):
        raise InvalidInput(f"a nonce has {NONCE_BYTES[0]} to {NONCE_BYTES[1]} random bytes")


def _is_nonce(nonce: object) -> bool:
    return type(nonce) is bytes and NONCE_BYTES[0] <= len(nonce) <= NONCE_BYTES[1]


def check_bucket_id(bucket: str) -> str:
    """Return a bucket's surrogate id when it is 1 to 64 ASCII letters, digits, ``-`` or ``_``.

    Raises:
        InvalidName: it is not.
    """
    if not isinstance(bucket, str) or not 1 <= len(bucket) <= 64 or not bucket.isascii():
        raise InvalidName("a bucket id has 1 to 64 ASCII characters")
    if not bucket.replace("-", "").replace("_", "").isalnum():
        raise InvalidName("a bucket id has only letters, digits, '-' and '_'")
    return bucket


def check_full_name(name: str) -> str:
    """Return a full ref name (``heads/main``) when it follows git's rules (git-check-ref-format) and ours.

    At least two components; none empty, beginning with a dot or dash, or ending in a dot or ``.lock``; no ``..``,
    control or format characters, spaces, lone surrogates, or any of ``~^:?*[\\@#``; at most 255 bytes of UTF-8.

    Raises:
        InvalidName: it does not.
    """
    reason = _fault(name)
    if reason is not None:
        shown = ascii(name if isinstance(name, str) and len(name) <= 80 else str(name)[:80])
        raise InvalidName(f"{shown} cannot name a ref: {reason}", name=shown)
    return name


def _fault(name: str) -> str | None:
    if not isinstance(name, str) or "/" not in name:
        return "write it with its namespace, like heads/main or tags/v1"
    if len(name) > REF_NAME_BYTES_MAX or any("\ud800" <= char <= "\udfff" for char in name):
        return f"it must be at most {REF_NAME_BYTES_MAX} bytes of valid UTF-8"
    if len(name.encode()) > REF_NAME_BYTES_MAX:
        return f"it must be at most {REF_NAME_BYTES_MAX} bytes of valid UTF-8"
    bad = next((char for char in name if char in _FORBIDDEN or unicodedata.category(char)[0] in "CZ"), None)
    if bad is not None:
        return f"the character {bad!a} is not allowed in it"
    if ".." in name:
        return "'..' is not allowed in it"
    for part in name.split("/"):
        if not part or part.startswith((".", "-")) or part.endswith((".", ".lock")):
            return "no part may be empty, begin with '.' or '-', or end with '.' or '.lock'"
    return None


def branch_ref(name: str) -> str:
    """The full name of a branch."""
    return check_full_name(BRANCHES + name)


def tag_ref(name: str) -> str:
    """The full name of a tag."""
    return check_full_name(TAGS + name)
