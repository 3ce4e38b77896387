"""Bytes as text that names its own alphabet (multiformats/multibase), strict.

Decoding accepts exactly one text per byte string and base: no padding characters, no white space, no mixed case, and
unused trailing bits must be zero.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from ipfs_kit.errors import InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT

_B32: Final = b"abcdefghijklmnopqrstuvwxyz234567"
_B36: Final = b"0123456789abcdefghijklmnopqrstuvwxyz"
_B58: Final = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_B16: Final = b"0123456789abcdef"

# A byte that int() refuses in every base; plain int() would skip underscores, signs and white space.
_BAD: Final = b"~"


def _table(source: bytes, target: bytes) -> bytes:
    """Return a 256-byte translation that sends every byte outside ``source`` to a refused one."""
    table = bytearray(_BAD * 256)
    for a, b in zip(source, target, strict=True):
        table[a] = b
    return bytes(table)


# int(text, 32) reads 0-9a-v, in linear time; translating into that alphabet is 7x faster than base64.b32decode.
_INT32: Final = b"0123456789abcdefghijklmnopqrstuv"
_FROM_B32: Final = _table(_B32, _INT32)
_FROM_B32_UPPER: Final = _table(_B32.upper(), _INT32)
_FROM_B36: Final = _table(_B36, _B36)
_FROM_B36_UPPER: Final = _table(_B36.upper(), _B36)
_FROM_B16: Final = _table(_B16, _B16)
_FROM_B16_UPPER: Final = _table(_B16.upper(), _B16)
_FROM_B58: Final = _table(_B58, bytes(range(58)))
_BAD_B58: Final = _BAD[0]
# (bits of a field, mask of every second field in 512 bits, value of one in the upper field), fields of 1 to 32 digits.
_B58_STEPS: Final = tuple(
    (8 * n, int.from_bytes((bytes(n) + b"\xff" * n) * (32 // n), "big"), 58**n) for n in (1, 2, 4, 8, 16, 32)
)


def _encode_b32(data: bytes) -> str:
    return base64.b32encode(data).rstrip(b"=").lower().decode("ascii")


def _decode_b32(body: bytes, table: bytes = _FROM_B32) -> bytes:
    if not body:
        return b""
    size, spare = divmod(5 * len(body), 8)
    if spare >= 5:
        raise ValueError("a trailing character carries no data")
    number = int(body.translate(table), 32)
    if number & (1 << spare) - 1:
        raise ValueError("unused trailing bits are not zero")
    return (number >> spare).to_bytes(size, "big")


def _encode_digits(data: bytes, alphabet: bytes) -> str:
    stripped = data.lstrip(b"\0")
    number = int.from_bytes(stripped, "big")
    base = len(alphabet)
    out = bytearray()
    while number:
        number, digit = divmod(number, base)
        out.append(alphabet[digit])
    out += alphabet[:1] * (len(data) - len(stripped))
    out.reverse()
    return out.decode("ascii")


def _decode_b36(body: bytes, table: bytes = _FROM_B36) -> bytes:
    digits = body.translate(table)
    stripped = digits.lstrip(b"0")
    number = int(stripped, 36) if stripped else 0
    return bytes(len(digits) - len(stripped)) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _decode_b58(body: bytes) -> bytes:
    digits = body.translate(_FROM_B58)
    if _BAD_B58 in digits:
        raise ValueError("a character is outside the alphabet")
    if len(digits) <= 64:
        # Joins neighbouring digits pairwise, all pairs at once: six steps instead of one per character.
        number = int.from_bytes(digits, "big")
        for shift, mask, weight in _B58_STEPS:
            number = (number & mask) + (number >> shift & mask) * weight
    else:
        number = 0
        for digit in digits:
            number = number * 58 + digit
    zeros = len(digits) - len(digits.lstrip(b"\0"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _decode_b16(body: bytes, table: bytes = _FROM_B16) -> bytes:
    return bytes.fromhex(body.translate(table).decode("ascii"))


def _encode_b64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")


def _encode_b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode_b64(body: bytes) -> bytes:
    data = binascii.a2b_base64(body + b"=" * (-len(body) % 4), strict_mode=True)
    if _encode_b64(data).encode("ascii") != body:
        raise ValueError("unused trailing bits are not zero")
    return data


def _decode_b64url(body: bytes) -> bytes:
    if b"+" in body or b"/" in body:
        raise ValueError("a character is outside the alphabet")
    return _decode_b64(body.replace(b"-", b"+").replace(b"_", b"/"))


_ENCODERS: Final[dict[str, tuple[str, Callable[[bytes], str]]]] = {
    "base16": ("f", bytes.hex),
    "base16upper": ("F", lambda data: data.hex().upper()),
    "base32": ("b", _encode_b32),
    "base32upper": ("B", lambda data: _encode_b32(data).upper()),
    "base36": ("k", lambda data: _encode_digits(data, _B36)),
    "base36upper": ("K", lambda data: _encode_digits(data, _B36).upper()),
    "base58btc": ("z", lambda data: _encode_digits(data, _B58)),
    "base64": ("m", _encode_b64),
    "base64url": ("u", _encode_b64url),
}

_DECODERS: Final[dict[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "f": ("base16", _decode_b16),
    "F": ("base16upper", lambda body: _decode_b16(body, _FROM_B16_UPPER)),
    "b": ("base32", _decode_b32),
    "B": ("base32upper", lambda body: _decode_b32(body, _FROM_B32_UPPER)),
    "k": ("base36", _decode_b36),
    "K": ("base36upper", lambda body: _decode_b36(body, _FROM_B36_UPPER)),
    "z": ("base58btc", _decode_b58),
    "m": ("base64", _decode_b64),
    "u": ("base64url", _decode_b64url),
}

PREFIXES: Final = MappingProxyType({name: prefix for name, (prefix, _) in _ENCODERS.items()})
"""Name of each supported base to its one-character prefix."""


def encode(base: str, data: bytes) -> str:
    """Return ``data`` as text, prefix first.

    Args:
        base: A name in ``PREFIXES``.
        data: Any bytes; base36 and base58btc take time quadratic in their number.

    Raises:
        InvalidInput: The base is not supported.
    """
    try:
        prefix, encoder = _ENCODERS[base]
    except KeyError as exc:
        raise InvalidInput(f"unsupported base {base!r}: use one of {', '.join(_ENCODERS)}") from exc
    return prefix + encoder(data)


def decode(text: str, max_chars: int = DEFAULT.cid_text_chars) -> tuple[str, bytes]:
    """Read multibase text.

    Args:
        text: Prefix character and body.
        max_chars: Refuse longer text; base36 and base58btc take quadratic time.

    Returns:
        Name of the base and the bytes.

    Raises:
        InvalidInput: The text is too long, its prefix is not supported or its body is not canonical.
    """
    if len(text) > max_chars:
        raise InvalidInput(f"multibase text of {len(text)} characters is longer than {max_chars}")
    try:
        name, decoder = _DECODERS[text[:1]]
    except KeyError as exc:
        raise InvalidInput(f"unsupported multibase prefix {text[:1]!r}: use one of {', '.join(_DECODERS)}") from exc
    return name, _apply(decoder, text[1:], name)


def decode_base58btc(text: str) -> bytes:
    """Read bare base58btc, without prefix, as CIDv0 text is written.

    Raises:
        InvalidInput: A character is outside the alphabet, or the text is too long.
    """
    if len(text) > DEFAULT.cid_text_chars:
        raise InvalidInput(f"base58btc text of {len(text)} characters is longer than {DEFAULT.cid_text_chars}")
    return _apply(_decode_b58, text, "base58btc")


def encode_base58btc(data: bytes) -> str:
    """Return bare base58btc, without prefix."""
    return _encode_digits(data, _B58)


def _apply(decoder: Callable[[bytes], bytes], body: str, name: str) -> bytes:
    try:
        return decoder(body.encode("ascii"))
    except (ValueError, OverflowError) as exc:
        # binascii.Error and UnicodeEncodeError are ValueErrors.
        raise InvalidInput(f"not canonical {name}: {exc}") from exc
