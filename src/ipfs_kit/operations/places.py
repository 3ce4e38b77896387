"""What an operation touches, declared beside it: scopes narrowed to a place are judged on this (decision 31)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Flag, auto
from typing import Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.paths import Location, Path, Ref, looks_like_cid
from ipfs_kit.errors import InvalidInput


class Access(Flag):
    """What is done at a place."""

    READ = auto()
    WRITE = auto()
    PAST = auto()
    """Earlier versions are looked at, whatever the reference says."""


READ, WRITE, PAST = Access.READ, Access.WRITE, Access.PAST


@dataclass(frozen=True, slots=True)
class Place:
    """One place a call touches, parsed as the buckets layer parses it.

    Args:
        ref: Bucket and state.
        path: Components below the bucket's root; the empty tuple is the whole bucket.
        access: What is done there.
    """

    ref: Ref
    path: Path
    access: Access

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.ref.bucket

    @property
    def past(self) -> bool:
        """Whether a state other than a present working session is read."""
        return bool(self.access & PAST) or not self.ref.live

    @property
    def by_cid(self) -> bool:
        """Whether the state is a commit named by its CID, whose block anyone who can store a block could have made."""
        return self.ref.name is not None and looks_like_cid(self.ref.name)


@dataclass(frozen=True, slots=True)
class Touch:
    """The place an argument names; nothing when the argument is left out.

    Args:
        argument: Its name; the value is ``BUCKET[@ref][#session][:/path]``.
        access: What is done there.
        whole: The operation works on the whole bucket, whatever path the text may hold.
        state: Name of an argument that holds a further state of the same bucket, read at the same path.
    """

    argument: str
    access: Access
    whole: bool = False
    state: str | None = None

    def places(self, bound: Mapping[str, Any]) -> list[Place]:
        """The places a call touches through this argument.

        Args:
            bound: Its arguments, checked by ``bind``.

        Raises:
            InvalidInput: The text is no reference; the operation itself would refuse it too.
        """
        text = bound[self.argument]
        if text is None:
            return []
        location = Location.parse(_text(text))
        path = () if self.whole else location.path
        found = [Place(location.ref, path, self.access)]
        if self.state is not None and (state := bound[self.state]) is not None:
            found.append(Place(Ref.parse(f"{location.bucket}@{_text(state)}"), path, READ))
        return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput("a place is text: BUCKET:/path")
    return value


@dataclass(frozen=True, slots=True)
class Everywhere:
    """It reaches content or records wherever they are: a narrowed scope never suffices.

    Args:
        why: How it reaches them, as the words after the operation's name in a refusal.
    """

    why: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """It touches no stored content, or filters what it shows: its scope suffices however narrowed.

    Args:
        why: What it works on instead.
    """

    why: str


@dataclass(frozen=True, slots=True)
class OfOp:
    """It touches what a recorded operation touched.

    Args:
        argument: Name of the argument that names the op.
    """

    argument: str


Places = tuple[Touch, ...] | Everywhere | Nowhere | OfOp


def places_of(declared: tuple[Touch, ...], bound: Mapping[str, Any]) -> list[Place]:
    """Every place a call touches, sources and targets alike.

    Args:
        declared: The operation's declaration.
        bound: The call's arguments.
    """
    return [place for at in declared for place in at.places(bound)]
