"""Changes are told to a real listener on loopback and to a folder of mails."""

from __future__ import annotations

import json
import threading
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ipfs_kit.errors import InvalidInput, Unavailable
from ipfs_kit.monitoring.notify import mail_folder, webhook


def test_a_webhook_gets_each_change_and_refusals_are_told() -> None:
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204 if self.path == "/ok" else 302)
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        at = f"http://127.0.0.1:{server.server_port}"
        webhook(f"{at}/ok")("raised", "store: unhealthy")
        with pytest.raises(Unavailable, match="302"):
            webhook(f"{at}/elsewhere")("cleared", "store: unhealthy")
        server.shutdown()
        thread.join(10)
    assert [json.loads(each) for each in got] == [
        {"state": "raised", "alert": "store: unhealthy"},
        {"state": "cleared", "alert": "store: unhealthy"},
    ]
    with pytest.raises(Unavailable):
        webhook(f"{at}/ok", 1.0)("raised", "x")
    with pytest.raises(InvalidInput):
        webhook("http://169.254.169.254/x", 1.0)("raised", "x")
    with pytest.raises(InvalidInput):
        webhook("file:///etc/passwd")


def test_a_mail_is_written_for_each_change_and_no_header_can_be_smuggled_in(tmp_path: Path) -> None:
    ticks = iter(range(9))
    tell = mail_folder(tmp_path / "out", "kit@example.org", "me@example.org", lambda: next(ticks))
    tell("raised", "a\nBcc: x@example.org: unhealthy")
    tell("cleared", "a: unhealthy")
    mails = [message_from_bytes(path.read_bytes()) for path in sorted((tmp_path / "out").iterdir())]
    assert [mail["To"] for mail in mails] == ["me@example.org"] * 2
    assert mails[0]["Bcc"] is None
    assert mails[1]["Subject"] == "ipfs-kit alert cleared: a: unhealthy"
