"""Log files: rotation loses no line, readers follow across it, and a handler records what is logged."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.errors import FormatError, InvalidInput, NotFound, StorageFailed
from ipfs_kit.monitoring.logs.handler import FileHandler, StreamHandler
from ipfs_kit.monitoring.logs.places import at, logs
from ipfs_kit.monitoring.logs.reader import Position, files_of, follow, generations, lines_from, read_on, tail
from ipfs_kit.monitoring.logs.rotate import Limits, RotatingFile, rotate

NOW_NS = 1_790_000_000_000_000_000
WRITER = """
import sys, time
from pathlib import Path
from ipfs_kit.monitoring.logs.rotate import Limits, RotatingFile
file = RotatingFile(Path(sys.argv[1]), Limits(max_bytes=4096, keep=1000), time.time_ns)
for n in range(int(sys.argv[3])):
    file.write(f"{sys.argv[2]} {n}".encode())
"""


class Clock:
    """A clock set by the test."""

    def __init__(self) -> None:
        self.now_ns = NOW_NS

    def __call__(self) -> int:
        return self.now_ns


def everything(path: Path) -> list[str]:
    return read_on(path, None, 10**9).lines


def test_a_log_is_rotated_by_size_compressed_later_and_capped(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.log", Clock()
    file = RotatingFile(path, Limits(max_bytes=100, keep=3), clock)
    for n in range(50):
        clock.now_ns += 1_000_000_000
        file.write(f"line {n:03} of nine bytes".encode())
    file.close()
    old = generations(path)
    assert [each.suffix == ".gz" for each in old] == [True, True, False]
    assert everything(path) == [f"line {n:03} of nine bytes" for n in range(50 - 3 * 4 - 2, 50)]
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert [(log.name, len(log.files)) for log in logs(tmp_path)] == [("a.log", 4)]


def test_a_log_is_rotated_by_the_age_of_its_first_line_also_after_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "a.log", Clock()
    limits = Limits(max_age_s=3600.0)

    def write(number: int) -> None:
        file = RotatingFile(path, limits, clock)
        file.write(json.dumps({"message": f"{number}", "event_time": clock.now_ns / 1e9}).encode())
        file.close()

    write(0)
    clock.now_ns += 3599 * 10**9
    write(1)
    assert generations(path) == []
    assert rotate(path, limits, clock.now_ns).rotated_to is None
    clock.now_ns += 10**9
    write(2)
    assert len(generations(path)) == 1
    clock.now_ns += 3600 * 10**9
    assert rotate(path, limits, clock.now_ns).rotated_to is not None
    assert [json.loads(line)["message"] for line in everything(path)] == ["0", "1", "2"]


@pytest.mark.parametrize("stop", ["rename", "remove", "write"])
def test_a_rotation_cut_short_loses_no_line(tmp_path: Path, stop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ipfs_kit.durable import faults

    path = tmp_path / "a.log"
    for n in range(3):
        path.write_text(f"{n}\n", encoding="utf-8")
        rotate(path, Limits(compress=False), NOW_NS + n, force=True)
    path.write_text("3\n", encoding="utf-8")

    def refuse(operation: str, _name: str) -> None:
        if operation == stop:
            raise OSError(5, "refused")

    monkeypatch.setattr(faults, "hook", refuse)
    with pytest.raises(StorageFailed):
        rotate(path, Limits(), NOW_NS + 9, force=True)
    assert everything(path) == ["0", "1", "2", "3"]
    monkeypatch.setattr(faults, "hook", None)
    rotate(path, Limits(), NOW_NS + 10, force=True)
    assert everything(path) == ["0", "1", "2", "3"]
    assert sum(each.suffix == ".gz" for each in generations(path)) == len(generations(path)) - 1


def test_a_follower_sees_every_line_of_two_rotating_writers_once_and_in_order(tmp_path: Path) -> None:
    path, lines = tmp_path / "a.log", 1500
    done = threading.Event()
    seen: list[str] = []
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(lines)], env=os.environ) for name in "ab"
    ]
    for page in follow(path, None, lambda _seconds: done.wait(0.01)):
        seen += page
        if len(seen) >= 2 * lines:
            done.set()
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert len(files_of(path)) > 4
    for name in "ab":
        assert [line for line in seen if line[0] == name] == [f"{name} {n}" for n in range(lines)]


def test_reading_goes_on_after_renaming_compressing_and_truncating(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n", encoding="utf-8")
    first = read_on(path, None, 2)
    assert first.lines == ["one", "two"]
    rotate(path, Limits(), NOW_NS, force=True)
    path.write_text("four\n", encoding="utf-8")
    rotate(path, Limits(), NOW_NS + 10**9, force=True)
    path.write_text("five\nsi", encoding="utf-8")
    assert generations(path)[0].suffix == ".gz"
    after = read_on(path, Position.parse(str(first.position)), 100)
    assert after.lines == ["three", "four", "five"]
    with path.open("a", encoding="utf-8") as stream:
        stream.write("x\n")
    last = read_on(path, after.position, 100)
    assert last.lines == ["six"]
    with path.open("r+b") as stream:
        stream.truncate(0)
        stream.write(b"new\n")
    assert read_on(path, last.position, 100).lines == ["new"]
    assert tail(path, 3).lines == ["three", "four", "new"]
    with pytest.raises(NotFound):
        tail(tmp_path / "absent.log", 1)
    with pytest.raises(InvalidInput):
        Position.parse("1.2")


def test_rotated_files_of_other_programs_are_read_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "sys"
    for name, text in (("sys", "c\n"), ("sys.1", "b\n"), ("sys.10.gz", "a\n"), ("sys.bak", "no\n")):
        data = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
        (tmp_path / name).write_bytes(data)
    assert everything(path) == ["a", "b", "c"]
    (tmp_path / "sys.10.gz").write_bytes(gzip.compress(b"a\n" * 9999)[:-9])
    with pytest.raises(FormatError, match="damaged"):
        everything(path)
    for name in ("../x", "a/b", "", "..", "\0"):
        with pytest.raises(InvalidInput):
            at(tmp_path, name)


@given(st.binary(max_size=300), st.integers(1, 5))
def test_hostile_bytes_are_bounded_lines_of_printable_text(data: bytes, limit: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.log"
        path.write_bytes(data + b"y" * 70_000 + b"\nend\n")
        found = everything(path)
        assert found[-1] == "end"
        assert all(line.replace("\t", "").isprintable() for line in found)
        assert max(len(line) for _, line in lines_from(path)) <= 1 << 16
        assert tail(path, limit).lines == found[-limit:]


class Sink:
    """Takes events, or refuses while ``broken``."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.broken: Exception | None = None
        self.logger: logging.Logger | None = None

    def __call__(self, events: list[dict[str, Any]]) -> None:
        if self.broken is not None:
            raise self.broken
        if self.logger is not None:
            self.logger.warning("logged while a batch is sent")
        self.events += events


@pytest.fixture
def logger() -> Any:
    found = logging.Logger("tests.sink")  # outside the tree, where the test runner listens
    yield found
    for handler in list(found.handlers):
        found.removeHandler(handler)
        handler.close()


def test_what_the_store_refuses_is_kept_in_order_and_sent_once(logger: logging.Logger) -> None:
    sink = Sink()
    handler = StreamHandler(sink, batch=10, interval_s=60)
    logger.addHandler(handler)
    sink.logger = logger
    sink.broken = StorageFailed("the disk is away")
    for n in range(35):
        logger.info("line %d password=hunter2secret", n)
    handler.flush()
    assert (sink.events, str(handler.last_error)) == ([], "the disk is away")
    sink.broken = None
    handler.flush()
    assert [event["message"] for event in sink.events] == [f"line {n} password=***" for n in range(35)]
    assert handler.own == 4
    assert handler.lost == 0


def test_a_writer_waits_for_room_and_a_loss_is_told(logger: logging.Logger) -> None:
    sink = Sink()
    handler = StreamHandler(sink, batch=5, capacity=5, interval_s=60, wait_max_s=0.05)
    sink.broken = StorageFailed("no")
    logger.addHandler(handler)
    for n in range(7):
        logger.info("line %d", n)
    assert handler.lost == 2
    sink.broken = None
    handler.flush()
    assert sink.events[0]["message"].startswith("2 log lines were lost")
    assert [event["message"] for event in sink.events[1:]] == [f"line {n}" for n in range(5)]


def test_hostile_records_are_logged_and_those_refused_leave_a_trace(logger: logging.Logger) -> None:
    class Bad:
        def __str__(self) -> str:
            raise ValueError("no text")

    sink = Sink()
    handler = StreamHandler(sink, interval_s=60)
    logger.addHandler(handler)
    logger.info("%d", "x")
    logger.info("%s", Bad())
    logger.info("\ud800 %s", "y" * 100_000, extra={"token": "canary", "more": Bad(), "nan": float("nan")})
    try:
        raise ValueError("secret=canary")
    except ValueError:
        logger.exception("failed")
    handler.flush()
    assert len(sink.events) == 4
    assert "canary" not in json.dumps(sink.events)
    assert "ValueError" in sink.events[3]["exception"]
    sink.broken = InvalidInput("too odd")
    logger.info("odd")
    handler.flush()
    sink.broken = None
    handler.flush()
    assert len(sink.events) == 4


def test_json_lines_in_a_rotating_file_read_back_as_logged(tmp_path: Path, logger: logging.Logger) -> None:
    path = tmp_path / "kit.log"
    logger.addHandler(FileHandler(RotatingFile(path, Limits(max_bytes=2000), Clock()), component="c"))
    for n in range(30):
        logger.warning("n=%d api_key=canary", n)
    found = [json.loads(line) for line in everything(path)]
    assert [each["message"] for each in found] == [f"n={n} api_key=***" for n in range(30)]
    assert {(each["level"], each["component"]) for each in found} == {("WARNING", "c")}
