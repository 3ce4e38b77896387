"""Single blocks by CID."""

from __future__ import annotations

from typing import Annotated, Literal

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, Held, InvalidInput
from ipfs_kit.ipld import CID, codecs
from ipfs_kit.ipld.links import links
from ipfs_kit.ledger import Effect, Outcome
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere, Nowhere

Codec = Literal["raw", "dag-pb", "dag-cbor", "dag-json"]
Hash = Literal["sha2-256", "blake3"]

BLOCK_BYTES_MAX = 2 << 20
"""Largest single block accepted (2 MiB, what IPFS peers exchange); larger content is added as a file."""


@dataclass(frozen=True, slots=True)
class BlockInfo:
    """A stored block.

    Args:
        cid: Its address.
        size: Its length in bytes.
        new: Whether this call stored it; None for look-ups.
    """

    cid: CID
    size: int
    new: bool | None = None


@dataclass(frozen=True, slots=True)
class BlockPage:
    """A page of block addresses; pass ``cursor`` to continue, None when this was the last."""

    blocks: list[CID]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class CidInfo:
    """What a CID says, and its other forms.

    Args:
        cid: The CID as given or converted.
        text: Its text in the base asked for.
        version: 0 or 1.
        codec: Name of the content codec, or its number when it has no name here.
        hash: Name of the hash function, or its number.
        digest: The digest, hex.
        multihash: Hash function, length and digest, hex.
        v0: The version 0 form; None when the CID has none.
        v1: The version 1 form.
        bases: The version 1 form in other bases.
    """

    cid: CID
    text: str
    version: int
    codec: str
    hash: str
    digest: str
    multihash: str
    v0: str | None
    v1: str
    bases: dict[str, str]


BASES = ("base16", "base32", "base36", "base58btc", "base64url")
"""Bases a CID is shown in."""


def refuse_sealed(cid: CID) -> None:
    """Refuse to read a block of a sealed bucket by its CID alone: without the bucket's key it is ciphertext.

    Raises:
        InvalidInput: The CID addresses a sealed block.
    """
    if codecs.plain_codec(cid.codec) != cid.codec:
        raise InvalidInput(
            f"{cid} is a block of a sealed bucket, stored encrypted: read it by its path, BUCKET:/path; "
            "block.get with ciphertext (--ciphertext) returns the encrypted bytes",
            sealed=True,
        )


@operation(
    "block.cid",
    Mode.READ,
    "block:read",
    aliases=("cid_format",),
    places=Nowhere("converts the text of an address"),
    quick=True,
)
def block_cid(
    ctx: Context,
    cid: Annotated[CID, Arg("the CID to explain or convert", positional=True)],
    version: Annotated[int | None, Arg("convert to this version", minimum=0, maximum=1)] = None,
    base: Annotated[
        Literal["base16", "base32", "base36", "base58btc", "base64url"] | None, Arg("base of the text form")
    ] = None,
) -> CidInfo:
    """Explain a CID and convert it between versions and bases; the block itself need not be here."""
    shown = cid if version is None else cid.to_v1() if version else cid.to_v0()
    latest = shown.to_v1()
    has_v0 = shown.codec == codecs.DAG_PB and shown.hash_code == codecs.SHA2_256
    return CidInfo(
        cid=shown,
        text=shown.encode(base),
        version=shown.version,
        codec=codecs.codec_name(shown.codec),
        hash=codecs.hash_name(shown.hash_code),
        digest=shown.digest.hex(),
        multihash=shown.multihash.hex(),
        v0=str(shown.to_v0()) if has_v0 else None,
        v1=str(latest),
        bases={name: latest.encode(name) for name in BASES},
    )


@operation(
    "block.put",
    Mode.WRITE,
    "block:write",
    idempotent=True,
    irreversible="nothing refers to a lone block; gc removes it unless pinned",
    places=Everywhere("tells whether the block is there already"),
)
def block_put(
    ctx: Context,
    data: Annotated[bytes, Arg("the block's bytes", content=True, positional=True)],
    codec: Annotated[Codec, Arg("how the bytes are encoded")] = "raw",
    hash: Annotated[Hash, Arg("hash function of the CID")] = "sha2-256",  # noqa: A002 - the field's standard term
) -> BlockInfo:
    """Store one block and return its CID."""
    if len(data) > BLOCK_BYTES_MAX:
        raise BudgetExceeded(
            f"a block holds at most {BLOCK_BYTES_MAX} bytes, these are {len(data)}: use store.add for files"
        )
    cid = CID.of(data, codecs.codec_code(codec), codecs.hash_code(hash))
    links(cid, data)  # refuses bytes that do not parse by the codec they claim

    def prepare() -> Effect:
        new = ctx.engine.blocks.put(cid, data, verify=False)
        return lambda tx: Outcome(BlockInfo(cid, len(data), new), effect={"block": cid}, after=cid)

    info: BlockInfo = ctx.commit(prepare)
    return info


@operation("block.get", Mode.READ, "block:read", places=Everywhere("reads any block by its CID"))
def block_get(
    ctx: Context,
    cid: Annotated[CID, Arg("the block's CID", positional=True)],
    ciphertext: Annotated[bool, Arg("also a block of a sealed bucket, as it is stored: encrypted")] = False,
) -> bytes:
    """Return the verified bytes of one block."""
    if not ciphertext:
        refuse_sealed(cid)
    return ctx.engine.blocks.get(cid)


@operation("block.stat", Mode.READ, "block:read", places=Everywhere("looks any block up by its CID"), quick=True)
def block_stat(ctx: Context, cid: Annotated[CID, Arg("the block's CID", positional=True)]) -> BlockInfo:
    """Return the size of one block without reading it."""
    return BlockInfo(cid, ctx.engine.blocks.size(cid))


@operation(
    "block.rm",
    Mode.WRITE,
    "block:delete",
    destructive=True,
    irreversible="the bytes are gone; add them again from their source",
    places=Everywhere("removes any unused block"),
)
def block_rm(ctx: Context, cid: Annotated[CID, Arg("the block's CID", positional=True)]) -> BlockInfo:
    """Remove one block that nothing in the store refers to."""
    size = ctx.engine.blocks.size(cid)

    def prepare() -> Effect:
        reason = ctx.engine.upkeep.reference_to(cid)
        if reason is not None:
            raise Held(f"{cid} is in use ({reason}): remove that first, then run gc")

        def apply(tx: object) -> Outcome:
            ctx.engine.blocks.delete(cid)
            return Outcome(BlockInfo(cid, size), effect={"removed": cid}, before=cid)

        return apply

    info: BlockInfo = ctx.commit(prepare)
    return info


@operation("block.list", Mode.READ, "block:read", aliases=("refs_local",), places=Everywhere("lists all blocks"))
def block_list(
    ctx: Context,
    cursor: Annotated[str | None, Arg("where to continue")] = None,
    limit: Annotated[int, Arg("blocks per page", minimum=1, maximum=10_000)] = 1000,
) -> BlockPage:
    """List the CIDs of stored blocks, a page at a time."""
    found = ctx.engine.blocks.page(CID.parse(cursor) if cursor else None, limit + 1)
    return BlockPage(found[:limit], str(found[limit - 1]) if len(found) > limit else None)
