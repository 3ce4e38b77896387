"""Filters as callers write them, checked: ``[field, operator, value]``, or as text ``field operator value``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, InvalidCid, InvalidInput
from ipfs_kit.search.metadata.fields import FIELDS, METADATA_KEYS, Kind, check_cid, property_text, time_ms

ORDERS: Final = (">=", "<=", ">", "<")
OPERATORS: Final = ("==", "!=", *ORDERS, "in", "contains", "starts_with", "ends_with", "is_null")
SAME: Final = "same"
"""Equal without regard to case, the value in lower case; asked by the index itself, not by callers."""
CONDITIONS_MAX: Final = 64
VALUES_MAX: Final = 10_000
"""Values of one ``in``."""
_TEXTUAL: Final = frozenset({"contains", "starts_with", "ends_with"})
_ALLOWED: Final = {
    Kind.TEXT: frozenset(OPERATORS),
    Kind.NUMBER: frozenset(("==", "!=", *ORDERS, "in", "is_null")),
    Kind.TIME: frozenset(("==", "!=", *ORDERS, "in", "is_null")),
    Kind.BOOL: frozenset(("==", "!=", "in", "is_null")),
    Kind.LIST: frozenset(("==", "!=", "in", "contains", "starts_with", "ends_with", "is_null")),
    Kind.MAP: frozenset(("contains", "is_null")),
}
_WRITTEN: Final = re.compile(
    r"\s*([a-z_]+(?:\.(?:\"(?:[^\"\\]|\\.)*\"|[^\s\"=!<>]+))?)\s*"
    r"(==|!=|>=|<=|>|<|(?<=\s)(?:in|contains|starts_with|ends_with|is_null)(?=\s|\Z))\s*(.*)\Z",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter.

    Args:
        field: The field.
        key: Key of a map, None for the field itself.
        operator: One of ``OPERATORS``.
        value: What to compare with, checked: text, number, milliseconds, bool; a tuple of them for ``in``, and for
            ``==`` of a list.
    """

    field: str
    key: str | None
    operator: str
    value: Any

    @property
    def kind(self) -> Kind:
        """What is compared: the field's kind, of a map's key text."""
        return FIELDS[self.field] if self.key is None else Kind.TEXT


@dataclass(frozen=True, slots=True)
class Either:
    """Conditions of which at least one must hold."""

    conditions: tuple[Condition, ...]


Clause = Condition | Either


def parse_all(filters: Sequence[Any] | None) -> tuple[Condition, ...]:
    """Check filters, all of which must hold.

    Args:
        filters: Each ``[field, operator, value]`` or text; a map's key is written ``metadata.title``,
            ``properties.KEY``.

    Raises:
        InvalidInput: One of them has no meaning; the message says which and why.
    """
    given = list(filters or ())
    if len(given) > CONDITIONS_MAX:
        raise BudgetExceeded(f"a question has at most {CONDITIONS_MAX} filters")
    return tuple(parse(each) for each in given)


def parse(given: Any) -> Condition:
    """Check one filter."""
    if isinstance(given, str):
        given = _split(given)
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or len(given) not in (2, 3):
        raise InvalidInput("a filter is [field, operator, value], or text: field operator value")
    name, operator = given[0], given[1]
    value = given[2] if len(given) == 3 else True
    if not isinstance(name, str) or not isinstance(operator, str) or operator not in OPERATORS:
        raise InvalidInput(f"there is no operator {str(operator)[:40]!r}: use one of {', '.join(OPERATORS)}")
    if len(given) == 2 and operator != "is_null":
        raise InvalidInput(f"the filter '{name[:100]} {operator}' needs a value")
    field, key = _field(name)
    condition = Condition(field, key, operator, None)
    if operator not in _ALLOWED[condition.kind]:
        told = (
            "name one of its keys, as in properties.KEY"
            if condition.kind is Kind.MAP
            else (f"use one of {', '.join(each for each in OPERATORS if each in _ALLOWED[condition.kind])}")
        )
        raise InvalidInput(f"{name} ({condition.kind}) has no operator {operator}: {told}")
    return Condition(field, key, operator, _value(condition, name, value))


def _split(text: str) -> list[Any]:
    found = _WRITTEN.match(text)
    if found is None:
        raise InvalidInput(
            f"the filter {text[:100]!r} is not 'field operator value', with one of {', '.join(OPERATORS)}"
        )
    name, operator, rest = found.groups()
    if '"' in name:
        field, _, quoted = name.partition(".")
        name = f"{field}.{_json(quoted)}"
    return [name, operator] if operator == "is_null" and not rest.strip() else [name, operator, _json(rest.strip())]


def _json(text: str) -> Any:
    """A value written as JSON; what is none stands for itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _field(name: str) -> tuple[str, str | None]:
    field, dot, key = name.partition(".")
    if field not in FIELDS:
        raise InvalidInput(f"there is no field {field[:100]!r}: fields are {', '.join(FIELDS)}")
    if not dot:
        return field, None
    if FIELDS[field] is not Kind.MAP or not key:
        raise InvalidInput(f"{name[:100]!r}: only metadata.KEY and properties.KEY name a key")
    if field == "metadata" and key not in METADATA_KEYS:
        raise InvalidInput(f"metadata has {', '.join(METADATA_KEYS)}, not {key[:100]!r}")
    return field, key


def _value(condition: Condition, name: str, value: Any) -> Any:
    operator = condition.operator
    if operator == "is_null":
        if not isinstance(value, bool):
            raise InvalidInput(f"{name} is_null takes true or false")
        return value
    if operator == "in" or (condition.kind is Kind.LIST and operator in ("==", "!=")):
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            hint = "; to look for one element use contains" if condition.kind is Kind.LIST else ""
            raise InvalidInput(f"{name} {operator} takes a list{hint}")
        items = list(value)
        if len(items) > VALUES_MAX:
            raise BudgetExceeded(f"{name} {operator} takes at most {VALUES_MAX} values")
        return tuple(dict.fromkeys(_one(condition, name, item) for item in items))
    return _one(condition, name, value)


def _one(condition: Condition, name: str, value: Any) -> Any:
    kind = condition.kind
    if kind is Kind.TIME:
        return time_ms(name, value)
    if kind is Kind.BOOL:
        if not isinstance(value, bool):
            raise InvalidInput(f"{name} is compared with true or false")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and not abs(value) < 1 << 63:  # also what is no number or infinite
        raise InvalidInput(f"{name} is compared with a number of at most 64 bits")
    if kind is Kind.NUMBER:
        if not number:
            raise InvalidInput(f"{name} is compared with a number")
        return value
    if condition.field == "properties" and condition.key is not None and condition.operator not in _TEXTUAL:
        # A property compared with a number is read as a number; what is none does not match.
        return value if number or isinstance(value, str) else property_text(name, value)
    if number and kind is Kind.TEXT:
        value = property_text(name, value)  # a text of digits, written without quotes
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is compared with text")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInput(f"{name} is compared with text without lone surrogates") from exc
    return _same_cid(value) if condition.field == "cid" and condition.operator in ("==", "!=", "in") else value


def _same_cid(text: str) -> str:
    """A CID in the form that records show; text that is none equals no record's."""
    try:
        return str(check_cid(text))
    except InvalidCid:
        return text
