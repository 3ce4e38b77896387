"""One generation of the key ring: an LMDB file whose every value is encrypted under that generation's own key.

Entries are ``b"i" + id -> wrap(kind || key || name)`` and ``b"n" + HMAC(lookup key, name)[:16] -> wrap(id)``, where
``wrap`` is AES-256-GCM under a key derived from the generation's KEK, with a random 96-bit nonce (NIST SP 800-38D
allows 2^32 of them) and the entry's own LMDB key as associated data, so entries cannot be exchanged. Without the KEK
nothing in the file can be read or linked to a name. The caller holds the ring's lock around every call: LMDB's own
locking is off.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import lmdb
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ipfs_kit.durable import faults
from ipfs_kit.durable.shared import Registry
from ipfs_kit.errors import FormatError, IntegrityError, NoSpace, ReadOnly, StorageFailed
from ipfs_kit.keys.sealing import KEY_BYTES, hkdf_expand, hkdf_extract

SUBJECT: Final = b"s"
DOMAIN: Final = b"d"
DESTROYED: Final = b"x"
"""What is left of a domain whose key was destroyed on purpose: its id, so that a key lost with a file is told apart."""
# Address space, not disk: about ten million entries.
_MAP_BYTES: Final = 4 << 30
_NONCE_BYTES: Final = 12
_TAG_BYTES_OF_NAME: Final = 16


def _open(path: str, *, create: bool = False) -> lmdb.Environment:
    return lmdb.open(
        path,
        map_size=_MAP_BYTES,
        subdir=False,
        readonly=not create and not os.access(path, os.W_OK),
        create=create,
        mode=0o600,
        lock=False,
        readahead=False,
        max_dbs=0,
    )


_environments: Registry[lmdb.Environment] = Registry(lambda env: True, lmdb.Environment.close)


class Entry(NamedTuple):
    """One key: a subject's, with its name, or a domain's, without; zeros for a destroyed domain."""

    id: str
    kind: bytes
    key: bytes
    name: str


class RingFile:
    """Reads and adds entries of one generation.

    Args:
        path: The LMDB file.
        kek: The generation's key-encryption key, 32 bytes.
        random: Source of nonces.
        create: Make the file when absent.
        read_only: Refuse additions.
    """

    def __init__(
        self, path: str, kek: bytes, random: Callable[[int], bytes], *, create: bool = False, read_only: bool = False
    ) -> None:
        if len(kek) != KEY_BYTES:
            raise FormatError(f"the key-encryption key of {path} has {len(kek)} bytes: restore keys/ from its backup")
        prk = hkdf_extract(b"ipfs-kit/key-ring/1", kek)
        self._wrapper = AESGCM(hkdf_expand(prk, b"wrap"))
        self._lookup = hkdf_expand(prk, b"lookup")
        self._random = random
        self._path = path
        self._read_only = read_only
        self._shared = not create
        with self._translated("open"):
            if not create and os.stat(path).st_size == 0:
                # LMDB would take an emptied file for a new one, and every key in it for destroyed.
                raise FormatError(f"{path} is empty: restore keys/ from its backup")
            # LMDB forbids opening a file twice in one process, so a readable and a writable ring share the mapping.
            self._env = _open(path, create=True) if create else _environments.open(path, (), lambda: _open(path))

    def find(self, name: str) -> str | None:
        """The id of a subject's name."""
        tag = self._tag(name)
        with self._translated("read"), self._env.begin() as txn:
            wrapped = txn.get(tag)
        return None if wrapped is None else self._unwrap(tag, wrapped).decode()

    def get(self, entry_id: str) -> Entry | None:
        """The entry of an id."""
        slot = b"i" + entry_id.encode()
        with self._translated("read"), self._env.begin() as txn:
            wrapped = txn.get(slot)
        return None if wrapped is None else self._entry(slot, wrapped)

    def entries(self) -> Iterator[Entry]:
        """Every entry, in order of id."""
        with self._translated("read"), self._env.begin() as txn, txn.cursor() as cursor:
            if not cursor.set_range(b"i"):
                return
            for slot, wrapped in cursor:
                if not slot.startswith(b"i"):
                    return
                yield self._entry(slot, wrapped)

    def is_whole(self) -> bool:
        """Whether every entry that the file says it has can be reached, in order, and opens.

        A damaged page may hide entries without a word, and a hidden key looks like a destroyed one.

        Raises:
            IntegrityError: An entry does not open.
        """
        count, before = 0, b""
        with self._translated("read"), self._env.begin() as txn, txn.cursor() as cursor:
            for slot, wrapped in cursor:
                if slot <= before or slot[:1] not in (b"i", b"n"):
                    return False
                self._unwrap(slot, wrapped)
                count, before = count + 1, slot
            return count == txn.stat()["entries"]

    def add(self, entries: Iterable[Entry]) -> int:
        """Add entries in one durable transaction and return how many.

        Raises:
            StorageFailed: The operating system refused.
        """
        if self._read_only:
            raise ReadOnly(f"{self._path} is open for reading only")
        count = 0
        with self._translated("write"), self._env.begin(write=True) as txn:
            for entry in entries:
                slot = b"i" + entry.id.encode()
                txn.put(slot, self._wrap(slot, entry.kind + entry.key + entry.name.encode("utf-8", "surrogatepass")))
                if entry.kind == SUBJECT:
                    tag = self._tag(entry.name)
                    txn.put(tag, self._wrap(tag, entry.id.encode()))
                count += 1
            if faults.hook is not None:
                faults.hook("lmdb-commit", self._path)
        return count

    def close(self) -> None:
        """Let go of the mapping; the last holder in this process unmaps the file."""
        if self._shared:
            _environments.release(self._env, self._env.close)
        else:
            self._env.close()

    def _tag(self, name: str) -> bytes:
        raw = name.encode("utf-8", "surrogatepass")
        return b"n" + hmac.digest(self._lookup, raw, "sha256")[:_TAG_BYTES_OF_NAME]

    def _wrap(self, slot: bytes, payload: bytes) -> bytes:
        nonce = self._random(_NONCE_BYTES)
        return nonce + self._wrapper.encrypt(nonce, payload, slot)

    def _unwrap(self, slot: bytes, wrapped: bytes) -> bytes:
        try:
            return self._wrapper.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], slot)
        except (InvalidTag, ValueError) as exc:
            raise IntegrityError(f"an entry of {self._path} is damaged: restore keys/ from its backup") from exc

    def _entry(self, slot: bytes, wrapped: bytes) -> Entry:
        payload = self._unwrap(slot, wrapped)
        if len(payload) <= KEY_BYTES:
            raise FormatError(f"an entry of {self._path} is too short: restore keys/ from its backup")
        name = payload[1 + KEY_BYTES :].decode("utf-8", "surrogatepass")
        return Entry(slot[1:].decode(), payload[:1], payload[1 : 1 + KEY_BYTES], name)

    @contextlib.contextmanager
    def _translated(self, action: str) -> Iterator[None]:
        try:
            yield
        except (lmdb.InvalidError, lmdb.CorruptedError, lmdb.VersionMismatchError, lmdb.PageNotFoundError) as exc:
            raise FormatError(f"{self._path} is no key ring file: restore keys/ from its backup ({exc})") from exc
        except (lmdb.Error, OSError) as exc:
            full = os.strerror(errno.ENOSPC) in str(exc) or os.strerror(errno.EDQUOT) in str(exc)
            kind = NoSpace if full else StorageFailed
            raise kind(
                f"cannot {action} {self._path}: {exc}; check disk and permissions, then reopen the store",
                path=self._path,
                operation=action,
            ) from exc
