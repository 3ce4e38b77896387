"""The op record: what one operation did, as one dag-cbor tuple (decisions 8, 12 and 18; ``docs/format/ledger.md``).

A record is encoded as a dag-cbor array in the order of ``FIELDS``: the schema number first, integers instead of floats,
null for what is absent, one ``ext`` map last. ``target``, ``args``, ``effect`` and ``error_message`` are byte strings:
sealed one by one under the subject's key when the record names a subject, plaintext when it names none. Where ``ext``
names the key domains of sealed buckets, all but the effect take those keys as well as the subject's to be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Final

from ipfs_kit._dataclasses import dataclass
from ipfs_kit.errors import BudgetExceeded, Expired, FormatError, InvalidInput, KitError
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.keys.sealing import KEY_JOIN, seal, unseal

SCHEMA: Final = 1
OP_ID_BYTES: Final = 16
RECORD_BYTES_MAX: Final = 32 * 1024
"""A larger effect goes into a block and is named by its CID."""
CID_PREFIX: Final = b"\x01\x71\x12\x20"
"""CIDv1, dag-cbor, sha2-256, 32 bytes: what every record CID starts with."""

WHOLE: Final = 0
INTENT: Final = 1
OUTCOME: Final = 2

MAIN: Final = "main"
BULK: Final = "bulk"
LOGS: Final = (MAIN, BULK)

BUFFERED: Final = "buffered"
FSYNC: Final = "fsync"

STATUSES: Final = frozenset({"ok", "error", "denied", "cancelled", "unknown"})
SURFACES: Final = frozenset({"cli", "python", "mcp", "http", "system"})

Versions = CID | list[CID] | None


@dataclass(frozen=True, slots=True)
class Record:
    """One decoded record; the field order is the encoding's."""

    schema: int
    op_id: bytes
    """16 bytes, ordered by time; an intent and its outcome share it."""
    phase: int
    """0 whole, 1 intent, 2 outcome."""
    node: str
    """Surrogate id of the store that wrote it."""
    time_ns: int
    """Wall clock when it was recorded; the operation began ``duration_us`` earlier."""
    actor: str
    """Surrogate id of who called."""
    surface: str
    operation: str
    stream: str
    subject: str | None
    """Surrogate id of the person whose key seals the personal fields; None when they are plaintext."""
    target: bytes | None
    args: bytes | None
    effect: bytes | None
    status: str
    error_kind: str | None
    error_message: bytes | None
    duration_us: int
    before: Versions
    """Root or commit CIDs before the operation; only such as are not personal."""
    after: Versions
    ack: str
    parent: bytes | None
    """Op id of the operation that caused this one."""
    trace: bytes | None
    bytes_in: int
    bytes_out: int
    ext: dict[str, Any]


FIELDS: Final = tuple(f.name for f in dataclasses.fields(Record))
SEALED_FIELDS: Final = ("target", "args", "effect", "error_message")
NAMING_FIELDS: Final = frozenset({"target", "args", "error_message"})
"""Sealed fields that may name paths; the effect on a sealed bucket holds none."""
DOMAINS: Final = "domains"
"""Key of ``ext``: ids of the key domains whose names the record holds."""


@dataclass(frozen=True, slots=True)
class OpenRecord:
    """A record with its personal fields in plaintext.

    Args:
        record: The record as stored.
        target: What it was done to; None when absent or erased.
        args: The arguments; None when absent or erased.
        effect: The lossless effect; None when absent or erased.
        error_message: The error's text; None when absent or erased.
        erased: A key is gone, the subject's or a sealed bucket's: fields exist that nobody can read.
    """

    record: Record
    target: str | None
    args: dict[str, Any] | None
    effect: Any
    error_message: str | None
    erased: bool


@dataclass(slots=True)
class Draft:
    """What the dispatcher fills in before an operation is recorded, all in plaintext.

    Args:
        op_id: From ``new_op_id``.
        time_ns: Wall clock when the operation began; 0 when it took no time worth recording.
        actor: Surrogate id of the caller.
        surface: ``cli``, ``python``, ``mcp``, ``http`` or ``system``.
        operation: Catalogue name, for example ``files.put``.
        log: ``main`` (state changes, audit, denials) or ``bulk`` (reads, telemetry).
        ack: ``fsync`` or ``buffered``; an operation with an effect is always ``fsync``.
        stream: Family of ops, for example the toolset.
        subject: Surrogate id whose key seals the personal fields; None leaves them readable by anyone, for
            records about no person.
        target: What it is done to, for example a bucket path.
        args: Redacted arguments of dag-cbor types.
        effect: The lossless effect of dag-cbor types, or the CID of a block that holds it.
        status: ``ok``, or what the dispatcher knows already (``denied``, ``cancelled``, ``error``, ``unknown``).
        error_kind: Stable code of the error.
        error_message: Its text.
        duration_us: None: the committer takes the time since ``time_ns``.
        before: Versions before, not personal ones.
        after: Versions after, not personal ones.
        parent: Op id of the cause.
        trace: Trace id.
        bytes_in: Content bytes received.
        bytes_out: Content bytes delivered.
        ext: More fields of dag-cbor types, not personal ones.
        phase: 0 whole, 1 intent, 2 outcome.
    """

    op_id: bytes
    time_ns: int
    actor: str
    surface: str
    operation: str
    log: str = MAIN
    ack: str = FSYNC
    stream: str = ""
    subject: str | None = None
    target: str | None = None
    args: Mapping[str, Any] | None = None
    effect: Any = None
    status: str = "ok"
    error_kind: str | None = None
    error_message: str | None = None
    duration_us: int | None = None
    before: Versions = None
    after: Versions = None
    parent: bytes | None = None
    trace: bytes | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    ext: dict[str, Any] = field(default_factory=dict)
    phase: int = WHOLE

    def as_intent(self, effect: Any) -> Draft:
        """The record to make durable before an effect outside ``state.db``; this draft becomes its outcome.

        Args:
            effect: What is about to be done, dag-cbor types.

        Returns:
            A draft with the same op id, phase ``INTENT``, status ``unknown``, ack ``fsync``.
        """
        self.phase = OUTCOME
        return dataclasses.replace(self, phase=INTENT, effect=effect, status="unknown", ack=FSYNC)


def new_op_id(time_ns: int, random: Callable[[int], bytes]) -> bytes:
    """Make an op id in the layout of UUIDv7 (RFC 9562): 48 bits of milliseconds, version, variant, 74 random bits.

    Args:
        time_ns: Wall clock in nanoseconds.
        random: Source of randomness, ``os.urandom`` at the edge.
    """
    tail = bytearray(random(10))
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    return (time_ns // 1_000_000).to_bytes(6, "big") + tail


def record_cid_bytes(digest: bytes) -> bytes:
    """The 36-byte binary CID of a record from the SHA-256 of its encoding: the log's entry (decision 13)."""
    return CID_PREFIX + digest


def naming_key_id(subject: str | None, ext: Mapping[str, Any] | None) -> str | None:
    """Whose keys together seal the fields of a record that may name paths, as ``KeyRing.subject_key`` takes it.

    Args:
        subject: Surrogate id of the person; None when the record is plaintext.
        ext: The record's ``ext``.
    """
    domains = ext.get(DOMAINS) if ext and subject is not None else None
    if not isinstance(domains, list) or subject is None:
        return subject
    return KEY_JOIN.join((subject, *map(str, domains)))


def keys_of(subject_key: Callable[[str], bytes | None], of: Record | Draft) -> tuple[bytes | None, bytes | None]:
    """The two keys that ``encode`` and ``open_record`` take.

    Args:
        subject_key: ``KeyRing.subject_key``.
        of: What is sealed or opened.
    """
    if of.subject is None:
        return None, None
    key = subject_key(of.subject)
    naming = naming_key_id(of.subject, of.ext)
    return key, key if naming is None or naming == of.subject else subject_key(naming)


def encode(
    draft: Draft,
    key: bytes | None,
    *,
    node: str,
    time_ns: int,
    naming_key: bytes | None = None,
    ack: str | None = None,
    status: str | None = None,
    error: KitError | None = None,
    target: str | None = None,
    effect: Any = None,
    before: Versions = None,
    after: Versions = None,
) -> bytes:
    """Encode a draft and its outcome as a record, sealing what is personal.

    The keywords after ``time_ns`` override the draft, which is left unchanged so that it can be submitted again.

    Args:
        draft: The operation.
        key: The subject's key; None when the draft names no subject.
        node: Surrogate id of the store.
        time_ns: Wall clock of recording.
        naming_key: The key of ``naming_key_id`` where the draft's ``ext`` names key domains.
        ack: The acknowledgement given.
        status: Outcome status.
        error: The error it ended with; sets kind and message, and status ``error`` unless given or drafted.
        target: What it was done to.
        effect: The lossless effect.
        before: Versions before.
        after: Versions after.

    Raises:
        Expired: The draft names a subject or a key domain whose key was destroyed.
        BudgetExceeded: Over 32 KiB; ``details['field']`` names the largest field, to be stored as a block and passed as
            its CID.
        InvalidInput: A field has no dag-cbor form.
    """
    kind, message, state = draft.error_kind, draft.error_message, status or draft.status
    if error is not None:
        kind, message = error.kind.value, error.message
        state = status or ("error" if draft.status == "ok" else draft.status)
    if target is None:
        target = draft.target
    if effect is None:
        effect = draft.effect
    naming = naming_key if draft.ext and DOMAINS in draft.ext else key
    sealed_target, sealed_args, sealed_effect, sealed_message = _personal(draft, key, naming, target, effect, message)
    duration_us = draft.duration_us
    if duration_us is None:
        duration_us = max(0, time_ns - draft.time_ns) // 1000 if draft.time_ns else 0
    before = draft.before if before is None else before
    after = draft.after if after is None else after
    row = [
        SCHEMA, draft.op_id, draft.phase, node, time_ns, draft.actor, draft.surface, draft.operation, draft.stream,
        draft.subject,
        sealed_target, sealed_args, sealed_effect, state, kind, sealed_message, duration_us,
        before, after,
        ack or draft.ack, draft.parent, draft.trace, draft.bytes_in, draft.bytes_out, draft.ext,
    ]  # fmt: skip
    flat = not draft.ext and type(before) is not list and type(after) is not list
    data = dag_cbor.encode_flat(row) if flat else dag_cbor.encode(row)
    if len(data) > RECORD_BYTES_MAX:
        raise _too_large(len(data), row)
    return data


def decode(data: bytes) -> Record:
    """Decode and check one record.

    Raises:
        FormatError: Not a record of a schema this build knows.
    """
    if len(data) > RECORD_BYTES_MAX:
        raise FormatError(f"a record has at most {RECORD_BYTES_MAX} bytes, not {len(data)}")
    row = dag_cbor.decode(data)
    if type(row) is not list or not row or row[0] != SCHEMA:
        known = type(row) is list and row and type(row[0]) is int
        raise FormatError(
            f"op record schema {row[0]} is newer than this build: upgrade" if known else "the bytes are no op record"
        )
    if len(row) != len(FIELDS):
        raise FormatError(f"an op record has {len(FIELDS)} fields, not {len(row)}")
    for value, types, name in zip(row, _TYPES, FIELDS, strict=True):
        if type(value) not in types:
            raise FormatError(f"field {name} of an op record is a {type(value).__name__}")
    if len(row[1]) != OP_ID_BYTES:
        raise FormatError(f"an op id has {OP_ID_BYTES} bytes, not {len(row[1])}")
    return Record(*row)


def open_record(record: Record, key: bytes | None, naming_key: bytes | None = None) -> OpenRecord:
    """Read a record's personal fields.

    Args:
        record: The decoded record.
        key: The subject's key; None when it was destroyed or the record names no subject.
        naming_key: The key of ``naming_key_id`` where the record's ``ext`` names key domains; None when one is gone.

    Raises:
        IntegrityError: A sealed field does not open under this key.
    """
    opened: list[bytes | None] = []
    naming = naming_key if DOMAINS in record.ext else key
    erased = False
    for name in SEALED_FIELDS:
        value: bytes | None = getattr(record, name)
        if value is not None and record.subject is not None:
            under = naming if name in NAMING_FIELDS else key
            erased = erased or under is None
            value = None if under is None else unseal(under, record.op_id, name, value)
        opened.append(value)
    target, args, effect, message = opened
    return OpenRecord(
        record,
        None if target is None else target.decode("utf-8", "surrogateescape"),
        None if args is None else dag_cbor.decode(args),
        None if effect is None else dag_cbor.decode(effect),
        None if message is None else message.decode("utf-8", "surrogateescape"),
        erased,
    )


def _personal(
    draft: Draft, key: bytes | None, naming: bytes | None, target: str | None, effect: Any, message: str | None
) -> tuple[bytes | None, bytes | None, bytes | None, bytes | None]:
    """The four personal fields as they are stored: sealed one by one when the draft names a subject."""
    op_id = draft.op_id
    stored_target = None if target is None else _utf8(target)
    stored_args = _cbor(draft.args, "args") if draft.args else None
    stored_effect = None if effect is None else _cbor(effect, "effect")
    stored_message = None if message is None else _utf8(message)
    if draft.subject is not None:
        if key is None:
            raise Expired(f"the key of subject {draft.subject} was destroyed: nothing more can be recorded about it")
        if naming is None:
            raise Expired("the key of the sealed bucket was destroyed: names in it can no longer be recorded")
        if stored_target is not None:
            stored_target = seal(naming, op_id, "target", stored_target)
        if stored_args is not None:
            stored_args = seal(naming, op_id, "args", stored_args)
        if stored_effect is not None:
            stored_effect = seal(key, op_id, "effect", stored_effect)
        if stored_message is not None:
            stored_message = seal(naming, op_id, "error_message", stored_message)
    return stored_target, stored_args, stored_effect, stored_message


_TEXT: Final = (str,)
_INT: Final = (int,)
_BLOB: Final = (bytes, type(None))
_MAYBE_TEXT: Final = (str, type(None))
_VERSIONS: Final = (CID, list, type(None))
_TYPES: Final = (
    _INT, (bytes,), _INT, _TEXT, _INT, _TEXT, _TEXT, _TEXT, _TEXT, _MAYBE_TEXT, _BLOB, _BLOB, _BLOB, _TEXT, _MAYBE_TEXT,
    _BLOB, _INT, _VERSIONS, _VERSIONS, _TEXT, _BLOB, _BLOB, _INT, _INT, (dict,),
)  # fmt: skip


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # Surrogates that stand for no byte: nothing byte-exact exists, so they are spelled out.
        return text.encode("utf-8", "backslashreplace")


def _cbor(value: Any, name: str) -> bytes:
    try:
        return dag_cbor.encode(value)
    except (KitError, UnicodeEncodeError, TypeError, ValueError, OverflowError):
        # Names that are not UTF-8 have no text form in dag-cbor: they are kept, byte for byte, as byte strings.
        try:
            return dag_cbor.encode(_plain(value, 0))
        except (KitError, UnicodeEncodeError, TypeError, ValueError, OverflowError) as exc:
            raise InvalidInput(f"{name} of an op record has no dag-cbor form: {exc}", field=name) from exc


def _plain(value: Any, depth: int) -> Any:
    """The same value with undecodable text as bytes, mappings as dicts and sequences as lists."""
    if depth > 64:
        raise InvalidInput("an op record's arguments are nested deeper than 64 levels")
    if isinstance(value, str):
        return value if value.isprintable() or _is_utf8(value) else _utf8(value)
    if isinstance(value, Mapping):
        return {
            str(k) if _is_utf8(str(k)) else _utf8(str(k)).decode("utf-8", "backslashreplace"): _plain(v, depth + 1)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_large(size: int, row: list[Any]) -> BudgetExceeded:
    sizes = {name: len(value) for name, value in zip(FIELDS, row, strict=True) if isinstance(value, bytes)}
    largest = max(sizes, key=lambda name: sizes[name])
    return BudgetExceeded(
        f"the op record has {size} bytes, over {RECORD_BYTES_MAX}: store {largest} as a block and record its CID",
        field=largest,
        size=size,
        limit=RECORD_BYTES_MAX,
    )
