"""The changes that an op's recorded effect describes (``docs/format/buckets.md``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ipfs_kit.errors import FormatError
from ipfs_kit.ipld.cid import CID

_DEPTH_MAX: Final = 8


class SessionRow(NamedTuple):
    """One row of ``effects``; ``digest`` is None in records that do not carry it."""

    bucket: int
    session: int
    seq: int
    digest: bytes | None


class RefMove(NamedTuple):
    """One swap of a ref."""

    name: str
    before: CID | None
    after: CID | None
    bucket: int
    nonce: bytes


class BucketMade(NamedTuple):
    """A new bucket; ``columns`` are name, type, structure, kind, profile, domain, metadata, created_ns."""

    bucket: int
    uid: str
    columns: tuple[Any, ...]


class BucketDropped(NamedTuple):
    """A bucket and its sessions were dropped."""

    bucket: int
    dropped_ns: int


class BucketBack(NamedTuple):
    """A dropped bucket and the sessions dropped with it are there again."""

    bucket: int


class SessionMade(NamedTuple):
    """A new session and the digest of its first snapshot."""

    session: int
    bucket: int
    name: str
    digest: bytes


class SessionDropped(NamedTuple):
    """A session was dropped."""

    session: int


class SessionBack(NamedTuple):
    """A dropped session is there again."""

    session: int


class SettingsRow(NamedTuple):
    """One row of ``bucket_settings``."""

    bucket: int
    digest: bytes


Change = (
    SessionRow
    | RefMove
    | BucketMade
    | BucketDropped
    | BucketBack
    | SessionMade
    | SessionDropped
    | SessionBack
    | SettingsRow
)


def bucket_changes(effect: Any) -> list[Change]:
    """Every change of an effect on buckets, in order; nothing for effects on anything else.

    Raises:
        FormatError: It has the form of none.
    """
    if not isinstance(effect, list):
        return []
    try:
        return list(_walk(effect, 0))
    except (ValueError, TypeError, IndexError) as exc:
        raise FormatError("an op's effect has no form this build knows; upgrade ipfs-kit-py") from exc


def _walk(effect: Any, depth: int) -> Iterator[Change]:
    if effect is None or effect == []:
        return
    if not isinstance(effect, list) or depth > _DEPTH_MAX:
        raise ValueError("not an effect")
    head = effect[0]
    if isinstance(head, int):
        yield SessionRow(head, effect[1], effect[2], effect[4] if len(effect) > 4 else None)
    elif head in ("commit", "merge", "revert", "cherry_pick", "reset", "rebase", "snapshot"):
        yield from _walk(effect[1], depth + 1)
        yield RefMove(*effect[2])
    elif head in ("branch", "tag", "delete_ref"):
        yield RefMove(*effect[1])
    elif head == "undo":
        for part in effect[2]:
            # The refs moved back come as a list of lists; what became of a session starts with a number.
            if part and isinstance(part[0], list):
                yield from (RefMove(*move) for move in part)
            else:
                yield from _walk(part, depth + 1)
    elif isinstance(head, str):
        yield from _whole(head, effect)
    else:
        for part in effect:
            yield from _walk(part, depth + 1)


def _whole(head: str, effect: list[Any]) -> Iterator[Change]:
    if head == "create":
        _, bucket, uid, (session, digest), columns = effect
        yield BucketMade(bucket, uid, tuple(columns))
        yield SessionMade(session, bucket, "main", digest)
    elif head == "delete":
        yield BucketDropped(effect[1], effect[3])
    elif head == "undelete":
        yield BucketBack(effect[1])
    elif head == "session":
        _, bucket, name, (session, digest) = effect
        yield SessionMade(session, bucket, name, digest)
    elif head == "session_drop":
        yield SessionDropped(effect[1])
    elif head == "session_undrop":
        yield SessionBack(effect[1])
    elif head == "settings":
        yield SettingsRow(effect[1], effect[2])
    else:
        raise ValueError(head)
