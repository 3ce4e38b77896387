"""Operations as MCP tool definitions; nothing here depends on stored data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipfs_kit.errors import InvalidInput
from ipfs_kit.operations.catalogue import CATALOGUE, TOOLSETS, Mode, Operation, Surface


def offered(toolsets: Iterable[str] | None = None, *, read_only: bool = False) -> dict[str, Operation]:
    """Operations offered to agents, by tool name.

    Args:
        toolsets: Only these toolsets; all when None.
        read_only: Only operations that change nothing.

    Raises:
        InvalidInput: A toolset does not exist.
    """
    wanted = set(TOOLSETS if toolsets is None else toolsets)
    if unknown := sorted(wanted - set(TOOLSETS)):
        raise InvalidInput(f"there is no toolset {', '.join(unknown)}: choose from {', '.join(TOOLSETS)}")
    return {
        operation.tool_name: operation
        for operation in CATALOGUE.values()
        if operation.toolset in wanted
        and operation.offered_to(Surface.MCP)
        and not (read_only and operation.mode is Mode.WRITE)
    }


def definition(operation: Operation) -> dict[str, Any]:
    """One tool as the protocol's JSON, stable for snapshots.

    Args:
        operation: What it calls.
    """
    return {
        "name": operation.tool_name,
        "title": operation.name,
        "description": describe(operation),
        "inputSchema": operation.input_schema,
        "annotations": {
            "title": operation.summary.rstrip("."),
            "readOnlyHint": operation.mode is Mode.READ,
            "destructiveHint": operation.destructive,
            "idempotentHint": operation.idempotent or operation.mode is Mode.READ,
            "openWorldHint": False,
        },
    }


def describe(operation: Operation) -> str:
    """The description agents read: what it does, and how it is undone."""
    if operation.mode is Mode.READ:
        return operation.description
    undo = f"Cannot be undone: {operation.irreversible}." if operation.irreversible else "Undo with versions_undo."
    return f"{operation.description}\n\n{undo}"
