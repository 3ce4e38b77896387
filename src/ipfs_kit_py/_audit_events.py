"""Published words of the audit trail: kinds of event, severities and the event itself."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any


class AuditSeverity(str, Enum):  # noqa: UP042 — published so: its str() is that of a plain enumeration
    """How serious an event is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class AuditEventType(str, Enum):  # noqa: UP042
    """Kinds of event."""

    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    USER = "user"
    ROLE = "role"
    API_KEY = "api_key"
    OAUTH = "oauth"
    DATA = "data"
    SYSTEM = "system"
    BACKEND = "backend"
    ADMIN = "admin"


@dataclass
class AuditEvent:
    """One event; ``timestamp`` is in seconds since 1970."""

    event_type: str
    action: str
    timestamp: float = field(default_factory=time.time)
    user_id: str | None = None
    ip_address: str | None = None
    resource_id: str | None = None
    resource_type: str | None = None
    status: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Its fields by name."""
        return {**asdict(self), "event_type": word(self.event_type)}

    def to_json(self) -> str:
        """Its fields as one line of JSON; what JSON does not know is written as text."""
        return json.dumps(self.to_dict(), default=str)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AuditEvent:
        """The event of such fields; names that it does not have are left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})

    @classmethod
    def from_json(cls, json_str: str) -> AuditEvent:
        """The event of such a line."""
        return cls.from_dict(json.loads(json_str))


def word(value: Any) -> str:
    """The text of a name that may be a member of an enumeration."""
    return str(value.value if isinstance(value, Enum) else value)
