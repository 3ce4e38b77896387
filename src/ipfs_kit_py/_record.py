"""Records calls that no operation of this build serves, so that nothing asked of the kit goes unrecorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ipfs_kit import Kit, KitError, Principal, Result, Surface, to_json
from ipfs_kit_py._kit import NOTE


def record(
    kit: Kit,
    name: str,
    arguments: Mapping[str, Any],
    value: Any = None,
    *,
    error: KitError | None = None,
    principal: Principal | None = None,
    surface: Surface | None = None,
) -> Result:
    """Record one call that the adapter itself answered, as one op of that name.

    Args:
        kit: The open store.
        name: Name the call is recorded under, for example ``mcp.daemon.start``.
        arguments: Its arguments; secrets are masked.
        value: Its answer.
        error: Why it failed; it carries the op id afterwards.
        principal: The caller, when it is not the kit's own.
        surface: The surface, when it is not the kit's own.

    Returns:
        The answer with op id, index and ack.

    Raises:
        KitError: The error given, once recorded.
    """
    given = {"name": name, "arguments": to_json(dict(arguments))}
    if error is not None:
        given |= {"error_kind": str(error.kind), "error_message": error.message}
    result = kit.call_with(NOTE, given, principal=principal, surface=surface)
    if error is not None:
        error.op = result.op_id
        raise error
    return dataclasses.replace(result, value=value)
