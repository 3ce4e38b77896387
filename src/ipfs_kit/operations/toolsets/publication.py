"""Publications: sealed records as one directory that other nodes verify, import and query."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import time_ns
from typing import Annotated, Any, Final, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.blocks.pins import PinChange
from ipfs_kit.durable import Tx
from ipfs_kit.errors import Conflict, FormatError, InvalidInput, NotFound
from ipfs_kit.ipld import CID, car
from ipfs_kit.ipld.resolve import resolve
from ipfs_kit.ipld.unixfs import DEFAULT_PROFILE
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.ledger.published import Scope, tables
from ipfs_kit.ledger.published.folder import Tree
from ipfs_kit.ledger.published.tables import Imported
from ipfs_kit.ledger.published.writing import Blocks, Built, Writer, read_manifest
from ipfs_kit.ledger.segments import SealPolicy
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.effects import add_pin, pins_effect
from ipfs_kit.operations.maintenance import seal_policy
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.publications import has_news
from ipfs_kit.operations.toolsets.store import built as built_from
from ipfs_kit.operations.views import iso_time

LEASE_S: Final = 30.0
"""Longest wait for a sealing or an import under way."""
Vkey = Annotated[
    str | None, Arg("verifier key of either of the publisher's logs, as its owner told you; needed the first time")
]
Name = Annotated[str | None, Arg("what to call the publisher here; its node id when left out")]
_NAME_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class LogHeld:
    """What a publication holds of one log.

    Args:
        log: ``main`` or ``bulk``.
        size: Records that its checkpoint signs.
        records: Records in its files.
        files: Parquet files.
    """

    log: str
    size: int
    records: int
    files: int


@dataclass(frozen=True, slots=True)
class PublicationInfo:
    """A publication.

    Args:
        id: ``NODE-SCOPE``.
        node: Surrogate id of the store that published it.
        name: What the publisher is called here; empty for this store's own.
        scope: ``log-main``, ``log-bulk`` or ``stream-NAME``.
        root: CID of its directory.
        parent: The publication before it; None for the first.
        own: Whether this store published it.
        logs: What it holds of each log.
        imported: When it was imported last; None for an own one.
    """

    id: str
    node: str
    name: str
    scope: str
    root: CID
    parent: CID | None
    own: bool
    logs: list[LogHeld]
    imported: str | None


@dataclass(frozen=True, slots=True)
class PublicationMade:
    """A publication as made, or found unchanged.

    Args:
        cid: Root of its directory; pinned.
        scope: What it holds.
        parent: The publication before it; None for the first.
        unchanged: Nothing in its scope was new: this is the former publication.
        pin: Name of the pin that keeps it.
        logs: What it holds of each log.
        new_blocks: Blocks that the store did not have; all others were shared.
        written: Bytes of the blocks written or found again.
        vkey: Verifier key that whoever imports it needs, from you and not from the publication.
    """

    cid: CID
    scope: str
    parent: CID | None
    unchanged: bool
    pin: str
    logs: list[LogHeld]
    new_blocks: int
    written: int
    vkey: str


@operation(
    "ledger.publication_create",
    Mode.WRITE,
    "ledger:admin",
    idempotent=True,
    undo="inverse",
    places=Everywhere("publishes records of all callers"),
)
def ledger_publication_create(
    ctx: Context,
    stream: Annotated[str | None, Arg("publish the records of this stream", positional=True)] = None,
    log: Annotated[Literal["main", "bulk"] | None, Arg("publish a whole log instead")] = None,
    due: Annotated[bool, Arg("seal only what is due by age and size, instead of all there is")] = False,
) -> PublicationMade:
    """Put the sealed records of a stream or log into one directory with a root CID that others can verify and query.

    What was published before is shared: the cost follows what is new.

    Raises:
        NotFound: There is nothing to publish.
        Conflict: Another process published the same scope meanwhile.
        MissingExtra: pyarrow is not installed.
    """
    if (stream is None) == (log is None):
        raise InvalidInput("name a stream, or a whole log with --log, and not both")
    scope = Scope.parse(f"log-{log}" if log is not None else f"stream-{stream}")
    engine = ctx.engine
    if log is None and str(stream) in ("main", "bulk"):
        raise InvalidInput(f"{stream} is a log, not a stream: ledger publication-create --log {stream}")
    _seal(ctx, scope, due)
    writer = Writer(engine.ledger, engine.state, engine.blocks.get)
    with engine.blocks.window():
        before = _own(ctx, scope)
        blocks = Blocks(
            lambda items: engine.blocks.put_many(items, verify=False),  # hashed a moment ago
            lambda done: ctx.progress(done, unit="bytes"),
        )
        with engine.ledger.segments.sealing(LEASE_S):
            built = writer.build(scope, before, blocks)
        if built.root == before:
            return _made(ctx, scope, built, unchanged=True)

        def prepare() -> Effect:
            # What it shares with the one before is complete for as long as that is pinned, which the transaction checks.
            pin = engine.pins.add(built.root, name=scope.pin, now_ns=time_ns(), replace=True, complete=True)
            step = _instead_of(before, pin, scope)
            value = _made(ctx, scope, built, unchanged=False)
            return pins_effect([add_pin(step)], value, before=before, after=built.root)

        made: PublicationMade = ctx.commit(prepare)
    return made


def _instead_of(before: CID | None, pin: Callable[[Tx], PinChange], scope: Scope) -> Callable[[Tx], PinChange]:
    """A pin that must take the place of the publication that the new one was made from."""

    def step(tx: Tx) -> PinChange:
        change = pin(tx)
        if (None if change.before is None else change.before.cid) != before:
            raise Conflict(f"{scope.text} was published or unpinned by another process meanwhile: publish it again")
        return change

    return step


def _seal(ctx: Context, scope: Scope, due: bool) -> None:
    ledger = ctx.engine.ledger
    policy = seal_policy(ctx.engine.state) if due else SealPolicy(age_s=0)
    with ledger.publishing():
        # What is still being gathered is committed and signed by this: only such records are sealed.
        logs = [log for log in scope.logs if due or has_news(ctx.engine, scope, log)]
    for log in logs:
        ctx.check_cancelled()
        ledger.segments.seal(log, policy, time_ns(), lock_timeout_s=LEASE_S)


def _own(ctx: Context, scope: Scope) -> CID | None:
    """Root of this store's publication of a scope, if there is one."""
    try:
        return ctx.engine.pins.get(scope.pin).cid
    except NotFound:
        return None


def _made(ctx: Context, scope: Scope, built: Built, *, unchanged: bool) -> PublicationMade:
    return PublicationMade(
        built.root,
        scope.text,
        built.publication.parent,
        unchanged,
        scope.pin,
        _held(built.publication.logs),
        built.new_blocks,
        built.new_bytes,
        ctx.engine.ledger.vkey(),
    )


def _held(logs: Any) -> list[LogHeld]:
    return [LogHeld(log, held.size, held.records, held.files) for log, held in sorted(logs.items())]


@dataclass(frozen=True, slots=True)
class PublicationPage:
    """Publications by id; pass ``cursor`` to continue, None when this was the last page."""

    publications: list[PublicationInfo]
    cursor: str | None


@operation("ledger.publication_list", Mode.READ, "ledger:read", places=Everywhere("tells of the whole log"))
def ledger_publication_list(
    ctx: Context,
    limit: Annotated[int, Arg("most publications to return", minimum=1, maximum=1000, flag="n")] = 100,
    cursor: Annotated[str | None, Arg("continue after this cursor")] = None,
) -> PublicationPage:
    """List this store's own publications and those imported from other nodes."""
    engine = ctx.engine
    found = [_imported(each) for each in tables.listed(engine.state)]
    names = [name for (name,) in engine.state.query("SELECT name FROM pins WHERE name LIKE 'publication/%'")]
    for name in names:
        kind, _, rest = str(name).removeprefix("publication/").partition("/")
        try:
            scope = Scope.parse(f"{kind}-{rest}")
            root = engine.pins.get(scope.pin).cid
            made = read_manifest(Tree(engine.blocks.get, root))
        except (InvalidInput, NotFound, FormatError):
            continue  # a pin of this name that somebody made by hand
        found.append(
            PublicationInfo(
                made.id,
                made.node,
                "",
                scope.text,
                root,
                made.parent,
                made.node == engine.ledger.node,
                _held(made.logs),
                None,
            )
        )
    rest_of = sorted((each for each in found if cursor is None or each.id > cursor), key=lambda each: each.id)
    return PublicationPage(rest_of[:limit], rest_of[limit - 1].id if len(rest_of) > limit else None)


def _imported(each: Imported) -> PublicationInfo:
    made = each.publication
    return PublicationInfo(
        each.id, each.node, each.name, made.scope.text, each.root, made.parent, False, _held(made.logs),
        iso_time(each.imported_ns),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PublicationTaken:
    """A publication after its import.

    Args:
        publication: It.
        records: Records that came with this import; all were verified.
        files: Files that came.
        withdrawn: Files that its publisher publishes no more, removed here too.
    """

    publication: PublicationInfo
    records: int
    files: int
    withdrawn: int


_IMPORT: Final = "its records are verified copies: drop it with ledger publication-drop"


@operation(
    "ledger.publication_import",
    Mode.WRITE,
    "ledger:admin",
    idempotent=True,
    irreversible=_IMPORT,
    places=Everywhere("adds records of another node"),
)
def ledger_publication_import(
    ctx: Context,
    root: Annotated[str, Arg("CID of the publication, whose blocks are here", positional=True)],
    vkey: Vkey = None,
    name: Name = None,
) -> PublicationTaken:
    """Import a publication of another node after verifying its signature, its history and every record.

    Nothing of it is visible before all of it is verified.

    Raises:
        Denied: The key is not the one that the publisher is known by here.
        IntegrityError: It does not verify, or is a fork or rollback of what was imported before; nothing changed.
        Conflict: Its records are here by another publication of the same node.
    """
    return _take(ctx, resolve(ctx.engine.blocks.get, root).cid, vkey, name)


@operation(
    "ledger.publication_load",
    Mode.WRITE,
    "ledger:admin",
    idempotent=True,
    irreversible=_IMPORT,
    places=Everywhere("adds records of another node"),
)
def ledger_publication_load(
    ctx: Context,
    path: Annotated[str, Arg("CAR file, or folder, that holds the publication", local=True, positional=True)],
    vkey: Vkey = None,
    name: Name = None,
) -> PublicationTaken:
    """Import a publication from a CAR file or a folder; its blocks stay until garbage collection unless you pin its root.

    Raises:
        NotFound: There is no such file or folder.
        FormatError: The archive is damaged or cut short.
        IntegrityError: As for ledger.publication_import.
    """
    with ctx.engine.blocks.window():
        if os.path.isdir(path):
            added = built_from(ctx, path, DEFAULT_PROFILE)
            if added.problems_count:
                first = added.problems[0]
                raise InvalidInput(f"{path} could not be read whole: {first.path}: {first.reason} {first.detail}")
            root = added.cid
        else:
            root = _read_car(ctx, path)
        return _take(ctx, root, vkey, name)


def _read_car(ctx: Context, path: str) -> CID:
    try:
        stream = open(path, "rb")  # noqa: SIM115 - closed by the with below; only opening is translated
    except OSError as exc:
        raise NotFound(f"cannot read {path}: {exc.strerror}") from exc
    with stream:
        reader = car.read_car(stream)
        if len(reader.roots) != 1:
            raise InvalidInput(f"{path} has {len(reader.roots)} roots; a publication's archive has one")
        ctx.engine.blocks.put_many(_counted(ctx, reader), verify=False)  # the reader checks each block
    return reader.roots[0]


def _counted(ctx: Context, blocks: Any) -> Any:
    size = 0
    for number, (cid, data) in enumerate(blocks):
        size += len(data)
        if number % 256 == 0:
            ctx.progress(size, unit="bytes")
        yield cid, data


def _take(ctx: Context, root: CID, vkey: str | None, name: str | None) -> PublicationTaken:
    if name is not None and not (0 < len(name) <= _NAME_CHARS_MAX and name.isprintable() and "/" not in name):
        raise InvalidInput(f"a publisher's name has 1 to {_NAME_CHARS_MAX} printable characters and no '/'")
    engine = ctx.engine
    tree = Tree(engine.blocks.get, root)
    with engine.imports.importing(LEASE_S):
        accepted = engine.imports.accept(
            tree, vkey, name, engine.clock(), lambda done, total, what: ctx.progress(done, total, "files", what)
        )
        made = accepted.imported
        taken = PublicationTaken(
            _imported(made),
            sum(records for _, _, records in accepted.added),
            len(accepted.added),
            len(accepted.withdrawn),
        )

        def effect(tx: Any) -> Outcome:
            tables.register(tx, made, accepted.added, accepted.withdrawn)
            return Outcome(taken, accepted.effect())

        try:
            ctx.commit(lambda: effect)
        finally:
            engine.imports.settle(made.id)
    return taken


@operation(
    "ledger.publication_drop",
    Mode.WRITE,
    "ledger:admin",
    destructive=True,
    irreversible="import it again with ledger publication-import",
    places=Everywhere("removes records of another node"),
)
def ledger_publication_drop(
    ctx: Context,
    publication: Annotated[str, Arg("its id, or NAME-SCOPE; an own one goes with 'pin rm'", positional=True)],
) -> PublicationInfo:
    """Remove an imported publication with its files; when it was the node's last, its key is forgotten too."""
    engine = ctx.engine
    with engine.imports.importing(LEASE_S):
        found = engine.imports.named(publication)

        def effect(tx: Any) -> Outcome:
            tables.unregister(tx, found.id)
            return Outcome(None, {"dropped": found.id, "root": found.root})

        prepare: Callable[[], Effect] = lambda: effect  # noqa: E731 - typed
        ctx.commit(prepare)
        engine.imports.settle(found.id)
    return _imported(found)
