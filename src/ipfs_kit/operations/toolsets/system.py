"""The installation: what is there, what is offered, formats."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path

from ipfs_kit._dataclasses import dataclass
from ipfs_kit._version import __version__
from ipfs_kit.operations.catalogue import CATALOGUE, Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere, Nowhere

DEPENDENCIES = {
    "apsw": "core",
    "blake3": "core",
    "cbrrr": "core",
    "cryptography": "core",
    "lmdb": "core",
    "mcp": "core",
    "pyfastcdc": "core",
    "starlette": "core",
    "uvicorn": "core",
    "pyarrow": "sealed segments and SQL: pip install pyarrow",
    "duckdb": "SQL: pip install duckdb",
    "numpy": "SQL over computed columns: pip install numpy",
}


@dataclass(frozen=True, slots=True)
class OperationInfo:
    """One operation of the catalogue."""

    name: str
    mode: str
    scope: str
    summary: str
    destructive: bool
    undo: str | None


@dataclass(frozen=True, slots=True)
class OperationList:
    """All operations."""

    operations: list[OperationInfo]


@operation(
    "system.operations",
    Mode.READ,
    "system:read",
    aliases=("list_mcp_tools", "list_all_mcp_tools"),
    places=Nowhere("lists what this build offers"),
    quick=True,
)
def system_operations(ctx: Context) -> OperationList:
    """List every operation, what it needs and whether it can be undone."""
    return OperationList(
        [
            OperationInfo(op.name, str(op.mode), op.scope, op.summary, op.destructive, op.undo or op.irreversible)
            for op in CATALOGUE.values()
        ]
    )


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What this installation has.

    Args:
        version: Of this distribution.
        python: Of the interpreter.
        platform: Operating system and machine.
        store: The open store.
        free_bytes: Free space where the store lies.
        cpus: Usable processors.
        reserve: Space set aside for recording and cleaning up on a full disk: ``complete``, ``partial`` or ``given back``;
            None without a store.
        reserve_bytes: What it holds now.
        dependencies: Version of each dependency, or ``absent`` with what it is for.
    """

    version: str
    python: str
    platform: str
    store: str
    free_bytes: int
    cpus: int
    reserve: str | None
    reserve_bytes: int | None
    dependencies: dict[str, str]


@operation("system.doctor", Mode.READ, "system:read", places=Nowhere("reports on the installation"))
def system_doctor(ctx: Context) -> DoctorReport:
    """Report versions, optional parts and free space; attach it to a bug report."""
    room = ctx.engine.room()
    return DoctorReport(
        version=__version__,
        python=sys.version.split()[0],
        platform=platform.platform(),
        store=str(ctx.engine.path),
        free_bytes=shutil.disk_usage(_present(ctx.engine.path)).free,
        cpus=len(os.sched_getaffinity(0)),
        reserve=None if room is None else room.state,
        reserve_bytes=None if room is None else room.reserve_bytes,
        dependencies={name: _version_of(name, purpose) for name, purpose in DEPENDENCIES.items()},
    )


def _present(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists: a store may not have been made yet."""
    return next((each for each in (path, *path.parents) if each.exists()), path)


def _version_of(name: str, purpose: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"absent ({purpose})"


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """The store's format.

    Args:
        format: Version the store has.
        newest: Newest version this build writes.
        upgraded: Whether this call changed it.
    """

    format: int
    newest: int
    upgraded: bool


@operation(
    "system.upgrade",
    Mode.WRITE,
    "store:admin",
    idempotent=True,
    irreversible="older builds refuse newer formats; keep a backup",
    places=Everywhere("changes the format of the store"),
)
def system_upgrade(ctx: Context) -> FormatInfo:
    """Bring the store to the newest format this build writes."""
    from ipfs_kit.operations.engine import FORMAT

    return FormatInfo(ctx.engine.format, FORMAT, False)
