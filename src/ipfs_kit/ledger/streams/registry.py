"""The streams: typed families of ops, each with its record type, log, retention, batches and compression.

A stream is declared here once. Its records are ordinary op records, so recording, proofs, SQL, retention and erasure
are those of the ledger; no stream has a store of its own.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Final, Union, get_args, get_origin

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ledger.record import BULK, MAIN
from ipfs_kit.ledger.streams import events

APPEND: Final = "stream.append"
"""The operation that records one event; every other op of a stream is a call, and has no event."""
TEXT_MAX: Final = 8_192
"""Characters of one text of an event: with all else, a record stays below its 32 KiB."""
DETAILS_BYTES_MAX: Final = 16_384
DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Stream:
    """One family of ops.

    Args:
        name: Unique name, also that of its SQL view.
        event: Record type; None for a family that holds only calls.
        about: One sentence.
        log: ``main`` (kept) or ``bulk`` (prunable).
        personal: Events are sealed: under the key of the person in ``subject_field``, else of the caller.
        subject_field: Field that names the person an event is about.
        keep_s: Records older than this may expire once sealed; None keeps them for ever.
        batch_rows: Records that make a batch.
        batch_age_s: Age after which fewer make one.
        zstd_level: Compression of its sealed segments, 1 to 22.
        keep_bytes: The oldest sealed records may expire while all of them take more bytes than this; None sets no limit.
        keep_ops: The oldest sealed records may expire while at least this many stay; None sets no limit.
        sample_reads: Of so many reads one is recorded, the others are counted; None records all.
    """

    name: str
    event: type[Any] | None
    about: str
    log: str = BULK
    personal: bool = False
    subject_field: str | None = None
    keep_s: float | None = None
    batch_rows: int = 100
    batch_age_s: float = 3_600.0
    zstd_level: int = 3
    keep_bytes: int | None = None
    keep_ops: int | None = None
    sample_reads: int | None = None

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Field name to bare Python type, in declaration order."""
        return {} if self.event is None else _fields(self.event)

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """One event with its types checked, what is None or a default left out.

        Args:
            given: Fields by name.

        Raises:
            InvalidInput: An unknown, missing, ill-typed or oversized field; the message names it.
        """
        if self.event is None:
            raise InvalidInput(f"stream {self.name} holds recorded calls only: events cannot be appended to it")
        unknown = sorted(set(given) - set(self.fields))
        if unknown:
            raise InvalidInput(
                f"an event of {self.name} has no field {', '.join(unknown)}: put what has no field under details"
            )
        made: dict[str, Any] = {}
        for declared in dataclasses.fields(self.event):
            value = given.get(declared.name)
            if value is None:
                if declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING:
                    raise InvalidInput(f"an event of {self.name} needs the field {declared.name}")
                continue
            kept = _checked(self.name, declared.name, self.fields[declared.name], value)
            if kept != declared.default and kept not in ({}, []):
                made[declared.name] = kept
        return made


def _fields(event: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(event)
    return {declared.name: _bare(hints[declared.name]) for declared in dataclasses.fields(event)}


def _bare(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    return get_origin(hint) or hint


def _checked(stream: str, name: str, kind: Any, value: Any) -> Any:
    where = f"field {name} of a {stream} event"
    if kind is float and type(value) in (int, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise InvalidInput(f"{where} must be a finite number")
        return float(value)
    if type(value) is not kind:
        raise InvalidInput(f"{where} must be {kind.__name__}, not {type(value).__name__}")
    if kind is str and len(value) > TEXT_MAX:
        raise InvalidInput(f"{where} has {len(value)} characters: at most {TEXT_MAX} fit, cut it or store it as a file")
    if kind is int and not -(1 << 63) <= value < 1 << 63:
        raise InvalidInput(f"{where} is beyond 64 bits")
    if kind is list and not all(type(item) is str for item in value):
        raise InvalidInput(f"{where} must be a list of texts")
    if kind in (dict, list):
        _within(where, value)
    return value


def _within(where: str, value: Any) -> None:
    """Refuse what no record can hold: foreign types, deep nesting, too many bytes."""
    size, left = 0, [(value, 0)]
    while left:
        each, depth = left.pop()
        if depth > 16:
            raise InvalidInput(f"{where} is nested deeper than 16 levels")
        if isinstance(each, dict):
            if not all(type(key) is str for key in each):
                raise InvalidInput(f"{where} must have text keys")
            left += [(item, depth + 1) for pair in each.items() for item in pair]
        elif isinstance(each, list | tuple):
            left += [(item, depth + 1) for item in each]
        elif isinstance(each, str | bytes):
            size += len(each)
        elif isinstance(each, float) and (each != each or each in (float("inf"), float("-inf"))):
            raise InvalidInput(f"{where} holds a number that is not finite")
        elif each is not None and not isinstance(each, bool | int | float):
            raise InvalidInput(
                f"{where} holds a {type(each).__name__}: texts, numbers, lists and mappings are recorded"
            )
        size += 9
        if size > DETAILS_BYTES_MAX:
            raise InvalidInput(f"{where} is larger than {DETAILS_BYTES_MAX} bytes: store it as a file and name it")


_QUARTER: Final = 90 * DAY_S
_MONTH: Final = 30 * DAY_S

_DECLARED: Final = (
    Stream("audit", events.AuditEvent, "What matters to security.", MAIN, True, "user_id"),
    Stream("alerts", events.Alert, "Alerts raised and cleared.", MAIN),
    Stream("logs", events.LogLine, "Structured log lines.", BULK, True, None, _MONTH, 1_000, zstd_level=9),
    Stream("telemetry", events.Measurement, "Measured values.", BULK, False, None, _MONTH, 1_000, zstd_level=9),
    Stream("health", events.HealthResult, "Results of health checks.", BULK, False, None, _MONTH, zstd_level=9),
    Stream("fs_monitor", events.Measurement, "What the journal monitor saw.", BULK, False, None, _MONTH, zstd_level=9),
    Stream("journal", events.JournalEntry, "Entries of file system journals.", MAIN, True),
    Stream("vfs_journal", events.JournalEntry, "Operations of virtual file systems.", BULK, True, None, _QUARTER),
    Stream("vfs_observer", events.Change, "Observed changes of files.", BULK, True, None, _QUARTER),
    Stream("wal", events.Step, "Outcomes of queued work for backends.", MAIN),
    Stream("replication", events.Step, "Replication between nodes.", MAIN),
    Stream("lifecycle", events.Step, "Lifecycle rules at work.", MAIN),
    Stream("mcp", None, "Calls of the command server.", BULK),
    Stream("bucket", None, "Calls of the bucket manager.", MAIN),
    Stream("vfs", None, "Calls of the virtual file system manager.", MAIN),
)

STREAMS: Final[Mapping[str, Stream]] = types.MappingProxyType({stream.name: stream for stream in _DECLARED})
"""Declared streams by name; calls of other toolsets belong to a family named after the toolset."""


@cache
def stream_named(name: str) -> Stream:
    """A declared stream, or the plain family of calls of this name.

    Raises:
        InvalidInput: The name has other characters than lower-case letters, digits and underscores, or over 64.
    """
    found = STREAMS.get(name)
    if found is not None:
        return found
    if not (0 < len(name) <= 64 and name.isascii() and name.replace("_", "").isalnum() and name == name.lower()):
        raise InvalidInput(f"{name[:80]!r} is no stream: the streams are {', '.join(STREAMS)} and the toolsets")
    return Stream(name, None, f"Calls of the toolset {name}.")
