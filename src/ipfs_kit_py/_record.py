"""Records calls that no operation of this build serves, so that nothing asked of the kit goes unrecorded."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ipfs_kit import Kit, KitError, Principal, Result, Surface, to_json
from ipfs_kit.errors import Denied
from ipfs_kit.ledger import Draft
from ipfs_kit.ledger.record import BUFFERED, BULK, FSYNC, MAIN, new_op_id
from ipfs_kit_py._dataset import CountedKit

SECRET_WORDS = ("token", "secret", "password", "key", "credential", "auth")
"""Arguments whose name holds one of these are recorded as ``***``."""


def record(
    kit: Kit,
    name: str,
    arguments: Mapping[str, Any],
    value: Any = None,
    *,
    error: KitError | None = None,
    principal: Principal | None = None,
    surface: Surface | None = None,
) -> Result:
    """Record one call that the adapter itself answered: an answer in the bulk log, a failure durably in the main log.

    Args:
        kit: The open store.
        name: Name the call is recorded under, for example ``mcp.daemon.start``.
        arguments: Its arguments; secrets are masked.
        value: Its answer.
        error: Why it failed; it carries the op id afterwards.
        principal: The caller, when it is not the kit's own.
        surface: The surface, when it is not the kit's own.

    Returns:
        The answer with op id, index and ack.

    Raises:
        KitError: The error given, once recorded.
    """
    now_ns = time.time_ns()
    actor = kit.engine.actor(principal or kit.principal)
    draft = Draft(
        op_id=new_op_id(now_ns, os.urandom),
        time_ns=now_ns,
        actor=actor,
        subject=actor or None,
        surface=str(surface or kit.surface),
        operation=name,
        log=BULK if error is None else MAIN,
        stream=name.partition(".")[0],
        ack=BUFFERED if error is None else FSYNC,
        args=masked(to_json(dict(arguments))),
    )
    if error is not None:
        draft.status = "denied" if isinstance(error, Denied) else "error"
        draft.error_kind, draft.error_message = str(error.kind), error.message
    ticket = kit.engine.ledger.submit(draft, None)
    receipt = ticket.receipt() if error is None else ticket.result()
    if isinstance(kit, CountedKit):
        kit.count()
    if error is not None:
        error.op = draft.op_id.hex()
        raise error
    return Result(
        value, draft.op_id.hex(), receipt.log, receipt.index, receipt.record_cid, receipt.record_cid, receipt.ack
    )


def masked(value: Any) -> Any:
    """The same JSON value with everything under a secret's name masked."""
    if isinstance(value, dict):
        return {k: "***" if any(word in k.lower() for word in SECRET_WORDS) else masked(v) for k, v in value.items()}
    return [masked(item) for item in value] if isinstance(value, list) else value
