"""The key ring of one store: everything under ``keys/`` (decisions 7, 18 and 20; design note 002).

Files, all 0600 in a directory of 0700::

    signing.key     the node's Ed25519 key, C2SP signed-note private form
    current         number of the live generation, replaced atomically: the commit point of a destruction
    kek-N           32 random bytes: the key-encryption key of generation N
    ring-N.mdb      the entries of generation N, wrapped under kek-N
    epoch           change counter shared by all processes
    ring.lock       held for each access to ring-N.mdb

Destroying a key writes every other entry into generation N+1 under a new KEK (a domain's id stays, without its key),
moves ``current``, then overwrites and removes generation N. A crash before the move leaves generation N whole; after it,
the next process that takes the lock finishes the overwriting. Caches in memory are trusted only while ``epoch`` stands
still.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ipfs_kit.durable import files
from ipfs_kit.durable.locks import FileLock
from ipfs_kit.durable.shared import Registry
from ipfs_kit.errors import (
    AlreadyExists,
    Denied,
    FormatError,
    IntegrityError,
    InvalidInput,
    InvalidName,
    KitError,
    ReadOnly,
    StorageFailed,
    StoreNotFound,
)
from ipfs_kit.keys import sealing
from ipfs_kit.keys._epoch import Epoch
from ipfs_kit.keys._ringfile import DESTROYED, DOMAIN, SUBJECT, Entry, RingFile
from ipfs_kit.keys.signing import Signer

_NAME_BYTES_MAX: Final = 4096
# 100 random bits: ids never collide and fit a base32 text of 20 characters without padding.
_ID_BYTES: Final = 13
_ID_TEXT: Final = 20
# Entries kept in memory before the cache starts afresh; about 30 MB.
_CACHE_MAX: Final = 100_000
_UNSETTLED: Final = b""


class Subject(NamedTuple):
    """A person's surrogate id and the key of their fields."""

    id: str
    key: bytes


class KeyFault(NamedTuple):
    """Something wrong in ``keys/``, and how to mend it."""

    path: str
    fault: str
    mend: str


class KeyRing:
    """Signing key, subject keys and domain keys of one store; shared by threads and processes.

    Use ``KeyRing.open``. Every addition is durable when the call returns. Caches hold keys in memory until ``close`` or
    until any process destroys any key.
    """

    def __init__(
        self, directory: str, random: Callable[[int], bytes], *, read_only: bool, lock_timeout_s: float
    ) -> None:
        self._dir = directory
        self._random = random
        self._read_only = read_only
        self._timeout_s = lock_timeout_s
        self._lock = FileLock(self._path("ring.lock"))
        # A read-only medium cannot hold a lock file open for writing, and nobody can destroy keys on it either.
        self._locked = os.access(self._path("ring.lock"), os.W_OK)
        self._epoch = Epoch(self._path("epoch"))
        self._guard = threading.RLock()
        self._generation = 0
        self._file: RingFile | None = None
        self._owner = os.getpid()
        self._closed = False
        self._failed = False
        self._settled = _UNSETTLED
        self._ids: dict[str, str] = {}
        self._entries: dict[str, Entry] = {}
        self._subjects: dict[str, Subject] = {}
        self._signer = Signer.parse(_read(self._path("signing.key")).decode("ascii", "replace"))

    @classmethod
    def open(
        cls,
        directory: files.PathLike,
        create: bool = False,
        *,
        read_only: bool = False,
        random: Callable[[int], bytes] = os.urandom,
        lock_timeout_s: float = 30.0,
    ) -> KeyRing:
        """Open the ring of a store; one path gives one shared object per process.

        Args:
            directory: The store's ``keys`` directory.
            create: Make it when absent.
            read_only: Refuse additions and destruction.
            random: Source of keys, ids and nonces.
            lock_timeout_s: Longest wait for another process.

        Raises:
            StoreNotFound: There is no ring and ``create`` is False.
            Denied: Group or others may read the directory or a file in it.
            FormatError: A file of the ring does not parse.
        """
        path = os.path.abspath(os.fspath(directory))
        if not os.path.exists(os.path.join(path, "current")):
            if not create or read_only:
                raise StoreNotFound(f"no keys in {path}: create the store first, or restore keys/ from its backup")
            _create(path, random, lock_timeout_s)
        _refuse_open_modes(path)
        make = functools.partial(cls, path, random, read_only=read_only, lock_timeout_s=lock_timeout_s)
        return _rings.open(path, read_only, make)

    def signer(self) -> Signer:
        """The node's signing key."""
        return self._signer

    def subject_for(self, name: str) -> str:
        """The surrogate id of a person's name, made at random on first use.

        Args:
            name: Any text up to 4,096 bytes; compared exactly.

        Returns:
            The id; the same until the subject is destroyed, then a new one.

        Raises:
            ReadOnly: The name is new and the ring is open for reading only.
        """
        if self._epoch.token() == self._settled:
            found = self._ids.get(name)
            if found is not None:
                return found
        return self._subject_slow(name)

    def find_subject(self, name: str) -> str | None:
        """The surrogate id of a person's name; None when there is none, and none is made."""
        with self._held() as ring:
            return ring.find(name)

    def subject_name(self, surrogate: str) -> str | None:
        """The name behind a surrogate id; None when it was destroyed or never existed."""
        entry = self._entry(surrogate)
        return entry.name if entry is not None and entry.kind == SUBJECT else None

    def subject_key(self, surrogate: str) -> bytes | None:
        """The 32-byte key of a subject; None when it was destroyed or never existed.

        Args:
            surrogate: The subject's id; joined by ``sealing.KEY_JOIN`` with ids of domains, the key that takes the
                subject's and all of theirs.
        """
        if sealing.KEY_JOIN in surrogate:
            first, *domains = surrogate.split(sealing.KEY_JOIN)
            keys = [self.subject_key(first), *map(self.domain_key_or_none, domains)]
            return None if None in keys else sealing.joint_key(key for key in keys if key is not None)
        entry = self._entry(surrogate)
        return entry.key if entry is not None and entry.kind == SUBJECT else None

    def domain_key_or_none(self, domain_id: str) -> bytes | None:
        """The key of a domain; None also where the ring never held it, which ``domain_key`` tells apart."""
        entry = self._entry(domain_id)
        return entry.key if entry is not None and entry.kind == DOMAIN else None

    def subject(self, name: str) -> Subject:
        """The id and key of a name together, made on first use, safe against a destruction in between.

        Raises:
            ReadOnly: The name is new and the ring is open for reading only.
        """
        if self._epoch.token() == self._settled:
            found = self._subjects.get(name)
            if found is not None:
                return found
        with self._held() as ring:
            entry = self._made(ring, name)
            subject = Subject(entry.id, entry.key)
            self._subjects[name] = subject
            return subject

    def new_domain_key(self) -> str:
        """Make a random key for a sealed bucket or any other key domain and return its id."""
        with self._held() as ring:
            entry = Entry(self._new_id("d"), DOMAIN, self._random(sealing.KEY_BYTES), "")
            self._add(ring, entry)
            return entry.id

    def domain_key(self, domain_id: str) -> bytes | None:
        """The 32-byte key of a domain; None when it was destroyed.

        Raises:
            IntegrityError: The ring never held it, so ``keys/`` is older than what the key sealed. That is no
                erasure: garbage collection must not take it for one.
        """
        entry = self._entry(domain_id)
        if entry is None:
            raise IntegrityError(
                f"{self._dir} has no key {domain_id!r} and none was destroyed: restore keys/ from its newest backup"
            )
        return entry.key if entry.kind == DOMAIN else None

    def subjects(self) -> list[tuple[str, str]]:
        """Every subject as (surrogate id, name), in order of id."""
        with self._held() as ring:
            return [(entry.id, entry.name) for entry in ring.entries() if entry.kind == SUBJECT]

    def domains(self) -> list[str]:
        """The id of every domain key, in order."""
        with self._held() as ring:
            return [entry.id for entry in ring.entries() if entry.kind == DOMAIN]

    def destroy(self, key_id: str) -> bool:
        """Destroy a subject's or a domain's key, and a subject's name, for good; see ``destroy_many``.

        Returns:
            True when it existed.
        """
        return self.destroy_many([key_id]) == 1

    def destroy_many(self, ids: Iterable[str]) -> int:
        """Destroy several keys with one re-wrapping of all others.

        When this returns, no byte of ``keys/`` holds any of the keys, the names or the key that wrapped them, and every
        other process finds them gone at its next call.

        Args:
            ids: Surrogate and domain ids; unknown ones are passed over.

        Returns:
            How many existed.

        Raises:
            StorageFailed: The operating system refused; the keys are all whole, or the next opening finishes the work.
        """
        doomed = set(ids)
        with self._held() as ring:
            if self._read_only:
                raise ReadOnly("this store is open for reading only: open it for writing to destroy a key")
            found = ((key_id, ring.get(key_id)) for key_id in doomed)
            known = {key_id for key_id, entry in found if entry is not None and entry.kind != DESTROYED}
            if known:
                self._rewrap(ring, known)
            return len(known)

    def verify(self) -> list[KeyFault]:
        """Check files, modes and every entry; changes nothing.

        Returns:
            What is wrong, empty when all is well.
        """
        faults = [KeyFault(path, why, f"chmod go-rwx {path}") for path, why in _open_modes(self._dir)]
        try:
            with self._held() as ring:
                known = {"signing.key", "current", "epoch", "ring.lock", *_generation_files(self._generation)}
                faults += [
                    KeyFault(self._path(name), "unknown file in keys/", "move it elsewhere")
                    for name in sorted(set(os.listdir(self._dir)) - known)
                    if not files.is_temporary(name)
                ]
                if not ring.is_whole():
                    where = ring_path(self._dir, self._generation)
                    faults.append(
                        KeyFault(where, "not all of its entries can be reached", "restore keys/ from its backup")
                    )
                for entry in ring.entries():
                    if entry.kind == SUBJECT and ring.find(entry.name) != entry.id:
                        faults.append(
                            KeyFault(
                                ring_path(self._dir, self._generation),
                                f"{entry.id} is not found by its name",
                                "restore keys/ from its backup",
                            )
                        )
        except KitError as exc:
            where = ring_path(self._dir, self._generation) if self._generation else self._dir
            faults.append(KeyFault(where, str(exc), "restore keys/ from its backup"))
        return faults

    def close(self) -> None:
        """Drop cached keys when the last opener closes; a second call by the same opener is an error of the caller."""
        _rings.release(self, self._really_close)

    def _really_close(self) -> None:
        with self._guard:
            self._closed = True
            self._forget()
            self._drop_file()
            self._lock.close()

    # -- reading through the caches

    def _entry(self, entry_id: str) -> Entry | None:
        if self._epoch.token() == self._settled:
            entry = self._entries.get(entry_id)
            if entry is not None:
                return entry
        if not entry_id.isascii() or not 0 < len(entry_id) <= 64:
            return None
        with self._held() as ring:
            entry = ring.get(entry_id)
            if entry is not None:
                self._remember(entry)
            return entry

    def _subject_slow(self, name: str) -> str:
        with self._held() as ring:
            found = ring.find(name)
            if found is None:
                return self._made(ring, name).id
            if len(self._ids) >= _CACHE_MAX:
                self._ids = {}
            self._ids[name] = found
            return found

    def _made(self, ring: RingFile, name: str) -> Entry:
        """The entry of a name, made when missing; the ring's lock is held."""
        found = ring.find(name)
        entry = ring.get(found) if found is not None else None
        if entry is None:
            if len(name.encode("utf-8", "surrogatepass")) > _NAME_BYTES_MAX:
                raise InvalidName(f"a subject's name has at most {_NAME_BYTES_MAX} bytes")
            entry = Entry(self._new_id("s"), SUBJECT, self._random(sealing.KEY_BYTES), name)
            self._add(ring, entry)
        self._remember(entry)
        return entry

    def _add(self, ring: RingFile, entry: Entry) -> None:
        if self._read_only:
            raise ReadOnly("this store is open for reading only: open it for writing to add a subject or a key")
        try:
            ring.add([entry])
        except StorageFailed:
            self._failed = True
            raise

    def _remember(self, entry: Entry) -> None:
        if len(self._entries) >= _CACHE_MAX:
            self._entries, self._ids, self._subjects = {}, {}, {}
        self._entries[entry.id] = entry
        if entry.kind == SUBJECT:
            self._ids[entry.name] = entry.id

    def _forget(self) -> None:
        self._settled = _UNSETTLED
        self._ids, self._entries, self._subjects = {}, {}, {}
        sealing.forget()

    def _new_id(self, kind: str) -> str:
        return kind + base64.b32encode(self._random(_ID_BYTES)).decode().lower()[:_ID_TEXT]

    # -- the file under the lock

    @contextlib.contextmanager
    def _held(self) -> Iterator[RingFile]:
        """The live generation under the ring's lock, with caches that match it."""
        with self._guard:
            if self._closed:
                raise InvalidInput("this key ring is closed: open it again")
            if self._failed:
                raise StorageFailed(f"an earlier write to {self._dir} failed: reopen the store", path=self._dir)
            if self._locked:
                self._lock.acquire(self._timeout_s)
            try:
                yield self._live()
            finally:
                if self._locked:
                    self._lock.release()

    def _live(self) -> RingFile:
        token = self._epoch.token()
        if self._file is not None and token == self._settled and self._owner == os.getpid():
            return self._file
        generation = _current(self._dir)
        if self._owner != os.getpid():
            # A forked child must not use its parent's mapping; it is dropped without being closed.
            self._file, self._owner = None, os.getpid()
        self._forget()
        if generation != self._generation or self._file is None:
            self._drop_file()
            self._file = self._open_file(generation)
            self._generation = generation
        if not self._read_only and (self._epoch.value() != 2 * generation or _leftovers(self._dir, generation)):
            self._settle(generation)
        if self._epoch.value() == 2 * generation:
            self._settled = self._epoch.token()
        return self._file

    def _open_file(self, generation: int, *, create: bool = False) -> RingFile:
        kek = _read(os.path.join(self._dir, f"kek-{generation}"))
        return RingFile(ring_path(self._dir, generation), kek, self._random, create=create, read_only=self._read_only)

    def _drop_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rewrap(self, ring: RingFile, doomed: set[str]) -> None:
        """Write generation N+1 without the doomed entries, make it live, wipe generation N; the lock is held."""
        old = self._generation
        try:
            self._forget()
            self._epoch.set(2 * old + 1)
            _new_generation(self._dir, old + 1, self._random, _without(ring.entries(), doomed))
            files.replace(self._path("current"), f"{old + 1}\n".encode(), mode=0o600)
            self._drop_file()
            self._settle(old + 1)
        except StorageFailed:
            self._failed = True
            raise
        self._generation = old + 1
        self._file = self._open_file(old + 1)
        self._settled = self._epoch.token()

    def _settle(self, generation: int) -> None:
        """Wipe what other generations left, then tell every process."""
        _wipe_leftovers(self._dir, generation)
        self._epoch.set(2 * generation)

    def _path(self, name: str) -> str:
        return os.path.join(self._dir, name)


_rings: Registry[KeyRing] = Registry(lambda ring: not ring._failed and not ring._closed)  # noqa: SLF001  same module


def ring_path(directory: str, generation: int) -> str:
    """The entry file of a generation."""
    return os.path.join(directory, f"ring-{generation}.mdb")


def _generation_files(generation: int) -> tuple[str, str]:
    return f"kek-{generation}", f"ring-{generation}.mdb"


def _create(directory: str, random: Callable[[int], bytes], lock_timeout_s: float) -> None:
    """Make a ring; ``current`` comes last, so a crash before it leaves nothing that counts."""
    files.make_dirs(directory, 0o700)
    lock_path = os.path.join(directory, "ring.lock")
    with contextlib.suppress(AlreadyExists):
        files.create_exclusive(lock_path, b"", mode=0o600)
    lock = FileLock(lock_path)
    lock.acquire(lock_timeout_s)
    try:
        if os.path.exists(os.path.join(directory, "current")):
            return
        _wipe_leftovers(directory, 0)
        files.sweep_temporaries(directory)
        signer = Signer(f"ipfs-kit/{random(6).hex()}", random(32))
        with contextlib.suppress(AlreadyExists):
            files.create_exclusive(os.path.join(directory, "signing.key"), signer.private_line().encode(), mode=0o600)
        Epoch.create(os.path.join(directory, "epoch"), 2)
        _new_generation(directory, 1, random, ())
        files.replace(os.path.join(directory, "current"), b"1\n", mode=0o600)
    finally:
        lock.close()


def _new_generation(directory: str, generation: int, random: Callable[[int], bytes], entries: Iterable[Entry]) -> None:
    _wipe_leftovers(directory, generation - 1)
    kek = random(sealing.KEY_BYTES)
    files.create_exclusive(os.path.join(directory, f"kek-{generation}"), kek, mode=0o600)
    made = RingFile(ring_path(directory, generation), kek, random, create=True)
    try:
        made.add(entries)
    finally:
        made.close()
    files.sync_dir(directory)


def _without(entries: Iterable[Entry], doomed: set[str]) -> Iterator[Entry]:
    """The entries of the next generation."""
    for entry in entries:
        if entry.id not in doomed:
            yield entry
        elif entry.kind == DOMAIN:
            yield Entry(entry.id, DESTROYED, bytes(sealing.KEY_BYTES), "")


def _leftovers(directory: str, generation: int) -> list[str]:
    """Files of generations that are not the live one, and interrupted replacements."""
    keep = _generation_files(generation)
    return [name for name in os.listdir(directory) if name not in keep and (name.startswith(("kek-", "ring-")))]


def _wipe_leftovers(directory: str, generation: int) -> None:
    """Overwrite and remove other generations; the key goes first, which already makes the entries unreadable."""
    for name in sorted(_leftovers(directory, generation)):
        path = os.path.join(directory, name)
        files.overwrite(path, b"\0")
        files.remove(path)
    files.sweep_temporaries(directory)


def _current(directory: str) -> int:
    text = _read(os.path.join(directory, "current")).strip()
    if not text.isdigit() or len(text) > 18:
        raise FormatError(f"{directory}/current is damaged: restore keys/ from its backup")
    return int(text)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise FormatError(f"{path} cannot be read ({exc.strerror}): restore keys/ from its backup") from exc


def _open_modes(directory: str) -> list[tuple[str, str]]:
    """Paths that group or others may use; the directory counts first, since it shields what is in it."""
    try:
        paths = [directory, *(os.path.join(directory, name) for name in sorted(os.listdir(directory)))]
        found = []
        for path in paths:
            mode = stat.S_IMODE(os.stat(path).st_mode)
            if mode & 0o077:
                found.append((path, f"mode {mode:04o} lets others use it"))
        return found
    except OSError as exc:
        raise Denied(f"{directory} cannot be examined: {exc}") from exc


def _refuse_open_modes(directory: str) -> None:
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    if mode & 0o077:
        raise Denied(f"{directory} has mode {mode:04o}, so others may read the keys: chmod 700 {directory}")
