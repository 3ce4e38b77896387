"""Records sent to a receiver of OpenTelemetry, from where the last sending ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ipfs_kit._version import __version__
from ipfs_kit.errors import InvalidInput, Timeout, Unavailable
from ipfs_kit.ledger import Where
from ipfs_kit.ledger.outbound import checked_url, post
from ipfs_kit.ledger.record import BULK, INTENT, MAIN
from ipfs_kit.monitoring import otlp
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import CATALOGUE, Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.follow import SEND, Follower
from ipfs_kit.operations.toolsets.telemetry import SHOWN

ENDPOINT = "http://127.0.0.1:4318"
"""Where the specification expects a receiver of OTLP over HTTP."""
BATCH = 1_000
ATTEMPTS = 4
RETRIED = frozenset({429, 502, 503, 504})
"""Answers after which the same may be sent again (OTLP specification, section on failures)."""
PAUSE_S = 0.5
"""Before the second attempt; doubled before each later one."""
MARK = "otlp"
LOOKED_MAX = 10_000


@dataclass(frozen=True, slots=True)
class OtlpSent:
    """What was sent.

    Args:
        endpoint: Where.
        records: Records sent and taken over by the receiver.
        rejected: Spans and data points among them that it did not take, as it says.
        reason: Why, as it says.
        cursor: Where the next sending begins.
        behind: Records that wait, not counting those that are never sent.
    """

    endpoint: str
    records: int
    rejected: int
    reason: str | None
    cursor: str
    behind: int


@operation(
    SEND,
    Mode.WRITE,
    "telemetry:send",
    irreversible="what a receiver has taken stays there",
    places=SHOWN,
)
def telemetry_otlp_send(
    ctx: Context,
    endpoint: Annotated[str, Arg("base address of the receiver, OTLP over HTTP", positional=True)] = ENDPOINT,
    signals: Annotated[Literal["both", "spans", "metrics"], Arg("what is sent")] = "both",
    begin: Annotated[Literal["start", "now"], Arg("where a first sending to this address begins")] = "start",
    limit: Annotated[int, Arg("most records to send", minimum=1, maximum=1_000_000)] = 100_000,
    headers: Annotated[dict[str, str] | None, Arg("further header lines, such as a token", secret=True)] = None,
    timeout_s: Annotated[float, Arg("longest wait for one answer, seconds")] = 10.0,
) -> OtlpSent:
    """Send what was recorded since the last sending to this address as OpenTelemetry spans and metrics.

    The place where the next sending begins moves when the receiver has taken a batch, and lies in this op's own record. After
    a kill or a failure the rest is sent again by the next call: spans bear the same ids then; metrics of one batch may count twice.

    Raises:
        MissingExtra: The package with the messages is not installed.
        InvalidInput: The address or a header line is none.
        Unavailable: The receiver did not take a batch after four attempts; nothing is lost.
    """
    checked_url(endpoint)
    if not 0.1 <= timeout_s <= 600:
        raise InvalidInput("timeout_s is 0.1 to 600 seconds")
    for name, value in (headers or {}).items():
        if not (name.isascii() and name.replace("-", "").isalnum() and value.isprintable() and value.isascii()):
            raise InvalidInput(f"{name[:60]!r} is no header line")
    ledger = ctx.engine.ledger
    ledger.flush(BULK)
    follower = Follower.of(ledger, None, None, _cursor(ctx, endpoint, begin))
    chosen = [kind for kind in ("spans", "metrics") if signals in ("both", kind)]
    done, refused, reason = 0, 0, None
    while done < limit:
        before = follower.cursor
        rows = [otlp.Sent(*each) for each in follower.take(min(BATCH, limit - done)) if each[2].phase != INTENT]
        if not rows:
            if follower.cursor == before:
                break
            continue
        for kind in chosen:
            count, why = _send(ctx, endpoint, kind, rows, headers, timeout_s)
            refused, reason = refused + count, why or reason
        done += len(rows)
        ctx.draft.ext = {MARK: {"to": endpoint, "cursor": follower.cursor, "sent": done}}
        ctx.progress(done, None, "records")
    ctx.draft.ext = {MARK: {"to": endpoint, "cursor": follower.cursor, "sent": done}}
    behind = sum(follower.sizes()) - sum(follower.at.values())
    return OtlpSent(endpoint, done, refused, reason, follower.cursor, behind)


def _send(
    ctx: Context, endpoint: str, kind: str, rows: list[otlp.Sent], headers: dict[str, str] | None, timeout_s: float
) -> tuple[int, str | None]:
    node = ctx.engine.ledger.node
    if kind == "spans":
        path, body = otlp.TRACES_PATH, otlp.traces_request(rows, node, __version__)
    else:
        path, body = otlp.METRICS_PATH, otlp.metrics_request(rows, node, __version__, CATALOGUE)
    url = endpoint.rstrip("/") + path
    status, answer = _posted(
        lambda: post(url, body, timeout_s, otlp.MEDIA_TYPE, headers), lambda seconds: _pause(ctx, seconds)
    )
    if status != 200:
        raise Unavailable(
            f"{url} answered with status {status}: nothing was lost; send again when the receiver takes it"
        )
    count, why = otlp.rejected(answer, kind)
    return count, why or None


def _posted(send: Callable[[], tuple[int, str, bytes]], pause: Callable[[float], None]) -> tuple[int, bytes]:
    """Status and body of the answer of the last attempt."""
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(PAUSE_S * 2 ** (attempt - 1))
        last = attempt == ATTEMPTS - 1
        try:
            status, _, answer = send()
        except (Timeout, Unavailable):
            if last:
                raise
            continue
        if last or status not in RETRIED:
            return status, answer
    raise AssertionError("the last attempt ends above")


def _pause(ctx: Context, seconds: float) -> None:
    until = threading.Event()
    for _ in range(max(1, round(seconds / 0.1))):
        ctx.check_cancelled()
        until.wait(0.1)


def _cursor(ctx: Context, endpoint: str, begin: str) -> str | None:
    """Where the newest sending to an address ended; None begins at the present end."""
    where = Where(operation=frozenset({SEND}))
    for seen, (_, record) in enumerate(ctx.engine.ledger.select(MAIN, where, newest_first=True)):
        if seen >= LOOKED_MAX:
            break
        kept: Any = (record.ext or {}).get(MARK)
        if isinstance(kept, dict) and kept.get("to") == endpoint:
            return str(kept["cursor"])
    return "bulk:0,main:0" if begin == "start" else None
