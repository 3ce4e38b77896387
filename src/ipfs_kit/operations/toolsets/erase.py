"""Erasure of a person from the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ipfs_kit.errors import NotFound
from ipfs_kit.ledger import record_holds
from ipfs_kit.ledger.erasure import hold_on, on_record
from ipfs_kit.operations.arguments import Arg
from ipfs_kit.operations.catalogue import Mode, operation
from ipfs_kit.operations.context import Context
from ipfs_kit.operations.places import Everywhere


@dataclass(frozen=True, slots=True)
class Erased:
    """Who was erased.

    Args:
        subject: The surrogate id, which stays in records and leads nowhere now.
        removed: How many things went, by what kept them.
    """

    subject: str
    removed: dict[str, int]


@operation(
    "ledger.erase",
    Mode.WRITE,
    "ledger:erase",
    destructive=True,
    external=True,
    irreversible="the key is destroyed; nothing sealed under it can be read again",
    places=Everywhere("makes records of all callers unreadable"),
)
def ledger_erase(
    ctx: Context,
    subject: Annotated[
        str, Arg("the person: a name, or the surrogate id that records show", positional=True, secret=True)
    ],
) -> Erased:
    """Destroy a person's key, so that nothing recorded about them can be read again; records and proofs stay valid.

    The name appears in no record, not even in that of this call. After a crash it is finished by calling it again with the
    surrogate id, which the record of the first call names.

    Raises:
        NotFound: Nobody of that name or id is known here.
        Held: A hold keeps a record of this person; the message names it.
    """
    keys, draft = ctx.engine.keys, ctx.draft
    # Nobody's key seals this record: the caller may be the one who is erased.
    draft.subject, draft.args = None, {}
    surrogate = subject if keys.subject_name(subject) is not None else keys.find_subject(subject)
    if surrogate is None and on_record(ctx.engine.ledger, subject):
        surrogate = subject  # an erasure that a crash cut short is finished
    if surrogate is None:
        raise NotFound("nobody of this name is known here, or their key was destroyed already")
    draft.args = {"subject": surrogate}
    hold = hold_on(ctx.engine.ledger, record_holds.active(ctx.engine.state, ctx.engine.clock()), surrogate)
    if hold is not None:
        raise hold.refusal(f"a record of {surrogate}")
    ctx.announce({"erase": surrogate})
    removed = ctx.engine.erasure.erase(surrogate)
    draft.effect = {"erased": surrogate, "removed": removed}
    return Erased(surrogate, removed)
