"""Replay: what ``state.db`` must hold by the records of the main log, compared with what it holds (decisions 1 and 8).

See ``docs/format/replay.md``. Every change of refs, buckets, sessions, working states and pins is one transaction with its
op record, so the records say what every row must be; a row that says something else was changed behind the ledger's back.
"""

from ipfs_kit.operations.replay.findings import Mismatch, ReplayReport, RowFault
from ipfs_kit.operations.replay.run import replay

__all__ = ["Mismatch", "ReplayReport", "RowFault", "replay"]
