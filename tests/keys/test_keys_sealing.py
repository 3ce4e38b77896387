"""Sealed fields and the signing key, against independent implementations."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from ipfs_kit.errors import FormatError, IntegrityError, InvalidInput, InvalidName
from ipfs_kit.keys import Sealer, Signer, seal, sealing, unseal, verify_signature

KEY = bytes(range(32))
OP = bytes(range(100, 116))


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=40), st.one_of(st.text(max_size=10), st.integers(0, 99)))
def test_sealed_field_opens_to_the_same_bytes(plaintext: bytes, op_id: bytes, field: str | int) -> None:
    sealed = seal(KEY, op_id, field, plaintext)
    assert unseal(KEY, op_id, field, sealed) == plaintext
    assert len(sealed) == len(plaintext) + sealing.OVERHEAD_BYTES
    assert seal(KEY, op_id, field, plaintext) == sealed


def test_format_is_hkdf_and_aes_gcm_as_documented() -> None:
    sealed = seal(KEY, OP, "message", b"hello")
    derived = HKDF(hashes.SHA256(), 32, salt=b"ipfs-kit/sealing/1", info=b"field key" + OP).derive(KEY)
    aad = bytes((len(OP),)) + OP + b"message"
    assert AESGCM(derived).decrypt(sealed[:12], sealed[12:], aad) == b"hello"


@pytest.mark.parametrize(
    ("key", "op_id", "field", "flip"),
    [(bytes(32), OP, "a", 0), (KEY, OP + b"x", "a", 0), (KEY, OP, "b", 0), (KEY, OP, "a", 1)],
)
def test_other_key_operation_field_or_bytes_do_not_open(key: bytes, op_id: bytes, field: str, flip: int) -> None:
    sealed = bytearray(seal(KEY, OP, "a", b"secret"))
    sealed[-1] ^= flip
    with pytest.raises(IntegrityError):
        unseal(key, op_id, field, bytes(sealed))


def test_two_texts_in_one_place_never_share_a_nonce() -> None:
    sealer = Sealer(KEY)
    nonces = {sealer.seal(OP, "outcome", str(i).encode())[:12] for i in range(2000)}
    assert len(nonces) == 2000


def test_short_input_and_bad_sizes_are_refused() -> None:
    with pytest.raises(FormatError):
        unseal(KEY, OP, 1, b"short")
    with pytest.raises(InvalidInput):
        seal(b"short", OP, 1, b"")
    with pytest.raises(InvalidInput):
        seal(KEY, b"", 1, b"")


@given(st.binary(min_size=0, max_size=64), st.binary(max_size=200))
def test_keyed_hash_equals_the_standard_library(key: bytes, message: bytes) -> None:
    import hmac

    assert sealing.keyed_hash(key)(message) == hmac.digest(key, message, "sha256")


def test_signer_round_trips_through_its_private_line() -> None:
    signer = Signer("ipfs-kit/0123456789ab", bytes(range(32)))
    again = Signer.parse(signer.private_line())
    assert again.verify_key == signer.verify_key
    assert verify_signature(signer.public_key, b"note", again.sign(b"note"))
    assert not verify_signature(signer.public_key, b"other", again.sign(b"note"))
    assert not verify_signature(b"short", b"note", b"")


def test_verifier_key_has_the_published_form() -> None:
    # The example key of golang.org/x/mod/sumdb/note, whose vkey form C2SP adopted.
    name, hash_hex, body = "PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    public = base64.b64decode(body)[1:]
    assert hashlib.sha256(name.encode() + b"\n\x01" + public).hexdigest()[:8] == hash_hex
    private = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
    assert Signer.parse(private).verify_key == f"{name}+{hash_hex}+{body}"


def test_other_name_gives_other_id_for_the_same_key() -> None:
    signer = Signer("a/main", bytes(32))
    bulk = signer.named("a/bulk")
    assert bulk.public_key == signer.public_key
    assert bulk.key_id != signer.key_id


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n"])
def test_names_that_break_notes_are_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        Signer(name, bytes(32))


@pytest.mark.parametrize("line", ["", "PRIVATE+KEY+x", "PRIVATE+KEY+x+00000000+AYEK", "PRIVATE+KEY+x+00+!!"])
def test_damaged_private_lines_are_refused(line: str) -> None:
    with pytest.raises(FormatError):
        Signer.parse(line)
