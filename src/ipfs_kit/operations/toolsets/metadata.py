"""What is known about CIDs: records of 26 fields, stated, found again by any of them, and shared between nodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from time import time_ns
from typing import Annotated, Any, Final, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.durable import Tx, files
from ipfs_kit.errors import InvalidInput, NotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.toolsets.block import refuse_sealed
from ipfs_kit.search.metadata.conditions import parse_all
from ipfs_kit.search.metadata.describe import describe
from ipfs_kit.search.metadata.fields import Kept, check_record
from ipfs_kit.search.metadata.files import WRITERS
from ipfs_kit.search.metadata.statements import Writer

RECORDS_MAX: Final = 10_000
"""Records of one call."""
ACCESS: Final = ("read", "write", "pin", "unpin")

READS: Final = Everywhere("shows what is known of all content")
WRITES: Final = Everywhere("describes any content by its CID")
Filters = Annotated[
    list[Any] | None,
    Arg(
        "filters that must all hold: [field, operator, value], or text 'size_bytes > 1000', 'tags contains x'", flag="f"
    ),
]
Columns = Annotated[list[str] | None, Arg("only these fields; all when left out", flag="c")]
Limit = Annotated[int, Arg("most records returned", minimum=1, maximum=10_000, flag="n")]
OneCid = Annotated[CID, Arg("the CID", positional=True)]


@dataclass(frozen=True, slots=True)
class Changed:
    """What a call changed.

    Args:
        records: Records it was about.
        changed: Records that are other than before.
    """

    records: int
    changed: int


def apply_changes(ctx: Context, work: Callable[[Writer], Any], target: str | None = None) -> Any:
    """Change statements in one transaction with this operation's record.

    Args:
        ctx: The call.
        work: Changes statements through the writer; returns the operation's result.
        target: What it is about.
    """

    def effect(tx: Tx) -> Outcome:
        writer = Writer(tx, ctx.engine.ledger.node, time_ns())
        value = work(writer)
        return Outcome(value, effect={"metadata": writer.changes}, target=target)

    def prepare() -> Effect:
        return effect

    return ctx.commit(prepare)


@operation("metadata.add", Mode.WRITE, "metadata:write", idempotent=True, undo="inverse", places=WRITES)
def metadata_add(
    ctx: Context,
    records: Annotated[list[dict[str, Any]], Arg("records: objects of the 26 fields, each with 'cid'")],
) -> Changed:
    """State records: each takes the place of what this node said of its CID before; all or none.

    What other nodes say stays, and shows where this record says nothing. ``indexed_at``, ``index_version`` and
    ``indexer_node_id`` are set by the index; ``cid_version`` and ``multihash_type`` follow from the CID.

    Raises:
        InvalidInput: A record does not check; the message names the field.
    """
    if not 0 < len(records) <= RECORDS_MAX:
        raise InvalidInput(f"give 1 to {RECORDS_MAX} records, not {len(records)}")
    checked = [check_record(record) for record in records]

    def work(writer: Writer) -> Changed:
        return Changed(len(checked), sum([writer.put(cid, kept) for cid, kept in checked]))

    changed: Changed = apply_changes(ctx, work, str(checked[0][0]) if len(checked) == 1 else None)
    return changed


@operation(
    "metadata.delete", Mode.WRITE, "metadata:write", destructive=True, idempotent=True, undo="inverse", places=WRITES
)
def metadata_delete(
    ctx: Context,
    cid: Annotated[CID | None, Arg("the CID whose record goes", positional=True)] = None,
    cids: Annotated[list[CID] | None, Arg("further CIDs whose records go")] = None,
) -> Changed:
    """Delete the records of CIDs, also what other nodes said of them until now; what has none is passed over."""
    wanted = list(dict.fromkeys([*([cid] if cid is not None else []), *(cids or [])]))
    if not 0 < len(wanted) <= RECORDS_MAX:
        raise InvalidInput(f"give 1 to {RECORDS_MAX} CIDs, not {len(wanted)}")

    def work(writer: Writer) -> Changed:
        return Changed(len(wanted), sum([writer.remove(each) for each in wanted]))

    changed: Changed = apply_changes(ctx, work, str(wanted[0]) if len(wanted) == 1 else None)
    return changed


@dataclass(frozen=True, slots=True)
class Touched:
    """A record after an access was counted."""

    cid: CID
    access_count: int
    last_accessed: str


@operation("metadata.touch", Mode.WRITE, "metadata:write", undo="inverse", places=WRITES)
def metadata_touch(
    ctx: Context,
    cid: OneCid,
    access: Annotated[str, Arg(f"what was done: {', '.join(ACCESS)}; pin and unpin also set 'pinned'")] = "read",
    count: Annotated[int, Arg("accesses", minimum=1, maximum=1_000_000_000)] = 1,
) -> Touched:
    """Count accesses to a CID in its record.

    Raises:
        NotFound: It has no record.
    """
    if access not in ACCESS:
        raise InvalidInput(f"an access is one of {', '.join(ACCESS)}")
    now_ms = time_ns() // 1_000_000

    def change(own: Kept, found: Kept) -> Kept:
        kept = {**own, "access_count": own.get("access_count", 0) + count, "last_accessed": now_ms}
        return kept if access not in ("pin", "unpin") else {**kept, "pinned": access == "pin"}

    apply_changes(ctx, lambda writer: writer.edit(cid, change), str(cid))
    record = ctx.engine.metadata.get(cid)
    if record is None:
        raise NotFound(f"the record of {cid} was deleted meanwhile", cid=str(cid))
    return Touched(cid, record["access_count"], record["last_accessed"])


@dataclass(frozen=True, slots=True)
class Described:
    """A record of stored content, with the fields that can be told from it."""

    cid: CID
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordInfo:
    """The record of a CID: all 26 fields, times as ISO 8601 in UTC."""

    cid: CID
    record: dict[str, Any]


@operation("metadata.get", Mode.READ, "metadata:read", places=READS, quick=True)
def metadata_get(ctx: Context, cid: OneCid) -> RecordInfo:
    """Return the record of a CID.

    Raises:
        NotFound: There is none.
    """
    found = ctx.engine.metadata.get(cid)
    if found is None:
        raise NotFound(f"no record of {cid}: add one with metadata.add", cid=str(cid))
    return RecordInfo(cid, found)


@operation("metadata.describe", Mode.READ, "block:read", places=Everywhere("reads any content by its CID"))
def metadata_describe(
    ctx: Context,
    cid: OneCid,
    content: Annotated[bool, Arg("keep the beginning of a text as the property 'content'")] = False,
) -> Described:
    """Make a record of stored content from the content itself; it is kept once it is given to metadata.add.

    Raises:
        BlockNotFound: Not even its first block is here.
    """
    engine = ctx.engine
    refuse_sealed(cid)
    record = describe(cid, engine.blocks.get, content=content, progress=lambda done: ctx.progress(done, unit="blocks"))
    pins = engine.pins.list(cid=cid, limit=1_000)
    return Described(cid, {**record, "pinned": bool(pins), "pin_types": sorted({str(pin.kind) for pin in pins})})


@dataclass(frozen=True, slots=True)
class RecordPage:
    """A page of records; pass ``cursor`` to continue, None when this was the last.

    A page of very large records holds fewer than were asked for, although more follow.
    """

    records: list[dict[str, Any]]
    cursor: str | None


def reading(ctx: Context) -> Callable[[int], None]:
    """Tells how far the index is made, where a question finds none."""
    return lambda done: ctx.progress(done, unit="records", note="making the metadata index")


@operation("metadata.query", Mode.READ, "metadata:read", places=READS)
def metadata_query(
    ctx: Context,
    filters: Filters = None,
    columns: Columns = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> RecordPage:
    """Return the records that meet every filter, a page at a time.

    Operators are ``==``, ``!=``, ``>``, ``>=``, ``<``, ``<=``, ``in``, ``contains``, ``starts_with``, ``ends_with``,
    ``is_null``. Keys of maps are written ``metadata.title`` and ``properties.KEY``; lists are asked for an element with
    ``contains``. What has no value meets no condition but ``is_null``.

    Raises:
        InvalidInput: A filter has no meaning; the message says why.
    """
    page, following = ctx.engine.metadata.page(parse_all(filters), columns, limit, cursor, reading(ctx))
    return RecordPage(page, following)


@dataclass(frozen=True, slots=True)
class RecordCount:
    """How many records there are."""

    records: int


@operation("metadata.count", Mode.READ, "metadata:read", places=READS)
def metadata_count(ctx: Context, filters: Filters = None) -> RecordCount:
    """Count the records that meet every filter."""
    return RecordCount(ctx.engine.metadata.count(parse_all(filters), reading(ctx)))


@dataclass(frozen=True, slots=True)
class FoundRecords:
    """Records that hold the words; pass ``offset`` to continue, None when these were the last."""

    records: list[dict[str, Any]]
    offset: int | None


@operation("metadata.search", Mode.READ, "metadata:read", places=READS)
def metadata_search(
    ctx: Context,
    text: Annotated[str, Arg("words, each of which may be part of a word", positional=True)],
    fields: Annotated[list[str] | None, Arg("look only into these fields, for example metadata.title")] = None,
    filters: Filters = None,
    columns: Columns = None,
    limit: Limit = 20,
    offset: Annotated[int, Arg("records to pass over", minimum=0, maximum=10_000_000)] = 0,
) -> FoundRecords:
    """Find records by words in paths, names, titles, descriptions, tags, properties and the like, whole words first.

    Raises:
        InvalidInput: The text holds no word.
    """
    found, more = ctx.engine.metadata.search(text, fields, parse_all(filters), columns, limit, offset, reading(ctx))
    return FoundRecords(found, offset + len(found) if more else None)


@dataclass(frozen=True, slots=True)
class IndexFiles:
    """The index as Arrow files that other processes may map; every row counts, no CID stands twice.

    Args:
        files: Arrow IPC files.
        records: Records in them.
        size: Their bytes.
        op: The last operation they hold; None for none.
    """

    files: list[str]
    records: int
    size: int
    op: str | None


@operation("metadata.share", Mode.READ, "metadata:read", places=READS)
def metadata_share(ctx: Context) -> IndexFiles:
    """Write the index out as it is now and name its Arrow files, for other processes to map.

    The files stay as they are until the next call, or until garbage is collected, whatever is added meanwhile.
    """
    shared = ctx.engine.metadata.share()
    return IndexFiles(
        shared.files, shared.rows, shared.size_bytes, f"main:{shared.op_index}" if shared.op_index >= 0 else None
    )


@operation("metadata.rebuild", Mode.READ, "metadata:read", places=READS)
def metadata_rebuild(ctx: Context) -> RecordCount:
    """Discard the index in the cache and make it again from the statements; what is found stays the same."""
    ctx.engine.metadata.projection.rebuild(reading(ctx))
    return RecordCount(ctx.engine.metadata.count(()))


FileFormat = Annotated[Literal["parquet", "jsonl"], Arg("how the file is written")]


@dataclass(frozen=True, slots=True)
class WrittenRecords:
    """A file of records.

    Args:
        path: Where.
        file_format: How.
        records: Records in it.
    """

    path: str
    file_format: str
    records: int


@operation("metadata.export", Mode.READ, "metadata:read", places=READS)
def metadata_export(
    ctx: Context,
    destination: Annotated[str, Arg("local file to write", local=True, positional=True)],
    file_format: FileFormat = "parquet",
    filters: Filters = None,
    overwrite: Annotated[bool, Arg("replace a file that exists")] = False,
) -> WrittenRecords:
    """Write the records that meet every filter to a local file that appears whole, readable by its owner alone.

    Raises:
        AlreadyExists: There is a file and overwriting was not asked for.
    """
    counted = 0

    def told(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        nonlocal counted
        for record in records:
            counted += 1
            if counted % 1_000 == 0:
                ctx.progress(counted, unit="records")
            yield record

    records = told(ctx.engine.metadata.every(parse_all(filters), None, reading(ctx)))
    path = os.path.abspath(os.path.expanduser(destination))
    data = WRITERS[file_format](records)
    if overwrite:
        files.replace(path, data, mode=0o600)
    else:
        files.create_exclusive(path, data, mode=0o600)
    return WrittenRecords(path, file_format, counted)
