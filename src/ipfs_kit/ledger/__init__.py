"""What happened, provably: op records in two Merkle logs, group commit, signed checkpoints and proofs."""

from ipfs_kit.ledger.receipts import BatchReceipt, Effect, Outcome, Receipt, Ticket
from ipfs_kit.ledger.record import BULK, FIELDS, MAIN, Draft, OpenRecord, Record, new_op_id, open_record

__all__ = [
    "BULK",
    "FIELDS",
    "MAIN",
    "BatchReceipt",
    "Draft",
    "Effect",
    "OpenRecord",
    "Outcome",
    "Receipt",
    "Record",
    "Ticket",
    "new_op_id",
    "open_record",
]
