"""Arguments no honest caller sends: each call ends in a typed error that says why, and leaves its record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import Denied, InvalidInput, KitError
from ipfs_kit.operations.principal import Principal


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with Kit.open(tmp_path / "store") as opened:
        opened.bucket.create("b")
        yield opened


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("files.write", {"path": "b:/\ud800", "text": "x"}),
        ("files.write", {"path": None, "text": "x"}),
        ("files.write", {"path": "b:/f", "text": "\ud800"}),
        ("files.put", {"source": "/tmp/\0x", "path": "b:/f"}),
        ("files.get", {"path": "b:/", "destination": "/tmp/\0x"}),
        ("car.import", {"path": "/tmp/\0x"}),
        ("files.list", {"path": "b:/", "cursor": "\ud800"}),
        ("files.read", {"path": "b:/f", "offset": 1 << 70}),
        ("ledger.sql", {"query": "select '\ud800'"}),
    ],
)
def test_text_and_numbers_with_no_encoding_are_refused_by_name(
    kit: Kit, operation: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match=r"^argument"):
        kit.call_with(operation, arguments)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("versions.commit", {"bucket": "b", "message": "m" * 100_000}),
        ("versions.commit", {"bucket": "b", "metadata": {"\u00e9" * 20_000: ["v" * 200_000]}}),
        ("ledger.sql", {"query": f"select length('{'y' * 40_000}')"}),
        ("files.write", {"path": "b:" + ("/" + "d" * 200) * 200, "text": "x"}),
    ],
)
def test_a_long_argument_leaves_a_record_like_a_short_one(kit: Kit, operation: str, arguments: dict[str, Any]) -> None:
    try:
        op = kit.call_with(operation, arguments).op_id
    except KitError as error:
        op, message = error.op, error.message
    else:
        message = ""
    assert "op record" not in message
    assert op is not None
    assert kit.ledger.show(op).operation == operation


def test_a_denial_is_recorded_however_long_the_arguments(kit: Kit) -> None:
    guest = Principal("guest", frozenset({"files:read"}))
    with pytest.raises(Denied) as denied:
        kit.call_with("files.write", {"path": "b:/" + "x" * 200_000, "text": "x"}, principal=guest)
    assert denied.value.op is not None
    assert kit.ledger.show(denied.value.op).status == "denied"
