"""Where the store is when nobody says: without importing what opens it."""

from __future__ import annotations

import os
from pathlib import Path


def store_path(path: str | os.PathLike[str] | None = None) -> Path:
    """The directory of a store: the one given, else ``$IPFS_KIT_STORE``, else ``$XDG_DATA_HOME/ipfs-kit``.

    Args:
        path: The directory given, if any.
    """
    if path is not None:
        return Path(path)
    if chosen := os.environ.get("IPFS_KIT_STORE"):
        return Path(chosen)
    data_home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(data_home) / "ipfs-kit"
