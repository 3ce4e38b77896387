"""Publications: sealed records of a stream or log as one UnixFS directory that other nodes verify, import and query."""

from ipfs_kit.ledger.published.layout import Publication, Scope

__all__ = ["Publication", "Scope"]
