"""Paths through blocks: ``CID/a/b`` over dag-cbor and dag-json values and over UnixFS directories.

A name in a UnixFS directory leads to the entry's CID. A key or list index in a dag-cbor or dag-json block leads to a
value inside the block; when that value is a link, the walk goes on in the block it names.
"""

from __future__ import annotations

from typing import Any

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidCid, InvalidPath, PathNotFound
from ipfs_kit.ipld import dag_cbor, dag_json, dag_pb
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_CBOR, DAG_JSON, DAG_PB, codec_name
from ipfs_kit.ipld.types import Get, inlined


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path leads."""

    cid: CID
    """The block the path ends in."""
    remainder: tuple[str, ...] = ()
    """Keys and indices from the root of that block to the value; empty when the path names the block itself."""


def split_path(path: str, budgets: Budgets = DEFAULT) -> tuple[CID, list[str]]:
    """Read ``CID/a/b``.

    Args:
        path: A CID, optionally after ``/ipfs/`` or ``ipfs://``, and names behind slashes; one slash may trail.
        budgets: Bounds on length and number of names.

    Raises:
        InvalidCid: The path does not start with a CID.
        InvalidPath: A name is empty.
        BudgetExceeded: The path is too long or has too many names.
    """
    for prefix in ("/ipfs/", "ipfs://"):
        path = path.removeprefix(prefix)
    # A character takes one to four bytes: the cheap test first.
    if len(path) > budgets.path_bytes or len(path.encode("utf-8", "surrogatepass")) > budgets.path_bytes:
        raise BudgetExceeded(f"path is longer than {budgets.path_bytes} bytes")
    head, *names = path.split("/")
    if names and names[-1] == "":
        names.pop()
    if len(names) > budgets.path_components:
        raise BudgetExceeded(f"path has {len(names)} names, more than {budgets.path_components}")
    if "" in names:
        raise InvalidPath(f"path {path!r} holds an empty name: write single slashes")
    return CID.parse(head), names


def resolve(get: Get, path: str | CID, budgets: Budgets = DEFAULT) -> Resolved:
    """Follow a path.

    Args:
        get: Block source.
        path: ``CID/a/b``, or a CID, which resolves to itself without reading anything.
        budgets: Bounds on the path and on every block read.

    Returns:
        The block the path ends in, and the way inside it.

    Raises:
        PathNotFound: A name does not exist, or the path goes on below a file, symlink or scalar.
        InvalidCid: The path does not start with a CID.
        InvalidPath: A name is empty, or ``.`` or ``..`` inside a directory.
        BlockNotFound: A block on the way is absent.
        FormatError: A block on the way does not parse.
    """
    return _follow(inlined(get), path, budgets)[0]


def get_value(get: Get, path: str | CID, budgets: Budgets = DEFAULT) -> Any:
    """Return the data-model value a path leads to.

    Returns:
        A dag-cbor or dag-json value; ``PBNode`` for a whole dag-pb block; bytes for raw and unknown codecs.

    Raises:
        PathNotFound: As ``resolve``, and its other errors.
    """
    source = inlined(get)
    found, value = _follow(source, path, budgets)
    return value if found.remainder else decode_block(found.cid, source(found.cid), budgets)


def decode_block(cid: CID, data: bytes, budgets: Budgets = DEFAULT) -> Any:
    """Decode a block by the codec of its CID; raw and unknown codecs stay bytes."""
    codec = cid.codec
    if codec == DAG_CBOR:
        return dag_cbor.decode(data, budgets)
    if codec == DAG_JSON:
        return dag_json.decode(data, budgets)
    if codec == DAG_PB:
        return dag_pb.decode(data, budgets)
    return data


def _follow(get: Get, path: str | CID, budgets: Budgets) -> tuple[Resolved, Any]:
    if type(path) is CID:
        return Resolved(path), None
    cid, names = split_path(str(path), budgets)
    at = 0
    while at < len(names):
        codec = cid.codec
        if codec == DAG_PB:
            cid = _child(get, cid, names[at], "/".join(names[:at]))
            at += 1
        elif codec in (DAG_CBOR, DAG_JSON):
            value, steps = _descend(decode_block(cid, get(cid), budgets), names, at, cid)
            if type(value) is not CID:
                return Resolved(cid, tuple(names[at:])), value
            cid = value
            at += steps
        else:
            raise PathNotFound(f"{cid} is a {codec_name(codec)} block: nothing lies below it at {names[at]!r}")
    return Resolved(cid), None


def _descend(value: Any, names: list[str], at: int, cid: CID) -> tuple[Any, int]:
    """Follow names inside one block, up to its first link."""
    steps = 0
    for name in names[at:]:
        if type(value) is CID:
            break
        if type(value) is dict:
            if name not in value:
                raise PathNotFound(f"no key {name!r} in block {cid}")
            value = value[name]
        elif type(value) is list:
            # Canonical decimals only, so that one item has one path.
            if not (name.isascii() and name.isdigit() and len(name) < 10 and str(int(name)) == name):
                raise PathNotFound(f"{name!r} is not an index of a list in block {cid}")
            if int(name) >= len(value):
                raise PathNotFound(f"the list in block {cid} has {len(value)} items, none at {name}")
            value = value[int(name)]
        else:
            raise PathNotFound(f"nothing lies below a {type(value).__name__} in block {cid} at {name!r}")
        steps += 1
    return value, steps


def _child(get: Get, cid: CID, name: str, parent: str) -> CID:
    """Look a name up in a UnixFS directory, sharded or not."""
    # Imported at use: unixfs is the larger half of this layer, and paths into values do without it.
    from ipfs_kit.ipld.unixfs import DEFAULT_PROFILE, Directory, Kind, entry_of

    if name in (".", ".."):
        raise InvalidPath(f"{name!r} is not the name of an entry: write the path without it")
    try:
        kind = entry_of(cid, get).kind
    except FormatError:
        return _link_named(get, cid, name)
    if kind is not Kind.DIR:
        raise PathNotFound(f"{parent or cid} is a {kind}: nothing lies below it at {name!r}")
    link = Directory(DEFAULT_PROFILE, get, cid).lookup(name.encode("utf-8", "surrogateescape"))
    if link is None:
        raise PathNotFound(f"no entry {name!r} in {parent or cid}")
    return link.cid


def _link_named(get: Get, cid: CID, name: str) -> CID:
    """Look a name up among the links of a dag-pb node that is not UnixFS, as older tools made them."""
    wanted = name.encode("utf-8", "surrogateescape")
    for raw in dag_pb.split_links(get(cid))[1]:
        if dag_pb.link_name(raw) == wanted:
            try:
                return CID(dag_pb.parse_link(raw)[0])
            except InvalidCid as exc:
                raise FormatError(f"dag-pb link is not a CID: {exc.message}") from exc
    raise PathNotFound(f"no link {name!r} in {cid}")
