"""Conditions on rows: ``price > 10 and name in ('a', 'b') and note is null``, all of which a row must meet."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from ipfs_kit.datasets.arrow import need
from ipfs_kit.datasets.figures import Column, Figures, as_bounds, measurable
from ipfs_kit.errors import InvalidInput

TEXT_CHARS_MAX: Final = 16_384
COMPARISONS_MAX: Final = 32
VALUES_MAX: Final = 1_000
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")+")|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"""
    r"""|(?P<sign>==|!=|<>|<=|>=|<|>|=|\(|\)|,)|(?P<word>[^\W\d][\w.]*))""",
    re.UNICODE,
)
_SIGNS: Final[Mapping[str, str]] = MappingProxyType({"=": "==", "<>": "!="})
_WORDS: Final = frozenset({"contains", "starts_with", "ends_with"})
_LITERALS: Final[Mapping[str, Any]] = MappingProxyType({"true": True, "false": False})
HOW: Final = (
    "write COLUMN OP VALUE joined by 'and', OP one of = != < <= > >= in contains starts_with ends_with 'is null' "
    "'is not null', texts in single quotes and odd column names in double ones"
)


class Comparison(NamedTuple):
    """One comparison.

    Args:
        column: Name of the column.
        op: ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``in``, ``contains``, ``starts_with``, ``ends_with``,
            ``is_null`` or ``not_null``.
        value: What with; a list for ``in``, None for the last two.
    """

    column: str
    op: str
    value: Any


def parse(text: str | None) -> tuple[Comparison, ...]:
    """The comparisons of a text; none for None.

    Raises:
        InvalidInput: It is no condition.
    """
    if text is None or not text.strip():
        return ()
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidInput(f"a condition has at most {TEXT_CHARS_MAX} characters")
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise InvalidInput(f"a condition does not parse at {text[at : at + 30]!a}: {HOW}")
            self._tokens.append((found.lastgroup, found.group(found.lastgroup)))
            at = found.end()
        self._at = 0

    def whole(self) -> tuple[Comparison, ...]:
        found = [self._comparison()]
        while self._at < len(self._tokens):
            self._expect("and")
            found.append(self._comparison())
            if len(found) > COMPARISONS_MAX:
                raise InvalidInput(f"a condition has at most {COMPARISONS_MAX} comparisons")
        return tuple(found)

    def _comparison(self) -> Comparison:
        kind, text = self._take("a column")
        if kind == "quoted":
            column = text[1:-1].replace('""', '"')
        elif kind == "word":
            column = text
        else:
            raise InvalidInput(f"a condition has {text!a} where a column should be: {HOW}")
        kind, text = self._take("an operator")
        word = text.lower()
        if word == "is":
            negated = self._next_is("not")
            self._expect("null")
            return Comparison(column, "not_null" if negated else "is_null", None)
        if word == "in":
            return Comparison(column, "in", self._values())
        if word in _WORDS:
            value = self._value()
            if not isinstance(value, str):
                raise InvalidInput(f"{word} takes a text in single quotes")
            return Comparison(column, word, value)
        if kind != "sign" or text in "(),":
            raise InvalidInput(f"a condition has {text!a} where an operator should be: {HOW}")
        return Comparison(column, _SIGNS.get(text, text), self._value())

    def _values(self) -> list[Any]:
        self._expect("(")
        found = [self._value()]
        while self._next_is(","):
            found.append(self._value())
            if len(found) > VALUES_MAX:
                raise InvalidInput(f"a list in a condition has at most {VALUES_MAX} values")
        self._expect(")")
        return found

    def _value(self) -> Any:
        kind, text = self._take("a value")
        if kind == "text":
            return text[1:-1].replace("''", "'")
        if kind == "number":
            return float(text) if any(c in text for c in ".eE") else int(text)
        if kind == "word" and text.lower() in _LITERALS:
            return _LITERALS[text.lower()]
        raise InvalidInput(f"a condition has {text!a} where a value should be: {HOW}")

    def _take(self, what: str) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise InvalidInput(f"a condition ends where {what} should be: {HOW}")
        self._at += 1
        return self._tokens[self._at - 1]

    def _next_is(self, text: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at][1].lower() == text:
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._next_is(text):
            raise InvalidInput(f"a condition lacks {text!a}: {HOW}")


class Condition:
    """Comparisons bound to a schema: values have their columns' types.

    Args:
        comparisons: What ``parse`` gave.
        schema: The dataset's.

    Raises:
        InvalidInput: There is no such column, or a value does not fit it.
    """

    def __init__(self, comparisons: Sequence[Comparison], schema: Any) -> None:
        self._bound = [(each, *_bind(each, schema)) for each in comparisons]
        self.columns = tuple(dict.fromkeys(each.column for each in comparisons))

    def __bool__(self) -> bool:
        return bool(self._bound)

    def may_hold(self, figures: Figures) -> str | None:
        """Why a part cannot hold a row that meets the condition; None when it may.

        Args:
            figures: Of the part.
        """
        for comparison, _, bounds in self._bound:
            column = figures.columns.get(comparison.column)
            if column is not None and (why := _excluded(comparison.op, bounds, column, figures.rows)):
                return f"{comparison.column}: {why}"
        return None

    def equals(self, column: str) -> list[Any] | None:
        """Arrow scalars one of which a column must equal; None when the condition asks no such thing."""
        for comparison, scalars, _ in self._bound:
            if comparison.column == column and comparison.op in ("==", "in"):
                return list(scalars)
        return None

    def mask(self, table: Any) -> Any:
        """Which rows meet the condition, as an Arrow boolean array; null counts as no."""
        pc = need("pyarrow.compute")
        found = None
        for comparison, scalars, _ in self._bound:
            met = _met(pc, comparison, table[comparison.column], scalars)
            found = met if found is None else pc.and_(found, met)
        return pc.fill_null(found, False)

    def filtered(self, table: Any) -> Any:
        """The rows that meet the condition."""
        return table.filter(self.mask(table)) if self._bound else table


_COMPARED: Final[Mapping[str, str]] = MappingProxyType(
    {"==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}
)
_SEARCHED: Final[Mapping[str, str]] = MappingProxyType(
    {"contains": "match_substring", "starts_with": "starts_with", "ends_with": "ends_with"}
)


def _met(pc: Any, comparison: Comparison, column: Any, scalars: Sequence[Any]) -> Any:
    if comparison.op == "is_null":
        return pc.is_null(column)
    if comparison.op == "not_null":
        return pc.is_valid(column)
    if comparison.op == "in":
        pa = need()
        return pc.is_in(column, value_set=pa.array([each.as_py() for each in scalars], type=column.type))
    if comparison.op in _SEARCHED:
        return getattr(pc, _SEARCHED[comparison.op])(column, pattern=comparison.value)
    return getattr(pc, _COMPARED[comparison.op])(column, scalars[0])


def _bind(comparison: Comparison, schema: Any) -> tuple[list[Any], list[Any]]:
    """Values as scalars of the column's type, and as bounds of figures know them."""
    pa = need()
    if schema is None or comparison.column not in schema.names:
        names = ", ".join(schema.names[:20]) if schema is not None else "none yet"
        raise InvalidInput(f"there is no column {comparison.column[:100]!a}; there are {names}")
    kind = schema.field(comparison.column).type
    if comparison.op in ("is_null", "not_null"):
        return [], []
    if comparison.op in _SEARCHED:
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise InvalidInput(f"{comparison.op} needs a column of text, and {comparison.column} is {kind}")
        return [], [comparison.value]
    values = comparison.value if comparison.op == "in" else [comparison.value]
    scalars = [_scalar(pa, value, kind, comparison.column) for value in values]
    bounds = [as_bounds(each).as_py() for each in scalars] if measurable(kind) else []
    return scalars, bounds


def _scalar(pa: Any, value: Any, kind: Any, column: str) -> Any:
    try:
        if isinstance(value, float) and pa.types.is_integer(kind) and value.is_integer():
            value = int(value)
        return pa.scalar(value).cast(kind) if isinstance(value, str) else pa.scalar(value, type=kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise InvalidInput(f"{value!a} does not fit column {column}, which is {kind}") from exc


def _excluded(op: str, bounds: Sequence[Any], column: Column, rows: int) -> str | None:
    if op == "is_null":
        return "no nulls" if column.nulls == 0 else None
    if column.nulls == rows:
        return "only nulls"
    if op == "starts_with":
        return _outside_prefix(bounds[0], column)
    if op in ("==", "in"):
        left = [value for value in bounds if not _outside(value, column)]
        if not left:
            return f"values are {column.low!a} to {column.high!a}"
        if column.bloom is not None and not any(column.bloom.may_hold(value) for value in left):
            return "not in the Bloom filter"
        return None
    test = _RANGES.get(op)
    if test is None or column.low is None:
        return None
    return f"values are {column.low!a} to {column.high!a}" if test(bounds[0], column.low, column.high) else None


_RANGES: Final[Mapping[str, Callable[[Any, Any, Any], bool]]] = MappingProxyType(
    {
        "<": lambda value, low, high: bool(low >= value),
        "<=": lambda value, low, high: bool(low > value),
        ">": lambda value, low, high: bool(high <= value),
        ">=": lambda value, low, high: bool(high < value),
    }
)


def _outside(value: Any, column: Column) -> bool:
    return column.low is not None and not column.low <= value <= column.high


def _outside_prefix(prefix: str, column: Column) -> str | None:
    if not isinstance(column.low, str) or (column.high >= prefix and column.low[: len(prefix)] <= prefix):
        return None
    return f"values are {column.low!a} to {column.high!a}"
