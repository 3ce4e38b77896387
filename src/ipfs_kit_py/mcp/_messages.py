"""Requests and responses of the published command server."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ipfs_kit import InvalidInput
from ipfs_kit_py.mcp._families import DEFAULT_ACTION


@dataclass
class MCPCommandRequest:
    """One command: family, action and arguments (``args`` as object, ``params`` on top)."""

    command: str
    subcommand: str | None = None
    action: str | None = None
    args: Any = None
    params: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Family and action; a family named alone has a default action."""
        action = self.action or self.subcommand or DEFAULT_ACTION.get(self.command, "status")
        return str(self.command), str(action)

    def arguments(self) -> dict[str, Any]:
        """All arguments by name.

        Raises:
            InvalidInput: They are not objects.
        """
        given: dict[str, Any] = {}
        for part in (self.args, self.params):
            if part is not None and not isinstance(part, dict):
                raise InvalidInput("args and params must be objects of arguments by name")
            given |= part or {}
        return given


@dataclass
class MCPCommandResponse:
    """What a command answered; ``metadata`` names the operation, its op id and ack, or the error's kind."""

    success: bool
    command: str
    result: Any = None
    error: str | None = None
    metadata: dict[str, Any] | None = None
    timestamp: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The response as JSON types."""
        return asdict(self)


def parse(body: Any) -> MCPCommandRequest:
    """A request from its JSON object.

    Raises:
        InvalidInput: A field is unknown or the command is missing.
    """
    fields = MCPCommandRequest.__dataclass_fields__
    unknown = sorted(set(body) - set(fields))
    if unknown or not isinstance(body.get("command"), str):
        raise InvalidInput(
            f"a command is an object with {', '.join(fields)}; 'command' is text ({json.dumps(unknown)} unknown)"
        )
    return MCPCommandRequest(**body)
