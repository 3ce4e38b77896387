"""Share links: one entry of a version, with all that shows where it comes from.

A link holds the entry's CID, the commit and the folders on the way to it as blocks, and the log's proof that an op made
that commit. Whoever has the log's verifier key checks it without the store: record, proof, commit, folders, CID. The
content itself is fetched by its CID, from anywhere. Form: ``docs/format/share.md``.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.buckets import commits
from ipfs_kit.buckets.model import BucketKind
from ipfs_kit.buckets.paths import Location, format_path
from ipfs_kit.errors import (
    BlockNotFound,
    BudgetExceeded,
    FormatError,
    IntegrityError,
    InvalidInput,
    NotFound,
    Unsupported,
)
from ipfs_kit.ipld import CID
from ipfs_kit.ipld.resolve import resolve
from ipfs_kit.ledger.record import decode

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

FORMAT: Final = "ipfs-kit/share"
VERSION: Final = 1
MARK: Final = "#ipfs-kit-share="
LINK_CHARS_MAX: Final = 65_536
"""Longest link; a larger share is a file alone."""
SHARE_BYTES_MAX: Final = 16 * 1024 * 1024
BLOCKS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """One entry of a version and where it comes from.

    Args:
        cid: CID of the entry.
        path: Its path in the version.
        commit: The version.
        root: CID of the version's content.
        op: ``LOG:INDEX`` of the op that made the version.
        proof: The log's proof of that op.
        blocks: The commit and every folder node on the way.
    """

    cid: CID
    path: str
    commit: CID
    root: CID
    op: str
    proof: str
    blocks: dict[CID, bytes]

    def text(self) -> str:
        """The share as a JSON file."""
        return json.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "cid": str(self.cid),
                "path": self.path,
                "commit": str(self.commit),
                "root": str(self.root),
                "op": self.op,
                "proof": self.proof,
                "blocks": {str(cid): base64.b64encode(data).decode() for cid, data in self.blocks.items()},
            },
            ensure_ascii=True,
        )

    def link(self) -> str | None:
        """The share as one link; None when it would be too long."""
        packed = base64.urlsafe_b64encode(zlib.compress(self.text().encode(), 9)).decode().rstrip("=")
        found = f"ipfs://{self.cid}{MARK}{packed}"
        return found if len(found) <= LINK_CHARS_MAX else None


def make(engine: Engine, state: str) -> Share:
    """Share one entry of a committed version.

    Args:
        engine: The open store.
        state: ``BUCKET[@ref][:/path]``; a session stands for the commit it builds on.

    Raises:
        Unsupported: The bucket is sealed.
        NotFound: No op of this store made the commit.
    """
    buckets = engine.buckets
    location = Location.parse(state)
    space, commit_cid = buckets.commit_of(location.ref)
    if space.row.kind is BucketKind.SEALED:
        raise Unsupported(f"bucket {space.name!r} is sealed: its CIDs mean nothing without its key")
    blocks: dict[CID, bytes] = {commit_cid: space.get(commit_cid)}
    commit = commits.decode(blocks[commit_cid])

    def get(cid: CID) -> bytes:
        data = blocks[cid] = space.get(cid)
        return data

    path = format_path(location.path)
    found = resolve(get, f"{commit.root}{path if location.path else ''}")
    index = _op_of(engine, space.row.id, commit_cid)
    proof = engine.ledger.prove("main", index)
    return Share(found.cid, path, commit_cid, commit.root, f"main:{index}", proof.text, blocks)


def _op_of(engine: Engine, bucket: int, commit: CID) -> int:
    for (index,) in engine.state.query(
        "SELECT op_index FROM ref_effects WHERE bucket=? AND after=? ORDER BY op_index LIMIT 100",
        (bucket, commit.binary),
    ):
        if _names(engine.ledger.record_at("main", index).after, commit):
            return int(index)
    raise NotFound(
        f"no op of this store is recorded as making commit {commit}; share from the store that committed it, or commit here"
    )


def _names(after: Any, commit: CID) -> bool:
    return commit in after if isinstance(after, list) else bool(after == commit)


def read(text: str) -> Share:
    """Read a share from a link or a JSON file; nothing of it is believed yet.

    Raises:
        FormatError: It is none.
        BudgetExceeded: It is too large.
    """
    if MARK in text:
        text = _unpacked(text.partition(MARK)[2])
    if len(text) > SHARE_BYTES_MAX:
        raise BudgetExceeded(f"a share has at most {SHARE_BYTES_MAX} bytes")
    try:
        row: Any = json.loads(text)
        if not isinstance(row, dict) or row.get("format") != FORMAT:
            raise FormatError("the text is no share: give the link or the file as it was made")
        if row["version"] != VERSION:
            raise FormatError("the share was made by a newer build; upgrade ipfs-kit-py")
        named = {name: str(row[name]) for name in ("path", "op", "proof")}
        if len(row["blocks"]) > BLOCKS_MAX:
            raise BudgetExceeded(f"a share has at most {BLOCKS_MAX} blocks")
        blocks = {CID.parse(cid): base64.b64decode(data, validate=True) for cid, data in row["blocks"].items()}
        cid, commit, root = (CID.parse(row[name]) for name in ("cid", "commit", "root"))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as exc:
        if isinstance(exc, BudgetExceeded):
            raise
        raise FormatError(f"the share does not parse: {type(exc).__name__}") from exc
    return Share(cid, named["path"], commit, root, named["op"], named["proof"], blocks)


def _unpacked(packed: str) -> str:
    try:
        data = base64.urlsafe_b64decode(packed.strip() + "=" * (-len(packed.strip()) % 4))
        opened = zlib.decompressobj()
        text = opened.decompress(data, SHARE_BYTES_MAX)
        if opened.unconsumed_tail:
            raise BudgetExceeded(f"a share has at most {SHARE_BYTES_MAX} bytes")
        return text.decode()
    except (ValueError, zlib.error) as exc:
        if isinstance(exc, BudgetExceeded):
            raise
        raise FormatError("the link is cut off or was changed") from exc


def check(engine: Engine, share: Share, vkey: str | None) -> str:
    """Check all that a share claims.

    Args:
        engine: Gives this store's own verifier keys when none is given.
        share: The share.
        vkey: Verifier key of the log, from a source other than the share.

    Returns:
        The log that signed.

    Raises:
        IntegrityError: Something does not hold; the message says what.
    """
    shown = engine.ledger.check_proof(share.proof, vkey)
    if shown.record is None:
        raise IntegrityError("the proof holds no record, so it shows nothing about the commit")
    record = decode(shown.record)
    if shown.op != share.op or record.status != "ok" or not _names(record.after, share.commit):
        raise IntegrityError("the proven op did not make the commit that the share names")

    def get(cid: CID) -> bytes:
        data = share.blocks.get(cid)
        if data is None:
            raise BlockNotFound(f"the share lacks block {cid}")
        cid.check(data)
        return data

    try:
        commit = commits.load(get, share.commit)
        location = Location.parse(f"x:{share.path}")
        found = resolve(get, f"{commit.root}{format_path(location.path) if location.path else ''}")
    except (NotFound, InvalidInput) as exc:
        raise IntegrityError(f"the share's blocks do not lead to what it names: {exc.message}") from exc
    if commit.root != share.root or found.cid != share.cid or found.remainder:
        raise IntegrityError("the commit holds something else at that path than the share names")
    return shown.origin
