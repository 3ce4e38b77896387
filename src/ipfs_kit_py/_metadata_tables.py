"""Records of the metadata index as Arrow tables."""

# pyarrow ships no types.
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipfs_kit import Kit, KitError
from ipfs_kit.search.metadata.fields import FIELDS
from ipfs_kit.search.metadata.files import table_of
from ipfs_kit_py._shape import shape

if TYPE_CHECKING:
    from ipfs_kit_py._adapter import Adapter

PAGE = 10_000


def paged(
    index: Adapter, name: str, continued: str, columns: Sequence[str] | None, limit: int | None, **arguments: Any
) -> Any:
    """All pages of a question as one table; every page is one recorded operation.

    Args:
        index: The index.
        name: The operation.
        continued: Its argument and result that continue it.
        columns: Fields wanted.
        limit: At most so many records; None for all.
        arguments: Its other arguments.
    """
    tables: list[Any] = []
    names = list(FIELDS) if columns is None else list(dict.fromkeys(columns))
    left, following = limit, None
    while left is None or left > 0 or not tables:
        given = arguments | {"columns": names, "limit": max(1, PAGE if left is None else min(left, PAGE))}
        value = index.call(name, **given, **({continued: following} if following is not None else {})).value
        records = value.records if left is None else value.records[:left]
        tables.append(table_of(records, names))
        left = None if left is None else left - len(records)
        following = getattr(value, continued)
        if following is None:
            break
    return tables[0] if len(tables) == 1 else _joined(tables)


def _joined(tables: list[Any]) -> Any:
    import pyarrow as pa

    return pa.concat_tables(tables)


def opened(store: Path) -> dict[str, Any]:
    """The index of a store that may be in use elsewhere, as a table over its mapped files."""
    try:
        with Kit.open(store, create=False, read_only=True) as kit:
            table = kit.engine.metadata.table()
    except KitError as error:
        return shape("access_via_c_data_interface", error=error)
    told = {"table": table, "num_rows": table.num_rows, "schema": table.schema, "store": str(store)}
    return shape("access_via_c_data_interface", told)
