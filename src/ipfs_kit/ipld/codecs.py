"""Multicodec numbers this library knows, with their registered names (multiformats/multicodec table.csv)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from ipfs_kit.errors import InvalidInput

# Content codecs.
RAW: Final = 0x55
DAG_PB: Final = 0x70
DAG_CBOR: Final = 0x71
LIBP2P_KEY: Final = 0x72
GIT_RAW: Final = 0x78
DAG_JOSE: Final = 0x85
DAG_JSON: Final = 0x0129
CBOR: Final = 0x51
JSON: Final = 0x0200
CAR: Final = 0x0202

# Blocks encrypted under a key domain (multicodec's private use area); the address is of the ciphertext, and the number
# says how to read the plaintext that the domain's store returns for it.
SEALED_RAW: Final = 0x300000
SEALED_DAG_PB: Final = 0x300001
SEALED_DAG_CBOR: Final = 0x300002
SEALED_DAG_JSON: Final = 0x300003

# Hash functions.
IDENTITY: Final = 0x00
SHA1: Final = 0x11
SHA2_256: Final = 0x12
SHA2_512: Final = 0x13
SHA3_512: Final = 0x14
SHA3_384: Final = 0x15
SHA3_256: Final = 0x16
SHA3_224: Final = 0x17
KECCAK_256: Final = 0x1B
BLAKE3: Final = 0x1E
SHA2_384: Final = 0x20
DBL_SHA2_256: Final = 0x56
MURMUR3_X64_64: Final = 0x22
BLAKE2B_256: Final = 0xB220
BLAKE2B_512: Final = 0xB240
BLAKE2S_256: Final = 0xB260

# CARv2 index formats.
CAR_INDEX_SORTED: Final = 0x0400
CAR_MULTIHASH_INDEX_SORTED: Final = 0x0401

CODEC_NAMES: Final = MappingProxyType(
    {
        RAW: "raw",
        DAG_PB: "dag-pb",
        DAG_CBOR: "dag-cbor",
        LIBP2P_KEY: "libp2p-key",
        GIT_RAW: "git-raw",
        DAG_JOSE: "dag-jose",
        DAG_JSON: "dag-json",
        CBOR: "cbor",
        JSON: "json",
        CAR: "car",
    }
)

HASH_NAMES: Final = MappingProxyType(
    {
        IDENTITY: "identity",
        SHA1: "sha1",
        SHA2_256: "sha2-256",
        SHA2_384: "sha2-384",
        SHA2_512: "sha2-512",
        SHA3_224: "sha3-224",
        SHA3_256: "sha3-256",
        SHA3_384: "sha3-384",
        SHA3_512: "sha3-512",
        KECCAK_256: "keccak-256",
        MURMUR3_X64_64: "murmur3-x64-64",
        DBL_SHA2_256: "dbl-sha2-256",
        BLAKE3: "blake3",
        BLAKE2B_256: "blake2b-256",
        BLAKE2B_512: "blake2b-512",
        BLAKE2S_256: "blake2s-256",
    }
)

# The one digest length in bytes accepted for each known hash; truncated digests are refused because a short
# digest weakens the address without saying so.
DIGEST_SIZES: Final = MappingProxyType(
    {
        SHA1: 20,
        SHA2_256: 32,
        SHA2_384: 48,
        SHA2_512: 64,
        SHA3_224: 28,
        SHA3_256: 32,
        SHA3_384: 48,
        SHA3_512: 64,
        KECCAK_256: 32,
        MURMUR3_X64_64: 8,
        DBL_SHA2_256: 32,
        BLAKE3: 32,
        BLAKE2B_256: 32,
        BLAKE2B_512: 64,
        BLAKE2S_256: 32,
    }
)


_PLAIN: Final = MappingProxyType(
    {SEALED_RAW: RAW, SEALED_DAG_PB: DAG_PB, SEALED_DAG_CBOR: DAG_CBOR, SEALED_DAG_JSON: DAG_JSON}
)
_SEALED: Final = MappingProxyType({plain: sealed for sealed, plain in _PLAIN.items()})


def plain_codec(code: int) -> int:
    """Return how to read the bytes a store gives for a CID: the inner codec of a sealed one, else the codec itself."""
    return _PLAIN.get(code, code)


def sealed_codec(code: int) -> int | None:
    """Return the sealed codec that stands for a content codec, or None when blocks of it cannot be sealed."""
    return _SEALED.get(code)


def codec_name(code: int) -> str:
    """Return the registered name of a content codec, or its number in hex when unknown."""
    return CODEC_NAMES.get(code) or hex(code)


def hash_name(code: int) -> str:
    """Return the registered name of a hash function, or its number in hex when unknown."""
    return HASH_NAMES.get(code) or hex(code)


def codec_code(name: str) -> int:
    """Return the number of a content codec.

    Args:
        name: Registered name such as ``dag-cbor``, or a hex number such as ``0x71``.

    Raises:
        InvalidInput: The name is neither.
    """
    return _code(name, CODEC_NAMES, "codec")


def hash_code(name: str) -> int:
    """Return the number of a hash function.

    Args:
        name: Registered name such as ``sha2-256``, or a hex number such as ``0x12``.

    Raises:
        InvalidInput: The name is neither.
    """
    return _code(name, HASH_NAMES, "hash function")


def _code(name: str, names: MappingProxyType[int, str], what: str) -> int:
    for code, known in names.items():
        if known == name:
            return code
    digits = name[2:]
    if name.startswith("0x") and 0 < len(digits) <= 16 and all(c in "0123456789abcdefABCDEF" for c in digits):
        return int(digits, 16)
    raise InvalidInput(f"unknown {what} {name!r}: use one of {', '.join(sorted(names.values()))}, or a number as 0x…")
