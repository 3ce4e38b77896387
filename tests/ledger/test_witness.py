"""What a witness says and how it decides, byte by byte as C2SP tlog-cosignature and tlog-witness have it."""

from __future__ import annotations

import base64
import struct
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ipfs_kit.errors import FormatError, InvalidInput
from ipfs_kit.keys import Signer
from ipfs_kit.ledger import merkle, witness
from ipfs_kit.ledger.checkpoint import parse, sign
from ipfs_kit.ledger.outbound import checked_url, permitted

LOG = Signer("log.example/main", b"l" * 32)
WITNESS = Signer("witness.example/w1", b"w" * 32)
LEAVES = [merkle.leaf_hash(bytes([n])) for n in range(20)]


def node(height: int, index: int) -> bytes:
    return merkle.perfect_root(LEAVES[index << height : (index + 1) << height])


def note(size: int, signer: Signer = LOG, root: bytes | None = None) -> str:
    return sign(signer, size, root or merkle.root(node, size))


def request(old: int, size: int, **other: str) -> witness.Request:
    path = merkle.consistency_path(node, old, size) if 0 < old < size else []
    return witness.parse_request(witness.encode_request(old, path, other.get("text", note(size))))


def seen(size: int) -> witness.Seen:
    return witness.Seen(size, merkle.root(node, size))


def test_a_cosignature_has_the_bytes_of_the_specification() -> None:
    head = parse(note(7))
    line = witness.cosign(WITNESS, head.body, 1679315147)
    dash, name, encoded = line.rstrip("\n").split(" ")
    raw = base64.b64decode(encoded)
    public = WITNESS.public_key
    assert (dash, name, len(raw)) == ("\u2014", "witness.example/w1", 76)
    assert raw[:4] == sha256(b"witness.example/w1\n\x04" + public).digest()[:4]
    assert struct.unpack(">Q", raw[4:12]) == (1679315147,)
    message = b"cosignature/v1\ntime 1679315147\n" + note(7).partition("\n\n")[0].encode() + b"\n"
    Ed25519PublicKey.from_public_bytes(public).verify(raw[12:], message)
    vkey = witness.cosigner_vkey(WITNESS)
    assert base64.b64decode(vkey.split("+", 2)[2]) == b"\x04" + public
    both = witness.merged(head, ["\u2014 x y\n", line, line], [witness.read_cosigner(vkey)])
    assert witness.cosigned(both, [witness.read_cosigner(vkey)]) == {"witness.example/w1": 1679315147}
    assert len(both.signatures) == 2
    for at in range(0, 76, 5):
        bad = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        forged = parse(head.text + f"\u2014 {name} {base64.b64encode(bad).decode()}\n")
        assert not witness.cosigned(forged, [witness.read_cosigner(vkey)]), at


@pytest.mark.parametrize("change", ["", "x+y+z", LOG.verify_key, "name+00000000+BAAA"])
def test_what_is_no_witness_key_is_refused(change: str) -> None:
    with pytest.raises(InvalidInput):
        witness.read_cosigner(change)


def test_every_extension_is_cosigned_and_nothing_else() -> None:
    keys = [LOG.verify_key]
    for old in range(20):
        for size in range(old, 21):
            before = seen(old) if old else witness.NEVER
            assert witness.judge(request(old, size), keys, before).status == 200, (old, size)
            if 0 < old < size:
                other = witness.Seen(old, sha256(b"fork").digest())
                assert witness.judge(request(old, size), keys, other) == witness.Verdict(
                    422, "the consistency proof does not verify\n", True
                )


def test_refusals_have_the_status_of_the_specification() -> None:
    keys, good = [LOG.verify_key], request(5, 9)
    assert witness.judge(good, [], seen(5)).status == 404
    stranger = Signer(LOG.name, b"s" * 32)
    assert witness.judge(request(5, 9, text=note(9, stranger)), keys, seen(5)).status == 403
    assert witness.judge(request(9, 5), keys, seen(9)).status == 400
    behind = witness.judge(good, keys, seen(7))
    assert (behind.status, behind.text) == (409, "7\n")
    assert witness.judge(request(5, 9), keys, witness.NEVER) == witness.Verdict(409, "0\n")
    fork = request(9, 9, text=note(9, root=sha256(b"fork").digest()))
    assert witness.judge(fork, keys, seen(9)) == witness.Verdict(409, "9\n", True)
    unneeded = witness.Request(0, (LEAVES[0],), good.note)
    assert witness.judge(unneeded, keys, witness.NEVER).status == 422


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"old 0\n",
        b"old 01\n\n" + note(3).encode(),
        b"old -1\n\n" + note(3).encode(),
        b"new 1\n\n" + note(3).encode(),
        b"old 1\nAAAA\n\n" + note(3).encode(),
        b"old 1\n" + b"!" * 44 + b"\n\n" + note(3).encode(),
        b"old 1\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\n" + note(3).encode(),
        b"old 1\n\nno checkpoint\n",
        b"\xff" * 40,
        b"x" * (witness.REQUEST_BYTES_MAX + 1),
    ],
)
def test_malformed_requests_are_no_requests(data: bytes) -> None:
    with pytest.raises(FormatError):
        witness.parse_request(data)


def test_nothing_is_sent_to_odd_addresses() -> None:
    for url in ("ftp://x/", "http://", "http://u@x/", "http://x/?q", "http://x/#f", "http://x y/", "http://x:99999/"):
        with pytest.raises(InvalidInput):
            checked_url(url)
    refused = ("169.254.169.254", "224.0.0.1", "0.0.0.0", "fe80::1", "::ffff:169.254.1.1", "::", "fd00:ec2::254")
    assert not any(permitted(address) for address in refused)
    assert all(permitted(address) for address in ("127.0.0.1", "::1", "192.168.0.9", "93.184.216.34"))
