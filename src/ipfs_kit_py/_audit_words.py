"""The published helpers of the audit trail, each one event with the published words: sign-ins, permissions, users and roles."""

from __future__ import annotations

from typing import Any

Details = dict[str, Any] | None


class PeopleWords:
    """What people do and may do; the class that has this one records it."""

    def log(self, event_type: Any, action: str, *fields: Any) -> str | None:
        """Record an event."""
        raise NotImplementedError("the class that records implements this")

    def log_auth_success(
        self, user_id: str, ip_address: str | None = None, method: str = "password", details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """Somebody signed in."""
        more = {"method": method, **(details or {})}
        return self.log("authentication", "login", user_id, ip_address, None, None, "success", more, request_id)

    def log_auth_failure(
        self, user_id: str, ip_address: str | None = None, method: str = "password",
        reason: str = "invalid_credentials", details: Details = None, request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """Somebody failed to sign in."""
        more = {"method": method, "reason": reason, **(details or {})}
        return self.log("authentication", "login", user_id, ip_address, None, None, "failure", more, request_id)

    def log_logout(
        self, user_id: str, ip_address: str | None = None, details: Details = None, request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """Somebody signed out."""
        return self.log("authentication", "logout", user_id, ip_address, None, None, "success", details, request_id)

    def log_permission_check(
        self, user_id: str, permission: str, resource_id: str | None = None, resource_type: str | None = None,
        granted: bool = True, ip_address: str | None = None, details: Details = None, request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A permission was asked for."""
        more = {"permission": permission, **(details or {})}
        return self.log(
            "authorization",
            "check_permission",
            user_id,
            ip_address,
            resource_id,
            resource_type,
            "granted" if granted else "denied",
            more,
            request_id,
        )

    def log_user_creation(
        self, admin_user_id: str, created_user_id: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A user was created."""
        return self.log(
            "user", "create", admin_user_id, ip_address, created_user_id, "user", "success", details, request_id
        )

    def log_user_modification(
        self, admin_user_id: str, modified_user_id: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A user was modified."""
        return self.log(
            "user", "modify", admin_user_id, ip_address, modified_user_id, "user", "success", details, request_id
        )

    def log_user_deletion(
        self, admin_user_id: str, deleted_user_id: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A user was deleted."""
        return self.log(
            "user", "delete", admin_user_id, ip_address, deleted_user_id, "user", "success", details, request_id
        )

    def log_role_creation(
        self, admin_user_id: str, role_name: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A role was created."""
        return self.log("role", "create", admin_user_id, ip_address, role_name, "role", "success", details, request_id)

    def log_role_modification(
        self, admin_user_id: str, role_name: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A role was modified."""
        return self.log("role", "modify", admin_user_id, ip_address, role_name, "role", "success", details, request_id)

    def log_role_deletion(
        self, admin_user_id: str, role_name: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A role was deleted."""
        return self.log("role", "delete", admin_user_id, ip_address, role_name, "role", "success", details, request_id)
