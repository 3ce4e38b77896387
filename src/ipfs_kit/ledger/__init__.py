"""What happened, provably: op records in two Merkle logs, group commit, signed checkpoints and proofs."""

from ipfs_kit.ledger import batches, import_tables, kept, record_holds, segments, witness_tables
from ipfs_kit.ledger.ledger import Ledger
from ipfs_kit.ledger.receipts import BatchReceipt, Effect, Outcome, Receipt, Ticket
from ipfs_kit.ledger.record import BULK, FIELDS, MAIN, Draft, OpenRecord, Record, decode, new_op_id, open_record
from ipfs_kit.ledger.select import Where
from ipfs_kit.ledger.streams import schema as streams

SCHEMAS = (
    batches.SCHEMA,
    segments.SCHEMA,
    streams.SCHEMA,
    record_holds.SCHEMA,
    witness_tables.SCHEMA,
    kept.SCHEMA,
    import_tables.SCHEMA,
)
"""The tables this layer keeps in ``state.db``."""

__all__ = [
    "BULK",
    "FIELDS",
    "MAIN",
    "SCHEMAS",
    "BatchReceipt",
    "Draft",
    "Effect",
    "Ledger",
    "OpenRecord",
    "Outcome",
    "Receipt",
    "Record",
    "Ticket",
    "Where",
    "decode",
    "new_op_id",
    "open_record",
]
