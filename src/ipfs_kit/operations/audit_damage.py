"""Which records of the main log are not those that the published tree names, one by one."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Final

from ipfs_kit.errors import KitError
from ipfs_kit.ipld import CID
from ipfs_kit.ipld.codecs import DAG_CBOR
from ipfs_kit.ledger.batches import unframe
from ipfs_kit.ledger.record import MAIN

if TYPE_CHECKING:
    from ipfs_kit.operations.engine import Engine

NAMED_MAX: Final = 1_000


def changed(engine: Engine) -> list[tuple[int, str]]:
    """Index and fault of each record that was changed since it was published, at most a thousand.

    Args:
        engine: The open store.
    """
    return list(islice(_changed(engine), NAMED_MAX))


def _changed(engine: Engine) -> Iterator[tuple[int, str]]:
    size = engine.ledger.state(MAIN).size
    rows = engine.state.query("SELECT first_index, count FROM batches WHERE log = ? ORDER BY first_index", (MAIN,))
    for first, count in rows:
        payload, checksum = engine.state.query(
            "SELECT payload, checksum FROM batches WHERE log = ? AND first_index = ?", (MAIN, first)
        )[0]
        whole = sha256(payload).digest() == checksum
        try:
            records = unframe(payload)
        except KitError:
            records = []
        if len(records) != count:
            yield from ((first + at, "its batch cannot be read") for at in range(count))
            continue
        for at, record in enumerate(records):
            entry = _entry(engine, first + at, size)
            if entry is not None and CID.of(record, DAG_CBOR).binary != entry:
                yield first + at, "is not what was recorded: its bytes are not those of the published tree"
            elif entry is None and not whole:
                yield first + at, "may not be what was recorded: its batch was changed before it was published"


def _entry(engine: Engine, index: int, size: int) -> bytes | None:
    """The published entry at an index; None when there is none to read."""
    if index >= size:
        return None
    bundle = index // 256
    try:
        entries = engine.ledger.tile_files(MAIN).entries(bundle, min(256, size - bundle * 256))
    except KitError:
        return None
    return bytes(entries[index - bundle * 256])
