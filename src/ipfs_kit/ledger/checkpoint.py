"""Signed checkpoints: C2SP tlog-checkpoint bodies in C2SP signed-note envelopes.

The note text is ``origin``, ``size``, base64 ``root``, then extension lines. The log signs with Ed25519 under a key
named like its origin. Cosignatures of witnesses (C2SP tlog-cosignature) are further signature lines; they are parsed,
and checked by whoever holds the witnesses' keys. In ``main``'s checkpoint one extension line ``bulk SIZE ROOT`` carries
the other log's latest root (decision 15).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import FormatError
from ipfs_kit.keys import Signer

NOTE_BYTES_MAX: Final = 256 * 1024
SIGNATURES_MAX: Final = 64
_DASH: Final = "\u2014 "


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note.

    Args:
        name: Key name.
        key_id: Four bytes that name key and algorithm.
        signature: What follows them.
    """

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head as published.

    Args:
        origin: The log.
        size: Leaves covered.
        root: Their Merkle root.
        extensions: Extension lines.
        signatures: Signature lines, the log's first.
        text: The whole note.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...]
    signatures: tuple[Signature, ...]
    text: str

    @property
    def body(self) -> bytes:
        """The signed text, with its final newline."""
        return body(self.origin, self.size, self.root, self.extensions)


def body(origin: str, size: int, root: bytes, extensions: Sequence[str] = ()) -> bytes:
    """The text of a note that is signed."""
    lines = [origin, str(size), base64.b64encode(root).decode(), *extensions]
    return ("\n".join(lines) + "\n").encode()


def bulk_extension(size: int, root: bytes) -> str:
    """The line by which ``main``'s checkpoint carries ``bulk``'s root."""
    return f"bulk {size} {base64.b64encode(root).decode()}"


def sign(signer: Signer, size: int, root: bytes, extensions: Sequence[str] = ()) -> str:
    """Make a signed checkpoint.

    Args:
        signer: The key, named like the log's origin.
        size: Leaves covered.
        root: Their Merkle root.
        extensions: Extension lines.
    """
    text = body(signer.name, size, root, extensions)
    line = base64.b64encode(signer.key_id + signer.sign(text)).decode()
    return f"{text.decode()}\n{_DASH}{signer.name} {line}\n"


def parse(text: str) -> Checkpoint:
    """Read a checkpoint; signatures are not checked here.

    Raises:
        FormatError: Not a signed note, or its text is not a checkpoint.
    """
    if len(text) > NOTE_BYTES_MAX or not text.endswith("\n") or any(c < " " and c != "\n" for c in text):
        raise FormatError("the checkpoint is not a signed note: too long, control characters, or no newline at its end")
    head, separator, tail = text.rpartition("\n\n")
    lines = head.split("\n")
    if not separator or len(lines) < 3 or not all(lines):
        raise FormatError("the checkpoint is not a signed note with origin, size and root")
    if not lines[1].isascii() or not lines[1].isdecimal() or len(lines[1]) > 19 or str(int(lines[1])) != lines[1]:
        raise FormatError("the checkpoint's second line is not a tree size")
    root = _base64(lines[2])
    if len(root) != 32:
        raise FormatError("the checkpoint's third line is not a SHA-256 root")
    return Checkpoint(lines[0], int(lines[1]), root, tuple(lines[3:]), _signatures(tail), text)


def _signatures(block: str) -> tuple[Signature, ...]:
    lines = block.split("\n")[:-1]
    if not 0 < len(lines) <= SIGNATURES_MAX:
        raise FormatError(f"a checkpoint carries 1 to {SIGNATURES_MAX} signatures, not {len(lines)}")
    found = []
    for line in lines:
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        raw = _base64(encoded)
        if not line.startswith(_DASH) or not name or not space or len(raw) < 5:
            raise FormatError("a signature line of the checkpoint does not parse")
        found.append(Signature(name, raw[:4], raw[4:]))
    return tuple(found)


def _base64(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise FormatError("the checkpoint holds a value that is not base64") from exc
    if base64.b64encode(raw).decode() != text:
        raise FormatError("the checkpoint holds a value that is not canonical base64")
    return raw
