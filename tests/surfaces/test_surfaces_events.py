"""Server-sent events over a real socket: order, resuming, errors before the stream, bounds, and a clean end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ipfs_kit import Kit
from ipfs_kit.operations.principal import LOCAL, Principal
from ipfs_kit.surfaces.http import events
from ipfs_kit.surfaces.http.app import build_app
from ipfs_kit.surfaces.http.serve import server_of

WAIT_S = 30.0
TOKEN, WEAK = "o" * 24, "w" * 24


class Event:
    """One event as the standard has a client read it."""

    def __init__(self, lines: list[str]) -> None:
        fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
        self.id = fields.get("id")
        self.kind = fields.get("event")
        self.data: Any = json.loads(fields["data"]) if "data" in fields else None


def read(answer: httpx.Response) -> Iterator[Event]:
    lines: list[str] = []
    for line in answer.iter_lines():
        if line:
            lines.append(line)
        elif lines:
            yield Event(lines)
            lines = []


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store", surface="http") as opened:
        opened.bucket.create("docs")
        yield opened


@pytest.fixture
def client(kit: Kit) -> Iterator[httpx.Client]:
    stopping = threading.Event()
    tokens = {TOKEN: LOCAL, WEAK: Principal("weak", frozenset({"files:read"}))}
    server = server_of(build_app(kit, tokens, stopping=stopping), stopping, port=0, log_level="error")
    thread = threading.Thread(target=server.run)
    thread.start()
    end = time.monotonic() + WAIT_S
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < end
    port = server.servers[0].sockets[0].getsockname()[1]
    limits = httpx.Limits(max_connections=200)
    headers = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=WAIT_S, limits=limits) as opened:
        yield opened
        server.should_exit = True
        # Streams that are still open must not hold the server.
        thread.join(WAIT_S)
        assert not thread.is_alive()


def test_ops_arrive_as_recorded_and_a_reconnecting_client_misses_none(kit: Kit, client: httpx.Client) -> None:
    with client.stream("GET", "/api/v1/streams/bucket/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        found = read(answer)
        first = next(found)
        assert first.data is None
        for number in range(3):
            kit.bucket.create(f"b{number}")
        one = next(found)
        assert (one.kind, one.data["operation"], one.data["args"]["name"]) == ("op", "bucket.create", "b0")
        assert one.id
    kit.bucket.create("while-away")
    with client.stream("GET", "/api/v1/streams/bucket/events", headers={"last-event-id": one.id}) as answer:
        names = [event.data["args"]["name"] for event in _ops(read(answer), 3)]
        assert names == ["b1", "b2", "while-away"]
    # A client that saw nothing before it lost its connection resumes where it first connected.
    assert first.id
    with client.stream("GET", "/api/v1/streams/bucket/events", params={"cursor": first.id}) as answer:
        assert next(_ops(read(answer), 1)).data["args"]["name"] == "b0"


def _ops(found: Iterator[Event], count: int) -> Iterator[Event]:
    for event in found:
        if event.kind == "op":
            yield event
            count -= 1
            if not count:
                return


def test_all_ops_with_the_last_ones_first(kit: Kit, client: httpx.Client) -> None:
    kit.files.write("docs:/a", text="one")
    with client.stream("GET", "/api/v1/events", params={"last": "1", "log": "main"}) as answer:
        found = _ops(read(answer), 2)
        assert next(found).data["operation"] == "files.write"
        kit.files.write("docs:/ü", text="two")
        assert next(found).data["target"] == "docs:/ü"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/streams/no-such/events", 400),
        ("/api/v1/events?cursor=x", 400),
        ("/api/v1/events?last=x", 400),
        ("/api/v1/events?last=999999", 400),
        ("/api/v1/events?limit=3", 400),
        ("/api/v1/events?log=side", 400),
        ("/api/v1/events?cursor=main:99999", 400),
    ],
)
def test_what_is_wrong_is_answered_before_the_stream_begins(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_the_record_is_shown_to_who_may_read_it(client: httpx.Client) -> None:
    assert client.get("/api/v1/events", headers={"authorization": f"Bearer {WEAK}"}).status_code == 403
    assert client.get("/api/v1/events", headers={"authorization": "Bearer x"}).status_code == 401


def test_heartbeats_carry_the_position_so_that_a_quiet_stream_resumes_late(
    kit: Kit, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    with client.stream("GET", "/api/v1/streams/alerts/events") as answer:
        found = read(answer)
        before = next(found).id
        kit.bucket.create("of-no-interest")
        kit.stream.append("audit", events=[{"event_type": "user", "action": "made", "user_id": "ann"}])
        later = next(event.id for event in found if event.id != before)
        assert later


def test_more_clients_than_places_are_refused_and_a_place_is_free_again_once_left(
    kit: Kit, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    open_streams = []
    for _ in range(events.SUBSCRIBERS_MAX):
        stream = client.stream("GET", "/api/v1/events")
        assert stream.__enter__().status_code == 200
        open_streams.append(stream)
    refused = client.get("/api/v1/events")
    assert refused.status_code == 503
    assert "64" in refused.json()["error"]["message"]
    for stream in open_streams:
        stream.__exit__(None, None, None)
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        with client.stream("GET", "/api/v1/events") as answer:
            if answer.status_code == 200:
                break
    assert answer.status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_served_stream_ends_with_the_server(tmp_path: Path, number: int) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(TOKEN, encoding="utf-8")
    server = subprocess.Popen(
        [sys.executable, "-m", "ipfs_kit", "--store", str(tmp_path / "store"), "serve", "--port", "0", "--token-file", str(token)],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert server.stdout is not None
    address = server.stdout.readline().split(" on ")[1].strip()
    with httpx.stream(
        "GET", f"{address}/api/v1/events", headers={"authorization": f"Bearer {TOKEN}"}, timeout=WAIT_S
    ) as answer:
        found = read(answer)
        next(found)
        server.send_signal(number)
        for _ in found:
            pass
    _, said = server.communicate(timeout=WAIT_S)
    assert server.returncode in (0, 130)
    assert "Traceback" not in said
