"""Published words of the metadata index as arguments of the engine's operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DIRECT = ("tags", "text", "limit")
_TEXT = ("text", "query", "search")


def resource_arguments(params: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for in ``find_ai_ml_resources`` as arguments of ``metadata.resources``."""
    given = {name: params[name] for name in _DIRECT if params.get(name) is not None}
    text = next((params[name] for name in _TEXT if params.get(name)), None)
    kind = next((params[name] for name in ("type", "resource_type", "kind") if params.get(name)), None)
    known = {*_DIRECT, *_TEXT, "type", "resource_type", "kind", "properties"}
    attributes = {name: value for name, value in params.items() if name not in known and value is not None}
    attributes |= dict(params.get("properties") or {})
    return {
        **given,
        **({"text": text} if text else {}),
        **({"kind": str(kind).lower().removesuffix("s")} if kind else {}),
        **({"attributes": attributes} if attributes else {}),
    }
