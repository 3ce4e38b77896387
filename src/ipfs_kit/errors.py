"""Every error the engine raises, grouped by what a caller does next.

::

    KitError
    ├── InvalidInput        (also ValueError)   fix the call
    │   ├── InvalidCid, InvalidPath, InvalidName
    │   └── BudgetExceeded                      the input is larger or deeper than allowed
    ├── NotFound            (also KeyError)     ask for something that exists
    │   ├── BlockNotFound, PathNotFound, BucketNotFound, RefNotFound, OpNotFound, StoreNotFound
    │   └── Expired                             it existed; its history horizon has passed
    ├── Conflict                                look at the present state, then try again
    │   ├── AlreadyExists, NotEmpty, MergeConflict, RefConflict, IdempotencyMismatch, Held
    │   ├── QuotaExceeded, RuleRefused, Protected   make room, mend the content, or have the setting changed
    │   └── Stale                               internal: prepared against an older state; prepare again
    ├── Denied                                  ask for the permission
    │   ├── ReadOnly
    │   └── Unauthenticated
    ├── Unavailable                             wait, or mend the environment
    │   ├── LockTimeout, Timeout, Cancelled, MissingExtra, StorageFailed, Unsupported
    │   ├── NoSpace                         (a StorageFailed) free disk space, or run ``gc``
    │   └── NotWitnessed                        it is done and durable; have it witnessed later
    ├── IntegrityError                          bytes are not what their address says: run ``verify``
    │   └── FormatError                         a stored or received structure does not parse
    └── InternalError                           a defect: report it

``error.kind`` is a stable machine code (append-only); messages may change. CLI exit status, HTTP status and MCP error
code derive from the kind in ``SURFACE_CODES`` and nowhere else.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, NamedTuple


class ErrorKind(StrEnum):
    """Stable machine codes; values are append-only."""

    INVALID_INPUT = "invalid_input"
    INVALID_CID = "invalid_cid"
    INVALID_PATH = "invalid_path"
    INVALID_NAME = "invalid_name"
    BUDGET_EXCEEDED = "budget_exceeded"
    NOT_FOUND = "not_found"
    BLOCK_NOT_FOUND = "block_not_found"
    PATH_NOT_FOUND = "path_not_found"
    BUCKET_NOT_FOUND = "bucket_not_found"
    REF_NOT_FOUND = "ref_not_found"
    OP_NOT_FOUND = "op_not_found"
    STORE_NOT_FOUND = "store_not_found"
    EXPIRED = "expired"
    CONFLICT = "conflict"
    ALREADY_EXISTS = "already_exists"
    NOT_EMPTY = "not_empty"
    MERGE_CONFLICT = "merge_conflict"
    REF_CONFLICT = "ref_conflict"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    HELD = "held"
    STALE = "stale"
    DENIED = "denied"
    READ_ONLY = "read_only"
    UNAUTHENTICATED = "unauthenticated"
    UNAVAILABLE = "unavailable"
    LOCK_TIMEOUT = "lock_timeout"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    MISSING_EXTRA = "missing_extra"
    STORAGE_FAILED = "storage_failed"
    UNSUPPORTED = "unsupported"
    INTEGRITY = "integrity"
    FORMAT = "format"
    INTERNAL = "internal"
    NO_SPACE = "no_space"
    NOT_WITNESSED = "not_witnessed"
    QUOTA_EXCEEDED = "quota_exceeded"
    RULE_REFUSED = "rule_refused"
    PROTECTED = "protected"


class KitError(Exception):
    """Base of every error raised by this library.

    Args:
        message: What went wrong and what to do next, in one or two sentences.
        details: Machine-readable facts (plain JSON types) about this occurrence.
    """

    kind: ClassVar[ErrorKind] = ErrorKind.INTERNAL

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.op: str | None = None
        """Hex id of the op that records this failure, once it is recorded."""

    def __str__(self) -> str:
        return self.message


class InvalidInput(KitError, ValueError):
    """An argument is malformed; nothing was written."""

    kind = ErrorKind.INVALID_INPUT


class InvalidCid(InvalidInput):
    """Text or bytes that are not a CID."""

    kind = ErrorKind.INVALID_CID


class InvalidPath(InvalidInput):
    """A path that escapes its root or holds a forbidden name."""

    kind = ErrorKind.INVALID_PATH


class InvalidName(InvalidInput):
    """A bucket, branch, tag or session name outside the allowed alphabet."""

    kind = ErrorKind.INVALID_NAME


class BudgetExceeded(InvalidInput):
    """Input exceeds a stated bound on size, depth or count."""

    kind = ErrorKind.BUDGET_EXCEEDED


class NotFound(KitError, KeyError):
    """The named thing does not exist."""

    kind = ErrorKind.NOT_FOUND


class BlockNotFound(NotFound):
    """No block with this CID in the store."""

    kind = ErrorKind.BLOCK_NOT_FOUND


class PathNotFound(NotFound):
    """No entry at this path."""

    kind = ErrorKind.PATH_NOT_FOUND


class BucketNotFound(NotFound):
    """No bucket of this name."""

    kind = ErrorKind.BUCKET_NOT_FOUND


class RefNotFound(NotFound):
    """No branch, tag, commit or session of this name."""

    kind = ErrorKind.REF_NOT_FOUND


class OpNotFound(NotFound):
    """No recorded operation with this id or index."""

    kind = ErrorKind.OP_NOT_FOUND


class StoreNotFound(NotFound):
    """The directory holds no store."""

    kind = ErrorKind.STORE_NOT_FOUND


class Expired(NotFound):
    """The state existed but lies outside the time-travel horizon, or its key was destroyed."""

    kind = ErrorKind.EXPIRED


class Conflict(KitError):
    """The present state forbids the change."""

    kind = ErrorKind.CONFLICT


class AlreadyExists(Conflict):
    """A thing of this name exists."""

    kind = ErrorKind.ALREADY_EXISTS


class NotEmpty(Conflict):
    """A directory or bucket still has content; pass force or recursive to remove it anyway."""

    kind = ErrorKind.NOT_EMPTY


class MergeConflict(Conflict):
    """Both sides changed the same path; ``details['paths']`` names each."""

    kind = ErrorKind.MERGE_CONFLICT


class RefConflict(Conflict):
    """A ref moved since it was read."""

    kind = ErrorKind.REF_CONFLICT


class IdempotencyMismatch(Conflict):
    """The idempotency key was used before with another request."""

    kind = ErrorKind.IDEMPOTENCY_MISMATCH


class Held(Conflict):
    """A hold forbids removing this."""

    kind = ErrorKind.HELD


class Stale(Conflict):
    """Prepared work no longer matches the present state; prepare it again."""

    kind = ErrorKind.STALE


class QuotaExceeded(Conflict):
    """The bucket would hold more than its quota allows; nothing changed."""

    kind = ErrorKind.QUOTA_EXCEEDED


class RuleRefused(Conflict):
    """A rule or hook of the bucket refuses the commit; ``details`` name rule and path."""

    kind = ErrorKind.RULE_REFUSED


class Protected(Conflict):
    """The branch is protected and may not be moved so, or deleted."""

    kind = ErrorKind.PROTECTED


class Denied(KitError):
    """The principal lacks the scope this operation needs."""

    kind = ErrorKind.DENIED


class ReadOnly(Denied):
    """The store, session or version is open for reading only."""

    kind = ErrorKind.READ_ONLY


class Unauthenticated(Denied):
    """No valid token came with the request."""

    kind = ErrorKind.UNAUTHENTICATED


class Unavailable(KitError):
    """The operation cannot run now or here."""

    kind = ErrorKind.UNAVAILABLE


class LockTimeout(Unavailable):
    """Another process held the lock past the limit; the message names it."""

    kind = ErrorKind.LOCK_TIMEOUT


class Timeout(Unavailable):
    """The operation ran past its time limit and was stopped."""

    kind = ErrorKind.TIMEOUT


class Cancelled(Unavailable):
    """The caller cancelled the operation before it took effect."""

    kind = ErrorKind.CANCELLED


class MissingExtra(Unavailable):
    """An optional dependency is absent; the message holds the install command."""

    kind = ErrorKind.MISSING_EXTRA


class StorageFailed(Unavailable):
    """The operating system refused a durable write; reopen the store before writing again."""

    kind = ErrorKind.STORAGE_FAILED


class NoSpace(StorageFailed):
    """The disk or its quota is full; run ``gc`` or free disk space, then try again."""

    kind = ErrorKind.NO_SPACE


class Unsupported(Unavailable):
    """A known thing that this build or platform does not do."""

    kind = ErrorKind.UNSUPPORTED


class NotWitnessed(Unavailable):
    """What was asked is done and durable, but too few witnesses have cosigned a checkpoint that covers it."""

    kind = ErrorKind.NOT_WITNESSED


class IntegrityError(KitError):
    """Bytes do not match their address, checksum, signature or proof."""

    kind = ErrorKind.INTEGRITY


class FormatError(IntegrityError):
    """A stored or received structure does not parse by its format."""

    kind = ErrorKind.FORMAT


class InternalError(KitError):
    """An invariant of this library does not hold; please report it."""

    kind = ErrorKind.INTERNAL


class SurfaceCode(NamedTuple):
    """How one error kind looks on each surface."""

    exit: int
    """Process exit status of the command line."""
    http: int
    """HTTP status."""
    mcp: int
    """JSON-RPC error code, used where an MCP result cannot carry ``isError``."""


_INPUT = SurfaceCode(2, 400, -32602)
_MISSING = SurfaceCode(3, 404, -32004)
_CONFLICT = SurfaceCode(4, 409, -32009)
_DENIED = SurfaceCode(5, 403, -32003)
_UNAVAILABLE = SurfaceCode(6, 503, -32010)
_INTEGRITY = SurfaceCode(7, 500, -32011)
_INTERNAL = SurfaceCode(70, 500, -32603)

SURFACE_CODES: dict[ErrorKind, SurfaceCode] = {
    ErrorKind.INVALID_INPUT: _INPUT,
    ErrorKind.INVALID_CID: _INPUT,
    ErrorKind.INVALID_PATH: _INPUT,
    ErrorKind.INVALID_NAME: _INPUT,
    ErrorKind.BUDGET_EXCEEDED: SurfaceCode(2, 413, -32602),
    ErrorKind.NOT_FOUND: _MISSING,
    ErrorKind.BLOCK_NOT_FOUND: _MISSING,
    ErrorKind.PATH_NOT_FOUND: _MISSING,
    ErrorKind.BUCKET_NOT_FOUND: _MISSING,
    ErrorKind.REF_NOT_FOUND: _MISSING,
    ErrorKind.OP_NOT_FOUND: _MISSING,
    ErrorKind.STORE_NOT_FOUND: _MISSING,
    ErrorKind.EXPIRED: SurfaceCode(3, 410, -32004),
    ErrorKind.CONFLICT: _CONFLICT,
    ErrorKind.ALREADY_EXISTS: _CONFLICT,
    ErrorKind.NOT_EMPTY: _CONFLICT,
    ErrorKind.MERGE_CONFLICT: _CONFLICT,
    ErrorKind.REF_CONFLICT: _CONFLICT,
    ErrorKind.IDEMPOTENCY_MISMATCH: SurfaceCode(4, 422, -32009),
    ErrorKind.HELD: SurfaceCode(4, 423, -32009),
    ErrorKind.STALE: _CONFLICT,
    ErrorKind.DENIED: _DENIED,
    ErrorKind.READ_ONLY: _DENIED,
    ErrorKind.UNAUTHENTICATED: SurfaceCode(5, 401, -32001),
    ErrorKind.UNAVAILABLE: _UNAVAILABLE,
    ErrorKind.LOCK_TIMEOUT: _UNAVAILABLE,
    ErrorKind.TIMEOUT: SurfaceCode(6, 504, -32010),
    ErrorKind.CANCELLED: SurfaceCode(130, 499, -32800),
    ErrorKind.MISSING_EXTRA: SurfaceCode(6, 501, -32010),
    ErrorKind.STORAGE_FAILED: SurfaceCode(6, 507, -32010),
    ErrorKind.UNSUPPORTED: SurfaceCode(6, 501, -32010),
    ErrorKind.INTEGRITY: _INTEGRITY,
    ErrorKind.FORMAT: _INTEGRITY,
    ErrorKind.INTERNAL: _INTERNAL,
    ErrorKind.NO_SPACE: SurfaceCode(6, 507, -32010),
    ErrorKind.NOT_WITNESSED: _UNAVAILABLE,
    ErrorKind.QUOTA_EXCEEDED: SurfaceCode(4, 413, -32009),
    ErrorKind.RULE_REFUSED: SurfaceCode(4, 422, -32009),
    ErrorKind.PROTECTED: _CONFLICT,
}
