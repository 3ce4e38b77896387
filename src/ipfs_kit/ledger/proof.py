"""Proofs that an op is in a log, as one self-contained text (C2SP tlog-proof@v1), from tiles only.

The ``extra`` line carries the encoded record, from which a verifier derives the entry: record -> CID -> leaf. Of a
record that is not kept any more it carries the 36-byte CID instead.
"""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import IntegrityError, OpNotFound
from ipfs_kit.ipld import CID
from ipfs_kit.ledger import merkle
from ipfs_kit.ledger.checkpoint import Checkpoint
from ipfs_kit.ledger.layout import TILE_WIDTH, full_tiles, partial_width
from ipfs_kit.ledger.record import record_cid_bytes
from ipfs_kit.ledger.tiles import TileFiles

HEADER: Final = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof of inclusion.

    Args:
        log: ``main`` or ``bulk``.
        index: The op's index.
        record_cid: CID of its record: the log's entry.
        record: The encoded record; None when it is not kept any more.
        path: Audit path, from the leaf's sibling upward.
        checkpoint: The signed tree head.
    """

    log: str
    index: int
    record_cid: CID
    record: bytes | None
    path: tuple[bytes, ...]
    checkpoint: Checkpoint

    @property
    def size(self) -> int:
        """Size of the tree the proof is against."""
        return self.checkpoint.size

    @property
    def text(self) -> str:
        """The whole proof file."""
        return self.render(self.record if self.record is not None else self.record_cid.binary)

    def render(self, extra: bytes | None) -> str:
        """The proof with other extra data, or with none: what is left when the verifier has the record already."""
        lines = [HEADER]
        if extra:
            lines.append("extra " + base64.b64encode(extra).decode())
        lines.append(f"index {self.index}")
        lines += [base64.b64encode(value).decode() for value in self.path]
        return "\n".join(lines) + "\n\n" + self.checkpoint.text


def prove(files: TileFiles, log: str, index: int, checkpoint: Checkpoint, record: bytes | None) -> Proof:
    """Make a proof of inclusion and check it before it leaves.

    Args:
        files: The log's tiles.
        log: ``main`` or ``bulk``.
        index: The op's index.
        checkpoint: A signed tree head that covers it.
        record: The encoded record; None when it is not kept any more.

    Raises:
        OpNotFound: The checkpoint does not cover the index.
        IntegrityError: Record, tiles and checkpoint contradict each other.
    """
    size = checkpoint.size
    if not 0 <= index < size:
        raise OpNotFound(f"the checkpoint of log {log} covers {size} records, so not {index}", log=log, index=index)
    entry = record_cid_bytes(sha256(record).digest()) if record is not None else entry_at(files, index, size)
    path = merkle.inclusion_path(files.nodes(size), index, size)
    if merkle.root_from_inclusion(merkle.leaf_hash(entry), index, size, path) != checkpoint.root:
        raise IntegrityError(
            f"record {index} of log {log} does not lead to the signed root: run ledger verify", index=index
        )
    return Proof(log, index, CID(entry), record, tuple(path), checkpoint)


def consistency(files: TileFiles, old: int, new: int) -> list[bytes]:
    """Proof that the tree of ``new`` leaves extends that of ``old`` (RFC 6962 section 2.1.2).

    Args:
        files: The log's tiles.
        old: An earlier checkpoint's size.
        new: A published size.
    """
    return merkle.consistency_path(files.nodes(new), old, new)


def entry_at(files: TileFiles, index: int, size: int) -> bytes:
    """The entry of a leaf of a tree of ``size`` leaves, from its bundle."""
    bundle, at = divmod(index, TILE_WIDTH)
    return files.entries(bundle, TILE_WIDTH if bundle < full_tiles(0, size) else partial_width(0, size))[at]
