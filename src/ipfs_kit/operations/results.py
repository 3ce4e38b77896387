"""Results of operations as JSON-like values, the same on every surface."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from ipfs_kit.ipld import CID

MAX_DEPTH = 64
"""Deepest nesting rendered; results are shallow, so more is a defect of the handler."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What a dispatched call returns.

    Args:
        value: The handler's result.
        op_id: Id of the recorded op as hex, or None when the store was opened read-only and records nothing.
        log: The log holding the record: ``main`` or ``bulk``.
        index: The record's index in its log; None while only buffered.
        record_cid: CID of the op record.
        cid: CID of the object the call returned or produced; for other reads the op record's.
        ack: ``fsync``, ``witnessed``, ``buffered`` ``sampled`` (a read that was counted instead of
            recorded), or ``none`` (read-only store, or a read on a full disk).
        replayed: The result came from an earlier call with the same idempotency key.
        warning: What the caller must know although the call succeeded.
    """

    value: Any
    op_id: str | None
    log: str
    index: int | None
    record_cid: CID | None
    cid: CID | None
    ack: str
    replayed: bool = False
    warning: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """Bytes of a file or a range of it, read when iterated, so that any size passes in bounded memory.

    Args:
        cid: CID of the whole file.
        size: Bytes of the whole file.
        offset: First byte of this range.
        length: Bytes in this range.
        open: Starts reading; each call gives a fresh iterator of chunks.
    """

    cid: CID
    size: int
    offset: int
    length: int
    open: Callable[[], Iterator[bytes]]

    def read(self) -> bytes:
        """The whole range in memory."""
        return b"".join(self.open())


def to_json(value: Any, _depth: int = 0) -> Any:
    """Render a result as JSON types: CIDs and enums as text, bytes as base64, dataclasses as objects.

    Args:
        value: A handler's result.

    Returns:
        Only ``dict``, ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None``; names that are not UTF-8 are quoted,
        see ``quoting``.
    """
    if _depth > MAX_DEPTH:
        raise RecursionError("a result is nested deeper than 64 levels")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, CID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Content):
        data = value.read()
        head: dict[str, Any] = {
            "cid": str(value.cid),
            "size": value.size,
            "offset": value.offset,
            "length": value.length,
        }
        try:
            return head | {"text": data.decode("utf-8")}
        except UnicodeDecodeError:
            return head | {"base64": base64.b64encode(data).decode("ascii")}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_json(getattr(value, f.name), _depth + 1)
            for f in dataclasses.fields(value)
            if not f.name.startswith("_")
        }
    if isinstance(value, dict):
        return {str(to_json(key)): to_json(item, _depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(item, _depth + 1) for item in value]
    raise TypeError(f"a result holds a {type(value).__name__}, which has no JSON form")


def printable(text: str) -> str:
    """Text that is valid UTF-8: names that are not are quoted so that they can be given back."""
    if text.isascii() and '"' not in text:
        return text
    from ipfs_kit.operations.quoting import quote

    try:
        return quote(text)
    except UnicodeEncodeError:  # surrogates that stand for no byte: no name has them
        return text.encode("utf-8", "backslashreplace").decode()
