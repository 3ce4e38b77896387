"""AuditLogger under its published names: history over restarts, filters, the log file, batches."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

from ipfs_kit_py.mcp.auth.audit_logging import AuditEvent, AuditEventType, AuditLogger, AuditSeverity


def test_events_are_found_after_a_restart_newest_first_and_the_log_file_has_them(tmp_path: Path) -> None:
    lines = tmp_path / "logs" / "audit.jsonl"
    first = AuditLogger(str(lines), storage_path=tmp_path / "s")
    first.log_auth_success("ada", "10.0.0.1")
    first.log_auth_failure("bob", method="token", details={"at": Path("/x")})
    first.log_permission_check("bob", "write", "file1", "file", granted=False)
    first.log_api_key_creation("root", "k1", "ada")
    first.log(AuditEventType.DATA, "read", user_id="ada", resource_id="f", status="success", request_id="r1")
    first.close()
    again = AuditLogger(str(lines), storage_path=tmp_path / "s")
    found = again.get_recent_events()
    assert [(each["event_type"], each["action"], each["user_id"], each["status"]) for each in found] == [
        ("data", "read", "ada", "success"), ("api_key", "create", "root", "success"),
        ("authorization", "check_permission", "bob", "denied"), ("authentication", "login", "bob", "failure"),
        ("authentication", "login", "ada", "success"),
    ]  # fmt: skip
    assert found[3]["details"] == {"method": "token", "reason": "invalid_credentials", "at": "/x"}
    assert again.get_recent_events(limit=2) == found[:2]
    assert [each["action"] for each in again.get_recent_events(event_type="authentication", user_id="bob")] == ["login"]
    again.clear_cache()
    assert again.get_recent_events() == []
    again.log_logout("ada")
    assert [each["action"] for each in again.get_recent_events()] == ["logout"]
    assert again.flush_to_dataset()["success"] is False
    again.close()
    written = [AuditEvent.from_json(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    assert [each.action for each in written] == ["login", "login", "check_permission", "create", "read", "logout"]
    assert [each.timestamp for each in written[:5]] == [each["timestamp"] for each in found[::-1]]
    last = AuditLogger(storage_path=tmp_path / "s")
    assert len(last.get_recent_events()) == 6
    last.close()


def test_every_helper_is_one_event_and_a_batch_holds_them(tmp_path: Path) -> None:
    logger = AuditLogger(enable_dataset_storage=True, storage_path=tmp_path / "s")
    helpers = [name for name in dir(AuditLogger) if name.startswith("log_") and callable(getattr(AuditLogger, name))]
    assert len(helpers) == 17
    for name in helpers:
        call = getattr(logger, name)
        given = {
            each: f"x-{each}" for each, p in inspect.signature(call).parameters.items() if p.default is inspect._empty
        }
        call(**given, details={"n": 1}, request_id="r")
        newest = logger.get_recent_events(limit=1)[0]
        assert newest["details"]["n"] == 1
        assert newest["request_id"] == "r"
    done = logger.flush_to_dataset()
    assert done["success"]
    assert len(logger.get_recent_events()) == 17
    logger.close()


def test_an_event_survives_json_and_words_are_the_published_ones() -> None:
    event = AuditEvent("data", "read", user_id="ada", details={"a": [1]})
    assert AuditEvent.from_json(event.to_json()) == event == AuditEvent.from_dict(event.to_dict())
    assert json.loads(event.to_json())["timestamp"] == event.timestamp
    assert [each.value for each in AuditSeverity] == ["info", "warning", "error", "critical"]
    assert len(AuditEventType) == 10
