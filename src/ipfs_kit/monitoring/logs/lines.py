"""Log lines of other programs as events: JSON lines, syslog, access log, Python logging, logfmt, plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ipfs_kit.monitoring.logs.redact import redact, redact_value

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MESSAGE_MAX: Final = 8_000
"""Characters kept of a message; the record's limit is a little more."""
DETAILS_MAX: Final = 8_000
"""Characters of JSON kept as details."""
_ALIASES: Final = {
    "TRACE": "DEBUG", "FINE": "DEBUG", "VERBOSE": "DEBUG", "NOTICE": "INFO", "INFORMATION": "INFO", "WARN": "WARNING",
    "ERR": "ERROR", "SEVERE": "ERROR", "FATAL": "CRITICAL", "CRIT": "CRITICAL", "ALERT": "CRITICAL", "EMERG": "CRITICAL",
    "PANIC": "CRITICAL", "D": "DEBUG", "I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL",
}  # fmt: skip
_SYSLOG_LEVELS: Final = ("CRITICAL", "CRITICAL", "CRITICAL", "ERROR", "WARNING", "INFO", "INFO", "DEBUG")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_RFC5424: Final = re.compile(
    r"<(\d{1,3})>\d{1,2} (\S{1,64}) (\S{1,255}) (\S{1,64}) (\S{1,128}) (\S{1,64}) (?:-|(\[.{0,2000}?\])) ?(.*)",
    re.DOTALL,
)
_RFC3164: Final = re.compile(
    r"(?:<(\d{1,3})>)?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d):(\d\d) (\S{1,255}) ([^\s:\[]{1,64})(?:\[(\d{1,10})\])?: (.*)",
    re.DOTALL,
)
_ACCESS: Final = re.compile(
    r"(\S{1,255}) \S{1,255} (\S{1,255}) \[(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d{4})\] "
    r'"((?:[^"\\]|\\.){0,8000})" (\d{3}) (\d{1,18}|-)(?: "((?:[^"\\]|\\.){0,4000})" "((?:[^"\\]|\\.){0,4000})")?'
)
_PYTHON: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)(?: - |[ \t]{1,4}|: )(.*)", re.DOTALL
)
_PYTHON_PARTS: Final = re.compile(r"([\w.\-/]{1,200}) - ([A-Z]{1,12}) - (.*)", re.DOTALL)
_LEVEL_FIRST: Final = re.compile(r"\[?([A-Za-z]{1,12})\]?(?:[: ] ?| - )(?:([\w.\-/]{1,200}): )?(.*)", re.DOTALL)
_BASIC: Final = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL):([\w.\-/]{1,200}):(.*)", re.DOTALL)
_LOGFMT: Final = re.compile(r'([A-Za-z_][\w.\-]{0,63})=("(?:[^"\\]|\\.){0,8000}"|[^\s"]{0,8000})(?:\s|$)')


def level_of(value: Any, default: str = "INFO") -> str:
    """One of the five levels, from any usual spelling or number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # 10 to 50 are those of Python and of pino, whose 60 is the highest.
        return LEVELS[int(min(value, 50) // 10) - 1] if value >= 10 else default
    text = str(value).strip().upper()
    return text if text in LEVELS else _ALIASES.get(text, default)


def at_least(level: str) -> list[str]:
    """The levels from one upwards."""
    return list(LEVELS[LEVELS.index(level_of(level)) :])


def clean(text: str, limit: int = MESSAGE_MAX) -> str:
    """Text that can be recorded: redacted first, then cut, and no halves of characters in it."""
    shown = redact(text).encode("utf-8", "replace").decode("utf-8")
    return shown if len(shown) <= limit else f"{shown[:limit]}… ({len(shown) - limit} characters cut)"


def details_of(value: dict[str, Any]) -> dict[str, Any]:
    """Structured fields that can be recorded: redacted, and cut when they are too many."""
    kept = redact_value({name: item for name, item in value.items() if item not in (None, "", {}, [])})
    text = json.dumps(kept, ensure_ascii=True, default=str)
    if len(text) > DETAILS_MAX:
        return {"cut": text[:DETAILS_MAX], "characters": len(text)}
    found: dict[str, Any] = json.loads(json.dumps(kept, default=str, ensure_ascii=False).encode("utf-8", "replace"))
    return {name: _in_range(item) for name, item in found.items()}


def _in_range(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    if isinstance(value, dict):
        return {name: _in_range(item) for name, item in value.items()}
    return [_in_range(item) for item in value] if isinstance(value, list) else value


def parse(line: str, now_s: float, *, source: str | None = None, number: int | None = None) -> dict[str, Any]:
    """One line as an event of the stream ``logs``, secrets taken out.

    Args:
        line: Without its end.
        now_s: The time, for forms that leave the year out.
        source: Where it comes from.
        number: Its line there.

    Returns:
        Fields of a ``LogLine``; a line of no known form is a message of level INFO.
    """
    found: dict[str, Any] | None = None
    for form in _FORMS:
        found = form(line, now_s)
        if found is not None:
            break
    event = found or {"level": "INFO", "message": line}
    details = details_of(event.pop("details", {}))
    event = {name: clean(value) if isinstance(value, str) else value for name, value in event.items()}
    named = {"details": details, "source": source, "line": number}
    return {**event, **{name: value for name, value in named.items() if value}}


def is_continuation(line: str) -> bool:
    """Whether a line belongs to the one before: indented, or part of a traceback."""
    return line.startswith((" ", "\t", "Traceback (most recent call last)", "Caused by: ", "During handling of"))


def _time(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
        seconds = float(value)
        for _ in range(3):
            seconds = seconds / 1000 if abs(seconds) > 1e11 else seconds
        return seconds if 0 < seconds < 1e11 else None
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        made = datetime.fromisoformat(value.replace(",", "."))
    except ValueError:
        return None
    # A time that names no zone is taken as UTC: the machine's own zone may not be the writer's.
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()


def _json(line: str, _now_s: float) -> dict[str, Any] | None:
    if not line.startswith("{") or not line.rstrip().endswith("}"):
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return _fields(value)


def _fields(value: dict[str, Any]) -> dict[str, Any]:
    rest = dict(value)

    def take(*names: str) -> Any:
        return next((rest.pop(name) for name in names if rest.get(name) not in (None, "")), None)

    level = level_of(take("level", "severity", "levelname", "lvl", "log.level"))
    message = take("message", "msg", "event", "text")
    event: dict[str, Any] = {"level": level, "message": message if isinstance(message, str) else str(message or "")}
    event["event_time"] = _time(take("event_time", "time", "timestamp", "ts", "@timestamp", "asctime", "t"))
    for name, aliases in (
        ("logger", ("logger", "name", "logger_name")),
        ("component", ("component", "service", "app")),
    ):
        if (text := take(name, *aliases)) is not None:
            event[name] = str(text)
    if (trace := take("exception", "exc_info", "stack", "stacktrace", "traceback")) is not None:
        event["exception"] = str(trace)
    inner = rest.pop("details", None)
    event["details"] = {**rest, **inner} if isinstance(inner, dict) else rest
    return {name: item for name, item in event.items() if item is not None}


def _syslog(line: str, now_s: float) -> dict[str, Any] | None:
    if (new := _RFC5424.fullmatch(line)) is not None:
        priority, when, host, app, process, kind, data, message = new.groups()
        details = {"host": host, "process": process, "message_id": kind, "data": data, "facility": int(priority) >> 3}
        shown = {name: item for name, item in details.items() if item != "-"}
        event = {"level": _SYSLOG_LEVELS[int(priority) & 7], "message": message, "event_time": _time(when)}
        event |= {"component": "" if app == "-" else app, "details": shown}
        return {name: item for name, item in event.items() if item is not None}
    old = _RFC3164.fullmatch(line)
    if old is None or old[2] not in _MONTHS:
        return None
    now = datetime.fromtimestamp(now_s, UTC)
    try:
        day, hour, minute, second = (int(old[n]) for n in (3, 4, 5, 6))
        at = datetime(now.year, _MONTHS.index(old[2]) + 1, day, hour, minute, second, tzinfo=UTC)
        if at > now + timedelta(days=1):
            at = at.replace(year=now.year - 1)
    except ValueError:
        return None
    level = "INFO" if old[1] is None else _SYSLOG_LEVELS[int(old[1]) & 7]
    details = {"host": old[7], "process": old[9]}
    return {
        "level": level, "message": old[10], "event_time": at.timestamp(), "component": old[8], "details": details,
    }  # fmt: skip


def _access(line: str, _now_s: float) -> dict[str, Any] | None:
    found = _ACCESS.match(line)
    if found is None or found[4] not in _MONTHS:
        return None
    day, month, year, hour, minute, second, zone = (found[n] for n in range(3, 10))
    try:
        at = datetime.strptime(
            f"{year}-{_MONTHS.index(month) + 1:02}-{day}T{hour}:{minute}:{second}{zone}", "%Y-%m-%dT%H:%M:%S%z"
        )
    except ValueError:
        return None
    status = int(found[11])
    details = {"client": found[1], "user": found[2], "status": status, "referrer": found[13], "agent": found[14]}
    if found[12] != "-":
        details["bytes"] = int(found[12])
    level = "ERROR" if status >= 500 else "WARNING" if status >= 400 else "INFO"
    shown = {name: item for name, item in details.items() if item not in ("-", None)}
    return {
        "level": level, "message": f"{found[10]} {status}", "event_time": at.timestamp(), "component": "access",
        "details": shown,
    }  # fmt: skip


def _python(line: str, _now_s: float) -> dict[str, Any] | None:
    if (basic := _BASIC.fullmatch(line)) is not None:
        return {"level": basic[1], "logger": basic[2], "message": basic[3]}
    found = _PYTHON.fullmatch(line)
    if found is None:
        return None
    event: dict[str, Any] = {"level": "INFO", "message": found[2]}
    at = _time(found[1])
    if at is not None:
        event["event_time"] = at
    parts = _PYTHON_PARTS.fullmatch(found[2])
    if parts is not None:
        return {**event, "logger": parts[1], "level": level_of(parts[2]), "message": parts[3]}
    first = _LEVEL_FIRST.fullmatch(found[2])
    if first is not None and level_of(first[1], "") and len(first[1]) > 1:
        event |= {"level": level_of(first[1]), "message": first[3]} | ({"logger": first[2]} if first[2] else {})
    return event


def _logfmt(line: str, _now_s: float) -> dict[str, Any] | None:
    values: dict[str, Any] = {}
    at = 0
    while at < len(line):
        found = _LOGFMT.match(line, at)
        if found is None:
            return None
        text = found[2]
        values[found[1]] = text[1:-1].replace('\\"', '"').replace("\\\\", "\\") if text.startswith('"') else text
        at = found.end()
    if len(values) < 2 or not values.keys() & {"level", "lvl", "msg", "message", "ts", "time", "severity"}:
        return None
    return _fields(values)


_FORMS: Final[tuple[Callable[[str, float], dict[str, Any] | None], ...]] = (_json, _syslog, _access, _python, _logfmt)
