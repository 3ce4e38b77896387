"""Following the record: every op once and in order, across processes, restarts and resumed cursors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import InvalidInput
from ipfs_kit.operations import follow
from ipfs_kit.operations.follow import FOLLOW, Feed

WAIT_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("docs")
    return tmp_path / "store"


def command(store: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "ipfs_kit", "--store", str(store), *words]


def started(store: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(store, *words),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def targets(feed: Iterator[Any], count: int) -> list[str]:
    """What the next ops of interest were about: buckets made, in order."""
    return [row.args["name"] for row in islice((row for row in feed if row.operation == "bucket.create"), count)]


def test_a_feed_gives_each_op_once_in_order_and_resumes_after_a_restart(store: Path) -> None:
    names = [f"b{number}" for number in range(7)]
    with Kit.open(store) as kit:
        with_feed = kit.follow(log="main")
        for name in names[:4]:
            kit.bucket.create(name)
        assert targets(with_feed, 2) == names[:2]
        cursor = with_feed.cursor  # two more wait in its page: they must come again from here
    with Kit.open(store) as kit:
        for name in names[4:]:
            kit.bucket.create(name)
    with Kit.open(store) as kit:
        resumed = kit.follow(log="main", cursor=cursor)
        assert targets(resumed, 5) == names[2:]
        assert targets(kit.follow(log="main", cursor=cursor), 5) == names[2:], "a cursor is read again from its place"
        end = resumed.cursor
        kit.bucket.create("late")
        assert targets(kit.follow(cursor=end, log="main"), 1) == ["late"]


def test_a_feed_begins_with_the_last_ops_asked_for(store: Path) -> None:
    with Kit.open(store) as kit:
        for number in range(5):
            kit.bucket.create(f"b{number}")
        assert targets(kit.follow(log="main", last=2), 2) == ["b3", "b4"]
        feed = kit.follow(log="main", last=2)
        assert targets(feed, 1) == ["b3"]
        assert targets(kit.follow(log="main", cursor=feed.cursor), 1) == ["b4"]


def test_both_logs_are_followed_and_a_feed_never_sees_itself(store: Path) -> None:
    with Kit.open(store) as kit:
        feed = kit.follow()
        kit.files.write("docs:/a", text="one")
        kit.files.read("docs:/a")
        kit.stream.append("health", events=[{"check_id": "disk", "status": "healthy"}])
        seen = {row.operation for row in islice(feed, 3)}
        assert seen == {"files.write", "files.read", "stream.append"}
        assert FOLLOW in {op.operation for op in kit.ledger.tail(log="bulk").ops}, "following is itself recorded"
        kit.bucket.create("next")
        assert [next(feed).operation, next(feed).operation] == ["ledger.tail", "bucket.create"]


def test_a_stream_is_followed_alone(store: Path) -> None:
    with Kit.open(store) as kit:
        feed = kit.follow("alerts")
        kit.bucket.create("other")
        kit.stream.append("audit", events=[{"event_type": "user", "action": "made", "user_id": "ann"}])
        kit.stream.append("alerts", events=[{"rule": "r", "state": "raised"}])
        row = next(feed)
        assert (row.stream, row.operation) == ("alerts", "stream.append")
        with pytest.raises(InvalidInput, match="is no stream"):
            kit.follow("no-such-stream")


def test_rare_ops_in_a_busy_log_are_found_in_bounded_steps(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "SCANNED_MAX", 16)
    with Kit.open(store) as kit:
        feed = kit.follow("alerts")
        for number in range(50):
            kit.bucket.create(f"b{number}")
        page = kit.ledger.follow(stream="alerts", cursor=feed.cursor)
        assert page.ops == []
        assert page.cursor != feed.cursor, "an empty page still moves on"
        kit.stream.append("alerts", events=[{"rule": "r", "state": "raised"}])
        assert next(feed).stream == "alerts"


@pytest.mark.parametrize(
    "cursor", ["", "main", "main:", "main:-1", "main:x", "side:1", "main:1,main:2", "main:1,", "main:" + "9" * 30]
)
def test_a_cursor_that_is_none_is_refused(store: Path, cursor: str) -> None:
    with Kit.open(store) as kit, pytest.raises(InvalidInput, match="cursor"):
        kit.ledger.follow(cursor=cursor)


def test_a_cursor_of_another_store_or_log_is_refused(store: Path) -> None:
    with Kit.open(store) as kit:
        with pytest.raises(InvalidInput, match="of another store"):
            kit.ledger.follow(cursor="main:1000000")
        with pytest.raises(InvalidInput, match="not followed here"):
            kit.ledger.follow(log="main", cursor="bulk:0")


def test_closing_a_feed_ends_the_thread_that_waits_on_it(store: Path) -> None:
    with Kit.open(store) as kit:
        feed = kit.follow(log="main")
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.extend(targets(feed, 10)))
        thread.start()
        kit.bucket.create("one")
        other = kit.follow(log="main", last=1)
        assert targets(other, 1) == ["one"]
        feed.close()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert seen in ([], ["one"])


@pytest.mark.parametrize("writers", [2])
def test_ops_of_other_processes_appear_each_once(store: Path, writers: int) -> None:
    code = (
        "import sys; from ipfs_kit import Kit\n"
        "with Kit.open(sys.argv[1]) as kit:\n"
        "    for number in range(20): kit.bucket.create(f'{sys.argv[2]}{number}')\n"
    )
    with Kit.open(store) as kit:
        feed = kit.follow("bucket", log="main")
        running = [subprocess.Popen([sys.executable, "-c", code, str(store), f"w{one}-"]) for one in range(writers)]
        found = targets(feed, 20 * writers)
        assert [process.wait(WAIT_S) for process in running] == [0] * writers
        assert sorted(found) == sorted(f"w{one}-{number}" for one in range(writers) for number in range(20))
        for one in range(writers):
            mine = [name for name in found if name.startswith(f"w{one}-")]
            assert mine == [f"w{one}-{number}" for number in range(20)]


def test_the_command_prints_what_another_process_does_until_interrupted(store: Path) -> None:
    tail = started(store, "--json", "ledger", "tail", "--follow", "--stream", "bucket", "-n", "1")
    assert tail.stdout is not None
    assert json.loads(tail.stdout.readline())["args"]["name"] == "docs", "begins with the last one"
    subprocess.run(command(store, "bucket", "create", "new"), check=True, capture_output=True)
    row = json.loads(tail.stdout.readline())
    assert (row["operation"], row["args"]["name"]) == ("bucket.create", "new")
    tail.send_signal(signal.SIGINT)
    _, said = tail.communicate(timeout=WAIT_S)
    assert tail.returncode == 130
    assert "Traceback" not in said


def test_the_command_resumes_at_a_cursor_and_refuses_a_wrong_one(store: Path) -> None:
    with Kit.open(store) as kit:
        cursor = kit.follow(log="main").cursor
        kit.bucket.create("missed")
    tail = started(store, "ledger", "tail", "-f", "--log", "main", "--cursor", cursor)
    assert tail.stdout is not None
    line = tail.stdout.readline()
    assert "bucket.create" in line
    tail.stdout.close()  # the reader goes: the next line it prints ends it
    subprocess.run(command(store, "bucket", "create", "ends-it"), check=True, capture_output=True)
    tail.wait(WAIT_S)
    assert tail.stderr is not None
    assert "Traceback" not in tail.stderr.read()
    tail.stderr.close()
    wrong = subprocess.run(command(store, "ledger", "tail", "-f", "--cursor", "x"), capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "cursor" in wrong.stderr


def test_a_read_only_store_is_followed_too(store: Path) -> None:
    with Kit.open(store, read_only=True) as reader:
        feed = Feed(reader, log="main")
        with Kit.open(store) as kit:
            kit.bucket.create("seen")
        assert targets(feed, 1) == ["seen"]
