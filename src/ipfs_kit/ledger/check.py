"""Stand-alone checking of notes and proofs. Shares no code with the writer: everything is derived from the published
formats (RFC 6962, C2SP signed-note, tlog-checkpoint and tlog-proof) again, with nothing but hashing and Ed25519.

``python -m ipfs_kit.ledger.check PROOF_FILE VKEY`` checks a proof on a machine that has no store.
"""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import IntegrityError
from ipfs_kit.ipld import CID

PROOF_BYTES_MAX: Final = 1 << 20
USAGE: Final = """usage: python -m ipfs_kit.ledger.check PROOF_FILE VKEY

PROOF_FILE is what 'ipfs-kit ledger prove OP' wrote, VKEY the verifier key that 'ipfs-kit ledger vkey' shows.
Exit status: 0 the proof holds; 2 wrong arguments; 7 it does not hold or cannot be read.
"""
_CID_HEAD: Final = bytes.fromhex("01711220")
_ED25519: Final = 1


@dataclass(frozen=True, slots=True)
class Head:
    """A tree head whose signature was verified."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProofShown:
    """What a verified proof shows.

    Args:
        op: ``LOG:INDEX``.
        index: The op's index.
        size: Size of the signed tree.
        origin: The log that signed.
        record_cid: CID of the proven record.
        record: The encoded record; None when the proof carried only its CID.
    """

    op: str
    index: int
    size: int
    origin: str
    record_cid: CID
    record: bytes | None


def read_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Name, key id and Ed25519 public key of a verifier key ``name+id+key``.

    Raises:
        IntegrityError: It is no Ed25519 verifier key, or its id is not its own.
    """
    name, _, rest = text.strip().partition("+")
    given, _, encoded = rest.partition("+")
    raw = _decode(encoded, "the verifier key")
    if not name or len(raw) != 33 or raw[0] != _ED25519:
        raise IntegrityError("the verifier key is not name+id+key with an Ed25519 key: see 'ledger vkey'")
    key_id = sha256(name.encode() + b"\n" + raw).digest()[:4]
    if key_id.hex() != given:
        raise IntegrityError("the verifier key's id does not belong to its key: it was copied wrongly")
    return name, key_id, raw[1:]


def read_note(text: str, vkey: str) -> Head:
    """Verify a signed checkpoint.

    Args:
        text: The whole note.
        vkey: The log's verifier key.

    Raises:
        IntegrityError: It does not parse, is of another log, or its signature is missing or wrong.
    """
    name, key_id, public = read_vkey(vkey)
    if any(ord(c) < 32 and c != "\n" for c in text) or not text.endswith("\n"):
        raise IntegrityError("the checkpoint is not a signed note")
    cut = text.rfind("\n\n")
    signed, block = text[: cut + 1], text[cut + 2 :]
    lines = signed.split("\n")[:-1]
    if cut < 0 or len(lines) < 3 or not all(lines):
        raise IntegrityError("the checkpoint lacks origin, size or root")
    origin, size_text, root_text = lines[:3]
    size = _number(size_text, "the checkpoint's tree size")
    root = _decode(root_text, "the checkpoint's root")
    if len(root) != 32:
        raise IntegrityError("the checkpoint's root is not a SHA-256 hash")
    if origin != name:
        raise IntegrityError(f"the checkpoint is of {origin!r}, the verifier key of {name!r}")
    found = False
    for line in block.split("\n")[:-1]:
        signer, _, encoded = line.removeprefix("\u2014 ").rpartition(" ")
        if not line.startswith("\u2014 ") or not signer:
            raise IntegrityError("a signature line of the checkpoint does not parse")
        raw = _decode(encoded, "a signature of the checkpoint")
        if signer == name and raw[:4] == key_id:
            _check_signature(public, signed.encode(), raw[4:])
            found = True
    if not found:
        raise IntegrityError(f"the checkpoint carries no signature of {name!r}")
    return Head(origin, size, root, tuple(lines[3:]))


def verify_proof(text: str, vkey: str) -> ProofShown:
    """Verify a self-contained proof: record -> CID -> leaf -> root -> signature.

    Args:
        text: The proof file (C2SP tlog-proof@v1 whose extra data is the record, or its CID).
        vkey: The log's verifier key.

    Raises:
        IntegrityError: Any step fails; the message says which.
    """
    if len(text) > PROOF_BYTES_MAX:
        raise IntegrityError(f"a proof has at most {PROOF_BYTES_MAX} characters")
    head, separator, note = text.partition("\n\n")
    lines = head.split("\n")
    if not separator or lines[0] != "c2sp.org/tlog-proof@v1":
        raise IntegrityError("the text is no c2sp.org/tlog-proof@v1")
    if len(lines) < 3 or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise IntegrityError("the proof lacks its record or its index: take the whole file that 'ledger prove' wrote")
    extra = _decode(lines[1][6:], "the proof's record")
    index = _number(lines[2][6:], "the proof's index")
    path = [_decode(line, "a hash of the proof") for line in lines[3:]]
    if any(len(value) != 32 for value in path) or len(path) > 64:
        raise IntegrityError("the proof's path does not hold SHA-256 hashes")
    signed = read_note(note, vkey)
    is_cid = len(extra) == 36 and extra[:4] == _CID_HEAD
    entry = extra if is_cid else _CID_HEAD + sha256(extra).digest()
    if climb(sha256(b"\x00" + entry).digest(), index, signed.size, path) != signed.root:
        raise IntegrityError(f"the record does not lead to the signed root: it is not op {index} of {signed.origin}")
    log = signed.origin.rpartition("/")[2]
    return ProofShown(f"{log}:{index}", index, signed.size, signed.origin, CID(entry), None if is_cid else extra)


def verify_proof_file(path: str, vkey: str) -> ProofShown:
    """Verify a proof file; see ``verify_proof``.

    Raises:
        IntegrityError: It does not verify or cannot be read as text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(PROOF_BYTES_MAX + 1)
    except OSError as exc:
        raise IntegrityError(f"the proof {path} cannot be read: {exc.strerror}") from exc
    try:
        return verify_proof(data.decode(), vkey)
    except UnicodeDecodeError as exc:
        raise IntegrityError(f"the proof {path} is not UTF-8 text") from exc


def climb(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes | None:
    """Root that an audit path leads to, by RFC 6962's recursive definition; None when the path has another length."""
    if not 0 <= index < size:
        return None
    # Whether the sibling is on the left, from the root down to the leaf.
    sides: list[bool] = []
    start, stop = 0, size
    while stop - start > 1:
        half = 1
        while half * 2 < stop - start:
            half *= 2
        sides.append(index >= start + half)
        start, stop = (start + half, stop) if sides[-1] else (start, start + half)
    if len(sides) != len(path):
        return None
    value = leaf
    for left, sibling in zip(reversed(sides), path, strict=True):
        value = sha256(b"\x01" + (sibling + value if left else value + sibling)).digest()
    return value


def _check_signature(public: bytes, message: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as exc:
        raise IntegrityError("the checkpoint's signature is wrong") from exc


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20) or str(int(text)) != text:
        raise IntegrityError(f"{what} is no plain decimal number")
    return int(text)


def _decode(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise IntegrityError(f"{what} is not base64") from exc
    # Unused low bits would let a flipped bit pass.
    if base64.b64encode(raw).decode() != text:
        raise IntegrityError(f"{what} is not canonical base64")
    return raw


def main(arguments: Sequence[str]) -> int:
    """Check the proof file a command line names: one line on stdout when it holds, else the reason on stderr.

    Args:
        arguments: The proof file and the verifier key.

    Returns:
        The exit status: 0 it holds, 2 the arguments are wrong, 7 it does not hold or cannot be read.
    """
    if list(arguments) in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    if len(arguments) != 2:
        sys.stderr.write(USAGE)
        return 2
    path, vkey = arguments
    try:
        shown = verify_proof_file(path, vkey)
    except IntegrityError as exc:
        sys.stderr.write(f"not verified: {exc}\n")
        return 7
    sys.stdout.write(f"verified: op {shown.op} record {shown.record_cid} origin {shown.origin} size {shown.size}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
