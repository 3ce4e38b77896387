"""Runs one published command as exactly one recorded operation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ipfs_kit import InvalidInput, KitError, NotFound, Principal, Result, Surface, to_json
from ipfs_kit._version import __version__
from ipfs_kit.errors import AlreadyExists, Unsupported
from ipfs_kit_py._adapter import Adapter
from ipfs_kit_py._record import record
from ipfs_kit_py.mcp._families import CONFIG, FAMILIES, LATER, OWN, SERVED
from ipfs_kit_py.mcp._messages import MCPCommandRequest, MCPCommandResponse


def run_command(
    adapter: Adapter, request: MCPCommandRequest, status: dict[str, Any], principal: Principal, surface: Surface
) -> MCPCommandResponse:
    """Run one command; a failure is an answer, never an exception.

    Args:
        adapter: The server's store.
        request: The command.
        status: What the server says about itself.
        principal: The authenticated caller.
        surface: By which surface it came.
    """
    family, action = request.key
    now = datetime.now(UTC).isoformat()
    try:
        result = _run(adapter, request, status, principal, surface)
    except KitError as error:
        meta = {"action": action, "error_type": str(error.kind), "op": error.op, "details": to_json(error.details)}
        return MCPCommandResponse(False, family, None, error.message, meta, now)
    meta = {"action": action, "op": result.op_id, "ack": result.ack, "cid": to_json(result.cid)}
    return MCPCommandResponse(True, family, to_json(result.value), None, meta, now)


def _run(
    adapter: Adapter, request: MCPCommandRequest, status: dict[str, Any], principal: Principal, surface: Surface
) -> Result:
    key = request.key
    name = f"mcp.{key[0]}.{key[1]}"[:100]
    who: dict[str, Any] = {"principal": principal, "surface": surface}
    given: dict[str, Any] = {}
    try:
        given = request.arguments()
        if key in OWN:
            return record(adapter.kit, name, given, {**status, "version": __version__}, **who)
        if key in LATER:
            raise Unsupported(f"{key[0]} {key[1]} {LATER[key]}")
        if key not in SERVED:
            raise NotFound(f"there is no command {' '.join(key)!r}: families are {', '.join(FAMILIES)}")
        operation, convert = SERVED[key]
        arguments = convert(dict(given))
    except (KitError, TypeError, ValueError) as exc:
        error = exc if isinstance(exc, KitError) else InvalidInput(f"{' '.join(key)}: {exc}")
        return record(adapter.kit, name, given, error=error, **who)
    if key == ("config", "set"):
        _ensure_config(adapter, who)
    return adapter.kit.call_with(operation, arguments, **who)


def _ensure_config(adapter: Adapter, who: dict[str, Any]) -> None:
    """Make the bucket of settings at the first set; another caller that was faster is fine."""
    if adapter.kit.engine.buckets.exists(CONFIG):
        return
    try:
        adapter.kit.call_with("bucket.create", {"name": CONFIG}, **who)
    except AlreadyExists:
        return
