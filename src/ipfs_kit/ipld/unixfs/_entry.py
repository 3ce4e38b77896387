"""What a directory link points at, found out from the block itself; symbolic links kept as data."""

from __future__ import annotations

from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import FormatError, InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_PB, RAW, plain_codec
from ipfs_kit.ipld.dag_pb import join
from ipfs_kit.ipld.unixfs._data import (
    TYPE_DIRECTORY,
    TYPE_FILE,
    TYPE_HAMT,
    TYPE_RAW,
    TYPE_SYMLINK,
    Data,
    decode_data,
    symlink_data,
)
from ipfs_kit.ipld.unixfs._wire import split, tsize_sum

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipfs_kit.ipld.unixfs._profiles import Profile

    Get = Callable[[CID], bytes]
    Put = Callable[[CID, bytes], object]


class Kind(StrEnum):
    """Kinds of filesystem entries."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a directory link points at."""

    cid: CID
    tsize: int
    """Cumulative serialized size of the DAG in bytes (dag-pb Tsize)."""
    kind: Kind
    size: int
    """Content bytes of a file, 0 for a directory, target length in bytes for a symlink."""


_KINDS = {
    TYPE_RAW: Kind.FILE,
    TYPE_FILE: Kind.FILE,
    TYPE_DIRECTORY: Kind.DIR,
    TYPE_HAMT: Kind.DIR,
    TYPE_SYMLINK: Kind.SYMLINK,
}


def linked(answer: object, cid: CID) -> CID:
    """The address to link to after a ``put``: the CID it answered with, as a store that encrypts does, else ``cid``."""
    return answer if type(answer) is CID else cid


def load(get: Get, cid: CID, budgets: Budgets = DEFAULT) -> bytes:
    """Return a block, an identity CID's from the CID itself.

    Raises:
        FormatError: The block is larger than any block may be.
    """
    if cid.binary[0] == 1 and cid.is_identity:
        return cid.digest
    block = get(cid)
    if len(block) > budgets.block_bytes:
        raise FormatError(f"block {cid} has {len(block)} bytes, more than {budgets.block_bytes}")
    return block


def load_node(get: Get, cid: CID, budgets: Budgets = DEFAULT) -> tuple[list[bytes], Data, int]:
    """Return link fields, data and block length of a dag-pb UnixFS node."""
    if plain_codec(cid.codec) != DAG_PB:
        raise FormatError(f"{cid} is no UnixFS node: its codec is {cid.codec:#x}")
    block = load(get, cid, budgets)
    fields, message = split(block, budgets)
    if len(fields) > budgets.links_per_node:
        raise FormatError(f"{cid} has {len(fields)} links, more than {budgets.links_per_node}")
    return fields, decode_data(message, budgets), len(block)


def entry_of(cid: CID, get: Get, tsize: int | None = None) -> Entry:
    """Inspect one block and describe it.

    Args:
        cid: Root of a file, directory or symlink.
        get: Block source.
        tsize: Cumulative size where a link already told it; otherwise added up from the block.

    Raises:
        FormatError: The block is no UnixFS node.
        BlockNotFound: The block is absent.
    """
    if plain_codec(cid.codec) == RAW:
        size = len(load(get, cid))
        return Entry(cid, size if tsize is None else tsize, Kind.FILE, size)
    fields, data, block_size = load_node(get, cid)
    kind = _KINDS.get(data.type)
    if kind is None:
        raise FormatError(f"{cid} has a UnixFS node type that is neither file, directory nor symlink")
    if tsize is None:
        tsize = block_size + tsize_sum(fields)
    if kind is Kind.DIR:
        return Entry(cid, tsize, kind, 0)
    if kind is Kind.SYMLINK:
        return Entry(cid, tsize, kind, len(data.data))
    filesize = data.filesize if data.filesize is not None else len(data.data) + sum(data.blocksizes)
    return Entry(cid, tsize, kind, filesize)


def build_symlink(target: bytes, profile: Profile, put: Put) -> Entry:
    """Store a symbolic link as data; it is never followed.

    Raises:
        InvalidInput: The target is empty, too long or holds a NUL.
    """
    if not target or b"\0" in target or len(target) > DEFAULT.symlink_bytes:
        raise InvalidInput(f"a symlink target has 1 to {DEFAULT.symlink_bytes} bytes and no NUL")
    block = join(symlink_data(target), [])
    cid = CID(profile.cid_head + sha256(block).digest())
    cid = linked(put(cid, block), cid)
    return Entry(cid, len(block), Kind.SYMLINK, len(target))


def read_symlink(cid: CID, get: Get) -> bytes:
    """Return the target of a symbolic link.

    Raises:
        InvalidInput: The node is something else.
        FormatError: The node does not parse or its target is too long.
    """
    fields, data, _ = load_node(get, cid)
    if data.type != TYPE_SYMLINK:
        raise InvalidInput(f"{cid} is no symbolic link")
    if fields or len(data.data) > DEFAULT.symlink_bytes:
        raise FormatError(f"symbolic link {cid} has links or a target over {DEFAULT.symlink_bytes} bytes")
    return data.data
