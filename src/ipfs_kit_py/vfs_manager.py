"""One persistent virtual filesystem over a bucket; every call is one recorded operation."""

from __future__ import annotations

import threading
from typing import Any

from ipfs_kit_py._adapter import HAS_ACCELERATE, HAS_DATASETS
from ipfs_kit_py._vfs import run_verb
from ipfs_kit_py._vfs_manager import VFSManager
from ipfs_kit_py._vfs_views import statistics

__all__ = [
    "HAS_ACCELERATE",
    "HAS_DATASETS",
    "VFSManager",
    "cleanup_global_vfs_manager",
    "execute_vfs_operation_sync",
    "get_global_vfs_manager",
    "get_vfs_statistics_sync",
    "initialize_global_vfs_manager",
]


_global: list[VFSManager] = []
_guard = threading.Lock()


def get_global_vfs_manager() -> VFSManager:
    """The process's one manager, on the default store."""
    with _guard:
        if not _global:
            _global.append(VFSManager())
        return _global[0]


async def initialize_global_vfs_manager() -> VFSManager:
    """The process's one manager, its store open."""
    manager = get_global_vfs_manager()
    await manager.initialize()
    return manager


async def cleanup_global_vfs_manager() -> None:
    """Release the process's manager; the next use makes a new one."""
    with _guard:
        manager = _global.pop() if _global else None
    if manager is not None:
        await manager.cleanup()


def execute_vfs_operation_sync(operation: str, **kwargs: Any) -> dict[str, Any]:
    """Run one verb on the process's manager, without an event loop."""
    manager = get_global_vfs_manager()
    return manager.answer(operation, lambda: run_verb(manager, operation, kwargs))


def get_vfs_statistics_sync() -> dict[str, Any]:
    """Statistics of the process's manager, without an event loop."""
    manager = get_global_vfs_manager()
    return manager.answer("get_vfs_statistics", lambda: statistics(manager))
