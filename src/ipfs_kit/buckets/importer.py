"""Import of a local file or folder into blocks, outside any lock; the result is linked by one effect.

Folders are walked by descriptors, links are kept as links and never followed, what cannot be read is reported and the
rest kept. Small files are read and hashed ahead by a few threads and handed on in order; memory is bounded by the
batches in flight and by the entries of the folders on the path being walked.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import field
from itertools import islice
from typing import NamedTuple

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets.ignore import IGNORE_BYTES_MAX, IGNORE_FILE, Rule, Rules, parse_file, parse_rules
from ipfs_kit.buckets.index import Item, Put
from ipfs_kit.buckets.model import Problem
from ipfs_kit.buckets.paths import DEPTH_MAX, Path, check_component, format_path
from ipfs_kit.buckets.tree import View
from ipfs_kit.errors import InvalidInput, KitError, PathNotFound
from ipfs_kit.ipld.unixfs import Entry, Profile, build_bytes, build_file, build_symlink

SMALL_BYTES = 256 * 1024
"""Files up to this size are read whole by the reading threads."""
BATCH_FILES = 64
"""Small files handed to a thread at a time: large enough that handing over costs little beside reading."""
BATCHES_IN_FLIGHT = 6
"""With the batch above and the size limit at most 96 MiB are held, for ordinary trees far less."""
READERS = 2
PROBLEMS_MAX = 10_000
"""Problems named; further ones are only counted."""


@dataclass(slots=True)
class ImportReport:
    """What came of an import.

    Args:
        item: The file or folder, ready for ``Buckets.put_entry``.
        files: Files and links stored.
        folders: Folders stored, the top one included.
        bytes: Content bytes stored.
        ignored: Entries left out by rules; a folder counts once.
        problems: What could not be stored, and why.
        problems_count: How many, also beyond those named.
    """

    item: Item | None = None
    files: int = 0
    folders: int = 0
    bytes: int = 0
    ignored: int = 0
    problems: list[Problem] = field(default_factory=list)
    problems_count: int = 0


Progress = Callable[[int, int], object]
"""Called with files and bytes stored so far, at least once a batch; an exception from it cancels the import."""


def import_path(
    local: str | bytes | os.PathLike[str],
    view: View,
    put: Put,
    *,
    ignore: Iterable[str] = (),
    use_ignore_files: bool = True,
    keep_mode: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Store a local file or folder.

    Args:
        local: What to import; a link given here is followed, links inside are kept.
        view: The bucket's.
        put: Stores blocks; hold a write window around this call and the effect that links the result.
        ignore: Further rules, as in a ``.kitignore`` of the top folder.
        use_ignore_files: Read ``.kitignore`` files.
        keep_mode: Remember permission bits.
        progress: See :data:`Progress`.

    Raises:
        PathNotFound: nothing is there, or it cannot be opened at all.
        InvalidInput: it is neither file nor folder, or a rule does not parse.
    """
    importer = _Importer(view, put, use_ignore_files, keep_mode, progress)
    try:
        descriptor = os.open(local, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise PathNotFound(f"{os.fsdecode(local)!a} cannot be opened: {exc.strerror}") from exc
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            rules = Rules().below(0, parse_rules(ignore))
            with ThreadPoolExecutor(READERS, thread_name_prefix="ipfs-kit-import") as pool:
                importer.report.item = importer.folder(descriptor, (), rules, pool, status)
        elif stat.S_ISREG(status.st_mode):
            importer.report.item = importer.large(descriptor, (), status)
        else:
            raise InvalidInput(f"{os.fsdecode(local)!a} is neither a file nor a folder")
    finally:
        os.close(descriptor)
    return importer.report


class _Read(NamedTuple):
    """What a reading thread found of one entry."""

    name: bytes
    entry: Entry | None
    blocks: list[tuple[object, bytes]]
    status: os.stat_result | None
    problem: tuple[str, str] | None


class _Importer:
    def __init__(
        self, view: View, put: Put, use_ignore_files: bool, keep_mode: bool, progress: Progress | None
    ) -> None:
        self._view = view
        self._put = put
        self._use_ignore_files = use_ignore_files
        self._keep_mode = keep_mode
        self._progress = progress
        self.report = ImportReport()

    def folder(
        self, descriptor: int, path: Path, rules: Rules, pool: ThreadPoolExecutor, status: os.stat_result
    ) -> Item:
        """Store one open folder and all below; recursion is bounded by the depth of paths."""
        names, folders = self._listed(descriptor, path, rules)
        if self._use_ignore_files and IGNORE_FILE in names:
            rules = rules.below(len(path), self._rules(descriptor, path))
            names = [name for name in names if not self._ignored(rules, (*path, name), False)]
            folders = [name for name in folders if not self._ignored(rules, (*path, name), True)]
        edits: list[tuple[bytes, Item | None]] = []
        for read in self._read_ahead(descriptor, names, pool):
            item = self._stored(descriptor, path, read)
            if item is not None:
                edits.append((read.name, item))
        for name in folders:
            item = self._below(descriptor, (*path, name), rules, pool)
            if item is not None:
                edits.append((name, item))
        self.report.folders += 1
        made = self._view.edit(self._view.empty(self._put), edits, self._put)
        return Item.of(made.entry(), mtime_ns=status.st_mtime_ns, attrs=self._attrs(status), meta=made.meta)

    def large(self, descriptor: int, path: Path, status: os.stat_result) -> Item | None:
        """Stream one open file of any size."""
        base = self.report.bytes

        def told(done: int) -> None:
            if self._progress is not None:
                self._progress(self.report.files, base + done)

        try:
            with open(descriptor, "rb", buffering=0, closefd=False) as stream:
                entry = build_file(stream, self._view.profile, self._put, progress=told)
                after = os.fstat(descriptor)
        except OSError as exc:
            self._problem(path, "unreadable", exc.strerror or str(exc))
            return None
        if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns) or entry.size != after.st_size:
            self._problem(path, "changed", "the file changed while it was read; what was read is stored")
        return self._counted(entry, status)

    def _listed(self, descriptor: int, path: Path, rules: Rules) -> tuple[list[bytes], list[bytes]]:
        """Names of files and links, and of folders, both sorted so that equal trees are stored in equal order."""
        names: list[bytes] = []
        folders: list[bytes] = []
        try:
            with os.scandir(descriptor) as found:
                for each in found:
                    name = os.fsencode(each.name)
                    is_dir = each.is_dir(follow_symlinks=False)
                    if self._ignored(rules, (*path, name), is_dir):
                        continue
                    (folders if is_dir else names).append(name)
        except OSError as exc:
            self._problem(path, "unreadable", exc.strerror or str(exc))
        return sorted(names), sorted(folders)

    def _ignored(self, rules: Rules, path: Path, is_dir: bool) -> bool:
        if not rules.groups or not rules.ignores(path, is_dir):
            return False
        self.report.ignored += 1
        return True

    def _rules(self, descriptor: int, path: Path) -> tuple[Rule, ...]:
        try:
            opened = os.open(IGNORE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
            with open(opened, "rb") as stream:
                return parse_file(stream.read(IGNORE_BYTES_MAX + 1))
        except OSError as exc:
            self._problem((*path, IGNORE_FILE), "unreadable", exc.strerror or str(exc))
        except KitError as exc:
            self._problem((*path, IGNORE_FILE), "bad rules", exc.message)
        return ()

    def _below(self, parent: int, path: Path, rules: Rules, pool: ThreadPoolExecutor) -> Item | None:
        if len(path) > DEPTH_MAX:
            self._problem(path, "too deep", f"more than {DEPTH_MAX} folders")
            return None
        try:
            check_component(path[-1])
            descriptor = os.open(path[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except (OSError, KitError) as exc:
            self._problem(path, "unreadable", getattr(exc, "strerror", None) or str(exc))
            return None
        try:
            return self.folder(descriptor, path, rules, pool, os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _read_ahead(self, descriptor: int, names: list[bytes], pool: ThreadPoolExecutor) -> Iterator[_Read]:
        source = iter(names)
        pending: deque[Future[list[_Read]]] = deque()
        profile = self._view.profile
        try:
            while True:
                while len(pending) < BATCHES_IN_FLIGHT:
                    batch = list(islice(source, BATCH_FILES))
                    if not batch:
                        break
                    if not pending and len(batch) < 8:
                        # Folders of a few files are the rule; handing them to a thread would take longer than reading.
                        yield from _read_batch(descriptor, batch, profile)
                        continue
                    pending.append(pool.submit(_read_batch, descriptor, batch, profile))
                if not pending:
                    return
                yield from pending.popleft().result()
                if self._progress is not None:
                    self._progress(self.report.files, self.report.bytes)
        finally:
            # The descriptor is closed next, so no thread may still use it.
            for future in pending:
                future.cancel()
            for future in pending:
                if not future.cancelled():
                    future.exception()

    def _stored(self, descriptor: int, path: Path, read: _Read) -> Item | None:
        where = (*path, read.name)
        if read.problem is not None:
            self._problem(where, *read.problem)
        if read.entry is not None and read.status is not None:
            entry = read.entry
            for cid, data in read.blocks:
                answer = self._put(cid, data)  # type: ignore[arg-type]  # the builder's own pairs
                if answer is not None and len(read.blocks) == 1 and type(answer) is type(entry.cid):
                    entry = Entry(answer, entry.tsize, entry.kind, entry.size)
            return self._counted(entry, read.status)
        if read.status is None:
            return None
        try:
            opened = os.open(read.name, _FLAGS, dir_fd=descriptor)
        except OSError as exc:
            self._problem(where, "unreadable", exc.strerror or str(exc))
            return None
        try:
            return self.large(opened, where, os.fstat(opened))
        finally:
            os.close(opened)

    def _counted(self, entry: Entry, status: os.stat_result) -> Item:
        self.report.files += 1
        self.report.bytes += entry.size
        return Item.of(entry, mtime_ns=status.st_mtime_ns, attrs=self._attrs(status))

    def _attrs(self, status: os.stat_result) -> dict[str, int] | None:
        # Set-id bits say something about this machine's users and are never kept.
        return {"mode": status.st_mode & 0o777} if self._keep_mode else None

    def _problem(self, path: Path, reason: str, detail: str) -> None:
        self.report.problems_count += 1
        if len(self.report.problems) < PROBLEMS_MAX:
            self.report.problems.append(Problem(format_path(path), reason, detail))


_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_SPECIAL = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


def _read_batch(descriptor: int, names: list[bytes], profile: Profile) -> list[_Read]:
    return [_read_one(descriptor, name, profile) for name in names]


def _read_one(descriptor: int, name: bytes, profile: Profile) -> _Read:
    """Read and hash one small file or link; runs in a reading thread."""
    blocks: list[tuple[object, bytes]] = []

    def collect(cid: object, data: bytes) -> None:
        blocks.append((cid, data))

    try:
        check_component(name)
        try:
            opened = os.open(name, _FLAGS, dir_fd=descriptor)
        except OSError:
            return _read_other(descriptor, name, profile, blocks)
        try:
            before = os.fstat(opened)
            if not stat.S_ISREG(before.st_mode):
                return _special(name, before)
            if before.st_size > SMALL_BYTES or before.st_size > profile.chunk_size:
                return _Read(name, None, [], before, None)
            data = os.read(opened, before.st_size + 1)
            while len(data) < before.st_size and (more := os.read(opened, before.st_size + 1 - len(data))):
                data += more
            after = os.fstat(opened)
        finally:
            os.close(opened)
    except (OSError, KitError) as exc:
        return _Read(name, None, [], None, ("unreadable", getattr(exc, "strerror", None) or str(exc)))
    entry = build_bytes(data, profile, collect)
    changed = len(data) != before.st_size or before.st_mtime_ns != after.st_mtime_ns
    problem = ("changed", "the file changed while it was read; what was read is stored") if changed else None
    return _Read(name, entry, blocks, after, problem)


def _read_other(descriptor: int, name: bytes, profile: Profile, blocks: list[tuple[object, bytes]]) -> _Read:
    """What could not be opened as a file: a link, a special file, or something unreadable."""
    status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(name, dir_fd=descriptor)
        entry = build_symlink(target, profile, lambda cid, data: blocks.append((cid, data)))
        return _Read(name, entry, blocks, status, None)
    if not stat.S_ISREG(status.st_mode):
        return _special(name, status)
    # The error is the one that opening gives; a second try tells it.
    os.close(os.open(name, _FLAGS, dir_fd=descriptor))
    return _Read(name, None, [], status, None)


def _special(name: bytes, status: os.stat_result) -> _Read:
    what = _SPECIAL.get(stat.S_IFMT(status.st_mode), "special file")
    return _Read(name, None, [], None, ("special", f"a {what} has no content to store"))
