"""Datasets: tables as versioned bucket content."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.model import BucketInfo, BucketKind, BucketType, Committed
from ipfs_kit.buckets.paths import Location, Ref
from ipfs_kit.datasets import layout
from ipfs_kit.datasets.state import DatasetState
from ipfs_kit.durable import Lease, make_dirs
from ipfs_kit.errors import BudgetExceeded, Denied, InvalidInput, NotFound, RefNotFound, Unsupported
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import Effect
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, WRITE, Nowhere, Touch

PROFILE: Final = "unixfs-v1-cdc-64k"
PARENTS_MAX: Final = 100
TRANSFORMATION_CHARS_MAX: Final = 4_096
ROWS_MAX: Final = 100_000
"""Rows of one append."""

Dataset = Annotated[str, Arg("the dataset", positional=True)]
Version = Annotated[str, Arg("DATASET[@branch|@tag|@commit|@op:N|@time:T]", positional=True)]
SplitName = Annotated[str | None, Arg("one split, such as train; all when left out")]
IntoSplit = Annotated[str, Arg("where the rows go")]
Columns = Annotated[list[str] | None, Arg("only these columns, in this order")]
Where = Annotated[str | None, Arg("only rows that meet this: price > 10 and name in ('a', 'b') and note is not null")]
Evolve = Annotated[bool, Arg("add columns that the dataset does not have; they are null in older rows")]
Message = Annotated[str, Arg("what changed, for the version", flag="m")]
Parents = Annotated[
    list[str] | None, Arg("what it was made from: DATASET[@ref], or an address such as s3://bucket/key")
]
Transformation = Annotated[str | None, Arg("how it was made from its parents: a command, a query, a code version")]


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """One column: its name and its Arrow type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split: its rows, the bytes of its files and how many there are."""

    name: str
    rows: int
    size: int
    parts: int


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A state of a dataset.

    Args:
        name: Its name, which is also its bucket's.
        root: CID of the content: the same rows written the same way have the same, on any machine.
        commit: The version it is; None when there is none yet.
        rows: Rows of all splits.
        size: Bytes of their files.
        columns: Its columns.
        splits: Its splits.
        compression: How files are compressed.
        bloom: Columns with a Bloom filter.
        card: Its card, the text of README.md; empty when there is none.
    """

    name: str
    root: CID
    commit: CID | None
    rows: int
    size: int
    columns: list[ColumnInfo]
    splits: list[SplitInfo]
    compression: str
    bloom: list[str]
    card: str


@dataclass(frozen=True, slots=True)
class DatasetChanged:
    """A version that rows made.

    Args:
        dataset: The dataset.
        commit: The version.
        root: CID of its content.
        created: Whether a version was made; False when nothing changed.
        added: Rows that came in.
        rows: Rows of all splits now.
        parts: Files of all splits now.
    """

    dataset: str
    commit: CID | None
    root: CID
    created: bool
    added: int
    rows: int
    parts: int


def _dataset(bound: Mapping[str, Any]) -> str:
    return str(bound["dataset"])


# -- making and changing ------------------------------------------------------------------------------------------


@operation(
    "dataset.create",
    Mode.WRITE,
    "dataset:write",
    undo="ref",
    target=_dataset,
    places=(Touch("dataset", WRITE, whole=True),),
)
def dataset_create(
    ctx: Context,
    dataset: Dataset,
    description: Annotated[str, Arg("what it is, for its card")] = "",
    tags: Annotated[list[str] | None, Arg("words it is found by")] = None,
    compression: Annotated[
        Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"], Arg("of the files that hold its rows")
    ] = "zstd",
    level: Annotated[int | None, Arg("of the compression", minimum=1, maximum=22)] = None,
    bloom: Annotated[list[str] | None, Arg("columns that are searched for single values")] = None,
) -> BucketInfo:
    """Make an empty dataset: a bucket whose files are cut so that versions share what they have in common.

    Raises:
        AlreadyExists: There is a bucket of this name.
    """
    settings = layout.Settings(compression, level, tuple(bloom or ()))
    kept = {"dataset": settings.told() | {"description": description, "tags": list(tags or ())}}
    info: BucketInfo = ctx.commit(
        lambda: ctx.engine.buckets.create(
            dataset, type=BucketType.DATASET.value, structure="hybrid", kind="open", profile=PROFILE, metadata=kept
        )
    )
    return info


@operation(
    "dataset.put",
    Mode.WRITE,
    "dataset:write",
    undo="ref",
    target=_dataset,
    places=(Touch("dataset", WRITE, whole=True),),
)
def dataset_put(
    ctx: Context,
    source: Annotated[str, Arg("local file, or folder of files of one format", local=True, positional=True)],
    dataset: Dataset,
    split: Annotated[str | None, Arg("where rows go; told by folder and file names, else train")] = None,
    file_format: Annotated[
        Literal["parquet", "arrow", "csv", "tsv", "jsonl", "json", "text"] | None, Arg("told by the name's end")
    ] = None,
    mode: Annotated[Literal["append", "replace"], Arg("behind the rows there are, or in their place")] = "append",
    types: Annotated[dict[str, Any] | None, Arg("type by column, where the first rows mislead: price=float64")] = None,
    delimiter: Annotated[str | None, Arg("between fields of CSV")] = None,
    evolve: Evolve = False,
    message: Message = "",
    parents: Parents = None,
    transformation: Transformation = None,
) -> DatasetChanged:
    """Bring the rows of Parquet, Arrow, CSV, JSON lines, JSON or text files in, as one version, whole or not at all.

    Raises:
        InvalidInput: A file does not parse or its columns do not fit; nothing was stored.
        Conflict: The dataset's bucket has uncommitted changes.
    """
    from ipfs_kit.datasets.reading import Options, sources, tables
    from ipfs_kit.datasets.writing import Writer

    found = sources(source, file_format, split)
    options = Options({name: str(kind) for name, kind in (types or {}).items()}, delimiter)
    named = sorted({each.split for each in found})
    for each in named:
        layout.check_split(each)

    def fill(writer: Writer) -> None:
        if mode == "replace":
            for each in named:
                writer.clear(each)
        for name in named:
            # All rows of a split are one run, so that how they lie in files does not show in the parts.
            def rows(name: str = name) -> Iterator[Any]:
                for each in found:
                    if each.split == name:
                        for table in tables(each, options):
                            writer.take(table.schema, evolve=evolve)
                            yield table

            writer.add(name, rows())

    return _change(ctx, dataset, fill, message or f"{mode} {len(found)} files", parents, transformation)


@operation(
    "dataset.append",
    Mode.WRITE,
    "dataset:write",
    undo="ref",
    target=_dataset,
    places=(Touch("dataset", WRITE, whole=True),),
)
def dataset_append(
    ctx: Context,
    dataset: Dataset,
    rows: Annotated[list[dict[str, Any]] | None, Arg("rows: mappings from column to value", content=True)] = None,
    text: Annotated[str | None, Arg("rows as JSON lines", content=True)] = None,
    data: Annotated[bytes | None, Arg("rows as JSON lines, as bytes", content=True)] = None,
    split: IntoSplit = "train",
    evolve: Evolve = False,
    message: Message = "append",
) -> DatasetChanged:
    """Add rows as one version that readers see at once; with an idempotency key, once however often it is sent.

    Small portions are joined as they come, so that many appends leave few files.

    Raises:
        InvalidInput: A row does not fit the dataset; nothing was stored.
    """
    from ipfs_kit.datasets.reading import table_of
    from ipfs_kit.datasets.writing import Writer

    given = _rows_given(rows, text, data)
    layout.check_split(split)

    def fill(writer: Writer) -> None:
        table = table_of(given, writer.schema)
        writer.take(table.schema, evolve=evolve)
        writer.add(split, [table])

    return _change(ctx, dataset, fill, message, None, None)


def _rows_given(rows: list[dict[str, Any]] | None, text: str | None, data: bytes | None) -> list[Any]:
    import json

    if sum(each is not None for each in (rows, text, data)) != 1:
        raise InvalidInput("give the rows once: as rows, or as text or data of JSON lines")
    if rows is None:
        lines = (text if text is not None else data or b"").splitlines()
        try:
            rows = [json.loads(line) for line in lines if line.strip()]
        except (ValueError, RecursionError) as exc:
            raise InvalidInput(f"data is JSON lines, one object a line: {exc}") from exc
    if not rows:
        raise InvalidInput("there is no row to append")
    if len(rows) > ROWS_MAX:
        raise BudgetExceeded(f"one append takes at most {ROWS_MAX} rows: write a file and use dataset.put")
    return rows


def _change(
    ctx: Context,
    dataset: str,
    fill: Callable[[Any], None],
    message: str,
    parents: list[str] | None,
    transformation: str | None,
) -> DatasetChanged:
    """Build the next state of a dataset and make it its next version, one writer at a time."""
    from ipfs_kit.datasets.writing import Writer

    engine = ctx.engine
    ref = Ref.parse(dataset)
    if not ref.live:
        raise InvalidInput(f"{dataset} is a version, and versions do not change: name the dataset alone")
    origin = _origin(ctx, parents, transformation)
    last: list[Writer] = []

    def prepare() -> Effect:
        workspace, snapshot = engine.buckets.settled(ref)
        _require_dataset(workspace.space.row.type, workspace.space.row.kind, workspace.space.name)
        writer = Writer(DatasetState(workspace.space, snapshot.root), lambda rows: ctx.progress(rows, unit="rows"))
        fill(writer)
        last[:] = [writer]
        card = None if writer.schema is None else _card(workspace.space.name, workspace.space.row.metadata, writer)
        root = writer.finish(card)
        kept = {"dataset": {"rows": writer.manifest.rows, "added": writer.added} | origin}
        return engine.buckets.commit_built(
            workspace, snapshot, root, message, author=ctx.draft.actor, metadata=kept, force=bool(origin)
        )

    folder = str(engine.path / "cache" / "datasets")
    make_dirs(folder, 0o700)
    lease = Lease(folder, engine.buckets.row(ref.bucket).uid)
    lease.acquire(engine.state.lock_timeout_s)
    try:
        with engine.buckets.window():
            done: Committed = ctx.commit(prepare)
    finally:
        lease.release()
    manifest = last[0].manifest
    parts = sum(split.parts for split in manifest.splits.values())
    return DatasetChanged(ref.bucket, done.commit, done.root, done.created, last[0].added, manifest.rows, parts)


def _require_dataset(kind: BucketType, sealing: BucketKind, name: str) -> None:
    if kind is not BucketType.DATASET:
        raise Unsupported(f"bucket {name} is no dataset: make one with dataset.create")
    if sealing is BucketKind.SEALED:
        raise Unsupported(f"bucket {name} is sealed: the figures of a dataset would stand beside its sealed rows")


def _card(name: str, metadata: Mapping[str, Any], writer: Any) -> str:
    """What a person reads first; the front matter names the files of each split as dataset hubs expect it."""
    told = metadata.get("dataset")
    told = told if isinstance(told, dict) else {}
    lines = ["---", "configs:", "- config_name: default", "  data_files:"]
    for split in sorted(writer.manifest.splits):
        lines += [f"  - split: {split}", f"    path: data/{split}/*.parquet"]
    lines += ["---", "", f"# {name}", ""]
    if told.get("description"):
        lines += [str(told["description"]), ""]
    if told.get("tags"):
        lines += ["Tags: " + ", ".join(str(tag) for tag in told["tags"]), ""]
    lines += ["| column | type |", "|---|---|"]
    lines += [f"| {_escaped(field.name)} | {_escaped(str(field.type))} |" for field in writer.schema]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _origin(ctx: Context, parents: list[str] | None, transformation: str | None) -> dict[str, Any]:
    if len(parents or ()) > PARENTS_MAX or len(transformation or "") > TRANSFORMATION_CHARS_MAX:
        raise InvalidInput(
            f"a version has at most {PARENTS_MAX} parents and {TRANSFORMATION_CHARS_MAX} characters of how"
        )
    told: dict[str, Any] = {}
    if parents:
        told["parents"] = [_parent(ctx, text) for text in parents]
    if transformation:
        told["transformation"] = transformation
    return told


def _parent(ctx: Context, text: str) -> dict[str, Any]:
    if "://" in text:
        return {"address": text}
    ref = Ref.parse(text)
    if not ctx.principal.may_at("dataset:read", ref.bucket, ()):
        raise Denied(f"reading {ref.bucket} is not allowed, so it cannot be named as a parent")
    if ref.live:
        ref = Ref(ref.bucket, ctx.engine.buckets.live_ref(ref).head().branch)
    space, commit = ctx.engine.buckets.commit_of(ref)
    return {"dataset": space.name, "commit": commit}


# -- reading ------------------------------------------------------------------------------------------------------


def state_at(ctx: Context, version: str) -> DatasetState:
    """The state of a dataset that a call names.

    Raises:
        InvalidInput: A path stands behind it.
        Unsupported: It is no dataset.
    """
    location = Location.parse(version)
    if location.path:
        raise InvalidInput(f"{version} names a path: name the dataset alone")
    item, space, _ = ctx.engine.buckets.item_with_space(location)
    _require_dataset(space.row.type, space.row.kind, space.name)
    return DatasetState(space, item)


@operation(
    "dataset.info",
    Mode.READ,
    "dataset:read",
    target=lambda b: str(b["version"]),
    places=(Touch("version", READ, whole=True),),
)
def dataset_info(ctx: Context, version: Version) -> DatasetInfo:
    """Return what a dataset holds in any version: columns, splits, rows, bytes, its card."""
    state = state_at(ctx, version)
    manifest, ref = state.manifest, Location.parse(version).ref
    try:
        if ref.live:
            commit: CID | None = ctx.engine.buckets.live_ref(ref).head().base
        else:
            commit = ctx.engine.buckets.commit_of(ref)[1]
    except RefNotFound:
        commit = None
    splits = [SplitInfo(name, each.rows, each.size, each.parts) for name, each in manifest.splits.items()]
    schema = state.schema
    columns = [] if schema is None else [ColumnInfo(found.name, str(found.type)) for found in schema]
    card = state.read(layout.CARD, layout.MANIFEST_BYTES_MAX) or b""
    return DatasetInfo(
        *(state.space.name, state.root.cid, commit, manifest.rows, manifest.size, columns, splits),
        *(manifest.settings.compression, list(manifest.settings.bloom), card.decode("utf-8", "replace")),
    )


@dataclass(frozen=True, slots=True)
class DatasetPage:
    """A page of datasets; pass ``cursor`` to continue, None when this was the last."""

    datasets: list[BucketInfo]
    cursor: str | None


@operation("dataset.list", Mode.READ, "dataset:read", places=Nowhere("shows only the datasets the caller may read"))
def dataset_list(
    ctx: Context,
    cursor: Annotated[str | None, Arg("where to continue")] = None,
    limit: Annotated[int, Arg("datasets per page", minimum=1, maximum=1_000)] = 100,
) -> DatasetPage:
    """List the datasets of the store by name."""
    found: list[BucketInfo] = []
    after = cursor
    while True:
        infos, more = ctx.engine.buckets.list(after=after, limit=1_000)
        for info in infos:
            if info.type is not BucketType.DATASET or not ctx.principal.may_at("dataset:read", info.name, ()):
                continue
            if len(found) == limit:
                return DatasetPage(found, found[-1].name)
            found.append(info)
        if more is None:
            return DatasetPage(found, None)
        after = more


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """One version of a dataset.

    Args:
        commit: The version.
        root: CID of its content.
        time_ns: When it was made, nanoseconds since 1970.
        message: What was said of it; None when its author's key was destroyed.
        rows: Rows of all splits; None when the version was made another way.
        added: Rows that came in with it, likewise.
        parents: What it was made from: datasets as NAME@COMMIT, or addresses.
        transformation: How; None when nobody said.
    """

    commit: CID
    root: CID
    time_ns: int
    message: str | None
    rows: int | None
    added: int | None
    parents: list[str]
    transformation: str | None


@dataclass(frozen=True, slots=True)
class VersionPage:
    """A page of versions, newest first; pass ``cursor`` to continue, None when this was the last."""

    versions: list[VersionInfo]
    cursor: CID | None


def told_of(entry: Any) -> VersionInfo:
    """A commit of a dataset as people see it."""
    kept = (entry.metadata or {}).get("dataset")
    kept = kept if isinstance(kept, dict) else {}
    parents = [
        f"{each['dataset']}@{each['commit']}" if "dataset" in each else str(each.get("address", ""))
        for each in kept.get("parents", ())
    ]
    return VersionInfo(
        *(entry.cid, entry.root, entry.time_ns, entry.message, kept.get("rows"), kept.get("added"), parents),
        kept.get("transformation"),
    )


@operation(
    "dataset.versions",
    Mode.READ,
    "dataset:read",
    target=lambda b: str(b["version"]),
    places=(Touch("version", READ, whole=True),),
)
def dataset_versions(
    ctx: Context,
    version: Version,
    limit: Annotated[int, Arg("versions per page", minimum=1, maximum=1_000)] = 50,
    cursor: Annotated[CID | None, Arg("where to continue")] = None,
) -> VersionPage:
    """List the versions of a dataset, newest first, with what each was made from and how."""
    found = ctx.engine.buckets.log(Location.parse(version).ref, limit=limit, after=cursor)
    return VersionPage([told_of(each) for each in found], found[-1].cid if len(found) == limit else None)


@dataclass(frozen=True, slots=True)
class LineageStep:
    """One step from a version to what it was made from.

    Args:
        version: NAME@COMMIT.
        parent: NAME@COMMIT or an address.
        transformation: How.
        depth: Steps from the version asked for; the first is 1.
    """

    version: str
    parent: str
    transformation: str | None
    depth: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from, nearest first.

    Args:
        version: NAME@COMMIT asked for.
        steps: What it was made from, and that from, and so on.
        truncated: Whether there is more.
    """

    version: str
    steps: list[LineageStep]
    truncated: bool


@operation(
    "dataset.lineage",
    Mode.READ,
    "dataset:read",
    target=lambda b: str(b["version"]),
    places=(Touch("version", READ, whole=True),),
)
def dataset_lineage(
    ctx: Context,
    version: Version,
    depth: Annotated[int, Arg("most steps back", minimum=1, maximum=1_000)] = 20,
    limit: Annotated[int, Arg("most steps returned", minimum=1, maximum=10_000)] = 1_000,
) -> Lineage:
    """Follow a version to the datasets and addresses it was made from, over any number of datasets.

    A version without parents of its own stands on the version before it. Datasets the caller may not read end a path.
    """
    ref = Location.parse(version).ref
    if ref.live:
        ref = Ref(ref.bucket, ctx.engine.buckets.live_ref(ref).head().branch)
    _, first = ctx.engine.buckets.commit_of(ref)
    start = f"{ref.bucket}@{first}"
    steps: list[LineageStep] = []
    level, seen = [start], {start}
    for distance in range(1, depth + 1):
        following: list[str] = []
        for name in level:
            for step in _steps_back(ctx, name, distance):
                if len(steps) == limit:
                    return Lineage(start, steps, True)
                steps.append(step)
                if step.parent not in seen and "://" not in step.parent:
                    seen.add(step.parent)
                    following.append(step.parent)
        level = following
        if not level:
            return Lineage(start, steps, False)
    return Lineage(start, steps, True)


def _steps_back(ctx: Context, name: str, distance: int) -> list[LineageStep]:
    bucket = Ref.parse(name).bucket
    if not ctx.principal.may_at("dataset:read", bucket, ()) or not ctx.engine.buckets.exists(bucket):
        return []
    try:
        entries = ctx.engine.buckets.log(name, limit=1)
    except NotFound:
        return []  # the bucket was made anew under the same name, and has no such version
    if not entries:
        return []
    told = told_of(entries[0])
    parents = [*told.parents, *(f"{bucket}@{before}" for before in entries[0].parents)]
    return [LineageStep(name, parent, told.transformation, distance) for parent in parents]
