"""Check a proof of an ipfs-kit ledger without ipfs-kit: one file, the standard library and `cryptography`.

    python verify_proof.py PROOF_FILE VKEY [--witness VKEY]... [--quorum N] [--show]

PROOF_FILE is what `ipfs-kit ledger prove OP` wrote, VKEY the log's verifier key, obtained by another way. With
--witness, at least N (all of them when --quorum is left out) of the named witnesses must have cosigned the checkpoint.
Exit status: 0 the proof holds, 1 it does not, 2 the arguments are wrong.

Formats: c2sp.org/tlog-proof@v1, c2sp.org/tlog-checkpoint, c2sp.org/signed-note, c2sp.org/tlog-cosignature (v1),
RFC 6962 section 2.1 (leaf and node hashes). An entry of the log is the 36-byte binary CID of the op record: version 1,
codec dag-cbor, sha2-256, and the SHA-256 of the record's bytes.
"""

import argparse
import base64
import hashlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CID_HEAD = bytes.fromhex("01711220")
SIZE_MAX = 1 << 20
ED25519, COSIGNATURE = 1, 4
FIELDS = (
    *("schema", "op_id", "phase", "node", "time_ns", "actor", "surface", "operation", "stream", "subject"),
    *("target", "args", "effect", "status", "error_kind", "error_message", "duration_us", "before", "after"),
    *("ack", "parent", "trace", "bytes_in", "bytes_out", "ext"),
)


class Refused(Exception):
    """The proof does not hold; the text says which step failed."""


def b64(text, what):
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        raise Refused(f"{what} is not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise Refused(f"{what} is not canonical base64")
    return raw


def number(text, what):
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or str(int(text)) != text:
        raise Refused(f"{what} is not a plain decimal number")
    return int(text)


def parse_vkey(text, kind):
    """Name, key id and public key of `name+id+base64(type || key)`."""
    name, _, rest = text.strip().partition("+")
    given, _, encoded = rest.partition("+")
    raw = b64(encoded, "the verifier key")
    if not name or len(raw) != 33 or raw[0] != kind:
        raise Refused(f"{text.strip()!r} is not a verifier key of signature type {kind}")
    key_id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    if key_id.hex() != given:
        raise Refused("the verifier key's id does not belong to its key")
    return name, key_id, Ed25519PublicKey.from_public_bytes(raw[1:])


def verified(key, message, signature):
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise Refused("a signature is wrong") from None


def parse_note(note):
    """Signed text and (name, blob) of each signature line of a signed note."""
    if any(ord(c) < 32 and c != "\n" for c in note) or not note.endswith("\n"):
        raise Refused("the checkpoint is not a signed note")
    text, separator, block = note.rpartition("\n\n")
    if not separator:
        raise Refused("the checkpoint has no signature")
    signatures = []
    for line in block.split("\n")[:-1]:
        name, _, encoded = line.removeprefix("\u2014 ").rpartition(" ")
        if not line.startswith("\u2014 ") or not name:
            raise Refused("a signature line does not parse")
        signatures.append((name, b64(encoded, "a signature")))
    return text + "\n", signatures


def root_of(leaf, index, path, size):
    """The root an audit path leads to (RFC 6962, 2.1.1, computed from the leaf up)."""
    if not 0 <= index < size:
        raise Refused("the index is not below the tree's size")
    node, last, value = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise Refused("the path is too long")
        if node & 1 or node == last:
            value = hashlib.sha256(b"\x01" + sibling + value).digest()
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            value = hashlib.sha256(b"\x01" + value + sibling).digest()
        node >>= 1
        last >>= 1
    if last:
        raise Refused("the path is too short")
    return value


def check(proof, vkey, witnesses=(), quorum=None):
    """Verify a proof; returns (origin, index, size, entry, record or None, names of witnesses, their times)."""
    if len(proof) > SIZE_MAX:
        raise Refused("a proof is at most 1 MiB")
    head, separator, note = proof.partition("\n\n")
    lines = head.split("\n")
    if not separator or len(lines) < 3 or lines[0] != "c2sp.org/tlog-proof@v1":
        raise Refused("this is not a c2sp.org/tlog-proof@v1")
    if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise Refused("the proof lacks its record or its index")
    extra, index = b64(lines[1][6:], "the record"), number(lines[2][6:], "the index")
    path = [b64(line, "a hash of the path") for line in lines[3:]]
    if len(path) > 64 or any(len(each) != 32 for each in path):
        raise Refused("the path does not consist of SHA-256 hashes")
    text, signatures = parse_note(note)
    body = text.split("\n")
    if len(body) < 4 or not all(body[:-1]):
        raise Refused("the checkpoint lacks origin, size or root")
    origin, size, root = body[0], number(body[1], "the tree size"), b64(body[2], "the root")
    name, key_id, key = parse_vkey(vkey, ED25519)
    if origin != name:
        raise Refused(f"the checkpoint is of {origin!r}, the verifier key of {name!r}")
    own = [blob[4:] for who, blob in signatures if who == name and blob[:4] == key_id]
    if not own:
        raise Refused("the log did not sign this checkpoint")
    for signature in own:
        verified(key, text.encode(), signature)
    seen = {}
    for witness in witnesses:
        who, witness_id, public = parse_vkey(witness, COSIGNATURE)
        for signer, blob in signatures:
            if signer == who and blob[:4] == witness_id and len(blob) == 4 + 8 + 64:
                (time,) = struct.unpack(">Q", blob[4:12])
                verified(public, f"cosignature/v1\ntime {time}\n{text}".encode(), blob[12:])
                seen[who] = time
    needed = len(witnesses) if quorum is None else quorum
    if len(seen) < needed:
        raise Refused(f"{len(seen)} of the named witnesses cosigned, {needed} are needed")
    bare = len(extra) == 36 and extra[:4] == CID_HEAD
    entry = extra if bare else CID_HEAD + hashlib.sha256(extra).digest()
    if root_of(hashlib.sha256(b"\x00" + entry).digest(), index, path, size) != root:
        raise Refused("the record does not lead to the signed root")
    return origin, index, size, entry, None if bare else extra, seen


def cbor(data, at=0, depth=0):
    """One dag-cbor value and the offset after it; enough to show a record."""
    if depth > 64:
        raise Refused("the record is nested too deeply")
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    width = {24: 1, 25: 2, 26: 4, 27: 8}.get(low, 0)
    count = int.from_bytes(data[at : at + width], "big") if width else low
    at += width
    if major == 7:
        simple = {20: False, 21: True, 22: None}
        return (struct.unpack(">d", data[at - 8 : at])[0] if low == 27 else simple[low]), at
    if major in (0, 1):
        return (count if major == 0 else -1 - count), at
    if major in (2, 3):
        raw = data[at : at + count]
        return (raw if major == 2 else raw.decode()), at + count
    if major == 6:
        value, at = cbor(data, at, depth + 1)
        return cid_text(value[1:]), at
    items = []
    for _ in range(count * (2 if major == 5 else 1)):
        item, at = cbor(data, at, depth + 1)
        items.append(item)
    return (items if major == 4 else dict(zip(items[::2], items[1::2], strict=True))), at


def cid_text(binary):
    return "b" + base64.b32encode(binary).decode().lower().rstrip("=")


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("proof")
    parser.add_argument("vkey")
    parser.add_argument("--witness", action="append", default=[])
    parser.add_argument("--quorum", type=int)
    parser.add_argument("--show", action="store_true", help="print the record's fields; sealed ones are ciphertext")
    given = parser.parse_args(arguments)
    try:
        with open(given.proof, encoding="utf-8", newline="") as file:
            origin, index, size, entry, record, seen = check(
                file.read(SIZE_MAX + 1), given.vkey, given.witness, given.quorum
            )
    except (Refused, OSError, UnicodeDecodeError) as exc:
        print(f"not verified: {exc}", file=sys.stderr)
        return 1
    print(f"verified: record {cid_text(entry)} is entry {index} of {origin}, tree size {size}")
    for who, time in seen.items():
        print(f"cosigned: {who} at {time}")
    if given.show and record is not None:
        for name, value in zip(FIELDS, cbor(record)[0], strict=True):
            print(f"{name}: {value.hex() if isinstance(value, bytes) else value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
