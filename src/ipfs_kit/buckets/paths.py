"""Paths inside buckets and the reference grammar; every text is hostile until it came through here [23, 31].

::

    location  = bucket [ "@" ref ] [ moment ] [ "#" session ] [ ":/" path ]      # "#session" may also stand before the moment
    moment    = "@op:" digits | "@time:" ISO-8601
    ref       = branch | tag | commit CID

``B:/p`` reads the caller's workspace, ``B@branch`` a head, ``B@op:N`` the default workspace after op N,
``B@branch@op:N`` the head at N, ``B#session@op:N`` a named session. Path components are ``bytes`` inside the engine
and ``str`` (UTF-8 with surrogateescape) above it, so that any name a disk can hold comes back byte for byte.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import InvalidInput, InvalidName, InvalidPath

Path = tuple[bytes, ...]
"""Components from the root of a bucket; the empty tuple is the root."""

COMPONENT_BYTES_MAX = 255
"""The longest name common file systems hold, so that every bucket can be exported."""
DEPTH_MAX = 256
"""Deepest path: bounds every walk down a tree."""
PATH_BYTES_MAX = 16_384
"""Longest whole path in bytes."""
LOCATION_CHARS_MAX = 20_000
"""Longest reference text that is looked at."""

_BUCKET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
_REF = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/+-]{0,126}[A-Za-z0-9_+-])?\Z")
_SESSION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
_OP_DIGITS_MAX = 18
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def check_bucket_name(name: str) -> str:
    """Return ``name`` when it may name a bucket: 1 to 63 of letters, digits, ``.``, ``_``, ``-``, alphanumeric at
    both ends.

    Raises:
        InvalidName: it may not.
    """
    if not isinstance(name, str) or not _BUCKET.match(name) or ".." in name:
        raise InvalidName(
            f"bucket name {_shown(name)} is not allowed: use 1 to 63 letters, digits, '.', '_' or '-', "
            "beginning and ending with a letter or digit, without '..'",
            name=_shown(name),
        )
    return name


def check_ref_name(name: str) -> str:
    """Return ``name`` when it may name a branch or tag.

    Letters, digits, ``.``, ``_``, ``/``, ``+``, ``-``; at most 128; no ``..``, no ``//``, no component beginning or
    ending with a dot; and nothing that reads as a CID, because ``B@<cid>`` means a commit.

    Raises:
        InvalidName: it may not.
    """
    if (
        not isinstance(name, str)
        or not _REF.match(name)
        or any(not part or part.startswith(".") or part.endswith(".") or ".." in part for part in name.split("/"))
        or looks_like_cid(name)
    ):
        raise InvalidName(
            f"ref name {_shown(name)} is not allowed: use letters, digits, '.', '_', '/', '+' or '-', no '..', no part that "
            "begins or ends with a dot, and nothing that reads as a CID",
            name=_shown(name),
        )
    return name


def check_session_name(name: str) -> str:
    """Return ``name`` when it may name a session (the alphabet of bucket names).

    Raises:
        InvalidName: it may not.
    """
    if not isinstance(name, str) or not _SESSION.match(name):
        raise InvalidName(f"session name {_shown(name)} is not allowed: use 1 to 63 letters, digits, '.', '_' or '-'")
    return name


def looks_like_cid(text: str) -> bool:
    """Whether ``text`` has the shape of a CID, so that refs and commits can never be mistaken for each other."""
    return bool(
        re.match(r"(?:Qm[1-9A-HJ-NP-Za-km-z]{44}|b[a-z2-7]{57,}|k[a-z0-9]{48,}|z[1-9A-HJ-NP-Za-km-z]{47,})\Z", text)
    )


def check_component(name: bytes) -> bytes:
    """Return ``name`` when it may be one component of a path, also of a tree that came from elsewhere.

    Raises:
        InvalidPath: empty, ``.``, ``..``, longer than 255 bytes, or holding ``/`` or NUL.
    """
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name or len(name) > COMPONENT_BYTES_MAX:
        raise InvalidPath(
            f"{_shown(text_of(name))} cannot be a file name: it must be 1 to {COMPONENT_BYTES_MAX} bytes, not '.' or '..', "
            "without '/' or NUL",
            name=_shown(text_of(name)),
        )
    return name


def bytes_of(text: str) -> bytes:
    """A name as bytes: UTF-8, with surrogate escapes turned back into the bytes they stand for.

    Raises:
        InvalidPath: the text holds surrogates that stand for no byte.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as exc:
        raise InvalidPath(f"the name {_shown(text)} holds characters that stand for no bytes") from exc


def text_of(name: bytes) -> str:
    """A name as text that :func:`bytes_of` turns back into the same bytes."""
    return name.decode("utf-8", "surrogateescape")


def parse_path(path: str | bytes | Path) -> Path:
    """Components of a path inside a bucket; a leading and one trailing ``/`` are allowed, both mean nothing.

    Raises:
        InvalidPath: a forbidden component, or more or longer components than allowed.
    """
    if isinstance(path, tuple):
        parts: Path = path
    else:
        raw = bytes_of(path) if isinstance(path, str) else path
        if len(raw) > PATH_BYTES_MAX:
            raise InvalidPath(f"the path is {len(raw)} bytes long; at most {PATH_BYTES_MAX} are allowed")
        trimmed = raw[1:] if raw.startswith(b"/") else raw
        trimmed = trimmed[:-1] if trimmed.endswith(b"/") else trimmed
        parts = tuple(trimmed.split(b"/")) if trimmed else ()
    if len(parts) > DEPTH_MAX:
        raise InvalidPath(f"the path is {len(parts)} names deep; at most {DEPTH_MAX} are allowed")
    for part in parts:
        check_component(part)
    return parts


def format_path(path: Path) -> str:
    """The text of a path: ``/`` for the root, else ``/a/b``."""
    return "/" + text_of(b"/".join(path))


def is_within(path: Path, folder: Path) -> bool:
    """Whether ``path`` is ``folder`` or lies below it."""
    return path[: len(folder)] == folder


@dataclass(frozen=True, slots=True)
class Ref:
    """Which state of which bucket: the caller's workspace unless something narrows it.

    Args:
        bucket: Name of the bucket.
        name: Branch, tag or commit CID; None means a working session.
        op: State after this op index of the main log.
        time_ns: State at this time (nanoseconds since 1970, UTC).
        session: Named session; None means the default workspace.
    """

    bucket: str
    name: str | None = None
    op: int | None = None
    time_ns: int | None = None
    session: str | None = None

    def __post_init__(self) -> None:
        check_bucket_name(self.bucket)
        if self.name is not None and not looks_like_cid(self.name):
            check_ref_name(self.name)
        if self.session is not None:
            check_session_name(self.session)
        if self.name is not None and self.session is not None:
            raise InvalidInput("a reference names either a branch, tag or commit (@) or a session (#), not both")
        if self.op is not None and self.time_ns is not None:
            raise InvalidInput("a reference has either @op: or @time:, not both")
        if self.op is not None and self.op < 0:
            raise InvalidInput("@op: takes an op index of 0 or more")

    @property
    def live(self) -> bool:
        """Whether this is a present working session, the only kind of state that takes changes."""
        return self.name is None and self.op is None and self.time_ns is None

    def at_op(self, op: int) -> Ref:
        """The same reference at an op index instead of a time."""
        return replace(self, op=op, time_ns=None)

    def __str__(self) -> str:
        text = self.bucket
        if self.name is not None:
            text += f"@{self.name}"
        if self.session is not None:
            text += f"#{self.session}"
        if self.op is not None:
            text += f"@op:{self.op}"
        if self.time_ns is not None:
            text += f"@time:{format_time(self.time_ns)}"
        return text

    @staticmethod
    def parse(text: str) -> Ref:
        """Parse ``BUCKET[@ref][@op:N|@time:T][#session]``.

        Raises:
            InvalidInput: the text does not follow the grammar (InvalidName for a bad name in it).
        """
        if len(text) > LOCATION_CHARS_MAX:
            raise InvalidInput("the reference is too long")
        pieces = re.split(r"(?=[@#])", text)
        found: dict[str, str] = {}
        for piece in pieces[1:]:
            key, value = _classify(piece)
            if key in found:
                raise InvalidInput(f"{_shown(text)} names its {key} twice")
            found[key] = value
        return Ref(
            pieces[0],
            found.get("ref"),
            _parse_op(found["op"]) if "op" in found else None,
            parse_time(found["time"]) if "time" in found else None,
            found.get("session"),
        )


@dataclass(frozen=True, slots=True)
class Location:
    """A path in a state of a bucket."""

    ref: Ref
    path: Path

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.ref.bucket

    def __str__(self) -> str:
        return f"{self.ref}:{format_path(self.path)}"

    @staticmethod
    def parse(text: str) -> Location:
        """Parse ``REF:/path``; without ``:/`` the root of the bucket is meant.

        Raises:
            InvalidInput: the reference does not parse.
            InvalidPath: the path is not allowed.
        """
        if len(text) > LOCATION_CHARS_MAX:
            raise InvalidInput("the reference is too long")
        head, separator, tail = text.partition(":/")
        if not separator and head.endswith(":"):
            head = head[:-1]
        return Location(Ref.parse(head), parse_path(tail))


def as_ref(value: str | Ref) -> Ref:
    """A :class:`Ref` from itself or from text."""
    return value if isinstance(value, Ref) else Ref.parse(value)


def as_location(value: str | Location) -> Location:
    """A :class:`Location` from itself or from text."""
    return value if isinstance(value, Location) else Location.parse(value)


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an ISO-8601 time; without a zone UTC is meant.

    Raises:
        InvalidInput: the text is no such time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidInput(f"{_shown(text)} is no time: write it like 2026-01-31T12:00:00Z") from exc
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def format_time(time_ns: int) -> str:
    """The ISO-8601 text of a time, to the microsecond, in UTC."""
    moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return moment.isoformat().replace("+00:00", "Z")


def _classify(piece: str) -> tuple[str, str]:
    if piece.startswith("#"):
        return "session", piece[1:]
    if piece.startswith("@op:"):
        return "op", piece[4:]
    if piece.startswith("@time:"):
        return "time", piece[6:]
    return "ref", piece[1:]


def _parse_op(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _OP_DIGITS_MAX:
        raise InvalidInput(f"@op: takes an op index, not {_shown(text)}")
    return int(text)


def _shown(text: object) -> str:
    """A short, harmless rendering of hostile text for messages."""
    return ascii(text if isinstance(text, str) and len(text) <= 80 else str(text)[:80])
