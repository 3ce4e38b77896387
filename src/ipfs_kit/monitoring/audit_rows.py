"""Rows of the audit trail as people and rules see them, and the conditions they are chosen by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

EVENT_TYPES: Final = (
    "authentication",
    "authorization",
    "user",
    "role",
    "api_key",
    "oauth",
    "data",
    "system",
    "backend",
    "admin",
)
SEVERITIES: Final = ("info", "warning", "error", "critical")
DENIED: Final = "denied"


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One line of the audit trail: an event that was recorded, or a call that was refused.

    Args:
        op: ``LOG:INDEX``.
        op_id: Its id as hex.
        time: When it was recorded, UTC, ISO 8601.
        time_ns: The same in nanoseconds since 1970.
        kind: ``event``, or ``denial`` for a call that this store refused.
        event_type: Kind of event; None once erased.
        action: What was done; the operation's name for a denial.
        severity: ``info``, ``warning``, ``error`` or ``critical``.
        user_id: The person; None once their key is destroyed.
        ip_address: Where from.
        resource_id: On what.
        resource_type: On what kind of thing.
        status: How it ended.
        request_id: The request it belongs to.
        event_time: When it happened, as the caller said, seconds since 1970.
        details: Anything else.
        actor: Surrogate of who recorded it.
        surface: By which surface.
        erased: Sealed fields exist that nobody can read.
    """

    op: str
    op_id: str
    time: str
    time_ns: int
    kind: str
    event_type: str | None
    action: str | None
    severity: str | None
    user_id: str | None
    ip_address: str | None
    resource_id: str | None
    resource_type: str | None
    status: str | None
    request_id: str | None
    event_time: float | None
    details: dict[str, Any] = field(default_factory=dict)
    actor: str = ""
    surface: str = ""
    erased: bool = False

    @property
    def index(self) -> int:
        """Its index in its log."""
        return int(self.op.rpartition(":")[2])

    @property
    def who(self) -> str:
        """The person, or the surrogate of the caller where no person is named."""
        return self.user_id or self.actor

    @property
    def failed_login(self) -> bool:
        """Whether somebody failed to sign in."""
        return self.event_type in ("authentication", "oauth") and self.status in ("failure", "failed", DENIED)

    @property
    def signed_in(self) -> bool:
        """Whether somebody signed in."""
        return (
            self.event_type in ("authentication", "oauth")
            and self.status == "success"
            and "logout" not in (self.action or "")
        )

    @property
    def refused(self) -> bool:
        """Whether a permission or a call was refused."""
        return self.status == DENIED and not self.failed_login


@dataclass(frozen=True, slots=True)
class Chosen:
    """Conditions on a row, all of which must hold; None means any.

    Args:
        types: Kinds of event.
        users: People.
        status: How it ended.
        resource: Resource, exactly.
        resource_type: Kind of resource.
        actions: What was done.
        ips: Addresses.
        severities: Severities.
        text: Text that some field contains, without regard to case.
        denials: False leaves out refused calls.
    """

    types: Collection[str] | None = None
    users: Collection[str] | None = None
    status: Collection[str] | None = None
    resource: str | None = None
    resource_type: str | None = None
    actions: Collection[str] | None = None
    ips: Collection[str] | None = None
    severities: Collection[str] | None = None
    text: str | None = None
    denials: bool = True

    def holds(self, row: AuditRow) -> bool:
        """Whether a row meets every condition."""
        for wanted, value in (
            (self.types, row.event_type),
            (self.users, row.user_id),
            (self.status, row.status),
            (self.actions, row.action),
            (self.ips, row.ip_address),
            (self.severities, row.severity),
        ):
            if wanted is not None and value not in wanted:
                return False
        if self.resource is not None and row.resource_id != self.resource:
            return False
        if self.resource_type is not None and row.resource_type != self.resource_type:
            return False
        if not self.denials and row.kind == "denial":
            return False
        return self.text is None or self.text.casefold() in _text(row).casefold()


def _text(row: AuditRow) -> str:
    fields = (
        row.event_type, row.action, row.user_id, row.ip_address, row.resource_id, row.resource_type, row.status,
        row.request_id,
    )  # fmt: skip
    return "\n".join(each for each in fields if each) + "\n" + (repr(row.details) if row.details else "")
