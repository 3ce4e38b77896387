"""Reads of any state: the caller's workspace, another session, a head, a commit, and each of them in the past [23]."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

from ipfs_kit.buckets.base import BucketsBase, page_limit
from ipfs_kit.buckets.index import DIR_CODE, KIND_NAMES, Item, Row, pack_item, unpack_item
from ipfs_kit.buckets.model import Page, Stat
from ipfs_kit.buckets.paths import Location, Path, Ref, as_location, as_ref, bytes_of, format_path, text_of
from ipfs_kit.buckets.space import Space
from ipfs_kit.buckets.tree import as_folder, as_present
from ipfs_kit.buckets.workspace import DEFAULT_SESSION, state_at
from ipfs_kit.errors import InvalidInput, InvalidPath, PathNotFound
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.unixfs import FileReader, Kind, open_file, read_symlink

READ_BYTES_MAX = 64 * 1024 * 1024
"""Most that one ``cat`` returns in memory; larger ranges are read through ``open``."""


class ReadOps(BucketsBase):
    """Plain reads; locations may carry ``@ref``, ``@op:``, ``@time:`` and ``#session``."""

    def stat(self, at: str | Location) -> Stat:
        """What is known of the entry at a location.

        Raises:
            PathNotFound: nothing is there.
            Expired: the state lies before the time-travel horizon.
        """
        location = as_location(at)
        space, item = self._entry(location)
        found = stat_of(location.path, as_present(item, location.path))
        if item is not None and item.kind is Kind.SYMLINK:
            return replace(found, target=text_of(self.link_target(space, item)))
        return found

    def exists_at(self, at: str | Location) -> bool:
        """Whether something is at a location; the bucket and the state must exist."""
        return self._entry(as_location(at))[1] is not None

    def ls(self, at: str | Location, *, after: str | None = None, limit: int = 1000) -> Page:
        """One page of a folder in byte order of names; listing a file gives that file alone.

        Args:
            at: The folder, in any state.
            after: ``cursor`` of the page before.
            limit: Most entries, at most 1,000.
        """
        location = as_location(at)
        path, limit = location.path, page_limit(limit)
        start = bytes_of(after) if after is not None else None
        prefix = format_path(path).rstrip("/") + "/"
        if location.ref.live:
            workspace = self.workspace(location.bucket, location.ref.session)
            space = workspace.space
            with workspace.lock:
                tree = workspace.tree()
                folder = tree.settled(path)
                if folder is None and tree.kind(path) is not Kind.DIR:
                    return _single(path, as_present(tree.lookup(path), path), start)
                if folder is None:
                    found = tree.page(path, start, limit + 1)
                    space.publish(*(item for _, item in found if item.is_dir))
                    return _page(prefix, [(name, pack_item(item, None)) for name, item in found], limit)
                rows = space.view.rows(folder, start, limit + 1)
                space.publish(*(unpack_item(row) for _, row in rows if row[0] == DIR_CODE))
        else:
            space, root = self.fixed(location.ref)
            folder = as_present(space.view.lookup(root, path), path)
            if not folder.is_dir:
                return _single(path, folder, start)
            rows = space.view.rows(folder, start, limit + 1)
        return _page(prefix, rows, limit)

    def walk(self, at: str | Location) -> Iterator[Stat]:
        """Everything below a location, parents first, from one state that later changes do not touch."""
        item, space, path = self.item_with_space(at)
        for where, found in space.view.walk(item, path):
            yield stat_of(where, found)

    def open(self, at: str | Location) -> FileReader:
        """A file for reading at any offset; it goes on reading the same version whatever is written meanwhile.

        Raises:
            PathNotFound: nothing is there, or no file.
        """
        item, space, path = self.item_with_space(at)
        if item.kind is not Kind.FILE:
            raise PathNotFound(f"{format_path(path)!a} is a {item.kind.value}, not a file", path=format_path(path))
        return open_file(item.cid, space.get)

    def cat(self, at: str | Location, *, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file.

        Args:
            at: The file, in any state.
            offset: First byte.
            length: How many; None means to the end.

        Raises:
            InvalidInput: more than 64 MiB were asked for; use :meth:`open`.
        """
        if offset < 0 or (length is not None and length < 0):
            raise InvalidInput("offset and length must be 0 or more")
        with closing(self.open(at)) as reader:
            wanted = max(0, reader.size - offset)
            wanted = wanted if length is None else min(wanted, length)
            if wanted > READ_BYTES_MAX:
                raise InvalidInput(f"{wanted} bytes do not fit one answer (64 MiB); read ranges or export the file")
            reader.seek(offset)
            return reader.read(wanted)

    def readlink(self, at: str | Location) -> str:
        """Target of a symbolic link.

        Raises:
            PathNotFound: nothing is there, or no link.
        """
        item, space, path = self.item_with_space(at)
        if item.kind is not Kind.SYMLINK:
            raise PathNotFound(f"{format_path(path)!a} is a {item.kind.value}, not a link", path=format_path(path))
        return text_of(self.link_target(space, item))

    def link_target(self, space: Space, item: Item) -> bytes:
        """Target of a link item."""
        return read_symlink(item.cid, space.get)

    def root(self, ref: str | Ref) -> CID:
        """Root CID of a state; in an open bucket any IPFS gateway serves it."""
        return self.root_item(ref).cid

    def root_item(self, ref: str | Ref) -> Item:
        """The root of a state, its blocks in the store."""
        return self.item_with_space(Location(as_ref(ref), ()))[0]

    def item_with_space(self, at: str | Location) -> tuple[Item, Space, Path]:
        """The entry at a location as immutable blocks in the store, its bucket and its path.

        Raises:
            PathNotFound: nothing is there.
        """
        location = as_location(at)
        space, item = self._entry(location)
        return as_present(item, location.path), space, location.path

    def folder(self, at: str | Location) -> tuple[Item, Space, Path]:
        """Like :meth:`item_with_space`, for something that must be a folder."""
        item, space, path = self.item_with_space(at)
        return as_folder(item, path), space, path

    def fixed(self, ref: Ref) -> tuple[Space, Item]:
        """Bucket and root of a state that does not change.

        Raises:
            RefNotFound, OpNotFound, Expired: there is no such state, or no longer.
        """
        ref = self.resolve_time(ref)
        if ref.name is not None:
            return self.root_of_commit(ref)
        row = self.row(ref.bucket, op=ref.op)
        session = self.session_id(row, ref.session or DEFAULT_SESSION, op=ref.op)
        space = self.space(row)
        assert ref.op is not None
        return space, state_at(space, session, ref.op).root

    @abstractmethod
    def root_of_commit(self, ref: Ref) -> tuple[Space, Item]:
        """Bucket and root of a branch, tag or commit, now or at an op; given by the version operations."""

    def _entry(self, location: Location) -> tuple[Space, Item | None]:
        if location.ref.live:
            workspace = self.workspace(location.bucket, location.ref.session)
            with workspace.lock:
                item = workspace.tree().lookup(location.path)
                if item is not None:
                    workspace.space.publish(item)
                return workspace.space, item
        space, root = self.fixed(location.ref)
        return space, space.view.lookup(root, location.path)


def stat_of(path: Path, item: Item) -> Stat:
    """An item as callers see it."""
    attrs = item.attrs or {}
    return Stat(
        format_path(path),
        text_of(path[-1]) if path else "",
        item.kind.value,
        item.cid,
        item.size,
        item.tsize,
        item.mtime_ns,
        attrs.get("mode"),
        attrs.get("type"),
        attrs.get("tags", {}),
        attrs.get("user", {}),
    )


def _page(prefix: str, rows: list[tuple[bytes, Row]], limit: int) -> Page:
    """:func:`stat_of` for a page of stored rows: what all its entries share is worked out once."""
    entries = []
    none: Mapping[str, Any] = {}
    for name, (kind, binary, size, tsize, mtime_ns, attrs, _) in islice(rows, limit):
        shown = name.decode("utf-8", "surrogateescape")
        mode, type_, tags, user = None, None, none, none
        if attrs:
            mode, type_ = attrs.get("mode"), attrs.get("type")
            tags, user = attrs.get("tags", none), attrs.get("user", none)
        entries.append(
            Stat(prefix + shown, shown, KIND_NAMES[kind], CID(binary), size, tsize, mtime_ns, mode, type_, tags, user)
        )
    return Page(tuple(entries), text_of(rows[limit - 1][0]) if len(rows) > limit else None)


def _single(path: Path, item: Item, after: bytes | None) -> Page:
    if after is not None:
        raise InvalidPath(f"{format_path(path)!a} is no folder, so it has no next page")
    return Page((stat_of(path, item),), None)
