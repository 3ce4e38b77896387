"""Arguments of operations: one signature gives validation, JSON Schema, command line and reference page."""

from __future__ import annotations

import base64
import binascii
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, InvalidInput
from ipfs_kit.ipld import CID

MAX_TEXT_BYTES = 1 << 20
"""Longest text argument (1 MiB): longer content belongs in a ``bytes`` argument or a file."""
MAX_ITEMS = 100_000
"""Most items in one list or mapping argument."""
RECORDED_BYTES_MAX = 8 << 10
"""Arguments kept whole in the op record (8 KiB of its 32); of more, values over 256 bytes keep their length only."""
_VALUE_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class Arg:
    """What a parameter's type does not say; used inside ``Annotated[type, Arg(...)]``.

    Args:
        help: One sentence for ``--help``, tool schemas and the reference.
        minimum: Smallest allowed number, inclusive.
        maximum: Largest allowed number, inclusive.
        secret: Never recorded, not even encrypted; shown as ``***``.
        content: Bulk content: the record keeps its length only.
        local: A path on the machine the operation runs on; the operation is offered to local surfaces only.
        flag: Short option letter on the command line.
        positional: Given by position on the command line.
    """

    help: str = ""
    minimum: int | None = None
    maximum: int | None = None
    secret: bool = False
    content: bool = False
    local: bool = False
    flag: str | None = None
    positional: bool = False


@dataclass(frozen=True, slots=True)
class Param:
    """One argument of an operation, read from its handler's signature."""

    name: str
    type: Any
    required: bool
    default: Any
    arg: Arg

    @property
    def optional(self) -> bool:
        """Whether ``None`` is an allowed value."""
        return type(None) in get_args(self.type) and get_origin(self.type) in (Union, types.UnionType)

    @property
    def bare(self) -> Any:
        """The type without ``None``."""
        if not self.optional:
            return self.type
        rest = [t for t in get_args(self.type) if t is not type(None)]
        return rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - built at run time from a tuple


def params_of(handler: Callable[..., Any]) -> tuple[Param, ...]:
    """Read the parameters of a handler, skipping its first (the context).

    Args:
        handler: A function ``(ctx, …)`` whose every parameter is annotated.

    Returns:
        Parameters in signature order.
    """
    hints = typing.get_type_hints(handler, include_extras=True)
    found = []
    for position, parameter in enumerate(inspect.signature(handler).parameters.values()):
        if position == 0:
            continue
        annotation, arg = hints[parameter.name], Arg()
        if get_origin(annotation) is typing.Annotated:
            annotation, *extras = get_args(annotation)
            arg = next((extra for extra in extras if isinstance(extra, Arg)), arg)
        required = parameter.default is inspect.Parameter.empty
        found.append(Param(parameter.name, annotation, required, None if required else parameter.default, arg))
    return tuple(found)


def bind(params: tuple[Param, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Check and convert arguments given by a surface.

    Args:
        params: The operation's parameters.
        given: Values by name: Python values, or JSON-like ones (text for CIDs and enums, base64 text for bytes).

    Returns:
        A value for every parameter, defaults filled in.

    Raises:
        InvalidInput: For an unknown, missing, ill-typed or out-of-range argument; the message names it.
    """
    known = {param.name for param in params}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InvalidInput(f"unknown argument {', '.join(unknown)}: allowed are {', '.join(sorted(known)) or 'none'}")
    bound = {}
    for param in params:
        if param.name not in given:
            if param.required:
                raise InvalidInput(f"argument {param.name} is missing: {param.arg.help or 'it is required'}")
            bound[param.name] = param.default
            continue
        value = given[param.name]
        if value is None and (param.optional or (not param.required and param.default is None)):
            bound[param.name] = None
            continue
        bound[param.name] = _convert(param, param.bare, value)
    return bound


def _convert(param: Param, kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if value not in get_args(kind):
            raise _bad(param, f"one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is list:
        return _convert_list(param, get_args(kind)[0], value)
    if origin is dict or kind is dict:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise _bad(param, "an object with text keys")
        if len(value) > MAX_ITEMS:
            raise BudgetExceeded(f"argument {param.name} has more than {MAX_ITEMS} items")
        return dict(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return value if isinstance(value, kind) else kind(value)
        except ValueError as exc:
            raise _bad(param, f"one of {', '.join(str(member.value) for member in kind)}") from exc
    return _CONVERTERS[kind](param, value)


def _convert_list(param: Param, inner: Any, value: Any) -> list[Any]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise _bad(param, "a list")
    items: list[Any] = []
    for item in value:
        if len(items) >= MAX_ITEMS:
            raise BudgetExceeded(f"argument {param.name} has more than {MAX_ITEMS} items")
        items.append(_convert(param, inner, item))
    return items


def _text(param: Param, value: Any) -> str:
    text = value.__fspath__() if hasattr(value, "__fspath__") else value
    if not isinstance(text, str):
        raise _bad(param, "text")
    if len(text) > MAX_TEXT_BYTES:
        raise BudgetExceeded(f"argument {param.name} is longer than {MAX_TEXT_BYTES} characters")
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as exc:
            raise _bad(param, "text without lone surrogates") from exc
    if param.arg.local and "\0" in text:
        raise _bad(param, "a path without NUL")
    return text


def _boolean(param: Param, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(param, "true or false")
    return value


def _integer(param: Param, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _bad(param, "a whole number")
    if not -(1 << 63) <= value < 1 << 63:
        raise _bad(param, "a whole number of at most 64 bits")
    low, high = param.arg.minimum, param.arg.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise _bad(param, f"from {'-∞' if low is None else low} to {'∞' if high is None else high}")
    return value


def _number(param: Param, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(param, "a number")
    return float(value)


def _bytes(param: Param, value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise _bad(param, "base64 text") from exc
    raise _bad(param, "bytes, or base64 text")


def _cid(param: Param, value: Any) -> CID:
    return value if isinstance(value, CID) else CID.parse(_text(param, value))


_CONVERTERS: dict[Any, Callable[[Param, Any], Any]] = {
    str: _text,
    bool: _boolean,
    int: _integer,
    float: _number,
    bytes: _bytes,
    CID: _cid,
}


def _bad(param: Param, wanted: str) -> InvalidInput:
    return InvalidInput(f"argument {param.name} must be {wanted}")


def json_schema(params: tuple[Param, ...]) -> dict[str, Any]:
    """Describe parameters as a JSON Schema object (draft 2020-12), with no top-level combinators.

    Args:
        params: The operation's parameters.

    Returns:
        A JSON-like mapping; stable for equal input.
    """
    properties = {}
    for param in params:
        schema = _schema_of(param.bare)
        if param.arg.help:
            schema["description"] = param.arg.help
        if param.arg.minimum is not None:
            schema["minimum"] = param.arg.minimum
        if param.arg.maximum is not None:
            schema["maximum"] = param.arg.maximum
        if not param.required and param.default is not None:
            schema["default"] = param.default.value if isinstance(param.default, Enum) else param.default
        properties[param.name] = schema
    required = [param.name for param in params if param.required]
    result: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        result["required"] = required
    return result


def _schema_of(kind: Any) -> dict[str, Any]:
    origin = get_origin(kind)
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(kind))}
    if origin is list:
        return {"type": "array", "items": _schema_of(get_args(kind)[0])}
    if origin is dict or kind is dict:
        return {"type": "object"}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"type": "string", "enum": [member.value for member in kind]}
    plain: dict[Any, dict[str, Any]] = {
        str: {"type": "string"},
        bool: {"type": "boolean"},
        int: {"type": "integer"},
        float: {"type": "number"},
        bytes: {"type": "string", "contentEncoding": "base64"},
        CID: {"type": "string", "description": "a CID"},
        Any: {},
    }
    return dict(plain[kind])


def recordable(params: tuple[Param, ...], bound: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as they are kept in the op record: secrets masked, bulk content reduced to its length.

    Args:
        params: The operation's parameters.
        bound: Values from ``bind``.

    Returns:
        Values of dag-cbor types, defaults left out.
    """
    kept: dict[str, Any] = {}
    for param in params:
        value = bound[param.name]
        if value is None or (not param.required and value == param.default):
            continue
        if param.arg.secret:
            kept[param.name] = "***"
        elif param.arg.content and isinstance(value, str | bytes):
            kept[param.name] = {"length": len(value)}
        else:
            kept[param.name] = _plain(value)
    sizes = {name: _weight(value) for name, value in kept.items()}
    if sum(sizes.values()) > RECORDED_BYTES_MAX:
        # A call with a long argument must still leave its record, above all when it is refused.
        kept = {name: {"length": sizes[name]} if sizes[name] > _VALUE_BYTES_MAX else kept[name] for name in kept}
    return kept


def _weight(value: Any) -> int:
    """About the encoded size of recorded values, in bytes."""
    total, left = 0, [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += each.keys()
            left += each.values()
        elif isinstance(each, list):
            left += each
        else:
            total += len(each.encode()) if isinstance(each, str) else len(each) if isinstance(each, bytes) else 0
        total += 9
    return total


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str):
        # dag-cbor text must be UTF-8: byte-exact names travel as surrogates above the buckets layer.
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:
            return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return hex(value)
    return value
