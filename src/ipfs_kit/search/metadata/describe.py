"""A record of stored content, made from the content itself: sizes, blocks, media type, and its text where asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ipfs_kit.errors import BlockNotFound, FormatError, InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.ipld.links import links
from ipfs_kit.ipld.unixfs import Kind, entry_of, open_file
from ipfs_kit.ipld.walk import walk

HEAD_BYTES: Final = 64 * 1024
"""Bytes of a file that its type is told from."""
TEXT_CHARS: Final = 2_000
"""Characters of a text kept in the record."""
_MARKS: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"%PDF-", "application/pdf"),
    (b"PAR1", "application/vnd.apache.parquet"), (b"ARROW1", "application/vnd.apache.arrow.file"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"), (b"\x28\xb5\x2f\xfd", "application/zstd"), (b"\x89HDF\r\n\x1a\n", "application/x-hdf5"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"), (b"GGUF", "application/x-gguf"), (b"\x7fELF", "application/x-elf"),
    (b"<!DOCTYPE html", "text/html"), (b"<html", "text/html"), (b"<?xml", "application/xml"), (b"RIFF", "application/x-riff"),
    (b"ID3", "audio/mpeg"), (b"OggS", "application/ogg"), (b"fLaC", "audio/flac"), (b"\x93NUMPY", "application/x-npy"),
)  # fmt: skip
"""First bytes that only one kind of file has."""

Get = Callable[[CID], bytes]


def describe(cid: CID, get: Get, *, content: bool, progress: Callable[[int], object]) -> dict[str, Any]:
    """A record of what a CID leads to, as far as its blocks are here; what cannot be told is left out.

    Args:
        cid: The CID.
        get: Bytes of a block.
        content: Keep the beginning of a text as the property ``content``, so that search finds it.
        progress: Told of blocks read; may raise to stop.

    Raises:
        BlockNotFound: Not even its first block is here.
    """
    first = get(cid)
    record: dict[str, Any] = {"cid": str(cid), "links": len(links(cid, first))}
    try:
        entry = entry_of(cid, get)
    except (FormatError, InvalidInput):
        record["size_bytes"] = len(first)  # a block that is no file or folder
    else:
        record["size_bytes"] = entry.size if entry.kind is Kind.FILE else entry.tsize
        if entry.kind is Kind.FILE:
            record |= _file(cid, get, content)
        else:
            record["mime_type"] = "inode/directory" if entry.kind is Kind.DIR else "inode/symlink"
    blocks = 0
    try:
        for _ in walk([cid], get):
            blocks += 1
            progress(blocks)
        record |= {"blocks": blocks, "local": True}
    except BlockNotFound:
        record["local"] = False
    return record


def _file(cid: CID, get: Get, content: bool) -> dict[str, Any]:
    try:
        with open_file(cid, get) as reader:
            head = bytes(reader.read(HEAD_BYTES))
    except BlockNotFound:
        return {}
    known = next((kind for mark, kind in _MARKS if head.startswith(mark)), None)
    text = _text(head)
    if text is None or (known is not None and not known.startswith("text/")):
        return {"mime_type": known or "application/octet-stream"}
    kept = {"properties": {"content": text[:TEXT_CHARS]}} if content and text else {}
    return {"mime_type": known or "text/plain", **kept}


def _text(head: bytes) -> str | None:
    """The text that bytes are, but for a character cut off at their end; None when they are none."""
    if b"\0" in head:
        return None
    for cut in range(4):
        try:
            return head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError as exc:
            if exc.start < len(head) - 4:
                return None
    return None
