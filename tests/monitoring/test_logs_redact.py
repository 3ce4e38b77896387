"""No secret is written: known forms and named values are masked, in linear time, whatever stands around them."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipfs_kit.monitoring.logs.lines import LEVELS, clean, details_of, is_continuation, level_of, parse
from ipfs_kit.monitoring.logs.redact import MASK, LineRedactor, redact, redact_value

NOW = 1_790_000_000.0
SECRET = "s3cr3tCanaryValue0123456789"


@pytest.mark.parametrize(
    "text",
    [
        f"password={SECRET}", f"db_password: {SECRET}", f'{{"api_key": "{SECRET}"}}', f"user=x&access_token={SECRET}&y=1",
        f"Authorization: Bearer {SECRET}", f"authorization: Digest username=a, response={SECRET}", f"Cookie: a=1; sid={SECRET}",
        f"postgres://user:{SECRET}@host/db", f"GET http://x:{SECRET}@h:80/ HTTP/1.1", f"bearer {SECRET}", f"secret = '{SECRET}'",
        f'token="{SECRET}', f'msg="{{\\"password\\":\\"{SECRET}\\"}}"', f"--secret={SECRET}", f'password="a\\"{SECRET}"',
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----", f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
        f"session_id={SECRET}", f"PGPASSWORD={SECRET} psql",
    ],
)  # fmt: skip
def test_a_secret_is_masked_and_what_stands_around_it_stays(text: str) -> None:
    shown = redact(f"before {text}")
    assert SECRET not in shown
    assert MASK in shown
    assert shown.startswith("before ")


@pytest.mark.parametrize(
    "token",
    [
        "AKIA" + "ABCDEFGH12345678", "ghp_" + "a1" * 18, "xoxb-" + "123456-abcdef", "sk-" + "abcDEF0123456789xyz",
        "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0.abc-DEF_123", "AIza" + "x" * 35, "hf_" + "b" * 30, "glpat-" + "z" * 20,
    ],
)  # fmt: skip
def test_tokens_of_known_forms_are_masked_anywhere(token: str) -> None:
    assert token not in redact(f"sent {token}, then")
    assert redact(f"sent {token}, then").endswith(", then")


@pytest.mark.parametrize(
    "text", ["12 tokens used", "the secretary", "path /a/b:3", "x=1 y=2", "http://host:80/a@b", ""]
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@given(
    st.text(max_size=40),
    st.sampled_from(["password", "API_KEY", "client-secret", "x.token", "Passwd"]),
    st.sampled_from(["=", ": ", '":"', " = "]),
    st.text(max_size=40),
)
@example("", "password", "=", "")
def test_a_named_value_never_comes_through(before: str, name: str, sign: str, after: str) -> None:
    assert SECRET not in redact(f"{before} {name}{sign}{SECRET} {after}")


@given(
    st.recursive(
        st.text(max_size=9) | st.integers() | st.floats() | st.none(), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_structured_values_keep_their_shape_and_can_be_recorded(value: object) -> None:
    found = details_of({"a": value, "auth": SECRET, "nested": {"Password": SECRET, "b": [f"token={SECRET}"]}})
    assert SECRET not in json.dumps(found, allow_nan=False)
    assert redact_value({"key": 1}) == {"key": MASK}


@pytest.mark.parametrize(
    "piece",
    [
        'token="', "token='", "password=\\", "eyJaaaaaaaaaaaa-", "://aaaa:", "-----BEGIN PRIVATE KEY-----", "a.-_", "token",
        "secret\\\"", "Bearer ", "sk-aaaa", "authorization", "{\"", "gh", "<1>1 ", "x=\"", "- ", "aaaa.eyJ",
    ],
)  # fmt: skip
def test_hostile_lines_take_time_in_proportion_to_their_length(piece: str) -> None:
    def cpu(size: int) -> float:
        text = (piece * size)[:size]
        best = 1e9
        for _ in range(3):
            started = time.process_time()
            redact(text)
            parse(text[: 1 << 16], NOW)
            best = min(best, time.process_time() - started)
        return best

    # Squared, sixteen times the length would take 256 times as long; a floor keeps the clock's grain out.
    assert cpu(160_000) < 60 * max(cpu(10_000), 0.002)


def test_a_private_key_over_several_lines_is_masked_whole() -> None:
    lines = ["x -----BEGIN EC PRIVATE KEY-----", SECRET, f"{SECRET}-----END EC PRIVATE KEY----- rest", "plain"]
    redactor = LineRedactor()
    shown = [redactor.line(line) for line in lines]
    assert SECRET not in " ".join(shown)
    assert shown[2].endswith(" rest")
    assert shown[3] == "plain"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"level":"warn","msg":"m","ts":1700000000123,"name":"a.b","n":7}',
         {"level": "WARNING", "message": "m", "event_time": 1700000000.123, "logger": "a.b", "details": {"n": 7}}),
        ("<34>1 2003-10-11T22:14:15.003Z host su 77 ID47 - 'su root' failed",
         {"level": "CRITICAL", "message": "'su root' failed", "event_time": 1065910455.003, "component": "su",
          "details": {"host": "host", "process": "77", "message_id": "ID47", "facility": 4}}),
        ("Sep 20 10:00:00 box sshd[123]: Accepted key",
         {"level": "INFO", "message": "Accepted key", "event_time": 1789898400.0, "component": "sshd",
          "details": {"host": "box", "process": "123"}}),
        ('127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.0" 500 2326 "-" "curl"',
         {"level": "ERROR", "message": "GET /a HTTP/1.0 500", "event_time": 971211336.0, "component": "access",
          "details": {"client": "127.0.0.1", "user": "frank", "status": 500, "agent": "curl", "bytes": 2326}}),
        ("2024-01-02 03:04:05,678 - app.db - ERROR - it broke",
         {"level": "ERROR", "message": "it broke", "event_time": 1704164645.678, "logger": "app.db"}),
        ("WARNING:root:look", {"level": "WARNING", "message": "look", "logger": "root"}),
        ("2024-01-02T03:04:05Z [error] worker: down",
         {"level": "ERROR", "message": "down", "event_time": 1704164645.0, "logger": "worker"}),
        ('level=info msg="a \\"b\\"" ts=2024-01-02T03:04:05Z n=1',
         {"level": "INFO", "message": 'a "b"', "event_time": 1704164645.0, "details": {"n": "1"}}),
        ("just words", {"level": "INFO", "message": "just words"}),
    ],
)  # fmt: skip
def test_lines_of_known_forms_become_fields(line: str, expected: dict[str, object]) -> None:
    assert parse(line, NOW) == expected


@given(st.text(max_size=200))
@example('{"a":' * 5000)
@example('{"level": 1e999, "msg": "\\ud800", "n": 99999999999999999999}')
@example("\ud800")
def test_any_line_becomes_an_event_that_can_be_recorded(line: str) -> None:
    from ipfs_kit.ledger.streams.registry import stream_named

    event = stream_named("logs").check(parse(line, NOW))
    assert event["level"] in LEVELS
    json.dumps(event, ensure_ascii=False).encode()


def test_long_text_is_redacted_before_it_is_cut() -> None:
    shown = clean("x" * 7_990 + f" password={SECRET}")
    assert SECRET[:4] not in shown
    assert is_continuation("  File")
    assert (level_of("warn"), level_of(40), level_of("nonsense")) == ("WARNING", "ERROR", "INFO")
