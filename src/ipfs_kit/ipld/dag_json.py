"""dag-json (ipld.io/specs/codecs/dag-json): deterministic JSON with links and bytes under the reserved key ``/``.

``{"/": "bafy…"}`` is a link and ``{"/": {"bytes": "…"}}`` is bytes in base64 without padding. Keys are sorted by their
UTF-8 bytes, there is no white space, floats have a decimal point or an exponent (as ECMAScript prints them) and
integers have neither. A map that would read as one of the two reserved forms cannot be written.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from collections.abc import Callable, Sized
from json import encoder as json_encoder
from typing import Any, Final, NoReturn

from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidCid, InvalidInput
from ipfs_kit.ipld.budgets import DEFAULT, Budgets
from ipfs_kit.ipld.cid import CID
from ipfs_kit.ipld.codecs import DAG_JSON

Node = Any
"""None, bool, int (64 bits and sign), float, str, bytes, CID, list or dict with str keys, of the same."""

_INT_MIN: Final = -(1 << 64)
_INT_MAX: Final = (1 << 64) - 1
# Characters of the longest integer, sign included; int() on longer text could take quadratic time.
_INT_CHARS: Final = 21

# Possessive, so that a missing quote costs linear time.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_WHITE: Final = re.compile(rb"[ \t\n\r]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_escape: Final[Callable[[str], str]] = json_encoder.encode_basestring


def encode(obj: Node, budgets: Budgets = DEFAULT) -> bytes:
    """Return the one encoding of a value.

    Args:
        obj: A data-model value; tuples are written as lists.
        budgets: Bounds on nesting and size.

    Raises:
        InvalidInput: A type, number or string has no dag-json form, or a map uses the reserved key.
        BudgetExceeded: The value is nested too deeply (or contains itself) or is too large.
    """
    parts: list[str] = []
    _write(obj, parts, budgets.json_depth, budgets)
    try:
        data = "".join(parts).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidInput("text with lone surrogates has no dag-json form") from exc
    if len(data) > budgets.json_bytes:
        raise BudgetExceeded(f"dag-json of {len(data)} bytes is larger than {budgets.json_bytes}")
    return data


def decode(data: bytes, budgets: Budgets = DEFAULT) -> Node:
    """Read exactly one value.

    Raises:
        FormatError: The bytes are not strict dag-json.
        BudgetExceeded: They are too many, too deeply nested or hold too many items.
    """
    if len(data) > budgets.json_bytes:
        raise BudgetExceeded(f"dag-json of {len(data)} bytes is larger than {budgets.json_bytes}")
    _look(data, budgets)
    try:
        text = data.decode("utf-8")
        obj = json.loads(
            text, object_pairs_hook=_map, parse_int=_int, parse_float=_float, parse_constant=_refuse_constant
        )
        if b"\\ud" in data or b"\\uD" in data:
            # An escape may have made a lone surrogate, which has no UTF-8 form; writing the value finds it.
            encode(obj, budgets)
    except BudgetExceeded:
        raise
    except InvalidInput as exc:
        raise FormatError(f"not strict dag-json: {exc.message}") from exc
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"not strict dag-json: {exc}") from exc
    return obj


def block(obj: Node, budgets: Budgets = DEFAULT) -> tuple[CID, bytes]:
    """Encode a value and address it with sha2-256."""
    data = encode(obj, budgets)
    return CID.of(data, DAG_JSON), data


def decode_links(data: bytes, budgets: Budgets = DEFAULT) -> list[CID]:
    """Return every link of a block in order of appearance, repeats included.

    Raises:
        FormatError: The bytes are not strict dag-json.
        BudgetExceeded: They break a bound.
    """
    found: list[CID] = []
    waiting = [decode(data, budgets)]
    while waiting:
        node = waiting.pop()
        if type(node) is CID:
            found.append(node)
        elif type(node) is list:
            waiting.extend(reversed(node))
        elif type(node) is dict:
            waiting.extend(reversed(node.values()))
    if len(found) > budgets.links_per_node:
        raise BudgetExceeded(f"block holds {len(found)} links, more than {budgets.links_per_node}")
    return found


def _write(obj: Node, parts: list[str], depth: int, budgets: Budgets) -> None:
    kind = type(obj)
    if kind is str:
        parts.append(_escape(obj))
    elif obj is None:
        parts.append("null")
    elif kind is bool:
        parts.append("true" if obj else "false")
    elif kind is int:
        if not _INT_MIN <= obj <= _INT_MAX:
            raise InvalidInput("no dag-json form: an integer needs more than 64 bits")
        parts.append(str(obj))
    elif kind is float:
        parts.append(float_text(obj))
    elif kind is CID:
        parts.append(f'{{"/":"{obj}"}}')
    elif kind is bytes:
        text = binascii.b2a_base64(obj, newline=False).rstrip(b"=").decode("ascii")
        parts.append(f'{{"/":{{"bytes":"{text}"}}}}')
    elif kind is dict or kind is list or kind is tuple:
        if depth == 0:
            raise BudgetExceeded(f"value is nested more than {budgets.json_depth} levels deep, or contains itself")
        if len(parts) > 4 * budgets.json_items:
            raise BudgetExceeded(f"value holds more than {budgets.json_items} items")
        if kind is dict:
            _write_map(obj, parts, depth - 1, budgets)
        else:
            _write_list(obj, parts, depth - 1, budgets)
    else:
        raise InvalidInput(
            f"no dag-json form for {kind.__name__}: use None, bool, int, float, str, bytes, CID, list, dict"
        )


def _write_list(items: list[Node], parts: list[str], depth: int, budgets: Budgets) -> None:
    parts.append("[")
    comma = ""
    for item in items:
        parts.append(comma)
        _write(item, parts, depth, budgets)
        comma = ","
    parts.append("]")


def _write_map(obj: dict[str, Node], parts: list[str], depth: int, budgets: Budgets) -> None:
    keys = _sorted_keys(obj)
    if keys and keys[0] == "/":
        _refuse_reserved(obj["/"])
    parts.append("{")
    comma = ""
    for key in keys:
        parts.append(comma)
        parts.append(_escape(key))
        parts.append(":")
        _write(obj[key], parts, depth, budgets)
        comma = ","
    parts.append("}")


def _sorted_keys(obj: dict[str, Node]) -> list[str]:
    for key in obj:
        if type(key) is not str:
            raise InvalidInput(f"no dag-json form: map keys must be str, not {type(key).__name__}")
    # Code points sort like UTF-8 bytes; only surrogates would differ, and those are refused when encoded.
    return sorted(obj)


def _refuse_reserved(value: Node) -> None:
    """Refuse a map whose first key is ``/`` when a reader would take it for a link or for bytes."""
    if type(value) is str:
        raise InvalidInput('no dag-json form: {"/": text} is reserved for links; rename the key')
    if type(value) is dict and value and min(_sorted_keys(value)) == "bytes" and type(value["bytes"]) is str:
        raise InvalidInput('no dag-json form: {"/": {"bytes": text}} is reserved for bytes; rename the key')


def float_text(value: float) -> str:
    """Return a float as ECMAScript prints it, with ``.0`` when it would look like an integer.

    Raises:
        InvalidInput: The value is NaN or infinite.
    """
    if not math.isfinite(value):
        raise InvalidInput("no dag-json form: NaN and infinities are not numbers in JSON")
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return sign + "0.0"
    # point: how many of the digits stand before the decimal point.
    point = len(digits) - len(fraction) + int(exponent or "0")
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return f"{sign}{digits}{'0' * (point - len(digits))}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def _look(data: bytes, budgets: Budgets) -> None:
    """Refuse white space, depth and item counts before any object is built."""
    skeleton = _STRING.sub(b"", data)
    if _WHITE.search(skeleton):
        raise FormatError("not strict dag-json: white space between tokens")
    items = 1 + skeleton.count(b",") + skeleton.count(b":") + skeleton.count(b"[") + skeleton.count(b"{")
    if items > budgets.json_items:
        raise BudgetExceeded(f"dag-json holds more than {budgets.json_items} items")
    # The wrappers of links and bytes nest in text though not in the value: allow two levels for them.
    limit = budgets.json_depth + 2
    brackets = skeleton.translate(None, _NOT_BRACKETS)
    if len(brackets) <= limit:
        return
    depth = 0
    for byte in brackets:
        depth += 1 if byte in b"[{" else -1
        if depth > limit:
            raise BudgetExceeded(f"dag-json is nested more than {budgets.json_depth} levels deep")


def _map(pairs: list[tuple[str, Node]]) -> Node:
    """Build a map, link or bytes from the pairs of one JSON object, in document order."""
    if pairs and pairs[0][0] == "/":
        value = pairs[0][1]
        if type(value) is str:
            _single(pairs)
            return _link(value)
        if type(value) is dict and value and next(iter(value)) == "bytes" and type(value["bytes"]) is str:
            _single(pairs)
            _single(value)
            return _bytes(value["bytes"])
    obj: dict[str, Node] = {}
    last: str | None = None
    for key, value in pairs:
        if last is not None and key <= last:
            raise InvalidInput(f"map keys are repeated or not sorted at {key[:64]!r}")
        last = key
        obj[key] = value
    return obj


def _single(pairs: Sized) -> None:
    if len(pairs) != 1:
        raise InvalidInput("an object of the reserved key '/' has other keys")


def _bytes(text: str) -> bytes:
    raw = text.encode("ascii")
    data = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    if binascii.b2a_base64(data, newline=False).rstrip(b"=") != raw:
        raise InvalidInput("bytes are not canonical base64 without padding")
    return data


def _link(text: str) -> CID:
    cid = CID.parse(text)
    if str(cid) != text:
        raise InvalidCid(f"link {text!r} is not in its default base")
    return cid


def _int(text: str) -> int:
    if len(text) > _INT_CHARS:
        raise InvalidInput("an integer needs more than 64 bits")
    value = int(text)
    if not _INT_MIN <= value <= _INT_MAX:
        raise InvalidInput("an integer needs more than 64 bits")
    if value == 0 and text != "0":
        raise InvalidInput("-0 is not an integer: write -0.0")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidInput(f"{text[:32]} is too large for a 64-bit float")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise InvalidInput(f"{text} is not JSON")
