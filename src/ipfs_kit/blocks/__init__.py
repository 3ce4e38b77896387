"""Blocks by CID: stores, wrappers, pins and garbage collection.

Import from the modules: ``store`` (the embedded store), ``memory``, ``wrappers``; the contract is here.
"""

from ipfs_kit.blocks._base import BlockStore, Properties
from ipfs_kit.blocks.memory import MemoryStore

__all__ = ["BlockStore", "MemoryStore", "Properties"]
