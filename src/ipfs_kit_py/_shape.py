"""The shape of published results."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ipfs_kit import KitError


def shape(operation: str, data: Any = None, op_id: str | None = None, error: KitError | None = None) -> dict[str, Any]:
    """A result as published: the keys of ``data`` also stand at top level when they do not clash.

    Args:
        operation: Published name.
        data: What it found; anything but a mapping stands under ``value``.
        op_id: The recorded op, returned as correlation id.
        error: Why it failed.
    """
    body = dict(data) if isinstance(data, Mapping) else {} if data is None else {"value": data}
    head = {
        "success": error is None,
        "operation": operation,
        "timestamp": datetime.now(UTC).isoformat(),
        "correlation_id": op_id if error is None else error.op,
        "data": body,
        "error": None if error is None else error.message,
        "error_type": None if error is None else str(error.kind),
    }
    return {**body, **head}
