"""The libraries that tables need, imported at use, and their errors as ours."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ipfs_kit.errors import BudgetExceeded, FormatError, InvalidInput, MissingExtra


def need(name: str = "pyarrow") -> ModuleType:
    """Import a package that works on tables.

    Args:
        name: ``pyarrow``, one of its modules, ``duckdb`` or ``numpy``.

    Raises:
        MissingExtra: It is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as exc:
        package = name.partition(".")[0]
        raise MissingExtra(f"datasets need {package}: pip install {package}", package=package) from exc


@contextmanager
def parsing(what: str, *, given: bool = False) -> Iterator[None]:
    """Tell what pyarrow refuses as an error of ours.

    Args:
        what: Names the file.
        given: Whether the caller gave the file, so that the fault is in the argument and not in the store.

    Raises:
        InvalidInput: A file given by the caller does not parse.
        FormatError: A file of the store does not parse.
        BudgetExceeded: It needs more memory than there is.
    """
    pa = need()
    try:
        yield
    except pa.ArrowMemoryError as exc:
        raise BudgetExceeded(f"{what} needs more memory than there is: split it") from exc
    except (pa.ArrowException, OverflowError, UnicodeDecodeError) as exc:
        text = f"{what} does not parse: {str(exc).splitlines()[0][:300]}"
        raise (InvalidInput(text) if given else FormatError(f"{text}; run verify")) from exc


def plain(value: Any) -> Any:
    """A cell as JSON types: times as ISO 8601 text, decimals as text, bytes as they are, lists and mappings of such."""
    if value is None or isinstance(value, bool | int | str | bytes):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
