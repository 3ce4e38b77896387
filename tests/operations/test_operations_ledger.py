"""Following the ledger: an operation that acts outside the store is one row, however many records it took."""

from __future__ import annotations

from pathlib import Path

from ipfs_kit import Kit


def test_tail_shows_an_intent_and_its_outcome_once_and_advances_by_records(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("docs")
        kit.ledger.seal()
        kit.bucket.create("more")
        size = kit.engine.ledger.size("main")
        page = kit.ledger.tail(limit=100)
        shown = [(op.operation, op.phase, op.status) for op in page.ops if op.operation != "store.init"]
        assert shown == [
            ("bucket.create", "whole", "ok"),
            ("ledger.seal", "outcome", "ok"),
            ("bucket.create", "whole", "ok"),
        ]
        assert page.cursor == str(size)
        assert kit.ledger.tail(cursor=page.cursor).ops == []


def test_an_intent_whose_outcome_is_on_the_next_page_is_shown(tmp_path: Path) -> None:
    with Kit.open(tmp_path / "store") as kit:
        kit.bucket.create("docs")
        kit.ledger.seal()
        cursor, phases = "0", []
        for _ in range(kit.engine.ledger.size("main")):
            page = kit.ledger.tail(limit=1, cursor=cursor)
            assert int(page.cursor) == int(cursor) + 1
            cursor = page.cursor
            phases += [op.phase for op in page.ops if op.operation == "ledger.seal"]
        assert phases == ["intent", "outcome"]
