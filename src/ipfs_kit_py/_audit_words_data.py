"""The published helpers of the audit trail, each one event with the published words: keys, providers, data and administration."""

from __future__ import annotations

from ipfs_kit_py._audit_words import Details, PeopleWords


class AuditWords(PeopleWords):
    """All published helpers."""

    def log_api_key_creation(
        self, admin_user_id: str, key_id: str, user_id: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """An API key was made."""
        more = {"user_id": user_id, **(details or {})}
        return self.log("api_key", "create", admin_user_id, ip_address, key_id, "api_key", "success", more, request_id)

    def log_api_key_revocation(
        self, admin_user_id: str, key_id: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """An API key was revoked."""
        return self.log(
            "api_key", "revoke", admin_user_id, ip_address, key_id, "api_key", "success", details, request_id
        )

    def log_oauth_login(
        self, user_id: str, provider: str, ip_address: str | None = None, status: str = "success",
        details: Details = None, request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """Somebody signed in by a provider."""
        more = {"provider": provider, **(details or {})}
        return self.log("oauth", "login", user_id, ip_address, None, None, status, more, request_id)

    def log_data_access(
        self, user_id: str, resource_id: str, resource_type: str, action: str, ip_address: str | None = None,
        details: Details = None, request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """Data was reached."""
        return self.log("data", action, user_id, ip_address, resource_id, resource_type, "success", details, request_id)

    def log_system_config_change(
        self, user_id: str, config_key: str, ip_address: str | None = None, details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """The configuration changed."""
        return self.log(
            "system", "config_change", user_id, ip_address, config_key, "config", "success", details, request_id
        )

    def log_backend_operation(
        self, user_id: str, backend: str, operation: str, resource_id: str | None = None,
        ip_address: str | None = None, status: str = "success", details: Details = None,
        request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """A backend was used."""
        more = {"backend": backend, **(details or {})}
        return self.log("backend", operation, user_id, ip_address, resource_id, "backend", status, more, request_id)

    def log_admin_action(
        self, user_id: str, action: str, resource_id: str | None = None, resource_type: str | None = None,
        ip_address: str | None = None, details: Details = None, request_id: str | None = None
    ) -> str | None:  # fmt: skip
        """An administrator acted."""
        return self.log(
            "admin", action, user_id, ip_address, resource_id, resource_type, "success", details, request_id
        )
