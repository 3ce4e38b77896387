"""What a witness of logs says and how it decides: C2SP tlog-witness and tlog-cosignature (Ed25519, v1), as pure functions.

A cosignature is a note signature line ``— NAME base64(key id || u64 time || signature)`` over
``cosignature/v1 LF time T LF`` and the whole note text; its key id is the first four bytes of
``SHA-256(NAME LF 0x04 public key)``. A request is ``old SIZE``, the hashes of a consistency proof, an empty line, and the
signed checkpoint.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import FormatError, IntegrityError, InvalidInput
from ipfs_kit.keys import Signer, verify_signature
from ipfs_kit.ledger import merkle
from ipfs_kit.ledger.checkpoint import SIGNATURES_MAX, Checkpoint, parse

REQUEST_BYTES_MAX: Final = 64 * 1024
PROOF_LINES_MAX: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"
_ALGORITHM: Final = b"\x04"
_TIME_BYTES: Final = 8
_DASH: Final = "\u2014 "


@dataclass(frozen=True, slots=True)
class Cosigner:
    """A witness as others know it.

    Args:
        name: Its key name.
        key_id: Four bytes that name key and algorithm.
        public_key: Its Ed25519 key.
    """

    name: str
    key_id: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What a log asks a witness.

    Args:
        old: Size that the log believes the witness cosigned last.
        proof: Consistency proof from there.
        note: The checkpoint to cosign.
    """

    old: int
    proof: tuple[bytes, ...]
    note: Checkpoint


@dataclass(frozen=True, slots=True)
class Seen:
    """The checkpoint a witness cosigned last.

    Args:
        size: Its size.
        root: Its root.
    """

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a witness answers.

    Args:
        status: HTTP status; 200 means that it cosigns once its state is stored.
        text: Body of a refusal.
        evidence: Whether the request is signed proof that the log misbehaved.
    """

    status: int
    text: str = ""
    evidence: bool = False


NEVER: Final = Seen(0, merkle.EMPTY_ROOT)


def key_id(name: str, public_key: bytes) -> bytes:
    """The four bytes that name a cosigner's key."""
    return sha256(name.encode() + b"\n" + _ALGORITHM + public_key).digest()[:4]


def cosigner_vkey(signer: Signer) -> str:
    """The verifier key of a witness, signature type 0x04."""
    body = base64.b64encode(_ALGORITHM + signer.public_key).decode()
    return f"{signer.name}+{key_id(signer.name, signer.public_key).hex()}+{body}"


def read_cosigner(vkey: str) -> Cosigner:
    """Read a witness's verifier key.

    Raises:
        InvalidInput: It is none, or its id does not belong to its key.
    """
    parts = vkey.strip().split("+", 2)
    try:
        raw = base64.b64decode(parts[-1], validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(parts) != 3 or not parts[0] or any(c.isspace() for c in parts[0]) or len(raw) != 33 or raw[:1] != _ALGORITHM:
        raise InvalidInput(
            "this is no witness's verifier key: NAME+ID+BASE64 of signature type 4, as it prints on starting"
        )
    found = Cosigner(parts[0], key_id(parts[0], raw[1:]), raw[1:])
    if found.key_id.hex() != parts[1]:
        raise InvalidInput("the witness's key id does not belong to its key: it was copied wrongly")
    return found


def signed_message(body: bytes, time_s: int) -> bytes:
    """The bytes a cosignature is over."""
    return b"cosignature/v1\ntime %d\n" % time_s + body


def cosign(signer: Signer, body: bytes, time_s: int) -> str:
    """A cosignature line, with its newline.

    Args:
        signer: The witness's key.
        body: Text of the note.
        time_s: POSIX time.
    """
    blob = key_id(signer.name, signer.public_key) + time_s.to_bytes(_TIME_BYTES, "big")
    blob += signer.sign(signed_message(body, time_s))
    return f"{_DASH}{signer.name} {base64.b64encode(blob).decode()}\n"


def cosigned(note: Checkpoint, cosigners: Iterable[Cosigner]) -> dict[str, int]:
    """Which of these witnesses cosigned a checkpoint, and when; lines of others are ignored."""
    found: dict[str, int] = {}
    for each in cosigners:
        for line in note.signatures:
            if line.name != each.name or line.key_id != each.key_id or len(line.signature) != _TIME_BYTES + 64:
                continue
            time_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
            message = signed_message(note.body, time_s)
            if time_s < 1 << 63 and verify_signature(each.public_key, message, line.signature[_TIME_BYTES:]):
                found[each.name] = time_s
    return found


def merged(note: Checkpoint, others: Iterable[str], cosigners: Iterable[Cosigner]) -> Checkpoint:
    """A checkpoint with the good cosignatures of these witnesses from other notes or answers over the same text.

    Args:
        note: The checkpoint.
        others: Signature lines, any number in one text.
        cosigners: Whose are taken; one line each.
    """
    text, wanted = note.text, list(cosigners)
    have = cosigned(note, wanted)
    for lines in others:
        for line in lines.splitlines(keepends=True)[:SIGNATURES_MAX]:
            try:
                candidate = parse(text + line)
            except FormatError:
                continue
            now = cosigned(candidate, wanted)
            if now.keys() > have.keys():
                text, have = candidate.text, now
    return parse(text)


def encode_request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """The body of an ``add-checkpoint`` request."""
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in proof), "", note]
    return "\n".join(lines).encode()


def parse_request(data: bytes) -> Request:
    """Read the body of an ``add-checkpoint`` request.

    Raises:
        FormatError: It is not one: the answer is 400.
    """
    if len(data) > REQUEST_BYTES_MAX:
        raise FormatError(f"a request has at most {REQUEST_BYTES_MAX} bytes")
    try:
        head, separator, note = data.decode().partition("\n\n")
    except UnicodeDecodeError as exc:
        raise FormatError("the request is not UTF-8") from exc
    first, *hashes = head.split("\n")
    number = first.removeprefix("old ")
    if (
        not separator
        or not first.startswith("old ")
        or not (number.isascii() and number.isdigit() and len(number) < 20)
    ):
        raise FormatError("the request does not begin with 'old SIZE' or lacks its checkpoint")
    if str(int(number)) != number or len(hashes) > PROOF_LINES_MAX:
        raise FormatError("the old size has leading zeroes, or the proof is too long")
    proof = []
    for line in hashes:
        try:
            value = base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise FormatError("a line of the consistency proof is not base64") from exc
        if len(value) != 32 or base64.b64encode(value).decode() != line:
            raise FormatError("a line of the consistency proof is not a SHA-256 hash")
        proof.append(value)
    return Request(int(number), tuple(proof), parse(note))


def judge(request: Request, vkeys: Sequence[str], seen: Seen) -> Verdict:
    """Decide about a request, in the order of the specification.

    Args:
        request: The request.
        vkeys: Verifier keys trusted for the checkpoint's origin; empty when the origin is unknown.
        seen: What was cosigned last, ``NEVER`` if nothing was.
    """
    if not vkeys:
        return Verdict(404, "unknown log\n")
    if not any(_signed(request.note, vkey) for vkey in vkeys):
        return Verdict(403, "no signature of a trusted key\n")
    note = request.note
    if request.old > note.size:
        return Verdict(400, "the old size is greater than the checkpoint's\n")
    if request.old != seen.size:
        return Verdict(409, f"{seen.size}\n", evidence=note.size == seen.size and note.root != seen.root)
    if request.old == note.size and note.root != seen.root:
        return Verdict(409, f"{seen.size}\n", evidence=True)
    if not merkle.check_consistency(seen.size, seen.root, note.size, note.root, request.proof):
        return Verdict(422, "the consistency proof does not verify\n", evidence=True)
    return Verdict(200)


def _signed(note: Checkpoint, vkey: str) -> bool:
    # At use: ``python -m ipfs_kit.ledger.check`` must not find itself imported by its own package.
    from ipfs_kit.ledger.check import read_note

    try:
        read_note(note.text, vkey)
    except IntegrityError:
        return False
    return True
