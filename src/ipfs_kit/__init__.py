"""A content-addressed workspace whose every operation is durable, provable, queryable and undoable.

::

    from ipfs_kit import Kit

    with Kit.open("workspace") as kit:
        kit.bucket.create("notes")
        kit.files.write("notes:/hello.txt", text="hello")
        kit.versions.commit("notes", message="first note")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipfs_kit._version import __version__
    from ipfs_kit.errors import (
        Conflict,
        Denied,
        ErrorKind,
        IntegrityError,
        InvalidInput,
        KitError,
        MergeConflict,
        NotFound,
        Unavailable,
    )
    from ipfs_kit.ipld import CID
    from ipfs_kit.operations.catalogue import CATALOGUE, Mode, Operation, Surface, operation
    from ipfs_kit.operations.context import Context, Progress
    from ipfs_kit.operations.kit import Kit
    from ipfs_kit.operations.principal import Principal
    from ipfs_kit.operations.results import Content, Result, to_json

_HOME = {
    "CATALOGUE": "operations.catalogue",
    "CID": "ipld",
    "Conflict": "errors",
    "Content": "operations.results",
    "Context": "operations.context",
    "Denied": "errors",
    "ErrorKind": "errors",
    "IntegrityError": "errors",
    "InvalidInput": "errors",
    "Kit": "operations.kit",
    "KitError": "errors",
    "MergeConflict": "errors",
    "Mode": "operations.catalogue",
    "NotFound": "errors",
    "Operation": "operations.catalogue",
    "Principal": "operations.principal",
    "Progress": "operations.context",
    "Result": "operations.results",
    "Surface": "operations.catalogue",
    "Unavailable": "errors",
    "__version__": "_version",
    "operation": "operations.catalogue",
    "to_json": "operations.results",
}

__all__ = [
    "CATALOGUE",
    "CID",
    "Conflict",
    "Content",
    "Context",
    "Denied",
    "ErrorKind",
    "IntegrityError",
    "InvalidInput",
    "Kit",
    "KitError",
    "MergeConflict",
    "Mode",
    "NotFound",
    "Operation",
    "Principal",
    "Progress",
    "Result",
    "Surface",
    "Unavailable",
    "__version__",
    "operation",
    "to_json",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that importing one layer does not import them all."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
