"""The audit trail over restarts: found, counted, told, checked, watched."""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit, Principal
from ipfs_kit.errors import SURFACE_CODES, AlreadyExists, Denied, IntegrityError, InvalidInput

EVENTS: list[dict[str, Any]] = [
    {"event_type": "authentication", "action": "login", "status": "success", "user_id": "ada", "ip_address": "10.0.0.1"},
    {
        "event_type": "authentication", "action": "login", "status": "failure", "user_id": "bob",
        "ip_address": "10.0.0.2", "severity": "warning", "details": {"reason": "=cmd|' /C calc'!A0"},
    },
    {
        "event_type": "data", "action": "read", "status": "success", "user_id": "ada", "ip_address": "10.0.0.1",
        "resource_id": "=1+1", "resource_type": "file",
    },
    {"event_type": "api_key", "action": "revoke", "user_id": "ada", "resource_id": "k1", "severity": "warning"},
    {"event_type": "role", "action": "create", "user_id": "ada", "resource_id": "editor"},
]  # fmt: skip


def add(path: Path, *events: dict[str, Any]) -> None:
    with Kit.open(path) as kit:
        kit.stream.append("audit", events=list(events))


def found(path: Path, **given: Any) -> list[tuple[Any, ...]]:
    with Kit.open(path) as kit:
        return [(row.event_type, row.action, row.user_id) for row in kit.audit.query(**given).rows]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "s"
    for event in EVENTS:
        add(path, event)
    with Kit.open(path) as kit, pytest.raises(Denied):
        kit.call_with("bucket.create", {"name": "b"}, principal=Principal("eve", frozenset()))
    return path


def test_each_filter_finds_its_rows_newest_first_after_a_restart(store: Path) -> None:
    everything = found(store)
    assert everything[0] == ("authorization", "bucket.create", "eve")
    assert everything[1:] == [(e["event_type"], e["action"], e["user_id"]) for e in reversed(EVENTS)]
    assert found(store, oldest_first=True) == everything[::-1]
    assert found(store, types=["data", "role"]) == [("role", "create", "ada"), ("data", "read", "ada")]
    assert len(found(store, users=["bob", "eve"])) == 2
    assert found(store, status=["denied"]) == [everything[0]]
    assert found(store, status=["failure"], ips=["10.0.0.2"]) == [("authentication", "login", "bob")]
    assert found(store, resource="k1") == found(store, actions=["revoke"]) == [("api_key", "revoke", "ada")]
    assert found(store, resource_type="file", text="=1+") == [("data", "read", "ada")]
    assert len(found(store, severities=["warning"])) == 3
    assert len(found(store, denials=False)) == 5
    assert found(store, since=4e9) == [] == found(store, until=1.0)
    with Kit.open(store) as kit:
        times = [row.time_ns for row in kit.audit.query().rows]
        between = kit.audit.query(since=times[3] / 1e9 - 1e-6, until=times[1] / 1e9 - 1e-6).rows
        assert [row.time_ns for row in between] == times[2:4]
        with pytest.raises(InvalidInput, match="kind of event"):
            kit.audit.query(types=["data", "nothing"])


def test_pages_across_restarts_sealing_and_new_rows_hold_each_row_once(store: Path) -> None:
    with Kit.open(store) as kit:
        kit.ledger.seal()
    add(store, *EVENTS)
    for oldest_first in (False, True):
        whole = found(store, oldest_first=oldest_first)
        assert len(whole) == 11
        paged, cursor = list[Any](), None
        for at in range(20):
            with Kit.open(store) as kit:
                page = kit.audit.query(limit=2, cursor=cursor, oldest_first=oldest_first)
                paged += [(row.event_type, row.action, row.user_id) for row in page.rows]
                cursor = page.cursor
            if at == 0 and not oldest_first:
                add(store, {"event_type": "system", "action": "later"})
            if cursor is None:
                break
        assert paged == whole
        with Kit.open(store) as kit:
            if not oldest_first:
                assert len(kit.audit.query().rows) == 12
                kit.ledger.seal()
                break


def test_the_timeline_and_reports_count_what_the_query_finds(store: Path) -> None:
    with Kit.open(store) as kit:
        line = kit.audit.timeline(bucket_s=60.0)
        assert line.total == 6 == sum(part.count for part in line.parts)
        assert sum(part.by.get("authentication", 0) for part in line.parts) == 2
        with pytest.raises(InvalidInput, match="bucket_s"):
            kit.audit.timeline(bucket_s=float("nan"))
        summary = kit.audit.report("summary")
        assert (summary.events, summary.denials, summary.truncated) == (5, 1, False)
        assert {tuple(row) for row in summary.tables[0].rows} == {
            ("authentication", 2), ("data", 1), ("api_key", 1), ("role", 1), ("authorization", 1)
        }  # fmt: skip
        security = {table.title: table.rows for table in kit.audit.report("security").tables}
        assert security["Failed sign-ins by user"] == [["bob", 1]]
        assert security["Refused by caller"] == [["eve", "bucket.create", "b", 1]]
        assert len(security["Keys revoked"]) == 1
        compliance = {table.title: table.rows for table in kit.audit.report("compliance").tables}
        assert [row[3] for row in compliance["Changes of access and configuration"]] == ["create", "revoke"]
        assert compliance["Access to data"] == [["file", "=1+1", "ada", "read", 1]]
        activity = kit.audit.report("user_activity", users=["ada"]).tables[0].rows
        assert [(row[0], row[1], row[4]) for row in activity] == [("ada", 4, "10.0.0.1")]


def test_an_export_holds_the_rows_of_the_query_in_every_format(store: Path, tmp_path: Path) -> None:
    from pyarrow import parquet  # type: ignore[import-untyped]

    with Kit.open(store) as kit:
        ops = [row.op for row in kit.audit.query().rows]
        for form in ("json", "jsonl", "csv", "parquet"):
            done = kit.audit.export(str(tmp_path / form), file_format=form)
            assert (done.rows, done.truncated, done.size) == (6, False, (tmp_path / form).stat().st_size)
        with pytest.raises(AlreadyExists):
            kit.audit.export(str(tmp_path / "csv"), file_format="csv")
        assert kit.audit.export(str(tmp_path / "csv"), file_format="csv", users=["bob"], overwrite=True).rows == 1
        kit.audit.export(str(tmp_path / "csv"), file_format="csv", overwrite=True)
    assert [row["op"] for row in json.loads((tmp_path / "json").read_text())] == ops
    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    assert [row["op"] for row in lines] == ops
    with open(tmp_path / "csv", newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file))
    assert [row["op"] for row in cells] == ops
    assert cells[3]["resource_id"] == "'=1+1"
    assert not [cell for row in cells for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    columns = parquet.read_table(tmp_path / "parquet").to_pydict()
    assert columns["op"] == ops
    assert columns["resource_id"][3] == "=1+1"


@pytest.mark.parametrize("with_checksum", [False, True])
def test_verify_names_the_record_that_was_edited(store: Path, with_checksum: bool) -> None:
    add(store, *EVENTS)
    add(store, *EVENTS)
    with Kit.open(store) as kit:
        verdict = kit.audit.verify()
        assert (verdict.ok, verdict.events) == (True, 16)
        edited = kit.audit.query().rows[7].index
        assert kit.engine.ledger.record_at("main", edited).status == "ok"
    state = sqlite3.connect(store / "state.db")
    first, payload = state.execute(
        "SELECT first_index, payload FROM batches WHERE log = 'main' AND first_index <= ? "
        "AND first_index + count > ?", (edited, edited)
    ).fetchone()  # fmt: skip
    parts = payload.split(b"stream.append")
    assert len(parts) >= 6  # five events lie in one batch, of which only one is edited
    at = edited - first + 1
    forged = b"stream.append".join(parts[:at]) + b"stream.forged" + b"stream.append".join(parts[at:])
    checksum = hashlib.sha256(forged if with_checksum else payload).digest()
    state.execute(
        "UPDATE batches SET payload = ?, checksum = ? WHERE log = 'main' AND first_index = ?", (forged, checksum, first)
    )
    state.commit()
    state.close()
    assert broken(store) == [f"main:{edited}"]


def broken(store: Path) -> list[str]:
    """The records that verification names."""
    with Kit.open(store) as kit, pytest.raises(IntegrityError, match="not what was recorded") as error:
        kit.audit.verify()
    return [each["op"] for each in error.value.details["broken"]]


def test_verify_names_the_sealed_record_that_was_edited(store: Path) -> None:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    add(store, *EVENTS)
    with Kit.open(store) as kit:
        kit.ledger.seal()
    (segment,) = (store / "ledger" / "main" / "segments").glob("*.parquet")
    table = parquet.read_table(segment)
    at = table.schema.get_field_index("duration_us")
    values = table["duration_us"].to_pylist()
    values[5] += 1
    segment.chmod(0o644)
    parquet.write_table(
        table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type)), segment
    )
    assert broken(store) == [f"main:{table['index'][5].as_py()}"]
    done = subprocess.run(
        [sys.executable, "-m", "ipfs_kit", "--store", str(store), "audit", "verify"], capture_output=True, text=True
    )
    assert done.returncode == SURFACE_CODES[IntegrityError.kind].exit
    assert f"main:{table['index'][5].as_py()}" in done.stderr


def failures(user: str, count: int) -> list[dict[str, Any]]:
    return [{"event_type": "authentication", "action": "login", "status": "failure", "user_id": user}] * count


def check(path: Path) -> tuple[list[tuple[str, str, str]], list[list[str]]]:
    with Kit.open(path) as kit:
        done = kit.audit.check_alerts()
        return [(each.state, each.rule, each.key) for each in done.changes], done.active


def test_each_rule_fires_once_and_clears_when_over_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "s"
    add(path, *failures("bob", 4))
    login = {"event_type": "authentication", "action": "login", "status": "success", "user_id": "ada"}
    add(path, {**login, "ip_address": "10.0.0.1"})
    assert check(path) == ([], [])
    add(path, *failures("bob", 1))
    raised, active = check(path)
    assert raised == [("raised", "failed_logins", "bob")]
    assert check(path) == ([], active) == ([], [["failed_logins", "bob"]])
    add(path, {"event_type": "api_key", "action": "revoke", "user_id": "ada", "resource_id": "k1"})
    add(path, {**login, "ip_address": "10.9.9.9"})
    with Kit.open(path) as kit:
        for _ in range(3):
            with pytest.raises(Denied):
                kit.call_with("bucket.create", {"name": "b"}, principal=Principal("eve", frozenset()))
    raised, active = check(path)
    assert raised == [
        ("raised", "denials", "eve"), ("raised", "key_revocation", "k1"), ("raised", "new_ip", "ada 10.9.9.9")
    ]  # fmt: skip
    assert len(active) == 4
    with Kit.open(path) as kit:
        assert kit.audit.rule_set("failed_logins", threshold=6).before.threshold == 5
    assert check(path)[0] == [("cleared", "failed_logins", "bob")]
    with Kit.open(path) as kit:
        for rule in ("denials", "key_revocation", "new_ip"):
            kit.audit.rule_set(rule, enabled=False)
        assert [each.enabled for each in kit.audit.rules().rules] == [True, False, False, False]
    assert [state for state, _, _ in check(path)[0]] == ["cleared"] * 3
    assert check(path) == ([], [])
    with Kit.open(path) as kit:
        rows = kit.stream.query("alerts", oldest_first=True).rows
        assert [row.event["state"] for row in rows if row.event] == ["raised"] * 4 + ["cleared"] * 4
        assert all(row.event["ops"] for row in rows[:4] if row.event)
