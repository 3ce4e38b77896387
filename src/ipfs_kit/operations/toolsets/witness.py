"""Witnesses of the log: who must have seen a checkpoint before others should believe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ipfs_kit.ledger import Outcome, witness, witnesses
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere
from ipfs_kit.operations.views import iso_time

Quorum = Annotated[int | None, Arg("how many witnesses must cosign; 0 means all; unchanged when left out")]


@dataclass(frozen=True, slots=True)
class WitnessInfo:
    """A witness.

    Args:
        name: Its key name.
        url: Its submission prefix.
        vkey: Its verifier key.
        size: Records that it cosigned last.
        time: When, by its own clock; None before the first time.
        refusal: Why it refuses this log's history; empty when it does not.
        trouble: Why it could not be asked the last time; empty when it could.
    """

    name: str
    url: str
    vkey: str
    size: int
    time: str | None
    refusal: str
    trouble: str


@dataclass(frozen=True, slots=True)
class WitnessList:
    """The witnesses of this store.

    Args:
        witnesses: Each, by name.
        quorum: How many must have cosigned.
    """

    witnesses: list[WitnessInfo]
    quorum: int


@dataclass(frozen=True, slots=True)
class WitnessedInfo:
    """A cosigned checkpoint.

    Args:
        size: Records it covers.
        witnesses: Who cosigned it.
        text: The signed note with its cosignatures.
    """

    size: int
    witnesses: list[str]
    text: str


@operation(
    "ledger.witness_add",
    Mode.WRITE,
    "ledger:admin",
    undo=None,
    irreversible="remove it with ledger.witness_remove",
    places=Everywhere("decides who must see the whole log"),
)
def ledger_witness_add(
    ctx: Context,
    vkey: Annotated[str, Arg("the witness's verifier key, signature type 4", positional=True)],
    url: Annotated[str, Arg("its submission prefix, http or https", positional=True)],
    quorum: Quorum = None,
) -> WitnessList:
    """Name a witness that is asked to cosign every published checkpoint, and how many of all witnesses must.

    Raises:
        InvalidInput: Key, address or quorum are none.
        AlreadyExists: It is named already.
    """

    def effect(tx: Any) -> Outcome:
        name = witnesses.add(tx, vkey, url, quorum)
        return Outcome(None, {"witness": name, "vkey": vkey, "url": url, "quorum": quorum})

    ctx.commit(lambda: effect)
    return _listed(ctx)


@operation(
    "ledger.witness_remove",
    Mode.WRITE,
    "ledger:admin",
    irreversible="name it again with ledger.witness_add",
    places=Everywhere("decides who must see the whole log"),
)
def ledger_witness_remove(
    ctx: Context, name: Annotated[str, Arg("the witness's key name", positional=True)], quorum: Quorum = None
) -> WitnessList:
    """Ask a witness no more; the quorum falls to the number left when it is greater.

    Raises:
        NotFound: There is none of this name.
    """

    def effect(tx: Any) -> Outcome:
        witnesses.remove(tx, name, quorum)
        return Outcome(None, {"witness": name, "removed": True, "quorum": quorum})

    ctx.commit(lambda: effect)
    return _listed(ctx)


@operation("ledger.witness_list", Mode.READ, "ledger:read", places=Everywhere("tells of the whole log"))
def ledger_witness_list(ctx: Context) -> WitnessList:
    """List the witnesses, what each cosigned last, and which refuse this log's history."""
    return _listed(ctx)


@operation("ledger.witness", Mode.READ, "ledger:admin", places=Everywhere("publishes the whole log"))
def ledger_witness(
    ctx: Context, timeout: Annotated[int, Arg("seconds for each witness", minimum=1, maximum=60)] = 5
) -> WitnessedInfo:
    """Ask all witnesses to cosign what is recorded so far; return the checkpoint once enough have.

    Raises:
        NotWitnessed: Too few did; the message says why each did not.
    """
    found = ctx.engine.ledger.witnesses.require(float(timeout))
    known = [witness.read_cosigner(each.vkey) for each in ctx.engine.ledger.witnesses.known()]
    return WitnessedInfo(found.size, sorted(witness.cosigned(found, known)), found.text)


def _listed(ctx: Context) -> WitnessList:
    held = ctx.engine.ledger.witnesses
    known = [
        WitnessInfo(
            w.name, w.url, w.vkey, w.size, iso_time(w.time_s * 10**9) if w.time_s else None, w.refusal, w.trouble
        )
        for w in held.known()
    ]
    return WitnessList(known, held.quorum())
