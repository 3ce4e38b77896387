"""One SQL view per stream: the events of a family with their own columns, the calls of a family as ops."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from ipfs_kit.ledger.streams.registry import APPEND, STREAMS, Stream

RECORD_COLUMNS: Final = ("log", "idx", "time", "op_id", "record_cid", "node", "actor", "actor_name", "trace")
"""Columns of the record that every view of events begins with, unless an event has a field of that name."""
_TYPES: Final = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN", dict: "JSON", list: "JSON"}


def columns_of(stream: Stream, ops_columns: list[str]) -> list[str]:
    """The columns of a stream's view.

    Args:
        stream: The stream.
        ops_columns: The columns of ``ops``, which a family of calls has.
    """
    if stream.event is None:
        return ops_columns
    return [*(name for name in RECORD_COLUMNS if name not in stream.fields), *stream.fields]


def statement(stream: Stream, ops_columns: list[str], *, computed: bool) -> str:
    """The statement that defines a stream's view over ``records`` and ``ops``.

    Args:
        stream: The stream.
        ops_columns: The columns of ``ops``.
        computed: Whether functions that open sealed fields are there; without, every event column is null.
    """
    if stream.event is None:
        names = ", ".join(f'"{name}"' for name in ops_columns)
        return f"CREATE VIEW \"{stream.name}\" AS SELECT {names} FROM ops WHERE stream = '{stream.name}'"  # noqa: S608 - our own names
    shown = [f'"{name}"' for name in RECORD_COLUMNS if name not in stream.fields]
    for declared in dataclasses.fields(stream.event):
        kind = stream.fields[declared.name]
        value = _field(declared, kind) if computed else f"CAST(NULL AS {_TYPES[kind]})"
        shown.append(f'{value} AS "{declared.name}"')
    return (
        f'CREATE VIEW "{stream.name}" AS SELECT {", ".join(shown)} FROM records '  # noqa: S608 - our own names
        f"WHERE stream = '{stream.name}' AND operation = '{APPEND}' AND (phase = 0 OR phase IS NULL)"
    )


def relations(ops_columns: list[str]) -> dict[str, list[str]]:
    """Column names by view, of all streams."""
    return {name: columns_of(stream, ops_columns) for name, stream in STREAMS.items()}


def statements(ops_columns: list[str], *, computed: bool) -> list[str]:
    """The statements that define the views of all streams."""
    return [statement(stream, ops_columns, computed=computed) for stream in STREAMS.values()]


def _field(declared: dataclasses.Field[Any], kind: Any) -> str:
    path = f"'$.{declared.name}'"
    if kind in (dict, list):
        return f"json_extract(args, {path})"
    value = f"TRY_CAST(json_extract_string(args, {path}) AS {_TYPES[kind]})"
    default = declared.default
    if default is None or default is dataclasses.MISSING:
        return value
    # What equals its default is not recorded; of an erased event nothing may be claimed.
    literal = f"'{default}'" if kind is str else str(default).upper()
    return f"CASE WHEN args IS NULL THEN NULL ELSE coalesce({value}, {literal}) END"
