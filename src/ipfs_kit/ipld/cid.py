"""Content identifiers (multiformats/cid): the address of a block, as bytes and as text."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final, NoReturn, SupportsBytes, cast

import cbrrr

from ipfs_kit.errors import IntegrityError, InvalidCid, InvalidInput, KitError
from ipfs_kit.ipld import multibase, varint
from ipfs_kit.ipld.budgets import DEFAULT
from ipfs_kit.ipld.codecs import (
    BLAKE3,
    DAG_CBOR,
    DAG_JSON,
    DAG_PB,
    DIGEST_SIZES,
    IDENTITY,
    RAW,
    SHA2_256,
    codec_name,
    hash_name,
)
from ipfs_kit.ipld.multihash import digest as compute_digest
from ipfs_kit.ipld.multihash import digest_new

# (version, codec, hash code, index of the digest, index of the multihash) of the common 36-byte forms, by their first
# four bytes. A valid CIDv1 starting with one of these is 36 bytes long; CIDv0 starts 12 20 and never matches.
_KNOWN: Final[dict[bytes, tuple[int, int, int, int, int]]] = {
    bytes((1, codec, hash_code, 32)): (1, codec, hash_code, 4, 2)
    for codec in (RAW, DAG_PB, DAG_CBOR)
    for hash_code in (SHA2_256, BLAKE3)
}
_KNOWN_PREFIXES: Final = tuple(_KNOWN)
_V0_PREFIX: Final = b"\x12\x20"
_V0_FIELDS: Final = (0, DAG_PB, SHA2_256, 2, 0)
_V1_SHA2_256: Final = {
    RAW: bytes((1, RAW, SHA2_256, 32)),
    DAG_PB: bytes((1, DAG_PB, SHA2_256, 32)),
    DAG_CBOR: bytes((1, DAG_CBOR, SHA2_256, 32)),
    DAG_JSON: b"\x01" + varint.encode(DAG_JSON) + bytes((SHA2_256, 32)),
}

# A dag-cbor link header: tag 42, 37-byte string, identity multibase. See ``_base32``.
_LINK_HEAD: Final = b"\xd8\x2a\x58\x25\x00"


def _base32(binary: bytes) -> str:
    """Return base32 text of a CID; cbrrr's C routine is 15x faster than base64.b32encode for the common length."""
    if len(binary) == 36:
        return cast(dict[str, str], cbrrr.decode_dag_cbor(_LINK_HEAD + binary, True))["$link"]
    return multibase.encode("base32", binary)


class CID:
    """An immutable content identifier, equal and ordered by its binary form.

    Args:
        binary: Binary CID, version 0 or 1.

    Raises:
        InvalidCid: The bytes are not exactly one valid CID.
    """

    __slots__ = ("__weakref__", "binary")

    binary: bytes
    """The binary form: 36 bytes for version 1 with sha2-256, 34 for version 0."""

    def __init__(self, binary: bytes) -> None:
        if type(binary) is not bytes:
            binary = _as_bytes(binary)
        # The common forms need no parsing: the prefix fixes version, codec, hash and digest length.
        if len(binary) != 36 or not binary.startswith(_KNOWN_PREFIXES):
            _fields(binary)
        _set_binary(self, binary)

    @classmethod
    def parse(cls, text: str) -> CID:
        """Read a textual CID.

        Args:
            text: CIDv0 (46 characters of base58btc) or CIDv1 in a supported multibase; no ``/ipfs/`` prefix.

        Raises:
            InvalidCid: The text is not exactly one valid CID in canonical form.
        """
        if len(text) == 46 and text.startswith("Qm"):
            return cls(_decode_v0(text))
        if len(text) > DEFAULT.cid_text_chars:
            raise InvalidCid(f"a CID of {len(text)} characters is longer than {DEFAULT.cid_text_chars}")
        try:
            _, binary = multibase.decode(text)
        except InvalidInput as exc:
            raise InvalidCid(_advice(text, exc.message)) from exc
        if binary[:1] == b"\x12":
            raise InvalidCid(f"{text!r} wraps a version 0 CID in a multibase prefix, which the specification forbids")
        return cls(binary)

    @classmethod
    def of(cls, data: bytes, codec: int = RAW, hash_code: int = SHA2_256, version: int = 1) -> CID:
        """Return the address of a block.

        Args:
            data: The block.
            codec: Content codec number.
            hash_code: Hash function number.
            version: 1, or 0 for dag-pb with sha2-256.

        Raises:
            InvalidInput: The combination is not a CID, or an identity digest would be too long.
            Unsupported: The hash function cannot be computed here.
        """
        if hash_code == SHA2_256 and version == 1:
            prefix = _V1_SHA2_256.get(codec)
            if prefix is not None:
                return _trusted(prefix + sha256(data).digest())
        if hash_code == IDENTITY and len(data) > DEFAULT.identity_bytes:
            raise InvalidCid(f"an identity CID holds at most {DEFAULT.identity_bytes} bytes, not {len(data)}")
        return cls.from_digest(digest_new(hash_code, data), codec, hash_code, version)

    @classmethod
    def from_digest(cls, digest: bytes, codec: int = RAW, hash_code: int = SHA2_256, version: int = 1) -> CID:
        """Return the CID made of these parts.

        Raises:
            InvalidCid: The parts do not make a valid CID.
        """
        if version == 0:
            if codec != DAG_PB or hash_code != SHA2_256:
                raise InvalidCid("a version 0 CID is dag-pb with sha2-256: use version 1 for anything else")
            return cls(_V0_PREFIX + digest)
        if version != 1:
            raise InvalidCid(f"CID version {version} does not exist: use 1 or 0")
        try:
            head = varint.encode(codec) + varint.encode(hash_code) + varint.encode(len(digest))
        except InvalidInput as exc:
            raise InvalidCid(f"codec {codec} or hash code {hash_code} is out of range") from exc
        return cls(b"\x01" + head + digest)

    @property
    def version(self) -> int:
        """0 or 1."""
        return _fields(self.binary)[0]

    @property
    def codec(self) -> int:
        """Content codec number."""
        binary = self.binary
        return (_KNOWN.get(binary[:4]) or _fields(binary))[1]

    @property
    def hash_code(self) -> int:
        """Hash function number."""
        return _fields(self.binary)[2]

    @property
    def digest(self) -> bytes:
        """The bare digest; the inlined data itself when the hash function is identity."""
        binary = self.binary
        return binary[(_KNOWN.get(binary[:4]) or _fields(binary))[3] :]

    @property
    def multihash(self) -> bytes:
        """Hash code, digest length and digest."""
        binary = self.binary
        return binary[(_KNOWN.get(binary[:4]) or _fields(binary))[4] :]

    @property
    def is_identity(self) -> bool:
        """Whether the CID carries its block in itself."""
        return self.hash_code == IDENTITY

    def encode(self, base: str | None = None) -> str:
        """Return the textual form.

        Args:
            base: A multibase name; by default base32 for version 1 and bare base58btc for version 0.

        Raises:
            InvalidCid: The CID has version 0 and another base was asked for; use ``to_v1()`` first.
            InvalidInput: The base is not supported.
        """
        binary = self.binary
        if binary[0] == 1:
            return _base32(binary) if base is None or base == "base32" else multibase.encode(base, binary)
        if base is not None and base != "base58btc":
            raise InvalidCid(f"a version 0 CID has no {base} form: convert it with to_v1() first")
        return multibase.encode_base58btc(binary)

    def check(self, data: bytes) -> None:
        """Verify a block against this address.

        Raises:
            IntegrityError: ``data`` does not hash to the CID.
            Unsupported: The hash function cannot be computed here.
        """
        binary = self.binary
        fields = _KNOWN.get(binary[:4]) or _fields(binary)
        hash_code = fields[2]
        found = sha256(data).digest() if hash_code == SHA2_256 else compute_digest(hash_code, data)
        if found != binary[fields[3] :]:
            raise IntegrityError(
                f"block of {len(data)} bytes does not match its CID {self}: fetch it again or run verify",
                cid=str(self),
                found=found[:64].hex(),
            )

    def to_v1(self) -> CID:
        """Return the version 1 form; the CID itself when it already has it."""
        return self if self.binary[0] == 1 else _trusted(b"\x01\x70" + self.binary)

    def to_v0(self) -> CID:
        """Return the version 0 form.

        Raises:
            InvalidCid: The CID is not dag-pb with sha2-256.
        """
        return self if self.binary[0] != 1 else CID.from_digest(self.digest, self.codec, self.hash_code, 0)

    def describe(self) -> str:
        """Return version, codec, hash and digest in words, for people."""
        version, codec, hash_code, at, _ = _fields(self.binary)
        return f"CIDv{version} {codec_name(codec)} {hash_name(hash_code)} {self.binary[at:].hex()}"

    def __bytes__(self) -> bytes:
        return self.binary

    def __str__(self) -> str:
        return self.encode()

    def __repr__(self) -> str:
        return f"CID({self.encode()!r})"

    def __hash__(self) -> int:
        return hash(self.binary)

    def __eq__(self, other: object) -> bool:
        return self.binary == other.binary if type(other) is CID else NotImplemented

    def __lt__(self, other: object) -> bool:
        return self.binary < other.binary if type(other) is CID else NotImplemented

    def __le__(self, other: object) -> bool:
        return self.binary <= other.binary if type(other) is CID else NotImplemented

    def __gt__(self, other: object) -> bool:
        return self.binary > other.binary if type(other) is CID else NotImplemented

    def __ge__(self, other: object) -> bool:
        return self.binary >= other.binary if type(other) is CID else NotImplemented

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a CID is immutable: make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a CID is immutable: make another one")

    def __reduce__(self) -> tuple[type[CID], tuple[bytes]]:
        return CID, (self.binary,)

    def __copy__(self) -> CID:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> CID:
        return self

    def __init_subclass__(cls) -> NoReturn:
        # Equality, the dag-cbor encoder and the fast paths test for exactly this type.
        raise TypeError("CID cannot be subclassed")


# The slot's own setter passes by __setattr__, which refuses everybody else.
_set_binary = CID.__dict__["binary"].__set__
_new = CID.__new__


def _trusted(binary: bytes) -> CID:
    """Wrap bytes that are known to be a valid CID because they were just put together."""
    cid = _new(CID)
    _set_binary(cid, binary)
    return cid


def _fields(binary: bytes) -> tuple[int, int, int, int, int]:
    """Parse and check a binary CID: (version, codec, hash code, index of digest, index of multihash)."""
    known = _KNOWN.get(binary[:4])
    if known is not None and len(binary) == 36:
        return known
    if binary[:2] == _V0_PREFIX:
        if len(binary) != 34:
            raise InvalidCid(f"a version 0 CID has 34 bytes, not {len(binary)}")
        return _V0_FIELDS
    if len(binary) > DEFAULT.cid_bytes:
        raise InvalidCid(f"a CID of {len(binary)} bytes is longer than {DEFAULT.cid_bytes}")
    try:
        version, offset = varint.decode(binary)
        if version != 1:
            raise InvalidCid(f"CID version {version} does not exist: versions are 0 and 1")
        codec, multihash_at = varint.decode(binary, offset)
        hash_code, offset = varint.decode(binary, multihash_at)
        digest_size, offset = varint.decode(binary, offset)
    except InvalidCid:
        raise
    except KitError as exc:
        raise InvalidCid(f"not a CID ({exc.message}): {binary[:64].hex()}") from exc
    found = len(binary) - offset
    if found != digest_size:
        raise InvalidCid(f"the CID announces a digest of {digest_size} bytes and holds {found}")
    expected = DIGEST_SIZES.get(hash_code, digest_size)
    if digest_size != expected:
        raise InvalidCid(f"a {hash_name(hash_code)} digest has {expected} bytes, not {digest_size}")
    if digest_size > DEFAULT.identity_bytes:
        raise InvalidCid(f"a digest of {digest_size} bytes is longer than {DEFAULT.identity_bytes}")
    return version, codec, hash_code, offset, multihash_at


def _decode_v0(text: str) -> bytes:
    try:
        binary = multibase.decode_base58btc(text)
    except InvalidInput as exc:
        raise InvalidCid(_advice(text, exc.message)) from exc
    if len(binary) != 34 or not binary.startswith(_V0_PREFIX):
        raise InvalidCid(f"{text!r} is not a version 0 CID")
    return binary


def _advice(text: str, reason: str) -> str:
    shown = text[:80] + ("…" if len(text) > 80 else "")
    if text.startswith(("/ipfs/", "ipfs://", "/ipns/")):
        return f"{shown!r} is a path: pass the CID alone"
    return f"{shown!r} is not a CID: {reason}"


def _as_bytes(value: bytes | bytearray | memoryview | SupportsBytes) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InvalidCid(f"a CID is made from bytes, not {type(value).__name__}: use CID.parse for text")
