"""SQL over versions of datasets, and what it cannot reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ipfs_kit import Kit
from ipfs_kit.errors import Denied, InvalidInput, KitError
from ipfs_kit.operations.principal import Principal


@pytest.fixture
def kit(tmp_path: Path) -> Any:
    with Kit.open(tmp_path / "store") as opened:
        opened.dataset.create("sales")
        opened.dataset.append(
            "sales", rows=[{"id": 1, "item": "tea", "price": 2.5}, {"id": 2, "item": "milk", "price": 3.0}]
        )
        opened.versions.tag_create("sales", "v1")
        opened.dataset.append("sales", rows=[{"id": 3, "item": "tea", "price": 4.0, "note": "new"}], evolve=True)
        opened.dataset.create("items")
        opened.dataset.append("items", rows=[{"item": "tea", "kind": "drink"}, {"item": "milk", "kind": "drink"}])
        yield opened


def test_datasets_are_joined_by_their_own_names(kit: Kit) -> None:
    found = kit.dataset.sql("SELECT kind, sum(price) FROM sales JOIN items USING (item) GROUP BY kind")
    assert found.rows == [["drink", 9.5]]


def test_versions_stand_side_by_side_and_columns_that_came_later_are_null(kit: Kit) -> None:
    tables = {"before": "sales@v1", "now": "sales"}
    found = kit.dataset.sql("SELECT id FROM now WHERE id NOT IN (SELECT id FROM before)", tables=tables)
    assert found.rows == [[3]]
    assert kit.dataset.sql("SELECT id, note FROM sales ORDER BY id").rows == [[1, None], [2, None], [3, "new"]]
    with pytest.raises(InvalidInput, match="note"):
        kit.dataset.sql("SELECT note FROM before", tables=tables)
    assert kit.dataset.sql("SELECT count(*) FROM sales WHERE price > $least", params={"least": 2.9}).rows == [[2]]


@pytest.mark.slow
def test_a_second_query_reads_what_the_first_took_out_and_a_lost_or_cut_file_is_taken_out_again(kit: Kit) -> None:
    parts = Path(kit.engine.path) / "cache" / "datasets" / "parts"
    for damage in (None, lambda path: path.unlink(), lambda path: path.write_bytes(b"cut")):
        assert kit.dataset.sql("SELECT count(*) FROM sales").rows == [[3]]
        names = sorted(path.name for path in parts.iterdir())
        assert len(names) == 2
        if damage is not None:
            damage(parts / names[0])
            assert kit.dataset.sql("SELECT max(id) FROM sales").rows == [[3]]


@pytest.mark.parametrize(
    "query",
    [
        *("SELECT * FROM read_parquet('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "SELECT * FROM ops"),
        *(
            "DROP TABLE sales",
            "SELECT 1; SELECT 2",
            "COPY sales TO '/tmp/x'",
            "SELECT * FROM duckdb_settings()",
            "FROM nowhere",
        ),
    ],
)
def test_a_query_reaches_nothing_but_its_datasets(kit: Kit, query: str) -> None:
    with pytest.raises(KitError):
        kit.dataset.sql(query, tables={"sales": "sales"})


def test_callers_query_only_what_they_may_read(kit: Kit) -> None:
    narrow = Principal("agent", frozenset({"dataset:read@items"}))
    count = {"query": "SELECT count(*) FROM items"}
    assert kit.call_with("dataset.sql", count, principal=narrow).value.rows == [[2]]
    for given in (
        {"query": "SELECT * FROM t", "tables": {"t": "sales"}},
        {"query": "SELECT * FROM t", "tables": {"t": "items@main"}},
    ):
        with pytest.raises(Denied):
            kit.call_with("dataset.sql", given, principal=narrow)
    with pytest.raises(InvalidInput, match="names no dataset"):
        kit.call_with("dataset.sql", {"query": "SELECT * FROM sales"}, principal=narrow)
    for tables in ({"Bad Name": "items"}, {'x"; DROP': "items"}):
        with pytest.raises(InvalidInput):
            kit.dataset.sql("SELECT 1", tables=tables)
