"""Versions of log sets: stored as commits of the bucket ``logs``, compared line by line, restored."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.errors import BudgetExceeded, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Where
from ipfs_kit.ledger.record import BULK
from ipfs_kit.ledger.streams.registry import APPEND
from ipfs_kit.monitoring.logs import places
from ipfs_kit.monitoring.logs.reader import files_of, lines_from, text_of
from ipfs_kit.monitoring.logs.redact import LineRedactor
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, Surface, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.dispatcher import Caller, Dispatcher
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.principal import Principal
from ipfs_kit.operations.toolsets.files import GetInfo, files_get
from ipfs_kit.operations.toolsets.logs import KEPT, LINES, STREAM, directory
from ipfs_kit.operations.toolsets.versions import tag_list, versions_log

BUCKET = "logs"
SET_BYTES_MAX = 512 << 20
"""Bytes of one set of logs: its files are held in memory one after the other."""
COMPARED_MAX = 20_000
"""Lines of a changed part that are compared one by one; of more, only the numbers are told."""
SHOWN_MAX = 1_000

Version = Annotated[str, Arg("a version, as store named it, or any commit or tag of the bucket logs", positional=True)]


@dataclass(frozen=True, slots=True)
class StoredLogs:
    """A stored set of logs.

    Args:
        version: Its name, a tag of the bucket.
        cid: Root of the set: the same logs have the same CID.
        commit: The commit.
        files: Files in it.
        size: Their bytes.
        created: False when nothing had changed since the version before, which got this name too.
    """

    version: str
    cid: CID
    commit: CID
    files: int
    size: int
    created: bool


@dataclass(frozen=True, slots=True)
class LogVersion:
    """One stored set: names, commit, root, the set before and when it was stored."""

    versions: list[str]
    commit: CID
    cid: CID
    parents: list[CID]
    time: str
    author: str | None


@dataclass(frozen=True, slots=True)
class LogVersions:
    """Stored sets, newest first; pass ``cursor`` to continue, None when this was the last page."""

    versions: list[LogVersion]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class LogFileDiff:
    """How one file differs.

    Args:
        path: The file.
        change: ``added``, ``removed`` or ``modified``.
        added: Lines that only the right side has.
        removed: Lines that only the left side has.
        lines: The first of them, with + or - before them.
    """

    path: str
    change: str
    added: int
    removed: int
    lines: list[str]


@dataclass(frozen=True, slots=True)
class LogDiff:
    """What differs between two stored sets."""

    left: str
    right: str
    files: list[LogFileDiff]


@operation("logs.store", Mode.WRITE, "logs:write", irreversible=KEPT, places=LINES, aliases=("store_logs_as_dataset",))
def logs_store(
    ctx: Context,
    component: Annotated[
        str | None, Arg("only recorded lines of this part; all and the log files when left out")
    ] = None,
    version: Annotated[str | None, Arg("name of the version; the next number when left out")] = None,
) -> StoredLogs:
    """Store recorded lines and log files as a version of the bucket logs; return the CID of the set.

    Lines lie under /stream by component as JSON lines, files under /files with their rotated parts joined, secrets
    masked. Each change of the bucket is recorded as an op of its own under this one.

    Raises:
        BudgetExceeded: The set is larger than 512 MiB.
        NotFound: There is nothing to store.
        AlreadyExists: There is a version of this name.
    """
    buckets = ctx.engine.buckets
    if not buckets.exists(BUCKET):
        _child(ctx, "bucket.create", name=BUCKET, kind="sealed", metadata={"holds": "versions of logs"})
    kept, size, present = set[str](), 0, _files(ctx, BUCKET)
    for path, data in _contents(ctx, component):
        ctx.progress(size, unit="bytes", note=path)
        kept.add(path)
        size += len(data)
        if size > SET_BYTES_MAX:
            raise BudgetExceeded("the set is larger than 512 MiB: name a component, or rotate the log files first")
        if path not in present or _read(ctx, f"{BUCKET}:{path}") != data:
            _child(ctx, "files.write", path=f"{BUCKET}:{path}", data=data)
    for path in [path for path in present if path not in kept]:
        _child(ctx, "files.rm", path=f"{BUCKET}:{path}")
    name = version or _next_name(ctx)
    done = _child(ctx, "versions.commit", bucket=BUCKET, message=name)
    if done.commit is None:
        raise NotFound("there are no log lines to store: record some, or put log files into the folder of logs")
    _child(ctx, "versions.tag_create", bucket=BUCKET, name=name)
    return StoredLogs(name, done.root, done.commit, len(kept), size, done.created)


def _child(ctx: Context, name: str, /, **arguments: Any) -> Any:
    """Call an operation on behalf of this one, which was authorised for the whole; it is recorded with its parent."""
    caller = Caller(Principal(ctx.principal.name), Surface.SYSTEM, parent=ctx.draft.op_id, trace=ctx.draft.trace)
    return Dispatcher(ctx.engine).call(name, arguments, caller).value


def _next_name(ctx: Context) -> str:
    taken = {ref.name for ref in tag_list(ctx, BUCKET).refs}
    return next(name for number in range(1, len(taken) + 2) if (name := f"v{number}") not in taken)


def _contents(ctx: Context, component: str | None) -> Iterator[tuple[str, bytes]]:
    lines: dict[str, list[bytes]] = {}
    ledger, size = ctx.engine.ledger, 0
    ledger.flush(BULK)  # lines acknowledged before this call may still wait to be written
    for index, record in ledger.select(BULK, Where(stream=frozenset({STREAM}))):
        event = ledger.open_record(record).args if record.operation == APPEND else None
        if not event or (component is not None and event.get("component", "") != component):
            continue
        line = json.dumps({"op": f"{BULK}:{index}", **event}, ensure_ascii=False, separators=(",", ":")).encode()
        size += len(line)
        if size > SET_BYTES_MAX:
            raise BudgetExceeded("the recorded lines are larger than 512 MiB: name a component")
        lines.setdefault(_file_name(event.get("component", "")), []).append(line + b"\n")
    for name in sorted(lines):
        yield f"/stream/{name}.jsonl", b"".join(lines[name])
    here = directory()
    for log in places.logs(here) if component is None else ():
        redactor = LineRedactor()
        read = (line for file in files_of(here / log.name) for _, line in lines_from(file, partial=True))
        yield f"/files/{_file_name(log.name)}", b"".join(redactor.line(text_of(line)).encode() + b"\n" for line in read)


def _file_name(text: str) -> str:
    shown = "".join(c if c.isalnum() or c in "-_." else "_" for c in text[:100])
    return shown if shown.strip(".") else "unnamed"


def _files(ctx: Context, state: str) -> dict[str, CID]:
    walked = ctx.engine.buckets.walk(f"{state}:/")
    return {f"/{stat.path.lstrip('/')}": stat.cid for stat in walked if stat.kind == "file"}


@operation("logs.versions", Mode.READ, "logs:read", places=LINES)
def logs_versions(
    ctx: Context,
    limit: Annotated[int, Arg("most versions to return", minimum=1, maximum=1_000, flag="n")] = 100,
    cursor: Annotated[CID | None, Arg("continue after this cursor")] = None,
) -> LogVersions:
    """List the stored sets of logs, newest first, each with the sets it came from."""
    if not ctx.engine.buckets.exists(BUCKET):
        return LogVersions([], None)
    page = versions_log(ctx, BUCKET, limit=limit, cursor=cursor)
    names: dict[Any, list[str]] = {}
    for ref in tag_list(ctx, BUCKET).refs:
        names.setdefault(ref.cid, []).append(ref.name)
    found = [
        LogVersion(sorted(names.get(each.cid, [])), each.cid, each.root, each.parents, each.time, each.author)
        for each in page.commits
    ]
    return LogVersions(found, page.cursor)


def _state(ctx: Context, version: str) -> str:
    if not ctx.engine.buckets.exists(BUCKET):
        raise NotFound("no logs were stored: 'ipfs-kit logs store' makes the first version")
    return f"{BUCKET}@{version}"


@operation("logs.diff", Mode.READ, "logs:read", places=LINES)
def logs_diff(ctx: Context, left: Version, right: Version) -> LogDiff:
    """Compare two stored sets of logs, file by file and line by line.

    Raises:
        RefNotFound: There is no such version.
    """
    sides = [_state(ctx, version) for version in (left, right)]
    before, after = (_files(ctx, side) for side in sides)
    found = []
    for path in sorted(before.keys() | after.keys()):
        if before.get(path) == after.get(path):
            continue
        texts = [
            _lines(ctx, f"{side}:{path}") if path in has else []
            for side, has in zip(sides, (before, after), strict=True)
        ]
        change = "added" if path not in before else "removed" if path not in after else "modified"
        found.append(_compare(path, change, *texts))
    return LogDiff(left, right, [each for each in found if each.added or each.removed or each.change != "modified"])


def _read(ctx: Context, at: str) -> bytes:
    with closing(ctx.engine.buckets.open(at)) as reader:
        return bytes(reader.read())


def _lines(ctx: Context, at: str) -> list[str]:
    return _read(ctx, at).decode("utf-8", "replace").split("\n")[:-1]


def _compare(path: str, change: str, old: list[str], new: list[str]) -> LogFileDiff:
    """Logs grow at the end and lose their start, so what both begin and end with is set aside first."""
    start, most = 0, min(len(old), len(new))
    while start < most and old[start] == new[start]:
        start += 1
    end = 0
    while end < most - start and old[-1 - end] == new[-1 - end]:
        end += 1
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    if not left or not right:
        shown = [f"- {line}" for line in left[:SHOWN_MAX]] + [f"+ {line}" for line in right[:SHOWN_MAX]]
        return LogFileDiff(path, change, len(right), len(left), shown[:SHOWN_MAX])
    if len(left) + len(right) > COMPARED_MAX:
        gone, came = Counter(left) - Counter(right), Counter(right) - Counter(left)
        return LogFileDiff(path, change, came.total(), gone.total(), [])
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=True)
    lines = [
        line
        for tag, a, b, c, d in matcher.get_opcodes()
        if tag != "equal"
        for line in (*(f"- {each}" for each in left[a:b]), *(f"+ {each}" for each in right[c:d]))
    ]
    added = sum(line.startswith("+ ") for line in lines)
    return LogFileDiff(path, change, added, len(lines) - added, lines[:SHOWN_MAX])


@operation("logs.restore", Mode.READ, "logs:read", places=Everywhere("writes out lines of all callers"))
def logs_restore(
    ctx: Context,
    version: Version,
    destination: Annotated[str, Arg("local folder to write", local=True, positional=True)],
    overwrite: Annotated[bool, Arg("replace files that exist")] = False,
) -> GetInfo:
    """Write a stored set of logs to a local folder; what is there is kept unless overwriting is asked for.

    Raises:
        RefNotFound: There is no such version.
    """
    return files_get(ctx, f"{_state(ctx, version)}:/", destination, overwrite)
