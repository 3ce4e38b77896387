"""Digests by multihash code (multiformats/multihash)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from ipfs_kit.errors import InvalidInput, Unsupported
from ipfs_kit.ipld import codecs


def _blake3(data: bytes) -> bytes:
    # Imported at use: most stores hold sha2-256 only.
    from blake3 import blake3

    return blake3(data).digest()


_DIGESTS: Final[dict[int, Callable[[bytes], bytes]]] = {
    codecs.IDENTITY: bytes,
    # Broken for new content, but git objects are addressed with it and must stay verifiable.
    codecs.SHA1: lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    codecs.SHA2_256: lambda data: hashlib.sha256(data).digest(),
    codecs.SHA2_384: lambda data: hashlib.sha384(data).digest(),
    codecs.SHA2_512: lambda data: hashlib.sha512(data).digest(),
    codecs.SHA3_224: lambda data: hashlib.sha3_224(data).digest(),
    codecs.SHA3_256: lambda data: hashlib.sha3_256(data).digest(),
    codecs.SHA3_384: lambda data: hashlib.sha3_384(data).digest(),
    codecs.SHA3_512: lambda data: hashlib.sha3_512(data).digest(),
    codecs.DBL_SHA2_256: lambda data: hashlib.sha256(hashlib.sha256(data).digest()).digest(),
    codecs.BLAKE3: _blake3,
    codecs.BLAKE2B_256: lambda data: hashlib.blake2b(data, digest_size=32).digest(),
    codecs.BLAKE2B_512: lambda data: hashlib.blake2b(data, digest_size=64).digest(),
    codecs.BLAKE2S_256: lambda data: hashlib.blake2s(data, digest_size=32).digest(),
}


def can_digest(code: int) -> bool:
    """Return whether blocks under this hash function can be verified here."""
    return code in _DIGESTS


def digest(code: int, data: bytes) -> bytes:
    """Return the digest of ``data``.

    Raises:
        Unsupported: This build cannot compute the hash function.
    """
    try:
        function = _DIGESTS[code]
    except KeyError as exc:
        raise Unsupported(
            f"cannot compute {codecs.hash_name(code)} digests: re-add the content with sha2-256 or blake3"
        ) from exc
    return function(data)


def digest_new(code: int, data: bytes) -> bytes:
    """Return the digest under which *new* content may be addressed.

    Raises:
        InvalidInput: The hash function no longer resists collisions.
        Unsupported: This build cannot compute the hash function.
    """
    if code == codecs.SHA1:
        raise InvalidInput("sha1 collisions are practical: address new content with sha2-256 or blake3")
    return digest(code, data)
