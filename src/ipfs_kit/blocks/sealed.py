"""Blocks encrypted under a key domain, addressed by their ciphertext (decision 19).

A sealed block is ``nonce (12) || ciphertext || tag (16)``; its CID is over these bytes, with a codec of the private
use area that says how to read the plaintext (``ipld.codecs.SEALED_*``). Links inside a plaintext node name sealed CIDs,
so a root, a ref and the ledger hold addresses that tell nothing, any holder can verify the bytes, and only the key
opens them. Keys are derived from the domain's key with HKDF (RFC 5869, SHA-256)::

    PRK = HKDF-Extract("ipfs-kit/sealed-block/1", domain key)
    nonce = BLAKE3 keyed with HKDF-Expand(PRK, "nonce") of (codec as 4 bytes || plaintext), first 12 bytes
    block = AES-256-GCM(HKDF-Expand(PRK, "block"), nonce, plaintext, AAD = codec as 4 bytes)

Sealing is deterministic inside a domain, so equal content is stored once there and a root stays a pure function of its
entries. The nonce is a keyed pseudorandom function of all that is encrypted (a synthetic nonce, as in RFC 8452): two
different plaintexts share one with probability q² / 2^97 after q blocks, 2^-33 at four billion. BLAKE3 in keyed mode is
that function because it costs 0.2 ms a MiB against 0.7 for HMAC-SHA256; AES-GCM-SIV would take 2.8 ms. Whoever lacks
the key sees the length of each block and whether two blocks of one domain are equal, nothing across domains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ipfs_kit.blocks._base import BlockStore, Properties, block_not_found
from ipfs_kit.errors import Expired, IntegrityError, InvalidInput
from ipfs_kit.ipld import links as ipld_links
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import codec_name, plain_codec, sealed_codec
from ipfs_kit.keys.sealing import KEY_BYTES, hkdf_expand, hkdf_extract

OVERHEAD_BYTES: Final = 28
_NONCE_BYTES: Final = 12

KeySource = Callable[[], bytes | None]
"""Gives the domain's key, or None once it was destroyed; ``functools.partial(ring.domain_key, domain)``."""


class BlockCipher:
    """Seals and opens the blocks of one domain.

    Args:
        key: The domain's key, 32 bytes.
    """

    __slots__ = ("_cipher", "_nonce_key")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"a domain key has {KEY_BYTES} bytes, not {len(key)}")
        prk = hkdf_extract(b"ipfs-kit/sealed-block/1", key)
        self._cipher = AESGCM(hkdf_expand(prk, b"block"))
        self._nonce_key = hkdf_expand(prk, b"nonce")

    def seal(self, data: bytes, codec: int) -> tuple[CID, bytes]:
        """Encrypt a block.

        Args:
            data: The plaintext.
            codec: How to read it; a plain content codec.

        Returns:
            The sealed CID and the sealed bytes.

        Raises:
            InvalidInput: Blocks of this codec cannot be sealed.
        """
        outer = sealed_codec(codec)
        if outer is None:
            raise InvalidInput(f"{codec_name(codec)} blocks cannot be sealed: use raw, dag-pb, dag-cbor or dag-json")
        aad = outer.to_bytes(4, "big")
        hasher = blake3(aad, key=self._nonce_key)
        hasher.update(data)
        nonce = hasher.digest()[:_NONCE_BYTES]
        sealed = nonce + self._cipher.encrypt(nonce, data, aad)
        return CID.of(sealed, outer), sealed

    def open(self, cid: CID, sealed: bytes) -> bytes:
        """Decrypt a block.

        Raises:
            IntegrityError: The bytes or the key are others.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], cid.codec.to_bytes(4, "big"))
        except (InvalidTag, ValueError, OverflowError) as exc:
            raise IntegrityError(f"sealed block {cid} does not open under its domain's key: run verify") from exc


class SealedStore(BlockStore):
    """The blocks of one key domain: plaintext inside, ciphertext in the store beneath.

    Addresses are sealed CIDs throughout. Builders hand ``link`` the CID they computed and link to the one it returns.

    Args:
        inner: Where the ciphertext lives, normally ``PackStore.domain(id)``.
        key: The domain's key, or a source asked at every call, so that a destruction elsewhere takes effect at once.
    """

    def __init__(self, inner: BlockStore, key: bytes | KeySource) -> None:
        self._inner = inner
        self._source: KeySource | None = None if isinstance(key, bytes) else key
        self._key: bytes | None = key if isinstance(key, bytes) else None
        self._ready: BlockCipher | None = BlockCipher(key) if isinstance(key, bytes) else None

    @property
    def properties(self) -> Properties:
        """See ``BlockStore.properties``."""
        inner = self._inner.properties
        return Properties(
            f"sealed {inner.name}", inner.durable, inner.shared, inner.writable, inner.deletes, inner.lists
        )

    def address(self, cid: CID, data: bytes) -> CID:
        """The sealed CID of a block, without storing it.

        Args:
            cid: Its plain CID, of which only the codec counts, or a sealed one, which is returned as it is.
            data: The plaintext.
        """
        return cid if is_sealed(cid) else self._cipher().seal(data, cid.codec)[0]

    def seal_block(self, data: bytes, codec: int) -> CID:
        """Store a plaintext block of a plain codec and return the CID to link to."""
        cid, sealed = self._cipher().seal(data, codec)
        self._inner.put(cid, sealed, verify=False)
        return cid

    def link(self, cid: CID, data: bytes) -> CID:
        """Store a plaintext block under the plain CID a builder computed and return the CID to link to; a ``Put``."""
        return self.seal_block(data, plain_codec(cid.codec))

    def get(self, cid: CID) -> bytes:
        """Return a block's plaintext.

        Raises:
            Expired: The domain's key was destroyed.
            BlockNotFound: The store does not have it, or the CID is not a sealed one.
            IntegrityError: The stored bytes are others, or sealed under another key.
        """
        if cid.is_identity:
            return cid.digest
        cipher = self._cipher()
        if not is_sealed(cid):
            raise block_not_found(cid)
        return cipher.open(cid, self._inner.get(cid))

    def get_many(self, cids: Iterable[CID]) -> Iterator[tuple[CID, bytes]]:
        """See ``BlockStore.get_many``."""
        cipher = self._cipher()
        for cid, sealed in self._inner.get_many(_only_sealed(cids)):
            yield cid, cipher.open(cid, sealed)

    def has(self, cid: CID) -> bool:
        """See ``BlockStore.has``."""
        return cid.is_identity or (is_sealed(cid) and self._inner.has(cid))

    def has_many(self, cids: Iterable[CID]) -> list[bool]:
        """See ``BlockStore.has_many``."""
        wanted = list(cids)
        found = iter(self._inner.has_many([cid for cid in wanted if is_sealed(cid)]))
        return [next(found) if is_sealed(cid) else cid.is_identity for cid in wanted]

    def size(self, cid: CID) -> int:
        """The plaintext's length; see ``BlockStore.size``."""
        if cid.is_identity:
            return len(cid.digest)
        if not is_sealed(cid):
            raise block_not_found(cid)
        return self._inner.size(cid) - OVERHEAD_BYTES

    def put(self, cid: CID, data: bytes, *, verify: bool = True) -> bool:
        """Store a plaintext block under its sealed CID, as ``address`` gave it.

        Raises:
            InvalidInput: The CID is not a sealed one: use ``link``, which returns the CID to link to.
            IntegrityError: This plaintext has another sealed CID.
        """
        if cid.is_identity:
            return False
        sealed_cid, sealed = self._sealed(cid, data)
        return self._inner.put(sealed_cid, sealed, verify=False)

    def put_many(self, items: Iterable[tuple[CID, bytes]], *, verify: bool = True) -> int:
        """See ``put``."""
        return self._inner.put_many((self._sealed(c, data) for c, data in items if not c.is_identity), verify=False)

    def delete(self, cid: CID) -> bool:
        """See ``BlockStore.delete``."""
        return is_sealed(cid) and self._inner.delete(cid)

    def cids(self) -> Iterator[CID]:
        """Yield every sealed CID of the store beneath; some may belong to other domains and not open here."""
        return _only_sealed(self._inner.cids())

    def sync(self) -> None:
        """See ``BlockStore.sync``."""
        self._inner.sync()

    def close(self) -> None:
        """Forget the key; the store beneath is closed by whoever opened it."""
        self._key = self._ready = None

    def _sealed(self, cid: CID, data: bytes) -> tuple[CID, bytes]:
        if not is_sealed(cid):
            raise InvalidInput(f"{cid} is not a sealed address: store the block with link(), which returns one")
        sealed_cid, sealed = self._cipher().seal(bytes(data), plain_codec(cid.codec))
        if sealed_cid != cid:
            raise IntegrityError(f"these bytes do not seal to {cid}: they or the domain's key are others")
        return sealed_cid, sealed

    def _cipher(self) -> BlockCipher:
        if self._source is not None:
            key = self._source()
            if key != self._key or key is None:
                self._key = key
                self._ready = None if key is None else BlockCipher(key)
        if self._ready is None:
            raise Expired("the key of this sealed content was destroyed or let go; it cannot be read any more")
        return self._ready


def is_sealed(cid: CID) -> bool:
    """Whether a CID addresses a sealed block."""
    codec = cid.codec
    return plain_codec(codec) != codec


def links_of(key_of: Callable[[str], bytes | None]) -> Callable[[CID, bytes, str | None], list[CID]]:
    """How garbage collection and verification find the children of stored blocks, sealed ones through their key.

    Args:
        key_of: The key of a domain, or None once it was destroyed: ``KeyRing.domain_key``.

    Returns:
        A function of CID, stored bytes and key domain; it raises ``Expired`` for a block whose key is gone.
    """
    ciphers: dict[str, tuple[bytes, BlockCipher]] = {}

    def links(cid: CID, data: bytes, domain: str | None) -> list[CID]:
        if not is_sealed(cid):
            return ipld_links.links(cid, data)
        key = key_of(domain) if domain is not None else None
        if key is None or domain is None:
            raise Expired(f"the key of sealed block {cid} was destroyed")
        known = ciphers.get(domain)
        if known is None or known[0] != key:
            if len(ciphers) >= _CIPHERS_MAX:
                ciphers.clear()
            known = ciphers[domain] = (key, BlockCipher(key))
        return ipld_links.links(cid, known[1].open(cid, data))

    return links


_CIPHERS_MAX: Final = 1024


def _only_sealed(cids: Iterable[CID]) -> Iterator[CID]:
    return (cid for cid in cids if is_sealed(cid))
