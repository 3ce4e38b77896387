"""A store with a row of every kind in ``state.db``, and the changes nobody may make to them unseen."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ipfs_kit import Kit
from ipfs_kit.errors import IntegrityError

BLOCK = b"a block that is pinned"
STEPS: list[tuple[str, dict[str, Any]]] = [
    ("bucket.create", {"name": "b", "metadata": {"k": 1}}),
    ("files.write", {"path": "b:/a.txt", "text": "one"}),
    ("files.write", {"path": "b:/dir/b.txt", "text": "two"}),
    ("versions.commit", {"bucket": "b", "message": "first"}),
    ("versions.branch_create", {"bucket": "b", "name": "side"}),
    ("versions.tag_create", {"bucket": "b", "name": "v1"}),
    ("files.rm", {"path": "b:/a.txt"}),
    ("versions.undo", {"op": "6"}),
    ("files.mv", {"source": "b:/dir", "destination": "b:/moved"}),
    ("versions.commit", {"bucket": "b", "message": "second"}),
    ("versions.tag_delete", {"bucket": "b", "name": "v1"}),
    ("versions.undo", {"op": "4"}),
    ("bucket.create", {"name": "sealed", "kind": "sealed"}),
    ("files.write", {"path": "sealed:/s.txt", "text": "secret"}),
    ("versions.commit", {"bucket": "sealed", "message": "kept"}),
    ("files.write", {"path": "sealed:/t.txt", "text": "more"}),
    ("bucket.create", {"name": "gone"}),
    ("bucket.delete", {"name": "gone"}),
    ("bucket.create", {"name": "back"}),
    ("bucket.delete", {"name": "back"}),
    ("versions.undo", {"op": "19"}),
]


def make_store(path: Path) -> None:
    """Build the store with operations alone."""
    with Kit.open(path) as kit:
        for name, arguments in STEPS:
            kit.call_with(name, arguments)
        engine = kit.engine
        for name in ("work", "done"):
            receipt_of(kit, engine.buckets.session_create("b", name))
        engine.buckets.checkpoint()
        kit.files.write("b#work:/w.txt", text="in a session")
        receipt_of(kit, engine.buckets.session_drop("b", "done"))
        cid = str(kit.call_with("block.put", {"data": BLOCK}).cid)
        other = str(kit.call_with("block.put", {"data": b"unpinned again"}).cid)
        kit.pin.add(cid, name="keep")
        kit.pin.add(cid, kind="direct")
        kit.pin.add(other)
        kit.pin.rm(other)


def receipt_of(kit: Kit, effect: Any) -> Any:
    """Record an effect that no operation offers, as a library user would."""
    from ipfs_kit.ledger import Draft

    ledger = kit.engine.ledger
    draft = Draft(ledger.new_op_id(), 0, "", "python", "test.session")
    return ledger.submit(draft, effect).result(30)


def faults_of(path: Path, *, read_only: bool = False) -> list[list[str]]:
    """What ``verify`` names."""
    with Kit.open(path, create=False, read_only=read_only) as kit:
        try:
            kit.store.verify()
        except IntegrityError as error:
            return [list(fault) for fault in error.details["faults"]]
    return []


def change(path: Path, sql: str, params: tuple[Any, ...] = ()) -> int:
    """Run a statement on ``state.db`` as anyone with sqlite3 could; returns the rows it changed."""
    with closing(sqlite3.connect(path / "state.db")) as connection, connection:
        return connection.execute(sql, params).rowcount


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read ``state.db`` with sqlite3."""
    with closing(sqlite3.connect(path / "state.db")) as connection:
        return connection.execute(sql).fetchall()
