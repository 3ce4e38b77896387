"""Judges narrowed scopes on what a call really touches, before it runs (decision 31, docs/design/003-scopes.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ipfs_kit.buckets.paths import format_path
from ipfs_kit.errors import Denied, InvalidInput
from ipfs_kit.operations.catalogue import CATALOGUE, Mode, Operation
from ipfs_kit.operations.places import READ, WRITE, Everywhere, Nowhere, OfOp, Place, places_of
from ipfs_kit.operations.principal import Principal

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

LOCAL_FILES = "local:files"
"""Lets a narrowed principal name paths of this machine, among which the store's own files may be."""
HISTORY = "versions:read"
"""Needed at a place beside the operation's own scope when another state than a working session is read."""
RAW = "block:read"
"""Needed everywhere to name a commit by CID: whoever can store a file's bytes can forge a commit block."""
UNDO = "versions:write"
UNDO_CHAIN_MAX = 64
"""Longest chain of undos of undos that is followed to the op whose places count."""


def judge(engine: Engine, principal: Principal, operation: Operation, bound: Mapping[str, Any]) -> None:
    """Refuse a call that a principal with narrowed scopes may not make.

    Nothing is looked up but the op that an undo names, so a refusal tells nothing about what exists.

    Args:
        engine: The open store.
        principal: The caller; callers without narrowed scopes need not be judged here.
        operation: What is called.
        bound: Its arguments.

    Raises:
        Denied: A scope is not held at a place the call touches; the message names scope and place.
        InvalidInput: An argument names no place.
    """
    if operation.is_local and not principal.may(LOCAL_FILES):
        raise _denied(f"{operation.name} names paths of this machine: it", LOCAL_FILES)
    declared = operation.places
    if isinstance(declared, OfOp):
        _judge_op(engine, principal, operation, str(bound[declared.argument]))
    elif isinstance(declared, tuple):
        for place in places_of(declared, bound):
            _judge_place(principal, operation, place)
    elif not isinstance(declared, Nowhere):
        _judge_everywhere(principal, operation)


def _judge_everywhere(principal: Principal, operation: Operation) -> None:
    if not principal.may(operation.scope):
        # An operation that declares nothing is refused like one that reaches everything.
        why = operation.places.why if isinstance(operation.places, Everywhere) else "declares no places"
        raise _denied(f"{operation.name} {why}: it", operation.scope, "held everywhere, without '@'")


def _judge_place(principal: Principal, operation: Operation, place: Place) -> None:
    for scope in scopes_at(operation, place):
        if not principal.may_at(scope, place.bucket, place.path):
            where = f"{place.bucket}{format_path(place.path) if place.path else ''}"
            raise _denied(f"{operation.name} there", f"{scope}@{where}")
    if place.by_cid and not principal.may(RAW):
        raise _denied(
            "a commit named by its CID", RAW, "held everywhere, without '@'; name a branch, tag or op instead"
        )


def scopes_at(operation: Operation, place: Place) -> Iterable[str]:
    """The scopes a call needs at one of its places.

    Args:
        operation: What is called.
        place: Where.
    """
    if place.access & WRITE or operation.mode is Mode.READ:
        yield operation.scope
    if place.access & READ and operation.mode is Mode.WRITE:
        yield "files:read"  # what a write takes content from, or tells about
    if place.past:
        yield HISTORY


def _judge_op(engine: Engine, principal: Principal, operation: Operation, op: str) -> None:
    """Undo: whoever may do the op again and undo at all its places. The message never names what others did."""
    refused = _denied(
        f"{operation.name} of op {op[:64]!a}", UNDO, "and the scopes of that op at every place it changed"
    )
    for _ in range(UNDO_CHAIN_MAX):
        log, index = engine.find_op(op)
        record = engine.ledger.record_at(log, index)
        undone = CATALOGUE.get(record.operation)
        args = engine.ledger.open_record(record).args
        if undone is None or not isinstance(args, dict):
            break  # nobody can tell any more what it touched
        if isinstance(undone.places, OfOp):
            op = str(args.get(undone.places.argument))
            continue
        if isinstance(undone.places, tuple):
            if not _may_redo(principal, undone, args):
                break
        elif not (principal.may(undone.scope) and principal.may(UNDO)):
            break
        return
    raise refused


def _may_redo(principal: Principal, operation: Operation, args: Mapping[str, Any]) -> bool:
    bound = {param.name: args.get(param.name, param.default) for param in operation.params}
    named = {name for at in operation.places or () for name in (at.argument, at.state) if name}  # type: ignore[union-attr]
    if any("\\" in str(bound[name]) for name in named):
        return False  # bytes that are no UTF-8 are recorded with backslashes: two places could read the same
    try:
        places = places_of(operation.places, bound)  # type: ignore[arg-type]
    except InvalidInput:
        return False  # an argument too long to be recorded, or one the operation refused
    return all(
        principal.may_at(scope, place.bucket, place.path)
        for place in places
        for scope in (*scopes_at(operation, place), UNDO)
    )


def _denied(what: str, scope: str, how: str = "") -> Denied:
    shown = scope if scope.isascii() and scope.isprintable() else ascii(scope)[1:-1]
    return Denied(
        f"{what} needs the scope '{shown}'{f' {how}' if how else ''}: ask the store's owner for it", scope=shown
    )
