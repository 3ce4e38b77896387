"""The verbs of the published VFS as operations on one bucket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ipfs_kit import InvalidInput, Result, to_json
from ipfs_kit.errors import AlreadyExists
from ipfs_kit_py._adapter import Adapter

BUCKET = "vfs"
"""The bucket that holds the published VFS; made at the first write."""
JOURNAL_MAX = 10_000
"""Most ops one journal page looks at."""
WRITES = frozenset({"write", "mkdir"})
"""Verbs that make the bucket when it is not there yet; all others need something in it."""

Verb = Callable[[Callable[..., Any]], "tuple[str, dict[str, Any]]"]


def at(path: str) -> str:
    """A VFS path as BUCKET:/path."""
    return f"{BUCKET}:/{str(path).lstrip('/')}"


def _two(given: Callable[..., Any], old: str, new: str) -> dict[str, Any]:
    return {"source": at(given(old, "source", "src")), "destination": at(given(new, "target", "destination", "dst"))}


def _write(given: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    content = given("content", "data")
    return "files.write", {
        "path": at(given("path")),
        "data": content.encode() if isinstance(content, str) else bytes(content),
    }


VERBS: dict[str, Verb] = {
    "ls": lambda given: ("files.list", {"path": at(given("path", default="/")), "limit": JOURNAL_MAX}),
    "cat": lambda given: ("files.read", {"path": at(given("path"))}),
    "write": _write,
    "mkdir": lambda given: (
        "files.mkdir",
        {"path": at(given("path")), "parents": bool(given("parents", default=True))},
    ),
    "rmdir": lambda given: ("files.rmdir", {"path": at(given("path"))}),
    "rm": lambda given: ("files.rm", {"path": at(given("path")), "recursive": bool(given("recursive", default=False))}),
    "info": lambda given: ("files.stat", {"path": at(given("path"))}),
    "rename": lambda given: ("files.mv", _two(given, "old_path", "new_path")),
    "move": lambda given: ("files.mv", _two(given, "source_path", "target_path")),
    "copy": lambda given: ("files.cp", _two(given, "source_path", "target_path")),
}
VERBS |= {"list": VERBS["ls"], "read": VERBS["cat"], "stat": VERBS["info"], "delete": VERBS["rm"]}


def run_verb(adapter: Adapter, verb: str, arguments: Mapping[str, Any]) -> tuple[Result, dict[str, Any]] | Result:
    """Run one verb as one recorded operation.

    Args:
        adapter: The open store.
        verb: One of ``VERBS``.
        arguments: Its published arguments.

    Raises:
        InvalidInput: The verb or an argument is unknown or missing; recorded too.
    """
    if verb not in VERBS:
        error = InvalidInput(f"there is no VFS operation {verb!r}: use one of {', '.join(VERBS)}")
        return adapter.refuse("vfs.execute", {"operation": verb}, error)
    try:
        name, given = VERBS[verb](_reader(arguments))
    except (InvalidInput, TypeError) as exc:
        return adapter.refuse(f"vfs.{verb}", {"given": sorted(arguments)}, InvalidInput(f"{verb}: {exc}"))
    if verb in WRITES:
        ensure_bucket(adapter)
    result = adapter.call(name, **given)
    if name == "files.read":
        return result, {"content": result.value.read(), "cid": str(result.value.cid), "size": result.value.size}
    shown = to_json(result.value)
    return result, {"path": arguments.get("path"), "items": shown["entries"]} if name == "files.list" else shown


def ensure_bucket(adapter: Adapter) -> None:
    """Make the bucket unless it is there; another process that was faster is fine."""
    if adapter.kit.engine.buckets.exists(BUCKET):
        return
    try:
        adapter.call("bucket.create", name=BUCKET, metadata={"made_by": "vfs_manager"})
    except AlreadyExists:
        return


def _reader(arguments: Mapping[str, Any]) -> Callable[..., Any]:
    def given(*names: str, default: Any = None) -> Any:
        for name in names:
            if name in arguments:
                return arguments[name]
        if default is None:
            raise InvalidInput(f"the argument {names[0]} is missing")
        return default

    return given
