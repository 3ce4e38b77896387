"""Settings of streams: what a store changes of a declaration, kept in ``state.db``, in force from the next use on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from ipfs_kit.durable.state import Tx
from ipfs_kit.errors import FormatError, InvalidInput
from ipfs_kit.ipld import dag_cbor
from ipfs_kit.ledger.batches import Querying
from ipfs_kit.ledger.segments import ZSTD_LEVEL
from ipfs_kit.ledger.streams.registry import STREAMS, Stream, stream_named

Settings = dict[str, Any]

LIMITS: Final = ("keep_s", "keep_bytes", "keep_ops")
"""Settings that let sealed records expire; None keeps them."""
SETTINGS: Final = ("batch_rows", "batch_age_s", *LIMITS, "zstd_level", "sample_reads")
KEPT_FOR_EVER: Final = frozenset({"ledger"})
"""Its ops say what expired and what was erased: without them a gap could not be told from a loss."""

ALWAYS_RECORDED: Final = frozenset({"ledger", "audit", "monitoring", "stream"})
"""Families whose reads look at what others did; who looked must stay known."""


def stream_settings(db: Querying, name: str) -> Stream:
    """A stream as it is in force here.

    Args:
        db: ``state.db``.
        name: The stream.

    Raises:
        InvalidInput: The name is no stream's.
        FormatError: The settings stored do not decode.
    """
    rows = db.query("SELECT settings FROM stream_settings WHERE stream = ?", (name,))
    return _applied(stream_named(name), rows[0][0] if rows else None)


def streams_in_force(db: Querying) -> dict[str, Stream]:
    """Every declared or configured stream as it is in force here, by name."""
    stored = dict(db.query("SELECT stream, settings FROM stream_settings ORDER BY stream"))
    return {name: _applied(stream_named(name), stored.get(name)) for name in (*STREAMS, *(stored.keys() - STREAMS))}


def families(db: Querying) -> dict[str, int]:
    """Compression level of each stream whose sealed records get files of their own: it may expire, or asks for a level."""
    found = streams_in_force(db)
    return {name: stream.zstd_level for name, stream in found.items() if limited(stream) or _own_level(stream)}


def sampled_streams(db: Querying) -> dict[str, int]:
    """How many reads one record stands for, of the streams whose reads are sampled."""
    stored = db.query("SELECT stream, settings FROM stream_settings ORDER BY stream")
    found = {name: _applied(stream_named(name), settings).sample_reads for name, settings in stored}
    return {name: one_in for name, one_in in found.items() if one_in is not None}


def limited(stream: Stream) -> bool:
    """Whether records of a stream may expire."""
    return any(getattr(stream, name) is not None for name in LIMITS)


def merged(tx: Tx, name: str, changes: Mapping[str, Any]) -> tuple[Settings, Settings]:
    """Change settings inside a transaction.

    Args:
        tx: The transaction.
        name: The stream.
        changes: Checked values by setting.

    Returns:
        All settings in force before and after.
    """
    rows = tx.execute("SELECT settings FROM stream_settings WHERE stream = ?", (name,))
    declared = stream_named(name)
    before = _applied(declared, rows[0][0] if rows else None)
    after = dataclasses.replace(before, **changes)
    kept = {each: getattr(after, each) for each in SETTINGS if getattr(after, each) != getattr(declared, each)}
    if kept:
        tx.execute(
            "INSERT OR REPLACE INTO stream_settings(stream, settings) VALUES(?, ?)", (name, dag_cbor.encode(kept))
        )
    else:
        tx.execute("DELETE FROM stream_settings WHERE stream = ?", (name,))
    return as_settings(before), as_settings(after)


def as_settings(stream: Stream) -> Settings:
    """The settings of a stream by name."""
    return {name: getattr(stream, name) for name in SETTINGS}


def checked(name: str, given: Mapping[str, Any]) -> Settings:
    """Settings asked for, None left out, 0 of a limit meaning none.

    Args:
        name: The stream.
        given: Values by setting.

    Raises:
        InvalidInput: A value out of range, or records that must stay.
    """
    changes = {key: value for key, value in given.items() if value is not None}
    for key in LIMITS:
        if changes.get(key) == 0:
            changes[key] = None
    if changes.get("sample_reads") in (0, 1):
        changes["sample_reads"] = None
    if changes.get("sample_reads") is not None and (name in ALWAYS_RECORDED or stream_named(name).event is not None):
        raise InvalidInput(f"reads of stream {name} are always recorded: they are audit, or its records are events")
    if any(changes.get(key) is not None for key in LIMITS) and name in KEPT_FOR_EVER:
        raise InvalidInput(f"ops of stream {name} are kept for ever: they say what expired and what was erased")
    for key, low, high in (
        ("batch_rows", 1, 1 << 20), ("batch_age_s", 1, 1e9), ("zstd_level", 1, 22),
        ("sample_reads", 2, 1_000_000), ("keep_s", 1, 1e10), ("keep_bytes", 1, 1 << 60), ("keep_ops", 1, 1 << 60),
    ):  # fmt: skip
        value = changes.get(key)
        if value is not None and not low <= value <= high:
            raise InvalidInput(f"{key} of a stream is {low} to {high:.0f}, not {value}")
    return changes


def _own_level(stream: Stream) -> bool:
    return stream.zstd_level != ZSTD_LEVEL


def _applied(declared: Stream, stored: bytes | None) -> Stream:
    if stored is None:
        return declared
    found = dag_cbor.decode(stored)
    if not isinstance(found, dict) or not found.keys() <= set(SETTINGS):
        raise FormatError(
            f"the settings of stream {declared.name} are damaged: set them again with 'ipfs-kit stream configure'"
        )
    return dataclasses.replace(declared, **found)
