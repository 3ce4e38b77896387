"""The ``ipfs-kit`` command: a view of the catalogue."""

from ipfs_kit.surfaces.cli.main import main

__all__ = ["main"]
