"""Bytes that survive a crash: atomic files, locks and the one commit point, ``state.db``.

The only layer that may sync, rename, link or unlink.
"""

from ipfs_kit.durable.files import (
    AppendFile,
    create_exclusive,
    create_idempotent,
    make_dirs,
    overwrite,
    remove,
    replace,
    sweep_temporaries,
    sync_dir,
)
from ipfs_kit.durable.locks import FileLock, Lease
from ipfs_kit.durable.state import Schema, StateDB, Tx

__all__ = [
    "AppendFile",
    "FileLock",
    "Lease",
    "Schema",
    "StateDB",
    "Tx",
    "create_exclusive",
    "create_idempotent",
    "make_dirs",
    "overwrite",
    "remove",
    "replace",
    "sweep_temporaries",
    "sync_dir",
]
