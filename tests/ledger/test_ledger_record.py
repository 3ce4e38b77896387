"""The op record: encoding, sealing, bounds."""

from __future__ import annotations

import os
from typing import Any

import cbrrr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfs_kit.errors import BudgetExceeded, Denied, Expired, FormatError, IntegrityError, InvalidInput
from ipfs_kit.ipld import CID, dag_cbor
from ipfs_kit.ledger.batches import frame, op_id_of, unframe
from ipfs_kit.ledger.record import (
    FIELDS,
    INTENT,
    OUTCOME,
    RECORD_BYTES_MAX,
    Draft,
    decode,
    encode,
    new_op_id,
    open_record,
)

KEY = bytes(range(32))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def draft(**fields: Any) -> Draft:
    given_fields: dict[str, Any] = {
        "op_id": new_op_id(1_700_000_000_000_000_000, os.urandom),
        "time_ns": 1_000,
        "actor": "a1",
        "surface": "cli",
        "operation": "files.put",
        "subject": "s1",
    }
    return Draft(**{**given_fields, **fields})


@settings(max_examples=60, deadline=None)
@given(
    target=st.none() | st.text(max_size=50), args=st.dictionaries(st.text(max_size=8), JSON, max_size=4), effect=JSON
)
def test_every_record_opens_to_what_was_recorded(target: str | None, args: dict[str, Any], effect: Any) -> None:
    made = draft(target=target, args=args, effect=effect)
    record = decode(encode(made, KEY, node="n", time_ns=5_000_000))
    opened = open_record(record, KEY)
    assert opened.target == target
    assert opened.args == (args or None)
    assert opened.effect == effect
    assert (record.op_id, record.node, record.time_ns, record.duration_us) == (made.op_id, "n", 5_000_000, 4_999)


def test_personal_fields_are_ciphertext_and_gone_with_the_key() -> None:
    data = encode(
        draft(target="diary:/canary.txt", args={"p": "canary"}),
        KEY,
        node="n",
        time_ns=1,
        error=Denied("canary refused"),
    )
    assert b"canary" not in data
    record = decode(data)
    assert record.error_kind == "denied"
    erased = open_record(record, None)
    assert erased.erased
    assert (erased.target, erased.args, erased.effect, erased.error_message) == (None, None, None, None)
    with pytest.raises(IntegrityError):
        open_record(record, bytes(32))


def test_a_record_about_nobody_is_readable_by_anyone() -> None:
    opened = open_record(decode(encode(draft(subject=None, target="gc"), None, node="n", time_ns=1)), None)
    assert (opened.target, opened.erased) == ("gc", False)


def test_a_destroyed_key_never_leads_to_plaintext() -> None:
    with pytest.raises(Expired):
        encode(draft(target="x"), None, node="n", time_ns=1)


def test_names_that_are_not_utf8_survive() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    opened = open_record(decode(encode(draft(target=name, args={"path": name}), KEY, node="n", time_ns=1)), KEY)
    assert opened.target == name
    assert opened.args == {"path": b"caf\xe9"}


def test_an_oversized_record_names_the_field_to_move() -> None:
    with pytest.raises(BudgetExceeded) as caught:
        encode(draft(effect=b"x" * RECORD_BYTES_MAX), KEY, node="n", time_ns=1)
    assert caught.value.details["field"] == "effect"


def test_values_without_a_dag_cbor_form_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        encode(draft(args={"x": object()}), KEY, node="n", time_ns=1)
    assert caught.value.details["field"] == "args"


def test_the_encoding_is_the_documented_tuple() -> None:
    root = CID.of(b"root")
    made = draft(before=root, after=[root], bytes_in=3, ext={"k": 1}, parent=b"p", trace=b"t")
    row = cbrrr.decode_dag_cbor(encode(made, KEY, node="n", time_ns=7))
    assert row[0] == 1
    assert len(row) == len(FIELDS) == 25
    assert row[FIELDS.index("op_id")] == made.op_id == op_id_of(encode(made, KEY, node="n", time_ns=7))
    assert row[-1] == {"k": 1}
    assert bytes(row[FIELDS.index("before")]) == root.binary


@pytest.mark.parametrize(
    "data",
    [
        dag_cbor.encode({"schema": 1}),
        dag_cbor.encode([2] + [None] * 24),
        dag_cbor.encode([1, b"short"]),
        dag_cbor.encode([1] + [None] * 24),
        b"\xff",
        b"",
        b"\0" * (RECORD_BYTES_MAX + 1),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


def test_an_intent_and_its_outcome_share_the_op_id() -> None:
    made = draft()
    intent = made.as_intent({"send": "mail"})
    assert (intent.op_id, intent.phase, intent.status, intent.ack) == (made.op_id, INTENT, "unknown", "fsync")
    assert (made.phase, made.effect, made.status) == (OUTCOME, None, "ok")


def test_op_ids_are_ordered_by_time_and_shaped_like_uuid_version_7() -> None:
    early, late = new_op_id(1_000_000_000, os.urandom), new_op_id(2_000_000_000, os.urandom)
    assert early < late
    assert early[6] >> 4 == 7
    assert early[8] >> 6 == 2


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_frames_split_into_what_was_joined(records: list[bytes]) -> None:
    assert unframe(frame(records)) == records


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\1", frame([b"ab"]) + b"x", frame([b"ab", b"c"])[:-1]])
def test_a_damaged_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError):
        unframe(payload)
