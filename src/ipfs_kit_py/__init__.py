"""The published API: thin adapters over ``ipfs_kit``."""
