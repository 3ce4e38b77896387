"""A UnixFS directory edited by path, of which only the nodes on edited paths are loaded and written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ipfs_kit.errors import FormatError, IntegrityError, InvalidInput
from ipfs_kit.ipld import CID
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.unixfs import DEFAULT_PROFILE, Directory, Kind, Link, build_bytes, entry_of, iter_range

Get = Callable[[CID], bytes]
Put = Callable[[CID, bytes], object]


class Folder:
    """One directory being edited; nothing is written before ``flush``.

    Args:
        get: Block source.
        base: What it starts from; None for an empty one.
    """

    def __init__(self, get: Get, base: CID | None = None) -> None:
        self._get = get
        self._directory = Directory(DEFAULT_PROFILE, get, base)
        self._open: dict[bytes, Folder] = {}

    def set(self, path: str, cid: CID, tsize: int) -> None:
        """Put an entry at a path, making the folders above it."""
        name, _, rest = path.partition("/")
        if rest:
            self._child(name.encode()).set(rest, cid, tsize)
        else:
            self._directory.set(name.encode(), cid, tsize)

    def write(self, path: str, data: bytes, put: Put) -> None:
        """Put a file of these bytes at a path."""
        entry = build_bytes(data, DEFAULT_PROFILE, put)
        self.set(path, entry.cid, entry.tsize)

    def remove(self, path: str) -> None:
        """Take away the entry at a path; folders left empty go too."""
        name, _, rest = path.partition("/")
        key = name.encode()
        if rest:
            if key in self._open or self._directory.lookup(key) is not None:
                self._child(key).remove(rest)
        else:
            self._open.pop(key, None)
            self._directory.remove(key)

    def flush(self, put: Put) -> tuple[CID, int]:
        """Write what changed, children first; CID and cumulative size of the result."""
        for name, child in self._open.items():
            cid, tsize = child.flush(put)
            if child.is_empty():
                self._directory.remove(name)
            else:
                self._directory.set(name, cid, tsize)
        return self._directory.flush(put)

    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self._directory.is_empty()

    def _child(self, name: bytes) -> Folder:
        found = self._open.get(name)
        if found is None:
            link = self._directory.lookup(name)
            found = self._open[name] = Folder(self._get, None if link is None else link.cid)
        return found


class Tree:
    """Reads files of a UnixFS directory that a stranger may have made: by path, within bounds.

    Args:
        get: Block source; it checks every block against its CID.
        root: The directory.
    """

    def __init__(self, get: Get, root: CID) -> None:
        self._get = get
        self.root = root
        self._folders: dict[str, Directory] = {}

    def read(self, path: str, limit: int) -> bytes | None:
        """A file's bytes; None when there is no such file.

        Args:
            path: Names behind slashes.
            limit: Most bytes it may have.

        Raises:
            IntegrityError: It is larger, or no file.
        """
        cid = self._find(path)
        if cid is None:
            return None
        entry = entry_of(cid, self._get)
        if entry.kind is not Kind.FILE or entry.size > limit:
            raise IntegrityError(f"{path} is no file of at most {limit} bytes: this is no publication", path=path)
        return b"".join(iter_range(cid, self._get, 0, limit))

    def names(self, path: str, limit: int) -> list[str]:
        """Names in a folder; none when there is no such folder.

        Args:
            path: Names behind slashes.
            limit: Most entries it may have.

        Raises:
            IntegrityError: It has more, or is no folder.
        """
        folder = self._folder(path)
        found: list[str] = []
        for link in folder or ():
            found.append(link.name.decode("utf-8", "backslashreplace"))
            if len(found) > limit:
                raise IntegrityError(f"{path} holds more than {limit} names: this is no publication", path=path)
        return found

    def walk(self, path: str, limit: int, depth: int, total: int) -> Iterator[str]:
        """Paths of the files below a folder, in no particular order.

        Args:
            path: The folder.
            limit: Most entries in one folder.
            depth: Most folders below it.
            total: Most files and folders in all: a small graph that shares its folders can claim any number.

        Raises:
            IntegrityError: It is wider, deeper or larger.
        """
        seen = 0
        folders = [(path, depth)]
        while folders:
            folder, left = folders.pop()
            for name in self.names(folder, limit):
                seen += 1
                if seen > total:
                    raise IntegrityError(f"{path} holds more than {total} entries: this is no publication", path=path)
                below = f"{folder}/{name}"
                cid = self._find(below)
                if cid is None or entry_of(cid, self._get).kind is not Kind.DIR:
                    yield below
                elif left <= 0:
                    raise IntegrityError(f"{below[:200]} is too deep a folder: this is no publication", path=path)
                else:
                    folders.append((below, left - 1))

    def _find(self, path: str) -> CID | None:
        parent, _, name = path.rpartition("/")
        folder = self._folder(parent)
        link: Link | None = None if folder is None else folder.lookup(name.encode("utf-8", "surrogatepass"))
        return None if link is None else link.cid

    def _folder(self, path: str) -> Directory | None:
        found = self._folders.get(path)
        if found is None:
            cid = self.root if not path else self._find(path)
            if cid is None:
                return None
            try:
                if entry_of(cid, self._get).kind is not Kind.DIR:
                    raise IntegrityError(f"{path or cid} is no folder: this is no publication", path=path)
            except (FormatError, InvalidInput) as exc:
                raise IntegrityError(f"{path or cid} is no folder: this is no publication", path=path) from exc
            if len(self._folders) >= DEFAULT.path_components:
                self._folders.clear()
            found = self._folders[path] = Directory(DEFAULT_PROFILE, self._get, cid)
        return found
