"""Files and folders inside buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.buckets.model import Applied, Page, Problem, Stat
from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, WRITE, Touch
from ipfs_kit.operations.results import Content

Path = Annotated[str, Arg("BUCKET:/path", positional=True)]
AnyState = Annotated[str, Arg("BUCKET[@branch|@tag|@commit|@op:N|@time:T]:/path", positional=True)]

READ_BYTES = 1 << 20
"""Size of one piece of streamed content (1 MiB, one default leaf)."""


def _path(bound: Mapping[str, Any]) -> str:
    return str(bound["path"])


def _two_paths(bound: Mapping[str, Any]) -> str:
    return f"{bound['source']} -> {bound['destination']}"


@dataclass(frozen=True, slots=True)
class PutInfo:
    """What an import staged.

    Args:
        path: Where.
        cid: CID now at the path.
        files: Files read, links included.
        size: Their bytes.
        ignored: Entries left out by rules; a folder counts once.
        problems_count: How many could not be read; everything else was kept.
        problems: The first of them, with the reason.
    """

    path: str
    cid: CID
    files: int
    size: int
    ignored: int
    problems_count: int
    problems: list[Problem]


@dataclass(frozen=True, slots=True)
class GetInfo:
    """What an export wrote.

    Args:
        path: The folder or file written.
        cid: CID of what was read.
        files: Files written, links included.
        size: Their bytes.
        problems_count: How many entries were refused or could not be written.
        problems: The first of them, with the reason.
    """

    path: str
    cid: CID
    files: int
    size: int
    problems_count: int
    problems: list[Problem]


@operation(
    "files.put",
    Mode.WRITE,
    "files:write",
    undo="merge",
    target=lambda b: str(b["path"]),
    aliases=("upload_to_bucket",),
    places=(Touch("path", WRITE),),
)
def files_put(
    ctx: Context,
    source: Annotated[str, Arg("local file or folder", local=True, positional=True)],
    path: Path,
    ignore: Annotated[list[str] | None, Arg("patterns to leave out, in gitignore form")] = None,
    ignore_files: Annotated[bool, Arg("obey .kitignore files found in the folders")] = True,
    keep_mode: Annotated[bool, Arg("remember permission bits")] = False,
) -> PutInfo:
    """Stage a local file or folder into a bucket; a folder put onto a folder merges."""
    from ipfs_kit.buckets.importer import import_path

    buckets = ctx.engine.buckets
    space = buckets.live(path)[0].space
    with buckets.window():
        report = import_path(
            source,
            space.view,
            space.put,
            ignore=tuple(ignore or ()),
            use_ignore_files=ignore_files,
            keep_mode=keep_mode,
            progress=buckets.watched_import(path, lambda _files, done: ctx.progress(done, unit="bytes")),
        )
        item = report.item
        if item is None:
            raise NotFound(
                f"nothing of {source} was read: {report.problems[0].detail if report.problems else 'it is ignored'}"
            )
        applied: Applied = ctx.commit(lambda: buckets.put_entry(path, item))
    return PutInfo(
        path,
        applied.cid or item.cid,
        report.files,
        report.bytes,
        report.ignored,
        report.problems_count,
        report.problems,
    )


@operation(
    "files.get", Mode.READ, "files:read", target=_path, aliases=("download_from_bucket",), places=(Touch("path", READ),)
)
def files_get(
    ctx: Context,
    path: AnyState,
    destination: Annotated[str, Arg("local file or folder to write", local=True, positional=True)],
    overwrite: Annotated[bool, Arg("replace files that exist")] = True,
) -> GetInfo:
    """Write a file, or a folder's contents, of any version to the local disk; never outside the destination."""
    from ipfs_kit.buckets.exporter import export_item

    item, space, _ = ctx.engine.buckets.item_with_space(path)
    report = export_item(
        item,
        space.view,
        destination,
        overwrite=overwrite,
        progress=lambda _files, done: ctx.progress(done, unit="bytes"),
    )
    return GetInfo(destination, item.cid, report.files, report.bytes, report.problems_count, report.problems)


def content_at(ctx: Context, path: str, offset: int, length: int | None) -> Content:
    """Content of a file in a bucket as a stream."""
    stat = ctx.engine.buckets.stat(path)
    if stat.kind != "file":
        raise InvalidInput(f"{path} is a {stat.kind}: list it with files.list, or read a file below it")
    return content_of(stat.cid, stat.size, lambda: ctx.engine.buckets.open(path), offset, length)


def content_of(cid: CID, size: int, open_reader: Any, offset: int, length: int | None) -> Content:
    """A range of a file as a stream; the range is cut at the end of the file."""
    start = min(offset, size)
    count = size - start if length is None else min(length, size - start)

    def chunks() -> Iterator[bytes]:
        left = count
        with open_reader() as reader:
            reader.seek(start)
            while left and (piece := reader.read(min(READ_BYTES, left))):
                left -= len(piece)
                yield piece

    return Content(cid, size, start, count, chunks)


@operation("files.read", Mode.READ, "files:read", target=_path, places=(Touch("path", READ),), quick=True)
def files_read(
    ctx: Context,
    path: AnyState,
    offset: Annotated[int, Arg("first byte", minimum=0)] = 0,
    length: Annotated[int | None, Arg("bytes to read; to the end when left out", minimum=0)] = None,
) -> Content:
    """Return the bytes of a file, or a range of them, from any version."""
    return content_at(ctx, path, offset, length)


def _given(text: str | None, data: bytes | None) -> bytes:
    if (text is None) == (data is None):
        raise InvalidInput("give the content either as text or as data, not both and not neither")
    return data if data is not None else (text or "").encode("utf-8", "surrogateescape")


Text = Annotated[str | None, Arg("the content as text", content=True)]
Data = Annotated[bytes | None, Arg("the content as bytes", content=True)]


@operation(
    "files.write",
    Mode.WRITE,
    "files:write",
    idempotent=True,
    undo="merge",
    target=_path,
    places=(Touch("path", WRITE),),
)
def files_write(
    ctx: Context,
    path: Path,
    text: Text = None,
    data: Data = None,
    offset: Annotated[
        int | None, Arg("overwrite from this byte on and keep the rest; the whole file when left out", minimum=0)
    ] = None,
    content_type: Annotated[str | None, Arg("media type kept with the file")] = None,
    tags: Annotated[dict[str, Any] | None, Arg("labels kept with the file")] = None,
) -> Applied:
    """Write a file in the working session, creating its folders; committed by versions.commit."""
    content = _given(text, data)
    with ctx.engine.buckets.window():
        if offset is not None:
            at = offset
            applied: Applied = ctx.commit(lambda: ctx.engine.buckets.write(path, content, offset=at))
        else:
            applied = ctx.commit(
                lambda: ctx.engine.buckets.put_bytes(path, content, content_type=content_type, tags=tags)
            )
    return applied


@operation("files.append", Mode.WRITE, "files:write", undo="merge", target=_path, places=(Touch("path", WRITE),))
def files_append(ctx: Context, path: Path, text: Text = None, data: Data = None) -> Applied:
    """Add bytes to the end of a file without storing the rest of it again."""
    content = _given(text, data)
    with ctx.engine.buckets.window():
        applied: Applied = ctx.commit(lambda: ctx.engine.buckets.append(path, content))
    return applied


@operation("files.edit", Mode.WRITE, "files:write", undo="merge", target=_path, places=(Touch("path", READ | WRITE),))
def files_edit(
    ctx: Context,
    path: Path,
    old: Annotated[str, Arg("text to replace; it must occur exactly once", content=True)],
    new: Annotated[str, Arg("text to put there", content=True)],
) -> Applied:
    """Replace one passage of a UTF-8 text file."""
    with ctx.engine.buckets.window():

        def prepare() -> Any:
            before = content_at(ctx, path, 0, None)
            if before.size > EDIT_BYTES_MAX:
                raise InvalidInput(
                    f"{path} has {before.size} bytes; files.edit takes at most {EDIT_BYTES_MAX}: write a range instead"
                )
            body = before.read()
            if body.count(old.encode()) != 1 or not old:
                raise InvalidInput(
                    f"the passage occurs {body.count(old.encode()) if old else 0} times in {path}: give one that stands once"
                )
            return ctx.engine.buckets.put_bytes(path, body.replace(old.encode(), new.encode()))

        applied: Applied = ctx.commit(prepare)
    return applied


EDIT_BYTES_MAX = 16 << 20
"""Largest text edited in memory (16 MiB)."""


@operation(
    "files.list",
    Mode.READ,
    "files:read",
    target=_path,
    aliases=("list_bucket_files",),
    places=(Touch("path", READ),),
    quick=True,
)
def files_list(
    ctx: Context,
    path: AnyState,
    cursor: Annotated[str | None, Arg("where to continue")] = None,
    limit: Annotated[int, Arg("entries per page", minimum=1, maximum=10_000)] = 1000,
) -> Page:
    """List a folder of any version, a page at a time."""
    return ctx.engine.buckets.ls(path, after=cursor, limit=limit)


@operation("files.stat", Mode.READ, "files:read", target=_path, places=(Touch("path", READ),), quick=True)
def files_stat(ctx: Context, path: AnyState) -> Stat:
    """Return kind, size, CID and metadata of one entry."""
    return ctx.engine.buckets.stat(path)


@operation("files.mkdir", Mode.WRITE, "files:write", undo="merge", target=_path, places=(Touch("path", WRITE),))
def files_mkdir(
    ctx: Context,
    path: Path,
    parents: Annotated[bool, Arg("create missing parents, and accept an existing folder", flag="p")] = False,
) -> Applied:
    """Create a folder."""
    applied: Applied = ctx.commit(lambda: ctx.engine.buckets.mkdir(path, parents=parents, exist_ok=parents))
    return applied


@operation(
    "files.rm",
    Mode.WRITE,
    "files:delete",
    destructive=True,
    undo="merge",
    target=_path,
    aliases=("delete_bucket_file",),
    places=(Touch("path", WRITE),),
)
def files_rm(
    ctx: Context, path: Path, recursive: Annotated[bool, Arg("also a folder with all it holds", flag="r")] = False
) -> Applied:
    """Remove a file, a link or, with recursive, a folder; earlier versions keep it."""
    applied: Applied = ctx.commit(lambda: ctx.engine.buckets.rm(path, recursive=recursive))
    return applied


@operation(
    "files.rmdir",
    Mode.WRITE,
    "files:delete",
    destructive=True,
    undo="merge",
    target=_path,
    places=(Touch("path", WRITE),),
)
def files_rmdir(ctx: Context, path: Path) -> Applied:
    """Remove an empty folder."""
    applied: Applied = ctx.commit(lambda: ctx.engine.buckets.rmdir(path))
    return applied


Source = Annotated[str, Arg("BUCKET:/path to take from", positional=True)]
Destination = Annotated[str, Arg("BUCKET:/path to create", positional=True)]
Overwrite = Annotated[bool, Arg("replace what is there", flag="f")]


@operation(
    "files.mv",
    Mode.WRITE,
    "files:write",
    destructive=True,
    undo="merge",
    target=_two_paths,
    places=(Touch("source", READ | WRITE), Touch("destination", WRITE)),
)
def files_mv(ctx: Context, source: Source, destination: Destination, overwrite: Overwrite = False) -> Applied:
    """Move or rename a file or folder by relinking it."""
    applied: Applied = ctx.commit(lambda: ctx.engine.buckets.mv(source, destination, overwrite=overwrite))
    return applied


@operation(
    "files.cp",
    Mode.WRITE,
    "files:write",
    undo="merge",
    target=_two_paths,
    places=(Touch("source", READ), Touch("destination", WRITE)),
)
def files_cp(ctx: Context, source: Source, destination: Destination, overwrite: Overwrite = False) -> Applied:
    """Copy a file or folder by reference; no content is stored twice."""
    applied: Applied = ctx.commit(lambda: ctx.engine.buckets.cp(source, destination, overwrite=overwrite))
    return applied


@operation(
    "files.set_metadata",
    Mode.WRITE,
    "files:write",
    idempotent=True,
    undo="merge",
    target=_path,
    places=(Touch("path", WRITE),),
)
def files_set_metadata(
    ctx: Context,
    path: Path,
    content_type: Annotated[str | None, Arg("media type")] = None,
    tags: Annotated[dict[str, Any] | None, Arg("labels")] = None,
    metadata: Annotated[dict[str, Any] | None, Arg("other values of JSON types")] = None,
) -> Applied:
    """Set the metadata kept beside a file; its CID stays the same."""
    applied: Applied = ctx.commit(
        lambda: ctx.engine.buckets.set_metadata(path, content_type=content_type, tags=tags, metadata=metadata)
    )
    return applied
