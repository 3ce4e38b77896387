"""The toolset logs: lines recorded once and found again, files rotated, sets stored, compared and restored."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput, KitError, NotFound
from ipfs_kit_py.log_manager import LogManager

CANARY = "canarySecret0123456789"
LOGGING_PROCESS = """
import logging, sys
from ipfs_kit import Kit
from ipfs_kit.monitoring.logs.handler import StreamHandler
kit = Kit.open(sys.argv[1])
def append(events):
    return kit.call_with("stream.append", {"stream": "logs", "events": events, "ack": "fsync"})
handler = StreamHandler(append, component="child")
root = logging.getLogger()
root.setLevel(logging.INFO)
root.addHandler(handler)
n = 0
while True:
    for _ in range(50):
        root.info("line %d token=canarySecret0123456789", n)
        n += 1
    handler.flush()
    print(n, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "logs"
    made.mkdir()
    monkeypatch.setenv("IPFS_KIT_LOGS_PATH", str(made))
    return made


def test_lines_are_found_by_component_level_time_and_text_after_a_restart(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "s") as kit:
        for n, (level, component) in enumerate([("DEBUG", "a"), ("ERROR", "a"), ("WARNING", "b"), ("INFO", "b")]):
            kit.stream.append("logs", events=[{"level": level, "component": component, "message": f"m{n}"}])
    with Kit.open(tmp_path / "s") as kit:

        def found(**given: object) -> list[str | None]:
            return [row.message for row in kit.call("logs.query", **given).value.rows]

        assert found() == ["m3", "m2", "m1", "m0"]
        assert found(level="warning") == ["m2", "m1"]
        assert found(component=["a"], oldest_first=True) == ["m0", "m1"]
        assert found(text="M2") == ["m2"]
        assert found(since=1e10) == []
        page = kit.logs.query(limit=3)
        assert [row.message for row in kit.logs.query(cursor=page.cursor).rows] == ["m0"]
        with pytest.raises(InvalidInput):
            kit.logs.query(level="loud")


def test_a_file_is_taken_in_once_whatever_it_is_called_and_however_often(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text("".join(f"2024-01-02 03:04:05 - app - INFO - n{n} token={CANARY}\n" for n in range(1500)), "utf-8")

    def ingest(path: Path) -> tuple[int, int, int]:
        with Kit.open(tmp_path / "s") as kit:
            done = kit.logs.ingest(str(path))
            assert done.source == "app.log"
            return done.events, done.lines, done.resumed_at

    assert ingest(file) == (1500, 1500, 0)
    assert ingest(file) == (0, 1500, 1500)
    with file.open("a", encoding="utf-8") as stream:
        stream.write("ERROR:app:broken\nTraceback (most recent call last):\n  File x\nhalf")
    assert ingest(file) == (1, 1503, 1500)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(" done\n")
    old = tmp_path / "app.log.1.gz"
    old.write_bytes(gzip.compress(file.read_bytes()))
    assert ingest(old) == (1, 1504, 1503)
    assert ingest(file) == (0, 1504, 1504)
    file.write_text("2024-01-02 03:04:05 - app - INFO - n0 another log\nplain\n", "utf-8")
    assert ingest(file) == (2, 2, 0)
    with Kit.open(tmp_path / "s") as kit:
        rows = kit.logs.query(source="app.log", limit=10_000).rows
        assert len(rows) == 1504
        assert sum(row.exception is not None for row in rows) == 1
        with pytest.raises(NotFound):
            kit.logs.ingest(str(tmp_path / "absent"))
    for path in (tmp_path / "s").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()


def test_files_are_listed_tailed_and_rotated_with_secrets_masked(tmp_path: Path, folder: Path) -> None:
    (folder / "a.log").write_text("".join(f"line {n} password={CANARY}\n" for n in range(9)), "utf-8")
    with Kit.open(tmp_path / "s") as kit:
        assert [(log.name, len(log.files)) for log in kit.logs.list().logs] == [("a.log", 1)]
        seen = kit.logs.tail("a.log", limit=2)
        assert seen.lines == ["line 7 password=***", "line 8 password=***"]
        assert kit.logs.rotate().logs[0].rotated_to is None
        assert kit.logs.rotate("a.log", force=True).logs[0].rotated_to is not None
    (folder / "a.log").write_text("new\n", "utf-8")
    with Kit.open(tmp_path / "s") as kit:
        assert kit.logs.tail("a.log", cursor=seen.cursor, wait_s=1).lines == ["new"]
        assert kit.logs.tail("a.log", limit=100).lines[-2:] == ["line 8 password=***", "new"]
        for bad in ("../s/state.db", "nothing.log"):
            with pytest.raises(KitError):
                kit.logs.tail(bad)
            with pytest.raises(KitError):
                kit.logs.rotate(bad)


def test_sets_are_stored_compared_and_restored_across_restarts(tmp_path: Path, folder: Path) -> None:
    (folder / "a.log").write_text(f"one\ntwo token={CANARY}\n", "utf-8")
    with Kit.open(tmp_path / "s") as kit:
        assert kit.logs.versions().versions == []
        with pytest.raises(NotFound):
            kit.logs.diff("v1", "v2")
        kit.stream.append("logs", events=[{"level": "INFO", "component": "c", "message": "m"}])
        first = kit.logs.store()
        again = kit.logs.store(version="same")
    assert (first.version, first.files, first.created) == ("v1", 2, True)
    assert (again.cid, again.created) == (first.cid, False)
    with (folder / "a.log").open("a", encoding="utf-8") as stream:
        stream.write("three\n")
    with Kit.open(tmp_path / "s") as kit:
        kit.logs.rotate(force=True)
        second = kit.logs.store()
        assert second.cid != first.cid
        assert [each.versions for each in kit.logs.versions().versions] == [[second.version], ["same", "v1"]]
        found = kit.logs.diff("v1", second.version).files
        assert [(each.path, each.change, each.added, each.removed, each.lines) for each in found] == [
            ("/files/a.log", "modified", 1, 0, ["+ three"])
        ]
        kit.logs.restore("v1", str(tmp_path / "out"))
        assert (tmp_path / "out/files/a.log").read_text("utf-8") == "one\ntwo token=***\n"
        line = json.loads((tmp_path / "out/stream/c.jsonl").read_text("utf-8"))
        assert (line["message"], line["level"]) == ("m", "INFO")
        assert kit.store.verify().ok
        ops = kit.ledger.tail(limit=100).ops
        assert {"logs.store", "files.write", "versions.tag_create"} <= {op.operation for op in ops}


@pytest.mark.slow
def test_a_killed_process_loses_no_line_that_was_flushed_and_doubles_none(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", LOGGING_PROCESS, str(tmp_path / "s")], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert child.stdout is not None
    acked = 0
    while acked < 500:
        acked = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    acked = max([acked, *(int(line) for line in child.stdout.read().split())])
    child.wait(30)
    child.stdout.close()
    with Kit.open(tmp_path / "s") as kit:
        rows = kit.logs.query(component=["child"], oldest_first=True, limit=10_000).rows
        numbers = [int((row.message or "").split()[1]) for row in rows]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= acked
    for path in (tmp_path / "s").rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()


@pytest.mark.slow
def test_a_server_records_its_lines_when_asked_and_the_library_configures_nothing(tmp_path: Path, folder: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "ipfs_kit",
        "--store",
        str(tmp_path / "s"),
        "mcp",
        "--log-to-store",
        "--log-file",
        "k.log",
    ]
    assert subprocess.run(words, stdin=subprocess.DEVNULL, env=os.environ, timeout=60, check=False).returncode == 0
    with Kit.open(tmp_path / "s") as kit:
        rows = kit.logs.query(component=["mcp"], oldest_first=True).rows
        assert [(row.message or "").partition(" ")[2].split()[0] for row in rows] == ["serving", "ended"]
        assert len(kit.logs.tail("k.log").lines) == 2
    code = "import logging, sys\nfrom ipfs_kit import Kit\nKit.open(sys.argv[1]).close()\nassert not logging.getLogger().handlers"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=True, timeout=60)


def test_the_published_manager_reads_and_stores_logs(tmp_path: Path, folder: Path) -> None:
    manager = LogManager(storage_path=tmp_path / "s")
    manager.log("warn", f"disk nearly full secret={CANARY}", component="disk", token=CANARY)
    manager.log("info", "fine", component="net")
    assert manager.store_logs_as_dataset() == {"success": False, "error": "dataset storage is off"}
    manager.close()
    manager = LogManager(enable_dataset_storage=True, storage_path=tmp_path / "s")
    found = manager.get_logs(component="disk")
    assert [(row["level"], row["message"]) for row in found] == [("WARNING", "disk nearly full secret=***")]
    assert CANARY not in json.dumps(found)
    stored = manager.store_logs_as_dataset(component="disk", version="first")
    assert stored["success"]
    manager.log("error", "full", component="disk")
    assert manager.store_logs_as_dataset(component="disk")["success"]
    assert [each["versions"] for each in manager.list_versions()] == [["v1"], ["first"]]
    assert manager.diff_versions("first", "v1")["files"][0]["added"] == 1
    assert manager.restore_version("first", tmp_path / "out")["files"] == 1
    assert manager.restore_version("nothing", tmp_path / "out")["error_type"] == "ref_not_found"
    assert manager.flush_to_dataset()["count"] == 1  # since storage was turned on
    manager.close()
