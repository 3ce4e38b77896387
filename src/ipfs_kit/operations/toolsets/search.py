"""Finding files again by their words: full text with ranking, over any version of one bucket or over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.buckets.paths import Location, Ref, format_path
from ipfs_kit.errors import InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import READ, Touch
from ipfs_kit.search.match import understand
from ipfs_kit.search.text_index import Counts, Filters, Found

BUCKETS_MAX = 1_000
"""Buckets that one question without a place looks into."""
PER_FILE = 3

Where = Annotated[str | None, Arg("BUCKET[@branch|@tag|@commit|@op:N|@time:T][:/path]; every bucket when left out")]


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage, or a file whose name or labels match.

    Args:
        bucket: The bucket.
        path: The file.
        cid: CID of the file.
        root: Root CID of the state that was searched.
        start: First byte of the passage in the file; None when the name, title or a label matched.
        stop: One past its last byte.
        heading: What the passage stands under.
        snippet: Words around the match.
        matches: Where in ``snippet`` the matching words stand: pairs of first character and one past the last.
        score: BM25; larger is better.
        size: Bytes of the file.
        type: Its media type where known.
    """

    bucket: str
    path: str
    cid: CID
    root: CID
    start: int | None
    stop: int | None
    heading: str
    snippet: str
    matches: list[tuple[int, int]]
    score: float
    size: int
    type: str | None


@dataclass(frozen=True, slots=True)
class SearchPage:
    """What was found, best first.

    Args:
        hits: The hits of this page.
        offset: Pass it for the next page; None when this was the last.
        searched: Buckets looked into.
        left_out: Buckets that are not searched: sealed ones.
        truncated: So much matched that only the best 20,000 rows of a bucket were ranked.
        terms: With ``explain``: in how many rows each word occurs, by stem; None where only part of a bucket is open to
            the caller.
    """

    hits: list[Hit]
    offset: int | None
    searched: list[str]
    left_out: list[str]
    truncated: bool
    terms: dict[str, int] | None = None


@operation("search.query", Mode.READ, "search:read", places=(Touch("path", READ),), aliases=("cross_bucket_search",))
def search_query(
    ctx: Context,
    text: Annotated[str, Arg('words, "a phrase", a prefix*, -without', positional=True)],
    path: Where = None,
    every: Annotated[bool, Arg("all words must occur in one passage")] = False,
    suffix: Annotated[str | None, Arg("only names that end so, for example .md")] = None,
    type: Annotated[str | None, Arg("only this media type; text/* takes all text types")] = None,  # noqa: A002
    tags: Annotated[dict[str, Any] | None, Arg("only files that carry these labels")] = None,
    names: Annotated[bool, Arg("find names, titles and labels too")] = True,
    limit: Annotated[int, Arg("most hits returned", minimum=1, maximum=100, flag="n")] = 10,
    offset: Annotated[int, Arg("hits to pass over", minimum=0, maximum=1_000)] = 0,
    per_file: Annotated[int, Arg("most hits of one file", minimum=1, maximum=100)] = PER_FILE,
    explain: Annotated[bool, Arg("say how often each word occurs")] = False,
) -> SearchPage:
    """Find passages and files by their words, best first (BM25), in any version; the index follows by itself.

    The first question about a bucket reads all of it; later ones read what changed. Sealed buckets are not searched.

    Raises:
        InvalidInput: The query names no word.
        Unsupported: The bucket asked for is sealed.
    """
    match = understand(text, every=every)
    wanted = (offset + limit) * per_file + 1
    hits: list[Hit] = []
    searched: list[str] = []
    left_out: list[str] = []
    truncated = False
    terms: dict[str, int] | None = {} if explain else None
    for location in _places(ctx, path, left_out):
        filters = Filters(location.path, suffix, type, {key: str(value) for key, value in (tags or {}).items()}, names)
        with ctx.engine.indexes.at(location, _report(ctx, location)) as (index, root):
            found, more = index.find(match, filters, wanted)
            hits += [_hit(location, root.cid, row) for row in found]
            truncated = truncated or more
            if terms is not None and ctx.principal.may_at("search:read", location.bucket, ()):
                for word, rows in index.frequencies(match).items():
                    terms[word] = terms.get(word, 0) + rows
            elif terms is not None:
                terms = None
        searched.append(str(location))
    hits.sort(key=lambda hit: (-round(hit.score, 9), hit.bucket, hit.path, -1 if hit.start is None else hit.start))
    chosen = _few_of_each(hits, per_file)
    page = chosen[offset : offset + limit]
    return SearchPage(
        page, offset + limit if len(chosen) > offset + limit else None, searched, left_out, truncated, terms
    )


def _few_of_each(hits: list[Hit], most: int) -> list[Hit]:
    counted: dict[tuple[str, str], int] = {}
    chosen = []
    for hit in hits:
        key = (hit.bucket, hit.path)
        counted[key] = counted.get(key, 0) + 1
        if counted[key] <= most:
            chosen.append(hit)
    return chosen


def _places(ctx: Context, where: str | None, left_out: list[str]) -> Iterator[Location]:
    if where is not None:
        yield Location.parse(where)
        return
    named = ctx.principal.buckets("search:read")
    buckets = ctx.engine.buckets
    if named is not None:
        infos = [buckets.info(name) for name in named if buckets.exists(name)]
        more = None
    else:
        found, more = buckets.list(limit=BUCKETS_MAX)
        infos = list(found)
    if more is not None or len(infos) > BUCKETS_MAX:
        raise InvalidInput(f"there are more than {BUCKETS_MAX} buckets: say which one to search")
    for info in infos:
        if info.kind is BucketKind.SEALED:
            left_out.append(info.name)
        else:
            yield Location(Ref(info.name), ())


def _report(ctx: Context, location: Location) -> Any:
    return lambda done: ctx.progress(done, unit="files", note=f"reading {location.bucket}")


def _hit(location: Location, root: CID, row: Found) -> Hit:
    text, matches, begin = "", [], 0
    for piece in _marks(row.snippet):
        if piece == "\2":
            begin = len(text)
        elif piece == "\3":
            matches.append((begin, len(text)))
        else:
            text += piece
    return Hit(
        location.bucket, format_path(row.path), CID(row.cid), root, row.start, row.stop, row.heading, text, matches,
        row.score, row.size, row.type,
    )  # fmt: skip


def _marks(snippet: str) -> Iterator[str]:
    rest = snippet
    while rest:
        at = min((at for at in (rest.find("\2"), rest.find("\3")) if at >= 0), default=len(rest))
        if at:
            yield rest[:at]
        if at < len(rest):
            yield rest[at]
        rest = rest[at + 1 :]


@dataclass(frozen=True, slots=True)
class Indexed:
    """An index as it stands.

    Args:
        bucket: The bucket.
        root: Root CID of the state it is an index of; None while it is not brought forward.
        holds: Files, contents and passages in it.
    """

    bucket: str
    root: CID | None
    holds: Counts


@operation("search.index", Mode.READ, "search:read", places=(Touch("bucket", READ, whole=True),))
def search_index(
    ctx: Context,
    bucket: Annotated[str, Arg("BUCKET[@branch|@tag|@commit|@op:N|@time:T]", positional=True)],
    rebuild: Annotated[bool, Arg("discard the index and read everything again")] = False,
) -> Indexed:
    """Bring the index of a bucket forward now, with progress; questions do so by themselves."""
    location = Location.parse(bucket)
    with ctx.engine.indexes.at(location, _report(ctx, location), anew=rebuild) as (index, root):
        return Indexed(location.bucket, root.cid, index.counts())


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The indexes of a bucket.

    Args:
        bucket: The bucket.
        indexes: The one that follows the working state first, then those of older states; none when nobody searched.
    """

    bucket: str
    indexes: list[Indexed]


@operation("search.status", Mode.READ, "search:read", places=(Touch("bucket", READ, whole=True),))
def search_status(ctx: Context, bucket: Annotated[str, Arg("the bucket", positional=True)]) -> IndexStatus:
    """Say which states of a bucket are indexed, and how much each index holds."""
    name = Location.parse(bucket).bucket
    return IndexStatus(name, [Indexed(name, root, counts) for root, counts in ctx.engine.indexes.status(name)])


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many indexes went."""

    bucket: str
    indexes: int


@operation("search.drop", Mode.READ, "search:write", places=(Touch("bucket", READ, whole=True),))
def search_drop(ctx: Context, bucket: Annotated[str, Arg("the bucket", positional=True)]) -> Dropped:
    """Remove the indexes of a bucket from the cache; the next question makes them again."""
    name = Location.parse(bucket).bucket
    return Dropped(name, ctx.engine.indexes.drop(name))
