"""The node's Ed25519 signing key in the forms of C2SP signed-note.

A verifier key is ``name+id+base64(0x01 || public key)``; a private key file is one line
``PRIVATE+KEY+name+id+base64(0x01 || seed)``. The id is the first four bytes of ``SHA-256(name || 0x0A || 0x01 || public
key)`` in hexadecimal.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ipfs_kit.errors import FormatError, InvalidName

_ALGORITHM: Final = b"\x01"
_SEED_BYTES: Final = 32
# Signed-note forbids white space and plus signs in key names.
_NAME: Final = re.compile(r"[^\s+]{1,200}\Z")
_PREFIX: Final = "PRIVATE+KEY+"


class Signer:
    """Signs as one named key; thread-safe.

    Args:
        name: The key's name, normally also the log's origin: no white space, no ``+``.
        seed: The 32 secret bytes.

    Raises:
        InvalidName: The name is not a signed-note key name.
    """

    __slots__ = ("_private", "_seed", "key_id", "name", "public_key", "verify_key")

    def __init__(self, name: str, seed: bytes) -> None:
        if not _NAME.match(name):
            raise InvalidName(f"{name!r} is no signed-note key name: use 1 to 200 characters, none blank or a plus")
        if len(seed) != _SEED_BYTES:
            raise FormatError(f"an Ed25519 seed has {_SEED_BYTES} bytes, not {len(seed)}")
        self._seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.name = name
        self.public_key = self._private.public_key().public_bytes_raw()
        self.key_id = key_id(name, self.public_key)
        body = base64.b64encode(_ALGORITHM + self.public_key).decode()
        self.verify_key = f"{name}+{self.key_id.hex()}+{body}"

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032) of a message."""
        return self._private.sign(message)

    def named(self, name: str) -> Signer:
        """The same key under another name, for a store that publishes several logs, each with its own origin."""
        return Signer(name, self._seed)

    def private_line(self) -> str:
        """The key file's content: one line in signed-note private key form."""
        body = base64.b64encode(_ALGORITHM + self._seed).decode()
        return f"{_PREFIX}{self.name}+{self.key_id.hex()}+{body}\n"

    @classmethod
    def parse(cls, line: str) -> Signer:
        """Read a private key line.

        Raises:
            FormatError: Not a signed-note Ed25519 private key, or its id does not match.
        """
        parts = line.strip().removeprefix(_PREFIX).split("+", 2)
        if not line.startswith(_PREFIX) or len(parts) != 3:
            raise FormatError("not a signed-note private key: restore keys/signing.key from its backup")
        try:
            raw = base64.b64decode(parts[2], validate=True)
        except binascii.Error as exc:
            raise FormatError("the signing key is not base64: restore keys/signing.key from its backup") from exc
        if raw[:1] != _ALGORITHM:
            raise FormatError("the signing key is not Ed25519: restore keys/signing.key from its backup")
        signer = cls(parts[0], raw[1:])
        if signer.key_id.hex() != parts[1]:
            raise FormatError("the signing key's id does not match it: restore keys/signing.key from its backup")
        return signer


def key_id(name: str, public_key: bytes) -> bytes:
    """The four-byte id of a named Ed25519 key (C2SP signed-note)."""
    return hashlib.sha256(name.encode() + b"\n" + _ALGORITHM + public_key).digest()[:4]


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature over a message is good.

    Args:
        public_key: 32 bytes.
        message: What was signed.
        signature: 64 bytes.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
