"""The store as a whole: content by address, upkeep, verification."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from time import time_ns
from typing import Annotated, Literal

from ipfs_kit.buckets.index import Item
from ipfs_kit.buckets.model import Page, Problem, Stat
from ipfs_kit.buckets.tree import View
from ipfs_kit.errors import IntegrityError, InvalidInput, InvalidPath, NotFound
from ipfs_kit.ipld import CID, Get
from ipfs_kit.ipld.codecs import DAG_PB
from ipfs_kit.ipld.resolve import resolve, split_path
from ipfs_kit.ipld.unixfs import (
    DEFAULT_PROFILE,
    PROFILES,
    Directory,
    Entry,
    Kind,
    Profile,
    build_file,
    entry_of,
    open_file,
    read_symlink,
)
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, Surface, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import add_pin, pins_effect
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.results import Content
from ipfs_kit.operations.toolsets.block import refuse_sealed
from ipfs_kit.operations.toolsets.files import GetInfo, content_of

Reference = Annotated[str, Arg("a CID, or CID/path", positional=True)]
ProfileName = Annotated[
    Literal["unixfs-v1-2025", "unixfs-v0-2015", "unixfs-v1-cdc", "unixfs-v1-cdc-64k"],
    Arg("how files become blocks; decides the CID"),
]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store and its sizes.

    Args:
        path: Its directory.
        node: Surrogate id of this store.
        vkey: Verifier key of its main log.
        blocks: Blocks stored.
        size: Bytes of all packs on disk.
        buckets: Buckets.
        main_records: Ops in the main log.
        bulk_records: Ops in the bulk log.
        free: Bytes free on its disk.
        reserve: Bytes set aside for recording and cleaning up on a full disk; 0 once they are in use.
    """

    path: str
    node: str
    vkey: str
    blocks: int
    size: int
    buckets: int
    main_records: int
    bulk_records: int
    free: int
    reserve: int


@dataclass(frozen=True, slots=True)
class AddInfo:
    """What was added.

    Args:
        cid: Root of the content.
        files: Files read, links included.
        size: Their bytes.
        stored: Whether blocks were kept (false with only_hash).
        problems_count: How many could not be read; everything else was kept.
        problems: The first of them, with the reason.
    """

    cid: CID
    files: int
    size: int
    stored: bool
    problems_count: int
    problems: list[Problem]


@operation(
    "store.init",
    Mode.WRITE,
    "store:admin",
    idempotent=True,
    irreversible="delete the directory to remove a store",
    places=Everywhere("names the whole store"),
)
def store_init(ctx: Context) -> StoreInfo:
    """Create the store's directory, keys and logs, or confirm that they are there."""
    return ctx.engine.views.store()


@operation(
    "store.info", Mode.READ, "store:read", aliases=("get_system_status",), places=Everywhere("counts the whole store")
)
def store_info(ctx: Context) -> StoreInfo:
    """Return the store's path, identity and sizes."""
    return ctx.engine.views.store()


@operation(
    "store.add",
    Mode.WRITE,
    "block:write",
    idempotent=True,
    undo="inverse",
    places=Everywhere("stores blocks outside all buckets"),
)
def store_add(
    ctx: Context,
    path: Annotated[str, Arg("local file or folder, or - for standard input", local=True, positional=True)],
    only_hash: Annotated[bool, Arg("compute the CID and store nothing")] = False,
    profile: ProfileName = "unixfs-v1-2025",
    pin: Annotated[bool, Arg("keep it from garbage collection")] = True,
    ignore: Annotated[list[str] | None, Arg("patterns to leave out, in gitignore form")] = None,
) -> AddInfo:
    """Add a file or folder by content address and return its CID; the same bytes give the same CID on any machine."""
    with ctx.engine.blocks.window():
        info = built(ctx, path, PROFILES[profile], only_hash, tuple(ignore or ()))
        if only_hash:
            return info

        def prepare() -> Effect:
            if pin:
                step = ctx.engine.pins.add(info.cid, now_ns=time_ns())
                return pins_effect([add_pin(step)], info, after=info.cid)
            return lambda tx: Outcome(info, effect={"pins": [], "root": info.cid}, after=info.cid)

        added: AddInfo = ctx.commit(prepare)
    return added


def built(ctx: Context, path: str, profile: Profile, only_hash: bool = False, ignore: tuple[str, ...] = ()) -> AddInfo:
    """Store a local file or folder as blocks, pinned by nothing.

    Args:
        ctx: The call.
        path: The file or folder; ``-`` is standard input of the command line.
        profile: How files become blocks.
        only_hash: Keep no blocks.
        ignore: Patterns to leave out.

    Raises:
        NotFound: Nothing could be read.
    """
    from ipfs_kit.buckets.importer import import_path

    blocks = ctx.engine.blocks
    nodes: dict[CID, bytes] = {}

    def put(cid: CID, data: bytes) -> None:
        if not only_hash:
            blocks.put(cid, data, verify=False)
        elif _is_inner_node(cid, data):
            nodes[cid] = data

    def get(cid: CID) -> bytes:
        found = nodes.get(cid)
        return blocks.get(cid) if found is None else found

    if path == "-" and ctx.surface is Surface.CLI:
        entry = build_file(sys.stdin.buffer, profile, put, progress=lambda done: ctx.progress(done, unit="bytes"))
        return AddInfo(entry.cid, 1, entry.size, not only_hash, 0, [])
    report = import_path(
        path,
        View(profile, get, put),
        put,
        ignore=ignore,
        use_ignore_files=False,
        progress=lambda _files, done: ctx.progress(done, unit="bytes"),
    )
    if report.item is None:
        raise NotFound(
            f"nothing of {path} could be read: {report.problems[0].detail if report.problems else 'it is ignored'}"
        )
    return AddInfo(report.item.cid, report.files, report.bytes, not only_hash, report.problems_count, report.problems)


def _is_inner_node(cid: CID, data: bytes) -> bool:
    """Whether building a folder may read this block again: nodes with links, and folders and links themselves.

    Leaves of files hold all the content; hashing alone keeps none of them, so it runs in bounded memory.
    """
    if cid.codec != DAG_PB:
        return False
    # dag-pb writes links (field 2) before data (field 1), so a node without links starts with its data.
    return data[:1] != b"\x0a" or entry_of(cid, lambda _: data).kind is not Kind.FILE


def _entry(ctx: Context, path: str) -> Entry:
    refuse_sealed(split_path(path)[0])
    found = resolve(ctx.engine.blocks.get, path)
    refuse_sealed(found.cid)
    if found.remainder:
        raise InvalidInput(f"{path} leads inside a block that is no file or folder: read it with dag.get")
    return entry_of(found.cid, ctx.engine.blocks.get)


@operation("store.cat", Mode.READ, "block:read", places=Everywhere("reads any file by its CID"))
def store_cat(
    ctx: Context,
    path: Reference,
    offset: Annotated[int, Arg("first byte", minimum=0)] = 0,
    length: Annotated[int | None, Arg("bytes to read; to the end when left out", minimum=0)] = None,
) -> Content:
    """Return the bytes of a file by CID, or a range of them, reading only the blocks they lie in."""
    entry = _entry(ctx, path)
    if entry.kind is not Kind.FILE:
        raise InvalidInput(f"{path} is a {entry.kind}: list it with store.ls, or read a file below it")
    return content_of(entry.cid, entry.size, lambda: open_file(entry.cid, ctx.engine.blocks.get), offset, length)


@operation("store.stat", Mode.READ, "block:read", places=Everywhere("reads any file by its CID"))
def store_stat(ctx: Context, path: Reference) -> Stat:
    """Return kind, size and CID of what a CID path leads to."""
    entry = _entry(ctx, path)
    return Stat(path, path.rpartition("/")[2], str(entry.kind), entry.cid, entry.size, entry.tsize)


@dataclass(frozen=True, slots=True)
class Listing(Page):
    """A page of a folder read by CID.

    Args:
        refused: Those of its entries that ``store.get`` does not write, with the reason: a name no disk can hold (it refuses
            the whole folder), a name that differs only in case or Unicode form from one before it on the page, a link
            that leads outside.
    """

    refused: tuple[Problem, ...] = ()


@operation("store.ls", Mode.READ, "block:read", places=Everywhere("reads any folder by its CID"))
def store_ls(
    ctx: Context,
    path: Reference,
    cursor: Annotated[str | None, Arg("where to continue")] = None,
    limit: Annotated[int, Arg("entries per page", minimum=1, maximum=10_000)] = 1000,
) -> Listing:
    """List a folder by CID, a page at a time; ``refused`` names the entries that store.get does not write."""
    entry = _entry(ctx, path)
    if entry.kind is not Kind.DIR:
        return Listing((store_stat(ctx, path),), None)
    get = ctx.engine.blocks.get
    found: list[Stat] = []
    refused: list[Problem] = []
    taken: set[str] = set()
    after = place = cursor_bytes(cursor)
    for following, link in Directory(DEFAULT_PROFILE, get, entry.cid).iterate(after):
        if len(found) == limit:
            return Listing(tuple(found), None if place is None else place.hex(), tuple(refused))
        child = entry_of(link.cid, get, link.tsize)
        name = link.name.decode("utf-8", "surrogateescape")
        found.append(Stat(f"{path}/{name}", name, str(child.kind), child.cid, child.size, child.tsize))
        if (why := _refusal(link.name, child, taken, get)) is not None:
            refused.append(Problem(f"{path}/{name}", *why))
        place = following
    return Listing(tuple(found), None, tuple(refused))


def _refusal(name: bytes, child: Entry, taken: set[str], get: Get) -> tuple[str, str] | None:
    """Why an export leaves an entry out, in the exporter's words; None when it does not."""
    import unicodedata

    from ipfs_kit.buckets.exporter import stays_inside
    from ipfs_kit.buckets.paths import check_component, text_of

    try:
        check_component(name)
    except InvalidPath as exc:
        return "bad name", exc.message
    folded = unicodedata.normalize("NFC", text_of(name)).casefold()
    if folded in taken:
        return "collision", "another name here differs only in case or Unicode form"
    taken.add(folded)
    if child.kind is Kind.SYMLINK and not stays_inside((name,), read_symlink(child.cid, get)):
        return "link outside", "its target may lead out of the folder"
    return None


def cursor_bytes(cursor: str | None) -> bytes | None:
    """The place a listing's cursor stands for.

    Raises:
        InvalidInput: It is not what a page returned.
    """
    try:
        return bytes.fromhex(cursor) if cursor else None
    except ValueError as exc:
        raise InvalidInput("a cursor is the text a page returned") from exc


@operation("store.get", Mode.READ, "block:read", places=Everywhere("reads any file by its CID"))
def store_get(
    ctx: Context,
    path: Reference,
    destination: Annotated[str, Arg("local file or folder to write", local=True, positional=True)],
    overwrite: Annotated[bool, Arg("replace files that exist")] = True,
) -> GetInfo:
    """Write a file, or a folder's contents, by CID to the local disk; never outside the destination."""
    from ipfs_kit.buckets.exporter import export_item

    item = Item.of(_entry(ctx, path))
    blocks = ctx.engine.blocks
    view = View(DEFAULT_PROFILE, blocks.get, lambda cid, data: blocks.put(cid, data, verify=False))
    report = export_item(
        item, view, destination, overwrite=overwrite, progress=lambda _files, done: ctx.progress(done, unit="bytes")
    )
    return GetInfo(destination, item.cid, report.files, report.bytes, report.problems_count, report.problems)


@dataclass(frozen=True, slots=True)
class GcInfo:
    """What garbage collection found and did.

    Args:
        dry_run: Whether nothing was removed.
        condemned: Blocks nothing refers to.
        condemned_bytes: Their bytes.
        removed: Blocks removed now.
        freed_bytes: Bytes given back to the disk.
        awaiting_writers: Blocks left for the next run, because writers that began earlier are still open.
        problems: Packs that could not be rewritten, and why.
    """

    dry_run: bool
    condemned: int
    condemned_bytes: int
    removed: int
    freed_bytes: int
    awaiting_writers: int
    problems: list[str]


@operation(
    "store.gc",
    Mode.WRITE,
    "store:admin",
    destructive=True,
    idempotent=True,
    external=True,
    irreversible="removed blocks were referenced by nothing; add their source again",
    places=Everywhere("removes blocks of the whole store"),
)
def store_gc(
    ctx: Context, dry_run: Annotated[bool, Arg("say what would be removed, and remove nothing")] = False
) -> GcInfo:
    """Remove blocks that no ref, pin, session, hold or recent op refers to, beside running writers."""
    if not dry_run:
        ctx.announce({"gc": True})
    return ctx.engine.upkeep.collect_garbage(
        dry_run=dry_run, progress=lambda done, total: ctx.progress(done, total, "blocks")
    )


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Args:
        where: File, CID, bucket or log.
        what: What is wrong with it.
        mend: What to do.
        kind: Stable name of the kind of fault.
    """

    where: str
    what: str
    mend: str
    kind: str = "damage"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification looked at and found.

    Args:
        ok: Whether everything holds.
        checked: Counts of what was checked.
        faults: Everything that is wrong.
    """

    ok: bool
    checked: dict[str, int]
    faults: list[Fault]


@operation("store.verify", Mode.READ, "store:read", places=Everywhere("reads the whole store"))
def store_verify(ctx: Context) -> VerifyReport:
    """Check every byte of packs, index, pins, buckets, keys and ledger, and replay the records; changes nothing.

    Raises:
        IntegrityError: Something does not hold; the message names each fault and how to mend it.
    """
    report = ctx.engine.upkeep.verify(progress=ctx.progress)
    if not report.ok:
        lines = [f"{fault.where}: {fault.what}; {fault.mend}" for fault in report.faults[:50]]
        raise IntegrityError(
            f"{len(report.faults)} faults:\n" + "\n".join(lines),
            faults=[[fault.where, fault.what, fault.mend, fault.kind] for fault in report.faults],
        )
    return report


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What repair mended.

    Args:
        mended: What was done, one line each.
        remaining: Faults that need a person or a backup.
    """

    mended: list[str]
    remaining: list[Fault]


@operation(
    "store.repair",
    Mode.WRITE,
    "store:admin",
    idempotent=True,
    external=True,
    irreversible="it rebuilds derived files and sets damaged bytes aside",
    places=Everywhere("mends the whole store"),
)
def store_repair(ctx: Context) -> RepairReport:
    """Mend what verification finds: rebuild indexes, set damage aside, and name what only a backup brings back."""
    ctx.announce({"repair": True})
    return ctx.engine.upkeep.repair(progress=ctx.progress)
